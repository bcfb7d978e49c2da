"""What a float32 kernel may rely on, checked once: types and shapes of every operator."""

import numpy as np

from scalpel_tf.deploy import float_ops, shapes
from scalpel_tf.deploy.int8 import (
    ALIASES,
    POOLS,
    WEIGHT_AXIS,
    require_made,
    require_operands,
    require_shapes,
    require_weight_shapes,
)

KNOWN = tuple(sorted(["FULLY_CONNECTED", "CONV_2D", *ALIASES, *float_ops.LOWER]))
SINGLE = ("SOFTMAX", "RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", *POOLS, *ALIASES)


def require_float32(model) -> None:
    """Raises ValueError, one sentence, unless float32 kernels can run every operator."""
    for index in model.inputs:
        tensor = model.tensors[index]
        if len(tensor.shape) > 1 and tensor.shape[0] != 1:
            raise ValueError(
                f"Tensor {index} ({tensor.name!r}) is an input of a batch of {tensor.shape[0]}; "
                "convert the model with a batch of 1."
            )
    for index, operator in enumerate(model.operators):
        where = f"Operator {index} ({operator.name})"
        if operator.name not in KNOWN:
            raise ValueError(
                f"Operator {index} is {operator.name}, which has no float32 kernel yet; expected "
                f"one of {', '.join(KNOWN)}. Replace it in the model."
            )
        inputs = [model.tensors[i] if i >= 0 else None for i in operator.inputs]
        outputs = [model.tensors[i] for i in operator.outputs]
        _require_types(where, inputs, outputs)
        fused = operator.options.get("activation", "NONE")
        if fused not in float_ops.LIMITS or (operator.name == "CONCATENATION" and fused != "NONE"):
            raise ValueError(f"{where} has the fused activation {fused}, which is not supported.")
        if operator.name in WEIGHT_AXIS:
            require_operands(where, inputs, outputs, 2)
            _require_weights(where, operator, *[*inputs, None][:3], *outputs)
        if operator.name in SINGLE:
            require_operands(where, inputs, outputs, 1)
            require_shapes(where, operator, inputs[0], outputs[0])
        if operator.name in shapes.OUTPUTS:
            require_made(where, operator, inputs, outputs)
        if operator.name == "CONCATENATION" and any(t.data is not None for t in inputs):
            raise ValueError(f"{where} joins a constant, which is not supported.")


def _require_types(where, inputs, outputs):
    activations = [tensor for tensor in inputs if tensor is not None and tensor.data is None]
    for tensor in [*activations, *outputs]:
        if tensor.dtype != np.float32:
            raise ValueError(
                f"{where} works on {tensor.dtype} activations; float32 is needed here, or "
                'dtype="int8" for a fully quantised model.'
            )
    for tensor in inputs:
        integers = tensor is not None and tensor.data is not None and tensor.dtype.kind == "i"
        if integers and tensor.dtype.itemsize < 4:
            raise ValueError(
                f"{where} has int8 weights but float32 activations (dynamic-range quantisation); "
                "convert without optimisations."
            )


def _require_weights(where, operator, data, weights, bias, output):
    if weights.data is None or weights.dtype != np.float32:
        raise ValueError(f"{where} needs constant float32 weights.")
    if operator.options.get("weights_format", "DEFAULT") != "DEFAULT":
        raise ValueError(f"{where} has shuffled weights, which are not supported.")
    if len(weights.shape) != (2 if operator.name == "FULLY_CONNECTED" else 4):
        raise ValueError(f"{where} has weights of shape {weights.shape}.")
    require_weight_shapes(where, operator, data, weights, output)
    count = weights.shape[WEIGHT_AXIS[operator.name]]
    if bias is None:
        return
    if bias.data is None or bias.dtype != np.float32 or bias.data.size != count:
        raise ValueError(f"{where} needs a constant float32 bias of {count} entries.")
