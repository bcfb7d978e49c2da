"""ADD, SUB and MUL of two activations, or of one and a constant, of shapes that broadcast."""

import math

from scalpel_tf.deploy.c_text import array, params
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.quantization import (
    activation_range,
    product_factor,
    quantize_multiplier,
    sum_factor,
)
from scalpel_tf.deploy.tflite import Model, Operator, Tensor


def elementwise(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """One of the three; rounding as for `lower`."""
    tensors = [model.tensors[i] for i in operator.inputs]
    if operator.name == "ADD":  # the larger scale first, which is exact; see scalpel_add_s8.c
        tensors.sort(key=lambda tensor: -tensor.scale[0])
    y = model.tensors[operator.outputs[0]]
    kind, kernel, fields = KERNELS[operator.name]
    low, high = activation_range(operator.options["activation"], y.scale[0], int(y.zero_point[0]))
    constants = "".join(
        array(f"{symbol}_{name}", tensor.data)
        for name, tensor in zip("ab", tensors, strict=True)
        if tensor.data is not None
    )
    constants += params(
        symbol,
        kind,
        a_zero_point=tensors[0].zero_point[0],
        b_zero_point=tensors[1].zero_point[0],
        zero_point=y.zero_point[0],
        **fields(operator, *tensors, y, rounding),
        lowest=low,
        highest=high,
    )
    size = sum(tensor.data.size for tensor in tensors if tensor.data is not None)
    given = [tensor for tensor in tensors if tensor.data is None]

    def call(inputs, address, scratch):
        names = [
            inputs[[g is t for g in given].index(True)] if t.data is None else f"{symbol}_{name}"
            for name, t in zip("ab", tensors, strict=True)
        ]
        return _loops(
            f"scalpel_{kernel}_s8(&{symbol}, ", [t.shape for t in tensors], names, address
        )

    return Layer(
        name=layer_name(symbol, y),
        op=operator.name,
        kernel=kernel,
        inputs=tuple(tensor.index for tensor in given),
        y=y.index,
        constants=constants,
        call=call,
        in_place=math.prod(given[0].shape) == math.prod(y.shape),
        bytes=size,
        bytes_dense=size,
    )


def add_fields(operator, a: Tensor, b: Tensor, y: Tensor, rounding) -> dict:
    """Multipliers and shifts of scalpel_add_params, in double, as all kernels have it."""
    common = 2 * float(max(a.scale[0], b.scale[0]))
    scales = {
        "a_": float(a.scale[0]) / common,
        "b_": float(b.scale[0]) / common,
        "": sum_factor(a.scale[0], b.scale[0], y.scale[0]),
    }
    pairs = {name: quantize_multiplier(scale) for name, scale in scales.items()}
    fields = {f"{name}multiplier": pair[0] for name, pair in pairs.items()}
    fields |= {f"{name}shift": pair[1] for name, pair in pairs.items()}
    return fields | {"sign": -1 if operator.name == "SUB" else 1}


def mul_fields(operator, a: Tensor, b: Tensor, y: Tensor, rounding) -> dict:
    """Multiplier and shift of scalpel_mul_params: TFLite divides in float32, Micro in double."""
    factor = product_factor(a.scale[0], b.scale[0], y.scale[0], rounding)
    multiplier, shift = quantize_multiplier(factor)
    return {"multiplier": multiplier, "shift": shift}


def runs(shapes) -> list[tuple[int, int, int]]:
    """Loops over what two shapes broadcast to, outermost first: (count, a's step, b's step).

    Steps are in elements; 0 stays where it is. Neighbouring axes that step alike are one loop.
    """
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    strides = [
        [0 if size == 1 else math.prod(shape[i + 1 :]) for i, size in enumerate(shape)]
        for shape in padded
    ]
    loops = []
    for sizes, *steps in reversed(list(zip(zip(*padded, strict=True), *strides, strict=True))):
        count = max(sizes)
        if count == 1:
            continue
        if loops and all(
            s == loops[0][0] * last for s, last in zip(steps, loops[0][1:], strict=True)
        ):
            loops[0] = (count * loops[0][0], *loops[0][1:])
        else:
            loops.insert(0, (count, *steps))
    return loops or [(1, 1, 1)]


def _loops(head, shapes, names, address):
    *outer, (count, *steps) = runs(shapes)
    text, places, inside = "", [*names, address], count
    for depth, (size, *outer_steps) in enumerate(outer):
        text += f"for (int32_t i{depth} = 0; i{depth} < {size}; ++i{depth}) {{\n"
        block = math.prod(loop[0] for loop in outer[depth + 1 :]) * inside
        for i, step in enumerate([*outer_steps, block]):
            places[i] += f" + {step} * i{depth}" if step else ""
    a, b, y = places
    text += f"{head}{count}, {a}, {steps[0]}, {b}, {steps[1]}, {y});"
    return text + "\n}" * len(outer)


KERNELS = {
    "ADD": ("scalpel_add_params", "add", add_fields),
    "SUB": ("scalpel_add_params", "add", add_fields),
    "MUL": ("scalpel_mul_params", "mul", mul_fields),
}
LOWER = dict.fromkeys(KERNELS, elementwise)
