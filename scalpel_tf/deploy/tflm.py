"""An int8 `.tflite` -> the files that run it in TensorFlow Lite Micro, its sparse layers faster.

model_data.{h,cc}            the rewritten model, 16-byte aligned
model_ops.h                  a resolver of exactly its operators, and the arena that it needs
scalpel_*.{h,cc}, runtime/   the custom operators and the kernels behind them
CMakeLists.txt, README.md    for a TensorFlow Lite Micro tree of the user's own
model.json                   what the files hold
"""

import json
import re
import struct
from dataclasses import dataclass

import numpy as np

from scalpel_tf.core.targets import Target
from scalpel_tf.deploy import c_source, conv, lower, lower_conv, tflite
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.layer import layer_name
from scalpel_tf.deploy.layouts import SKELETONS
from scalpel_tf.deploy.memory import Block, place, tensor_bytes
from scalpel_tf.deploy.plain_ops import operands
from scalpel_tf.deploy.quantization import activation_range
from scalpel_tf.deploy.rewrite import Custom, rewrite

VERSION = 1
FULLY_CONNECTED_KERNELS = ("gcsr_fc4", "gcsr_fc8", "gcsr_fc4_delta")
CONV_KERNELS = ("conv4", "conv4_relu", "conv4_shared", "conv4_relu_shared")
SOURCES = {
    "SCALPEL_FULLY_CONNECTED": ("scalpel_fully_connected.cc", "RegisterFullyConnected"),
    "SCALPEL_CONV_2D": ("scalpel_conv.cc", "RegisterConv2D"),
}
# Where MicroMutableOpResolver's method is not the operator's name in capitals.
METHODS = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
# What TensorFlow Lite Micro keeps in the arena beside tensors, in bytes: an upper bound of what
# `make tflm` measures on a 64-bit machine, where pointers are twice as long.
FIXED, PER_TENSOR, PER_OPERATOR, PER_CHANNEL = 768, 16, 256, 8


@dataclass(frozen=True)
class Sparse:
    """An operator that becomes a custom one.  scratch: bytes of the arena.  density: in groups."""

    custom: Custom
    kernel: str
    scratch: int
    flash: int
    density: float


def emit(data: bytes, target: Target, found: dict[int, Sparse]) -> dict[str, bytes]:
    """Relative path -> contents, for every file of the folder; found: by `sparse_operators`."""
    network = tflite.read(data)
    model = rewritten(data, found)
    result = tflite.read(model)
    arena = arena_bytes(result, {i: sparse.scratch for i, sparse in found.items()})
    codes = sorted({sparse.custom.code for sparse in found.values()})
    description = {
        "target": target.name,
        "project": "tflm",
        "arena_bytes": arena,
        "arena_bytes_dense": arena_bytes(network, {}),
        "model_bytes": len(model),
        "model_bytes_dense": len(data),
        "layers": [_describe(network, i, found.get(i)) for i in range(len(network.operators))],
    }
    words = {
        "TARGET": target.name,
        "ARENA": f"{arena:,}",
        "ARENA_DENSE": f"{description['arena_bytes_dense']:,}",
        "BYTES": f"{len(model):,}",
        "DENSE": f"{len(data):,}",
        "SOURCES": " ".join(SOURCES[code][0] for code in codes),
    }
    texts = {
        "model.json": json.dumps(description, indent=2) + "\n",
        "model_data.h": c_source.MODEL_DATA_H.format(size=len(model)),
        "model_data.cc": c_source.model_data_cc(model),
        "model_ops.h": _model_ops_h(result, arena),
        "README.md": _fill("README.md", words),
        "CMakeLists.txt": _fill("CMakeLists.txt", words),
    }
    headers = ("scalpel_tflm_ops.h", "scalpel_tflm_tensors.h")
    sources = [name for name in (*headers, *(SOURCES[code][0] for code in codes)) if codes]
    texts |= {name: (SKELETONS / "tflm" / name).read_text() for name in sources}
    contents = {name: text.encode() for name, text in texts.items()}
    for path in c_source.runtime_files("".join(texts[name] for name in sources)) if codes else ():
        contents[f"runtime/{path.name}"] = path.read_bytes()
    return c_source.with_rounding(contents, "double")


def sparse_operators(network: tflite.Model, target: Target) -> dict[int, Sparse]:
    """Operator number -> what it becomes, of those whose sparse format is faster on the target."""
    found = {}
    for index, operator in enumerate(network.operators):
        sparse = RULES[operator.name](network, operator, target) if operator.name in RULES else None
        if sparse is not None:
            found[index] = sparse
    return found


def rewritten(data: bytes, found: dict[int, Sparse]) -> bytes:
    """The model with those operators as custom ones."""
    return rewrite(data, {index: sparse.custom for index, sparse in found.items()})


def arena_bytes(network: tflite.Model, scratch: dict[int, int]) -> int:
    """An upper bound of TensorFlow Lite Micro's arena: tensors, scratch, and what it keeps itself.

    scratch: operator number -> bytes that a custom operator asks for.
    """
    first = {index: 0 for index in network.inputs}
    last = dict(first)
    for step, operator in enumerate(network.operators):
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and network.tensors[index].data is None:
                first.setdefault(index, step)
                last[index] = step
    last.update({index: len(network.operators) for index in network.outputs})
    blocks = [Block(tensor_bytes(network.tensors[i]), first[i], last[i]) for i in first]
    blocks += [Block(size, step, step) for step, size in scratch.items()]
    channels = sum(network.tensors[op.outputs[0]].shape[-1] for op in network.operators)
    own = FIXED + PER_TENSOR * len(network.tensors) + PER_OPERATOR * len(network.operators)
    return -(-(place(blocks)[1] + own + PER_CHANNEL * channels) // 16) * 16


def _fully_connected(network, operator, target):
    x, weights, bias, y = operands(network, operator)
    if not _is_int8(x, weights, y) or weights.zero_point.any() or len(weights.shape) != 2:
        return None
    matrix = weights.data
    out, cols = matrix.shape
    rows = lower.rows_of(matrix, bias, x, weights, y, "double")
    packed, estimate = lower.fastest(matrix, target, fc.grouped)
    if packed.kernel == "fc":
        return None
    zero_point = int(y.zero_point[0])
    low, high = activation_range(operator.options["activation"], y.scale[0], zero_point)
    kernel = FULLY_CONNECTED_KERNELS.index(packed.kernel)
    numbers = (VERSION, kernel, low, high, int(x.zero_point[0]), zero_point, cols)
    words = packed.counts.astype(np.int64) | (rows.right_shift & 255)
    records = np.stack([rows.bias, rows.multiplier, words], 1).astype(np.int64)
    narrow = fc.fits_int8_kernel(matrix, rows, "double")
    return Sparse(
        custom=Custom(
            "SCALPEL_FULLY_CONNECTED",
            struct.pack("<6bi", *numbers),
            {
                "values": _some(packed.values),
                "indices": _some(packed.indices),
                "rows": records.astype(np.uint32).view(np.int32),
            },
        ),
        kernel=packed.kernel,
        scratch=estimate.ram + (0 if narrow else 4 * out),
        flash=packed.flash,
        density=lower.density_of(packed, matrix),
    )


def _conv(network, operator, target):
    x, weights, bias, y = operands(network, operator)
    if not _is_int8(x, weights, y) or weights.zero_point.any() or x.shape[:1] != (1,):
        return None
    if len(weights.shape) != 4 or weights.shape[3] != x.shape[3]:
        return None
    matrix = weights.data.reshape(len(weights.data), -1)
    rows, used = lower_conv.rows_of(matrix, bias, x, weights, y)
    if rows is None:
        return None
    shape = conv.shape_of(operator, x, y, weights.shape[1:3])
    found = conv.candidates(np.where(used[:, None], matrix, np.int8(0)), shape)
    packed = min(found, key=lambda packed: packed.cost(target).cycles, default=None)
    if packed is None or packed.density == 1:
        return None
    zero_points = int(x.zero_point[0]), int(y.zero_point[0])
    bounds = activation_range(operator.options["activation"], y.scale[0], zero_points[1])
    kernel = CONV_KERNELS.index(lower_conv.kernel_of(packed, zero_points[1], bounds))
    window = (*shape.input, shape.channels, *shape.output, len(packed.counts))
    window += (*shape.filter, *shape.stride, *shape.dilation, *shape.pad)
    sizes = (packed.tile, packed.tiles, packed.entries, packed.band_rows, packed.line_bytes)
    numbers = (VERSION, kernel, *bounds, *zero_points, *window, *sizes)
    planes = [(first, second, split | below << 8) for first, second, split, below in packed.planes]
    records = lower_conv.records(packed, rows, zero_points[1])
    return Sparse(
        custom=Custom(
            "SCALPEL_CONV_2D",
            struct.pack("<6b19i", *numbers),
            {
                "values": _some(packed.values),
                "steps": _some(packed.steps),
                "rows": records.astype(np.uint32).view(np.int32),
                "planes": np.array(planes, np.int16),
            },
        ),
        kernel="gcsr_conv",
        scratch=packed.scratch,
        flash=packed.cost(target).flash,
        density=packed.density,
    )


RULES = {"FULLY_CONNECTED": _fully_connected, "CONV_2D": _conv}


def _some(array):
    """A tensor without data is an activation: at least one element, which no row uses."""
    return array if array.size else np.zeros(8, array.dtype)


def _is_int8(x, weights, y):
    return weights.data is not None and all(t.dtype == np.int8 for t in (x, weights, y))


def _describe(network, index, sparse):
    operator = network.operators[index]
    tensors = [network.tensors[i] for i in operator.inputs if i >= 0]
    constants = sum(t.data.nbytes for t in tensors if t.data is not None)
    weights = [t for t in tensors if t.data is not None]
    y = network.tensors[operator.outputs[0]]
    activations = [t for t in (*tensors, y) if t.data is None]
    return {
        "name": layer_name(f"operator_{index}", *weights, y),
        "op": operator.name,
        "kernel": sparse.custom.code if sparse else "TFLM's own",
        "density": sparse.density if sparse else None,
        "bytes": sparse.flash if sparse else constants,
        "bytes_dense": constants,
        "ram": sum(map(tensor_bytes, activations)) + (sparse.scratch if sparse else 0),
    }


def _model_ops_h(network, arena):
    names = sorted({operator.name for operator in network.operators})
    lines = []
    for name in names:
        if name in SOURCES:
            call = f'AddCustom("{name}", scalpel::{SOURCES[name][1]}())'
        else:
            call = f"{method_of(name)}()"
        lines.append(f"  TF_LITE_ENSURE_STATUS(resolver.{call});\n")
    include = INCLUDE if SOURCES.keys() & set(names) else ""
    return MODEL_OPS_H.format(count=len(names), arena=arena, lines="".join(lines), include=include)


def method_of(name: str) -> str:
    """The method of MicroMutableOpResolver that adds a builtin operator."""
    words = "".join(map(str.capitalize, name.split("_")))
    return "Add" + METHODS.get(name, re.sub(r"(\d)d$", r"\1D", words))


def _fill(name, words):
    text = (SKELETONS / "tflm" / name).read_text()
    return re.sub(r"@(\w+)@", lambda match: words.get(match[1], match[0]), text)


INCLUDE = '#include "scalpel_tflm_ops.h"\n'
MODEL_OPS_H = """\
/* Exactly the operators of model_data, and its arena. */
#ifndef MODEL_OPS_H
#define MODEL_OPS_H

{include}#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

/* An upper bound; MicroInterpreter::arena_used_bytes() says what it is in your build. */
constexpr int kModelArenaBytes = {arena};

using ModelOpResolver = tflite::MicroMutableOpResolver<{count}>;

inline TfLiteStatus RegisterModelOps(ModelOpResolver &resolver) {{
{lines}  return kTfLiteOk;
}}

#endif /* MODEL_OPS_H */
"""
