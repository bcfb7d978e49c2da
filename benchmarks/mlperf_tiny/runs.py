"""ResNet-8 and DS-CNN trained dense, then pruned in SIMD groups while they train on.

    python benchmarks/mlperf_tiny/runs.py          # makes what is missing

Needs all of CIFAR-10 (SCALPEL_TF_DATA, --data_dir or a download) and the words of speech.py
(--speech). A finished run is skipped and a killed one goes on from its last whole epoch. What was
chosen in RECIPES was chosen on the validation split; weights are those of the last epoch; nothing
here reads the test split. There is no dense control that trained as long as the pruned networks.

dense    the network as MLPerf Tiny has it
w4       the dense network whose groups of four weights go while it trains on (Yu et al., ISCA 2017,
         section 4.1), drawn to zero by a group lasso (Wen et al., NIPS 2016, eq. 2); it learns from
         the answers of the dense network, too. Depthwise and last layers stay whole.

A stored run is an .npz file: "<layer>.<weight>" are the arrays, and "about" is JSON on how they
were made.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from speech import read
from training import BATCH, Perturb, fit, to_logits

import scalpel_tf as sc
from scalpel_tf.zoo import datasets, mlperf_tiny

sys.path.append(str(Path(__file__).parents[1] / "paper"))

from small_networks import Jitter, error, save  # noqa: E402
from weight_pruning import GroupLasso  # noqa: E402

FOLDER = Path(__file__).parents[1] / "checkpoints" / "mlperf_tiny"
COMMAND = "python benchmarks/mlperf_tiny/runs.py"
RESNET_8 = {"l2": 2.5e-4, "warm": 2, "shift": 4, "flip": True, "policy": "mixed_bfloat16"}
DS_CNN = {"l2": 3e-4, "warm": 1, "shift": 5, "noise": 0.4, "policy": "float32"}
RECALIBRATION = 40 * BATCH  # training inputs for the statistics of the float32 network
W4 = {"width": 4, "distillation": {"share": 0.7, "temperature": 2}}
RECIPES = {
    "resnet_8": {
        "dense": RESNET_8 | {"epochs": 24, "rate": 0.1},
        "w4": RESNET_8
        | W4
        | {"epochs": 22, "prune_epochs": 9, "warm": 1, "rate": 0.06, "group_lasso": 2e-5}
        | {"l2": 1e-4, "shift": 3}
        | {
            "density": {
                "conv1": 0.75,
                **dict.fromkeys(("stack1_conv1", "stack1_conv2"), 0.6),
                "stack2_conv1": 0.55,
                "stack2_conv2": 0.5,
                "stack3_conv1": 0.45,
                "stack3_conv2": 0.35,
            }
        },
    },
    "ds_cnn": {
        "dense": DS_CNN | {"epochs": 12, "rate": 0.1},
        "w4": DS_CNN
        | W4
        | {"epochs": 16, "prune_epochs": 5, "rate": 0.06, "group_lasso": 2e-5}
        | {"density": {"conv1": 0.5} | {f"block{index}_pointwise": 0.4 for index in range(1, 5)}},
    },
}
SEEDS = {"resnet_8": (0,), "ds_cnn": (0,)}


def stored(folder, network, method, seed):
    """The file of a run."""
    return folder / f"{network}_{method}_s{seed}.npz"


def run(network, method, seed, data, folder):
    """(model, how it was made) of a run, which is made and stored where it is missing."""
    path = stored(folder, network, method, seed)
    if not path.exists():
        print(f"{network}, {method}, seed {seed}", flush=True)
        backup, started = folder / "unfinished" / path.stem, time.time()
        recipe = RECIPES[network][method]
        keras.utils.set_random_seed(seed)
        if method == "dense":
            keras.config.set_dtype_policy(recipe["policy"])
            model = train(network, recipe, data, backup)
        else:
            dense, _ = run(network, "dense", seed, data, folder)
            keras.config.set_dtype_policy(recipe["policy"])
            model = prune(dense, recipe, data, backup)
        keras.config.set_dtype_policy("float32")
        model = recalibrate(to_logits(model), recipe, data)
        about = {
            "network": network,
            "method": method,
            "seed": seed,
            "recipe": recipe,
            "validation_error": error(model, data.x_valid, data.y_valid),
            "seconds": round(time.time() - started),
            "command": COMMAND,
        }
        print(path.name, about, flush=True)
        save(model, path, backup, **about)
    return load(path, network)


def train(network, recipe, data, backup):
    """A new network."""
    model = to_logits(getattr(mlperf_tiny, network)())
    for layer in kernels(model):
        layer.kernel.regularizer = keras.regularizers.L2(recipe["l2"])
    fit(model, data, recipe, augment=augmentation(recipe), backup=backup)
    return model


def prune(dense, recipe, data, backup):
    """`dense` pruned by the recipe while it trains on, and learns from what it was."""
    ratio = {name: 1 - density for name, density in recipe["density"].items()}
    origin = to_logits(dense)
    others = [layer.name for layer in kernels(origin) if layer.name not in ratio]
    model = sc.prune(origin, width=recipe["width"], ratio=ratio, skip=others)
    lasso = keras.Variable(recipe["group_lasso"], trainable=False, name="group_lasso")
    for name in others:
        model.get_layer(name).kernel.regularizer = keras.regularizers.L2(recipe["l2"])
    for name in ratio:
        penalty = GroupLasso(recipe["width"], lasso, recipe["l2"])
        model.get_layer(name).layer.kernel.regularizer = penalty

    def release(epoch, logs=None):
        if epoch >= recipe["prune_epochs"]:
            lasso.assign(0.0)

    end_step = recipe["prune_epochs"] * math.ceil(len(data.x_train) / BATCH)
    callbacks = (
        sc.callbacks.Prune(sc.schedules.Polynomial(max(ratio.values()), end_step)),
        keras.callbacks.LambdaCallback(on_epoch_begin=release),
    )
    augment = augmentation(recipe)
    fit(model, data, recipe, *callbacks, augment=augment, teacher=to_logits(dense), backup=backup)
    return sc.strip(model)


def recalibrate(model, recipe, data):
    """The float32 network with its own statistics of inputs as they were in training."""
    keras.utils.set_random_seed(0)
    augment = augmentation(recipe)
    starts = range(0, RECALIBRATION, BATCH)
    seen = [augment(data.x_train[at : at + BATCH], training=True) for at in starts]
    return sc.recalibrate(model, np.concatenate(seen))


def augmentation(recipe):
    """The layer that the training inputs pass."""
    if "noise" in recipe:
        return Perturb(recipe["shift"], recipe["noise"])
    return Jitter(recipe["shift"], recipe["flip"])


def kernels(model):
    """The convolutions and fully connected layers; depthwise ones have no `kernel` to decay."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return [layer for layer in model.layers if type(layer) in kinds]


def load(path, network):
    """(model, how it was made) of a stored run; the model answers with probabilities."""
    if not path.exists():
        raise SystemExit(f"{path.name} is missing in {path.parent}: make it with {COMMAND}.")
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        arrays = {name: file[name] for name in file.files if name != "about"}
    model = getattr(mlperf_tiny, network)()
    for layer in model.layers:
        layer.set_weights([arrays[f"{layer.name}.{weight.name}"] for weight in layer.weights])
    return model, about


def data_of(network, flags):
    """The data of a network."""
    return datasets.cifar10(flags.data_dir) if network == "resnet_8" else read(flags.speech)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--methods", nargs="+", choices=("dense", "w4"), default=["dense", "w4"])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--data_dir", help="a folder with cifar10.npz")
    parser.add_argument("--speech", type=Path, default=Path("out/speech"), help="a folder")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0: all")
    flags = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    for network in flags.networks:
        data = data_of(network, flags)
        for seed in flags.seeds or SEEDS[network]:
            for method in flags.methods:
                run(network, method, seed, data, flags.folder)


if __name__ == "__main__":
    main()
