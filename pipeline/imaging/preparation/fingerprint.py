"""Fingerprints of a prepared case: an exact hash, a perceptual hash, a thumbnail, a signature."""

import base64
import hashlib
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Channels = NDArray[np.uint8]

QUANTILES = (1, 5, 25, 50, 75, 95, 99)
REGION_HASH = "region_hash"  # column: the hash of a case as its mask leaves it, where masks have a part


def middle_channel(channels: Channels) -> Channels:
    """Take the middle channel of a volume; average the channels if there are three.

    Parameters
    ----------
    channels : (C, H, W) uint8
    """
    if channels.shape[0] == 3:
        return np.asarray(channels.mean(axis=0).astype(np.uint8))
    channel: Channels = channels[channels.shape[0] // 2]
    return channel


def voxel_hash(channels: Channels) -> str:
    """Hash the decoded values and their shape (SHA-256), so that re-encoded duplicates are found."""
    return hashlib.sha256(repr(channels.shape).encode() + np.ascontiguousarray(channels).tobytes()).hexdigest()


def perceptual_hash(channels: Channels) -> str:
    """Compute a hash of 16 hexadecimal digits that changes little when the image changes little.

    Each bit tells whether one of the 8 x 8 lowest frequencies of a 32 x 32 discrete cosine transform is above their
    median (Zauner 2010, section 3.2.1).
    """
    from scipy.fft import dctn  # not above: `split` reads signatures only

    small = Image.fromarray(middle_channel(channels)).resize((32, 32), Image.Resampling.BILINEAR)
    low = np.asarray(dctn(np.asarray(small, dtype=np.float64), norm="ortho"))[:8, :8].ravel()
    bits = low > np.median(low)
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def thumbnail(channels: Channels, edge: int = 96) -> str:
    """Shrink the middle channel to `edge` pixels, as PNG in base64."""
    image = Image.fromarray(middle_channel(channels))
    image.thumbnail((edge, edge))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def signature(channels: Channels, edge: int = 32) -> str:
    """Shrink three channels of a volume, or an image, to `edge` pixels: base64 of 1 or 3 x edge x edge bytes.

    The correlation of signatures finds duplicates that were scaled, shaded or compressed again.
    """
    chosen = [middle_channel(channels)]
    if channels.shape[0] > 3:
        chosen = [channels[round(share * (channels.shape[0] - 1))] for share in (0.25, 0.5, 0.75)]
    small = [np.asarray(Image.fromarray(channel).resize((edge, edge), Image.Resampling.BOX)) for channel in chosen]
    return base64.b64encode(np.stack(small).tobytes()).decode()


def read_signatures(column: Sequence[str]) -> NDArray[np.float32]:
    """Decode signatures, one row per case: (n, d)."""
    rows = [np.frombuffer(base64.b64decode(text), dtype=np.uint8) for text in column]
    return np.stack(rows).astype(np.float32)


def intensity_statistics(channels: Channels) -> dict[str, float]:
    """Describe the grey values of a prepared case, by which a scanner may be recognised."""
    values = channels.astype(np.float32)
    shares = np.percentile(values, QUANTILES)
    names = [f"intensity_p{quantile}" for quantile in QUANTILES]
    return {
        "intensity_mean": round(float(values.mean()), 4),
        "intensity_sd": round(float(values.std()), 4),
        "intensity_black": round(float((channels == 0).mean()), 4),
        **{name: float(share) for name, share in zip(names, shares, strict=True)},
    }
