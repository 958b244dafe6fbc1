"""preprocess: convert each scan by itself to channels of a common size and intensity scale."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import cache, paths, prepared
from pipeline.errors import UserError
from pipeline.imaging.geometry import images_in
from pipeline.imaging.preparation.fingerprint import (
    REGION_HASH,
    intensity_statistics,
    perceptual_hash,
    signature,
    thumbnail,
    voxel_hash,
)
from pipeline.imaging.preparation.intensity import grey, without_padding
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.reading.scan import Finding, Header, Policy, Unreadable
from pipeline.imaging.tables.cohort_table import findings_table
from pipeline.schema import Params
from pipeline.stages.cohort.originals import original_files, original_masks
from pipeline.stages.preprocess.contrast import lost_contrast
from pipeline.stages.preprocess.histogram import WHOLE, Histogram, histogram_of, summed
from pipeline.stages.preprocess.masks import boxes_of, lost_mask, refuse_missing_masks, with_masks
from pipeline.stages.preprocess.sizing import resolve_geometry

CHANNELS, MASK = "channels", "mask"
STATES = ("before", "after")


def run(params: Params) -> None:
    """Write the prepared cases, their index, and the settings that produced them to data/prepared."""
    cases = paths.read_table(paths.CASES)
    refuse_missing_masks(cases, params)
    steps = with_masks(resolve(params, boxes_of(cases, headers_of(cases), params.preprocess)), cases, params)
    files, masks = original_files(params.cohort), original_masks(params.cohort)
    jobs = [(case, files[case], masks.get(case)) for case in cases["case"]]
    how = f"{cache.code_of('preprocess')} {steps}"
    keys = [key_of_case(job, how) for job in jobs]
    results = cache.map_cases_once(partial(prepare_case, steps=steps), jobs, keys, "preprocess")
    rows, found = [], []
    for (case, *_), values in zip(jobs, results, strict=True):
        if finding := values.pop("warning", None) or values.get("finding"):
            found.append((case, Finding(**finding)))
        if "finding" not in values:
            rows.append(values)
    for folder, array in ((paths.PREPARED_CASES, CHANNELS), (paths.PREPARED_MASKS, MASK)):
        having = {case: number for number, (case, *_) in enumerate(jobs) if results.has(number, array)}
        prepared.write_arrays(folder, having, partial(results.array, name=array))
    print_findings(found, len(rows))
    paths.write_table(findings_table([case for case, _ in found], [[one] for _, one in found]), paths.UNPREPARED)
    index = pd.DataFrame(rows)
    paths.write_table(index.drop(columns=[f"histogram_{state}" for state in STATES]), paths.INDEX)
    paths.write_table(histograms(index.merge(cases[["case", "site"]], on="case")), paths.HISTOGRAMS)
    paths.write_json(steps.geometry.as_json(), paths.GEOMETRY)
    mask = {"mask": asdict(steps.mask)} if steps.mask else {}
    paths.write_json({"policy": asdict(steps.policy), "deface": steps.deface, **mask}, paths.READING)


def key_of_case(job: tuple[str, Path, Path | None], how: str) -> str:
    """Identify the preparation of a case by its scan, its mask if it has one, and `how`: code and settings."""
    case, file, mask = job
    key = cache.key_of(file, how, case)
    return cache.key_of(mask, key) if mask else key


def resolve(params: Params, headers: list[Header]) -> Preprocessor:
    """Resolve the `auto` values of params.preprocess for these scans."""
    try:
        geometry = resolve_geometry(headers, params.budget, params.preprocess)
    except ValueError as error:
        raise UserError(f"cohort.path: {error}") from error
    return Preprocessor(geometry, Policy(**params.cohort.reading.model_dump()), params.preprocess.deface)


def headers_of(cases: pd.DataFrame) -> list[Header]:
    """Rebuild the headers from the table that the audit wrote."""
    return [
        Header(
            shape=tuple(int(size) for size in row.shape.split("x")),
            channels=int(row.channels),
            spacing=tuple(float(size) for size in row.spacing.split("x")),
            bits=int(row.bits),
            modality=row.modality,
        )
        for row in cases[["shape", "channels", "spacing", "bits", "modality"]].astype(str).itertuples()
    ]


def prepare_case(job: tuple[str, Path, Path | None], steps: Preprocessor) -> tuple[dict[str, Any], cache.Arrays]:
    """Prepare one case; return its row of the index, and its channels and mask if it has one."""
    case, file, mask = job
    try:
        scan = steps.read(file)
        steps, faceless = steps.after_defacing(scan)  # once: the fit of the face takes longer than all the rest
        image = steps.prepare(faceless, mask)
        whole = steps.without_masks.prepare(faceless).channels if steps.sees_masks else image.channels
    except Unreadable as error:
        return {"finding": vars(error.finding)}, {}
    channels, values = image.channels, without_padding(grey(scan.voxels), scan.background)
    shown = images_in(channels, steps.geometry)
    counts = {"before": histogram_of(values), "after": histogram_of(shown, WHOLE)}
    warning = lost_contrast(values, shown) or lost_mask(channels, steps.geometry)
    arrays = {CHANNELS: channels} | ({MASK: steps.marked(faceless, mask)} if mask else {})
    row = {
        "case": case,
        "voxel_hash": voxel_hash(whole),
        **({REGION_HASH: voxel_hash(channels)} if steps.sees_masks else {}),
        "perceptual_hash": perceptual_hash(whole),
        "thumbnail": thumbnail(shown),
        "signature": signature(whole),
        **intensity_statistics(shown),
        "placement": image.placement.as_text(),
        **{f"histogram_{state}": counted.as_json() for state, counted in counts.items()},
        "warning": warning and vars(warning),
    }
    return row, arrays


def histograms(cases: pd.DataFrame) -> pd.DataFrame:
    """Sum the histograms of each site, before preprocessing in the units of the scans and after it in grey values."""
    rows = []
    for site, group in cases.groupby("site"):
        for state in STATES:
            total = summed([Histogram(**one) for one in group[f"histogram_{state}"]])
            low, high = total.edges
            edges = np.linspace(low, high, len(total.counts) + 1)
            of_site = {"site": site, "state": state, "cases": len(group)}
            bins = zip(edges[:-1], edges[1:], total.counts, strict=True)
            rows += [of_site | {"low": low, "high": high, "count": count} for low, high, count in bins]
    return pd.DataFrame(rows)


def print_findings(found: list[tuple[str, Finding]], prepared: int) -> None:
    """Print the cases that passed the audit but cannot be prepared, and those that lost their contrast.

    Raises
    ------
    UserError
        If no case could be prepared.
    """
    for case, finding in found:
        print(f"{finding.action:8} {case}  {finding}  (`medadapt whois {case}` names the file)")
    if not prepared:
        raise UserError("no case could be prepared; see the reasons above")
