"""The sparse Keras layers against numpy in float64, on both implementations of the products."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from test_py_ops import EPS, assert_product, matrix, patches

from scalpel_tf.core.gcsr import GroupedCSR, encode, validate
from scalpel_tf.deploy import ops
from scalpel_tf.deploy.sparse_layers import (
    WIDTHS,
    GroupedCSRConv2D,
    GroupedCSRDense,
    _even,
    _fused,
)

ROOT = Path(__file__).resolve().parent.parent


pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def encoded(weight, width, value_type="float32"):
    """The kernel in that type, its scales, and the float64 matrix that they stand for."""
    if value_type == "int8":
        scales = np.linspace(0.01, 0.02, len(weight), dtype=np.float32)
        weight = (weight / scales[:, None]).round().clip(-127, 127)
        return encode(weight.astype(np.int8), width), scales, weight * np.float64(scales)[:, None]
    if value_type == "bfloat16":
        weight = weight.astype(ml_dtypes.bfloat16)
    return encode(weight, width), None, weight.astype(np.float64)


def dense(weight, width=4, value_type="float32", **arguments):
    """A built GroupedCSRDense that holds `weight`, and the matrix that it stands for."""
    sparse, scales, stored = encoded(weight, width, value_type)
    layer = GroupedCSRDense(
        len(weight), width, len(sparse.values), value_type=value_type, **arguments
    )
    layer.build((None, weight.shape[1]))
    layer.assign_kernel(sparse, scales)
    return layer, stored


def small_model(value_type="float32"):
    """Both layers, ragged rows, a layer without groups, fused and other activations."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6, 3))
    x = GroupedCSRConv2D(6, 3, 4, 20, activation="relu", value_type=value_type, padding="same")(
        inputs
    )
    x = layers.Flatten()(x)
    x = GroupedCSRDense(7, 8, 9, activation=layers.ReLU(6), value_type=value_type)(x)
    empty = GroupedCSRDense(7, 8, 0, bias_initializer="ones", value_type=value_type)
    x = layers.Add()([x, empty(x)])
    x = GroupedCSRDense(3, 2, 8, activation="tanh", value_type=value_type, use_bias=False)(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if hasattr(layer, "values"):
            scale = 1 if layer.value_type == "int8" else 1 / 8
            layer.values.assign(scale * rng.integers(-2, 3, layer.values.shape))
            if layer.scales is not None:
                layer.scales.assign(layer.scales / 8)
    return model


X = np.random.default_rng(2).normal(size=(8, 5, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("value_type", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("cols", [1, 13, 32])
def test_dense(engine, width, cols, value_type):
    layer, weight = dense(matrix(7, cols, width, 0.5), width, value_type, activation="relu6")
    bias = np.linspace(-1, 1, 7, dtype=np.float32)
    layer.bias.assign(bias)
    np.testing.assert_array_equal(layer.kernel_matrix(), weight.astype(np.float32))
    for shape in [(3, cols), (2, 3, cols), (0, cols)]:
        x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
        y = layer(x)
        assert layer.compute_output_shape(shape) == y.shape
        assert_product(y.numpy(), x, weight, bias, "relu6", eps=2 * EPS)


@pytest.mark.parametrize("value_type", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(
    "kernel_size, strides, dilation, padding",
    [(1, 1, 1, "valid"), (3, 2, 1, "same"), ((3, 2), (1, 3), 1, "valid"), (2, 1, (2, 3), "same")],
)
def test_conv2d(engine, kernel_size, strides, dilation, padding, value_type):
    plain = layers.Conv2D(5, kernel_size, strides, padding, dilation_rate=dilation)
    sizes = plain.kernel_size, plain.strides, padding, plain.dilation_rate
    cols = 3 * plain.kernel_size[0] * plain.kernel_size[1]
    sparse, scales, weight = encoded(matrix(5, cols, 4, 0.5), 4, value_type)
    layer = GroupedCSRConv2D(
        5,
        kernel_size,
        4,
        len(sparse.values),
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        value_type=value_type,
    )
    x = np.random.default_rng(4).normal(size=(2, 9, 8, 3)).astype(np.float32)
    layer.build(x.shape)
    layer.assign_kernel(sparse, scales)
    assert_product(layer(x).numpy(), patches(x, *sizes), weight, eps=2 * EPS)
    assert layer.compute_output_shape((None, 9, 8, 3)) == plain.compute_output_shape(
        (None, 9, 8, 3)
    )


FUSED = [
    ("linear", "linear"),
    (None, "linear"),
    ("relu", "relu"),
    (keras.activations.relu6, "relu6"),
    (layers.ReLU(), "relu"),
    (layers.ReLU(6.0), "relu6"),
    (layers.ReLU(5.0), None),
    (layers.ReLU(6.0, negative_slope=0.1), None),
    (layers.ReLU(threshold=1.0), None),
    ("softmax", None),
    (lambda x: x + 1, None),
]


@pytest.mark.parametrize("activation, name", FUSED)
def test_activations(activation, name):
    """What the op computes is fused; anything else is applied to a linear product."""
    layer, weight = dense(8 * matrix(6, 12, 4, 0.7), activation=activation)
    assert _fused(layer.activation) == name
    x = np.random.default_rng(5).normal(size=(4, 12)).astype(np.float32)
    if name:
        assert_product(layer(x).numpy(), x, weight, activation=name)
    else:
        expected = layer.activation(ops.grouped_csr_matmul(x, *weights_of(layer)))
        np.testing.assert_array_equal(layer(x), expected)


def weights_of(layer):
    return [variable.value for variable in (layer.values, layer.columns, layer.offsets)]


@pytest.mark.parametrize("rows, cols, width", [(5, 13, 4), (1, 1, 16), (3, 32, 8), (4, 65537, 8)])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_a_fresh_layer_is_valid(rows, cols, width, share):
    most = rows * -(-cols // width)
    groups = int(share * most)
    columns, offsets = _even(rows, cols, width, groups)
    values = np.ones((groups, width), np.float32)
    validate(GroupedCSR(values, columns, offsets.astype(np.uint32), (rows, cols)))
    pairs = set(zip(np.repeat(np.arange(rows), np.diff(offsets)), columns, strict=True))
    assert len(pairs) == groups
    layer = GroupedCSRDense(rows, width, groups)
    x = np.ones((2, cols), np.float32)
    np.testing.assert_array_equal(layer(x), np.zeros((2, rows)))
    assert layer.columns.dtype == ("uint32" if cols > 65536 else "uint16")


@pytest.mark.parametrize("cols", [12, 14, 3])
def test_a_step_is_that_of_a_masked_dense_layer(engine, cols):
    """SGD with a penalty and momentum: stored groups move as in Dense, all else stays at 0."""
    weight = matrix(5, cols, 4, 0.5)
    keep = np.repeat(weight[:, ::4] != 0, 4, axis=1)[:, :cols]
    layer, _ = dense(weight, kernel_regularizer=keras.regularizers.L2(0.1))
    plain = layers.Dense(5, kernel_regularizer=keras.regularizers.L2(0.1))
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(6, cols)).astype(np.float32), rng.normal(size=(6, 5))
    sparse_model = keras.Sequential([keras.Input((cols,)), layer])
    plain_model = keras.Sequential([keras.Input((cols,)), plain])
    plain.kernel.assign(weight.T)
    plain.kernel.constraint = lambda kernel: keras.ops.where(keep.T, kernel, 0)
    for model in (sparse_model, plain_model):
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        model.fit(x, y, batch_size=6, epochs=4, shuffle=False, verbose=0)
    kernel = layer.kernel_matrix()
    assert (kernel[~keep] == 0).all() and (kernel[keep] != weight[keep]).all()
    np.testing.assert_allclose(kernel, plain.kernel.numpy().T, rtol=0, atol=400 * EPS)
    np.testing.assert_allclose(layer.bias, plain.bias, rtol=0, atol=400 * EPS)
    again = encode(kernel, 4)
    np.testing.assert_array_equal(again.columns, layer.columns)
    np.testing.assert_array_equal(again.values, layer.values)


@pytest.mark.parametrize(
    "policy, value_type",
    [
        ("float32", "float32"),
        ("mixed_float16", "float32"),
        ("mixed_bfloat16", "float32"),
        ("mixed_bfloat16", "bfloat16"),
        ("mixed_bfloat16", "int8"),
    ],
    indirect=["policy"],
)
def test_fit_and_predict_under_policies(engine, policy, value_type):
    model = small_model(value_type)
    model.compile("adam", "mse")  # jit_compile="auto"
    assert not model.jit_compile
    fixed = [w.numpy() for w in model.non_trainable_weights]
    before = [w.numpy() for w in model.trainable_weights]
    model.fit(X, np.full((8, 3), 0.5), verbose=0, epochs=2, batch_size=4)
    for weight, old in zip(model.non_trainable_weights, fixed, strict=True):
        np.testing.assert_array_equal(weight, old)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert not old.size or np.any(weight.numpy() != old), weight.path
    names = {weight.name for weight in model.trainable_weights}
    assert names == ({"values", "bias"} if value_type == "float32" else {"bias"})
    layer = model.layers[1]
    assert layer.values.dtype == value_type and layer.bias.dtype == "float32"
    y = model.predict(X, verbose=0)
    assert y.dtype.name == {"float32": "float32"}.get(policy, policy.removeprefix("mixed_"))
    traced = tf.function(model)(X)
    tolerance = 0 if policy == "float32" else float(ml_dtypes.finfo(y.dtype).eps)
    np.testing.assert_allclose(
        y.astype(np.float32), tf.cast(traced, tf.float32), rtol=0, atol=max(tolerance, 8 * EPS)
    )


def test_xla_is_not_asked():
    model = small_model()
    with pytest.warns(UserWarning, match="Proceeding with `jit_compile=False`"):
        model.compile("sgd", "mse", jit_compile=True)
    assert not model.jit_compile
    model.train_on_batch(X, np.zeros((8, 3)))


@pytest.mark.parametrize("value_type", ["float32", "bfloat16", "int8"])
def test_saves_and_loads(value_type, tmp_path):
    model = small_model(value_type)
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(loaded.layers, model.layers, strict=True):
        assert one.get_config() == other.get_config()
    by_weights, by_checkpoint, by_copy = (keras.models.clone_model(model) for _ in range(3))
    by_weights.load_weights(tmp_path / "model.weights.h5")
    tf.train.Checkpoint(model=by_checkpoint).read(
        str(tmp_path / "checkpoint")
    ).assert_existing_objects_matched()
    by_copy.set_weights(model.get_weights())
    for copy in (loaded, by_weights, by_checkpoint, by_copy):
        np.testing.assert_array_equal(copy.predict(X, verbose=0), expected)


RELOAD = """
import sys
import numpy as np
{imports}
import tensorflow as tf
x = np.load(sys.argv[1] + "/x.npy")
model = tf.saved_model.load(sys.argv[1] + "/saved")
np.save(sys.argv[1] + "/y.npy", model.serve(x).numpy())
"""


def test_export_reloads_in_a_fresh_process(engine, tmp_path):
    """With the C++ op the process imports scalpel_tf and nothing else; without, not even that."""
    model = small_model()
    model.export(tmp_path / "saved", verbose=False)
    np.save(tmp_path / "x.npy", X)
    code = RELOAD.format(imports="import scalpel_tf" if engine == "c++" else "")
    environment = {name: value for name, value in os.environ.items() if name != ops.FORCED}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=0, atol=8 * EPS)


def test_inside_time_distributed_and_with_a_mask():
    layer, weight = dense(matrix(4, 6, 2, 0.5), width=2)
    x = np.random.default_rng(7).normal(size=(2, 3, 6)).astype(np.float32)
    assert_product(layers.TimeDistributed(layer)(x).numpy(), x, weight)
    embedded = layers.Embedding(9, 6, mask_zero=True)(np.array([[1, 0], [2, 3]]))
    np.testing.assert_array_equal(layer(embedded)._keras_mask, [[True, False], [True, True]])


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: GroupedCSRDense(4, 3, 1), r"`width` is one of \(2, 4, 8, 16\)"),
        (lambda: GroupedCSRDense(4, 4, 1, value_type="float64"), "`value_type` is one of"),
        (lambda: GroupedCSRDense(4, 4, 9).build((None, 6)), "4 x 6 kernel has up to 8 groups of 4"),
        (lambda: GroupedCSRDense(4, 4, -1).build((None, 6)), "up to 8 groups of 4"),
        (
            lambda: GroupedCSRConv2D(4, 3, 4, 1, data_format="channels_first"),
            "takes channels_last images; .* was given 'channels_first'",
        ),
        (lambda: dense(matrix(4, 6, 4, 1))[0](np.ones((2, 5))), "expected axis -1"),
        (lambda: refill(matrix(4, 7, 4, 1)), "holds a .4, 6. kernel"),
        (lambda: refill(matrix(4, 6, 2, 1), 2), "in groups .6, 4.; got .4, 6. in groups .9, 2."),
        (lambda: refill(matrix(4, 6, 4, 1), scales=np.ones(4)), "Scales belong to int8"),
        (lambda: refill(matrix(4, 6, 4, 1), value_type="int8"), "Scales belong to int8"),
    ],
)
def test_refuses(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def refill(weight, width=4, scales=None, value_type="float32"):
    layer, _ = dense(matrix(4, 6, 4, 1), value_type=value_type)
    layer.assign_kernel(encode(weight, width), scales)


def test_refuses_arrays_that_no_kernel_may_trust():
    layer, _ = dense(matrix(4, 6, 4, 1))
    sparse = encode(matrix(4, 6, 4, 1), 4)
    with pytest.raises(ValueError, match="columns lie in"):
        layer.assign_kernel(
            GroupedCSR(sparse.values, sparse.columns + np.uint16(1), sparse.offsets, sparse.shape)
        )
