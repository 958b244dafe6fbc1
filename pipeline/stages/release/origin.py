"""Where the pretrained weights of a fold come from."""

from typing import Any

from pipeline import paths

Config = dict[str, Any]


def origin_of(fold: str) -> Config:
    """Read the provenance of the weights that a fold started from; `second` is that of a second encoder."""
    provenance: Config = paths.read_json(paths.adaptation(fold))["provenance"]
    file = paths.recipe(fold)
    members = paths.read_json(file).get("members") if file.exists() else None  # none in folds of earlier versions
    last = (members or [{}])[-1]  # where a second encoder stands
    return provenance | ({"second": last["provenance"]} if "provenance" in last else {})


def origins_in(provenance: Config) -> list[Config]:
    """List the provenance of the pretrained weights, and of those of a second encoder."""
    return [provenance, *([provenance["second"]] if "second" in provenance else [])]
