"""The plain C operators against TFLite's reference kernels and TFLite Micro, bit for bit.

Every case is a model of one operator with scales of its own; `plain_ops` makes its parameters, gcc
compiles them all into one library, and both sides see the same random and extreme inputs.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from scalpel_tf.deploy import convert, plain_ops, tflite
from scalpel_tf.deploy.int8 import window

RUNTIME = Path(tflite.__file__).parent / "runtime"
SOURCES = sorted(
    RUNTIME / f"scalpel_{name}.c"
    for name in (
        *("conv_s8", "depthwise_conv_s8", "max_pool_s8", "average_pool_s8", "softmax_s8"),
        *("requantize_s8", "requantize_u8_s8", "requantize_s8_u8"),
        *("quantize_f32_s8", "dequantize_s8_f32"),
    )
)
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
PADDING = {"SAME": schema.Padding.SAME, "VALID": schema.Padding.VALID}
ACTIVATION = vars(schema.ActivationFunctionType)
SAMPLES = 12


def tensor(shape, scale, zero_point=0, kind="INT8", axis=0):
    quantization = None
    if scale is not None:
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        zero_points = np.full(scales.size, zero_point, np.int64)
        quantization = schema.QuantizationParametersT(
            scale=scales, zeroPoint=zero_points, quantizedDimension=axis
        )
    return schema.TensorT(
        shape=list(shape),
        type=getattr(schema.TensorType, kind),
        quantization=quantization,
        name="x",
        hasRank=True,
    )


def single(name, x, y, options=None, constants=(), version=2):
    """A `.tflite` of one operator; constants are (tensor, array)."""
    tensors, buffers = [x, y], [schema.BufferT()]
    for constant, values in constants:
        constant.buffer = len(buffers)
        buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
        tensors.append(constant)
    operator = schema.OperatorT(inputs=[0, *range(2, len(tensors))], outputs=[1])
    if options is not None:
        operator.builtinOptions = options
        kind = type(options).__name__[:-1]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    code = getattr(schema.BuiltinOperator, name)
    model = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(
                deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version
            )
        ],
        subgraphs=[
            schema.SubGraphT(tensors=tensors, inputs=[0], outputs=[1], operators=[operator])
        ],
        buffers=buffers,
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def windows(options, filter, stride, dilation, padding, activation):
    """The options object with the fields that convolutions and pools share."""
    options.padding = PADDING[padding]
    options.strideH, options.strideW = stride
    options.fusedActivationFunction = ACTIVATION[activation]
    if dilation is None:
        options.filterHeight, options.filterWidth = filter
    else:
        options.dilationHFactor, options.dilationWFactor = dilation
    return options


def conv(
    x,
    out,
    filter,
    stride=(1, 1),
    dilation=(1, 1),
    padding="SAME",
    activation="NONE",
    *,
    groups=1,
    multiplier=None,
    bias=True,
    per_tensor=False,
    output_scale=None,
    zero_points=(-7, 5),
):
    """CONV_2D, or DEPTHWISE_CONV_2D where a depth multiplier is given."""
    rng = np.random.default_rng([*x, out, *filter, *stride])
    depthwise = multiplier is not None
    shape = (1, *filter, out) if depthwise else (out, *filter, x[2] // groups)
    scale = rng.uniform(0.002, 0.02, 1 if per_tensor else out).astype(np.float32)
    taps = np.prod(shape) // out
    if output_scale is None:
        output_scale = 0.05 * scale.mean() * 70 * 50 * taps**0.5 / 80
    sizes = [
        window(*span, padding)[0] for span in zip(x[:2], filter, stride, dilation, strict=True)
    ]
    kind = schema.DepthwiseConv2DOptionsT if depthwise else schema.Conv2DOptionsT
    options = windows(kind(), filter, stride, dilation, padding, activation)
    if depthwise:
        options.depthMultiplier = multiplier
    weights = rng.integers(-127, 128, shape, np.int8)
    constants = [(tensor(shape, scale, axis=3 if depthwise else 0), weights)]
    if bias:
        values = rng.integers(-3000, 3000, out, np.int32)
        constants.append((tensor((out,), np.float32(0.05) * scale, kind="INT32"), values))
    return single(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        tensor((1, *x), 0.05, zero_points[0]),
        tensor((1, *sizes, out), output_scale, zero_points[1]),
        options,
        constants,
        version=3,
    )


def pool(name, x, filter, stride=(1, 1), padding="SAME", activation="NONE", scale=0.04):
    sizes = [window(*span, 1, padding)[0] for span in zip(x[:2], filter, stride, strict=True)]
    options = windows(schema.Pool2DOptionsT(), filter, stride, None, padding, activation)
    y = tensor((1, *sizes, x[2]), scale, -11)
    return single(f"{name}_POOL_2D", tensor((1, *x), scale, -11), y, options)


def softmax(shape, scale, beta=1.0):
    return single(
        "SOFTMAX",
        tensor(shape, scale, 3),
        tensor(shape, 1 / 256, -128),
        schema.SoftmaxOptionsT(beta=beta),
    )


def rescale(name, x, y, version=2):
    """An elementwise operator between tensors given as (scale, zero point, kind)."""
    return single(name, tensor((1, 301), *x), tensor((1, 301), *y), version=version)


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
    "dequantize": rescale("DEQUANTIZE", (0.037, -5, "INT8"), (None, 0, "FLOAT32")),
}
# TFLite Micro divides in double for RELU, does not rescale in RELU6, and lacks RELU_N1_TO_1.
MICRO_DIFFERS = {"relu divides in float32", "relu6", "relu n1 to 1"}


def inputs_of(model):
    source = model.tensors[model.inputs[0]]
    rng = np.random.default_rng(len(model.tensors))
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


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A shared library with run_<number of the case>(x, y)."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    text = '#include "scalpel_ops.h"\n'
    for number, data in enumerate(CASES.values()):
        model = tflite.read(data)
        tflite.require_int8(model)
        (operator,) = model.operators
        layer = plain_ops.LOWER[operator.name](model, operator, f"case_{number}")
        text += layer.constants
        text += f"void run_{number}(const void *x, void *y);\n"
        text += f"void run_{number}(const void *x, void *y) {{ {layer.call(['x'], 'y', '0')} }}\n"
    folder = tmp_path_factory.mktemp("ops")
    (folder / "cases.c").write_text(text)
    command = [compiler, *WARNINGS, "-O2", "-shared", "-fPIC", "-I", RUNTIME, "-o"]
    subprocess.run([*command, folder / "ops.so", folder / "cases.c", *SOURCES], check=True)
    return ctypes.CDLL(str(folder / "ops.so"))


def run_library(library, case, model, inputs):
    """What the C makes of each sample; a guard behind the output must stay as it was."""
    run = getattr(library, f"run_{list(CASES).index(case)}")
    result = model.tensors[model.outputs[0]]
    size = int(np.prod(result.shape))
    outputs = []
    for sample in inputs:
        sample = np.ascontiguousarray(sample)
        room = np.full((size + 16) * result.dtype.itemsize, 0x5A, np.uint8)
        run(sample.ctypes.data_as(ctypes.c_void_p), room.ctypes.data_as(ctypes.c_void_p))
        assert (room[size * result.dtype.itemsize :] == 0x5A).all()
        outputs.append(room.view(result.dtype)[:size].reshape(result.shape[1:]))
    return np.stack(outputs)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_kernels(library, case):
    model = tflite.read(CASES[case])
    inputs = inputs_of(model)
    (expected,) = convert.run_reference(CASES[case], inputs)
    np.testing.assert_array_equal(run_library(library, case, model, inputs), expected)
    constant = case in ("softmax one", "softmax flat", "conv vanishes")
    assert constant or len(np.unique(expected)) > 1


@pytest.mark.parametrize("case", sorted(set(CASES) - MICRO_DIFFERS))
def test_equals_tflite_micro(library, case):
    micro = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    model = tflite.read(CASES[case])
    interpreter = micro.Interpreter.from_bytes(CASES[case], arena_size=1 << 16)
    inputs = inputs_of(model)
    for sample, actual in zip(inputs, run_library(library, case, model, inputs), strict=True):
        interpreter.set_input(sample[None], 0)
        interpreter.invoke()
        np.testing.assert_array_equal(actual, interpreter.get_output(0)[0])
