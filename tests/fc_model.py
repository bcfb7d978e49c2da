"""An int8 model of independent fully connected layers, made by hand, and what it must give."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.quantization import activation_range, conv_multipliers
from scalpel_tf.deploy.tflite import Model, Operator, Tensor


def layer(
    out, cols, density, width, seed, *, right_shift=9, activation="NONE", spread=0, dyadic=False
):
    """One layer: weights in random groups, scales that give every row about that right shift.

    spread: by how much the shift varies.  dyadic: scales are powers of two, sums may be ties.
    """
    rng = np.random.default_rng(seed)
    groups = -(-cols // width)
    keep = np.repeat(rng.random((out, groups)) < density, width, 1)[:, :cols]
    weights = np.where(keep, rng.integers(-127, 128, (out, cols)), 0).astype(np.int8)
    shifts = right_shift + rng.integers(-spread, spread + 1, out)
    return {
        "weights": weights,
        "bias": rng.integers(-(2**14), 2**14, out).astype(np.int32),
        "scale": (2.0**-shifts * (0.5 if dyadic else rng.uniform(0.51, 0.99, out))).astype("f4"),
        "zero_points": (int(rng.integers(-128, 128)), int(rng.integers(-128, 128))),
        "activation": activation,
        "x": rng.integers(-128, 128, (3, cols)).astype(np.int8),
    }


def model(layers) -> Model:
    """The layers side by side: input i goes through layer i to output i."""
    tensors, operators = [], []

    def add(name, shape, dtype, scale, zero_point, data=None):
        scale = np.atleast_1d(np.asarray(scale, np.float32))
        zero_point = np.full(len(scale), zero_point, np.int64)
        tensors.append(
            Tensor(len(tensors), name, shape, np.dtype(dtype), scale, zero_point, 0, data)
        )
        return len(tensors) - 1

    for index, entry in enumerate(layers):
        out, cols = entry["weights"].shape
        x = add(f"x{index}", (1, cols), "i1", 1.0, entry["zero_points"][0])
        w = add(f"w{index}", (out, cols), "i1", entry["scale"], 0, entry["weights"])
        b = add(f"b{index}", (out,), "i4", entry["scale"], 0, entry["bias"])
        y = add(f"y{index}", (1, out), "i1", 1.0, entry["zero_points"][1])
        options = {"activation": entry["activation"], "weights_format": "DEFAULT"}
        operators.append(Operator("FULLY_CONNECTED", (x, w, b), (y,), options))
    inputs, outputs = zip(*((op.inputs[0], op.outputs[0]) for op in operators), strict=True)
    return Model(tuple(tensors), tuple(operators), inputs, outputs, 0)


def expected(entry, rounding) -> np.ndarray:
    """The layer's outputs, in Python's integers."""
    multiplier, shift = conv_multipliers(1.0, entry["scale"], 1.0)
    x = entry["x"].astype(np.int64) - entry["zero_points"][0]
    sums = x @ entry["weights"].astype(np.int64).T + entry["bias"]
    low, high = activation_range(entry["activation"], 1.0, entry["zero_points"][1])
    scaled = [
        [
            fc.requantize(acc, m, -int(s), rounding) + entry["zero_points"][1]
            for acc, m, s in zip(row, multiplier, shift, strict=True)
        ]
        for row in sums
    ]
    return np.clip(scaled, low, high).astype(np.int8)


def as_tflite(network: Model) -> bytes:
    """The model in a file, for the interpreters."""
    buffers, tensors = [schema.BufferT()], []
    for tensor in network.tensors:
        if tensor.data is not None:
            raw = np.frombuffer(tensor.data.tobytes(), np.uint8)
            buffers.append(schema.BufferT(data=raw))
        tensors.append(
            schema.TensorT(
                name=tensor.name,
                shape=list(tensor.shape),
                type=getattr(schema.TensorType, tensor.dtype.name.upper()),
                buffer=0 if tensor.data is None else len(buffers) - 1,
                quantization=schema.QuantizationParametersT(
                    scale=tensor.scale, zeroPoint=tensor.zero_point
                ),
            )
        )
    operators = [
        schema.OperatorT(
            inputs=list(operator.inputs),
            outputs=list(operator.outputs),
            builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
            builtinOptions=schema.FullyConnectedOptionsT(),
        )
        for operator in network.operators
    ]
    code = schema.BuiltinOperator.FULLY_CONNECTED
    graph = schema.SubGraphT(
        tensors=tensors,
        operators=operators,
        inputs=list(network.inputs),
        outputs=list(network.outputs),
    )
    tree = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=5)
        ],
        subgraphs=[graph],
        buffers=buffers,
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())
