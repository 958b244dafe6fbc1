"""Find duplicates, that is the same image under two case ids, before one is trained on and the other evaluated."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.utils.extmath import randomized_svd

from pipeline.imaging.preparation.fingerprint import REGION_HASH

MAX_DISTANCE = 12  # bits of 64; a second intensity window of the same slice moved 12
MIN_CORRELATION = 0.85  # measured: at most .76 between lungs or brains of different people, at least .87 of duplicates
LEAST_DETAIL = 1.0  # grey values; less is rounding, which no duplicate shares
FEWEST_FOR_A_MEAN, PATIENTS_PER_MODE, MOST_MODES = 3, 20, 2
ROWS = 64  # cases compared with all others at a time: 60 MB for 100,000 cases
PAIRS = 1 << 14  # pairs whose images are multiplied at a time: 130 MB
MANY_CLOSE = 1 / 32  # share of close hashes from which a product of all images of a block takes less time
EXACT, NEAR, BOUNDARY = "exact duplicate", "near duplicate", "train/test boundary"  # in the columns check, across

Floats = NDArray[np.float32]


def exact_duplicates(cases: pd.DataFrame) -> pd.DataFrame:
    """Pair cases with the same `voxel_hash`; columns `case` and `other`, the smaller id first."""
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
    """Pair duplicate images: re-encoded, rescaled, brightened or windowed differently, or neighbouring slices.

    A pair must meet two conditions, because each alone gives false pairs: a small Hamming distance between the
    perceptual hashes (Zauner 2010, section 3.2.1), and a high correlation of the signatures after `uncommon_part`.
    Both look at coarse structure, in which two of many images agree by chance: the number of such pairs grows with the
    square of the number of cases. So a third condition looks at the fine structure of the pairs that were found, and
    asks for more the more cases there are (see `shares_detail`). Mirrored, rotated and cropped duplicates are not
    found.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `case`, `patient`, `perceptual_hash` (16 hex digits).
    signatures : (n, d) float array
        The small image of each case in grey values: one square, or three.
    max_distance : int
        Largest number of differing bits, of 64.
    min_correlation : float
        Lowest Pearson correlation, in [-1, 1].

    Returns
    -------
    pandas.DataFrame
        Columns `case`, `other` (the smaller id first), `distance`, `correlation`; exact duplicates are included.

    Raises
    ------
    ValueError
        If a case has no signature, or one with a value that is not finite.
    """
    if len(signatures) != len(cases) or not np.isfinite(signatures).all():
        raise ValueError("every case needs one signature of finite numbers")
    order = np.argsort(cases["case"].to_numpy(dtype=str), kind="stable")
    rows = cases.iloc[order]
    names, hashes = rows["case"].to_numpy(), np.array([int(text, 16) for text in rows["perceptual_hash"]], np.uint64)
    rest = uncommon_part(signatures[order], rows["patient"].to_numpy(dtype=str))
    limits = {"max_distance": max_distance, "min_correlation": min_correlation}
    blocks = [_similar_pairs(hashes, rest, start, **limits) for start in range(0, len(rows), ROWS)]
    first, second, distance, correlation = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    kept = shares_detail(signatures[order], rest, first, second)
    first, second, distance, correlation = (part[kept] for part in (first, second, distance, correlation))
    pairs = {"case": names[first], "other": names[second], "distance": distance, "correlation": correlation}
    return pd.DataFrame(pairs)


def uncommon_part(signatures: NDArray[np.floating[Any]], patients: NDArray[np.str_]) -> Floats:
    """Remove from each signature what it shares with the cohort, so that shared anatomy does not look like a duplicate.

    With three patients or more, subtract the mean image; with 20, also the first principal component; with 40, also
    the second. Duplicates stay similar under any such projection. Each patient counts once, so that many slices of one
    patient do not dominate the mean.

    Parameters
    ----------
    signatures : (n, d) float array
    patients : (n,) array of str

    Returns
    -------
    (n, d) float32 array
        Rows of mean 0 and length 1, so that products are correlations; all 0 where nothing remains (a blank image).
    """
    _, once = np.unique(patients, return_index=True)
    rest = _unit_rows(np.asarray(signatures, dtype=np.float32), 1e-4 * float(np.abs(signatures).max(initial=0)))
    if len(once) < FEWEST_FOR_A_MEAN:
        return rest
    some = rest.any(axis=1, keepdims=True)  # a blank image stays blank instead of becoming minus the mean
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


def shares_detail(
    signatures: NDArray[np.floating[Any]], rest: Floats, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell of which pairs the fine structure agrees more often than that of any two different images by chance.

    The fine structure of an image is the signs of its discrete cosine transform without the lowest quarter of the
    frequencies in each direction, which the perceptual hash compares. Signs of different images agree in half of the m
    frequencies that both images have, with a standard deviation of sqrt(m) / 2. The largest of N such deviations is
    about sqrt(2 ln N) of them; with N the number of pairs in the cohort, about one pair is above by chance, however
    many cases there are. Where so few frequencies are left that three quarters would have to agree, the images are too
    smooth, and the coarse structure decides.

    Parameters
    ----------
    signatures, rest : (n, d) float arrays
        Of all cases: in grey values, and from `uncommon_part`.
    first, second : (m,) int arrays
        The rows of each pair.
    """
    rows, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    contrast = np.linalg.norm(signatures[rows] - signatures[rows].mean(axis=1, keepdims=True), axis=1, keepdims=True)
    signs = _signs_of_detail(rest[rows] * contrast)
    left, right = np.split(place, 2)
    both, agreement = _products(np.abs(signs), np.abs(signs), left, right), _products(signs, signs, left, right)
    squared_limit = 2 * math.log(math.comb(len(rest), 2)) if len(rest) > 1 else 0.0
    return np.asarray((both < 4 * squared_limit) | (agreement > np.sqrt(squared_limit * both)))


def _signs_of_detail(images: NDArray[np.floating[Any]]) -> Floats:
    """Give the sign of each fine frequency of images in grey values; 0 of coarse and of faint ones."""
    count, size = images.shape
    edge = math.isqrt(size) if math.isqrt(size) ** 2 == size else math.isqrt(size // 3)
    shape = (count, size // edge**2, edge, edge)
    waves = np.asarray(dctn(images.reshape(shape).astype(np.float32), axes=(2, 3), norm="ortho"))
    waves[:, :, : edge // 4, : edge // 4] = 0
    return np.asarray(np.where(np.abs(waves) >= LEAST_DETAIL, np.sign(waves), 0).reshape(count, size))


def _products(left: Floats, right: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
    """Multiply the rows of each pair: (m,), a few pairs at a time."""
    products = np.empty(len(first), dtype=np.float32)
    for start in range(0, len(first), PAIRS):
        some = slice(start, start + PAIRS)
        products[some] = np.einsum("pd,pd->p", left[first[some]], right[second[some]])
    return products


def _similar_pairs(
    hashes: NDArray[np.uint64], rest: Floats, start: int, *, max_distance: float, min_correlation: float
) -> tuple[NDArray[Any], ...]:
    """Compare `ROWS` cases from `start` on with all later ones: first and second rows, distances, correlations."""
    distance = np.bitwise_count(hashes[start : start + ROWS, None] ^ hashes[None, start:])
    first, second = np.divmod(np.flatnonzero(distance <= max_distance), len(hashes) - start)
    later = second > first
    first, second = first[later], second[later]
    block, others = rest[start : start + ROWS], rest[start:]
    if len(first) > MANY_CLOSE * distance.size:
        correlation = (block @ others.T)[first, second]
    else:
        correlation = _products(block, others, first, second)
    alike = correlation >= min_correlation
    first, second, correlation = first[alike], second[alike], correlation[alike].clip(-1, 1).astype(float)
    return first + start, second + start, distance[first, second].astype(int), correlation


def findings(
    cases: pd.DataFrame,
    signatures: NDArray[np.floating[Any]],
    max_distance: int = MAX_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
) -> pd.DataFrame:
    """List the duplicates to review; near duplicates within one patient are neighbouring slices and are left out.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `case` (unique), `patient`, `label` ("" if unknown), `side`, `voxel_hash`, `perceptual_hash`.
    signatures, max_distance, min_correlation
        See `near_duplicates`.

    Returns
    -------
    pandas.DataFrame
        One row per pair: `check` ("exact duplicate", "near duplicate"), `case`, `patient`, `other`, `other_patient`,
        `similarity` (1 or the correlation), `labels` ("same", "contradict", "unknown"), `across` ("train/test
        boundary" if one is in the test set and the other trains or calibrates, "patients", "one patient"), `side`,
        `other_side`.
    """
    near = near_duplicates(cases, signatures, max_distance, min_correlation).assign(check=NEAR)
    near = near.rename(columns={"correlation": "similarity"}).drop(columns="distance")
    return described(pd.concat([marked_exact(cases), near], ignore_index=True), cases)


def marked_exact(cases: pd.DataFrame) -> pd.DataFrame:
    """Pair cases with the same `voxel_hash`, as one kind of pair for `described`."""
    return exact_duplicates(cases).assign(check=EXACT, similarity=1.0)


def described(pairs: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Add patients, labels and sides to pairs of cases; columns as `findings` returns them.

    Parameters
    ----------
    pairs : pandas.DataFrame
        Columns `case`, `other`, `check`, `similarity`; of two rows with the same pair, the first counts.
    cases : pandas.DataFrame
        Columns `case` (unique), `patient`, `label` ("" if unknown), `side`; with `region_hash`, two regions of one scan
        of a patient, such as two lesions, are no duplicates.
    """
    found = pairs.drop_duplicates(["case", "other"])
    of_case = cases.set_index("case")
    for column in ("patient", "label", "side"):
        found[column] = found["case"].map(of_case[column]).astype(str)
        found[f"other_{column}"] = found["other"].map(of_case[column]).astype(str)
    found["labels"] = _labels(found)
    found["across"] = _across(found)
    found = found[(found["check"] == EXACT) | (found["patient"] != found["other_patient"])]
    if REGION_HASH in of_case:
        seen, other_seen = found["case"].map(of_case[REGION_HASH]), found["other"].map(of_case[REGION_HASH])
        found = found[(found["patient"] != found["other_patient"]) | (seen == other_seen)]
    found = found.sort_values(["check", "similarity", "case", "other"], ascending=[True, False, True, True])
    columns = ["check", "case", "patient", "other", "other_patient", "similarity", "labels", "across"]
    return found[[*columns, "side", "other_side"]].reset_index(drop=True)


def _labels(found: pd.DataFrame) -> NDArray[np.str_]:
    unknown = (found["label"] == "") | (found["other_label"] == "")
    return np.where(unknown, "unknown", np.where(found["label"] == found["other_label"], "same", "contradict"))


def _across(found: pd.DataFrame) -> NDArray[np.str_]:
    used = ["development", "calibration"]
    boundary = (found["side"] == "test") & found["other_side"].isin(used)
    boundary |= (found["other_side"] == "test") & found["side"].isin(used)
    people = np.where(found["patient"] != found["other_patient"], "patients", "one patient")
    return np.where(boundary, BOUNDARY, people)


def open_leaks(found: pd.DataFrame, allowed: Sequence[str]) -> pd.DataFrame:
    """Select the harmful duplicates, which must be resolved before training.

    An exact duplicate is harmful if it crosses the train/test boundary or if the labels contradict, a near duplicate
    if both are true. Duplicates between development patients are harmless, because `joined_patients` assigns these
    patients together.

    Parameters
    ----------
    found : pandas.DataFrame
        From `findings`.
    allowed : sequence of str
        Cases or patients that the user acknowledged; naming one of a pair is enough.
    """
    exact, boundary = found["check"] == EXACT, found["across"] == BOUNDARY
    contradict = found["labels"] == "contradict"
    harmful = (exact & (boundary | contradict)) | (boundary & contradict)
    acknowledged = found[["case", "patient", "other", "other_patient"]].isin(list(allowed)).any(axis=1)
    return found[harmful & ~acknowledged]


def joined_patients(cases: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Name the patient group of each case; patients who share a duplicate, directly or indirectly, form one group.

    Returns
    -------
    list of str
        For each case the smallest patient name of its group.
    """
    patient, other = found["patient"].to_numpy(dtype=str), found["other_patient"].to_numpy(dtype=str)
    own = cases["patient"].to_numpy(dtype=str)
    names = np.unique(np.concatenate([own, patient, other]))
    edges = np.searchsorted(names, patient), np.searchsorted(names, other)
    links = coo_array((np.ones(len(found)), edges), shape=(len(names), len(names)))
    _, group = connected_components(links, directed=False)
    _, smallest = np.unique(group, return_index=True)
    return [str(name) for name in names[smallest][group][np.searchsorted(names, own)]]
