"""Real layers by their shapes, with random sparse weights and a float64 reference."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import paired
from cpu_ours import random_matrix

from scalpel_tf.core import gcsr
from scalpel_tf.deploy import kernels as scalpel

SHAPES = Path(__file__).parent / "shapes"
POSITIONS = 40  # of a convolution's outputs, held against float64; all units at each


@dataclass(frozen=True)
class Shape:
    """A line of shapes/*.json: a Dense layer, or a Conv2D where there is a kernel size."""

    network: str
    name: str
    input: tuple[int, ...]
    units: int
    times: int
    kernel_size: tuple[int, int] | None = None
    strides: tuple[int, int] = (1, 1)
    padding: str = "valid"
    note: str = ""

    @property
    def cols(self) -> int:
        return math.prod(self.kernel_size or ()) * self.input[-1]

    @property
    def geometry(self) -> dict:
        """The arguments that Keras, the kernels and this package's layers share."""
        return {
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


def read(network: str) -> list[Shape]:
    """The layers of shapes/<network>.json."""
    data = json.loads((SHAPES / f"{network}.json").read_text())
    return [
        Shape(
            data["network"],
            **{key: tuple(v) if isinstance(v, list) else v for key, v in layer.items()},
        )
        for layer in data["layers"]
    ]


@dataclass(frozen=True)
class Layer:
    """A shape with weights, a bias and ReLU, and a batch of inputs. matrix: (units, cols), rows in
    the order (height, width, channel)."""

    shape: Shape
    matrix: np.ndarray
    bias: np.ndarray
    x: np.ndarray
    width: int

    @cached_property
    def sparse(self) -> gcsr.GroupedCSR:
        return gcsr.encode(self.matrix, self.width)

    @cached_property
    def conv(self):
        """The C struct of a convolution."""
        return scalpel.conv(self.sparse, self.x.shape, **self.shape.geometry)

    @property
    def kernel(self) -> np.ndarray:
        """The weights as Keras has them."""
        kernel = np.ascontiguousarray(self.matrix.T)
        if not self.shape.kernel_size:
            return kernel
        return kernel.reshape(*self.shape.kernel_size, self.shape.input[-1], -1)


def random_layer(shape: Shape, batch: int, density: float, width: int) -> Layer:
    rng = np.random.default_rng(0)
    matrix = random_matrix(shape.units, shape.cols, density, width, rng)
    bias = rng.random(shape.units, np.float32) - np.float32(0.5)
    return Layer(shape, matrix, bias, rng.random((batch, *shape.input), np.float32), width)


def check(layer: Layer, alternatives: list[paired.Alternative]) -> None:
    """RuntimeError where a result is further from float64 than float32 sums explain; convolutions
    at their corners and at random positions."""
    rows = layer.x
    places = ...
    if layer.shape.kernel_size:
        places = _places(layer)
        rows = np.stack([_patch(layer, *place) for place in zip(*places, strict=True)])
    rows, w = rows.astype(np.float64), layer.matrix.astype(np.float64)
    expected = np.maximum(rows @ w.T + layer.bias, 0)
    magnitude = np.abs(rows) @ np.abs(w).T + np.abs(layer.bias)
    tolerance = paired.rounding(layer.shape.cols + 1, magnitude)
    for each in alternatives:
        result = each.result()[places]
        sampled = paired.Alternative(each.name, each.threads, each.run, lambda y=result: y)
        paired.check([sampled], expected, tolerance)


def _places(layer):
    """Image, row and column of the outputs to look at."""
    sizes = (len(layer.x), layer.conv.out_height, layer.conv.out_width)
    rng = np.random.default_rng(1)
    corners = [(0, 0, 0), tuple(size - 1 for size in sizes), (0, 0, sizes[2] - 1)]
    chosen = corners + [tuple(int(rng.integers(size)) for size in sizes) for _ in range(POSITIONS)]
    return tuple(np.array(axis) for axis in zip(*chosen, strict=True))


def _patch(layer, image, row, column):
    """The inputs of one output, zeros outside the image, in the order of the matrix' rows."""
    conv = layer.conv
    patch = np.zeros((conv.kernel_height, conv.kernel_width, conv.channels), np.float32)
    for i in range(conv.kernel_height):
        for j in range(conv.kernel_width):
            y = row * conv.stride_height - conv.pad_top + i
            x = column * conv.stride_width - conv.pad_left + j
            if 0 <= y < conv.in_height and 0 <= x < conv.in_width:
                patch[i, j] = layer.x[image, y, x]
    return patch.ravel()
