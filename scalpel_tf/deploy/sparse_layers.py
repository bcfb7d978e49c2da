"""GroupedCSRDense and GroupedCSRConv2D: Keras layers whose kernels are grouped CSR (core/gcsr.py).

`sparsify` makes them; their number of stored groups is part of the config, so that they build
before their weights are loaded. A fresh layer has groups of zeros, spread evenly over its rows.

values   trainable float32; or bfloat16 or int8, fixed, int8 with one scale per row in `scales`:
         fine-tune in float32, then sparsify in fewer bits
columns  uint16, or uint32 where a row is longer than 65,536; fixed
offsets  uint32; fixed

Fine-tuning keeps the pattern: a constraint holds the lanes at 0 that are not the group's own (those
of a last group that has slid left, and those past a row that is shorter than a group).
"""

import math

import keras
import numpy as np
from keras import activations, constraints, initializers, layers, ops, regularizers

from scalpel_tf.core import gcsr
from scalpel_tf.deploy import ops as products

WIDTHS = (2, 4, 8, 16)
VALUE_TYPES = ("float32", "bfloat16", "int8")


class _OwnLanes(constraints.Constraint):
    """Zeroes the lanes before a slid group's own first column, and those past the row."""

    def __init__(self, columns, cols):
        self.columns = columns
        self.cols = cols

    def __call__(self, values):
        width = values.shape[1]
        start = ops.cast(self.columns, "int64")[:, None]
        lane = start + ops.arange(width, dtype="int64")
        own = ops.logical_and(lane >= -(-start // width) * width, lane < self.cols)
        return ops.where(own, values, ops.zeros_like(values))


class _GroupedCSRLayer(layers.Layer):
    """The weights, configuration and activation that both layers share; `rows` x `cols`."""

    def __init__(
        self,
        rows,
        width,
        groups,
        value_type="float32",
        activation=None,
        use_bias=True,
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if width not in WIDTHS:
            raise ValueError(f"`width` is one of {WIDTHS}, layer {self.name!r}; got {width!r}.")
        if value_type not in VALUE_TYPES:
            raise ValueError(
                f"`value_type` is one of {', '.join(VALUE_TYPES)}; got {value_type!r} for layer "
                f"{self.name!r}."
            )
        self.rows = rows
        self.width = width
        self.groups = groups
        self.value_type = value_type
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias_constraint = constraints.get(bias_constraint)
        self.supports_jit = False  # XLA knows nothing of the op

    def _add_weights(self, cols):
        self.cols = cols
        most = self.rows * -(-cols // self.width)
        if not 0 <= self.groups <= most:
            raise ValueError(
                f"A {self.rows} x {cols} kernel has up to {most} groups of {self.width}; layer "
                f"{self.name!r} was given {self.groups}."
            )
        columns, offsets = _even(self.rows, cols, self.width, self.groups)
        self.columns = self._add("columns", columns.dtype.name, columns)
        self.offsets = self._add("offsets", "uint32", offsets)
        fixed = self.value_type != "float32"  # an optimizer's 0.999 is 1 in bfloat16
        slides = cols % self.width != 0
        self.values = self.add_weight(
            name="values",
            shape=(self.groups, self.width),
            dtype=self.value_type,
            initializer="zeros",
            regularizer=None if fixed else self.kernel_regularizer,
            constraint=_OwnLanes(self.columns, cols) if slides and not fixed else None,
            trainable=not fixed,
            autocast=False,
        )
        self.scales = None
        if self.value_type == "int8":
            self.scales = self._add("scales", "float32", np.ones(self.rows))
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.rows,),
                dtype="float32",
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                autocast=False,
            )

    def _add(self, name, dtype, value):
        return self.add_weight(
            name=name,
            shape=value.shape,
            dtype=dtype,
            initializer=lambda shape, dtype: ops.convert_to_tensor(value, dtype),
            trainable=False,
            autocast=False,
        )

    def _product(self, function, inputs, **arguments):
        fused = _fused(self.activation)
        outputs = function(
            inputs,
            *map(ops.convert_to_tensor, (self.values, self.columns, self.offsets)),
            scales=None if self.scales is None else ops.convert_to_tensor(self.scales),
            bias=None if self.bias is None else ops.convert_to_tensor(self.bias),
            activation=fused or "linear",
            **arguments,
        )
        return outputs if fused else self.activation(outputs)

    def assign_kernel(self, sparse: gcsr.GroupedCSR, scales: np.ndarray | None = None) -> None:
        """Stores a kernel whose rows run in the order of `core.layout`; int8 values need scales.

        Raises ValueError unless it is valid and has this layer's shape, width and groups.
        """
        gcsr.validate(sparse)
        expected = (self.rows, self.cols), (self.groups, self.width)
        if (sparse.shape, sparse.values.shape) != expected:
            raise ValueError(
                f"Layer {self.name!r} holds a {expected[0]} kernel in groups {expected[1]}; got "
                f"{sparse.shape} in groups {sparse.values.shape}."
            )
        if (scales is None) != (self.scales is None):
            raise ValueError(
                f"Scales belong to int8 values; layer {self.name!r} has {self.value_type} values."
            )
        self.values.assign(sparse.values)
        self.columns.assign(sparse.columns)
        self.offsets.assign(sparse.offsets)
        if scales is not None:
            self.scales.assign(scales)

    def kernel_matrix(self) -> np.ndarray:
        """The kernel as a float32 (rows, cols) matrix, its rows in the order of `core.layout`."""
        values, columns, offsets = map(
            ops.convert_to_numpy, (self.values, self.columns, self.offsets)
        )
        shape = (self.rows, self.cols)
        matrix = gcsr.decode(gcsr.GroupedCSR(values.astype(np.float32), columns, offsets, shape))
        if self.scales is not None:
            matrix *= ops.convert_to_numpy(self.scales)[:, None]
        return matrix

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "groups": self.groups,
            "value_type": self.value_type,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


@keras.saving.register_keras_serializable("scalpel_tf")
class GroupedCSRDense(_GroupedCSRLayer):
    """keras.layers.Dense with a kernel of `groups` stored groups of `width` weights.

    units: outputs.  width: 2, 4, 8 or 16.  value_type: "float32"; "bfloat16" or "int8", which do
    not train.  activation, use_bias, bias_initializer, bias_constraint, the regularizers of kernel,
    bias and activity: as in Dense; the kernel's acts on the stored weights. relu and relu6 are
    computed by the op. Sums are float32, the result has the dtype of the policy.

    Raises ValueError for a width or value type that there is not, and for more groups than fit.
    """

    def __init__(self, units, width, groups, **kwargs):
        super().__init__(units, width, groups, **kwargs)
        self.supports_masking = True
        self.input_spec = layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        self.input_spec = layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        self._add_weights(input_shape[-1])

    def call(self, inputs):
        return self._product(products.grouped_csr_matmul, inputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.rows)

    def get_config(self):
        return {**super().get_config(), "units": self.rows}


@keras.saving.register_keras_serializable("scalpel_tf")
class GroupedCSRConv2D(_GroupedCSRLayer):
    """keras.layers.Conv2D on NHWC images, with `groups` stored groups of `width` weights.

    filters: outputs.  kernel_size, strides, dilation_rate: an integer or (height, width).  padding:
    "valid" or "same".  data_format: "channels_last".  The rest as in `GroupedCSRDense`.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        width,
        groups,
        strides=1,
        padding="valid",
        data_format="channels_last",
        dilation_rate=1,
        **kwargs,
    ):
        super().__init__(filters, width, groups, **kwargs)
        if data_format != "channels_last":
            raise ValueError(
                f"GroupedCSRConv2D takes channels_last images; layer {self.name!r} was given "
                f"{data_format!r}: transpose its inputs with a Permute layer."
            )
        # It checks the geometry, and knows the output's shape.
        geometry = layers.Conv2D(filters, kernel_size, strides, padding, data_format, dilation_rate)
        self.geometry = {
            name: getattr(geometry, name)
            for name in ("kernel_size", "strides", "padding", "dilation_rate")
        }
        self._output_shape = geometry.compute_output_shape
        self.input_spec = layers.InputSpec(ndim=4)

    def build(self, input_shape):
        self.input_spec = layers.InputSpec(ndim=4, axes={-1: input_shape[-1]})
        self.compute_output_shape(input_shape)
        self._add_weights(math.prod(self.geometry["kernel_size"]) * input_shape[-1])

    def call(self, inputs):
        return self._product(products.grouped_csr_conv2d, inputs, **self.geometry)

    def compute_output_shape(self, input_shape):
        return self._output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            **self.geometry,
            "filters": self.rows,
            "data_format": "channels_last",
        }


def _fused(activation):
    """The name under which the kernels compute `activation`, or None."""
    if isinstance(activation, layers.ReLU):
        if activation.negative_slope == 0 and activation.threshold == 0:
            return {None: "relu", 6: "relu6"}.get(activation.max_value)
        return None
    fused = {
        activations.linear: "linear",
        activations.relu: "relu",
        activations.relu6: "relu6",
    }
    return fused.get(activation)


def _even(rows, cols, width, groups):
    """Columns and offsets of `groups` groups, as many in each row as in any other, or one more."""
    offsets = np.arange(rows + 1) * groups // rows
    starts = gcsr.group_starts(cols, width)
    place = np.arange(groups) - np.repeat(offsets[:-1], np.diff(offsets))
    return starts[place].astype(np.uint16 if cols <= 1 << 16 else np.uint32), offsets
