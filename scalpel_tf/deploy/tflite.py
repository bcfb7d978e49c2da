"""A `.tflite` file in memory: `read` gives a `Model`, `require_int8` refuses what is not int8.

The schema is `schema.fbs` of LiteRT, through its generated accessors. A flatbuffer is a graph of
offsets, so a small damaged file can describe something endless: every element that the reader
looks at is paid for out of a budget in proportion to the file's size.
"""

import math
import struct
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scalpel_tf.deploy.int8 import require_int8 as require_int8


def _names(enumeration):
    return {v: k for k, v in vars(enumeration).items() if not k.startswith("_")}


TYPE_NAMES = _names(schema.TensorType)
BUILTIN_NAMES = _names(schema.BuiltinOperator)
READABLE = {"FLOAT32", "FLOAT16", "INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"}
MAX_RANK = 8
MAX_BYTES = 2**31 - 1
TABLE_COST = 16  # bytes; no table that a tensor or an operator needs is smaller


@dataclass(frozen=True)
class Tensor:
    """One tensor. `scale` (float32) and `zero_point` (int64) have no, one, or shape[axis] entries.

    `data` is a read-only view of the file in the tensor's shape; None for an activation.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    data: np.ndarray | None


@dataclass(frozen=True)
class Operator:
    """One step. Absent optional inputs are -1; a custom operator goes by its custom code."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Model:
    """The only subgraph of a file; operators stand in an order in which they can run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    size: int


def read(data: bytes) -> Model:
    """The model in the bytes of a `.tflite` file.

    Time and memory are bounded by len(data), whatever it holds. Raises ValueError, one sentence,
    for anything that is not a well-formed model with one subgraph and static shapes.
    """
    data = bytes(data)
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise ValueError("This is not a .tflite file: the identifier TFL3 is missing.")
    try:
        return _model(data)
    except (struct.error, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"The .tflite file is damaged: {error}.") from error


class _Budget:
    """How many more bytes of the file may be looked at."""

    def __init__(self, size):
        self.left = 2 * size + 1024

    def spend(self, amount):
        self.left -= amount
        if self.left < 0:
            raise ValueError("The .tflite file is damaged: its vectors are larger than the file.")


def _model(data):
    root = schema.Model.GetRootAs(data)
    budget = _Budget(len(data))
    if root.SubgraphsLength() != 1:
        raise ValueError(
            f"A model must have exactly one subgraph; this one has {root.SubgraphsLength()}."
        )
    graph = root.Subgraphs(0)
    codes = [_operator_name(code, budget) for code in _tables(root, "OperatorCodes", budget)]
    buffers = [_buffer(*item) for item in enumerate(_tables(root, "Buffers", budget))]
    tables = _tables(graph, "Tensors", budget)
    count = len(tables)
    model = Model(
        tensors=tuple(_tensor(i, table, buffers, budget) for i, table in enumerate(tables)),
        operators=tuple(
            _operator(index, table, codes, count, budget)
            for index, table in enumerate(_tables(graph, "Operators", budget))
        ),
        inputs=_indices(graph, "Inputs", count, 0, budget),
        outputs=_indices(graph, "Outputs", count, 0, budget),
        size=len(data),
    )
    _require_order(model, {index for index, table in enumerate(tables) if table.IsVariable()})
    return model


def _tables(owner, field, budget):
    length = getattr(owner, f"{field}Length")()
    budget.spend(TABLE_COST * length)
    return [getattr(owner, field)(index) for index in range(length)]


def _numbers(owner, field, budget):
    if getattr(owner, f"{field}IsNone")():
        return np.empty(0, np.int32)
    budget.spend(getattr(owner, f"{field}Length")())
    try:
        return getattr(owner, f"{field}AsNumpy")()
    except ValueError as error:
        raise ValueError(f"The .tflite file is damaged: {field} ends outside of it.") from error


def _text(value, budget):
    budget.spend(len(value or b""))
    return (value or b"").decode(errors="replace")


def _indices(owner, field, count, lowest, budget):
    indices = tuple(_numbers(owner, field, budget).tolist())
    for index in indices:
        if not lowest <= index < count:
            raise ValueError(f"{field} names tensor {index}, but there are {count} tensors.")
    return indices


def _operator_name(code, budget):
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        name = _text(code.CustomCode(), budget)
        return f"CUSTOM {name}" if name in BUILTIN_NAMES.values() else name
    return BUILTIN_NAMES.get(number, f"BUILTIN_{number}")


def _buffer(index, buffer):
    if buffer.Offset() > 1 or buffer.Size() > 1:
        raise ValueError(f"Buffer {index} lies outside the flatbuffer, which is not supported.")
    if buffer.DataLength() == 0:
        return None
    try:
        return buffer.DataAsNumpy()
    except ValueError as error:
        raise ValueError(f"Buffer {index} ends outside of the file.") from error


def _tensor(index, table, buffers, budget):
    name = _text(table.Name(), budget)
    where = f"Tensor {index} ({name!r})"
    if table.Sparsity() is not None:
        raise ValueError(f"{where} is stored in TFLite's sparse encoding; convert it dense.")
    kind = TYPE_NAMES.get(table.Type(), str(table.Type()))
    if kind not in READABLE:
        raise ValueError(f"{where} has the type {kind}, which is not supported.")
    dtype = np.dtype(kind.lower())
    shape = _shape(where, table, dtype, budget)
    scale, zero_point, axis = _quantization(where, table.Quantization(), shape, budget)
    if not 0 <= table.Buffer() < len(buffers):
        raise ValueError(f"{where} names buffer {table.Buffer()} of {len(buffers)}.")
    data = buffers[table.Buffer()]
    if data is not None:
        expected = math.prod(shape) * dtype.itemsize
        if data.size != expected:
            raise ValueError(f"{where} needs {expected} bytes; its buffer has {data.size}.")
        data = data.view(dtype).reshape(shape)
    return Tensor(index, name, shape, dtype, scale, zero_point, axis, data)


def _shape(where, table, dtype, budget):
    shape = tuple(_numbers(table, "Shape", budget).tolist())
    signature = tuple(_numbers(table, "ShapeSignature", budget).tolist()) or shape
    if len(shape) > MAX_RANK or len(signature) != len(shape):
        ranks = f"{len(shape)} dimensions, {len(signature)} in its signature"
        raise ValueError(f"{where} has {ranks}; the same number up to {MAX_RANK} is read.")
    if any(size < 1 for size in shape) or any(size < 1 for size in signature[1:]):
        raise ValueError(f"{where} has no static shape: {signature}.")
    if math.prod(shape) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"{where} of shape {shape} is larger than 2 GiB.")
    return shape


def _quantization(where, table, shape, budget):
    if table is None or table.ScaleLength() == 0:
        return np.empty(0, np.float32), np.empty(0, np.int64), 0
    if table.DetailsType() != schema.QuantizationDetails.NONE:
        raise ValueError(f"{where} has a custom quantisation, which is not supported.")
    scale = _numbers(table, "Scale", budget).astype(np.float32)
    zero_point = _numbers(table, "ZeroPoint", budget).astype(np.int64)
    if zero_point.size == 0:
        zero_point = np.zeros(scale.size, np.int64)
    axis = table.QuantizedDimension()
    if zero_point.size != scale.size:
        raise ValueError(f"{where} has {scale.size} scales but {zero_point.size} zero points.")
    if scale.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scale.size):
        raise ValueError(f"{where} of shape {shape} has {scale.size} scales along axis {axis}.")
    scale.flags.writeable = zero_point.flags.writeable = False
    return scale, zero_point, axis if scale.size > 1 else 0


def _operator(index, table, codes, count, budget):
    if not 0 <= table.OpcodeIndex() < len(codes):
        raise ValueError(f"Operator {index} names code {table.OpcodeIndex()} of {len(codes)}.")
    name = codes[table.OpcodeIndex()]
    options = {}
    if name in OPTIONS:
        kind, fields = OPTIONS[name]
        if table.BuiltinOptionsType() != getattr(schema.BuiltinOptions, kind.__name__):
            raise ValueError(f"Operator {index} ({name}) does not carry {kind.__name__}.")
        union, holder = table.BuiltinOptions(), kind()
        holder.Init(union.Bytes, union.Pos)
        options = {key: field(holder) for key, field in fields.items()}
    return Operator(
        name=name,
        inputs=_indices(table, "Inputs", count, -1, budget),
        outputs=_indices(table, "Outputs", count, 0, budget),
        options=options,
    )


def _require_order(model, variables):
    ready = {tensor.index for tensor in model.tensors if tensor.data is not None} | variables
    for index in model.inputs:
        if index in ready:
            raise ValueError(f"The model's input {index} is a constant or a variable.")
    ready.update(model.inputs)
    for index, operator in enumerate(model.operators):
        for tensor in operator.inputs:
            if tensor != -1 and tensor not in ready:
                raise ValueError(
                    f"Operator {index} ({operator.name}) reads tensor {tensor} before it is made."
                )
        for tensor in operator.outputs:
            if tensor in ready:
                raise ValueError(
                    f"Operator {index} ({operator.name}) makes tensor {tensor} a second time."
                )
            ready.add(tensor)
    made = {tensor for operator in model.operators for tensor in operator.outputs}
    for index in model.outputs:
        if index not in made:
            raise ValueError(f"No operator makes the model's output {index}.")
    if not (model.inputs and model.outputs and model.operators):
        raise ValueError("A model needs at least one input, one operator and one output.")


def _choice(enumeration, field):
    names, number = _names(enumeration), methodcaller(field)
    return lambda options: names.get(number(options), str(number(options)))


def _pair(height, width):
    return lambda options: (getattr(options, height)(), getattr(options, width)())


WINDOW = {
    "padding": _choice(schema.Padding, "Padding"),
    "stride": _pair("StrideH", "StrideW"),
    "activation": _choice(schema.ActivationFunctionType, "FusedActivationFunction"),
}
POOL = {**WINDOW, "filter": _pair("FilterHeight", "FilterWidth")}
CONV = {**WINDOW, "dilation": _pair("DilationHFactor", "DilationWFactor")}
DEPTHWISE = {**CONV, "depth_multiplier": methodcaller("DepthMultiplier")}
DENSE = {
    "activation": WINDOW["activation"],
    "weights_format": _choice(schema.FullyConnectedOptionsWeightsFormat, "WeightsFormat"),
    "keep_num_dims": methodcaller("KeepNumDims"),
}
OPTIONS = {
    "CONV_2D": (schema.Conv2DOptions, CONV),
    "DEPTHWISE_CONV_2D": (schema.DepthwiseConv2DOptions, DEPTHWISE),
    "AVERAGE_POOL_2D": (schema.Pool2DOptions, POOL),
    "MAX_POOL_2D": (schema.Pool2DOptions, POOL),
    "FULLY_CONNECTED": (schema.FullyConnectedOptions, DENSE),
    "ADD": (schema.AddOptions, {"activation": WINDOW["activation"]}),
    "SUB": (schema.SubOptions, {"activation": WINDOW["activation"]}),
    "MUL": (schema.MulOptions, {"activation": WINDOW["activation"]}),
    "CONCATENATION": (
        schema.ConcatenationOptions,
        {"axis": methodcaller("Axis"), "activation": WINDOW["activation"]},
    ),
    "STRIDED_SLICE": (
        schema.StridedSliceOptions,
        {
            "begin": methodcaller("BeginMask"),
            "end": methodcaller("EndMask"),
            "ellipsis": methodcaller("EllipsisMask"),
            "new_axis": methodcaller("NewAxisMask"),
            "shrink": methodcaller("ShrinkAxisMask"),
            "offset": methodcaller("Offset"),
        },
    ),
    "LEAKY_RELU": (schema.LeakyReluOptions, {"alpha": methodcaller("Alpha")}),
    "SOFTMAX": (schema.SoftmaxOptions, {"beta": methodcaller("Beta")}),
}
