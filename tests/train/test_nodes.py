import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.train.latency import modelled_seconds
from scalpel_tf.train.nodes import BLOCK, prune_nodes

X = np.array([[1.0, 0], [0, 1], [1, 1], [-1, 2]], np.float32)


def judged():
    """Four nodes A to D; each criterion thinks least of another one.

    L1 of the weights 3, 2.8, 4, 8; L2 2.1, 2.8, 3.2, 5.7; scales 1, 1, 0.1, 1. D is 0 for the
    first example and else large. The output takes A by 0.001 and the others by 1.
    """
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(4, name="hidden"),
            layers.BatchNormalization(name="norm", epsilon=0),
            layers.ReLU(name="relu"),
            layers.Dense(1, name="out"),
        ],
        name="judged",
    )
    hidden, norm, _, out = model.layers
    hidden.set_weights([np.array([[1.5, 2.8, 3, -4], [1.5, 0, 1, 4]]), np.array([2.0, 3, 1, 0])])
    norm.gamma.assign([1.0, 1, 0.1, 1])
    out.set_weights([np.array([[0.001], [1], [1], [1]]), np.zeros(1)])
    return model


def survivors(small):
    """The letters of the nodes that are left, told by the first row of the kernel."""
    letters = {1.5: "A", 2.8: "B", 3.0: "C", -4.0: "D"}
    kernel = small.get_layer("hidden").kernel.numpy()
    return "".join(letters[round(float(w), 1)] for w in kernel[0])


def own_score(layer, w):
    assert (layer.name, w.shape) == ("hidden", (4, 1, 2)) or layer.name == "out"
    return w[:, 0, 0]  # D has -4


@pytest.mark.parametrize(
    "criterion, expected",
    [
        ("l1", "ACD"),
        ("l2", "BCD"),
        ("bn_scale", "ABD"),
        ("apoz", "ABC"),
        ("taylor", "BCD"),
        (own_score, "ABC"),
    ],
)
def test_criteria(criterion, expected):
    model = judged()
    before = model.get_weights()
    data = (X, np.ones((4, 1)))
    small = prune_nodes(model, criterion, ratio=0.25, data=data, loss=lambda y, y_pred: y * y_pred)
    assert survivors(small) == expected
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_random_follows_its_seed():
    found = [survivors(prune_nodes(judged(), "random", ratio=0.5, seed=s)) for s in range(8)]
    assert found[3] == survivors(prune_nodes(judged(), "random", ratio=0.5, seed=3))
    assert len(set(found)) > 2 and all(len(letters) == 2 for letters in found)


def test_taylor_takes_the_compiled_loss():
    """At y = y_pred the cost does not change; only the example with another target counts."""
    model = judged()
    model.compile(loss="mse")
    small = prune_nodes(model, "taylor", ratio=0.25, data=(X, model(X) + 1.0))
    assert survivors(small) == "BCD"


def chain(*widths, inputs=4, seed=0):
    """Dense layers fc1, fc2...; the last is the output."""
    keras.utils.set_random_seed(seed)
    stack = [layers.Dense(n, "relu", name=f"fc{i}") for i, n in enumerate(widths, 1)]
    return keras.Sequential([keras.Input((inputs,)), *stack], name="chain")


def widths(model):
    return [layer.units for layer in model.layers if isinstance(layer, layers.Dense)]


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"ratio": 0.5}, [5, 4, 3]),
        ({"ratio": 0.29}, [8, 5, 3]),  # floor(2.9) and floor(2.03)
        ({"ratio": {"fc1": 0.5}}, [5, 7, 3]),
        ({"ratio": {"fc2": 0.5, "fc.": 0.2}}, [8, 4, 3]),
        ({"ratio": 0.9, "min_nodes": 3}, [3, 3, 3]),
        ({"ratio": 0.5, "round_to": 4}, [8, 4, 3]),
        ({"ratio": 0.5, "layers": "fc2"}, [10, 4, 3]),
        ({"ratio": 0.5, "skip": lambda layer: layer.name == "fc2"}, [5, 7, 3]),
        ({"ratio": 0.8, "steps": 3}, [2, 2, 3]),
        ({"ratio": 0}, [10, 7, 3]),
    ],
)
def test_ratios(settings, expected):
    assert widths(prune_nodes(chain(10, 7, 3), **settings)) == expected


def scaled(factor):
    """fc1 has inputs of another size than fc2: its raw L1 norms are `factor` as large."""
    model = chain(10, 10, 3, inputs=10)
    rng = np.random.default_rng(1)
    for layer, times in zip(model.layers[:2], (factor, 1), strict=True):
        layer.kernel.assign(times * rng.uniform(0.5, 1.5, (1, 10)) * np.ones((10, 1)))
    return model


def test_global_scope_compares_what_layers_have_in_common():
    """Raw norms would empty fc2 where those of fc1 are 100 times as large."""
    one, other = (widths(prune_nodes(scaled(f), ratio=0.5, scope="global")) for f in (1, 100))
    assert one == other and sum(one) == 10 + 3 and min(one) > 1


def test_global_scope_leaves_every_layer_a_node():
    model = chain(10, 10, 3)
    model.layers[0].kernel.assign(np.full((4, 10), 1e-3))
    small = prune_nodes(model, lambda layer, w: np.abs(w).sum((1, 2)), ratio=0.9, scope="global")
    assert widths(small)[2] == 3 and sum(widths(small)[:2]) == 2


def blocks():
    """Two nested blocks of two layers, and conv2_block1 by its names."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((4,))
    for name in ("left", "right"):
        inner = keras.Sequential(
            [keras.Input((4,)), layers.Dense(6, name="a"), layers.Dense(4, name="b")], name=name
        )
        x = inner(x)
    x = layers.Dense(6, name="conv2_block1_1_conv")(x)
    x = layers.Dense(6, name="conv2_block1_2_conv")(x)
    x = layers.Dense(6, name="conv2_block10_1_conv")(x)
    return keras.Model(image, layers.Dense(2, name="out")(x))


def test_a_block_is_a_nested_model_or_a_name():
    """Over their mean, the scores of half of the layers are 0, 0.4, 0.8, ..., of others about 1."""

    def worth(layer, w):
        return np.arange(len(w)) + (0 if layer.name in ("a", "conv2_block1_1_conv") else 1e6)

    small = prune_nodes(blocks(), worth, ratio=0.4, scope="block")
    assert {cut.path: cut.nodes for cut in small.report.layers} == {
        "left/a": (6, 3),  # 4 of 10
        "left/b": (4, 3),
        "right/a": (6, 3),
        "right/b": (4, 3),
        "conv2_block1_1_conv": (6, 3),  # 4 of 12
        "conv2_block1_2_conv": (6, 5),
        "conv2_block10_1_conv": (6, 4),  # 2 of 6
        "out": (2, 2),
    }


@pytest.mark.parametrize(
    "name, block",
    [
        ("conv2_block10_1_conv", "conv2_block10"),  # ResNet, DenseNet
        ("block_1_expand", "block_1"),  # MobileNetV2
        ("block2b_se_reduce", "block2b"),  # EfficientNet
        ("block1_conv1", "block1"),  # VGG
        ("block1conv", "block1"),
    ],
)
def test_names_of_blocks(name, block):
    assert BLOCK.match(name).group() == block


def residual():
    """Two convolutions that an addition ties; the first alone would lose node 0, the second 2."""
    image = keras.Input((4, 4, 2))
    first = layers.Conv2D(3, 1, name="first", use_bias=False)
    second = layers.Conv2D(3, 1, name="second", use_bias=False)
    x = first(image)
    x = layers.ReLU()(layers.Add()([x, second(image)]))
    model = keras.Model(image, layers.Dense(2, name="out")(layers.GlobalMaxPooling2D()(x)))
    first.kernel.assign(np.array([1.0, 3, 5]).reshape(1, 1, 1, 3) * np.ones((1, 1, 2, 1)))
    second.kernel.assign(np.array([600.0, 100, 20]).reshape(1, 1, 1, 3) * np.ones((1, 1, 2, 1)))
    return model


def test_tied_layers_lose_the_same_nodes():
    """By their means 1/3, 1, 5/3 and 2.5, 0.42, 0.08: node 1 has the lowest sum, 1.42."""
    small = prune_nodes(residual(), ratio=0.34)
    for name, left in (("first", [1, 5]), ("second", [600, 20])):
        np.testing.assert_array_equal(small.get_layer(name).kernel[0, 0, 0], left)


def test_depthwise_layers_have_a_say():
    image = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, name="conv", use_bias=False)(image)
    x = layers.DepthwiseConv2D(1, name="deep", use_bias=False)(x)
    x = layers.GlobalMaxPooling2D()(layers.ReLU()(x))
    model = keras.Model(image, layers.Dense(2)(x))
    model.get_layer("conv").kernel.assign(np.ones((1, 1, 2, 3)))
    model.get_layer("deep").kernel.assign(np.array([5.0, 1, 7]).reshape(1, 1, 3, 1))
    small = prune_nodes(model, ratio=0.34)
    np.testing.assert_array_equal(small.get_layer("deep").kernel[0, 0, :, 0], [5, 7])


def spent(budget, first, second):
    """MACs or parameters of chain(first, second, 3)."""
    macs = 4 * first + first * second + second * 3
    return macs if budget == "macs" else macs + first + second + 3


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("left", [0.5, 0.21, 90])
@pytest.mark.parametrize("budget", ["macs", "params"])
def test_budgets_are_met_as_closely_as_one_node_allows(budget, left, scope):
    small = prune_nodes(chain(13, 11, 3), **{budget: left}, scope=scope)
    first, second, _ = widths(small)
    limit = left if left > 1 else left * spent(budget, 13, 11)
    report = small.report.macs if budget == "macs" else small.report.parameters
    assert report == (spent(budget, 13, 11), spent(budget, first, second))
    assert spent(budget, first, second) <= limit
    assert max(spent(budget, first + 1, second), spent(budget, first, second + 1)) > limit


@pytest.mark.parametrize("left", [1, 1.0, 10_000])
def test_a_budget_that_is_met_cuts_nothing(left):
    assert widths(prune_nodes(chain(13, 11, 3), macs=left)) == [13, 11, 3]


def test_biases_that_stand_for_nodes_count_as_parameters():
    """What a norm makes of a node that is cut, its offset, goes into a bias that was not there."""
    x = image = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 1, use_bias=False, name="first")(x)
    ways = [
        layers.Conv2D(16, 1, use_bias=False)(layers.BatchNormalization(beta_initializer="ones")(x))
        for _ in range(2)
    ]
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()(ways))
    model = keras.Model(image, layers.Dense(2, name="out")(x))
    small = prune_nodes(model, params=0.7, layers="first")
    before, after = small.report.parameters
    assert (before, after) == (model.count_params(), small.count_params())
    assert small.get_layer("first").filters < 8
    assert after <= 0.7 * before


def test_layers_lose_in_proportion_within_a_budget():
    first, second, _ = widths(prune_nodes(chain(40, 20, 3), macs=0.3))
    assert abs(first / 40 - second / 20) <= 1 / 20


def test_a_budget_in_steps_and_multiples():
    seen = []
    small = prune_nodes(
        chain(32, 16, 3), macs=0.4, steps=3, round_to=4, finetune=lambda m: seen.append(widths(m))
    )
    assert len(seen) == 2
    macs = [spent("macs", *w[:2]) for w in [(32, 16), *seen, widths(small)]]
    assert all(m <= left * macs[0] for m, left in zip(macs[1:], (0.8, 0.6, 0.4), strict=True))
    assert all(m > (left - 0.15) * macs[0] for m, left in zip(macs[1:], (0.8, 0.6), strict=False))
    assert all(n % 4 == 0 for w in [*seen, widths(small)] for n in w[:2])
    assert small.report.macs == (macs[0], macs[-1])
    assert [cut.nodes for cut in small.report.layers][0] == (32, widths(small)[0])


def test_the_report_of_steps_has_the_nodes_of_the_first_model_that_are_left():
    model = chain(32, 16, 3)
    small = prune_nodes(model, "random", ratio=0.75, steps=3, seed=1)
    left = [range(4), *small.report.kept.values(), range(3)]
    assert [len(kept) for kept in left] == [4, 8, 4, 3]
    for path, inputs, kept in zip(("fc1", "fc2", "fc3"), left[:-1], left[1:], strict=True):
        kernel = model.get_layer(path).kernel.numpy()[np.ix_(inputs, kept)]
        np.testing.assert_array_equal(small.get_layer(path).kernel.numpy(), kernel)


def test_steps_score_what_finetune_made():
    """After the first cut of 2 the best nodes become the worst."""
    model = chain(6, 2, inputs=1)
    model.layers[0].kernel.assign(np.array([[1.0, 2, 3, 4, 5, 6]]))

    def finetune(small):
        np.testing.assert_array_equal(small.layers[0].kernel, [[3, 4, 5, 6]])
        small.layers[0].kernel.assign(np.array([[6.0, 5, 4, 3]]))

    small = prune_nodes(model, ratio=2 / 3, steps=2, finetune=finetune)
    np.testing.assert_array_equal(small.layers[0].kernel, [[6, 5]])


def test_latency_by_a_function():
    """Seconds that are the number of weights: as close as for `params`."""
    timed = prune_nodes(chain(13, 11, 3), latency=0.5, measure=lambda m: m.count_params())
    assert widths(timed) == widths(prune_nodes(chain(13, 11, 3), params=0.5))


def test_latency_by_a_model_of_a_cpu():
    model = chain(400, 300, 3, inputs=500)
    small = prune_nodes(model, latency=0.6, measure="x86-64-avx2")
    seconds = [modelled_seconds(m, "x86-64-avx2") for m in (model, small)]
    assert 0.59 < seconds[1] / seconds[0] <= 0.6


def test_layers_of_one_name_are_told_apart_by_their_paths():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="fc")], name="inner")
    image = keras.Input((3,))
    x = inner(layers.Dense(8, "relu", name="fc")(image))
    small = prune_nodes(keras.Model(image, layers.Dense(2, name="out")(x)), ratio=0.25)
    assert [cut.nodes for cut in small.report.layers] == [(8, 6), (4, 3), (2, 2)]


def test_data_that_can_be_read_once_serves_all_steps():
    small = prune_nodes(judged(), "apoz", ratio=0.5, steps=2, data=iter([X[:2], X[2:]]))
    assert survivors(small) == survivors(prune_nodes(judged(), "apoz", ratio=0.5, data=X))


def test_layers_without_a_scale_are_left_whole_by_bn_scale():
    x = image = keras.Input((3,))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(4, name="normal")(x)))
    x = layers.Dense(4, "relu", name="bare")(x)
    small = prune_nodes(
        keras.Model(image, layers.Dense(2, name="out")(x)), "bn_scale", ratio=0.5, scope="global"
    )
    assert {cut.path: cut.nodes[1] for cut in small.report.layers if cut.nodes[1]} == {
        "normal": 2,
        "bare": 4,
        "out": 2,
    }
    whole = dict(small.report.whole)
    assert whole["bare"] == "it has no batch normalisation with a scale"
    assert whole["out"] == "it is an output of the model"


def test_reasons_of_the_report():
    small = prune_nodes(chain(8, 8, 8, 3), ratio={"fc1": 0.5, "fc2": 0.1}, skip="fc3")
    assert dict(small.report.whole) == {
        "fc2": "its nodes are worth more than others",
        "fc3": "`skip` selects it",
        "fc4": "it is an output of the model",
    }


def no_loss():
    return prune_nodes(judged(), "taylor", ratio=0.5, data=(X, X))


def not_finite():
    model = judged()
    model.layers[0].kernel.assign(np.full((2, 4), np.nan))
    return prune_nodes(model, ratio=0.5)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m: prune_nodes(m), "one budget of ratio, macs, params, latency; got none"),
        (lambda m: prune_nodes(m, ratio=0.5, macs=0.5), "got ratio and macs"),
        (lambda m: prune_nodes(m, ratio=1), r"in \[0, 1\); got 1"),
        (lambda m: prune_nodes(m, ratio={"fc1": 1.5}), "got 1.5 for 'fc1'"),
        (lambda m: prune_nodes(m, ratio={"cf1": 0.5}), "'cf1', which selects no layer"),
        (
            lambda m: prune_nodes(m, ratio={"fc1": 0.5, "fc3": 0.5}),
            "'fc3', which loses no nodes .fc3: it is an output",
        ),
        (lambda m: prune_nodes(m, ratio={"fc1": 0.5}, scope="global"), "by layer"),
        (lambda m: prune_nodes(m, ratio=0.05), "cuts no node of 'chain'.*fc1 8, fc2 8"),
        (lambda m: prune_nodes(m, ratio=0.5, min_nodes=8), "min_nodes 8"),
        (lambda m: prune_nodes(m, macs=0), "from above 0 on; got 0"),
        (lambda m: prune_nodes(m, macs="half"), "got 'half'"),
        (lambda m: prune_nodes(m, macs=0.01), r"`macs` cannot be 0.01 .* it is 0\.06667"),
        (lambda m: prune_nodes(m, latency=0.5), "`measure` go together"),
        (lambda m: prune_nodes(m, ratio=0.5, measure=len), "`measure` go together"),
        (lambda m: prune_nodes(m, latency=2, measure=len), "give budget / measure"),
        (lambda m: prune_nodes(m, latency=0.5, measure="cortex-m4"), "CPU cost model"),
        (lambda m: prune_nodes(m, "l3", ratio=0.5), "`criterion` is one of l1, l2,.*got 'l3'"),
        (lambda m: prune_nodes(m, "apoz", ratio=0.5), "'apoz' is measured on data"),
        (lambda m: prune_nodes(m, "taylor", ratio=0.5), "'taylor' is measured on data"),
        (lambda m: no_loss(), "not compiled with a loss"),
        (lambda m: prune_nodes(m, "bn_scale", ratio=0.5), "No layer of 'chain' may lose nodes"),
        (lambda m: prune_nodes(m, lambda layer, w: w, ratio=0.5), r"8 finite numbers for 'fc1'"),
        (lambda m: not_finite(), "with 4 that are not finite"),
        (lambda m: prune_nodes(m, ratio=0.5, scope="net"), "`scope` is one of"),
        (lambda m: prune_nodes(m, ratio=0.5, steps=0), "`steps` is a whole number"),
        (lambda m: prune_nodes(m, ratio=0.5, round_to=2.0), "`round_to` is a whole number"),
        (lambda m: prune_nodes(m, ratio=0.5, finetune=print), "1 step has no between"),
        (lambda m: prune_nodes(m, ratio=0.5, skip=["fc1", "fc2"]), "no nodes that can be cut"),
        (lambda m: prune_nodes(m.layers[0], ratio=0.5), "takes a Keras model"),
    ],
)
def test_errors(call, words):
    with pytest.raises(ValueError, match=words):
        call(chain(8, 8, 3))
