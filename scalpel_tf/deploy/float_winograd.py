"""Dense 3x3 and 5x5 convolutions by tiles of two by two outputs (Lavin and Gray, CVPR 2016).

A tile of the image and a filter are polynomials; their product is known from its values at as many
points as it has coefficients. With 1 and 2 as the pairs of six, float32 would lose four times as
much as with these, with which it loses what plain sums lose; Barabasz et al. (ACM TOMS 2020) have
the reasons. float_points.h has the other two transformations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalpel_tf.deploy import float_formats as formats
from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_geometry import Geometry
from scalpel_tf.deploy.float_params import LIMITS, border, panels

PAIRS = {4: (1,), 6: (3 / 4, 3 / 2), 8: (1 / 2, 1, 7 / 4)}  # by pixels; beside 0 and infinity
FILTERS = 3, 5
OUTPUTS = 2  # of a tile, along each axis
ROUND = 14  # pixels of a tile of a dense product
LINE = 16  # floats of a cache line
NEAR = 120_000  # floats of tiles and products, half of a second-level cache


@dataclass(frozen=True)
class Tiles:
    """tiles: (floats from x to the first pixel, number of the first pixel of y).

    size: pixels of x along an axis, and so the points.  depth: channels of x.  block: how many
    tiles are worked on at a time.  stride: floats of one tile at one point.  padded: floats of the
    padded image, in whole cache lines.
    """

    tiles: np.ndarray
    size: int
    depth: int
    block: int
    stride: int
    padded: int

    @property
    def places(self) -> np.ndarray:
        """Where the tiles of a block begin, at each point."""
        return np.arange(self.block, dtype=np.int32) * self.stride

    @property
    def scratch(self) -> int:
        """Floats of a block of tiles and of a panel's products, of which whole vectors are read."""
        return self.size**2 * self.block * (self.stride + formats.PANEL) + LINE


def fits(options: dict, filter: tuple[int, int], shape: Geometry) -> bool:
    """Whether a convolution can go by tiles."""
    square = filter[0] == filter[1] and filter[0] in FILTERS
    steps = {*options["stride"], *options["dilation"]}
    return square and steps == {1} and min(shape.pixels.shape) >= OUTPUTS


def tiles(shape: Geometry, depth: int, filter: int) -> Tiles:
    """Of an image with `depth` channels; the last ones slide back over their neighbours."""
    starts = [np.minimum(np.arange(0, n, OUTPUTS), n - OUTPUTS) for n in shape.pixels.shape]
    pixels = np.arange(shape.pixels.size).reshape(shape.pixels.shape)
    numbers = pixels[np.ix_(*starts)].ravel()
    size = filter + OUTPUTS - 1
    stride = LINE * (-(-depth // LINE) | 1)  # odd, so that neighbours lie in all sets of a cache
    most = NEAR // (size**2 * (stride + formats.PANEL))
    return Tiles(
        tiles=np.stack([shape.pixels.ravel()[numbers], numbers], 1).astype(np.int32),
        size=size,
        depth=depth,
        block=min(max(most // ROUND, 1) * ROUND, len(numbers)),
        stride=stride,
        padded=-(-shape.scratch // (4 * LINE)) * LINE,
    )


def weights(filters: np.ndarray, bias: np.ndarray, groups: int) -> formats.Dense:
    """(out, height, width, seen) filters at every point."""
    height, width, seen = filters.shape[1:]
    size = width + OUTPUTS - 1
    transform = evaluation(size, width)
    points = np.einsum("ik,oklc,jl->ijoc", transform, filters.astype(np.float64), transform)
    share = constant(size, OUTPUTS)
    biases = np.outer(share, share).reshape(-1, 1) * bias
    return at_points(points.reshape(size * size, len(filters), seen), biases, groups, seen)


def at_points(points, biases, groups: int, seen: int) -> formats.Dense:
    """(points, rows, cols) matrices and (points, rows) biases; a panel's points follow one another.

    seen: as in `formats.dense`.
    """
    packed = [
        formats.dense(matrix, bias, groups, seen)
        for matrix, bias in zip(points, biases, strict=True)
    ]
    ends = np.cumsum([panel.width * (1 + points.shape[2]) for panel in packed[0].panels])[:-1]
    split = [np.split(point.weights, ends) for point in packed]
    together = [part for panel in zip(*split, strict=True) for part in panel]
    return formats.Dense(np.concatenate(together), packed[0].panels)


def evaluation(size: int, filter: int) -> np.ndarray:
    """(size, filter): a filter's values at the points, over what those of `size` pixels are to be
    divided by, and its last coefficient, which is the value at infinity."""
    points = _points(size)
    apart = points[:, None] - points
    np.fill_diagonal(apart, 1)
    values = points[:, None] ** np.arange(filter) / apart.prod(1, keepdims=True)
    return np.vstack([values, np.eye(filter)[-1:]])


def constant(size: int, outputs: int) -> np.ndarray:
    """(size,): what is to be added to the products for one more in each output."""
    powers = _points(size) ** np.arange(outputs)[:, None]
    to_outputs = np.hstack([powers, np.eye(outputs)[:, -1:]])
    return np.linalg.lstsq(to_outputs, np.ones(outputs), rcond=None)[0]


def _points(size):
    return np.array([0, *(sign * point for point in PAIRS[size] for sign in (1, -1))], np.float64)


def definition(symbol, packed, tiles: Tiles, filters, shape: Geometry, operator, constants) -> str:
    """Of a scalpel_winograd."""
    out, _, _, seen = filters.shape
    text, address = border(symbol, shape)
    panel_text, name = panels(symbol, packed, tiles.size**2 * (1 + seen))
    low, high = LIMITS[operator.options["activation"]]
    text += panel_text
    return text + params(
        symbol,
        "scalpel_winograd",
        weights=constants.add(packed.weights),
        panels=name,
        tiles=constants.add(tiles.tiles),
        places=constants.add(tiles.places),
        border=address,
        padded=tiles.padded,
        row=int(shape.pixels[1, 0] - shape.pixels[0, 0]),
        out_width=shape.pixels.shape[1],
        channels=out,
        depth=tiles.depth,
        stride=tiles.stride,
        size=tiles.size,
        panel_count=len(packed.panels),
        tile_count=len(tiles.tiles),
        block=tiles.block,
        run=seen,
        low=low,
        high=high,
    )
