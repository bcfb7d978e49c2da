import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.core.schedules import Polynomial
from scalpel_tf.models import walk
from scalpel_tf.train.callbacks import Prune, update_masks
from scalpel_tf.train.layers import PruneWrapper, find_wrappers
from scalpel_tf.train.wrap import prune, strip

X = np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype(np.float32)


def sequential():
    stack = [
        keras.Input((8, 8, 2)),
        layers.Conv2D(6, 3, name="conv", kernel_constraint="max_norm"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="act"),
        layers.Flatten(name="flat"),
        layers.Dense(5, name="logits"),
    ]
    return keras.Sequential(stack, name="plain")


def functional():
    """A residual block, an operation that is no layer, two inputs by name, two outputs."""
    image = keras.Input((8, 8, 2), name="image")
    flag = keras.Input((3,), name="flag")
    x = layers.Conv2D(4, 3, padding="same", name="conv")(image)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Add(name="add")([x, y]) * 2.0
    x = layers.Concatenate(name="cat")([layers.GlobalAveragePooling2D(name="pool")(x), flag])
    outputs = {
        "logits": layers.Dense(5, name="logits")(x),
        "aux": layers.Dense(8, name="aux", trainable=False)(x),
    }
    return keras.Model({"image": image, "flag": flag}, outputs, name="functional")


def nested():
    """The block is called twice; the inner dense layer is shared with the outer model."""
    shared = layers.Dense(8, name="shared")
    deep = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="deep")], name="deepest")
    inputs = keras.Input((8,))
    block = keras.Model(inputs, deep(shared(inputs)), name="block")
    outer = keras.Input((8, 8, 2))
    x = layers.Normalization(name="scale")(outer)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(8, 3, name="conv")(x))
    return keras.Model(outer, shared(block(block(x))), name="nested")


MODELS = {"sequential": sequential, "functional": functional, "nested": nested}
ALL_PATHS = {
    "sequential": ["conv", "logits"],
    "functional": ["conv", "depthwise", "logits", "aux"],
    "nested": ["conv", "block/shared", "block/deepest/deep"],
}


def inputs_of(model):
    flag = np.ones((16, 3), np.float32)
    return {"image": X, "flag": flag} if model.name == "functional" else X


def outputs_of(model):
    return keras.tree.flatten(model.predict(inputs_of(model), verbose=0))


def randomised(name):
    keras.utils.set_random_seed(7)
    model = MODELS[name]()
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(np.abs(rng.normal(size=weight.shape)) + 0.1)
    for layer in model.layers:
        if isinstance(layer, layers.Normalization):
            layer.adapt(X + 3)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_prune_copies_and_strip_restores(name):
    model = randomised(name)
    weights, config = model.get_weights(), model.get_config()
    before = outputs_of(model)
    pruned = prune(model, ratio=0.5)
    for copied, original in zip(outputs_of(pruned), before, strict=True):
        np.testing.assert_array_equal(copied, original)
    assert type(pruned) is type(model) and pruned.name == model.name
    assert [path for path, _ in walk(pruned)] == [path for path, _ in walk(model)]
    assert list(dict.fromkeys(row.path for row in pruned.report.wrapped)) == sorted(
        ALL_PATHS[name], key=[path for path, _ in walk(model)].index
    )

    update_masks(pruned, 0)
    plain = strip(pruned)
    assert [type(layer) for _, layer in walk(plain)] == [type(layer) for _, layer in walk(model)]
    assert plain.get_config() == config
    for path, layer in walk(plain):
        share = 0.5 if path in ALL_PATHS[name] else 0
        if layer.weights:
            assert np.mean(layer.get_weights()[0] == 0) == pytest.approx(share, abs=0.06), path
    for one, other in zip(outputs_of(plain), outputs_of(pruned), strict=True):
        np.testing.assert_array_equal(one, other)

    plain.set_weights([0 * w for w in plain.get_weights()])
    pruned.set_weights([w if w.dtype == bool else 2 * w for w in pruned.get_weights()])
    for kept, weight in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(kept, weight)
    for still, original in zip(outputs_of(model), before, strict=True):
        np.testing.assert_array_equal(still, original)


def test_the_whole_way():
    """prune, compile, fit with named losses, strip; the user's constraint is back."""
    model = functional()
    pruned = prune(model, ratio=0.5, schedule=Polynomial(0.9, end_step=4, frequency=1))
    pruned.compile("sgd", loss={"logits": "mse", "aux": "mse"})
    targets = {"logits": np.zeros((16, 5)), "aux": np.zeros((16, 8))}
    frozen = pruned.get_layer("aux").layer.bias.value.numpy()
    history = pruned.fit(
        inputs_of(model), targets, batch_size=4, epochs=2, verbose=0, callbacks=[Prune()]
    )
    assert history.history["sparsity"][-1] == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(pruned.get_layer("aux").layer.bias.value.numpy(), frozen)
    plain = strip(pruned)
    for one, other in zip(outputs_of(plain), outputs_of(pruned), strict=True):
        np.testing.assert_array_equal(one, other)


def test_strip_gives_back_the_users_constraint():
    pruned = prune(sequential(), ratio=0.5)
    update_masks(pruned, 0)
    conv = strip(pruned).get_layer("conv")
    assert type(conv.kernel.constraint) is keras.constraints.MaxNorm
    assert conv.kernel.constraint is not pruned.get_layer("conv").layer.kernel_constraint


def test_strip_zeroes_what_came_back():
    """For instance averaged weights, loaded after training."""
    pruned = prune(sequential(), ratio=0.5)
    update_masks(pruned, 0)
    dense = pruned.get_layer("logits").layer.kernel
    dense.assign(np.ones(dense.shape))
    plain = strip(pruned)
    assert (
        np.count_nonzero(plain.get_layer("logits").kernel.value.numpy()) == dense.shape[0] * 5 // 2
    )


def test_a_stripped_model_needs_no_scalpel(tmp_path):
    pruned = prune(sequential(), ratio=0.5)
    update_masks(pruned, 0)
    plain = strip(pruned)
    plain.save(tmp_path / "plain.keras")
    np.savez(tmp_path / "expected.npz", x=X, y=plain.predict(X, verbose=0))
    code = (
        "import sys, keras, numpy as np\n"
        f"saved = np.load({str(tmp_path / 'expected.npz')!r})\n"
        f"model = keras.models.load_model({str(tmp_path / 'plain.keras')!r})\n"
        "same = np.allclose(model.predict(saved['x'], verbose=0), saved['y'], atol=1e-5)\n"
        "print(same, 'scalpel_tf' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "True False\n", run.stderr


@pytest.mark.parametrize(
    "arguments, wrapped",
    [
        ({"ratio": 0.5}, ["conv", "block/shared", "block/deepest/deep"]),
        ({"ratio": 0.5, "layers": "conv"}, ["conv"]),
        ({"ratio": 0.5, "layers": ["block/shared", "conv"]}, ["conv", "block/shared"]),
        ({"ratio": 0.5, "layers": "block/.*"}, ["block/shared", "block/deepest/deep"]),
        ({"ratio": 0.5, "layers": layers.Dense}, ["block/shared", "block/deepest/deep"]),
        ({"ratio": 0.5, "layers": lambda layer: layer.name == "deep"}, ["block/deepest/deep"]),
        ({"ratio": 0.5, "skip": "deep"}, ["conv", "block/shared"]),
        ({"ratio": 0.5, "skip": ["conv", "d.*p"]}, ["block/shared"]),
        ({"ratio": 0.5, "skip": [layers.Dense, layers.Embedding]}, ["conv"]),
        ({"ratio": 0.5, "layers": layers.Dense, "skip": "deep"}, ["block/shared"]),
        ({"ratio": {"conv": 0.5, "deep": 0.9}}, ["conv", "block/deepest/deep"]),
        ({"schedule": Polynomial(0.5, 9)}, ["conv", "block/shared", "block/deepest/deep"]),
    ],
)
def test_layers_are_selected(arguments, wrapped):
    pruned = prune(nested(), **arguments)
    assert sorted(row.path for row in pruned.report.wrapped) == sorted(wrapped)
    is_wrapped = [path for path, layer in walk(pruned) if isinstance(layer, PruneWrapper)]
    assert sorted(is_wrapped) == sorted(wrapped)


def test_the_first_entry_of_a_dict_counts():
    pruned = prune(nested(), ratio={"conv": 0.3, ".*e.*": 0.7, "deep": 0.9})
    ratios = {wrapper.name: wrapper.ratio for wrapper in find_wrappers(pruned)}
    assert ratios == {"conv": 0.3, "shared": 0.7, "deep": 0.7}


@pytest.mark.parametrize(
    "arguments, width",
    [
        ({}, 4),
        ({"target": "cortex-m7"}, 4),
        ({"target": "x86-64-avx2"}, 8),
        ({"width": 2}, 2),
        ({"target": "gpu", "width": 16}, 16),
    ],
)
def test_the_target_gives_the_width(arguments, width):
    pruned = prune(sequential(), ratio=0.5, criterion="magnitude", **arguments)
    assert {(w.width, w.criterion) for w in find_wrappers(pruned)} == {(width, "magnitude")}
    assert {row.width for row in pruned.report.wrapped} == {width}


def test_the_report_says_what_and_why_not():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.SeparableConv2D(6, 3, name="separable"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(),
            layers.Dense(4, name="fc"),
            layers.Dense(4, name="logits"),
        ]
    )
    report = prune(model, ratio={"separable": 0.5, "logits": 0.7}, skip="logits").report
    assert report.wrapped == (
        ("separable", "SeparableConv2D", (3, 3, 2, 1), 4, 0.5),
        ("separable", "SeparableConv2D", (1, 1, 2, 6), 4, 0.5),
    )
    assert report.skipped == (
        ("norm", "BatchNormalization has no kernel that can be pruned"),
        ("fc", "`ratio` has no entry for it"),
        ("logits", "`skip` selects it"),
    )
    assert [line.split() for line in str(report).splitlines()] == [
        "Pruning for cortex-m4: 30 weights in 2 kernels".split(),
        "separable SeparableConv2D (3, 3, 2, 1) groups of 4 ratio 0.5".split(),
        "separable SeparableConv2D (1, 1, 2, 6) groups of 4 ratio 0.5".split(),
        "norm skipped: BatchNormalization has no kernel that can be pruned".split(),
        "fc skipped: `ratio` has no entry for it".split(),
        "logits skipped: `skip` selects it".split(),
    ]


def test_wrapping_twice_changes_nothing():
    once = prune(sequential(), ratio=0.5)
    update_masks(once, 0)
    twice = prune(once, ratio=0.9, width=2)
    assert twice.report.skipped[0] == ("conv", "it is wrapped already")
    for new, old in zip(find_wrappers(twice), find_wrappers(once), strict=True):
        assert (new.ratio, new.width, new.count()) == (old.ratio, old.width, old.count())
        assert new.pruned[0].variable is not old.pruned[0].variable


def test_a_compiled_model_is_copied_uncompiled():
    """Keras' own cloning would fail to serialise this loss."""
    model = sequential()
    model.compile("adam", loss=lambda truth, guess: 0.0)
    pruned = prune(model, ratio=0.5)
    assert (pruned.compiled, model.compiled) == (False, True)


def test_a_model_class_of_ones_own_stays():
    """A functional model with its own train_step is no subclassed graph."""

    class Trained(keras.Model):
        pass

    inputs = keras.Input((8,))
    model = Trained(inputs, layers.Dense(4)(inputs))
    assert type(prune(model, ratio=0.5)) is Trained


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, inputs):
        return self.dense(inputs)


class FunctionalSubclass(keras.Model):
    """Its constructor cannot be repeated, so that a copy would lose its class."""

    def __init__(self):
        inputs = keras.Input((8,))
        super().__init__(inputs, layers.Dense(4)(inputs))


class FakeTfKerasModel:
    __module__ = "tf_keras.src.engine.functional"


def without_kernels():
    return keras.Sequential([keras.Input((4,)), layers.LayerNormalization(name="n")], name="m")


@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (sequential, {}, "`ratio`, a `schedule`, or both; got neither"),
        (sequential, {"ratio": 1.0}, r"in \[0, 1\); got 1.0"),
        (sequential, {"ratio": -0.1}, r"in \[0, 1\); got -0.1"),
        (sequential, {"ratio": float("nan")}, r"in \[0, 1\); got nan"),
        (sequential, {"ratio": {"conv": 0.5, "logits": 7}}, r"got 7 for 'logits'"),
        (sequential, {"ratio": {"fc9": 0.5}}, "`ratio` has 'fc9', which selects no layer"),
        (sequential, {"ratio": 0.5, "layers": "fc9"}, "`layers` has 'fc9', which selects no"),
        (sequential, {"ratio": 0.5, "skip": ["conv", "fc9"]}, "`skip` has 'fc9', which selects"),
        (sequential, {"ratio": 0.5, "layers": layers.Embedding}, "no prunable layers .*`layers`"),
        (sequential, {"ratio": 0.5, "layers": []}, "no prunable layers .*`layers`"),
        (sequential, {"ratio": 0.5, "layers": 3}, "type or callable; got 3"),
        (sequential, {"ratio": 0.5, "target": "cortex-m99"}, "Unknown target 'cortex-m99'"),
        (sequential, {"ratio": 0.5, "target": "gpu"}, "whole nodes are pruned"),
        (sequential, {"ratio": 0.5, "width": 0}, "`width` is a number .* got 0"),
        (sequential, {"ratio": 0.5, "criterion": "l1"}, "`criterion` is one of"),
        (sequential, {"schedule": "slow"}, "callable of the step; got 'slow'"),
        (without_kernels, {"ratio": 0.5}, "'m' has no prunable layers .n: LayerNormalization"),
        (lambda: keras.Sequential([layers.Dense(4)]), {"ratio": 0.5}, "is not built"),
        (Subclassed, {"ratio": 0.5}, "is subclassed .Subclassed"),
        (FunctionalSubclass, {"ratio": 0.5}, "is subclassed .FunctionalSubclass"),
        (
            lambda: keras.Sequential([keras.Input((8,)), Subclassed()]),
            {"ratio": 0.5},
            "is subclassed .Subclassed",
        ),
        (lambda: keras.Input((4,)), {"ratio": 0.5}, "got a KerasTensor: pass the model"),
        (lambda: layers.Dense(4), {"ratio": 0.5}, "got a Dense: .* with PruneWrapper"),
        (lambda: "model.keras", {"ratio": 0.5}, "takes a Keras model; got a str"),
        (FakeTfKerasModel, {"ratio": 0.5}, "got a FakeTfKerasModel of tf_keras"),
    ],
)
def test_what_cannot_be_pruned_is_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        prune(make(), **arguments)


def test_a_real_tf_keras_model_is_refused():
    code = (
        "import tf_keras\n"
        "from scalpel_tf.train.wrap import prune\n"
        "model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(4,))])\n"
        "try:\n    prune(model, ratio=0.5)\n"
        "except ValueError as error:\n    print(error)"
    )
    pytest.importorskip("tf_keras")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.startswith("Expected an object of Keras 3, got a Sequential of tf_keras")


def test_other_backends_are_refused(monkeypatch):
    model = sequential()
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    for function in (lambda: prune(model, ratio=0.5), lambda: strip(model)):
        with pytest.raises(ValueError, match="this process runs 'torch'"):
            function()


@pytest.mark.parametrize(
    "make, message",
    [
        (sequential, "has no PruneWrapper"),
        (
            lambda: prune(sequential(), ratio=0.5),
            "Nothing is pruned in 'plain': .* all 1,188 weights",
        ),
        (lambda: layers.Dense(4), "strip takes a Keras model; got a Dense"),
    ],
)
def test_what_cannot_be_stripped_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        strip(make())


def test_a_ratio_of_zero_strips():
    model = sequential()
    plain = strip(prune(model, ratio=0))
    for one, other in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options, wrapped", [({}, ["out"]), ({"width": 8}, ["conv", "out"])])
def test_on_a_cpu_convolutions_are_left_for_node_pruning(options, wrapped):
    x = keras.Input((8, 8, 3))
    y = layers.Flatten()(layers.Conv2D(4, 3, name="conv")(x))
    model = keras.Model(x, layers.Dense(2, name="out")(y))
    report = prune(model, target="x86-64-avx2", ratio=0.5, **options).report
    assert [kernel.path for kernel in report.wrapped] == wrapped
    assert all(kernel.width == 8 for kernel in report.wrapped)
    if not options:
        ((path, reason),) = report.skipped
        assert path == "conv" and "whole nodes" in reason
