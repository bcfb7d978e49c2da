"""int8 convolutions on x86-64 that skip zeros, a word of four weights at a time.

A word meets four bytes of each of many neighbouring pixels. Those lie side by side in planes: one
for every place within a pixel where words begin (int8_planes.h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.native_rows import LANES, STEP

SLACK, PLANES_SLACK = 64, 512  # bytes, as in scalpel_int8.h


@dataclass(frozen=True)
class Planes:
    """The words of a convolution's weights that are not 0.

    words: (n, 4) int8.  offsets: (n,), in words, to what a word meets for the first pixel.  ends:
    of each output channel's words.  places: (planes,), bytes within a pixel.  positions: of the
    padded image.  out: rows and columns of y.  total: words with those of zeros.
    """

    words: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    places: np.ndarray
    depth: int
    width: int
    positions: int
    out: tuple[int, int]
    total: int

    @classmethod
    def of(cls, weights: np.ndarray, taps: np.ndarray, image, out) -> Planes:
        """weights: (channels, taps, run) int8.  taps: bytes from a pixel to each run.  image: as
        Geometry.border.  out: rows and columns of y, whose pixels are one position apart."""
        channels, _, run = weights.shape
        depth, height, width = image[2], *image[5:7]
        steps = -(-run // STEP)
        padded = np.zeros((*weights.shape[:2], steps * STEP), np.int8)
        padded[:, :, :run] = weights
        words = padded.reshape(channels, -1, STEP)
        begin = (np.asarray(taps)[:, None] + STEP * np.arange(steps)).ravel()
        kept = words.any(-1)
        places, plane = np.unique((begin % depth)[kept.any(0)], return_inverse=True)
        number = np.zeros(begin.size, np.int64)
        number[kept.any(0)] = plane
        offsets = number * (height * width) + begin // depth
        return cls(
            words=words[kept],
            offsets=np.broadcast_to(offsets, kept.shape)[kept].astype(np.int32),
            ends=np.cumsum(kept.sum(1)).astype(np.int32),
            places=places.astype(np.int32),
            depth=depth,
            width=width,
            positions=height * width,
            out=tuple(out),
            total=kept.size,
        )

    @property
    def density(self) -> float:
        return len(self.words) / self.total

    @property
    def size(self) -> int:
        """Bytes of what is stored of the weights."""
        return self.words.nbytes + self.offsets.nbytes + self.ends.nbytes

    @property
    def begin(self) -> int:
        """Where the planes begin in the scratch, behind the padded image."""
        return -(-(self.positions * self.depth + SLACK) // 64) * 64

    @property
    def scratch(self) -> int:
        return self.begin + 4 * self.positions * len(self.places) + PLANES_SLACK

    @property
    def cost(self) -> float:
        """Cycles with AVX-512."""
        channels, (rows, columns) = len(self.ends), self.out
        vectors = -(-((rows - 1) * self.width + columns) // LANES)
        multiplied = vectors * (1.05 * len(self.words) + 16 * channels)
        return multiplied + 0.6 * channels * rows * columns + self.positions * len(self.places)

    def text(self, symbol: str, constants: Constants, fields: dict, by_row: dict) -> str:
        """The definition of its parameters; fields, by_row: as of `Rows.text`."""
        return params(
            symbol,
            "scalpel_int8_planes",
            weights=constants.add(self.words),
            offsets=constants.add(self.offsets),
            ends=constants.add(self.ends),
            bytes=constants.add(self.places),
            planes=len(self.places),
            out_height=self.out[0],
            out_width=self.out[1],
            words=self.begin,
            channels=len(self.ends),
            **fields,
            **{name: constants.add(values) for name, values in by_row.items()},
        )
