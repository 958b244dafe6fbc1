"""Copy real images into the `data/out_of_distribution` of a run, so that its release tests its limits on them.

    python benchmarks/out_of_distribution.py volumes --into RUN/data/out_of_distribution
    cd RUN && python -m pipeline release

`volumes` are for the demo, a model of head MRI, `images` for COVID-CT, a model of chest CT slices.

Each folder is named after what it shows. Two of them are close to the training data and say more of the model than of
the detection: real heads beside the demo's simulated ones, and lungs of another source beside COVID-CT's.
"""

import argparse
import shutil
from pathlib import Path

import nibabel
import numpy as np
import skimage.data
from PIL import Image
from trials import DATA

PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "moon", "rocket")
SPINES = ("sct/t1/t1w.nii.gz", "sct/t2/t2.nii.gz", "sct/t2s/t2s.nii.gz", "sct/mt/mtr.nii.gz")


def volumes(into: Path) -> None:
    """Hippocampi, spinal cords, a body CT, real heads; and slices, which are no volumes."""
    copy(sorted((DATA / "hippocampus3d").glob("*.nii.gz")), into / "hippocampus_mri")
    copy([DATA / "reader_zoo" / name for name in SPINES], into / "spinal_cord_mri")
    copy([DATA / "reader_zoo/nnunet_ct/example_ct_sm.nii.gz"], into / "body_ct")
    copy(sorted((DATA / "ixi_t1_2mm").glob("*.nii*")), into / "real_t1_heads (kin)")
    copy(sorted((DATA / "luna_slices").rglob("*.png"))[:20], into / "chest_ct_slices")


def images(into: Path) -> None:
    """Blood cells, slices of brains, photographs; and lungs of LUNA."""
    copy(sorted((DATA / "wbc_two_source").rglob("*.png")), into / "blood_cells")
    copy(sorted((DATA / "luna_slices").rglob("*.png")), into / "lung_ct_luna (kin)")
    for name, folder in (("hippocampus_mri", "hippocampus3d"), ("head_mri", "ixi_t1_2mm")):
        for file in sorted((DATA / folder).glob("*.nii*")):
            write(middle_of(file), into / name / f"{file.name}.png")
    for name in PHOTOGRAPHS:
        write(getattr(skimage.data, name)(), into / "photographs" / f"{name}.png")


def middle_of(file: Path) -> np.ndarray:
    """Give the middle slice along the shortest axis, from black to white."""
    voxels = np.asanyarray(nibabel.load(file).dataobj).astype(float)
    axis = int(np.argmin(voxels.shape[:3]))
    middle = voxels.take(voxels.shape[axis] // 2, axis)
    low, high = np.percentile(middle, [0.5, 99.5])
    return (255 * (middle - low) / max(high - low, 1)).clip(0, 255).astype(np.uint8)


def write(image: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def copy(files: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        shutil.copyfile(file, folder / f"{number:03d}_{file.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["volumes", "images"])
    parser.add_argument("--into", type=Path, required=True)
    arguments = parser.parse_args()
    {"volumes": volumes, "images": images}[arguments.kind](arguments.into)


if __name__ == "__main__":
    main()
