"""TensorBoardSummaries: event files, read back."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scalpel_tf.train.callbacks import Prune, TensorBoardSummaries, TrainMasks
from scalpel_tf.train.mask_layer import UNIT, find_masks
from scalpel_tf.train.masks import add_masks
from scalpel_tf.train.wrap import prune

X = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)


def network():
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    hidden = layers.Dense(4, activation="relu", name="hidden")(x)
    return keras.Model(x, layers.Dense(1, name="last")(hidden))


def fit(model, *callbacks, **settings):
    model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)
    model.fit(X, Y, batch_size=16, verbose=0, callbacks=callbacks, **{"epochs": 2, **settings})


def events(folder):
    """{tag: {step: tensor}} of the event files in a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                array = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, {})[event.step] = array
    return found


def test_groups(tmp_path):
    model = prune(network(), ratio=0.5, width=3, skip=["last"])
    fit(model, Prune(), TensorBoardSummaries(tmp_path))
    found = events(tmp_path / "pruning")
    assert set(found) == {"sparsity", "density/hidden", "mask/hidden"}
    assert found["sparsity"] == {0: 0.5, 1: 0.5} and found["density/hidden"] == {0: 0.5, 1: 0.5}
    assert list(found["mask/hidden"]) == [0]  # a mask that stays is drawn once
    width, height, png = found["mask/hidden"][0]
    assert (width, height) == (b"6", b"4")
    keep = model.get_layer("hidden").pruned[0].mask.numpy().T  # rows are outputs
    np.testing.assert_array_equal(tf.io.decode_png(png).numpy()[..., 0], np.where(keep, 0, 255))


def test_nodes(tmp_path):
    model = add_masks(network(), **UNIT, l1=0)
    mask = find_masks(model)[0]
    mask.beta.assign([0.0, 1.0, 1.0, 1.0])
    mask.alpha.assign([0.0, 1.0, 1.0, 1.0])
    summaries = TensorBoardSummaries(tmp_path)
    fit(model, TrainMasks(masks=[]), summaries)
    fit(model, TrainMasks(masks=[]), summaries, initial_epoch=2, epochs=3)
    found = events(tmp_path / "pruning")
    name = mask.name
    assert set(found) == {"nodes", "macs", f"density/{name}", f"beta/{name}"}
    assert found["nodes"] == {0: 3, 1: 3, 2: 3} and found["macs"] == {0: 21, 1: 21, 2: 21}
    assert found[f"density/{name}"][1] == 0.75
    assert found[f"beta/{name}"][1][:, 2].sum() == 4  # buckets: from, to, count


def test_a_model_without_masks_has_nothing_to_summarise(tmp_path):
    with pytest.raises(ValueError, match="neither PruneWrapper nor MaskLayer"):
        fit(network(), TensorBoardSummaries(tmp_path))
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(RuntimeError, match="pip install"):
        TensorBoardSummaries(tmp_path)
