"""Trains, stores and rebuilds the narrow kin of the zoo's networks: chains of layers with kernels.

A stored run is an .npz file: "<layer>.<weight>" are the arrays, whose shapes tell the widths, and
"about" is JSON on how they were made.
"""

import itertools
import json
import math
import platform
import shutil
from datetime import datetime, timezone
from importlib.metadata import version

import bfloat16
import keras
import numpy as np
import tensorflow as tf
from keras import ops

import scalpel_tf as sc

BATCH, MOMENTUM = 128, 0.9


class Jitter(keras.layers.Layer):
    """Training images shifted by up to `shift` pixels each way; half are mirrored if `flip`."""

    def __init__(self, shift, flip, **kwargs):
        super().__init__(**kwargs)
        self.shift, self.flip = shift, flip
        self.seeds = keras.random.SeedGenerator()

    def call(self, images, training=None):
        if not training or not (self.shift or self.flip):
            return images
        count, high, wide, channels = ops.shape(images)
        margin, last = self.shift, wide - 1 + 2 * self.shift
        mirrored = False
        if self.flip:
            mirrored = keras.random.uniform((count, 1), seed=self.seeds) < 0.5
        rows, cols = (self._pixels(count, size) for size in (high, wide))
        cols = ops.where(mirrored, last - cols, cols)
        images = ops.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        images = ops.reshape(images, (count, -1, channels))
        pixels = ops.reshape(rows[:, :, None] * (last + 1) + cols[:, None], (count, -1))
        images = tf.gather(images, pixels, axis=1, batch_dims=1)
        return ops.reshape(images, (count, high, wide, channels))

    def _pixels(self, count, size):
        """(count, size) places in the padded images, along one axis."""
        first = ops.zeros((count, 1), "int32")
        if self.shift:
            first = keras.random.randint((count, 1), 0, 2 * self.shift + 1, seed=self.seeds)
        return first + ops.arange(size)


class Distillation(keras.losses.Loss):
    """(1 - share) of the cross entropy plus `share` of that with the teachers' softened answer.

    The teachers' logits lie behind the labels, (n, 1 + classes), or behind the network's own
    logits, (n, 2 classes) (Hinton et al., 2015, with the factor temperature^2).
    """

    def __init__(self, share, temperature):
        super().__init__()
        self.share, self.temperature = share, temperature

    def call(self, targets, logits):
        answers = targets[:, 1:]
        if not answers.shape[1]:
            logits, answers = ops.split(logits, 2, axis=1)
        hard = ops.sparse_categorical_crossentropy(targets[:, 0], logits, from_logits=True)
        soft = ops.categorical_crossentropy(
            ops.softmax(answers / self.temperature),
            logits / self.temperature,
            from_logits=True,
        )
        return (1 - self.share) * hard + self.share * self.temperature**2 * soft


def fit(model, data, recipe, *callbacks, teachers=(), backup):
    """Trains at recipe["rate"] for recipe["flat"] epochs, then along half a cosine to 0.

    recipe["constant"]: the rate stays.  recipe["bfloat16"]: see bfloat16.py.
    backup: a folder; a run that was killed goes on from its last whole epoch.
    teachers: the networks whose mean answers recipe["distillation"] mixes in; they see each image
        once, as it is, and mirrored where recipe has "flip".
    """
    if recipe.get("bfloat16"):
        settings = {"teachers": teachers, "backup": backup}
        if callbacks:  # they know the layers of `model`
            with bfloat16.computing(model):
                return fit(model, data, recipe | {"bfloat16": False}, *callbacks, **settings)
        wide = build(model.name, bfloat16.filled(widths(model)))
        bfloat16.copy(model, wide)
        if any(layer.kernel.constraint for layer in chain(model)):
            keep_zeros(wide)
        with bfloat16.computing(wide):
            fit(wide, data, recipe | {"bfloat16": False}, **settings)
        return bfloat16.copy(wide, model)
    steps = math.ceil(len(data.x_train) / BATCH)
    for layer in chain(model):
        layer.kernel.regularizer = keras.regularizers.L2(recipe["l2"])
    images = keras.Input(model.input_shape[1:])
    seen = Jitter(recipe.get("shift", 0), recipe.get("flip", False))(images)
    logits = model(keras.layers.Dropout(recipe.get("input_dropout", 0.0))(seen))
    loss, targets = keras.losses.SparseCategoricalCrossentropy(from_logits=True), data.y_train
    if teachers and "distillation" in recipe:
        loss = Distillation(**recipe["distillation"])
        targets = np.column_stack([targets, answers(teachers, data.x_train, recipe)])
    trainee = keras.Model(images, logits)
    trainee.compile(
        keras.optimizers.SGD(recipe["rate"], momentum=MOMENTUM, nesterov=True),
        loss,
        steps_per_execution=max(n for n in range(1, 17) if steps % n == 0),
    )
    if not recipe.get("constant"):
        flat = recipe.get("flat", 0)
        cosine = keras.optimizers.schedules.CosineDecay(recipe["rate"], recipe["epochs"] - flat)
        rates = keras.callbacks.LearningRateScheduler(lambda e: float(cosine(max(0, e - flat))))
        callbacks = [*callbacks, rates]
    trainee.fit(
        shuffled(data.x_train, targets.astype(np.float32)),
        shuffle=False,  # again
        epochs=recipe["epochs"],
        callbacks=[*callbacks, keras.callbacks.BackupAndRestore(str(backup))],
        verbose=2,
    )


def shuffled(*arrays):
    """Batches of the arrays, every epoch in another order.

    Without tf.data's autotuning: in TensorFlow 2.21 its thread can miss that it was cancelled, and
    the end of an epoch then waits for its next turn, up to as long as the epoch has taken.
    """
    tensors, count = [tf.constant(array) for array in arrays], len(arrays[0])
    rows = tf.data.Dataset.range(count).shuffle(count).batch(BATCH)
    batches = rows.map(lambda chosen: tuple(tf.gather(tensor, chosen) for tensor in tensors))
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)


class Keep(keras.constraints.Constraint):
    """What is zero stays so."""

    def __init__(self, kernel):
        self.mask = ops.cast(kernel != 0, kernel.dtype)

    def __call__(self, kernel):
        return kernel * self.mask


def keep_zeros(model):
    """Weights that are zero stay so while it trains."""
    for layer in chain(model):
        layer.kernel.constraint = Keep(layer.kernel.numpy())


def average(model, data, recipe, *, seed, teachers=(), backup):
    """The mean of `model` and of what it is after each of recipe["cycles"] more, zeros in place.

    A cycle trains on from the last one, its rate falling along half a cosine anew (Loshchilov and
    Hutter, SGDR, ICLR 2017); the mean of such weights errs less than each (Izmailov et al.,
    Averaging Weights Leads to Wider Optima and Better Generalization, UAI 2018). Of a list of
    cycles each goes on from the mean of the one before.
    backup: a folder; a run that was killed goes on from its last whole epoch.
    """
    rounds = recipe["cycles"] if isinstance(recipe["cycles"], list) else [recipe["cycles"]]
    numbers = itertools.count()
    for settings in rounds:
        cycle = recipe | {"flat": 0, "constant": False, **settings}
        found = [model.get_weights()]
        for number in itertools.islice(numbers, settings["count"]):
            path = backup / f"cycle{number}.npz"
            if not path.exists():
                keras.utils.set_random_seed(1000 * (seed + 1) + number)
                keep_zeros(model)
                fit(model, data, cycle, teachers=teachers, backup=backup / path.stem)
                save(model, path, backup / path.stem)
            model, _ = load(path, model.name)
            found.append(model.get_weights())
        model.set_weights([np.mean(arrays, axis=0) for arrays in zip(*found, strict=True)])
    return model


def answers(teachers, images, recipe):
    """The mean of the teachers' logits for the training images, (n, classes)."""
    views = [images, images[:, :, ::-1]] if recipe.get("flip") else [images]
    logits = [
        teacher.predict(view, batch_size=1000, verbose=0) for teacher in teachers for view in views
    ]
    return np.mean(logits, axis=0)


def chain(model):
    """The layers with kernels, in the order of the data."""
    return [layer for layer in model.layers if getattr(layer, "kernel", None) is not None]


def sizes(model):
    """Weights without biases of each layer of the chain."""
    return [math.prod(layer.kernel.shape) for layer in chain(model)]


def macs(model):
    """Multiply-accumulates of each layer of the chain, for one image."""
    positions = [math.prod(layer.output.shape[1:-1]) for layer in chain(model)]
    return [size * n for size, n in zip(sizes(model), positions, strict=True)]


def widths(model):
    """Nodes of each hidden layer."""
    return {layer.name: layer.kernel.shape[-1] for layer in chain(model)[:-1]}


def build(network, nodes):
    """The zoo's network with nodes[layer] in the place of its own widths; new weights."""

    def narrow(layer):
        config = layer.get_config()
        key = "filters" if "filters" in config else "units"
        return type(layer).from_config(
            {**config, key: nodes[layer.name]} if layer.name in nodes else config
        )

    return keras.models.clone_model(getattr(sc.zoo.networks, network)(), clone_function=narrow)


def save(model, path, backup, **about):
    """Writes the weights and how they were made, whole or not at all; ends the run's `backup`."""
    arrays = {
        f"{layer.name}.{weight.name}": weight.numpy()
        for layer in model.layers
        for weight in layer.weights
    }
    about |= {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), **machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, about=json.dumps(about), **arrays)
    temporary.replace(path)
    shutil.rmtree(backup, ignore_errors=True)


def load(path, network):
    """(model, how it was made) of a stored run."""
    if not path.exists():
        raise SystemExit(f"{path.name} is missing in {path.parent}: make it with --train.")
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        arrays = {name: file[name] for name in file.files if name != "about"}
    nodes = {
        name.split(".")[0]: array.shape[-1] for name, array in arrays.items() if array.ndim > 1
    }
    model = build(network, nodes)
    for layer in model.layers:
        layer.set_weights([arrays[f"{layer.name}.{weight.name}"] for weight in layer.weights])
    return model, about


def machine():
    """What the run ran on."""
    packages = ("tensorflow", "keras", "numpy")
    return {
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in packages},
    }


def error(model, images, labels):
    """The percentage of the images that the model puts into a wrong class."""
    logits = model.predict(images, batch_size=1000, verbose=0)
    return 100 * float(np.mean(np.argmax(logits, -1) != labels))
