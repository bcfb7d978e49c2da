"""Dense 3x3 and 5x5 convolutions of few channels by tiles of one by four outputs: as in
float_winograd.py, but along lines only, so that a product has all lines of a filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalpel_tf.deploy import float_formats as formats
from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_geometry import Geometry
from scalpel_tf.deploy.float_params import LIMITS, border, panels
from scalpel_tf.deploy.float_winograd import FILTERS, LINE, at_points, constant, evaluation

OUTPUTS = 4
NEAR = 4096  # floats of products, half of a first-level cache


@dataclass(frozen=True)
class Lines:
    """tiles: the first output of each, in a line.

    size: pixels of a tile in a line of x, and so the points.  lines: of x, with those that pad it.
    block: how many of y are worked on at a time.  padded: floats of the padded image.
    """

    tiles: np.ndarray
    size: int
    lines: int
    depth: int
    block: int
    padded: int

    @property
    def places(self) -> np.ndarray:
        """Where the tiles of a block begin, at each point."""
        tile = np.arange(len(self.tiles)) * self.lines * self.depth
        line = np.arange(self.block)[:, None] * self.depth
        return (line + tile).ravel().astype(np.int32)

    @property
    def values(self) -> int:
        """Floats of all tiles at all points."""
        return self.size * (len(self.tiles) * self.lines * self.depth + LINE)

    @property
    def scratch(self) -> int:
        """The same, and those of a panel's products, of which whole vectors are read."""
        return self.values + self.size * self.places.size * formats.PANEL + LINE


def fits(options: dict, filter: tuple[int, int], groups: int, shape: Geometry) -> bool:
    """Whether a convolution can go by such tiles."""
    square = filter[0] == filter[1] and filter[0] in FILTERS and groups == 1
    steps = {*options["stride"], *options["dilation"]}
    height, width = shape.pixels.shape
    return square and steps == {1} and height > 1 and width >= OUTPUTS


def lines(shape: Geometry, depth: int, filter: int) -> Lines:
    """Of an image with `depth` channels; the last tile slides back over its neighbour."""
    height, width = shape.pixels.shape
    size = filter + OUTPUTS - 1
    tiles = np.minimum(np.arange(0, width, OUTPUTS), width - OUTPUTS).astype(np.int32)
    return Lines(
        tiles=tiles,
        size=size,
        lines=height + filter - 1,
        depth=depth,
        block=min(max(NEAR // (size * formats.PANEL * len(tiles)), 1), height),
        padded=-(-shape.scratch // (4 * LINE)) * LINE,
    )


def weights(filters: np.ndarray, bias: np.ndarray) -> formats.Dense:
    """(out, height, width, channels) filters at every point."""
    out, height, width, depth = filters.shape
    size = width + OUTPUTS - 1
    points = np.einsum("ik,olkc->iolc", evaluation(size, width), filters.astype(np.float64))
    biases = constant(size, OUTPUTS)[:, None] * bias
    return at_points(points.reshape(size, out, height * depth), biases, 1, depth)


def definition(symbol, packed, lines: Lines, filters, shape: Geometry, operator, constants) -> str:
    """Of a scalpel_winograd_lines."""
    out, height, _, depth = filters.shape
    text, address = border(symbol, shape)
    panel_text, name = panels(symbol, packed, lines.size * (1 + height * depth))
    low, high = LIMITS[operator.options["activation"]]
    text += panel_text
    return text + params(
        symbol,
        "scalpel_winograd_lines",
        weights=constants.add(packed.weights),
        panels=name,
        tiles=constants.add(lines.tiles),
        places=constants.add(lines.places),
        border=address,
        padded=lines.padded,
        values=lines.values,
        row=int(shape.pixels[1, 0] - shape.pixels[0, 0]),
        out_width=shape.pixels.shape[1],
        channels=out,
        depth=depth,
        size=lines.size,
        panel_count=len(packed.panels),
        tile_count=len(lines.tiles),
        lines=lines.lines,
        out_height=shape.pixels.shape[0],
        block=lines.block,
        run=height * depth,
        low=low,
        high=high,
    )
