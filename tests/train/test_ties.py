"""Masks that disagree, `keep=`, `round_to=`, and what `shrink` and `add_masks` refuse."""

import keras
import numpy as np
import pytest
from blocks import conv, head, image
from graphs import grouped, residual, squeeze_excite
from keras import layers
from layer_graphs import chain, custom_layer, flatten
from random_models import difference, drop, outputs, randomise, samples

from scalpel_tf.models import walk
from scalpel_tf.train import rules
from scalpel_tf.train.mask_layer import MaskLayer, find_masks
from scalpel_tf.train.masks import add_masks
from scalpel_tf.train.surgery import costs, shrink

TOLERANCE = 1e-5


def masked_by_hand(join, activation="relu", after=True):
    """Two masked branches of 8 channels that are joined; which masks drop what is up to the test.

    after: whether the mask stands behind the activation, or the activation behind the mask.
    """
    x = image()
    branches = []
    for name in ("one", "two"):
        y = layers.Conv2D(8, 3, padding="same", name=name)(x)
        y = layers.BatchNormalization(name=f"{name}_norm")(y)
        if after:
            y = MaskLayer(name=f"mask_{name}")(layers.Activation(activation)(y))
        else:
            y = layers.Activation(activation)(MaskLayer(name=f"mask_{name}")(y))
        branches.append(y)
    return randomise(keras.Model(x, head(conv(join(branches), 6, "last"))), 0)


def close(masked, **dropped):
    """Closes the masks `mask_<name>`, or those that add_masks gave the layers so named."""
    report = getattr(masked, "report", None)
    names = {layer: mask.name for mask in report.masked for layer in mask.layers} if report else {}
    masks = {mask.name: mask for mask in find_masks(masked)}
    for name, nodes in dropped.items():
        mask = masks[names.get(name, f"mask_{name}")]
        alpha = np.ones(mask.alpha.shape, np.float32)
        alpha[list(nodes)] = 0
        mask.alpha.assign(alpha)
    return masked


def depthwise_of_sum(branches):
    y = layers.Add()(branches)
    return layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(y)


@pytest.mark.parametrize(
    "join, left",
    [
        (layers.add, 6),  # two nodes are dropped by both masks
        (layers.subtract, 6),
        (layers.average, 6),
        (layers.maximum, 6),
        (layers.minimum, 6),
        (layers.multiply, 3),  # a product needs both factors
        (depthwise_of_sum, 6),
        (lambda branches: branches[0] * branches[1] + branches[1], 5),
    ],
)
@pytest.mark.parametrize("activation, after", [("relu", True), ("sigmoid", True), ("relu", False)])
def test_masks_that_disagree_are_folded(join, left, activation, after):
    model = close(masked_by_hand(join, activation, after), one=[0, 1, 2, 3], two=[2, 3, 5])
    small = shrink(model)
    assert difference(model, small, samples(model)) <= TOLERANCE
    assert small.get_layer("one").filters == left
    assert small.get_layer("two").filters == left
    assert bool(small.report.zeroed) == (join is not layers.multiply)


def test_an_activation_behind_the_mask_is_heard_and_stays_exact():
    """sigmoid(0) is not 0: nothing can be cut for free, and nothing may change."""
    model = close(masked_by_hand(layers.add, "sigmoid", after=False), one=[0, 1], two=[1])
    small = shrink(model)
    assert difference(model, small, samples(model)) <= TOLERANCE


@pytest.mark.parametrize("stride", [1, 2])
def test_masks_of_one_shared_layer_disagree(stride):
    x = image()
    shared = layers.Conv2D(8, 3, strides=stride, activation="relu", name="shared")
    ends = []
    for name in ("one", "two"):
        y = MaskLayer(name=f"mask_{name}")(shared(conv(x, 5, f"{name}_stem")))
        ends.append(head(y, f"{name}_logits"))
    model = randomise(keras.Model(x, ends), 0)
    small = shrink(close(model, one=[0, 1, 2], two=[2, 4]))
    assert difference(model, small, samples(model)) <= TOLERANCE
    assert small.get_layer("shared").filters == 7


def test_groups_that_disagree():
    x = image(4)
    y = layers.Conv2D(8, 3, groups=2, padding="same", activation="relu", name="grouped")(x)
    y = MaskLayer(name="mask_grouped")(y)
    model = randomise(keras.Model(x, head(conv(y, 6, "last"))), 0)
    small = shrink(close(model, grouped=[0, 1, 4, 6]))  # 0 and 4 are first of their groups
    assert difference(model, small, samples(model)) <= TOLERANCE
    assert small.get_layer("grouped").filters == 6


def test_masks_with_nothing_to_drop_change_nothing():
    model = randomise(residual(), 0)
    small = shrink(add_masks(model))
    assert difference(model, small, samples(model)) == 0
    assert small.count_params() == model.count_params()
    assert not any(isinstance(layer, MaskLayer) for _, layer in walk(small))


def test_costs_are_those_of_the_shrunk_model():
    masked = drop(add_masks(randomise(residual(), 0)), 0)
    small = shrink(masked)
    assert costs(masked).parameters == small.count_params()
    assert costs(masked) == costs(small)
    assert small.report.macs == (costs(residual()).macs, costs(small).macs)


def test_macs_by_hand():
    """8 x 8 x 3, a 3 x 3 convolution to 6; pooled to 4 x 4, flattened; 9 neurons, 5 classes."""
    model = flatten()
    small = shrink(model, keep={"one": [0, 1, 4], "hidden": range(5)})
    by_path = {cut.path: cut for cut in small.report.layers}
    assert by_path["one"].macs == (64 * 27 * 6, 64 * 27 * 3)
    assert by_path["hidden"].macs == (16 * 6 * 9, 16 * 3 * 5)
    assert by_path["logits"].macs == (9 * 5, 5 * 5)
    assert by_path["hidden"].nodes == (9, 5)
    assert by_path["norm"].parameters == (36, 20)


def silenced(model, names, keep):
    """An independent oracle: `model` with 0 for all but `keep` of the channels of some layers."""
    x = model.input
    scale = np.zeros(model.get_layer(names[0]).output.shape[-1])
    scale[keep] = 1
    known = {id(x): x}
    for layer in model.layers[1:]:
        y = layer(known[id(layer.input)])
        known[id(layer.output)] = layers.Rescaling(scale.tolist())(y) if layer.name in names else y
    return keras.Model(x, known[id(model.output)])


@pytest.mark.parametrize(
    "make, layer, ends, keep",
    [
        (chain, "sigmoid", ["sigmoid", "norm"], [1, 2, 6]),  # the norm would give it an offset
        (chain, "soft", ["soft"], [0, 11]),
        (chain, "strided", ["tanh"], [3]),
        (flatten, "one", ["one_relu"], [0, 5]),
        (flatten, "hidden", ["norm"], list(range(1, 9))),
    ],
)
def test_keep_is_zero_behind_the_activation(make, layer, ends, keep):
    model = randomise(make(), 0)
    small = shrink(model, keep={layer: keep})
    assert difference(silenced(model, ends, keep), small, samples(model)) <= TOLERANCE
    assert {c.path: c.nodes[1] for c in small.report.layers}[layer] == len(keep)


def test_tied_layers_follow_the_one_that_is_named():
    model = randomise(residual(), 0)
    keep = [0, 2, 3, 7]
    small = shrink(model, keep={"wide1": keep})
    for name in ("stem", "wide1", "wide2"):
        assert small.get_layer(name).filters == 4
    kernel = small.get_layer("wide1").kernel.numpy()
    np.testing.assert_array_equal(kernel, model.get_layer("wide1").kernel.numpy()[..., keep])
    masked = close(add_masks(model), stem=[1, 4, 5, 6])
    assert difference(masked, small, samples(model)) <= TOLERANCE


def test_named_layers_that_are_tied_and_disagree():
    """Channel 1 goes; 0 and 2 stay, and are zero in the layer that drops them."""
    model = randomise(residual(), 0)
    small = shrink(model, keep={"wide1": [0, 3, 4, 5, 6, 7], "wide2": [2, 3, 4, 5, 6, 7]})
    assert small.get_layer("wide1").filters == 7
    (where,) = {path for path, count in small.report.zeroed if "wide1" in path}
    assert dict(small.report.zeroed)[where] == 1


def test_keep_works_beside_masks():
    model = randomise(flatten(), 0)
    masked = close(add_masks(model, layers="one"), one=[0, 1])
    small = shrink(masked, keep={"hidden": [2, 3]})
    assert (small.get_layer("one").filters, small.get_layer("hidden").units) == (4, 2)
    both = close(add_masks(model), one=[0, 1], hidden=[0, 1, 4, 5, 6, 7, 8])
    assert difference(both, small, samples(model)) <= TOLERANCE


@pytest.mark.parametrize("round_to", [2, 4, 8])
@pytest.mark.parametrize("make", [residual, grouped, squeeze_excite])
def test_round_to(make, round_to):
    """What is left is a multiple of it, or all that there was."""
    masked = drop(add_masks(randomise(make(), 0)), 0)
    small, exact = shrink(masked, round_to=round_to), shrink(masked)
    assert difference(masked, small, samples(masked)) <= TOLERANCE
    rows = {cut.path: cut.nodes[1] for cut in exact.report.layers}
    for cut in small.report.layers:
        before, after = cut.nodes
        assert after % round_to == 0 or after == before
        assert rows[cut.path] <= after < rows[cut.path] + 2 * round_to


def test_spatial_sizes_may_be_unknown():
    x = keras.Input((None, None, 3))
    y = conv(conv(x, 8, "one"), 6, "two")
    model = randomise(keras.Model(x, layers.Conv2D(2, 1, name="map")(y)), 0)
    small = shrink(model, keep={"one": [0, 1]})
    inputs = np.random.default_rng(0).normal(0, 1, (2, 5, 9, 3)).astype(np.float32)
    masked = close(add_masks(model), one=[2, 3, 4, 5, 6, 7])
    assert difference(masked, small, inputs) <= TOLERANCE


def test_flattening_an_unknown_size_keeps_its_channels():
    x = keras.Input((None, 3))
    y = layers.Conv1D(6, 3, name="one")(layers.Conv1D(8, 3, activation="relu", name="cut")(x))
    y = layers.Dense(4, name="logits")(layers.Reshape((-1, 12))(y))
    report = add_masks(keras.Model(x, y)).report
    assert [mask.layers for mask in report.masked] == [("cut",)]
    assert "unknown size" in dict(report.whole)["one"]


def test_a_layer_without_a_rule_is_told():
    model = randomise(custom_layer(), 0)
    report = add_masks(model).report
    assert dict(report.whole)["whole"] == "neighbours (Neighbours) has no rule to be cut by"
    small = shrink(model, keep={"cut": [0, 1]})
    assert small.get_layer("whole").filters == 6


@keras.saving.register_keras_serializable("tests")
class Gain(layers.Layer):
    """A layer of one's own: a factor for each channel."""

    def build(self, input_shape):
        self.factors = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")

    def call(self, inputs):
        return inputs * self.factors


def test_a_registered_rule_cuts_ones_own_layer(monkeypatch):
    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))
    x = image()
    y = Gain(name="gain")(layers.Conv2D(8, 3, activation="relu", name="one")(x))
    model = randomise(keras.Model(x, head(conv(y, 6, "two"))), 0)
    assert "gain (Gain) has no rule" in dict(add_masks(model).report.whole)["one"]
    rules.register_rule(Gain, rules.POINTWISE)
    masked = drop(add_masks(model), 0)
    small = shrink(masked)
    assert difference(masked, small, samples(model)) <= TOLERANCE
    assert small.get_layer("gain").factors.shape == (small.get_layer("one").filters,) != (8,)


@pytest.mark.parametrize("arguments", [(Gain, "pointwise"), ("Gain", rules.POINTWISE)])
def test_what_is_no_rule_is_refused(arguments):
    with pytest.raises(ValueError, match="register_rule takes a layer's class and a Rule"):
        rules.register_rule(*arguments)


def on_output():
    x = keras.Input((4,))
    return keras.Model(x, MaskLayer(name="mask_logits")(layers.Dense(3, name="logits")(x)))


@pytest.mark.parametrize(
    "act, message",
    [
        (lambda: shrink(close(on_output(), logits=[1])), "drops 1 channels of an output"),
        (lambda: shrink(flatten(), keep={"logits": [0]}), "drops 4 of 5 channels of 'logits'"),
        (lambda: shrink(flatten(), keep={"one": []}), "would empty layer 'one'"),
        (lambda: shrink(flatten(), keep={"one": [6]}), r"in \[0, 6\); got 6 to 6"),
        (lambda: shrink(flatten(), keep={"one": [-1]}), r"in \[0, 6\); got -1"),
        (lambda: shrink(flatten(), keep={"conv9": [0]}), "'conv9', which is no layer with nodes"),
        (lambda: shrink(flatten(), round_to=0), "`round_to` is a number .* got 0"),
        (lambda: shrink(flatten(), round_to=2.5), "`round_to` is a number .* got 2.5"),
        (lambda: shrink(layers.Dense(4)), "takes a Keras model; got a Dense"),
        (lambda: add_masks(layers.Dense(4)), "takes a Keras model; got a Dense"),
        (lambda: shrink(keras.Sequential([layers.Dense(4)])), "is not built"),
        (lambda: add_masks(flatten(), layers="conv9"), "'conv9', which selects no layer"),
        (lambda: add_masks(flatten(), skip=layers.Layer), "has no nodes that can be masked"),
    ],
)
def test_what_cannot_be_done_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_a_mask_that_drops_all_keeps_one_node():
    """The next layer could not be built without; what is kept is zero."""
    model = close(masked_by_hand(layers.concatenate), one=range(8))
    small = shrink(model)
    assert small.get_layer("one").filters <= 1
    assert difference(model, small, samples(model)) <= TOLERANCE
    assert all(np.isfinite(array).all() for array in outputs(small, samples(model)))
