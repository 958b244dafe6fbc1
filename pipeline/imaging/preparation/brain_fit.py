"""Find the brain in a head MRI or CT by fitting the MNI152 brain with an affine map."""

from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

RIM_MM = 5.0  # width of the rim around the brain that enters the fit: the skull without the scalp
COARSE_MM, FINE_MM = 8.0, 4.0
# Limits of a plausible fit. Ten real T1 heads gave .40 to .52 nats, volume ratios .60 to .76 and scale factors .78 to
# 1.05; a ball gave .30 nats, an abdomen .21, spines up to .21; slabs and crops cover less than half of a brain.
LEAST_METRIC = 0.35
VOLUME_RATIO = (0.5, 1.5)
STRETCH = (0.65, 1.35)
LEAST_COVERAGE = 0.6
BINS = 32
STARTS = 4

Floats = NDArray[np.float64]


class NotAHead(ValueError):
    """Signal that no head was found in a scan; the message gives the reason."""


@dataclass(frozen=True)
class Fit:
    """Hold the position of the MNI152 brain in a scan.

    Attributes
    ----------
    matrix : (4, 4) float64
        MNI152 millimetres to the scan's RAS+ millimetres.
    metric : float
        Mutual information of template and scan in nats, over the brain and its rim; 0 if they are independent.
    """

    matrix: Floats
    metric: float


@dataclass(frozen=True)
class Grid:
    """Hold a downsampled copy of a volume.

    Attributes
    ----------
    values : (X, Y, Z) float32
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres.
    """

    values: NDArray[np.float32]
    affine: Floats

    def to_itk(self) -> Any:
        """Convert to a SimpleITK image, with RAS+ millimetres."""
        image = sitk.GetImageFromArray(np.ascontiguousarray(self.values.transpose(2, 1, 0)))
        spacing = nib.affines.voxel_sizes(self.affine)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((self.affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(self.affine[:3, 3].tolist())
        return image


def fit_brain(volume: NDArray[Any], affine: Floats) -> Fit:
    """Fit the MNI152 brain to a head scan by an affine map, from several starts.

    The template shows the brain alone, so the metric uses only the brain and a thin rim around it: the template has no
    face or neck to compare with. Mutual information does not depend on the contrast. All voxels of the downsampled
    copies are used, in one thread and without random sampling, so that the fit is deterministic.

    Parameters
    ----------
    volume : (X, Y, Z)
        Axes as stored.
    affine : (4, 4)
        Voxel index to RAS+ millimetres.

    Raises
    ------
    NotAHead
        If brain and scan do not overlap from any start.
    """
    small = shrink(volume, affine, FINE_MM)
    low, high = np.percentile(small.values, (0.1, 99.5)).astype(np.float32)
    small = Grid(small.values.clip(low, high), small.affine)
    coarse = shrink(small.values, small.affine, COARSE_MM)
    starts = _promising(coarse, _head_centre(small))
    fits = [fit for start in starts if (fit := _refine(start, coarse, COARSE_MM, step_mm=4.0))]
    fit = _refine(max(fits, key=lambda fit: fit.metric).matrix, small, FINE_MM, step_mm=2.0) if fits else None
    if fit is None:
        raise NotAHead("the brain template overlaps the scan in no position")
    return fit


def refuse_implausible(fit: Fit, shape: tuple[int, ...], affine: Floats) -> None:
    """Refuse an implausible fit: low mutual information, or a brain too large, too small or mostly out of view.

    Parameters
    ----------
    shape : (X, Y, Z)
        Shape of the scan.
    affine : (4, 4)
        Voxel index of the scan to RAS+ millimetres.

    Raises
    ------
    NotAHead
        With the value that is out of range.
    """
    if fit.metric < LEAST_METRIC:
        raise NotAHead(
            f"no brain was found (mutual information {fit.metric:.2f} nats; at least {LEAST_METRIC} is needed)"
        )
    stretches = np.linalg.svd(fit.matrix[:3, :3], compute_uv=False)
    ratio = float(np.prod(stretches))
    sane = STRETCH[0] <= stretches.min() and stretches.max() <= STRETCH[1]
    if not (sane and VOLUME_RATIO[0] <= ratio <= VOLUME_RATIO[1]):
        raise NotAHead(f"the best fit is implausible: {ratio:.2f} times the template's volume, or distorted")
    coarse = shrink(brain_template().values, brain_template().affine, COARSE_MM)
    brain = nib.affines.apply_affine(coarse.affine, np.argwhere(coarse.values > 0))
    places = nib.affines.apply_affine(np.linalg.inv(affine) @ fit.matrix, brain)
    covered = float(((places > -0.5) & (places < np.array(shape) - 0.5)).all(axis=1).mean())
    if covered < LEAST_COVERAGE:
        raise NotAHead(f"only {covered:.0%} of the brain is in view; at least {LEAST_COVERAGE:.0%} is needed")


def shrink(volume: NDArray[Any], affine: Floats, voxel_mm: float) -> Grid:
    """Average blocks of voxels, of at most `voxel_mm` along each axis."""
    sizes = nib.affines.voxel_sizes(affine)
    block = np.clip((voxel_mm / sizes + 1e-3).astype(int), 1, volume.shape)
    count = np.array(volume.shape) // block
    whole = volume[tuple(slice(size) for size in count * block)]
    pairs = [int(size) for pair in zip(count, block, strict=True) for size in pair]
    values = whole.reshape(pairs).mean(axis=(1, 3, 5), dtype=np.float32)
    to_volume = np.diag([*block, 1.0])
    to_volume[:3, 3] = (block - 1) / 2
    return Grid(values, affine @ to_volume)


@cache
def brain_template() -> Grid:
    """Load the MNI152 brain, padded for its rim on every side."""
    import nilearn.datasets

    folder = Path(nilearn.datasets.__file__).parent / "data"
    image: Any = nib.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    padding = 3 * int(COARSE_MM)
    return Grid(
        np.pad(image.get_fdata(dtype=np.float32), padding),
        image.affine @ nib.affines.from_matvec(np.eye(3), [-padding] * 3),
    )


@cache
def _fixed(voxel_mm: float) -> tuple[Any, Any]:
    """Return the template and the mask of its brain with the rim, as SimpleITK images."""
    template = brain_template()
    small = shrink(template.values, template.affine, voxel_mm)
    brain = ndimage.binary_fill_holes(small.values > 0)
    near = ndimage.distance_transform_edt(~brain, sampling=voxel_mm) <= RIM_MM
    return small.to_itk(), sitk.Cast(Grid(near.astype(np.float32), small.affine).to_itk(), sitk.sitkUInt8)


def _head_centre(scan: Grid) -> Floats:
    """Estimate the middle of the brain: midway between the sides of the head, 65 mm below its top.

    Raises
    ------
    NotAHead
        If nothing is brighter than the background.
    """
    head = sitk.GetArrayFromImage(sitk.OtsuThreshold(scan.to_itk(), 0, 1)).transpose(2, 1, 0) > 0
    if not head.any():
        raise NotAHead("nothing is brighter than the background")
    parts, count = ndimage.label(ndimage.binary_opening(head))
    if count:
        head = parts == 1 + np.bincount(parts[parts > 0] - 1).argmax()
    places = nib.affines.apply_affine(scan.affine, np.argwhere(head))
    few = max(1, int(20_000 / abs(np.linalg.det(scan.affine[:3, :3]))))
    top = np.sort(places[:, 2])[-few:][0]
    middle = np.percentile(places[places[:, 2] > top - 120], (2, 98), axis=0).mean(axis=0)
    return np.array([middle[0], middle[1], top - 65])


def _promising(scan: Grid, centre: Floats) -> list[Floats]:
    """Try positions and tilts of the head, and keep the `STARTS` with the best metric."""
    fixed, near = _fixed(COARSE_MM)
    moving = scan.to_itk()
    method = _method(near)
    scored: list[tuple[float, int, Floats]] = []
    for up, front, nod in product((-36, -24, -12, 0, 12, 24, 36), (-20, 0, 20), (-20, 0, 20)):
        matrix = _pose(centre + np.array([0, front, up]), nod)
        method.SetInitialTransform(_to_transform(matrix), inPlace=False)
        try:
            scored.append((method.MetricEvaluate(fixed, moving), len(scored), matrix))
        except RuntimeError:  # no overlap
            continue
    return [matrix for _, _, matrix in sorted(scored, key=lambda entry: entry[:2])[:STARTS]]


def _pose(centre: Floats, nod_deg: float) -> Floats:
    """Place the template's brain at `centre`, tilted, and scaled by 0.9, since it is larger than most brains."""
    nod = np.deg2rad(nod_deg)
    turn = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]]) * 0.9
    matrix: Floats = nib.affines.from_matvec(turn, centre - turn @ (0, -18, 8))
    return matrix


def _refine(start: Floats, scan: Grid, voxel_mm: float, step_mm: float) -> Fit | None:
    fixed, near = _fixed(voxel_mm)
    method = _method(near)
    transform = _to_transform(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, step_mm / 100, 100, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    try:
        method.Execute(fixed, scan.to_itk())
    except RuntimeError:  # no overlap
        return None
    return Fit(_to_matrix(transform), -method.GetMetricValue())


def _method(near: Any) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums over several threads are not reproducible
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(near)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _to_transform(matrix: Floats) -> Any:
    """Convert to a transform centred on the middle of the brain, which decouples rotation and translation."""
    centre = np.array([0.0, -18.0, 8.0])
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation((matrix[:3, :3] @ centre + matrix[:3, 3] - centre).tolist())
    return transform


def _to_matrix(transform: Any) -> Floats:
    linear = np.array(transform.GetMatrix()).reshape(3, 3)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix: Floats = nib.affines.from_matvec(linear, origin)
    return matrix
