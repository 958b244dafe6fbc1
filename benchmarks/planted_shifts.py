"""Scanner shifts that are planted in prepared images, each in three severities; the same draws in every run."""

import zlib
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
import torchio
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]  # (P, H, W), grey values from 0 to 255
Shift = Callable[[Image, int, np.random.Generator], Image]  # the severity is 0, 1 or 2
TOGETHER = "together"
DEPTH = 25


def gamma(image: Image, severity: int, rng: np.random.Generator, darker: bool) -> Image:
    exponent = (1.5, 2.0, 3.0)[severity]
    return 255 * (image / 255) ** (exponent if darker else 1 / exponent)


def contrast(image: Image, severity: int, rng: np.random.Generator) -> Image:
    mean = image.mean()
    return mean + (image - mean) * (0.75, 0.5, 0.33)[severity]


def window(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Show a narrower range of grey values."""
    share = (0.1, 0.2, 0.3)[severity]
    return (image - 255 * share) / (1 - 2 * share)


def resolution(image: Image, severity: int, rng: np.random.Generator) -> Image:
    height, width = image.shape[1:]
    small = (max(width // (2 + severity), 2), max(height // (2 + severity), 2))
    coarse = [cv2.resize(plane, small, interpolation=cv2.INTER_AREA) for plane in image]
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in coarse])


def blur(image: Image, severity: int, rng: np.random.Generator) -> Image:
    sigma = 1.0 + severity
    return ndimage.gaussian_filter(image, (0, sigma, sigma))


def noise(image: Image, severity: int, rng: np.random.Generator) -> Image:
    return image + rng.normal(0, 255 * (0.05, 0.1, 0.15)[severity], image.shape)


def of_torchio(image: Image, severity: int, rng: np.random.Generator, transform: Callable[..., Callable]) -> Image:
    """Apply a random transform of TorchIO to each plane, as the middle of a volume of equal slices; keep the mean."""
    seed = int(rng.integers(2**31))
    found = []
    for plane in image:
        torch.manual_seed(seed)
        volume = torch.from_numpy(np.repeat(plane[None], DEPTH, axis=0).astype(np.float32))[None]
        found.append(transform(severity)(volume)[0, DEPTH // 2].numpy())
    moved = np.stack(found)
    return moved * (image.mean() / max(moved.mean(), 1e-6))


def bias_field(severity: int) -> Callable:
    return torchio.RandomBiasField(coefficients=((0.3, 0.5, 0.8)[severity],) * 2)


def motion(severity: int) -> Callable:
    pixels = (2, 5, 10)[severity]
    return torchio.RandomMotion(degrees=0, translation=pixels, num_transforms=4)


def ghosting(severity: int) -> Callable:
    return torchio.RandomGhosting(num_ghosts=4, axes=(1,), intensity=((0.3, 0.6, 0.9)[severity],) * 2)


def jpeg(image: Image, severity: int, rng: np.random.Generator) -> Image:
    def coded(plane: Image) -> Image:
        _, code = cv2.imencode(".jpg", plane.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)

    quality = (40, 15, 6)[severity]
    return np.stack([coded(plane) for plane in image])


def borders(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Shrink the image and put black borders around it."""
    height, width = image.shape[1:]
    edge = round(min(height, width) * (0.05, 0.1, 0.15)[severity])
    shape = (width - 2 * edge, height - 2 * edge)
    small = np.stack([cv2.resize(plane, shape, interpolation=cv2.INTER_AREA) for plane in image])
    return np.pad(small, ((0, 0), (edge, edge), (edge, edge)))


def polarity(image: Image, severity: int, rng: np.random.Generator) -> Image:
    return 255 - image


def together(image: Image, severity: int, rng: np.random.Generator) -> Image:
    """Change gamma, contrast, resolution and noise in one image."""
    coarse = resolution(contrast(gamma(image, severity, rng, darker=True), severity, rng), 0, rng)
    return noise(coarse, severity, rng)


SHIFTS: dict[str, Shift] = {
    "gamma up": partial(gamma, darker=True),
    "gamma down": partial(gamma, darker=False),
    "contrast": contrast,
    "window": window,
    "resolution": resolution,
    "blur": blur,
    "noise": noise,
    "bias field": partial(of_torchio, transform=bias_field),
    "motion": partial(of_torchio, transform=motion),
    "ghosting": partial(of_torchio, transform=ghosting),
    "JPEG": jpeg,
    "borders": borders,
    "polarity": polarity,
    TOGETHER: together,
}


def shifted(channels: NDArray[np.uint8], shift: str, severity: int, case: str) -> NDArray[np.uint8]:
    """Return the shifted channels (P, H, W) of a case, rounded to 0 to 255."""
    rng = np.random.default_rng(zlib.crc32(f"{shift} {severity} {case}".encode()))
    found = SHIFTS[shift](channels.astype(np.float32), severity, rng)
    return found.clip(0, 255).round().astype(np.uint8)
