"""Which channels are tied to which, by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.train import graph
from scalpel_tf.train.graph import LayerCost, costs
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.surgery import shrink


def made(network, path):
    call = next(call for call in network.makers() if call.path == path)
    return network.roots(call.made)


def test_an_addition_ties_its_operands_and_an_output_holds_its_nodes():
    x = keras.Input((4, 4, 2))
    one = layers.Conv2D(3, 1, name="one")(x)
    two = layers.Conv2D(3, 1, name="two")(x)
    y = layers.Conv2D(5, 1, name="alone")(layers.Add()([one, two]))
    network = graph.read(keras.Model(x, layers.Conv2D(2, 1, name="out")(y)))
    np.testing.assert_array_equal(made(network, "one"), made(network, "two"))
    assert not np.intersect1d(made(network, "one"), made(network, "alone")).size
    assert [(group.name, group.layers, group.nodes.size) for group in network.groups()] == [
        ("one", ("one", "two"), 3),
        ("alone", ("alone",), 5),
    ]
    assert set(network.whole) == set(made(network, "out").tolist())


def test_groups_shuffle_and_flatten_follow_every_position():
    x = keras.Input((2, 2, 4))
    y = layers.Conv2D(8, 1, name="made")(x)
    grouped = layers.Conv2D(4, 1, groups=2, name="grouped")(y)
    network = graph.read(keras.Model(x, layers.Dense(2)(layers.Flatten()(grouped))))
    first = made(network, "made")
    np.testing.assert_array_equal(first[:4], first[4:])  # the n-th of each group
    assert np.unique(first).size == 4
    flat = next(c for c in network.calls if isinstance(c.layer, layers.Flatten)).outputs[0]
    np.testing.assert_array_equal(
        network.roots(flat.nodes[0]), np.tile(made(network, "grouped"), 4)
    )


def test_what_joins_an_input_is_held_with_a_reason():
    x = keras.Input((6,))
    y = layers.Add(name="sum")([layers.Dense(6, name="hidden")(x), x])
    network = graph.read(keras.Model(x, layers.Dense(1)(y)))
    (reason,) = {network.whole[root] for root in made(network, "hidden").tolist()}
    assert reason == "sum (Add) joins it with what cannot be cut"


def test_costs_before_and_after_a_cut():
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(3, 3, name="conv")(x)  # 2 x 2 positions
    y = layers.BatchNormalization(name="norm")(y)
    model = keras.Model(x, layers.Dense(5, name="out")(layers.Flatten()(y)))
    network = graph.read(model)
    assert costs(network) == {
        "conv": LayerCost(3, 9 * 2 * 3 + 3, 4 * 9 * 2 * 3),
        "norm": LayerCost(0, 12, 0),
        "out": LayerCost(5, 12 * 5 + 5, 12 * 5),
    }
    after = costs(network, made(network, "conv")[:1])
    assert after == {
        "conv": LayerCost(2, 9 * 2 * 2 + 2, 4 * 9 * 2 * 2),
        "norm": LayerCost(0, 8, 0),
        "out": LayerCost(5, 8 * 5 + 5, 8 * 5),
    }


def test_an_unknown_size_is_held():
    x = keras.Input((None, None, 2))
    y = layers.Reshape((-1, 6), name="rows")(layers.Conv2D(3, 1, name="conv")(x))
    network = graph.read(keras.Model(x, layers.Dense(2)(y)))
    assert network.whole[int(made(network, "conv")[0])] == "rows reshapes an unknown size"


@pytest.mark.parametrize("model", [layers.Dense(2), keras.Sequential([layers.Dense(2)])])
def test_what_is_no_built_model_is_refused(model):
    with pytest.raises(ValueError, match="takes a Keras model|is not built"):
        graph.read(model)


def test_a_mask_at_two_places_ties_nothing():
    """Tied masks may read values of different widths, each by an index of its own."""
    x = keras.Input((4,))
    mask = MaskLayer(3, name="mask")
    one = mask(layers.Dense(3, name="one")(x))
    two = mask(layers.Dense(6, name="two")(x), index=[0, 1, 2, 0, 1, 2])
    y = layers.Concatenate()([one, two])
    model = keras.Model(x, layers.Dense(2, name="out")(y))
    assert len(graph.read(model).groups()) == 2
    mask.alpha.assign([1.0, 0.0, 1.0])
    small = shrink(model)
    assert small.get_layer("one").units == 2 and small.get_layer("two").units == 4
