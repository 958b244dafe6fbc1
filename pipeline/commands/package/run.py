"""Write a bundle as an application of MONAI Deploy's App SDK."""

import argparse
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from pipeline import __version__
from pipeline.bundle.dicom_results.model import Model, model_of
from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.opening import Opened, open_bundle
from pipeline.bundle.predictor import Predictor
from pipeline.bundle.scoring import BadModel
from pipeline.bundle.zipped import unpacked
from pipeline.commands.answering import check_site, refuse_columns
from pipeline.commands.numbers import refuse_number
from pipeline.commands.site_files import with_site_files
from pipeline.errors import UserError

HERE = Path(__file__).parent
FILES = {  # by the name of our copy, which no tool takes for code of this package
    "app.py.txt": "application/app.py",
    "main.py.txt": "application/__main__.py",
    "Containerfile.txt": "Containerfile",
    "readme.md": "README.md",
}
SDK = ("monai-deploy-app-sdk>=4,<5", "holoscan-cli<4.3")  # later ones package no models
MEMORY = "4Gi"


def run(arguments: argparse.Namespace) -> None:
    """Write the application, the bundle and the files of the site into a new folder."""
    out = Path(arguments.map)
    if out.exists():
        raise UserError(f"--map: {out} exists; name a new folder")
    try:
        with unpacked(Path(arguments.bundle), arguments.max_size) as folder:
            bundle = open_bundle(folder)
            refuse_columns(bundle)
            refuse_number(bundle, "the application of `package --map`")
            check_site(arguments.site, bundle.sites)
            with_site_files(Predictor.from_opened(bundle), bundle, arguments)
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".medadapt-") as partial:
                write(Path(partial) / out.name, bundle, arguments)
                (Path(partial) / out.name).rename(out)
    except (BrokenBundle, BadModel) as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"--map: {out} cannot be written ({error.strerror}); name another folder") from error
    print(f"written to {out}; {out / 'README.md'} has the commands. Research use only, not a medical device.")


def write(out: Path, bundle: Opened, arguments: argparse.Namespace) -> None:
    """Write all files."""
    model, application = model_of(bundle), out / "application"
    application.mkdir(parents=True)
    for ours, name in FILES.items():
        shutil.copyfile(HERE / ours, out / name)
    settings = {name: getattr(arguments, name) for name in ("site", "modality", "description")}
    for option, name in (("adaptation", "limits.json"), ("calibration", "recalibration.json")):
        if file := getattr(arguments, option):
            shutil.copyfile(file, application / name)
            settings[option] = name
    said = {name: value for name, value in settings.items() if value}
    (application / "app.yaml").write_text(yaml.safe_dump(application_of(model, said), sort_keys=False))
    (application / "requirements.txt").write_text("\n".join((f"medadapt[clinic]=={__version__}", *SDK, "")))
    shutil.copytree(bundle.folder, out / "models" / plain_name(model.name))
    (out / "wheels").mkdir()


def application_of(model: Model, settings: dict[str, str]) -> dict[str, Any]:
    """Describe the application as the packager of the SDK reads it; `medadapt` holds the options of `package`."""
    formats = {name: ["file"] for name in ("inputFormats", "outputFormats", "input-formats", "output-formats")}
    return {
        "application": {"title": f"{model.name} (research use only)", "version": model.version, **formats},
        "resources": {"cpu": 1, "gpu": 0, "memory": MEMORY},
        "medadapt": settings,
    }


def plain_name(name: str) -> str:
    """Write the name of a model as the name of a folder.

    >>> plain_name("Lesion: T1 / T2")
    'lesion-t1-t2'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
