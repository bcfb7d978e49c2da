"""sparsify and densify on small real models.

Weights and inputs are small integers: float32 adds them up without rounding, in any order, so that
the outputs of dense and sparse layers are equal to the bit.
"""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, regularizers

from scalpel_tf.core.gcsr import encode
from scalpel_tf.core.layout import to_matrix
from scalpel_tf.deploy import ops
from scalpel_tf.deploy.sparse_layers import GroupedCSRConv2D, GroupedCSRDense
from scalpel_tf.deploy.sparsify import _count_groups, densify, sparsify
from scalpel_tf.models import walk
from scalpel_tf.train.callbacks import update_masks
from scalpel_tf.train.wrap import prune, strip

ROOT = Path(__file__).resolve().parent.parent
IMAGES = np.random.default_rng(0).integers(-2, 3, (2, 16, 16, 3)).astype(np.float32)


pytestmark = pytest.mark.usefixtures("library")


def sequential():
    stack = [
        keras.Input((16, 16, 3)),
        layers.Conv2D(32, 5, activation="relu", name="conv", kernel_regularizer="l2"),
        layers.ReLU(6, name="act"),
        layers.Conv2D(48, 3, strides=2, padding="same", activation="relu6", name="strided"),
        layers.Flatten(name="flat"),
        layers.Dense(256, activation=layers.ReLU(6), name="wide"),
        layers.Dense(4, name="logits"),
    ]
    return keras.Sequential(stack, name="plain")


def functional():
    """Two inputs by name, two outputs, an operation that is no layer, a frozen layer."""
    image = keras.Input((16, 16, 3), name="image")
    flag = keras.Input((3,), name="flag")
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="conv")(image)
    x = layers.Flatten(name="flat")(layers.MaxPooling2D(4, name="pool")(x)) * 2.0
    x = layers.Concatenate(name="cat")([x, flag])
    outputs = {
        "wide": layers.Dense(256, name="wide", trainable=False)(x),
        "narrow": layers.Dense(4, name="logits", use_bias=False)(x),
    }
    return keras.Model({"image": image, "flag": flag}, outputs, name="functional")


def nested():
    """A shared layer inside and outside of a block that is called twice."""
    wide = layers.Dense(256, activation="relu6", name="wide")
    deep = keras.Sequential([keras.Input((256,)), layers.Dense(256, name="deep")], name="deepest")
    inputs = keras.Input((256,))
    block = keras.Model(inputs, deep(wide(inputs)), name="block")
    outer = keras.Input((16, 16, 3))
    x = layers.Conv2D(32, 5, activation="relu6", name="conv")(outer)
    x = layers.Dense(256, name="before")(layers.Flatten(name="flat")(x))
    return keras.Model(outer, wide(block(block(x))), name="nested")


MODELS = {"sequential": sequential, "functional": functional, "nested": nested}
REPLACED = {
    "sequential": {"conv", "strided", "wide"},
    "functional": {"conv", "wide"},
    "nested": {"conv", "before", "block/wide", "block/deepest/deep"},
}


def zeroed(model, density=0.2, width=8, seed=1):
    """Integers -1 and 1 in groups of `width` along the rows, the other groups zero."""
    rng = np.random.default_rng(seed)
    for _, layer in walk(model):
        if not layer.weights:
            continue
        kernel = layer.kernel
        shape = np.moveaxis(np.empty(kernel.shape), -1, 0).reshape(kernel.shape[-1], -1).shape
        keep = rng.random((shape[0], -(-shape[1] // width))) < density
        rows = rng.choice([-1, 1], shape) * np.repeat(keep, width, axis=1)[:, : shape[1]]
        kernel.assign(rows.T.reshape(kernel.shape))
        if layer.bias is not None:
            layer.bias.assign(rng.integers(-3, 4, layer.bias.shape))
    return model


def outputs_of(model):
    flag = np.ones((2, 3), np.float32)
    x = {"image": IMAGES, "flag": flag} if model.name == "functional" else IMAGES
    return keras.tree.flatten(model.predict(x, verbose=0))


def assert_same_outputs(one, other):
    for y, expected in zip(outputs_of(one), outputs_of(other), strict=True):
        assert np.any(expected)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name):
    model = zeroed(MODELS[name]())
    weights, config = model.get_weights(), model.get_config()
    model.compile("sgd", loss=lambda y, z: 0.0)  # cannot be serialised
    sparse = sparsify(model)
    assert {row.path for row in sparse.report.layers if row.replaced} == REPLACED[name]
    assert [path for path, _ in walk(sparse)] == [path for path, _ in walk(model)]
    for path, layer in walk(sparse):
        assert isinstance(layer, (GroupedCSRDense, GroupedCSRConv2D)) == (path in REPLACED[name])
    assert_same_outputs(sparse, model)

    plain = densify(sparse)
    assert plain.get_config() == config and type(plain) is type(model)
    for weight, original in zip(plain.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, original)
    sparse.set_weights([0 * weight for weight in sparse.get_weights()])
    for weight, original in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, original)


def test_both_implementations_agree(monkeypatch):
    expected = zeroed(sequential())
    monkeypatch.setenv(ops.FORCED, "1")
    assert_same_outputs(sparsify(expected), expected)


def test_the_whole_way(tmp_path):
    """prune, fit, strip, sparsify, fit in the sparse format, save, densify."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(32, 300)).astype(np.float32), rng.integers(0, 4, 32)
    keras.utils.set_random_seed(3)
    stack = [keras.Input((300,)), layers.Dense(250, activation="relu"), layers.Dense(4)]
    pruned = prune(keras.Sequential(stack), ratio=0.7, target="x86-64-avx2")
    update_masks(pruned, 0)
    model = strip(pruned)
    sparse = sparsify(model)
    wide = sparse.layers[0]
    assert [row.replaced for row in sparse.report.layers] == [True, False]
    assert wide.width == 8 and wide.groups == round(0.3 * 250 * 38)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile("adam", loss)
    history = sparse.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    sparse.save(tmp_path / "sparse.keras")
    loaded = keras.models.load_model(tmp_path / "sparse.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), sparse.predict(x, verbose=0))
    before, after = model.layers[0].kernel.numpy(), densify(loaded).layers[0].kernel.numpy()
    assert ((before == 0) == (after == 0)).all() and (before != after).any()


def test_a_layer_pruned_in_other_groups():
    """Width 2 stores fewer weights, width 16 takes fewer steps; whoever asks gets his own."""
    model = zeroed(sequential(), width=4)
    assert_same_outputs(sparsify(model), model)
    nonzero = to_matrix(model.get_layer("wide").kernel.numpy(), "dense")[:, 0] != 0
    for width in (2, 4, 8, 16):
        sparse = sparsify(model, width=width)
        wide = sparse.get_layer("wide")
        assert wide.width == width and wide.groups == _count_groups(nonzero, width)
        assert sparse.report.layers[2].density == pytest.approx(nonzero.mean())
        assert_same_outputs(sparse, model)
    costs = {width: sparsify(model, width=width).report.layers[2] for width in (2, 4, 8, 16)}
    best = min(costs.values(), key=lambda row: row.sparse_seconds)
    assert sparsify(model).report.layers[2] == best and best.width == 4


@pytest.mark.parametrize("cols, width", [(1, 8), (7, 4), (8, 4), (9, 4), (31, 16)])
def test_count_groups_is_what_encode_stores(cols, width):
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(20, cols)) * (rng.random((20, cols)) < 0.2)
    assert _count_groups(weight != 0, width) == len(encode(weight, width).values)


@pytest.mark.parametrize("dtype, step", [("bfloat16", 2.0**-8), ("int8", 0.5 / 127)])
def test_smaller_values_are_rounded(dtype, step):
    """Each weight moves by at most half a step: of its own size, or of the largest of its row."""
    rng = np.random.default_rng(5)
    weight = (rng.normal(size=(600, 300)) * (rng.random((600, 300)) < 0.3)).astype(np.float32)
    weight[:, 0] = 0  # an output without weights
    dense = layers.Dense(300, use_bias=False)
    model = keras.Sequential([keras.Input((600,)), dense])
    dense.kernel.assign(weight)
    with np.errstate(all="raise"):
        sparse = sparsify(model, dtype=dtype)
    assert sparse.layers[0].values.dtype == dtype
    assert not sparse.layers[0].values.trainable
    rounded = densify(sparse).layers[0].kernel.numpy()
    size = np.abs(weight) if dtype == "bfloat16" else np.abs(weight).max(0, keepdims=True)
    assert (np.abs(rounded - weight) <= (step + 2.0**-23) * size).all()
    assert (rounded != weight).any() and (rounded[weight == 0] == 0).all()


def test_nothing_wins_where_nothing_is_zero():
    model = zeroed(sequential(), density=2.0)
    sparse = sparsify(model)
    assert not any(row.replaced for row in sparse.report.layers)
    assert "no of 4 layers" in str(sparse.report) and "dense is faster" in str(sparse.report)
    assert_same_outputs(sparse, model)


def test_report():
    report = sparsify(zeroed(sequential()), target="x86-64-avx512").report
    conv, strided, wide, logits = report.layers
    kernel = np.asarray(zeroed(sequential()).get_layer("wide").kernel)
    assert wide.density == pytest.approx(np.mean(kernel != 0)) and wide.width == 8
    assert wide.sparse_seconds < wide.dense_seconds and logits.dense_seconds < logits.sparse_seconds
    assert report.target == "x86-64-avx512" and "3 of 4 layers" in str(report)
    for row in report.layers:
        assert f"{row.path:24} {row.type:18} {'sparse' if row.replaced else 'kept'}" in str(report)
        assert row.reason in str(report)
    # 12 x 12 places of the first convolution, eight samples: the call's overhead does not grow.
    eight = sparsify(zeroed(sequential()), target="x86-64-avx512", batch=8).report.layers[0]
    assert 4 < eight.dense_seconds / conv.dense_seconds < 8


def in_a_model(layer, shape=(16, 16, 8)):
    return keras.Sequential([keras.Input(shape), layer])


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: layers.Conv2D(32, 3, groups=2), "no groups of channels"),
        (lambda: layers.DepthwiseConv2D(3), "DepthwiseConv2D has no sparse kernel"),
        (lambda: layers.BatchNormalization(), "BatchNormalization has no sparse kernel"),
        (lambda: layers.Conv2D(32, 3, kernel_constraint="max_norm"), "its kernel_constraint"),
        (lambda: layers.Dense(8, kernel_regularizer="orthogonal_regularizer"), "its kernel_regul"),
        (lambda: layers.Dense(8, dtype="float64"), "this layer in float64"),
        (lambda: layers.Dense(8, lora_rank=2), "under LoRA"),
        (lambda: layers.Dense(8, dtype="int8_from_float32"), "is it quantised"),
        (lambda: GroupedCSRDense(8, 2, 0), "it is sparse already"),
    ],
)
def test_what_stays(layer, reason):
    sparse = sparsify(in_a_model(layer()))
    (row,) = sparse.report.layers
    assert reason in row.reason and not row.replaced and row.density is None
    assert type(sparse.layers[0]) is type(layer())


def test_channels_first_stays():
    layer = layers.Conv2D(32, 3, data_format="channels_first")
    (row,) = sparsify(in_a_model(layer, (8, 16, 16))).report.layers
    assert "takes channels_last images" in row.reason


def test_masks_have_to_be_stripped_first():
    (row,) = sparsify(prune(in_a_model(layers.Dense(8)), ratio=0.5)).report.layers
    assert "call strip first" in row.reason


def test_penalties_stay():
    layer = layers.Dense(600, kernel_regularizer=regularizers.L1L2(0.1, 0.2))
    model = zeroed(in_a_model(layer, (300,)))
    sparse = sparsify(model)
    assert sparse.report.layers[0].replaced
    np.testing.assert_allclose(sum(sparse.losses), sum(model.losses), rtol=1e-5)


def test_sizes_that_are_open():
    layer = layers.Conv2D(32, 5, name="conv")
    model = zeroed(in_a_model(layer, (None, None, 3)))
    sparse = sparsify(model)
    assert sparse.report.layers[0].replaced
    assert_same_outputs(sparse, model)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"target": "cortex-m4"}, "'cortex-m4' is a microcontroller: give .* scalpel_tf.export"),
        ({"target": "gpu"}, "no sparse kernels for 'gpu', .* use the plain model"),
        ({"target": "x86"}, "Unknown target 'x86'"),
        ({"width": 3}, "`width` is None or one of"),
        ({"dtype": "float16"}, "`dtype` is one of float32, bfloat16, int8; got 'float16'"),
        ({"batch": 0}, "`batch` is a number of samples"),
    ],
)
def test_refuses_arguments(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        sparsify(in_a_model(layers.Dense(2)), **arguments)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize(
    "thing, sentence",
    [
        (layers.Dense(2), "takes a Keras model; got a Dense"),
        (Subclassed(name="mine"), "'mine' is subclassed .Subclassed."),
        (keras.Sequential([layers.Dense(2)], name="late"), "'late' is not built"),
    ],
)
def test_refuses_models(thing, sentence):
    for function in (sparsify, densify):
        with pytest.raises(ValueError, match=sentence):
            function(thing)


def test_refuses_tf_keras():
    tf_keras = type("Model", (), {"__module__": "tf_keras.src.models"})
    with pytest.raises(ValueError, match="got a Model of tf_keras .Keras 2."):
        sparsify(tf_keras())


def test_densify_refuses_a_plain_model():
    with pytest.raises(ValueError, match="has no sparse layer"):
        densify(in_a_model(layers.Dense(2)))


def test_a_densified_model_loads_without_the_package(tmp_path):
    densify(sparsify(zeroed(sequential()))).save(tmp_path / "plain.keras")
    code = "import keras, sys; keras.models.load_model(sys.argv[1]); assert not any("
    code += "name.startswith('scalpel_tf') for name in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "plain.keras")], cwd=ROOT, capture_output=True
    )
    assert run.returncode == 0, run.stderr
