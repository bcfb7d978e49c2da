"""Node pruning of a residual network on CIFAR-10: masks that learn, surgery, fine-tuning, export.

    python examples/resnet_cifar10.py --out out/resnet      # ResNet-20; a GPU makes it minutes
    python examples/resnet_cifar10.py --smoke --out out/s   # a tiny one on coloured squares

Every stage leaves a .keras file in --out, and a stage whose file is there is not run again; inside
a stage BackupAndRestore goes on from the last epoch. At the end there are small.keras and
small.tflite (int8), and a table of parameters, multiply-accumulates and test accuracies.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import scalpel_tf as sc
from scalpel_tf.deploy import tflite
from scalpel_tf.deploy.convert import convert, run_reference

FULL = {"blocks": 3, "width": 16, "epochs": {"dense": 160, "masked": 60, "small": 80}, "l1": 2e-4}
SMOKE = {"blocks": 1, "width": 8, "epochs": {"dense": 2, "masked": 2, "small": 1}, "l1": 5e-3}
RATES = {"dense": 0.1, "masked": 0.01, "small": 0.01}


def resnet(blocks: int, width: int) -> keras.Model:
    """A ResNet of 6 * blocks + 2 layers (He et al., CVPR 2016): images in [0, 1] to 10 logits."""

    def conv(x, filters, stride=1, size=3):
        x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    image = keras.Input((32, 32, 3), name="image")
    x = layers.ReLU()(conv(image, width))
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = layers.ReLU()(conv(x, width << stage, stride))
            y = conv(y, width << stage)
            if stride > 1:
                x = conv(x, width << stage, stride, size=1)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name="resnet")


def squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with a square each, whose colour and corner say the class; for --smoke."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.uniform(0, 0.3, (count, 32, 32, 3)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        image[16 * (label % 2) :, :16, label % 3] += 0.4
        image[:16, 16:, label % 5 % 3] += 0.3
    return images, labels


def synthetic_data():
    x_train, y_train = squares(512, 0)
    x_test, y_test = squares(128, 1)
    return SimpleNamespace(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def augmented(x, y, batch):
    """Batches of shifted and mirrored images, without end of order: every epoch has another."""

    def augment(image, label):
        image = tf.pad(image, [(4, 4), (4, 4), (0, 0)])
        image = tf.image.random_flip_left_right(tf.image.random_crop(image, (32, 32, 3)))
        return image, label

    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x))
    data = data.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(batch).prefetch(tf.data.AUTOTUNE)


def train(model, data, options, stage, callbacks=()):
    """Compiles and fits `model` with a cosine schedule, and saves it as <stage>.keras."""
    epochs = options.epochs[stage]
    batches = augmented(data.x_train, data.y_train, options.batch)
    rate = keras.optimizers.schedules.CosineDecay(RATES[stage], epochs * len(batches), alpha=0.05)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    backup = keras.callbacks.BackupAndRestore(options.out / f"{stage}_backup")
    model.fit(batches, epochs=epochs, callbacks=[*callbacks, backup], verbose=2)
    model.save(options.out / f"{stage}.keras")
    return model


def stage(options, name, make):
    """The model of <name>.keras, made where it is not there yet."""
    path = options.out / f"{name}.keras"
    return keras.models.load_model(path) if path.exists() else make()


def accuracy(model, data):
    logits = model.predict(data.x_test, batch_size=256, verbose=0)
    return float((logits.argmax(1) == data.y_test).mean())


def int8_accuracy(content, data):
    model = tflite.read(content)
    tensor = model.tensors[model.inputs[0]]
    levels = np.round(data.x_test / tensor.scale) + tensor.zero_point
    (logits,) = run_reference(content, np.clip(levels, -128, 127).astype(np.int8))
    return float((logits.argmax(1) == data.y_test).mean())


def main(arguments=None) -> list[tuple]:
    """Runs the stages; the rows that it prints: name, parameters, MACs, accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--smoke", action="store_true", help="a tiny network, 512 made-up images")
    parser.add_argument("--l1", type=float, help="the penalty per node: higher drops more")
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args(arguments)
    settings = SMOKE if options.smoke else FULL
    options.epochs = settings["epochs"]
    options.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    data = synthetic_data() if options.smoke else sc.zoo.datasets.cifar10()

    network = resnet(settings["blocks"], settings["width"])
    dense = stage(options, "dense", lambda: train(network, data, options, "dense"))
    l1 = settings["l1"] if options.l1 is None else options.l1
    masks = [sc.callbacks.TrainMasks(l1=l1)]
    masked = stage(
        options, "masked", lambda: train(sc.add_masks(dense), data, options, "masked", masks)
    )
    cut = sc.shrink(masked)
    print(cut.report)
    parameters, macs = cut.report.parameters, cut.report.macs
    rows = [
        ("dense", parameters[0], macs[0], accuracy(dense, data)),
        ("masked", parameters[0], macs[0], accuracy(masked, data)),
        ("shrunk", parameters[1], macs[1], accuracy(cut, data)),
    ]
    sc.recalibrate(cut, data.x_train[:2000])
    rows.append(("recalibrated", parameters[1], macs[1], accuracy(cut, data)))
    small = stage(options, "small", lambda: train(cut, data, options, "small"))
    rows.append(("fine-tuned", parameters[1], macs[1], accuracy(small, data)))
    int8 = convert(small, data.x_train[:200])
    (options.out / "small.tflite").write_bytes(int8)
    rows.append(("int8", parameters[1], macs[1], int8_accuracy(int8, data)))
    print(f"\n{'':14}{'parameters':>12}{'MACs':>14}{'accuracy':>10}")
    for name, count, products, share in rows:
        print(f"{name:14}{count:12,}{products:14,}{share:10.2%}")
    return rows


if __name__ == "__main__":
    main()
