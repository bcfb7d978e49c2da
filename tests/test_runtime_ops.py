"""The plain C operators against TFLite's reference kernels and TFLite Micro, bit for bit.

Every case is a model of one operator with scales of its own; `lower` makes its parameters, gcc
compiles them all into one library, and both sides see the same random and extreme inputs.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from operator_models import (
    concatenation,
    conv,
    elementwise,
    mean,
    moved,
    pad_v2,
    pool,
    rescale,
    softmax,
    strided_slice,
)

from scalpel_tf.deploy import convert, lower, tflite

RUNTIME = Path(tflite.__file__).parent / "runtime"
SOURCES = sorted(
    RUNTIME / f"scalpel_{name}.c"
    for name in (
        *("conv_s8", "depthwise_conv_s8", "max_pool_s8", "average_pool_s8", "softmax_s8"),
        *("requantize_s8", "requantize_u8_s8", "requantize_s8_u8"),
        *("quantize_f32_s8", "dequantize_s8_f32", "add_s8", "mul_s8", "mean_s8"),
        *("lookup_s8", "copy_s8", "fill_s8"),
    )
)
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
SAMPLES = 12


# 3/8 in float32 but below it in double, where a tie turns: RELU divides in float32.
CLOSE = (np.float32(0.037500005), np.float32(0.10000002))
CASES = {
    "conv same": conv((7, 5, 3), 4, (3, 3)),
    "conv valid stride": conv((9, 8, 2), 5, (3, 2), (2, 3), padding="VALID", activation="RELU"),
    "conv same stride even": conv((8, 6, 1), 3, (5, 4), (2, 2), activation="RELU6"),
    "conv dilation": conv((11, 9, 2), 3, (3, 3), dilation=(2, 3), padding="VALID"),
    "conv dilation same": conv((6, 7, 2), 3, (3, 2), dilation=(3, 2), activation="RELU_N1_TO_1"),
    "conv 1x1": conv((3, 4, 17), 13, (1, 1)),
    "conv 1x1 stride": conv((7, 7, 3), 2, (1, 1), (3, 2)),
    "conv larger than its input": conv((2, 3, 2), 3, (5, 5)),
    "conv one of everything": conv((1, 1, 1), 1, (1, 1)),
    "conv groups": conv((6, 5, 6), 4, (3, 3), groups=2),
    "conv per tensor": conv((6, 5, 3), 4, (3, 3), per_tensor=True),
    "conv saturates": conv((6, 5, 3), 4, (3, 3), output_scale=1e-4, zero_points=(-128, 127)),
    "conv left shift": conv((6, 5, 3), 4, (3, 3), output_scale=2e-5, zero_points=(127, -128)),
    "conv far right shift": conv((6, 5, 3), 4, (3, 3), output_scale=1.0),
    "conv vanishes": conv((6, 5, 3), 4, (3, 3), output_scale=3e9),
    "depthwise": conv((7, 6, 5), 5, (3, 3), multiplier=1),
    "depthwise multiplier": conv((7, 6, 3), 9, (3, 2), (2, 1), multiplier=3, activation="RELU"),
    "depthwise from one": conv((6, 6, 1), 4, (3, 3), multiplier=4, padding="VALID", bias=False),
    "depthwise dilation": conv((9, 8, 2), 4, (3, 3), dilation=(2, 2), multiplier=2),
    "depthwise per tensor": conv((5, 8, 3), 3, (2, 5), multiplier=1, per_tensor=True),
    "max pool": pool("MAX", (8, 7, 3), (2, 2), (2, 2), "VALID"),
    "max pool same": pool("MAX", (5, 7, 2), (3, 4), (2, 3), activation="RELU6"),
    "max pool relu": pool("MAX", (4, 4, 1), (3, 3), activation="RELU_N1_TO_1", scale=0.01),
    "average pool": pool("AVERAGE", (8, 7, 3), (2, 3), (2, 2), "VALID"),
    "average pool same": pool("AVERAGE", (5, 7, 2), (4, 3), (3, 2), activation="RELU"),
    "average pool global": pool("AVERAGE", (6, 6, 5), (6, 6), (6, 6), "VALID"),
    "softmax": softmax((1, 10), 0.1),
    "softmax one": softmax((1, 1), 0.1),
    "softmax rows": softmax((1, 3, 5, 7), 0.03),
    "softmax sharp": softmax((1, 33), 20.0),
    "softmax flat": softmax((1, 100), 1e-6),
    "softmax beta": softmax((1, 12), 0.07, beta=2.5),
    "softmax widest": softmax((1, 511), 0.01),
    "relu": rescale("RELU", (0.05, -3, "INT8"), (0.03, -128, "INT8")),
    "relu divides in float32": rescale("RELU", (CLOSE[0], -7, "INT8"), (CLOSE[1], -99, "INT8")),
    "relu6": rescale("RELU6", (0.08, 9, "INT8"), (6 / 255, -128, "INT8")),
    "relu n1 to 1": rescale("RELU_N1_TO_1", (0.02, 0, "INT8"), (0.009, 3, "INT8"), 1),
    "quantize": rescale("QUANTIZE", (0.05, -3, "INT8"), (0.3, 17, "INT8")),
    "quantize divides in double": rescale(
        "QUANTIZE", (CLOSE[0], -7, "INT8"), (CLOSE[1], 1, "INT8")
    ),
    "quantize up": rescale("QUANTIZE", (0.3, 20, "INT8"), (0.004, -1, "INT8")),
    "quantize from uint8": rescale("QUANTIZE", (0.05, 125, "UINT8"), (0.05, -3, "INT8")),
    "quantize from uint8 scaled": rescale("QUANTIZE", (0.05, 9, "UINT8"), (0.11, -128, "INT8")),
    "quantize to uint8": rescale("QUANTIZE", (0.05, -128, "INT8"), (0.05, 0, "UINT8")),
    "quantize to uint8 scaled": rescale("QUANTIZE", (0.2, 1, "INT8"), (0.07, 130, "UINT8")),
    "quantize from float": rescale("QUANTIZE", (None, 0, "FLOAT32"), (0.037, -5, "INT8")),
    "leaky relu": rescale("LEAKY_RELU", (0.05, -3, "INT8"), (0.03, 17, "INT8")),
    "logistic": rescale("LOGISTIC", (0.06, 5, "INT8"), (1 / 256, -128, "INT8")),
    "logistic flat": rescale("LOGISTIC", (0.001, -90, "INT8"), (1 / 256, -128, "INT8")),
    "logistic wide": rescale("LOGISTIC", (0.3, 11, "INT8"), (1 / 256, -128, "INT8")),
    "tanh": rescale("TANH", (0.03, 5, "INT8"), (1 / 128, 0, "INT8")),
    "tanh wide": rescale("TANH", (0.2, -128, "INT8"), (1 / 128, 0, "INT8")),
    "hard swish": rescale("HARD_SWISH", (0.05, -20, "INT8"), (0.04, -119, "INT8"), 1),
    "hard swish wide": rescale("HARD_SWISH", (0.9, 3, "INT8"), (0.5, -127, "INT8"), 1),
    "hard swish narrow": rescale("HARD_SWISH", (0.002, 3, "INT8"), (0.003, 1, "INT8"), 1),
    "add": elementwise("ADD", ((1, 5, 7), 0.05, -3), ((1, 5, 7), 0.02, 17), ((1, 5, 7), 0.06, 4)),
    "add equal scales": elementwise(
        "ADD", ((1, 37), 0.05, -3), ((1, 37), 0.05, 9), ((1, 37), 0.07, 4), "RELU"
    ),
    "add a number": elementwise(
        "ADD", ((1, 3, 13), 0.05, -128), ((), 0.2, -128, -111), ((1, 3, 13), 0.09, 4)
    ),
    "add to a constant": elementwise(
        "ADD", ((5,), 0.5, 1, [1, -2, 33, 127, -128]), ((1, 9, 5), 0.04, 8), ((1, 9, 5), 0.4, 0)
    ),
    "add saturates": elementwise(
        "ADD", ((1, 64), 1.0, 127), ((1, 64), 0.01, -128), ((1, 64), 1e-5, 0), "RELU6"
    ),
    "sub": elementwise("SUB", ((1, 5, 7), 0.02, -3), ((1, 5, 7), 0.05, 17), ((1, 5, 7), 0.06, 4)),
    "sub from a number": elementwise(
        "SUB", ((), 0.2, -1, 100), ((1, 3, 5), 0.05, -128), ((1, 3, 5), 0.09, 4)
    ),
    "mul": elementwise("MUL", ((1, 5, 7), 0.02, -3), ((1, 5, 7), 0.05, 17), ((1, 5, 7), 0.06, 4)),
    "mul by a gate": elementwise(
        "MUL", ((1, 4, 3, 9), 0.02, -3), ((1, 1, 1, 9), 0.05, 17), ((1, 4, 3, 9), 0.06, 4), "RELU"
    ),
    "mul by rows": elementwise(
        "MUL", ((1, 4, 1, 5), 0.02, -3), ((1, 4, 6, 1), 0.05, 17), ((1, 4, 6, 5), 0.06, 4)
    ),
    "mul by a number": elementwise(
        "MUL", ((1, 3, 13), 0.05, -128), ((), 0.01, 0, 127), ((1, 3, 13), 0.05, -128)
    ),
    "mul left shift": elementwise(
        "MUL", ((1, 40), 0.5, -3), ((1, 40), 0.5, 17), ((1, 40), 0.01, 4)
    ),
    "concatenation": concatenation([(1, 3, 2, 5), (1, 3, 2, 1), (1, 3, 2, 4)], 3),
    "concatenation of rows": concatenation([(1, 2, 3, 2), (1, 3, 3, 2)], 1),
    "mean": mean((1, 4, 3, 9), [1, 2]),
    "mean without axes": mean((1, 17, 20, 6), [2, 1], keep=False),
    "mean of channels": mean((1, 4, 9), [2]),
    "pad": moved("PAD", (1, 3, 4, 5), (1, 6, 5, 5), [[0, 0], [1, 2], [1, 0], [0, 0]]),
    "pad with a number": pad_v2((1, 3, 5), [[0, 0], [1, 2], [2, 1]], -77),
    "transpose": moved("TRANSPOSE", (1, 3, 4, 5), (1, 4, 3, 5), [0, 2, 1, 3]),
    "transpose all": moved("TRANSPOSE", (1, 3, 4, 5), (5, 4, 3, 1), [3, 2, 1, 0]),
    "slice": moved("SLICE", (1, 5, 6), (1, 3, 4), [0, 1, 2], [1, 3, -1]),
    "strided slice": strided_slice((1, 7, 6), (1, 3, 2), [0, 1, 5], [1, 7, 0], [1, 2, -3]),
    "strided slice masked": strided_slice(
        (1, 7, 6), (1, 6), [0, 2, 9], [0, 0, 0], [1, 1, 1], beginMask=5, endMask=5, shrinkAxisMask=2
    ),
    "tile": moved("TILE", (1, 5, 2, 4), (1, 15, 4, 8), [1, 3, 2, 2]),
    "dequantize": rescale("DEQUANTIZE", (0.037, -5, "INT8"), (None, 0, "FLOAT32")),
}
# TFLite Micro divides in double for RELU, does not rescale in RELU6, and lacks RELU_N1_TO_1 and
# TILE.
MICRO_DIFFERS = {"relu divides in float32", "relu6", "relu n1 to 1", "tile"}
ROUNDINGS = ("single", "double")
C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "float32": "float"}


def inputs_of(model):
    """One array per input: extremes, noise, and ties for real numbers."""
    return [_values(model, index) for index in model.inputs]


def _values(model, index):
    source = model.tensors[index]
    rng = np.random.default_rng([len(model.tensors), index])
    shape = (SAMPLES, *source.shape[1:])
    if source.dtype == np.float32:
        scale = model.tensors[model.outputs[0]].scale[0]
        values = rng.uniform(-200, 200, shape).astype(np.float32)
        values[:4] = np.round(values[:4]) + np.float32(0.5)  # ties, where the scale is exact
        return (values * scale).astype(np.float32)
    limits = np.iinfo(source.dtype)
    values = rng.integers(limits.min, limits.max, shape, source.dtype, endpoint=True)
    values[0], values[1] = limits.min, limits.max
    return values


def source_of(number, data, rounding):
    """A function run_<number>_<rounding>(inputs, y) and its constants."""
    model = tflite.read(data)
    tflite.require_int8(model)
    (operator,) = model.operators
    symbol = f"case_{number}_{rounding}"
    layer = lower.LOWER[operator.name](model, operator, symbol, rounding)
    inputs = [
        f"((const {C_TYPES[model.tensors[index].dtype.name]} *)inputs[{i}])"
        for i, index in enumerate(layer.inputs)
    ]
    y = f"(({C_TYPES[model.tensors[layer.y].dtype.name]} *)y)"
    head = f"void run_{number}_{rounding}(const void *const *inputs, void *y)"
    return f"{layer.constants}{head};\n{head} {{ {layer.call(inputs, y, '0')} }}\n"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A shared library with every case, for both roundings."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    text = '#define MODEL_ALIGNED\n#include "scalpel_ops.h"\n'
    for number, data in enumerate(CASES.values()):
        text += "".join(source_of(number, data, rounding) for rounding in ROUNDINGS)
    folder = tmp_path_factory.mktemp("ops")
    (folder / "cases.c").write_text(text)
    command = [compiler, *WARNINGS, "-O2", "-shared", "-fPIC", "-I", RUNTIME, "-o"]
    subprocess.run([*command, folder / "ops.so", folder / "cases.c", *SOURCES], check=True)
    return ctypes.CDLL(str(folder / "ops.so"))


def run_library(library, case, model, inputs, rounding="single"):
    """What the C makes of each sample; a guard behind the output must stay as it was."""
    run = getattr(library, f"run_{list(CASES).index(case)}_{rounding}")
    result = model.tensors[model.outputs[0]]
    size = int(np.prod(result.shape))
    outputs = []
    for sample in zip(*inputs, strict=True):
        sample = [np.ascontiguousarray(array) for array in sample]
        room = np.full((size + 16) * result.dtype.itemsize, 0x5A, np.uint8)
        run(
            (ctypes.c_void_p * len(sample))(*(array.ctypes.data for array in sample)),
            room.ctypes.data_as(ctypes.c_void_p),
        )
        assert (room[size * result.dtype.itemsize :] == 0x5A).all()
        outputs.append(room.view(result.dtype)[:size])
    return np.stack(outputs)


def flat(array):
    return array.reshape(SAMPLES, -1)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_kernels(library, case):
    model = tflite.read(CASES[case])
    inputs = inputs_of(model)
    expected = flat(convert.run_reference(CASES[case], inputs)[0])
    np.testing.assert_array_equal(run_library(library, case, model, inputs), expected)
    constant = case in ("softmax one", "softmax flat", "conv vanishes")
    assert constant or len(np.unique(expected)) > 1


@pytest.mark.parametrize("case", sorted(set(CASES) - MICRO_DIFFERS))
def test_equals_tflite_micro(library, case):
    micro = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    model = tflite.read(CASES[case])
    interpreter = micro.Interpreter.from_bytes(CASES[case], arena_size=1 << 17)
    inputs = inputs_of(model)
    actual = run_library(library, case, model, inputs, "double")
    for number, sample in enumerate(zip(*inputs, strict=True)):
        for position, array in enumerate(sample):
            shape = model.tensors[model.inputs[position]].shape
            interpreter.set_input(array.reshape(shape), position)
        interpreter.invoke()
        np.testing.assert_array_equal(actual[number], interpreter.get_output(0).ravel())
