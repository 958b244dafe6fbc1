"""Random transforms of MONAI, applied to channels in a few passes over the pixels.

They draw; what is drawn is applied here, as MONAI's own calls spend most of their time on conversions between types, on
grids of double precision, and on noise from a slow generator.
"""

import math
from functools import cache, reduce, singledispatch
from itertools import pairwise

import numpy as np
import torch
from monai.transforms import (
    RandAdjustContrast,
    RandAffine,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandomizableTransform,
    RandScaleIntensity,
    create_rotate,
    create_scale,
    create_shear,
    create_translate,
)
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-7  # as MONAI's AdjustContrast
TAIL = 4.0  # standard deviations; as its GaussianFilter


@singledispatch
def drawn(transform: RandomizableTransform, image: Tensor) -> Tensor:
    """Let a transform draw its numbers, and apply them.

    Parameters
    ----------
    transform : RandomizableTransform
        Of MONAI. It draws whatever is drawn but the noise, whose seed it draws, and holds it afterwards.
    image : (C, H, W) float32 Tensor
        Plain, on the processor; not changed.

    Returns
    -------
    (C, H, W) float32 Tensor
        What `transform(image, randomize=False)` gives for the same numbers, but for rounding; `image` itself where the
        transform drew that nothing is to be done. Transforms that are not named here are called as they are.
    """
    return torch.as_tensor(transform(image))


@drawn.register
def _(transform: RandAffine, image: Tensor) -> Tensor:
    transform.randomize()
    if not transform._do_transform:
        return image
    height, width = image.shape[1:]
    (yy, yx, y), (xy, xx, x) = _from_view_to_image(transform) * np.array([[2 / height], [2 / width]])
    rows = torch.arange(height, dtype=torch.float32)[:, None] - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    grid = torch.empty(1, height, width, 2)
    torch.add(columns * xx, rows * xy + x, out=grid[0, ..., 0])
    torch.add(columns * yx, rows * yy + y, out=grid[0, ..., 1])
    return functional.grid_sample(image[None], grid, padding_mode=transform.padding_mode, align_corners=False)[0]


@drawn.register
def _(transform: RandAdjustContrast, image: Tensor) -> Tensor:
    transform.randomize()
    if not transform._do_transform:
        return image
    low, high = (float(value) for value in image.aminmax())
    return image.sub(low).div_(high - low + EPSILON).pow_(transform.gamma_value).mul_(high - low).add_(low)


@drawn.register
def _(transform: RandScaleIntensity, image: Tensor) -> Tensor:
    transform.randomize(image)
    return image * (1 + torch.tensor(transform.factor).reshape(-1, 1, 1)) if transform._do_transform else image


@drawn.register
def _(transform: RandBiasField, image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    transform.randomize((height, width))
    if not transform._do_transform:
        return image
    weights = np.zeros((transform.degree + 1, transform.degree + 1))
    weights[np.tril_indices(transform.degree + 1)] = transform._coeff
    field = _legendre(height, transform.degree) @ weights @ _legendre(width, transform.degree).T
    return image * torch.from_numpy(field).float().exp_()


@drawn.register
def _(transform: RandGaussianSmooth, image: Tensor) -> Tensor:
    transform.randomize()
    return _blurred(_blurred(image, transform.x, 1), transform.y, 2) if transform._do_transform else image


@drawn.register
def _(transform: RandGaussianNoise, image: Tensor) -> Tensor:
    RandomizableTransform.randomize(transform, None)  # its own would draw the noise at once
    if not transform._do_transform:
        return image
    std = transform.R.uniform(0, transform.std) if transform.sample_std else transform.std
    generator = torch.Generator().manual_seed(int(transform.R.randint(2**31)))
    noise = torch.randn(image.shape, generator=generator).mul_(std).add_(transform.mean)
    transform.noise = noise.numpy()
    return image + noise


def _from_view_to_image(transform: RandAffine) -> NDArray[np.float64]:
    """Build the matrix (2, 3) from (row, column, 1) to (row, column), both in pixels from the centre."""
    numbers = transform.rand_affine_grid
    steps = (
        (create_rotate, numbers.rotate_params),
        (create_shear, numbers.shear_params),
        (create_translate, numbers.translate_params),
        (create_scale, numbers.scale_params),
    )
    matrices = (np.asarray(create(2, given)) for create, given in steps if given)
    return reduce(np.matmul, matrices, np.eye(3))[:2]


@cache
def _legendre(size: int, degree: int) -> NDArray[np.float64]:
    return np.asarray(np.polynomial.legendre.legvander(np.linspace(-1, 1, size), degree), dtype=np.float64)


def _blurred(image: Tensor, sigma: float, axis: int) -> Tensor:
    """Blur along one axis: shifted images are added up, as there is nothing to add beyond the border."""
    kernel, size = _half_a_kernel(sigma), image.shape[axis]
    blurred = image * kernel[0]
    for step, weight in enumerate(kernel[1:size], start=1):
        left = size - step
        blurred.narrow(axis, 0, left).add_(image.narrow(axis, step, left), alpha=weight)
        blurred.narrow(axis, step, left).add_(image.narrow(axis, 0, left), alpha=weight)
    return blurred


def _half_a_kernel(sigma: float) -> list[float]:
    """Integrate a Gaussian over each pixel, from the middle one to the tail."""
    reach = int(max(sigma * TAIL, 0.5) + 0.5)
    edges = [math.erf((step - 0.5) / (sigma * math.sqrt(2))) for step in range(reach + 2)]
    return [(after - before) / 2 for before, after in pairwise(edges)]
