"""Operators that only move bytes: each is copies of a view of the input into a view of the output.

CONCATENATION, PAD, PADV2, TRANSPOSE, SLICE, STRIDED_SLICE, TILE
"""

import math

import numpy as np

from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.shapes import slices
from scalpel_tf.deploy.tflite import Model, Operator

AXES = 4


def concatenation(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """CONCATENATION: every input goes to its own part of the output."""
    tensors = [model.tensors[i] for i in operator.inputs]
    y = model.tensors[operator.outputs[0]]
    axis = operator.options["axis"] % len(y.shape)
    whole, copies, start = _numbered(y.shape), [], 0
    for tensor in tensors:
        end = start + tensor.shape[axis]
        part = whole[(slice(None),) * axis + (slice(start, end),)]
        copies.append((_numbered(tensor.shape), part))
        start = end
    return _layer(model, operator, symbol, copies)


def pad(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """PAD with the output's zero point, PADV2 with a constant."""
    x, amounts, *value = (model.tensors[i] for i in operator.inputs)
    y = model.tensors[operator.outputs[0]]
    place = tuple(
        slice(before, before + size)
        for before, size in zip(amounts.data[:, 0].tolist(), x.shape, strict=True)
    )
    fill = int(value[0].data.ravel()[0]) if value else int(y.zero_point[0])
    copies = [(_numbered(x.shape), _numbered(y.shape)[place])]
    return _layer(model, operator, symbol, copies, fill)


def transpose(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """TRANSPOSE by a constant permutation."""
    x, order = (model.tensors[i] for i in operator.inputs)
    return _view(model, operator, symbol, _numbered(x.shape).transpose(order.data.tolist()))


def strided_slice(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """STRIDED_SLICE with constant bounds, and SLICE."""
    inputs = [model.tensors[i] for i in operator.inputs]
    view = _numbered(inputs[0].shape)[tuple(slices(operator, inputs))]
    return _view(model, operator, symbol, view)


def tile(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """TILE: the output's axes are (times, size), of which the input does not know the first."""
    x, times = (model.tensors[i] for i in operator.inputs)
    pairs = [axis for pair in zip(times.data.tolist(), x.shape, strict=True) for axis in pair]
    source = _numbered(x.shape).reshape([axis for size in x.shape for axis in (1, size)])
    return _view(model, operator, symbol, np.broadcast_to(source, pairs))


def axes_of(source: np.ndarray, to: np.ndarray) -> list[tuple[int, int, int]]:
    """(size, input's step, output's step) of the fewest loops that copy one view to another."""
    loops = []
    shape = source.shape
    for size, x_step, y_step in reversed(
        list(zip(shape, _steps(source), _steps(to.reshape(shape)), strict=True))
    ):
        if size == 1:
            continue
        if loops and (x_step, y_step) == (loops[0][0] * loops[0][1], loops[0][0] * loops[0][2]):
            loops[0] = (size * loops[0][0], *loops[0][1:])
        else:
            loops.insert(0, (size, x_step, y_step))
    return loops


def _view(model, operator, symbol, view):
    return _layer(model, operator, symbol, [(view, _numbered(view.shape))])


def _layer(model, operator, symbol, copies, fill=None):
    y = model.tensors[operator.outputs[0]]
    given = [i for i in operator.inputs if model.tensors[i].data is None]
    constants, calls = "", []
    if fill is not None:
        calls.append((None, f"scalpel_fill_s8({fill}, {math.prod(y.shape)}, {{y}});"))
    for number, (source, to) in enumerate(copies):
        axes = axes_of(source, to)
        outer, inner = axes[:-AXES], axes[-AXES:]
        size, x_step, y_step = zip(*[(1, 0, 0)] * (AXES - len(inner)), *inner, strict=True)
        name = f"{symbol}_{number}"
        constants += params(
            name,
            "scalpel_copy_params",
            size=_braced(size),
            x_step=_braced(x_step),
            y_step=_braced(y_step),
        )
        places = [f"{{x}} + {int(source.flat[0])}", f"{{y}} + {int(to.flat[0])}"]
        calls.append((number, _loops(outer, f"scalpel_copy_s8(&{name}, ", places)))
    return Layer(
        name=layer_name(symbol, y),
        op=operator.name,
        kernel="copy",
        inputs=tuple(given),
        y=y.index,
        constants=constants,
        call=lambda inputs, y, _: "\n".join(
            text.format(x=inputs[number or 0], y=y) for number, text in calls
        ),
    )


def _loops(axes, head, places):
    """A call inside of loops over more axes than the kernel has."""
    text, (x, y) = "", places
    for depth, (size, x_step, y_step) in enumerate(axes):
        index = f"i{depth}"
        text += f"for (int32_t {index} = 0; {index} < {size}; ++{index}) {{{{\n"
        x += f" + {x_step} * {index}" if x_step else ""
        y += f" + {y_step} * {index}" if y_step else ""
    return f"{text}{head}{x}, {y});" + "\n}}" * len(axes)


def _numbered(shape):
    """Every element's number, in whose steps and views the copies are described."""
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


def _steps(view):
    return [stride // view.itemsize for stride in view.strides]


def _braced(numbers):
    return f"{{{', '.join(map(str, numbers))}}}"


LOWER = {
    "CONCATENATION": concatenation,
    "PAD": pad,
    "PADV2": pad,
    "TRANSPOSE": transpose,
    "SLICE": strided_slice,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
}
