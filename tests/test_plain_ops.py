"""When a pool may write over its input."""

import numpy as np
import pytest
from operator_models import pool

from scalpel_tf.deploy import plain_ops, tflite


def overtaken(operator, x, y):
    """Whether an output lies over a pixel that a later output reads, looked at one by one."""
    (rows, columns), (height, width) = x.shape[1:3], operator.options["filter"]
    pads = plain_ops.pads_of(operator, x, (height, width))
    strides = operator.options["stride"]
    seen = {}
    for place in np.ndindex(*y.shape[1:3]):
        top, left = (i * s - p for i, s, p in zip(place, strides, pads, strict=True))
        seen[place] = {
            i * columns + j
            for i in range(max(top, 0), min(top + height, rows))
            for j in range(max(left, 0), min(left + width, columns))
        }
    numbers = list(seen.values())
    return any(n in pixels for n in range(len(numbers)) for pixels in numbers[n + 1 :])


@pytest.mark.parametrize(
    "size, filter, stride, padding, expected",
    [
        ((8, 8), (2, 2), (2, 2), "VALID", True),
        ((32, 32), (3, 3), (2, 2), "SAME", True),
        ((5, 5), (3, 3), (2, 2), "SAME", True),  # padded, and yet behind what is read
        ((6, 6), (3, 3), (1, 1), "VALID", True),
        ((6, 6), (3, 3), (1, 1), "SAME", False),
        ((6, 6), (1, 1), (1, 1), "SAME", True),
        ((6, 7), (3, 1), (1, 1), "SAME", False),
        ((7, 6), (1, 3), (1, 2), "SAME", True),
        ((7, 6), (1, 3), (1, 1), "SAME", False),
        ((1, 9), (1, 4), (1, 3), "SAME", True),
    ],
)
def test_never_overtakes(size, filter, stride, padding, expected):
    network = tflite.read(pool("MAX", (*size, 3), filter, stride, padding))
    (operator,) = network.operators
    x, y = network.tensors[operator.inputs[0]], network.tensors[operator.outputs[0]]
    assert plain_ops.never_overtakes(operator, x, y) == expected
    assert not (expected and overtaken(operator, x, y))
