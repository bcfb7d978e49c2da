import keras
import numpy as np
import pytest

from scalpel_tf.zoo import networks


def kernels(model):
    """name -> shape of every kernel, biases and norms left out."""
    return {
        layer.name: tuple(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel")
    }


@pytest.mark.parametrize(
    "network, expected, biases",
    [
        (networks.lenet_300_100, {"fc1": (784, 300), "fc2": (300, 100), "fc3": (100, 10)}, 410),
        (
            networks.lenet_5,
            {
                "conv1": (5, 5, 1, 20),
                "conv2": (5, 5, 20, 50),
                "fc1": (800, 500),
                "fc2": (500, 10),
            },
            580,
        ),
        (
            networks.convnet,
            {
                "conv1": (5, 5, 3, 32),
                "conv2": (5, 5, 32, 32),
                "conv3": (5, 5, 32, 64),
                "fc1": (1024, 10),
            },
            10 + 4 * (32 + 32 + 64),
        ),
    ],
)
def test_kernels(network, expected, biases):
    model = network()
    assert kernels(model) == expected
    assert model.count_params() == sum(np.prod(s) for s in expected.values()) + biases


@pytest.mark.parametrize(
    "network, weights, macs",
    [
        (networks.lenet_300_100, 266_200, 266_200),
        (networks.lenet_5, 430_500, 2_293_000),
        (networks.convnet, 89_440, 12_298_240),
        (networks.nin, 965_568, 222_486_528),
        (networks.alexnet, 60_954_656, 724_406_816),
    ],
)
def test_weights_and_macs(network, weights, macs):
    model, counted = network(), 0
    for name, shape in kernels(model).items():
        positions = np.prod(model.get_layer(name).output.shape[1:-1], dtype=int)
        counted += positions * np.prod(shape)
    assert sum(np.prod(shape) for shape in kernels(model).values()) == weights
    assert counted == macs


@pytest.mark.parametrize(
    "network, nodes, classes",
    [
        (networks.nin, (117, 81, 62, 183, 123, 148, 91, 54), 10),
        (networks.alexnet, (6, 8, 12, 14, 10, 20, 30), 1000),
    ],
)
def test_widths_of_the_layers(network, nodes, classes):
    assert [shape[-1] for shape in kernels(network(nodes)).values()] == [*nodes, classes]


@pytest.mark.parametrize("network", [networks.lenet_300_100, networks.lenet_5, networks.convnet])
def test_functional_uncompiled_logits(network):
    model = network()
    assert isinstance(model, keras.Model) and not isinstance(model, keras.Sequential)
    assert not model.compiled
    assert model.layers[-1].activation is keras.activations.linear
    assert model.output_shape == (None, 10)


def test_convnet_normalises_directly_after_each_convolution():
    model = networks.convnet()
    names = [layer.name for layer in model.layers]
    for index in (1, 2, 3):
        assert names[names.index(f"conv{index}") + 1] == f"norm{index}"
        assert not model.get_layer(f"conv{index}").use_bias
