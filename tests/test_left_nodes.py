"""Which nodes are left: as indices, as text, after two cuts, and in a run's steps."""

import keras
import numpy as np
import pytest

from scalpel_tf.core import left_nodes
from scalpel_tf.driver import nodes_left
from scalpel_tf.train.surgery import shrink


@pytest.mark.parametrize(
    "indices, text",
    [
        ([], ""),
        ([3], "3"),
        ([0, 1], "0-1"),
        ([0, 1, 2, 7, 9, 10, 500], "0-2 7 9-10 500"),
        (list(range(100)), "0-99"),
    ],
)
def test_ranges(indices, text):
    assert left_nodes.pack(indices) == text
    assert left_nodes.unpack(text) == indices


def test_the_second_cut_is_of_what_the_first_left():
    found = left_nodes.compose({"a": [1, 4, 6, 8], "b": [2]}, {"a": [0, 3], "c": [5, 7]})
    assert found == {"a": [1, 8], "b": [2], "c": [5, 7]}


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 5, 2))
    h = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    h = keras.layers.Dense(6, activation="relu", name="fc1")(keras.layers.Flatten()(h))
    return keras.Model(inputs, keras.layers.Dense(3, name="fc2")(h))


def take(state, small, kept=True):
    state["steps"].append({"kept": kept, "nodes_left": nodes_left.after(state, small.report)})
    return state["steps"][-1]["nodes_left"]


def test_steps_say_which_nodes_of_the_dense_layers_are_left():
    dense = network()
    layers = [{"path": p, "nodes": n} for p, n in (("conv", 8), ("fc1", 6), ("fc2", 3))]
    state = {"baseline": {"layers": layers}, "steps": [{"kept": False, "layer": "conv"}]}
    small = shrink(dense, keep={"conv": [0, 2, 3, 6, 7]})
    assert take(state, small) == {"conv": "0 2-3 6-7"}
    undone = shrink(small, keep={"conv": [0]})
    assert take(state, undone, kept=False) == {"conv": "0"}
    kernel, bias = small.get_layer("fc1").get_weights()
    kernel[:, [1, 5]] = bias[[1, 5]] = 0  # dead nodes
    small.get_layer("fc1").set_weights([kernel, bias])
    small = shrink(small, keep={"conv": [1, 4]})
    assert take(state, small) == {"conv": "2 7", "fc1": "0 2-4"}
    left = nodes_left.so_far(state)
    assert left == {"conv": [2, 7], "fc1": [0, 2, 3, 4]}
    old, new = (m.get_layer("conv").kernel.numpy() for m in (dense, small))
    np.testing.assert_array_equal(new, old[..., left["conv"]])


def test_a_layer_that_lost_nodes_unsaid_says_nothing():
    small = shrink(network(), keep={"conv": [0, 2, 3], "fc1": [1, 2]})
    layers = [{"path": "conv", "nodes": 9}, {"path": "fc1", "nodes": 6}]
    state = {"baseline": {"layers": layers}, "steps": [{"kept": True}]}  # of an older version
    assert take(state, small) == {"fc1": "1-2"}
