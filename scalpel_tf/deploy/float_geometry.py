"""What each output pixel of a convolution looks at: offsets, in floats, into an NHWC image."""

from dataclasses import dataclass

import numpy as np

from scalpel_tf.deploy.int8 import window
from scalpel_tf.deploy.tflite import Operator, Tensor

STRIP = 8


@dataclass(frozen=True)
class Geometry:
    """A convolution of one image.

    border: (height, width, channels, top, left, padded height, padded width), None where the image
    is looked at where it lies.  taps: offset of every run of `run` floats from a pixel's own.
    pixels: (out height, out width), offset of every output pixel.  step: from one to the next.
    """

    border: tuple[int, ...] | None
    taps: np.ndarray
    run: int
    pixels: np.ndarray
    step: int

    @property
    def scratch(self) -> int:
        """Bytes of the padded image."""
        return 0 if self.border is None else 4 * self.border[2] * self.border[5] * self.border[6]

    def strips(self) -> tuple[np.ndarray, int]:
        """((offset, pixel) of strips of neighbouring pixels that cover all, pixels of a strip)."""
        height, width = self.pixels.shape
        flat = self.pixels.ravel()
        if height > 1 and (np.diff(flat) == self.step).all():  # all pixels are one row
            height, width = 1, height * width
        length = min(range(1, min(STRIP, width) + 1), key=lambda n: (-(-width // n) * (n + 1), -n))
        first = np.minimum(np.arange(0, width, length), width - length)
        numbers = (width * np.arange(height)[:, None] + first).ravel()
        return np.stack([flat[numbers], numbers], 1).astype(np.int32), length


def geometry(operator: Operator, x: Tensor, filter, channels: int) -> Geometry:
    """Of CONV_2D or DEPTHWISE_CONV_2D. channels: those of a pixel that one output channel sees."""
    height, width, depth = x.shape[1:]
    options = operator.options
    strides, dilations = options["stride"], options["dilation"]
    out, before, padded = [], [], []
    for axis, size in enumerate((height, width)):
        count, zeros = window(
            size, filter[axis], strides[axis], dilations[axis], options["padding"]
        )
        reach = (filter[axis] - 1) * dilations[axis] + 1
        out.append(count)
        before.append(zeros)
        padded.append(max(zeros + size, (count - 1) * strides[axis] + reach))
    border = None
    if padded != [height, width]:
        border = (height, width, depth, *before, *padded)
    row = padded[1] * depth
    down = np.arange(filter[0]) * dilations[0] * row
    if channels == depth and dilations[1] == 1:
        taps, run = down, filter[1] * depth
    else:
        taps = (down[:, None] + np.arange(filter[1]) * dilations[1] * depth).ravel()
        run = channels
    if (np.diff(taps) == run).all():
        taps, run = taps[:1], run * len(taps)
    pixels = np.arange(out[0])[:, None] * strides[0] * row
    pixels = pixels + np.arange(out[1]) * strides[1] * depth
    return Geometry(border, taps.astype(np.int32), run, pixels.astype(np.int32), strides[1] * depth)
