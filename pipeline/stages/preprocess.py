"""preprocess: every case on its own, from the scan as sent to planes of one size and scale."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import engine, paths
from pipeline.imaging.cohort_table import pseudonymised, read_cohort_table
from pipeline.imaging.deidentify import pseudonym, salt_of
from pipeline.imaging.fingerprint import perceptual_hash, thumbnail, voxel_hash
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.simulate import is_recipe
from pipeline.imaging.sizing import resolve_geometry
from pipeline.imaging.transforms import build_preprocessing, preprocessing_config
from pipeline.imaging.volumes import Header, Scan, read_scan
from pipeline.params import Params
from pipeline.refusal import Refusal


def run(params: Params) -> None:
    """Write the prepared cases, their index and the resolved geometry to data/prepared."""
    cases = paths.read_table(paths.CASES)
    geometry = resolve(params, headers_of(cases))
    paths.PREPARED_CASES.mkdir(parents=True, exist_ok=True)
    files = original_files(params)
    jobs = [(case, files[case]) for case in cases["case"]]
    marks = engine.map_cases(partial(prepare_case, geometry=geometry), jobs, "preprocess")
    paths.write_table(pd.DataFrame(marks), paths.INDEX)
    paths.write_json(geometry.as_json(), paths.GEOMETRY)


def resolve(params: Params, headers: list[Header]) -> Geometry:
    """Resolve the `auto` values of params.preprocess for these scans."""
    try:
        return resolve_geometry(headers, params.budget, **params.preprocess.model_dump())
    except ValueError as error:
        raise Refusal(f"cohort.path: {error}") from error


def headers_of(cases: pd.DataFrame) -> list[Header]:
    """Rebuild the headers that the audit wrote down."""
    return [
        Header(
            shape=tuple(int(size) for size in row.shape.split("x")),
            channels=int(row.channels),
            spacing=tuple(float(size) for size in row.spacing.split("x")),
            bits=int(row.bits),
        )
        for row in cases[["shape", "channels", "spacing", "bits"]].astype(str).itertuples()
    ]


def original_files(params: Params) -> dict[str, Path]:
    """Find the scan behind each pseudonym; no file of the pipeline holds that path."""
    source = Path(params.cohort.path)
    if is_recipe(source):
        source = paths.SIMULATED
    salt = salt_of(engine.keys_folder() / Path(params.cohort.path).name, params.cohort.public)
    table = pseudonymised(read_cohort_table(source), partial(pseudonym, salt))
    return {case: source / image for case, image in zip(table["case"], table["image"], strict=True)}


def prepare_case(job: tuple[str, Path], geometry: Geometry) -> dict[str, str]:
    """Prepare one case, store its planes, and return its row of the index."""
    case, file = job
    planes = preprocessing(geometry)(read_scan(file))
    np.save(paths.prepared_case(case), planes, allow_pickle=False)
    return {
        "case": case,
        "voxel_hash": voxel_hash(planes),
        "perceptual_hash": perceptual_hash(planes),
        "thumbnail": thumbnail(planes),
    }


@cache
def preprocessing(geometry: Geometry) -> Callable[[Scan], NDArray[np.uint8]]:
    """Build the steps once a process."""
    return build_preprocessing(preprocessing_config(geometry))
