"""A `.tflite` -> a `.tflite` in which some operators are custom ones; all else stays as it is."""

from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ALIGNMENT = 16  # of every constant, as schema.fbs asks for
TYPES = {"int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8,
         "int16": schema.TensorType.INT16, "int32": schema.TensorType.INT32}  # fmt: skip


@dataclass(frozen=True)
class Custom:
    """A custom operator: its code, its options, and the constants behind its first input."""

    code: str
    options: bytes
    constants: dict[str, np.ndarray]


def rewrite(data: bytes, replacements: dict[int, Custom]) -> bytes:
    """The model of the bytes, in which operators, by their number, are replaced.

    A custom operator takes the first input and all outputs of the one that it replaces.  What
    nothing uses any more is left out.
    """
    tree = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = tree.subgraphs[0]
    for index, custom in replacements.items():
        operator = graph.operators[index]
        prefix = graph.tensors[operator.outputs[0]].name.decode()
        constants = []
        for name, array in custom.constants.items():
            constants.append(len(graph.tensors))
            graph.tensors.append(_constant(tree, f"{prefix};{name}", array))
        operator.inputs = [int(operator.inputs[0]), *constants]
        operator.builtinOptionsType = schema.BuiltinOptions.NONE
        operator.builtinOptions = None
        operator.customOptions = np.frombuffer(custom.options, np.uint8)
        operator.opcodeIndex = _code(tree, custom.code)
    return _packed(tree)


def isolate(data: bytes, index: int) -> bytes:
    """The model of one operator: its first input is the model's, the others are constants."""
    tree = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = tree.subgraphs[0]
    operator = graph.operators[index]
    graph.operators = [operator]
    graph.inputs, graph.outputs = [int(operator.inputs[0])], [int(i) for i in operator.outputs]
    tree.signatureDefs, tree.metadata = None, None
    return _packed(tree)


def _constant(tree, name, array):
    tree.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
    return schema.TensorT(
        name=name,
        shape=list(array.shape),
        type=TYPES[array.dtype.name],
        buffer=len(tree.buffers) - 1,
    )


def _code(tree, name):
    """The index of a custom operator code, added where it is missing."""
    for index, code in enumerate(tree.operatorCodes):
        if code.customCode == name:
            return index
    number = schema.BuiltinOperator.CUSTOM
    tree.operatorCodes.append(
        schema.OperatorCodeT(
            deprecatedBuiltinCode=number, builtinCode=number, customCode=name, version=1
        )
    )
    return len(tree.operatorCodes) - 1


def _packed(tree):
    _leave_out_unused(tree)
    tree.buffers = [_AlignedBuffer(data=buffer.data) for buffer in tree.buffers]
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _leave_out_unused(tree):
    graph = tree.subgraphs[0]
    signatures = [
        entry for s in tree.signatureDefs or () for entry in (*(s.inputs or ()), *(s.outputs or ()))
    ]
    lists = [(op, field) for op in graph.operators for field in ("inputs", "outputs")]
    lists += [(graph, "inputs"), (graph, "outputs")]
    lists += [(op, "intermediates") for op in graph.operators if op.intermediates is not None]
    used = {int(i) for owner, field in lists for i in getattr(owner, field)} - {-1}
    used |= {entry.tensorIndex for entry in signatures}
    graph.tensors, place = _kept(graph.tensors, used)
    for owner, field in lists:
        setattr(owner, field, [place.get(int(i), -1) for i in getattr(owner, field)])
    for entry in signatures:
        entry.tensorIndex = place[entry.tensorIndex]

    metadata = list(tree.metadata or ())
    used = {0, *(tensor.buffer for tensor in graph.tensors), *(entry.buffer for entry in metadata)}
    tree.buffers, place = _kept(tree.buffers, used)
    for owner in (*graph.tensors, *metadata):
        owner.buffer = place[owner.buffer]

    used = {op.opcodeIndex for op in graph.operators}
    tree.operatorCodes, place = _kept(tree.operatorCodes, used)
    for operator in graph.operators:
        operator.opcodeIndex = place[operator.opcodeIndex]


def _kept(items, used):
    """(the used items, where each of them now is)."""
    kept = sorted(used)
    return [items[i] for i in kept], {old: new for new, old in enumerate(kept)}


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data starts at a multiple of ALIGNMENT, which Python's own would not."""

    def Pack(self, builder):
        data = None
        if self.data is not None and len(self.data):
            raw = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(raw), ALIGNMENT)
            builder.head -= len(raw)
            builder.Bytes[builder.head : builder.head + len(raw)] = raw
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)
