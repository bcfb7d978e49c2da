"""Layers that compute in float32 what TensorFlow Lite's int8 kernels will make of them.

Weights: symmetric, one scale per output channel, integers in [-127, 127]. Activations: asymmetric,
one scale per tensor, 256 steps. Rounding lets gradients through as if it were not there. The
roundings of biases (to int32) and of rescaling (a 31-bit multiplier) are too fine to train with.
"""

from collections.abc import Callable

import keras
from keras import layers, ops

from scalpel_tf.train.layers import Masked, kernels

MEMORY = 0.99  # of a range that shrinks
LARGEST = 127
STEPS = 255
CHANNEL_AXES = {"dense": (-1,), "conv": (-1,), "depthwise": (-2, -1), "transposed": (-2,)}
FUSED = (keras.activations.linear, keras.activations.relu, keras.activations.relu6)


def fake_kernel(kernel, kind: str):
    """The float tensor nearest to `kernel` that int8 weights with a scale per output can express.

    kind: of core.layout, but no embedding. A zero stays 0 exactly.
    """
    channels = {axis % len(kernel.shape) for axis in CHANNEL_AXES[kind]}
    others = [axis for axis in range(len(kernel.shape)) if axis not in channels]
    scale = ops.max(ops.abs(kernel), others, keepdims=True) / LARGEST
    steps = ops.round(kernel / ops.where(scale > 0, scale, 1))
    return _straight_through(kernel, steps * scale)


class ActivationRange(layers.Layer):
    """Rounds a tensor to 256 steps between its lowest and its highest value, 0 always being one.

    While `observing`, the range widens to what passes, unrounded, as TensorFlow Lite calibrates.
    In training it follows each batch: it widens at once, so that nothing is ever cut off, which the
    converter does not do either, and shrinks towards the batch's by 1 % a step. In inference it
    stays. A range that has seen nothing lets everything pass.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        self.supports_masking = True
        self.observing = False
        for end in ("low", "high"):
            variable = self.add_weight(shape=(), initializer="zeros", trainable=False, name=end)
            setattr(self, end, variable)
        self.built = True

    def call(self, inputs, training=False):
        if "float" not in keras.backend.standardize_dtype(inputs.dtype):
            return inputs
        values = ops.cast(inputs, "float32")
        if self.observing or training:
            self._follow(values)
        return inputs if self.observing else ops.cast(self._rounded(values), inputs.dtype)

    def _follow(self, values):
        seen = ops.minimum(ops.min(values), 0), ops.maximum(ops.max(values), 0)
        ends = zip((self.low, self.high), seen, (ops.minimum, ops.maximum), strict=True)
        for variable, end, wider in ends:
            shrunk = variable if self.observing else MEMORY * variable + (1 - MEMORY) * end
            variable.assign(ops.stop_gradient(wider(end, shrunk)))

    def _rounded(self, values):
        width = self.high - self.low
        scale = ops.where(width > 0, width, 1) / STEPS
        zero_point = ops.round(-self.low / scale)
        steps = ops.clip(ops.round(values / scale) + zero_point, 0, STEPS) - zero_point
        return ops.where(width > 0, _straight_through(values, steps * scale), values)


@keras.saving.register_keras_serializable("scalpel_tf")
class FakeInt8(layers.Wrapper):
    """A layer as its int8 kernel runs it, whose zero weights stay zero under any optimizer.

    The zeros are those of `hold_zeros`, kept in boolean variables that act in the layer's call and
    as the kernels' constraints. The wrapper bears the name of the layer inside.

    rounds: of "kernels", "inputs", "sums" (in front of an activation that is not fused into the
        layer's own kernel) and "outputs"; with none, the layer only keeps its zeros.
    """

    def __init__(self, layer, rounds=("kernels", "outputs"), **kwargs):
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy, **kwargs})
        self.rounds = tuple(rounds)
        self.autocast = layer.autocast
        self.supports_masking = layer.supports_masking
        self.supports_jit = layer.supports_jit
        self.inputs_range = ActivationRange() if "inputs" in rounds else None
        self.sums_range = ActivationRange() if "sums" in rounds else None
        self.outputs_range = ActivationRange() if "outputs" in rounds else None
        self.held = []

    def build(self, input_shape=None):
        super().build(input_shape)
        for index, (variable, kind) in enumerate(kernels(self.layer)):
            mask = self.add_weight(
                shape=variable.shape,
                initializer="ones",
                dtype="bool",
                trainable=False,
                name=f"{variable.name}_mask",
            )
            setattr(self, f"mask_{index}", mask)  # tf.train.Checkpoint goes by attributes
            variable.constraint = Masked(mask, variable.constraint)
            self.held.append((variable, mask, kind))

    def call(self, inputs, **kwargs):
        if self.inputs_range is not None:
            inputs = self.inputs_range(inputs)
        if self.sums_range is None:
            outputs = self._run(inputs, kwargs)
        else:
            activation, self.layer.activation = self.layer.activation, keras.activations.linear
            try:
                outputs = self._run(inputs, kwargs)
            finally:
                self.layer.activation = activation
            outputs = activation(self.sums_range(outputs))
        return outputs if self.outputs_range is None else self.outputs_range(outputs)

    def _run(self, inputs, kwargs):
        """The layer with other values in its kernels; its updates and losses stay."""
        if not self.held:
            return self.layer(inputs, **kwargs)
        values = [(held[0], self._value(*held)) for held in self.held]
        with keras.StatelessScope(values, collect_losses=True) as scope:
            outputs = self.layer(inputs, **kwargs)
        for loss in scope.losses:
            self.add_loss(loss)
        for variable in self.layer.non_trainable_variables:
            value = scope.get_current_value(variable)
            if value is not None:
                variable.assign(value)
        return outputs

    def _value(self, variable, mask, kind):
        kernel = ops.where(mask, variable, 0)
        return fake_kernel(kernel, kind) if "kernels" in self.rounds else kernel

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs, previous_mask=None):
        return self.layer.compute_mask(inputs, previous_mask)

    def hold_zeros(self) -> None:
        """From now on, what is zero in the kernels stays zero."""
        for variable, mask, _ in self.held:
            mask.assign(ops.not_equal(variable, 0))

    def apply_masks(self) -> None:
        """Zeroes what is held; the optimizer does it after each of its own steps."""
        for variable, mask, _ in self.held:
            variable.assign(ops.where(mask, variable, 0))

    def get_config(self):
        return {**super().get_config(), "rounds": list(self.rounds)}


@keras.saving.register_keras_serializable("scalpel_tf")
class FakeInt8Operation(layers.Layer):
    """An operation of keras.ops, `a + b` for one, whose output is rounded to int8."""

    def __init__(self, operation, **kwargs):
        super().__init__(**{"name": operation.name, "autocast": False, **kwargs})
        self.operation = operation
        self.outputs_range = ActivationRange()
        self.built = True

    def call(self, *args, **kwargs):
        return self.outputs_range(self.operation(*args, **kwargs))

    def get_config(self):
        operation = keras.saving.serialize_keras_object(self.operation)
        return {**super().get_config(), "operation": operation}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        operation = keras.saving.deserialize_keras_object(config["operation"], custom_objects)
        return cls(**{**config, "operation": operation})


def ranges(layer: layers.Layer) -> list[ActivationRange]:
    """The ranges of a FakeInt8 or FakeInt8Operation."""
    names = ("inputs_range", "sums_range", "outputs_range")
    found = [getattr(layer, name, None) for name in names]
    return [found_range for found_range in found if found_range is not None]


def is_fused(activation: Callable | None) -> bool:
    """Whether int8 kernels apply an activation themselves, before they round."""
    return activation is None or activation in FUSED


def _straight_through(values, rounded):
    return values + ops.stop_gradient(rounded - values)
