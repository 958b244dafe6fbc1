"""The surface of a mask: marching cubes of a binary image, and marching squares in two dimensions.

All corners of the surface lie in the middle between a voxel inside and one outside (the iso-value 0.5), as the Image
Biomarker Standardisation Initiative demands (IBSI reference manual 2019, section 3.1.1). The 256 cases of Lorensen and
Cline (1987) are not a table here but follow from one rule on the six faces of a cube: a line cuts off each run of
corners inside, so that faces of neighbouring cubes agree and the surface is closed. A polygon that is not flat is cut
into triangles so that it encloses the most, which gives the volume and the surface of IBSI's digital phantom.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Corner = tuple[int, ...]

SQUARE: tuple[Corner, ...] = ((0, 0), (1, 0), (1, 1), (0, 1))  # counter-clockwise


@dataclass(frozen=True)
class Mesh:
    """Hold the size of a closed surface, or of a closed outline in two dimensions.

    Attributes
    ----------
    content : float
        Volume in cubic millimetres; of an outline its area in square millimetres.
    boundary : float
        Surface in square millimetres; of an outline its length in millimetres.
    corners : (n, D)
        In millimetres.
    """

    content: float
    boundary: float
    corners: Floats


def mesh_of(inside: Marks, to_mm: Floats) -> Mesh:
    """Measure the surface around the voxels inside.

    Parameters
    ----------
    inside : (X, Y, Z) or (rows, columns) bool
    to_mm : (D, D)
        Steps along the axes in millimetres, one per column: the first rows and columns of an affine.
    """
    count = inside.ndim
    padded = np.pad(inside, 1)
    numbers = padded.astype(np.uint8)
    codes = np.zeros(np.array(padded.shape) - 1, dtype=np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=count)):
        here = tuple(slice(at, at + size) for at, size in zip(corner, codes.shape, strict=True))
        codes |= numbers[here] << np.uint8(bit)
    places = np.argwhere((codes > 0) & (codes < 2 ** (2**count) - 1))
    found = codes[tuple(places.T)]
    pieces = _pieces(count)
    sizes, normals, contents = np.zeros(len(pieces)), np.zeros((len(pieces), count)), np.zeros(len(pieces))
    for code in np.unique(found):
        sizes[code], normals[code], contents[code] = _measured([one @ to_mm.T for one in pieces[code]])
    # By the divergence theorem: each cube adds its own content, and that of its place times its oriented boundary.
    content = contents[found].sum() + ((places @ to_mm.T) * normals[found]).sum() / count
    return Mesh(float(abs(content)), float(sizes[found].sum()), _corners(padded) @ to_mm.T)


def _measured(pieces: list[Floats]) -> tuple[float, Floats, float]:
    """Sum the size, the oriented normal and the enclosed content of simplices, each (D, D), a corner per row."""
    size, normal, content = 0.0, np.zeros(0), 0.0
    for corners in pieces:
        if len(corners) == 3:
            own = np.cross(corners[1] - corners[0], corners[2] - corners[0]) / 2
        else:
            own = (corners[1] - corners[0])[::-1] * np.array([1.0, -1.0])
        size += float(np.linalg.norm(own))
        normal = own if not normal.size else normal + own
        content += float(corners[0] @ own) / len(corners)
    return size, normal, content


def _corners(padded: Marks) -> Floats:
    """List the middles between neighbours of which one is inside."""
    found = []
    for axis in range(padded.ndim):
        middle = np.zeros(padded.ndim)
        middle[axis] = 0.5
        found.append(np.argwhere(np.diff(padded, axis=axis)) + middle)
    return np.concatenate(found)


@cache
def _pieces(count: int) -> tuple[tuple[Floats, ...], ...]:
    """List the oriented triangles (or lines) of every pattern of corners inside a cube (or square) of edge 1."""
    corners = list(product((0, 1), repeat=count))
    found = []
    for code in range(2 ** len(corners)):
        inside = {corner for bit, corner in enumerate(corners) if code >> bit & 1}
        lines = [line for face in _faces(count) for line in _cut_off(face, inside)]
        found.append(tuple(np.array(one) for one in (lines if count == 2 else _triangles(lines))))
    return tuple(found)


def _faces(count: int) -> list[tuple[Corner, ...]]:
    """List the faces of a cube, their corners counter-clockwise as seen from outside; a square is its own face."""
    if count == 2:
        return [SQUARE]
    faces: list[tuple[Corner, ...]] = []
    for axis, side in product(range(3), (0, 1)):
        turned = SQUARE if side else SQUARE[::-1]
        faces.append(tuple(tuple(np.roll((side, *corner), axis).tolist()) for corner in turned))
    return faces


def _cut_off(face: tuple[Corner, ...], inside: set[Corner]) -> list[tuple[Floats, Floats]]:
    """Draw the lines that cut each run of corners inside off a face, from the beginning of the run to its end."""
    lines, count = [], len(face)
    for number in range(count):
        if face[number] in inside and face[(number + 1) % count] not in inside:
            first = number
            while face[first - 1] in inside:
                first -= 1
            ends = [(face[number], face[(number + 1) % count]), (face[first], face[first - 1])]
            last, begin = (np.mean(pair, axis=0) for pair in ends)
            lines.append((begin, last))
    return lines


def _triangles(lines: list[tuple[Floats, Floats]]) -> list[Floats]:
    """Join lines to closed polygons, and cut these into triangles, each (3, 3)."""
    following = {tuple(begin): tuple(end) for begin, end in lines}
    found = []
    while following:
        polygon = [next(iter(following))]
        while (corner := following.pop(polygon[-1])) != polygon[0]:
            polygon.append(corner)
        fans = [_fan(polygon[number:] + polygon[:number]) for number in range(len(polygon))]
        found += max(fans, key=lambda fan: round(sum(np.linalg.det(one) for one in fan), 9))
    return found


def _fan(polygon: list[Corner]) -> list[Floats]:
    """Cut a polygon into triangles that all have its first corner."""
    first, *others = polygon
    return [np.array([first, one, other]) for one, other in pairwise(others)]
