"""An int8 model for this machine: matrices on the kernels of custom_ops/native, everything else on
the plain C of the Cortex-M path."""

import math

import numpy as np

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import lower, plain_ops
from scalpel_tf.deploy.c_source import RUNTIME, runtime_files, with_rounding
from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.float_geometry import geometry
from scalpel_tf.deploy.int8 import ALIASES
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.native_planes import SLACK, Planes
from scalpel_tf.deploy.native_rows import LANES, STEP, Rows, padded_to_lanes
from scalpel_tf.deploy.quantization import activation_range, conv_multipliers, dense_multipliers
from scalpel_tf.deploy.tflite import Model, Operator

HEAD = """\
#include "kernels/native/scalpel_int8.h"
#include "runtime/scalpel_ops.h"
#include "runtime/scalpel_runtime.h"

#define MODEL_ALIGNED __attribute__((aligned(4)))
extern const unsigned char model_constants[];
"""
COSTS_OF = find_target("cortex-m7")  # of what is left to the runtime


def layers(model: Model, constants: Constants, rounding: str) -> list[Layer]:
    """The layers of a model that `require_int8` accepts, in order; RESHAPE vanishes.

    Raises ValueError naming the first operator that has no kernel.
    """
    made = []
    for index, operator in enumerate(model.operators):
        symbol = f"layer_{len(made)}"
        if operator.name in ALIASES:
            continue
        if operator.name in ("CONV_2D", "FULLY_CONNECTED"):
            layer = matrix(model, operator, symbol, constants, rounding)
            if layer is None:
                layer = plain_ops.conv(model, operator, symbol, rounding)
        elif operator.name in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
            layer = pool(model, operator, symbol)
        elif operator.name in lower.LOWER:
            layer = lower.LOWER[operator.name](model, operator, symbol, rounding)
        else:
            known = sorted(["CONV_2D", "FULLY_CONNECTED", *ALIASES, *lower.LOWER])
            raise ValueError(
                f"Operator {index} is {operator.name}, which has no kernel yet; expected one of "
                f"{', '.join(known)}. Replace it in the model."
            )
        made.append(layer)
    return made


def matrix(
    model: Model, operator: Operator, symbol: str, constants: Constants, rounding: str
) -> Layer | None:
    """FULLY_CONNECTED or CONV_2D; None for a convolution in groups."""
    x, weights, bias, y = plain_ops.operands(model, operator)
    rows = len(weights.data)
    once = operator.name == "FULLY_CONNECTED" and rounding == "single"
    multipliers, shape = conv_multipliers, None
    if operator.name == "FULLY_CONNECTED":
        cols = weights.shape[1]
        batch = math.prod(x.shape) // cols
        image, taps, run = (batch, 1, cols, 0, 0, batch, 1), np.zeros(1, np.int32), cols
        pixels = np.arange(batch, dtype=np.int32) * cols
        multipliers = conv_multipliers if rounding == "single" else dense_multipliers
        lower.rows_of(weights.data, bias, x, weights, y, rounding)  # refuses what could overflow
    elif weights.shape[3] != x.shape[3]:
        return None
    else:
        shape = geometry(operator, x, weights.shape[1:3], x.shape[3])
        image = shape.border or (*x.shape[1:], 0, 0, *x.shape[1:3])
        taps, run, pixels = shape.taps, shape.run, shape.pixels
    steps = -(-run // STEP)
    multiplier, shift = (
        np.broadcast_to(a, rows).astype(np.int32)
        for a in multipliers(x.scale[0], weights.scale, y.scale[0])
    )
    low, high = activation_range(operator.options["activation"], y.scale[0], int(y.zero_point[0]))
    by_row = {
        "sums": starts(weights.data.reshape(rows, -1), bias, x),
        "multipliers": multiplier,
        "shifts": shift,
    }
    fields = dict(
        image=f"{{{', '.join(map(str, (*image, x.zero_point[0])))}}}",
        out_zero_point=y.zero_point[0],
        lowest=low,
        highest=high,
        once=int(once),
    )
    stored = weights.data.reshape(rows, len(taps), run)
    sparse, kernel = None, "dense"
    if shape is None and pixels.size == 1:
        sparse, kernel = Rows.of(stored[:, 0]), "rows"
    elif shape is not None and operator.options["stride"] == (1, 1):
        sparse, kernel = Planes.of(stored, taps, image, shape.pixels.shape), "planes"
    scratch = image[2] * image[5] * image[6] + SLACK
    if sparse is not None and sparse.cost < dense_cost(rows, pixels.size, len(taps) * steps):
        text, size = sparse.text(symbol, constants, fields, by_row), sparse.size
        density, scratch = sparse.density, getattr(sparse, "scratch", scratch)
    else:
        packed = pack(stored, steps)
        text = params(
            symbol,
            "scalpel_int8_dense",
            weights=constants.add(packed),
            taps=constants.add(taps),
            pixels=constants.add(pixels),
            channels=rows,
            tap_count=len(taps),
            steps=steps,
            pixel_count=pixels.size,
            **fields,
            **{name: constants.add(padded_to_lanes(a)) for name, a in by_row.items()},
        )
        kernel, size, density = "dense", packed.nbytes, 1.0
    return Layer(
        name=layer_name(symbol, weights, y),
        op=operator.name,
        kernel=kernel,
        inputs=(x.index,),
        y=y.index,
        constants=text,
        call=lambda inputs, y, scratch: (
            f"m->kernels->{kernel}(&{symbol}, {inputs[0]}, {scratch}, {y});"
        ),
        scratch=scratch,
        macs=pixels.size * weights.data.size,
        bytes=size + 12 * rows,
        bytes_dense=weights.data.size + plain_ops.CHANNEL_BYTES * rows,
        density=density,
    )


def dense_cost(rows: int, pixels: int, words: int) -> float:
    """Cycles of the dense kernel with AVX-512; `words` of four weights in a row.

    Weights that meet one pixel come from the second cache, at half the speed of products.
    """
    word = 2.1 if pixels == 1 else 1.1
    return -(-rows // LANES) * pixels * (word * words + 44)


def pool(model: Model, operator: Operator, symbol: str) -> Layer:
    """MAX_POOL_2D and AVERAGE_POOL_2D."""
    x, y = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    size, stride = operator.options["filter"], operator.options["stride"]
    top, left = plain_ops.pads_of(operator, x, size)
    low, high = activation_range(operator.options["activation"], y.scale[0], int(y.zero_point[0]))
    text = params(
        symbol,
        "scalpel_int8_pool",
        height=x.shape[1],
        width=x.shape[2],
        channels=x.shape[3],
        out_height=y.shape[1],
        out_width=y.shape[2],
        filter_height=size[0],
        filter_width=size[1],
        stride_height=stride[0],
        stride_width=stride[1],
        top=top,
        left=left,
        lowest=low,
        highest=high,
    )
    kernel = operator.name[:-3].lower()
    return Layer(
        name=layer_name(symbol, y),
        op=operator.name,
        kernel=kernel,
        inputs=(x.index,),
        y=y.index,
        constants=text,
        call=lambda inputs, y, _: f"m->kernels->{kernel}(&{symbol}, {inputs[0]}, {y});",
        in_place=plain_ops.never_overtakes(operator, x, y),
    )


def pack(weights: np.ndarray, steps: int) -> np.ndarray:
    """(rows, taps, run) int8 weights as (rows / 16, taps, steps, 16, 4), filled up with zeros."""
    rows, taps, run = weights.shape
    padded = np.zeros((-(-rows // LANES) * LANES, taps, steps * STEP), np.int8)
    padded[:rows, :, :run] = weights
    return padded.reshape(-1, LANES, taps, steps, STEP).transpose(0, 2, 3, 1, 4)


def starts(matrix: np.ndarray, bias, x) -> np.ndarray:
    """What sums over x + 128 start at, modulo 2^32: the bias less what the zero point adds."""
    rows = np.zeros(len(matrix), np.int64) if bias is None else bias.data.astype(np.int64).ravel()
    rows = rows - (int(x.zero_point[0]) + 128) * matrix.astype(np.int64).sum(1)
    return rows.astype(np.uint64).astype(np.uint32).view(np.int32)


def files(source: str, rounding: str) -> dict[str, bytes]:
    """Relative path -> contents, of what of the runtime a model.c calls."""
    chosen = [path for path in runtime_files(source) if path.suffix != ".S"]
    contents = {f"runtime/{path.relative_to(RUNTIME)}": path.read_bytes() for path in chosen}
    return with_rounding(contents, rounding)
