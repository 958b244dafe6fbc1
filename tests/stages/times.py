"""A project whose label is a time until an event, which comes the earlier, the larger a bright square is."""

import numpy as np

from tests.stages.clinic import RAW
from tests.stages.numbers import without_classes, write_squares


def write_times(folder, patients=60, censored=0.3, seed=0):
    """Exponential times with a hazard that grows by a quarter with each pixel, and random censoring."""
    table = write_squares(folder, patients, seed)
    rng = np.random.default_rng(seed + 1)
    side = table.groupby("patient_id", sort=False)["label"].first().astype(float)
    hazard = np.exp(0.25 * (side - 14))
    event = 20 * rng.exponential(size=len(side)) / hazard
    censoring = 20 * rng.exponential(size=len(side)) / hazard.median() * (1 - censored) / censored
    known = dict(
        zip(side.index, zip(np.minimum(event, censoring) + 0.01, event <= censoring, strict=True), strict=True)
    )
    rows = [known[patient] for patient in table["patient_id"]]
    table = table.assign(time=[f"{time:.2f}" for time, _ in rows], event=[str(int(event)) for _, event in rows])
    table = table.drop(columns="label")
    table.to_csv(folder / "cohort.csv", index=False)
    return table


def as_survival(project, patients=60, **changes):
    """Turn the project of the fixture into one of times; return its root."""
    write_times(project() / RAW, patients)
    return project(**(without_classes("survival", "months") | changes))
