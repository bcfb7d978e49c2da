import numpy as np
import pytest

from scalpel_tf.core import node_scores
from scalpel_tf.core.layout import to_matrix

W = np.array([[[3.0, 0.0], [0.0, -4.0]], [[1.0, -1.0], [1.0, 1.0]]])  # (out 2, taps 2, in 2)


@pytest.mark.parametrize(
    "score, expected",
    [
        (node_scores.l1(W), [7, 4]),
        (node_scores.l2(W), [5, 2]),
        (node_scores.scale([-3, 0, 2]), [3, 0, 2]),
        (node_scores.alive([8, 2, 0], 8), [0, 0.75, 1]),
        (node_scores.taylor([6, 0], 4), [1.5, 0]),
        (node_scores.by_mean(np.array([1.0, 2, 6])), [1 / 3, 2 / 3, 2]),
        (node_scores.by_mean(np.zeros(2)), [0, 0]),
        (node_scores.by_l2(np.array([3.0, 4])), [0.6, 0.8]),
        (node_scores.by_l2(np.zeros(2)), [0, 0]),
        (node_scores.as_is(np.array([3.0, 4])), [3, 4]),
    ],
)
def test_scores(score, expected):
    np.testing.assert_allclose(score, expected, rtol=1e-15)


def test_a_node_is_the_output_of_a_kernel():
    kernel = np.arange(12.0).reshape(3, 1, 2, 2)  # (height, width, in, out)
    np.testing.assert_array_equal(
        node_scores.l1(to_matrix(kernel, "conv")), [0 + 2 + 4 + 6 + 8 + 10, 1 + 3 + 5 + 7 + 9 + 11]
    )


@pytest.mark.parametrize("score", [node_scores.l1, node_scores.l2])
def test_half_precision_does_not_overflow(score):
    w = np.full((1, 2, 2), 60000, np.float16)
    assert np.isfinite(score(w)).all()


def test_tied_is_the_mean_over_what_speaks_of_a_node():
    parts = [
        (np.array([0, 1, 2]), np.array([1.0, 2, 3])),
        (np.array([2, 0]), np.array([5.0, 7])),  # a layer of two of the nodes, in another order
    ]
    np.testing.assert_array_equal(node_scores.tied(4, parts), [4, 2, 4, np.nan])


def test_tied_counts_a_node_that_one_layer_holds_twice():
    part = (np.array([0, 0, 1]), np.array([1.0, 5, 2]))
    np.testing.assert_array_equal(node_scores.tied(2, [part]), [3, 2])


SCORES = [np.array([3.0, 1, 2, 9]), np.array([4.0, 0.5])]
LAYERS = [[np.arange(4)], [np.arange(2)]]


def order(names, min_nodes=1, scores=SCORES, layers=LAYERS, pools=None):
    if pools is None:
        sizes = {name: 0 for name in names}
        for name, score in zip(names, scores, strict=True):
            sizes[name] += len(score)
        pools = {name: node_scores.Pool(size) for name, size in sizes.items()}
    return node_scores.order(scores, layers, list(names), pools, min_nodes)


def nodes(cuts):
    return [(cut.group, cut.node) for cut in cuts]


@pytest.mark.parametrize(
    "names, min_nodes, expected",
    [
        # one pool: by score alone; the best of each layer stays
        ("aa", 1, [(1, 1), (0, 1), (0, 2), (0, 0)]),
        ("aa", 2, [(0, 1), (0, 2)]),
        ("aa", 5, []),
        # two pools: at 1/4, 1/2, 1/2, 3/4 of their own
        ("ab", 1, [(0, 1), (0, 2), (1, 1), (0, 0)]),
        ("ab", 0, [(0, 1), (0, 2), (1, 1), (0, 0), (0, 3), (1, 0)]),
    ],
)
def test_order(names, min_nodes, expected):
    assert nodes(order(names, min_nodes)) == expected


def test_order_says_from_which_ratio_on_a_node_goes():
    assert [cut.ratio for cut in order("ab")] == [0.25, 0.5, 0.5, 0.75]


def test_ratios_count_what_is_gone():
    """Of 8 and 2 nodes, half of the first pool went before."""
    cuts = order("ab", pools={"a": node_scores.Pool(8, 4), "b": node_scores.Pool(2)})
    assert [(cut.ratio, cut.group) for cut in cuts] == [
        (0.5, 1),
        (5 / 8, 0),
        (6 / 8, 0),
        (7 / 8, 0),
    ]


def test_each_layer_of_a_group_keeps_its_best():
    """A group of four nodes, of which a tied layer has all and two more have two each."""
    layers = [[np.arange(4), np.array([0, 1]), np.array([2, 3])]]
    cuts = order("a", scores=[np.array([1.0, 2, 9, 8])], layers=layers)
    assert nodes(cuts) == [(0, 0), (0, 3)]


def test_of_equal_scores_the_earlier_node_goes_first():
    cuts = order("aa", scores=[np.ones(3), np.ones(2)], layers=[[np.arange(3)], [np.arange(2)]])
    assert nodes(cuts) == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize(
    "cut, layer, others, round_to, expected",
    [
        ([1, 1, 1, 0], [0, 1, 2, 3], 0, 1, [1, 1, 1, 0]),
        ([1, 1, 1, 0], [0, 1, 2, 3], 0, 2, [1, 1, 0, 0]),  # node 2 has the best score of the cut
        ([1, 1, 1, 0], [0, 1, 2, 3], 1, 2, [1, 1, 1, 0]),
        ([1, 1, 1, 0], [0, 1, 2, 3], 0, 8, [0, 0, 0, 0]),
        ([1, 0, 0, 0], [0, 1, 2, 3], 0, 3, [1, 0, 0, 0]),
        ([1, 1, 1, 0], [0, 1, 3], 0, 3, [0, 0, 1, 0]),  # node 2 is none of the layer's
    ],
)
def test_give_back(cut, layer, others, round_to, expected):
    score = np.array([1.0, 2, 7, 5])
    back = node_scores.give_back(np.array(cut, bool), score, np.array(layer), others, round_to)
    np.testing.assert_array_equal(back, np.array(expected, bool))
