"""The products of the C++ ops in TensorFlow alone: spread the groups out, then multiply densely.

The arrays are those of core/gcsr.py; a convolution's rows run in the order (height, width, in).
Values are float32, bfloat16, or int8 with one scale per row. TensorFlow differentiates the products
for x, values and bias. Sums are float32, whatever x is.
"""

import tensorflow as tf

VALUE_TYPES = (tf.float32, tf.bfloat16, tf.int8)
COLUMN_TYPES = (tf.uint16, tf.uint32)
ACTIVATIONS = {"linear": tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}


def grouped_csr_matmul(
    x, values, columns, offsets, *, scales=None, bias=None, activation="linear"
) -> tf.Tensor:
    """activation(x W^T + bias) of shape (..., rows), in x's dtype, for x (..., cols).

    activation: "linear", "relu" or "relu6".  Raises ValueError for ranks, dtypes and lengths that
    no grouped CSR has, InvalidArgumentError for columns and offsets that point past its arrays.
    """
    x, values, columns, offsets = _tensors(x, values, columns, offsets)
    if x.shape.rank is None or x.shape.rank < 1:
        raise ValueError(f"`x` has the shape (..., cols); got {x.shape}.")
    _check_activation(activation)
    cols = _size(x, -1)
    kernel = _dense_kernel(values, columns, offsets, scales, cols)
    y = tf.matmul(tf.reshape(tf.cast(x, tf.float32), [-1, cols]), kernel)
    y = tf.cast(ACTIVATIONS[activation](_add(y, bias, offsets)), x.dtype)
    y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], tf.shape(y)[-1:]], 0))
    y.set_shape([*x.shape[:-1], _rows(offsets)])
    return y


def grouped_csr_conv2d(
    x,
    values,
    columns,
    offsets,
    *,
    kernel_size,
    strides=(1, 1),
    padding="valid",
    dilation_rate=(1, 1),
    scales=None,
    bias=None,
    activation="linear",
) -> tf.Tensor:
    """activation(conv(x, W) + bias), (batch, out_height, out_width, rows), for NHWC images x.

    kernel_size, strides, dilation_rate: (height, width).  padding: "valid" or "same".  The rest and
    what is raised as in `grouped_csr_matmul`.
    """
    x, values, columns, offsets = _tensors(x, values, columns, offsets)
    if x.shape.rank != 4 or x.shape[-1] is None:
        raise ValueError(f"`x` has the shape (batch, height, width, channels); got {x.shape}.")
    if padding.lower() not in ("valid", "same"):
        raise ValueError(f"`padding` is 'valid' or 'same'; got {padding!r}.")
    _check_activation(activation)
    height, width = kernel_size
    channels = x.shape[-1]
    kernel = _dense_kernel(values, columns, offsets, scales, height * width * channels)
    kernel = tf.reshape(kernel, [height, width, channels, _size(kernel, 1)])
    y = tf.nn.conv2d(
        tf.cast(x, tf.float32), kernel, list(strides), padding.upper(), dilations=dilation_rate
    )
    return tf.cast(ACTIVATIONS[activation](_add(y, bias, offsets)), x.dtype)


def _tensors(x, values, columns, offsets):
    x = tf.convert_to_tensor(x)
    values, columns = tf.convert_to_tensor(values), tf.convert_to_tensor(columns)
    offsets = tf.convert_to_tensor(offsets)
    if not x.dtype.is_floating:
        raise ValueError(f"`x` is a tensor of floats; got {x.dtype.name}.")
    if values.shape.rank != 2 or values.dtype not in VALUE_TYPES:
        raise ValueError(
            "`values` is a (groups, width) matrix of float32, bfloat16 or int8; "
            f"got {values.dtype.name} of shape {values.shape}."
        )
    if columns.dtype not in COLUMN_TYPES or not columns.shape.is_compatible_with(values.shape[:1]):
        raise ValueError(
            f"`columns` has one uint16 or uint32 per group, shape {values.shape[:1]}; "
            f"got {columns.dtype.name} of shape {columns.shape}."
        )
    if offsets.shape.rank != 1 or offsets.dtype != tf.uint32 or offsets.shape[0] in (0, 1):
        raise ValueError(
            "`offsets` is a uint32 vector of rows + 1 entries, at least 2; "
            f"got {offsets.dtype.name} of shape {offsets.shape}."
        )
    return x, values, columns, offsets


def _check_activation(activation):
    if activation not in ACTIVATIONS:
        raise ValueError(f"`activation` is one of {', '.join(ACTIVATIONS)}; got {activation!r}.")


def _dense_kernel(values, columns, offsets, scales, cols):
    """The float32 (cols, rows) transpose of the matrix, its groups added up."""
    rows, width = _size(offsets, 0) - 1, _size(values, 1)
    starts, ends = tf.cast(columns, tf.int64), tf.cast(offsets, tf.int64)
    padded = tf.cast(tf.maximum(cols, width), tf.int64)
    groups = tf.shape(values, tf.int64)[0]
    checks = [
        tf.debugging.assert_equal(
            tf.stack([ends[0], ends[-1]]),
            tf.stack([tf.zeros_like(groups), groups]),
            "Grouped CSR offsets run from 0 to the number of groups; these do not.",
        ),
        tf.debugging.assert_non_negative(
            ends[1:] - ends[:-1],
            "Grouped CSR offsets never fall from one row to the next; these do.",
        ),
        tf.debugging.assert_less_equal(
            starts,
            padded - tf.cast(width, tf.int64),
            "A group of grouped CSR ends within its row; one of these starts too late.",
        ),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        ends = tf.identity(ends)
    row = tf.searchsorted(ends[1:], tf.range(groups), side="right", out_type=tf.int64)
    lanes = starts[:, None] + tf.range(tf.cast(width, tf.int64))
    weights = tf.cast(values, tf.float32)
    if values.dtype == tf.int8:
        weights *= tf.gather(_per_row("scales", scales, offsets), row)[:, None]
    elif scales is not None:
        raise ValueError(f"`scales` belong to int8 values; these are {values.dtype.name}.")
    at = lanes * tf.cast(rows, tf.int64) + row[:, None]
    size = padded * tf.cast(rows, tf.int64)
    flat = tf.scatter_nd(tf.reshape(at, [-1, 1]), tf.reshape(weights, [-1]), size[None])
    return tf.reshape(flat, [-1, rows])[:cols]


def _add(y, bias, offsets):
    return y if bias is None else y + _per_row("bias", bias, offsets)


def _per_row(name, vector, offsets):
    if vector is None:
        raise ValueError(f"int8 values need `{name}`, one float per row; got none.")
    vector = tf.convert_to_tensor(vector)
    if not vector.dtype.is_floating or not vector.shape.is_compatible_with([_rows(offsets)]):
        raise ValueError(
            f"`{name}` has one float per row, shape ({_rows(offsets)},); "
            f"got {vector.dtype.name} of shape {vector.shape}."
        )
    return tf.cast(vector, tf.float32)


def _rows(offsets):
    """The number of rows where it is known while tracing, else None."""
    return None if offsets.shape[0] is None else offsets.shape[0] - 1


def _size(tensor, axis):
    return tf.shape(tensor)[axis] if tensor.shape[axis] is None else tensor.shape[axis]
