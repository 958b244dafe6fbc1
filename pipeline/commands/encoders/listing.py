"""Show the catalogue of pretrained encoders, on the terminal and as docs/reference/encoders.md.

`python -m pipeline.commands.encoders.listing` in the top folder writes the page.
"""

from collections.abc import Mapping
from pathlib import Path

from pipeline.learning.models.encoder_catalogue import CATALOGUE, Pretrained, is_restricted
from pipeline.learning.models.volume_backbones import VOLUMES

PAGE = Path("docs/reference/encoders.md")
UNKNOWN = "not known"
INTRODUCTION = (
    "The catalogue of `medadapt encoders --list`, generated from `pipeline/learning/models/encoder_catalogue.py` by "
    "`python -m pipeline.commands.encoders.listing`. `adapt.encoder` takes the name and `adapt.weights: catalogue` the "
    f'weights, or `catalogue@REVISION` those of another revision. Where the SHA-256 is "{UNKNOWN}", give it in '
    "`adapt.weights_sha256`. A downloaded file needs none: name it in `adapt.weights`. [How to choose]"
    "(../how-to/choose-an-encoder.md)."
)


def as_text() -> str:
    """List the catalogue, one paragraph for each encoder."""
    return "\n\n".join(
        "\n".join([name, *(f"  {what + ':':<13}{said}" for what, said in facts_of(entry).items())])
        for name, entry in CATALOGUE.items()
    )


def as_page() -> str:
    """Render the reference page: a section for each encoder."""
    lines = ["# Pretrained encoders", "", INTRODUCTION]
    for name, entry in CATALOGUE.items():
        lines += ["", f"## {name}", "", "| | |", "|---|---|"]
        lines += [f"| {what} | {said} |" for what, said in facts_of(entry).items()]
    return "\n".join([*lines, "", "Back to the [index](../index.md)."]) + "\n"


def facts_of(entry: Pretrained) -> Mapping[str, str]:
    """Describe an encoder in words; values that are not known are named as such."""
    found = {
        "source": entry.source,
        "file": entry.file,
        "revision": entry.revision or (UNKNOWN if ":" in entry.source else "that of the package you have"),
        "SHA-256": entry.sha256 or UNKNOWN,
        "licence": entry.licence + (" - forbids commercial use" if is_restricted(entry.licence) else ""),
        "pretraining": entry.pretraining,
        "images": f"{entry.modality}, {f'{entry.size} x {entry.size}' if entry.size else f'size {UNKNOWN}'}",
        "mean, std": f"{_numbers(entry.mean)}; {_numbers(entry.std)} of values from 0 to 1",
        "network": entry.architecture + ("" if entry.architecture in VOLUMES else " of timm"),
    }
    return found | ({"note": entry.note} if entry.note else {})


def _numbers(values: tuple[float, ...]) -> str:
    """Write one number if all are equal."""
    return " ".join(f"{value:.4g}" for value in (values[:1] if len(set(values)) == 1 else values))


if __name__ == "__main__":
    PAGE.write_text(as_page())
