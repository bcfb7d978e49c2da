"""How benchmarks/paper trains: augmentation, distillation and bfloat16."""

import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "benchmarks" / "paper")]

import bfloat16  # noqa: E402
import small_networks  # noqa: E402

NODES = {"conv1": 5, "conv2": 18, "conv3": 7}
RECIPE = {"epochs": 5, "rate": 0.02, "l2": 1e-4}


def convnet():
    keras.utils.set_random_seed(1)
    return small_networks.build("convnet", NODES)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 32, 32, 3)).astype(np.float32)
    return SimpleNamespace(x_train=x, y_train=random.integers(0, 10, 100).astype(np.int32))


@pytest.mark.parametrize("network, nodes", [("convnet", NODES), ("lenet_5", {"conv2": 7})])
def test_nodes_that_are_zero_change_nothing(network, nodes):
    model = small_networks.build(network, nodes)
    model.set_weights([np.random.default_rng(0).random(w.shape) for w in model.weights])
    wide = small_networks.build(network, bfloat16.filled(small_networks.widths(model)))
    assert all(nodes % 16 == 0 for nodes in small_networks.widths(wide).values())
    bfloat16.copy(model, wide)
    images = np.random.default_rng(1).random((4, *model.input_shape[1:]))
    np.testing.assert_allclose(wide(images), model(images), rtol=1e-5)

    back = small_networks.build(network, nodes)
    bfloat16.copy(wide, back)
    for own, other in zip(model.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_bfloat16_trains_what_float32_trains(data, tmp_path):
    start, trained = convnet(), {}
    for kind in (False, True):
        model = convnet()
        recipe = RECIPE | {"bfloat16": kind}
        small_networks.fit(model, data, recipe, backup=tmp_path / str(kind))  # one batch
        assert {layer.compute_dtype for layer in model.layers} == {"float32"}
        trained[kind] = model.get_weights()
    for first, exact, fast in zip(start.weights, trained[False], trained[True], strict=True):
        way = np.linalg.norm(exact - first)
        assert 0 < np.linalg.norm(fast - exact) < 0.1 * way


@pytest.mark.parametrize("kind", [False, True])
def test_zeros_stay_through_the_cycles(kind, data, tmp_path):
    model = convnet()
    kernel = model.get_layer("conv2").kernel
    dropped = np.random.default_rng(0).random(kernel.shape) < 0.5
    kernel.assign(np.where(dropped, 0, kernel))
    cycles = [{"count": n, "epochs": 2, "rate": 0.01} for n in (2, 1)]
    recipe = RECIPE | {"bfloat16": kind, "cycles": cycles}
    found = small_networks.average(model, data, recipe, seed=0, backup=tmp_path)
    found = found.get_layer("conv2").kernel.numpy()
    assert (found[dropped] == 0).all() and (found[~dropped] != 0).all()


def test_what_watches_the_layers_trains_in_bfloat16_too(data, tmp_path):
    model, seen = convnet(), []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append([layer.compute_dtype for layer in model.layers])

    small_networks.fit(model, data, RECIPE | {"bfloat16": True}, Watch(), backup=tmp_path / "b")
    assert seen == [["bfloat16"] * (len(model.layers) - 1) + ["float32"]] * RECIPE["epochs"]


@pytest.mark.parametrize("shift, flip, kinds", [(1, True, 18), (2, False, 25), (0, True, 2)])
def test_images_are_shifted_and_mirrored(shift, flip, kinds):
    keras.utils.set_random_seed(3)
    image = np.random.default_rng(0).random((6, 5, 2)).astype(np.float32)
    images = np.repeat(image[None], 500, 0)
    found = np.array(small_networks.Jitter(shift, flip)(images, training=True))

    padded = [
        np.pad(view, ((shift,) * 2, (shift,) * 2, (0, 0))) for view in (image, image[:, ::-1])
    ]
    places = range(2 * shift + 1)
    possible = {
        view[y : y + 6, x : x + 5].tobytes()
        for view in padded[: 1 + flip]
        for y in places
        for x in places
    }
    assert {each.tobytes() for each in found} == possible and len(possible) == kinds
    np.testing.assert_array_equal(small_networks.Jitter(shift, flip)(images), images)


def test_teachers_answer_with_the_mean_of_their_logits(data):
    teachers = [small_networks.build("convnet", NODES) for _ in range(2)]
    images = data.x_train[:3]
    logits = [teacher.predict(images, verbose=0) for teacher in teachers]
    plain = small_networks.answers(teachers, images, {})
    np.testing.assert_allclose(plain, (logits[0] + logits[1]) / 2, rtol=1e-4, atol=1e-6)
    mirrored = small_networks.answers(teachers, images, {"flip": True})
    other = small_networks.answers(teachers, images[:, :, ::-1], {"flip": True})
    np.testing.assert_allclose(mirrored, other, rtol=1e-4, atol=1e-6)
    assert np.abs(mirrored - plain).max() > 1e-3
