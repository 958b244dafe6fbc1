"""Record what a stage cost and on what that depends, so that `plan` can tell whether a record still applies.

Records are outside of everything that is hashed. They change no result.
"""

import json
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.schema import Params

ENCODER = ("adapt.encoder", "adapt.filter_depth")
TRAINING = (
    "members",
    "preset",
    "full",
    "second_encoder",
    "trainable_stages",
    "rank",
    "views",
    "epochs",
    "patience",
    "batch_size",
    "pooled_stages",
)
DECIDES = {  # the parameters that decide how long a stage takes, beside the number and size of the cases
    "cohort": ("cohort.path",),
    "preprocess": ("preprocess.deface",),
    "split": (),
    "adapt": (*ENCODER, *(f"adapt.{name}" for name in ("method", "strength", "candidates", "target"))),
    "finetune": (*ENCODER, "finetune.strategy", "finetune.budget", *(f"finetune.{name}" for name in TRAINING)),
    "calibrate": tuple(f"calibrate.{name}" for name in ("n_bootstrap", "method", "form", "per_patient", "test")),
    "evidence": (*ENCODER, *(f"evidence.{name}" for name in ("budget", "fractions", "draws", "shots", "episodes"))),
    "explain": (*ENCODER, "explain.errors", "explain.method"),
    "release": (*ENCODER, "release.exports", "calibrate.form"),
    "report": (),
}
FOLDS = ("calibrate", "evidence", "release", "report")  # these read all folds


def workload(stage: str, params: Params) -> dict[str, Any]:
    """Collect the parameters that decide how long a stage takes, as plain values by dotted key."""
    keys = [*DECIDES[stage], *(["split.folds"] if stage in FOLDS else [])]
    values = {key: getattr(getattr(params, section), name) for key in keys for section, _, name in [key.partition(".")]}
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found


def last_run(stage: str, fold: str = "") -> dict[str, Any]:
    """Read the record of a stage; empty if there is none, or a full disk left a part of it."""
    try:
        found: dict[str, Any] = json.loads(paths.cost(stage, fold).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


@contextmanager
def recorded(record: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Write the seconds and the workload of a block, and processor time and peak memory (MiB) of this process.

    Parameters
    ----------
    settings : mapping
        From `workload`; number and size of the cases are read when the block has ended.
    """
    start = time.perf_counter()
    yield
    values = {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "processor_seconds": round(processor_seconds(), 1),
        "settings": dict(settings),
        **cases_of_run(),
    }
    with suppress(OSError):  # on a full disk, the result is there, and only `plan` knows less
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(values) + "\n")


def cases_of_run() -> dict[str, Any]:
    """Count the cases of the present run and read their size; empty before the stages that know them."""
    found: dict[str, Any] = {}
    if paths.CASES.exists():
        found["cases"] = len(paths.read_table(paths.CASES))
    if paths.GEOMETRY.exists():
        geometry = paths.read_json(paths.GEOMETRY)
        found["size"] = [geometry["image_size"], geometry["slices"]]
    return found


def processor_seconds() -> float:
    """Sum the processor time of this process and of its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)
