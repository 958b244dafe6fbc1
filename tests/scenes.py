"""What lies in the reader's folder before each block of a page: small scans in which a lesion is a bright box."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from tests.clones import edit
from tests.conftest import ROOT, save_nifti
from tests.imaging.phantoms import save_series
from tests.pages import Reader, settings_of

SHAPE, CLASSES = (14, 16, 10), ("control", "lesion")
HOW_TO = ROOT / "docs/how-to"
MINE = "data/released/mine"
Scene = Callable[[Reader, Callable[[str], Path]], Iterator[None]]  # who reads, and the folder that a page leaves behind


def volume(number: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Make a scan, its mask with organ 1 and lesion 2, and its class; every fourth lesion is hard to see."""
    generator, label = np.random.default_rng(number), number % 2
    scan = generator.normal(100, 12, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:12, 2:14, 2:8] = 1
    corner, side = generator.integers(3, 6, 3), 4 + 2 * label
    box = tuple(slice(at, at + side) for at in corner)
    mask[box] = 2
    scan[box] += label * (25 if number % 4 == 3 else 110)
    return scan, mask, label


def write_scans(folder: Path, numbers: range, masks: Path | None = None, name: str = "{}") -> list[Path]:
    """Write scans as NIfTI, and their masks under the same names."""
    for number in numbers:
        scan, mask, _ = volume(number)
        save_nifti(folder / f"{name.format(number)}.nii.gz", scan)
        if masks:
            save_nifti(masks / f"{name.format(number)}.nii.gz", mask)
    return [Path(folder.name, f"{name.format(number)}.nii.gz") for number in numbers]


def table(files: list[Path], numbers: range, image: str = "image", label: str = "label") -> pd.DataFrame:
    """A table of scans with a patient for each and columns of a clinic."""
    generator = np.random.default_rng(0)
    labels = [CLASSES[number % 2] for number in numbers]
    found = pd.DataFrame({image: files, label: labels, "id": [f"p{number}" for number in numbers]})
    return found.assign(
        age=generator.integers(40, 80, len(found)),
        sex=generator.choice(["F", "M"], len(found)),
        stage=generator.choice(["I", "II", "III"], len(found)),
        scanner_code=generator.choice([11, 12], len(found)),
        ki67=generator.integers(1, 60, len(found)),
    )


def patients(folder: Path, image: str, label: str, patients: int = 30) -> None:
    """Write patients.csv and what it names."""
    numbers = range(patients)
    files = write_scans(folder / "scans", numbers, folder / "masks")
    found = table(files, numbers, image, label)
    found.assign(lesion=[Path("masks", file.name) for file in files]).to_csv(folder / "patients.csv", index=False)


def inbox(folder: Path, count: int = 6) -> None:
    """Write new scans, their labels, columns and masks."""
    numbers = range(100, 100 + count)
    files = write_scans(folder / "inbox", numbers, folder / "masks")
    new = table(files, numbers)
    named = new.assign(scan=[file.name for file in files], patient=new["id"])
    named[["scan", "patient", "label"]].to_csv(folder / "labels.csv", index=False)
    columns = ["scan", "age", "stage", "scanner_code", "ki67"]
    for name in ("columns.csv", "age_and_stage.csv"):
        named[columns].to_csv(folder / name, index=False)
    new.assign(mask=[Path("masks", file.name) for file in files]).to_csv(folder / "list.csv", index=False)


def released(reader: Reader) -> Path:
    """Put a model of the reader's own scans there as a zip, with new scans and those of a screening programme."""
    shutil.make_archive(str(reader.folder / "model"), "zip", reader.folder / MINE)
    inbox(reader.folder)
    write_scans(reader.folder / "unlabelled", range(200, 260, 2))
    write_scans(reader.folder / "unlabelled", range(301, 311, 2))  # five of 35 have a lesion
    return reader.folder


def trained_again(reader: Reader, changes: dict) -> None:
    """Change params.yaml and run."""
    edit(reader.folder / "params.yaml", changes)
    done = reader.types("dvc repro")
    assert not done.code, done.said


def readme(reader: Reader, _: Callable[[str], Path]) -> Iterator[None]:
    yield
    patients(reader.folder.parent / "scans", "file", "diagnosis")
    yield
    inbox(reader.folder)
    yield


def use_your_own_data(reader: Reader, _: Callable[[str], Path]) -> Iterator[None]:
    subprocess.run(["git", "reset", "-q", "--hard", "HEAD~1"], cwd=reader.folder, check=True)
    shutil.rmtree(reader.folder / "data/raw/mine")
    yield
    trained_again(reader, next(settings_of(HOW_TO / "use-your-own-data.md")))
    inbox(reader.folder)
    yield


def bids(folder: Path) -> None:
    """Write a study of four subjects with masks of lesions."""
    people = []
    for number in range(4):
        scan, mask, label = volume(number)
        name = f"sub-{number}/anat/sub-{number}_T1w"
        save_nifti(folder / f"{name}.nii.gz", scan)
        save_nifti(folder / f"derivatives/lesions/{name}_mask.nii.gz", mask)
        people.append({"participant_id": f"sub-{number}", "diagnosis": CLASSES[label], "age": 50 + number, "sex": "F"})
    pd.DataFrame(people).to_csv(folder / "participants.tsv", sep="\t", index=False)


def use_masks(reader: Reader, _: Callable[[str], Path]) -> Iterator[None]:
    folder, few = reader.folder, range(4)
    shutil.rmtree(folder / "data/raw/mine")
    patients(folder, "image", "label")
    bids(folder / "study")
    files = write_scans(folder / "Dataset001/imagesTr", few, folder / "Dataset001/labelsTr")
    table([Path("Dataset001") / file for file in files], few).to_csv(folder / "classes.csv", index=False)
    pairs = [{"image": f"scans/{number}.nii.gz", "label": f"masks/{number}.nii.gz"} for number in few]
    (folder / "dataset.json").write_text(json.dumps({"training": pairs}))
    export(folder)
    yield
    edit(folder / "params.yaml", {"cohort": {"path": "data/raw/mine"}})
    for changes in settings_of(HOW_TO / "use-masks.md"):
        edit(folder / "params.yaml", changes)
    trained_again(reader, {})
    shutil.rmtree(folder / "masks")
    inbox(folder)
    yield


def hand_over(reader: Reader, _: Callable[[str], Path]) -> Iterator[None]:
    released(reader)
    yield


def study(folder: Path) -> None:
    """Write two DICOM series and a table of their classes."""
    for number in (101, 102):
        header = {"StudyInstanceUID": f"1.2.3.{number}", "SeriesInstanceUID": f"1.2.3.{number}.1"}
        names = {"PatientID": f"p{number}", "AccessionNumber": f"A{number}", "FrameOfReferenceUID": f"1.2.3.{number}.2"}
        voxels = volume(number)[0].clip(0).astype(np.uint16)
        save_series(folder / f"{number}", voxels, "LPS", StudyDate="20261102", **header, **names)


def export(folder: Path) -> None:
    """Write two DICOM series, and the table of their labels by accession number."""
    study(folder / "export")
    accessions = pd.DataFrame({"accession": ["A101", "A102"], "label": ["lesion", "control"]})
    accessions.to_csv(folder / "labels.csv", index=False)


def use_in_a_clinic(reader: Reader, _: Callable[[str], Path]) -> Iterator[None]:
    study(released(reader) / "study")
    yield


def commands(reader: Reader, left_by: Callable[[str], Path]) -> Iterator[None]:
    """Prepare each kind of import, the predictions, `listen`, `serve` and `package`."""
    folder, few = reader.folder, range(4)
    shutil.rmtree(folder / "data/raw/mine")
    patients(folder, "file", "diagnosis", 4)
    yield
    shutil.rmtree(folder / "scans")
    for number in few:
        write_scans(folder / "scans" / CLASSES[number % 2], range(number, number + 1), name="P{}_T1w")
    bids(folder / "study")
    listed = [{"image": f"../share/{number}.nii.gz", "label": CLASSES[number % 2]} for number in few]
    write_scans(folder.parent / "share", few)
    (folder / "dataset.json").write_text(json.dumps({"training": listed}))
    pixels = np.random.default_rng(0).integers(0, 255, (4, 28, 28)).astype(np.uint8)
    np.savez(folder / "pneumoniamnist.npz", train_images=pixels, train_labels=np.arange(4)[:, None] % 2)
    for _ in range(5):
        shutil.rmtree(folder / "data/raw/mine", ignore_errors=True)
        shutil.rmtree(folder / "export", ignore_errors=True)
        export(folder)
        yield
    shutil.rmtree(folder / "study")
    released(reader)
    study(folder / "study")
    shutil.copy(folder / "inbox/100.nii.gz", folder / "scan.nii.gz")
    for name, page in (("columns", "use-your-own-data.md"), ("masks", "use-masks.md")):
        shutil.make_archive(str(folder / f"with_{name}"), "zip", left_by(page) / MINE)
    yield
    study(folder / "inbox")
    yield


SCENES: dict[str, Scene] = {
    "README.md": readme,
    "use-your-own-data.md": use_your_own_data,
    "use-masks.md": use_masks,
    "hand-over.md": hand_over,
    "use-in-a-clinic.md": use_in_a_clinic,
    "commands.md": commands,
}
