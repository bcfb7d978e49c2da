"""A shrunk model computes what the masked one does, on every architecture that Keras has.

`pytest -v` ends with the parameters of each before and after. What takes long is marked
slow: all but one seed of each graph and of some applications.
"""

import gc
from functools import lru_cache

import graphs
import keras
import layer_graphs
import numpy as np
import pytest
from random_models import difference, distance, drop, outputs, randomise, samples

from scalpel_tf.models import walk
from scalpel_tf.train.masks import add_masks
from scalpel_tf.train.surgery import shrink

TOLERANCE = 1e-5  # of the largest output, in float32
SEEDS = (0, 1, 2)
APPLICATIONS = [name for name in dir(keras.applications) if name[0].isupper()]
SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}  # the others take 32
FAST = {"DenseNet121", "MobileNetV2"}

# What may stay whole beside outputs: path -> part of the reason. "silent": masks drop nodes of it
# at random, but never all that are tied to one of them.
WHOLE = {
    "nested_twice": {"stem": "silent", "block/in2": "silent"},
    "depthwise": {"on_input": "no nodes that can be cut"},
    "shuffle_of_layers": {"one": "tied to one"},
    "shuffle_of_ops": {"one": "tied to one"},
    "merges": {"spatial": "spreads one channel over many"},
    "multi_head_attention": dict.fromkeys(("embed", "attention", "contract"), "LayerNormalization"),
    "group_normalization": {
        "one": "(GroupNormalization) takes a mean",
        "three": "(LayerNormalization) takes a mean",
    },
    "padding_and_cropping": {"two": "(Resizing) has no rule"},
    "custom_layer": {"whole": "neighbours (Neighbours) has no rule"},
}


def silent(model, small):
    """The layers with a kernel that are as large as before, and that the report does not name."""
    told = dict(small.report.whole)
    sizes = {path: layer.count_params() for path, layer in walk(small)}
    return [
        path
        for path, layer in walk(model)
        if any(len(weight.shape) > 1 for weight in layer.weights)
        and sizes[path] == layer.count_params()
        and path not in told
    ]


def shrunk(name, model, seed, show):
    """`model` with a random half cut, after what holds for all of them is checked."""
    masked = drop(add_masks(randomise(model, seed)), seed)
    small = shrink(masked)
    inputs = samples(model, seed=seed)
    expected = outputs(masked, inputs)
    found = distance(expected, outputs(small, inputs))
    show(name, model.count_params(), small.count_params(), found)
    assert found <= TOLERANCE
    assert distance(expected, outputs(model, inputs)) > 100 * TOLERANCE  # the masks are heard
    assert small.count_params() < model.count_params()
    assert small.report.parameters == (model.count_params(), small.count_params())
    assert silent(model, small) == []
    return small


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in SEEDS[1:])])
@pytest.mark.parametrize(
    "make", graphs.GRAPHS + layer_graphs.GRAPHS, ids=lambda make: make.__name__
)
def test_graphs(make, seed, show):
    keras.utils.set_random_seed(seed)
    small = shrunk(make.__name__, make(), seed, show)
    expected = WHOLE.get(make.__name__, {})
    whole = {path: reason for path, reason in small.report.whole if "output" not in reason}
    assert whole.keys() <= expected.keys()
    assert all(expected[path] in reason for path, reason in whole.items())


def applications():
    for name in APPLICATIONS:
        for seed in SEEDS:
            slow = name not in FAST or seed > 0
            yield pytest.param(name, seed, marks=pytest.mark.slow if slow else ())


@lru_cache(maxsize=1)
def application(name):
    """Built once for all seeds, which give it other weights; large ones do not fit twice."""
    keras.backend.clear_session()
    gc.collect()
    keras.utils.set_random_seed(0)
    size = SIZES.get(name, 32)
    return getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classifier_activation=None
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name, seed", list(applications()))
def test_applications(name, seed, show):
    shrunk(name, application(name), seed, show)


def pair(bias):
    x = keras.Input((4,))
    y = keras.layers.Dense(3, name="hidden")(x)
    model = keras.Model(x, keras.layers.Dense(2, name="logits")(y))
    for layer in model.layers[1:]:
        layer.kernel.assign(np.ones(layer.kernel.shape))
    model.layers[-1].bias.assign([0.0, bias])
    return model


def test_difference_is_relative_to_the_largest_output():
    inputs = np.full((1, 4), 0.5, np.float32)  # outputs 6 and 6 + bias
    assert difference(pair(2.0), pair(2.0), inputs) == 0
    assert difference(pair(2.0), pair(4.0), inputs) == pytest.approx(2 / 8)


def test_silent_finds_a_layer_that_nobody_told_of():
    model = pair(0.0)
    small = shrink(drop(add_masks(model), 0))
    assert silent(model, small) == []
    same = keras.models.clone_model(model)
    same.report = type(small.report)((), (("logits", "for a reason"),), ())
    assert silent(model, same) == ["hidden"]


@pytest.mark.slow
def test_a_chain_deeper_than_pythons_recursion():
    x = keras.Input((2,))
    y = x
    for index in range(560):
        y = keras.layers.Dense(2, name=f"hidden{index}")(y)
    masked = add_masks(keras.Model(x, keras.layers.Dense(2, name="logits")(y)))
    assert len(shrink(masked).layers) == 562
