"""Trains MLPerf Tiny's networks with normalisation, and prunes them while they train on.

A stored run is an .npz file: "<layer>.<weight>" are the arrays, and "about" is JSON on how they
were made. Training networks end in logits; stored and loaded ones in probabilities.
"""

import math
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

sys.path.append(str(Path(__file__).parents[1] / "paper"))

from small_networks import Distillation, shuffled  # noqa: E402

BATCH, MOMENTUM = 128, 0.9


class Perturb(keras.layers.Layer):
    """Training features, (n, frames, coefficients, 1), up to `shift` frames sooner or later, the
    frames that come in mirrored ones, in normal noise of the deviation `noise`."""

    def __init__(self, shift, noise, **kwargs):
        super().__init__(**kwargs)
        self.shift, self.noise = shift, noise
        self.seeds = keras.random.SeedGenerator()

    def call(self, features, training=None):
        if not training:
            return features
        count, frames, *_ = shape = ops.shape(features)
        margin = (self.shift, self.shift)
        padded = ops.pad(features, ((0, 0), margin, (0, 0), (0, 0)), mode="symmetric")
        first = keras.random.randint((count, 1), 0, 2 * self.shift + 1, seed=self.seeds)
        features = tf.gather(padded, first + ops.arange(frames), axis=1, batch_dims=1)
        return features + self.noise * keras.random.normal(shape, seed=self.seeds)


def to_logits(model):
    """The network without its softmax, computing in the dtype policy of now but for the logits."""

    def layer_of(layer):
        config = layer.get_config()
        config["dtype"] = keras.config.dtype_policy().name
        if config.get("activation") == "softmax":
            config |= {"activation": "linear", "dtype": "float32"}
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=layer_of)
    copy.set_weights(model.get_weights())
    return copy


def fit(model, data, recipe, *callbacks, augment, teacher=None, backup):
    """Trains `model`, which answers with logits, at a rate that climbs and then follows a cosine.

    augment: a layer that the training inputs pass, of the model and of the teacher alike (Beyer et
        al., Knowledge Distillation: A Good Teacher Is Patient and Consistent, CVPR 2022, 3.1).
    backup: a folder; a run that was killed goes on from its last whole epoch.
    """
    steps = math.ceil(len(data.x_train) / BATCH)
    inputs = keras.Input(model.input_shape[1:])
    seen = augment(inputs)
    outputs = model(seen)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if teacher is not None:
        teacher.name, teacher.trainable = "teacher", False
        outputs = ops.concatenate([outputs, teacher(seen)], axis=-1)
        loss = Distillation(**recipe["distillation"])
    trainee = keras.Model(inputs, outputs)
    warm = recipe["warm"] * steps
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, recipe["epochs"] * steps - warm, warmup_target=recipe["rate"], warmup_steps=warm
    )
    trainee.compile(
        keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True),
        loss,
        steps_per_execution=max(n for n in range(1, 17) if steps % n == 0),
    )
    trainee.fit(
        shuffled(data.x_train, data.y_train[:, None].astype(np.float32)),
        shuffle=False,  # again
        epochs=recipe["epochs"],
        callbacks=[*callbacks, keras.callbacks.BackupAndRestore(str(backup))],
        verbose=2,
    )
