"""What an int8 kernel may rely on, checked once: types, scales and shapes of every operator."""

import math

import numpy as np

from scalpel_tf.deploy import shapes
from scalpel_tf.deploy.quantization import hard_swish_multiplier, sum_factor

WEIGHT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
MAX_REACH = 2**24
ALIASES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
ELEMENTWISE = ("ADD", "SUB", "MUL")
FIXED_OUTPUT = {"SOFTMAX": (1 / 256, -128), "LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
ENDS = ("QUANTIZE", "DEQUANTIZE")
SAME_SHAPE = (
    "SOFTMAX",
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "LOGISTIC",
    "TANH",
    "HARD_SWISH",
    "LEAKY_RELU",
    *ENDS,
)


def require_int8(model) -> None:
    """Raises ValueError, one sentence, unless every operator of a tflite.Model is fully int8.

    float32 and uint8 may stand at the model's ends only, behind a QUANTIZE or DEQUANTIZE. Of the
    operators whose arithmetic this package knows, scales and shapes have to agree too; others are
    looked at for their types only.
    """
    for index in model.inputs:
        if len(model.tensors[index].shape) > 1 and model.tensors[index].shape[0] != 1:
            raise ValueError(f"{_where(model.tensors[index])} is an input of a batch above 1.")
    # The ends come last: a float32 operator, not the DEQUANTIZE before it, is to be named.
    steps = sorted(enumerate(model.operators), key=lambda step: step[1].name in ENDS)
    for index, operator in steps:
        where = f"Operator {index} ({operator.name})"
        inputs = [model.tensors[i] if i >= 0 else None for i in operator.inputs]
        outputs = [model.tensors[i] for i in operator.outputs]
        _require_types(where, model, operator, inputs, outputs)
        if operator.name in WEIGHT_AXIS:
            require_operands(where, inputs, outputs, 2)
            _require_weights(where, operator, *[*inputs, None][:3], *outputs)
        if operator.name in (*POOLS, *SAME_SHAPE, *ALIASES):
            require_operands(where, inputs, outputs, 1)
            require_shapes(where, operator, inputs[0], outputs[0])
        if operator.name in shapes.OUTPUTS:
            require_made(where, operator, inputs, outputs)
            if operator.name in ("CONCATENATION", *ELEMENTWISE, "PADV2"):
                _require_scales(where, operator, inputs, outputs[0])
        if operator.name in FIXED_OUTPUT:
            _require_fixed(where, operator, inputs[0], outputs[0])


def window(size, filter, stride, dilation, padding) -> tuple[int, int]:
    """(outputs, zeros before the first input) of a window over one axis of `size` inputs.

    All in elements; padding is "SAME" or "VALID". Raises ValueError where nothing comes out
    (TFLite's ComputeOutSize and ComputePadding).
    """
    if min(filter, stride, dilation) < 1 or padding not in ("SAME", "VALID"):
        raise ValueError(
            f"A window needs a positive size, stride and dilation, and padding SAME or VALID; "
            f"got {filter}, {stride}, {dilation} and {padding}."
        )
    reach = (filter - 1) * dilation + 1
    if max(reach, stride) > MAX_REACH:
        raise ValueError(f"A window over {reach} elements in steps of {stride} is too large.")
    outputs = -(-(size if padding == "SAME" else size - reach + 1) // stride)
    if outputs < 1:
        raise ValueError(f"A window over {reach} elements does not fit in {size}.")
    return outputs, max((outputs - 1) * stride + reach - size, 0) // 2


def _where(tensor):
    return f"Tensor {tensor.index} ({tensor.name!r})"


def _require_types(where, model, operator, inputs, outputs):
    at_input = {"QUANTIZE": ("float32", "uint8")}.get(operator.name, ())
    at_output = {"QUANTIZE": ("uint8",), "DEQUANTIZE": ("float32",)}.get(operator.name, ())
    activations = [tensor for tensor in inputs if tensor is not None and tensor.data is None]
    foreign = 0
    for tensor in [*activations, *outputs]:
        if tensor.dtype != np.int8:
            made_here = tensor.index in operator.outputs
            ends, kinds = (model.outputs, at_output) if made_here else (model.inputs, at_input)
            foreign += 1
            if tensor.index not in ends or tensor.dtype.name not in kinds or foreign > 1:
                raise ValueError(_foreign(where, tensor.dtype.name, inputs))
        if tensor.dtype in (np.int8, np.uint8):
            _require_scale(tensor)


def _foreign(where, kind, inputs):
    constants = [t.dtype for t in inputs if t is not None and t.data is not None]
    if kind == "float32" and np.int8 in constants:
        return (
            f"{where} has int8 weights but float32 activations (dynamic-range quantisation); "
            "convert with a representative dataset."
        )
    if kind == "float32":
        return f"{where} works in float32; convert to full int8 with a representative dataset."
    return f"{where} works on {kind} activations; only int8 is supported."


def _require_scale(tensor):
    """One positive finite scale, and a zero point that its type can hold."""
    if tensor.scale.size != 1:
        raise ValueError(f"{_where(tensor)} has {tensor.scale.size} scales; an activation has one.")
    _require_positive(tensor)
    limits = np.iinfo(tensor.dtype)
    if not limits.min <= tensor.zero_point[0] <= limits.max:
        raise ValueError(f"{_where(tensor)} has the zero point {tensor.zero_point[0]}.")


def _require_positive(tensor):
    if not (np.isfinite(tensor.scale) & (tensor.scale > 0)).all():
        raise ValueError(f"{_where(tensor)} has a scale that is not a positive number.")


def require_operands(where, inputs, outputs, count) -> None:
    """Raises ValueError unless there are `count` inputs, the first an activation, and an output."""
    if len(inputs) < count or len(outputs) != 1 or any(t is None for t in inputs[:count]):
        raise ValueError(f"{where} needs {count} inputs and one output.")
    if inputs[0].data is not None:
        raise ValueError(f"{where} works on a constant; fold it before the conversion.")


def _require_weights(where, operator, data, weights, bias, output):
    axis = WEIGHT_AXIS[operator.name]
    if weights.data is None or weights.dtype != np.int8:
        raise ValueError(f"{where} needs constant int8 weights.")
    if operator.options.get("weights_format", "DEFAULT") != "DEFAULT":
        raise ValueError(f"{where} has shuffled weights, which are not supported.")
    if len(weights.shape) != (2 if operator.name == "FULLY_CONNECTED" else 4):
        raise ValueError(f"{where} has weights of shape {weights.shape}.")
    if weights.scale.size == 0 or (weights.scale.size > 1 and weights.axis != axis):
        raise ValueError(f"{where} has weights without a scale per output or per tensor.")
    if weights.zero_point.any():
        raise ValueError(f"{where} has asymmetric weights; their zero point must be 0.")
    _require_positive(weights)
    require_weight_shapes(where, operator, data, weights, output)
    if bias is not None:
        _require_bias(where, data, weights, bias, output, weights.shape[axis])


def _require_bias(where, data, weights, bias, output, count):
    if bias.data is None or bias.dtype != np.int32 or bias.data.size != count:
        raise ValueError(f"{where} needs a constant int32 bias of {count} entries.")
    if bias.scale.size not in (1, weights.scale.size) or bias.zero_point.any():
        raise ValueError(f"{where} has a bias without the scale of its products.")
    product = data.scale.astype(np.float64) * weights.scale
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(product - bias.scale) <= 0.02 * float(output.scale[0]))
    if wrong.any():
        raise ValueError(f"{where} has a bias whose scale is not that of its products.")


def require_weight_shapes(where, operator, data, weights, output) -> None:
    """Raises ValueError unless an operator with weights makes its output's shape."""
    if operator.name == "FULLY_CONNECTED":
        rows, rest = divmod(math.prod(data.shape), weights.shape[1])
        expected = math.prod(output.shape) == rows * weights.shape[0] and not rest
        expected = expected and output.shape[-1:] == weights.shape[:1]
    elif len(data.shape) != 4 or len(output.shape) != 4:
        expected = False
    elif operator.name == "CONV_2D":
        groups, rest = divmod(data.shape[3], weights.shape[3])
        expected = not rest and weights.shape[0] % groups == 0
        expected = expected and output.shape[3] == weights.shape[0]
        expected = expected and _places(where, operator, data, weights.shape[1:3], output)
    else:
        multiplier = operator.options["depth_multiplier"]
        expected = weights.shape[::3] == (1, data.shape[3] * multiplier)
        expected = expected and output.shape[3] == weights.shape[3]
        expected = expected and _places(where, operator, data, weights.shape[1:3], output)
    if not expected:
        raise ValueError(
            f"{where} cannot make {output.shape} of {data.shape} with weights {weights.shape}."
        )


def _places(where, operator, data, filter, output):
    """Whether the output has a batch of 1 and the height and width of windows over the input."""
    options = operator.options
    spans = zip(
        data.shape[1:3], filter, options["stride"], options.get("dilation", (1, 1)), strict=True
    )
    try:
        sizes = [window(*span, options["padding"])[0] for span in spans]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return data.shape[0] == 1 and output.shape[:3] == (1, *sizes)


def require_shapes(where, operator, data, output) -> None:
    """Raises ValueError unless an operator of one input makes its output's shape."""
    expected = math.prod(data.shape) == math.prod(output.shape)
    if operator.name in SAME_SHAPE:
        expected = data.shape == output.shape and len(data.shape) > 0
    if operator.name in POOLS:
        expected = len(data.shape) == len(output.shape) == 4 and data.shape[3] == output.shape[3]
        expected = expected and _places(where, operator, data, operator.options["filter"], output)
    if not expected:
        raise ValueError(f"{where} cannot make {output.shape} of {data.shape}.")
    if operator.name == "HARD_SWISH":
        if hard_swish_multiplier(data.scale[0], output.scale[0])[1] > 0:
            raise ValueError(f"{where} has an output scale below 1/128 of its input's.")


def _require_fixed(where, operator, data, output):
    scale, zero_point = FIXED_OUTPUT[operator.name]
    if output.scale != scale or output.zero_point != zero_point:
        raise ValueError(
            f"{where} needs an output scale of 1/{round(1 / scale)} and a zero point of "
            f"{zero_point}."
        )


def require_made(where, operator, inputs, outputs):
    """Raises ValueError unless constants and the other inputs make the output's size."""
    elementwise = operator.name in ELEMENTWISE
    least, most = {"CONCATENATION": (1, len(inputs)), "PADV2": (3, 3), "SLICE": (3, 3)}.get(
        operator.name, (4, 4) if operator.name == "STRIDED_SLICE" else (2, 2)
    )
    if not least <= len(inputs) <= most or None in inputs or len(outputs) != 1:
        raise ValueError(f"{where} needs {least} inputs and one output.")
    activations = [tensor for tensor in inputs if tensor.data is None]
    if not activations or (not elementwise and inputs[0].data is not None):
        raise ValueError(f"{where} works on a constant; fold it before the conversion.")
    try:
        made = shapes.OUTPUTS[operator.name](operator, inputs)
    except ValueError as error:
        raise ValueError(f"{where} {error}.") from error
    output = outputs[0]
    if math.prod(made) != math.prod(output.shape) or (elementwise and made != output.shape):
        raise ValueError(f"{where} cannot make {output.shape}; it makes {made}.")


def _require_scales(where, operator, inputs, output):
    operands = inputs[:1] + inputs[2:] if operator.name == "PADV2" else inputs
    for tensor in operands:
        if tensor.dtype != np.int8:
            raise ValueError(f"{where} has an operand of {tensor.dtype}; int8 is needed.")
        _require_scale(tensor)
    if operator.name == "PADV2" and (inputs[2].data is None or inputs[2].data.size != 1):
        raise ValueError(f"{where} needs one constant to pad with.")
    if operator.name == "CONCATENATION":
        alike = {(float(t.scale[0]), int(t.zero_point[0])) for t in (*inputs, output)}
        if len(alike) != 1 or any(t.data is not None for t in inputs):
            raise ValueError(f"{where} joins activations of one scale only.")
        if operator.options["activation"] != "NONE":
            raise ValueError(f"{where} has a fused activation, which is not supported.")
    if operator.name in ("ADD", "SUB"):
        factor = sum_factor(inputs[0].scale[0], inputs[1].scale[0], output.scale[0])
        if not factor < 1:
            raise ValueError(f"{where} has an output scale too small for its inputs'.")
