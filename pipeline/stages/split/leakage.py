"""Copies: images that stand under two names, found before anything is trained on one and evaluated on the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.utils.extmath import randomized_svd

MAX_DISTANCE = 12  # bits of 64; a second intensity window of the same slice moved 12
MIN_CORRELATION = 0.85  # lungs and brains of different people reached .76, copies of lungs fell to .87
FEWEST_FOR_A_MEAN, PATIENTS_PER_MODE, MOST_MODES = 3, 20, 2
ROWS = 256  # compared with all cases at once: 60 MB for 20 000 cases

Floats = NDArray[np.float32]


def exact_duplicates(cases: pd.DataFrame) -> pd.DataFrame:
    """Pair up cases with the same `voxel_hash`: columns `case`, `other`, the smaller name first."""
    named = cases[["case", "voxel_hash"]]
    pairs = named.merge(named.rename(columns={"case": "other"}), on="voxel_hash")
    pairs = pairs.loc[pairs["case"] < pairs["other"], ["case", "other"]]
    return pairs.sort_values(["case", "other"], ignore_index=True)


def near_duplicates(
    cases: pd.DataFrame,
    signatures: NDArray[np.floating[Any]],
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
) -> pd.DataFrame:
    """Pair up cases that look the same: re-encoded, rescaled, made brighter, windowed anew, or neighbouring slices.

    Two conditions, for each errs alone: the Hamming distance of the perceptual hashes (Zauner 2010, section 3.2.1),
    and the correlation of what `uncommon_part` leaves of the signatures. Mirrored, turned or cropped copies escape.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `case`, `patient`, `perceptual_hash` (16 hex digits).
    signatures : (n, d) float array
        Every case's small image, any unit.
    max_distance : int
        Bits in which the hashes may differ, of 64.
    min_correlation : float
        Pearson's, in [-1, 1].

    Returns
    -------
    pandas.DataFrame
        Columns `case`, `other` (the smaller name first), `distance`, `correlation`; exact copies are among them.
    """
    if len(signatures) != len(cases) or not np.isfinite(signatures).all():
        raise ValueError("every case needs one signature of finite numbers")
    order = np.argsort(cases["case"].to_numpy(dtype=str), kind="stable")
    rows = cases.iloc[order]
    names, hashes = rows["case"].to_numpy(), np.array([int(text, 16) for text in rows["perceptual_hash"]], np.uint64)
    rest = uncommon_part(signatures[order], rows["patient"].to_numpy(dtype=str))
    blocks = [_alike(hashes, rest, start, max_distance, min_correlation) for start in range(0, len(rows), ROWS)]
    first, second, distance, correlation = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    pairs = {"case": names[first], "other": names[second], "distance": distance, "correlation": correlation}
    return pd.DataFrame(pairs)


def uncommon_part(signatures: NDArray[np.floating[Any]], patients: NDArray[np.str_]) -> Floats:
    """Leave of each signature what sets it apart from the cohort, so that shared anatomy makes nobody a copy.

    From three patients on the mean image is subtracted, from 20 the first principal component, from 40 the second.
    Copies stay alike under any such projection. Each patient counts once, lest the slices of one become what is common.

    Parameters
    ----------
    signatures : (n, d) float array
    patients : (n,) array of str

    Returns
    -------
    (n, d) float32 array
        Rows of mean 0 and length 1, so that products are correlations; all 0 where nothing is left (a blank image).
    """
    _, once = np.unique(patients, return_index=True)
    rest = _unit_rows(np.asarray(signatures, dtype=np.float32), 1e-4 * float(np.abs(signatures).max(initial=0)))
    if len(once) < FEWEST_FOR_A_MEAN:
        return rest
    some = rest.any(axis=1, keepdims=True)  # a blank image stays one, lest all of them become minus the mean
    rest = some * (rest - rest[once].mean(axis=0))
    n_modes = min(MOST_MODES, len(once) // PATIENTS_PER_MODE)
    if n_modes:
        modes = randomized_svd(rest[once], n_modes, random_state=0)[2].astype(np.float32)
        rest -= (rest @ modes.T) @ modes
    return _unit_rows(rest, 1e-4)


def _unit_rows(rows: Floats, negligible: float) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    some = length > negligible
    return np.where(some, centred / np.where(some, length, 1), 0).astype(np.float32)


def _alike(
    hashes: NDArray[np.uint64], rest: Floats, start: int, max_distance: int, min_correlation: float
) -> tuple[NDArray[Any], ...]:
    block = slice(start, start + ROWS)
    distance = np.bitwise_count(hashes[block, None] ^ hashes[None, start:])
    correlation = rest[block] @ rest[start:].T
    alike = np.triu((distance <= max_distance) & (correlation >= min_correlation), k=1)
    first, second = np.nonzero(alike)
    return first + start, second + start, distance[alike].astype(int), correlation[alike].clip(-1, 1).astype(float)


def findings(
    cases: pd.DataFrame,
    signatures: NDArray[np.floating[Any]],
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
) -> pd.DataFrame:
    """List the copies worth a look; near copies within one patient are neighbouring slices and left out.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `case` (unique), `patient`, `label` ("" if unknown), `side`, `voxel_hash`, `perceptual_hash`.
    signatures, max_distance, min_correlation
        See `near_duplicates`.

    Returns
    -------
    pandas.DataFrame
        One row per pair: `check` ("exact copy", "near copy"), `case`, `patient`, `other`, `other_patient`,
        `similarity` (1 or the correlation), `labels` ("same", "contradict", "unknown"), `across` ("train/test
        boundary" if one is test and the other trains or calibrates, "patients", "one patient"), `side`, `other_side`.
    """
    exact = exact_duplicates(cases).assign(check="exact copy", similarity=1.0)
    near = near_duplicates(cases, signatures, max_distance, min_correlation).assign(check="near copy")
    near = near.rename(columns={"correlation": "similarity"}).drop(columns="distance")
    found = pd.concat([exact, near], ignore_index=True).drop_duplicates(["case", "other"])
    of_case = cases.set_index("case")
    for column in ("patient", "label", "side"):
        found[column] = found["case"].map(of_case[column]).astype(str)
        found[f"other_{column}"] = found["other"].map(of_case[column]).astype(str)
    found["labels"] = _labels(found)
    found["across"] = _across(found)
    found = found[(found["check"] == "exact copy") | (found["patient"] != found["other_patient"])]
    found = found.sort_values(["check", "similarity", "case", "other"], ascending=[True, False, True, True])
    columns = ["check", "case", "patient", "other", "other_patient", "similarity", "labels", "across"]
    return found[[*columns, "side", "other_side"]].reset_index(drop=True)


def _labels(found: pd.DataFrame) -> NDArray[np.str_]:
    unknown = (found["label"] == "") | (found["other_label"] == "")
    return np.where(unknown, "unknown", np.where(found["label"] == found["other_label"], "same", "contradict"))


def _across(found: pd.DataFrame) -> NDArray[np.str_]:
    used = ["development", "calibration"]
    door = (found["side"] == "test") & found["other_side"].isin(used)
    door |= (found["other_side"] == "test") & found["side"].isin(used)
    people = np.where(found["patient"] != found["other_patient"], "patients", "one patient")
    return np.where(door, "train/test boundary", people)


def open_leaks(found: pd.DataFrame, allowed: Sequence[str]) -> pd.DataFrame:
    """Choose the findings that must be settled before training: copies that stand where they do harm.

    Exact copies do across the train/test boundary and by contradicting labels, near copies where both come together.
    Between patients of development they do none, once `joined_patients` assigns them as one. `allowed` names cases or
    patients; one of a pair is enough.
    """
    exact, door, contradict = (
        found[column] == value
        for column, value in (("check", "exact copy"), ("across", "train/test boundary"), ("labels", "contradict"))
    )
    harmful = (exact & (door | contradict)) | (door & contradict)
    acknowledged = found[["case", "patient", "other", "other_patient"]].isin(list(allowed)).any(axis=1)
    return found[harmful & ~acknowledged]


def joined_patients(cases: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Name a group for each case: patients who share a copy, directly or through others, are one group.

    Returns
    -------
    list of str
        The smallest patient name of each case's group.
    """
    ends = [found[column].to_numpy(dtype=str) for column in ("patient", "other_patient")]
    own = cases["patient"].to_numpy(dtype=str)
    names = np.unique(np.concatenate([own, *ends]))
    first, second = (np.searchsorted(names, end) for end in ends)
    links = coo_array((np.ones(len(first)), (first, second)), shape=(len(names), len(names)))
    _, group = connected_components(links, directed=False)
    _, smallest = np.unique(group, return_index=True)
    return [str(name) for name in names[smallest][group][np.searchsorted(names, own)]]
