"""explain: write the most confident errors with saliency maps."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline import paths, prepared
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.labels import OUTPUTS, REGRESSION, Task
from pipeline.learning.models.ensemble import classifiers_in
from pipeline.learning.models.saliency import mean_saliency
from pipeline.metrics.evaluation import ENSEMBLE, TaskSpec
from pipeline.metrics.wording import RISK
from pipeline.progress import progress
from pipeline.schema import Params
from pipeline.stages.calibrate.predictions import labels_of
from pipeline.stages.explain.body import outside
from pipeline.stages.explain.errors import most_confident_errors
from pipeline.stages.explain.models import trained
from pipeline.stages.explain.thumbnails import by_instance, evenly, frames, overlaid, thumbnail

SCOPES = ("internal", "external", "test")  # of images, not of patients
FRAMES = 24  # of a volume in the report
LARGE = 224  # pixels of the frame that is shown alone
COLUMNS = [
    *("scope", "case", "site", "label", "prediction", "probability", "model"),
    *("spoke_for", "method", "outside", "background", "shown", "slices", "attention"),
    *("image", "looked", "thumbnail", "overlay"),
]
INSIDE = ["inside", "region"]  # where the cohort has masks


def run(params: Params) -> None:
    """Write data/explained/mistakes.csv: a row for each error, with its images."""
    facts, geometry = paths.read_json(paths.COHORT_FACTS), Geometry.from_json(paths.read_json(paths.GEOMETRY))
    number = facts["task"] in OUTPUTS
    task = TaskSpec(facts["classes"], facts["task"])
    found = largest_errors(facts["task"], params.explain.errors) if number else errors_of(task, params.explain.errors)
    size = "error" if number else "probability"
    columns = [size if name == "probability" else name for name in COLUMNS]
    columns += INSIDE if paths.PREPARED_MASKS.exists() else []
    rows: list[dict[str, Any]] = []
    for model, cases in found.groupby("model"):
        network = trained(str(model))
        for case in progress(cases.to_dict("records"), f"explain {model}"):
            rows.append(case | images(network, case, geometry, params))
    table = pd.DataFrame(rows, columns=columns)
    paths.write_table(table.sort_values(["scope", size], ascending=[False, False]), paths.MISTAKES)


def errors_of(task: TaskSpec, most: int) -> pd.DataFrame:
    """Find the most confident errors in each evaluated set of images, by calibrated probabilities."""
    evaluated, members = paths.read_table(paths.PREDICTIONS), paths.read_json(paths.CALIBRATOR)["members"]
    tables = []
    for scope in SCOPES:
        cases = evaluated[evaluated["scope"] == scope].reset_index(drop=True)
        columns = [f"probability_{number}" for number in range(len(task.classes))]
        prediction = cases[columns].to_numpy(dtype=np.float64)
        found = most_confident_errors(prediction, labels_of(cases, task), task.classes, most)
        who = cases.loc[found["row"], ["case", "site", "fold"]].reset_index(drop=True)
        model = who["fold"].astype(str).replace({ENSEMBLE: members[0]})  # the first member stands for the ensemble
        asked = [task.classes[number] for number in found["asked"]]
        tables.append(found.join(who[["case", "site"]]).assign(model=model, scope=scope, spoke_for=asked))
    return pd.concat(tables, ignore_index=True)


def inside_of_mask(case: str, maps: NDArray[np.float32]) -> dict[str, float | None]:
    """Compute which share of the sum of the maps (S, H, W) lies inside of the mask of a case.

    Returns
    -------
    dict
        `inside`, and the share of the pixels inside as `region`, which a uniform map would have; both None if the maps
        are empty, or the case has no mask or an empty one.
    """
    mask, mass = prepared.read_mask(case), float(maps.sum())
    if mask is None or mass == 0:
        return dict.fromkeys(INSIDE)
    marked = by_instance(mask.astype(np.float32), len(maps))
    region = float(marked.mean())
    return {"inside": float((maps * marked).sum()) / mass, "region": region} if region < 1 else dict.fromkeys(INSIDE)


def largest_errors(task: Task, most: int) -> pd.DataFrame:
    """Find the largest errors in each evaluated set of images; the output itself, a number or hazard, is explained.

    The error of a time is its deviance residual, and its prediction the risk until the last time.
    """
    evaluated, tables = paths.read_table(paths.PREDICTIONS), []
    number, risks = task == REGRESSION, [name for name in evaluated if str(name).startswith(RISK)]
    for scope in SCOPES:
        cases = evaluated[evaluated["scope"] == scope]
        told = cases["value" if number else risks[-1]].astype(float)
        error = told - cases["label"].astype(float) if number else cases["residual"].astype(float)
        some = cases.assign(error=error.abs(), told=told)
        some = some.sort_values("error", ascending=False, kind="stable").head(most)
        known = {"prediction": some["told"], "model": some["fold"].astype(str), "asked": 0, "spoke_for": OUTPUTS[task]}
        tables.append(some[["scope", "case", "site", "label", "error"]].assign(**known))
    return pd.concat(tables, ignore_index=True)


def images(network: nn.Module, case: dict[str, Any], geometry: Geometry, params: Params) -> dict[str, Any]:
    """Draw the image, and the saliency map of the predicted class or of the wrong label."""
    channels = np.array(prepared.read_channels(case["case"]))
    found = mean_saliency(
        classifiers_in(network),
        torch.from_numpy(channels)[None],
        case["asked"],
        params.explain.method,
        site=case["site"],
    )
    instances = frames(channels, geometry)
    maps, attention = (by_instance(values, len(instances)) for values in (found.maps, found.attention))
    peak = int(maps.sum(axis=(1, 2)).argmax()) if found.method != "none" else len(maps) // 2
    chosen = evenly(len(instances), FRAMES, peak)
    over = overlaid(instances, maps)
    return {
        "method": found.method,
        **outside(maps, instances),
        **inside_of_mask(case["case"], maps),
        "shown": int(np.searchsorted(chosen, peak)),
        "slices": ";".join(str(number + 1) for number in chosen),
        "attention": ";".join(f"{share:.4f}" for share in attention[chosen] / attention.sum()),
        "image": thumbnail(instances[peak : peak + 1], LARGE),
        "looked": thumbnail(over[peak : peak + 1], LARGE),
        "thumbnail": thumbnail(instances[chosen]) if len(chosen) > 1 else "",
        "overlay": thumbnail(over[chosen]) if len(chosen) > 1 else "",
    }
