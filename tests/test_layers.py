import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scalpel_tf.core.layout import to_matrix
from scalpel_tf.core.schedules import Constant, Polynomial
from scalpel_tf.train.layers import PruneWrapper, find_wrappers, kernels

SUPPORTED = [
    (layers.Dense(7), (5,)),
    (layers.Conv1D(6, 3), (9, 5)),
    (layers.Conv2D(6, (3, 2)), (7, 6, 3)),
    (layers.Conv2D(6, 3, groups=3), (7, 6, 9)),
    (layers.Conv3D(4, 2), (4, 4, 4, 3)),
    (layers.DepthwiseConv1D(3), (9, 5)),
    (layers.DepthwiseConv2D(3, depth_multiplier=2), (7, 6, 3)),
    (layers.SeparableConv1D(6, 3), (9, 5)),
    (layers.SeparableConv2D(6, 3, depth_multiplier=2), (7, 6, 3)),
    (layers.Conv1DTranspose(6, 3), (9, 5)),
    (layers.Conv2DTranspose(6, 3), (5, 5, 3)),
    (layers.Conv3DTranspose(4, 2), (3, 3, 3, 3)),
]


@keras.saving.register_keras_serializable("scalpel_tf_tests")
class Bilinear(layers.Layer):
    """A layer of the user's own that names what may be pruned."""

    def build(self, shape):
        self.left = self.add_weight(shape=(shape[-1], 6), name="left")
        self.scale = self.add_weight(shape=(6,), name="scale")

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.left) * self.scale

    def get_prunable_weights(self):
        return [self.left]


@keras.saving.register_keras_serializable("scalpel_tf_tests")
class PrunesItsBias(Bilinear):
    def get_prunable_weights(self):
        return [self.scale]


class CastsNothing(Bilinear):
    """Its output is its input, whatever the policy."""

    def __init__(self):
        super().__init__()
        self.autocast = False

    def call(self, inputs):
        return inputs


class Lifts(keras.constraints.Constraint):
    def __call__(self, w):
        return w + 0.25


def copy_of(layer):
    return type(layer).from_config(layer.get_config())


def groups_of(pruned, width):
    """Whether each group of the kernel is zero: one list per row."""
    matrix = to_matrix(pruned.variable.value.numpy(), pruned.kind)
    rows = matrix.reshape(matrix.shape[0], -1)
    groups = [rows[:, i : i + width] for i in range(0, rows.shape[1], width)]
    return np.stack([(group == 0).all(axis=1) for group in groups], axis=1), rows == 0


def assert_grouped(wrapper, width, ratio):
    assert wrapper.pruned
    for pruned in wrapper.pruned:
        groups, zeros = groups_of(pruned, width)
        assert np.count_nonzero(groups) == int(ratio * groups.size), pruned.variable.path
        np.testing.assert_array_equal(
            zeros, np.repeat(groups, width, axis=1)[:, : zeros.shape[1]], err_msg="a lone zero"
        )


@pytest.mark.parametrize("layer, shape", SUPPORTED, ids=lambda v: getattr(v, "name", ""))
def test_every_supported_layer_trains_sparse(layer, shape):
    keras.utils.set_random_seed(1)
    wrapper = PruneWrapper(copy_of(layer), ratio=0.5)
    model = keras.Sequential([keras.Input(shape), wrapper])
    wrapper.update(0.5)
    assert_grouped(wrapper, 4, 0.5)
    before = [pruned.variable.value.numpy() for pruned in wrapper.pruned]
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.train_on_batch(x, np.ones((4, *model.output_shape[1:])))
    assert_grouped(wrapper, 4, 0.5)
    for pruned, old in zip(wrapper.pruned, before, strict=True):
        assert (pruned.variable.value.numpy() != old).any()


def test_embedding_trains_sparse_and_keeps_its_mask():
    wrapper = PruneWrapper(layers.Embedding(9, 6, mask_zero=True), ratio=0.5)
    model = keras.Sequential([keras.Input((4,)), wrapper, layers.GlobalAveragePooling1D()])
    wrapper.update(0.5)
    model.compile("adam", "mse")
    x = np.array([[1, 2, 0, 0], [3, 4, 5, 0]])
    model.train_on_batch(x, np.ones((2, 6)))
    assert_grouped(wrapper, 4, 0.5)
    table = wrapper.layer.embeddings.value.numpy()
    np.testing.assert_allclose(model(x)[0], table[[1, 2]].mean(0), rtol=1e-6)  # 0 is padding
    np.testing.assert_array_equal(wrapper.compute_mask(x), x != 0)


@pytest.mark.parametrize(
    "layer, shape, outputs",
    [
        (layers.Dense(7), (5,), [7]),
        (layers.Conv1D(6, 3), (9, 5), [6]),
        (layers.Conv2D(6, (3, 2)), (7, 6, 3), [6]),
        (layers.Conv3D(4, 2), (4, 4, 4, 3), [4]),
        (layers.DepthwiseConv1D(3), (9, 5), [5]),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (7, 6, 3), [6]),
        (layers.SeparableConv1D(4, 3), (9, 5), [5, 4]),
        (layers.SeparableConv2D(4, 3, depth_multiplier=2), (7, 6, 3), [6, 4]),
        (layers.Conv1DTranspose(6, 3), (9, 5), [6]),
        (layers.Conv2DTranspose(6, 3), (5, 5, 3), [6]),
        (layers.Conv3DTranspose(4, 2), (3, 3, 3, 3), [4]),
        (layers.Embedding(9, 6), (4,), [9]),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_a_kernel_has_one_row_per_output(layer, shape, outputs):
    layer.build((None, *shape))
    rows = [to_matrix(v.value.numpy(), kind).shape[0] for v, kind in kernels(layer)]
    assert rows == outputs


def test_a_layer_without_compute_output_shape_is_wrapped_in_a_graph():
    x = keras.Input((4,))
    model = keras.Model(x, PruneWrapper(Bilinear(), ratio=0.5)(x))
    assert model.output_shape == (None, 6)


def test_a_layer_may_name_its_own_weights():
    wrapper = PruneWrapper(Bilinear(), ratio=0.5, width=2)
    wrapper.build((None, 8))
    wrapper.update(0.5)
    assert [pruned.variable.name for pruned in wrapper.pruned] == ["left"]
    assert_grouped(wrapper, 2, 0.5)


def test_output_is_that_of_the_layer_with_zeros():
    wrapper = PruneWrapper(layers.Dense(3, use_bias=False), ratio=0.5, width=2)
    x = np.eye(4, dtype=np.float32)
    wrapper(x)
    wrapper.layer.kernel.assign([[1, 8, 3], [1, 8, 3], [6, 2, 5], [6, 2, 5]])
    wrapper.update(0.5)  # six groups: columns of two; 1, 2 and 3 go
    expected = [[0, 8, 0], [0, 8, 0], [6, 0, 5], [6, 0, 5]]
    np.testing.assert_array_equal(wrapper(x), expected)


def test_the_criterion_is_followed():
    """rms prefers a spike, the mean magnitude an even group of the same sum and more."""
    kernel = np.array([[3.0, 0.0, 2.0, 2.0]], np.float32).T
    for criterion, kept in (("rms", [0, 1]), ("magnitude", [2, 3])):
        wrapper = PruneWrapper(layers.Dense(1), ratio=0.5, width=2, criterion=criterion)
        wrapper.build((None, 4))
        wrapper.layer.kernel.assign(kernel)
        wrapper.update(0.5)
        np.testing.assert_array_equal(np.flatnonzero(wrapper.pruned[0].mask.value.numpy()), kept)


@pytest.mark.parametrize(
    "constraint, holds",
    [
        (keras.constraints.NonNeg(), lambda kernel: (kernel >= 0).all()),
        (
            keras.constraints.UnitNorm(axis=0),
            lambda kernel: np.allclose(np.linalg.norm(kernel, axis=0), 1),
        ),
        # turns zeros into 0.25: the mask has the last word
        (Lifts(), lambda kernel: kernel.max() > 0.25),
    ],
)
def test_the_users_constraint_stays_in_force(constraint, holds):
    keras.utils.set_random_seed(0)
    wrapper = PruneWrapper(layers.Dense(6, kernel_constraint=constraint), ratio=0.5)
    model = keras.Sequential([keras.Input((16,)), wrapper])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    wrapper.update(0.5)
    model.train_on_batch(np.ones((4, 16)), np.zeros((4, 6)))
    kernel, keep = wrapper.layer.kernel.value.numpy(), wrapper.pruned[0].mask.value.numpy()
    assert np.count_nonzero(keep) == keep.size // 2 and not kernel[~keep].any()
    assert kernel.any() and holds(kernel)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_precision_policies(policy):
    wrapper = PruneWrapper(layers.Dense(6, dtype=policy), ratio=0.5)
    assert wrapper(np.ones((2, 8), np.float32)).dtype == wrapper.layer.compute_dtype
    wrapper.update(0.5)
    assert wrapper.count() == (24, 48)
    assert not wrapper.layer.kernel.value.numpy()[~wrapper.pruned[0].mask.value.numpy()].any()


def test_the_wrapper_casts_nothing_itself():
    """float16 would round 2049 to 2048."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inner = layers.Dense(1, dtype="float32", kernel_initializer="ones", use_bias=False)
        assert float(PruneWrapper(inner, ratio=0.5)(np.full((1, 1), 2049.0))[0, 0]) == 2049
        assert float(PruneWrapper(CastsNothing(), 0.5)(tf.fill((1, 1), 2049.0))[0, 0]) == 2049
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "ratio, schedule, step, expected",
    [
        (0.9, None, 0, 0.9),
        (None, Polynomial(0.8, end_step=10, power=1), 5, 0.4),
        (0.6, Polynomial(0.8, end_step=10, power=1), 5, 0.3),  # its own ratio, in proportion
        (0.6, Polynomial(0.8, end_step=10, power=1), 10, 0.6),
        (0.0, Constant(0.5), 10, 0.0),
        (None, lambda step: step / 100 if step < 50 else 0.5, 20, 0.2),
    ],
)
def test_ratio_at_a_step(ratio, schedule, step, expected):
    wrapper = PruneWrapper(layers.Dense(2), ratio, schedule)
    assert wrapper.ratio_at(step) == pytest.approx(expected, abs=1e-15)


def test_a_given_schedule_takes_the_place_of_its_own():
    wrapper = PruneWrapper(layers.Dense(2), 0.6, Constant(0.1))
    assert wrapper.ratio_at(5, Polynomial(0.8, end_step=10, power=1)) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="ends at ratio 0"):
        wrapper.ratio_at(5, Constant(0.0))


@keras.saving.register_keras_serializable("scalpel_tf_tests")
def settle(step):
    return min(0.5, step / 10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ratio": 0.7},
        {"schedule": Constant(0.5, 3, 9, 2)},
        {"ratio": 0.7, "schedule": Polynomial(0.8, 9, 0.1, 2, 4, 5), "width": 3, "name": "other"},
        {"ratio": 0.7, "criterion": "magnitude", "width": 8, "trainable": False},
        {"schedule": settle, "dtype": "mixed_float16"},
    ],
)
def test_configuration_holds_every_argument(arguments):
    wrapper = PruneWrapper(layers.Dense(5, name="fc"), **arguments)
    config = wrapper.get_config()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(wrapper))
    assert again.get_config() == config
    for name in ("ratio", "schedule", "width", "criterion", "name", "trainable"):
        assert getattr(again, name) == getattr(wrapper, name)
    assert again.layer.units == 5 and again.name == arguments.get("name", "fc")


def sparse_model():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            PruneWrapper(layers.SeparableConv2D(5, 3, name="conv"), 0.6, width=3),
            layers.BatchNormalization(),
            layers.Flatten(),
            PruneWrapper(layers.Dense(3, name="fc"), schedule=Constant(0.5), criterion="magnitude"),
        ]
    )
    model.compile("adam", "mse")
    return model


def through_keras(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def through_weights(model, folder):
    model.save_weights(folder / "model.weights.h5")
    again = keras.Sequential.from_config(model.get_config())
    again.load_weights(folder / "model.weights.h5")
    return again


def through_checkpoint(model, folder):
    path = tf.train.Checkpoint(model=model).save(str(folder / "checkpoint"))
    again = keras.Sequential.from_config(model.get_config())
    tf.train.Checkpoint(model=again).restore(
        path
    ).expect_partial().assert_existing_objects_matched()
    return again


@pytest.mark.parametrize("through", [through_keras, through_weights, through_checkpoint])
def test_masks_survive(through, tmp_path):
    model = sparse_model()
    for wrapper in find_wrappers(model):
        wrapper.update(0.5)
    again = through(model, tmp_path)
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(again(x), model(x))
    again.compile("adam", "mse")
    again.train_on_batch(x, np.ones((4, 3)))
    for new, old in zip(find_wrappers(again), find_wrappers(model), strict=True):
        assert (new.ratio, new.schedule) == (old.ratio, old.schedule)
        assert (new.width, new.criterion) == (old.width, old.criterion)
        assert new.count() == old.count() and new.count()[0] < new.count()[1]
        assert_grouped(new, new.width, 0.5)


class FakeTfKerasLayer:
    __module__ = "tf_keras.src.layers.core.dense"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: PruneWrapper(layers.Dense(2)), "Give layer 'dense.*' a `ratio`"),
        (lambda: PruneWrapper(layers.Dense(2), 1.0), r"in \[0, 1\); got 1.0 for layer 'dense"),
        (lambda: PruneWrapper(layers.Dense(2), float("nan")), "got nan"),
        (lambda: PruneWrapper(layers.Dense(2), schedule="slow"), "callable of the step"),
        (lambda: PruneWrapper(layers.Dense(2), 0.5, width=0), "`width` is .* got 0"),
        (lambda: PruneWrapper(layers.Dense(2), 0.5, width=2.0), "`width` is .* got 2.0"),
        (lambda: PruneWrapper(layers.Dense(2), 0.5, criterion="l1"), "rms, magnitude; got 'l1'"),
        (lambda: PruneWrapper(keras.Input((3,)), 0.5), "got a KerasTensor"),
        (lambda: PruneWrapper(PruneWrapper(layers.Dense(2), 0.5), 0.5), "not wrapped yet"),
        (lambda: PruneWrapper(FakeTfKerasLayer(), 0.5), "FakeTfKerasLayer of tf_keras"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def lora():
    layer = layers.Dense(4)
    layer.build((None, 4))
    layer.enable_lora(2)
    return layer


def quantised():
    layer = layers.Dense(4)
    layer.build((None, 4))
    layer.quantize("int8")
    return layer


@pytest.mark.parametrize(
    "make, message",
    [
        (layers.LayerNormalization, "LayerNormalization has no kernel"),
        (layers.Dropout, "Dropout has no kernel"),
        (PrunesItsBias, "fewer than 2 axes"),
        (lora, "not a plain float variable"),
        (quantised, "not a plain float variable"),
    ],
)
def test_layers_that_cannot_be_pruned_are_refused(make, message):
    layer = make(0.5) if make is layers.Dropout else make()
    with pytest.raises(ValueError, match=message):
        PruneWrapper(layer, 0.5).build((None, 4))


def test_other_backends_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="this process runs 'jax'"):
        PruneWrapper(layers.Dense(2), 0.5)


def test_kernels_of_an_unsupported_layer_are_none():
    assert kernels(layers.ReLU()) == []
