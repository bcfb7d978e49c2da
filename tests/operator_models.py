"""`.tflite` bytes of a single int8 operator each."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scalpel_tf.deploy.int8 import window

PADDING = {"SAME": schema.Padding.SAME, "VALID": schema.Padding.VALID}
ACTIVATION = vars(schema.ActivationFunctionType)


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


def single(name, operands, y, options=None, version=2):
    """A `.tflite` of one operator with the output y; operands as `strands` takes them."""
    return strands([[(name, operands, y, options, version)]])


def strands(chains):
    """A `.tflite` of chains of operators side by side.

    An operator is (name, operands, y, options, version). Operands in their order: tensors, which
    are inputs of the model; pairs (tensor, array), constants; None, the output of the operator
    before it. The last output of every chain is an output of the model.
    """
    tensors, buffers, codes = [], [schema.BufferT()], {}
    operators, inputs, outputs = [], [], []
    for chain in chains:
        for name, operands, y, options, version in chain:
            operator = schema.OperatorT(inputs=[])
            for operand in operands:
                if operand is None:
                    operator.inputs.append(operators[-1].outputs[0])
                    continue
                if isinstance(operand, tuple):
                    operand, values = operand
                    operand.buffer = len(buffers)
                    buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))
                else:
                    inputs.append(len(tensors))
                operator.inputs.append(len(tensors))
                tensors.append(operand)
            operator.outputs = [len(tensors)]
            tensors.append(y)
            operator.opcodeIndex = codes.setdefault((name, version), len(codes))
            if options is not None:
                operator.builtinOptions = options
                kind = type(options).__name__[:-1]
                operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operators.append(operator)
        outputs.append(operators[-1].outputs[0])
    graph = schema.SubGraphT(tensors=tensors, inputs=inputs, outputs=outputs, operators=operators)
    model = schema.ModelT(
        version=3, operatorCodes=[_code(*key) for key in codes], subgraphs=[graph], buffers=buffers
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _code(name, version):
    code = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(
        deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version
    )


def integers(values):
    """A constant int32 operand."""
    array = np.array(values, np.int32)
    return tensor(array.shape, None, kind="INT32"), array


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
        [tensor((1, *x), 0.05, zero_points[0]), *constants],
        tensor((1, *sizes, out), output_scale, zero_points[1]),
        options,
        version=3,
    )


def pool(name, x, filter, stride=(1, 1), padding="SAME", activation="NONE", scale=0.04):
    sizes = [window(*span, 1, padding)[0] for span in zip(x[:2], filter, stride, strict=True)]
    options = windows(schema.Pool2DOptionsT(), filter, stride, None, padding, activation)
    y = tensor((1, *sizes, x[2]), scale, -11)
    return single(f"{name}_POOL_2D", [tensor((1, *x), scale, -11)], y, options)


def softmax(shape, scale, beta=1.0):
    return single(
        "SOFTMAX",
        [tensor(shape, scale, 3)],
        tensor(shape, 1 / 256, -128),
        schema.SoftmaxOptionsT(beta=beta),
    )


def rescale(name, x, y, version=2):
    """An operator on single values between tensors given as (scale, zero point, kind)."""
    options = schema.LeakyReluOptionsT(alpha=0.3) if name == "LEAKY_RELU" else None
    return single(name, [tensor((1, 301), *x)], tensor((1, 301), *y), options, version=version)


def elementwise(name, a, b, y, activation="NONE"):
    """ADD, SUB or MUL; a, b, y are (shape, scale, zero point), of a constant with its values."""
    options = getattr(schema, f"{name.capitalize()}OptionsT")()
    options.fusedActivationFunction = ACTIVATION[activation]
    operands = []
    for shape, scale, zero_point, *values in (a, b):
        given = tensor(shape, scale, zero_point)
        operands.append((given, np.array(values[0], np.int8)) if values else given)
    return single(name, operands, tensor(*y), options)


def concatenation(shapes, axis, quantization=(0.1, 3)):
    """CONCATENATION of activations of these shapes."""
    y = list(shapes[0])
    y[axis] = sum(shape[axis] for shape in shapes)
    options = schema.ConcatenationOptionsT(axis=axis)
    inputs = [tensor(shape, *quantization) for shape in shapes]
    return single("CONCATENATION", inputs, tensor(y, *quantization), options)


def mean(shape, axes, x=(0.05, -7), y=(0.03, 11), keep=True):
    """MEAN over axes, between tensors given as (scale, zero point)."""
    kept = [1 if i in axes else size for i, size in enumerate(shape) if keep or i not in axes]
    options = schema.ReducerOptionsT(keepDims=keep)
    return single("MEAN", [tensor(shape, *x), integers(axes)], tensor(kept, *y), options)


def moved(name, shape, made, *constants, options=None):
    """An operator that moves values of one scale, with integer constants."""
    operands = [tensor(shape, 0.1, 3), *map(integers, constants)]
    return single(name, operands, tensor(made, 0.1, 3), options)


def pad_v2(shape, amounts, value):
    """PADV2 with a value."""
    made = [size + sum(both) for size, both in zip(shape, amounts, strict=True)]
    constant = (tensor((), 0.1, 3), np.array(value, np.int8))
    operands = [tensor(shape, 0.1, 3), integers(amounts), constant]
    return single("PADV2", operands, tensor(made, 0.1, 3), schema.PadV2OptionsT())


def strided_slice(shape, made, start, end, step, **masks):
    """STRIDED_SLICE with masks by the names of its options."""
    options = schema.StridedSliceOptionsT(**masks)
    return moved("STRIDED_SLICE", shape, made, start, end, step, options=options)
