"""Find the affine of a NIfTI file: sform, qform, units, and what is wrong with them."""

from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.reading.scan import Finding, Policy, Unreadable

MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of the unit; 0 is unknown
HAIR = 1e-4  # by which rounding may lengthen a quaternion


def affine_of(fields: Any, stated: Any, policy: Policy) -> tuple[NDArray[np.float64], tuple[Finding, ...]]:
    """Choose between sform and qform, in millimetres, and report findings.

    Parameters
    ----------
    fields, stated : nibabel header
        As nibabel repairs it, and as the file states it.
    """
    shape = (*fields.get_data_shape(), 1, 1, 1)[:3]
    sform, s_code = fields.get_sform(), int(fields["sform_code"])
    q_code = int(fields["qform_code"])
    qform = _qform(fields) if q_code or not s_code else sform
    factor, of_units = _millimetres(fields)
    scale = np.diag([factor] * 3 + [1.0])
    if not s_code:
        of_units += _repaired_sizes(stated, policy)
    if s_code == 0 and q_code == 0:
        if policy.unknown_orientation == "refuse":
            raise Unreadable(
                "orientation",
                "the file has no affine, so that left and right are unknown",
                "cohort.reading.unknown_orientation",
            )
        assumed = Finding(
            "orientation",
            "the file has no affine; its axes were assumed to point to the left, front and top",
            "repaired",
            "cohort.reading.unknown_orientation",
        )
        return scale @ fields.get_base_affine(), (assumed, *of_units)
    if s_code and q_code:
        affine, findings = _choose_affine(scale @ sform, None if qform is None else scale @ qform, shape, policy)
        return affine, findings + of_units
    if not s_code and qform is None:
        raise Unreadable("affine", "the qform is not a rotation, and there is no sform")
    return scale @ (sform if s_code else qform), of_units


def _qform(fields: Any) -> NDArray[np.float64] | None:
    """Compute the qform; None if its quaternion is longer than 1 by more than rounding."""
    fields, names = fields.copy(), ("quatern_b", "quatern_c", "quatern_d")
    length = float(np.linalg.norm([float(fields[name]) for name in names]))
    if 1 < length < 1 + HAIR:
        for name in names:
            fields[name] = float(fields[name]) / length * (1 - 1e-7)
    try:
        qform: NDArray[np.float64] = fields.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None
    return qform


def _millimetres(fields: Any) -> tuple[float, tuple[Finding, ...]]:
    """Find the factor from the file's unit of length to millimetres; an unknown unit counts as millimetres."""
    code = int(fields["xyzt_units"]) & 7
    if code in MILLIMETRES:
        return MILLIMETRES[code], ()
    return 1.0, (Finding("units", f"the unit of length has the unknown code {code}; it was taken as mm", "warned"),)


def _repaired_sizes(stated: Any, policy: Policy) -> tuple[Finding, ...]:
    """Report voxel sizes that are 0 or negative; readers disagree about what they mean."""
    sizes = [float(size) for size in stated["pixdim"][1:4]]
    if all(size > 0 for size in sizes):
        return ()
    detail = f"the file states voxel sizes of {' x '.join(f'{size:g}' for size in sizes)} (pixdim)"
    if policy.unknown_orientation == "refuse":
        why = "so that left and right are unknown" if min(sizes) < 0 else "so that sizes are unknown"
        raise Unreadable("orientation", f"{detail}, {why}", "cohort.reading.unknown_orientation")
    done = "their signs were dropped, and 0 taken as 1"
    return (Finding("orientation", f"{detail}; {done}", "repaired", "cohort.reading.unknown_orientation"),)


def _choose_affine(
    sform: NDArray[np.float64], qform: NDArray[np.float64] | None, shape: tuple[int, ...], policy: Policy
) -> tuple[NDArray[np.float64], tuple[Finding, ...]]:
    """Choose sform or qform if both are set, by comparing orientation and voxel sizes, not the origin."""
    finite = [one is not None and bool(np.isfinite(one).all()) for one in (sform, qform)]
    if qform is not None and not any(finite):
        return sform, ()
    if qform is None or not all(finite) or not _same_grid(sform, qform):
        broken = "; the sform has NaN or infinite entries" * (not finite[0])
        detail = f"sform and qform differ in orientation or voxel size{broken}"
        if policy.affine_conflict == "refuse":
            raise Unreadable("affine conflict", detail, "cohort.reading.affine_conflict")
        if policy.affine_conflict == "qform" and qform is None:
            raise Unreadable(
                "affine conflict",
                "the qform is not a rotation, so that it cannot be used",
                "cohort.reading.affine_conflict",
            )
        detail += f"; the {policy.affine_conflict} was used"
        taken = Finding("affine conflict", detail, "repaired", "cohort.reading.affine_conflict")
        chosen = sform if policy.affine_conflict == "sform" or qform is None else qform
        return chosen, (taken,)
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]).T
    apart = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    if apart > nib.affines.voxel_sizes(sform).min():
        detail = f"sform and qform are up to {apart:.3g} mm apart; the sform was used"
        return sform, (Finding("affine conflict", detail, "warned"),)
    return sform, ()


def _same_grid(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    if min(abs(np.linalg.det(one[:3, :3])), abs(np.linalg.det(other[:3, :3]))) == 0:
        return False
    sizes = np.allclose(nib.affines.voxel_sizes(one), nib.affines.voxel_sizes(other), rtol=0.01)
    return sizes and nib.aff2axcodes(one) == nib.aff2axcodes(other)
