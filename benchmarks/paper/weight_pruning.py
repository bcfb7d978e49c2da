"""LeNet-300-100, LeNet-5 and ConvNet pruned in SIMD groups of weights, for the tables of paper.py.

    python benchmarks/paper/weight_pruning.py          # makes what is missing
    python benchmarks/paper/weight_pruning.py --dataset fashion_mnist --networks lenet_300_100

Needs all of MNIST and CIFAR-10 (SCALPEL_TF_DATA, --data_dir or a download). A finished run is
skipped and a killed one goes on from its last whole epoch. Every choice in RECIPES was made on the
validation split; weights are those of the last epoch; nothing here reads the test split.

w4, w8   the dense network of node_pruning.py, whose groups of that many weights go while it trains
         on (Yu et al., ISCA 2017, section 4.1), drawn to zero by a group lasso (Wen et al., NIPS
         2016, eq. 2), and, where its recipe has "distillation", learns from the answers of dense
         networks too
fewer    w8 with fewer groups, of ConvNet
cpu      what the masks of node_pruning.py left, whose fully connected layers lose groups of 8
         (section 4.3, combined pruning)
mild     the same of what its milder masks left
Where a recipe has "cycles", the weights are the mean of those at the end of this training and of
those after each cycle more.
"""

import argparse
import math
import time
from pathlib import Path

import keras
import node_pruning
import tensorflow as tf
from keras import ops
from small_networks import BATCH, average, chain, error, fit, load, save

import scalpel_tf as sc

COMMAND = "python benchmarks/paper/weight_pruning.py"
LENET_300_100 = {"input_dropout": 0.2, "epochs": 125, "flat": 65, "rate": 0.1, "l2": 5e-5}
LENET_300_100 |= {"prune_epochs": 60, "cycles": {"count": 3, "epochs": 15, "rate": 0.05}}
LENET_5 = {"shift": 1, "epochs": 60, "flat": 20, "rate": 0.03, "l2": 5e-5, "prune_epochs": 20}
LENET_5 |= {"distillation": {"share": 0.7, "temperature": 2}, "teachers": (0, 1, 2)}
LENET_5 |= {"cycles": {"count": 3, "epochs": 8, "rate": 0.015}, "bfloat16": True}
NODES_FIRST = LENET_5 | {"width": 8, "group_lasso": 3e-5}
NODES_FIRST |= {"epochs": 40, "flat": 10, "prune_epochs": 10}
CONVNET = {"shift": 1, "flip": True, "epochs": 60, "flat": 15, "rate": 0.05, "l2": 5e-5}
CONVNET |= {"prune_epochs": 15, "distillation": {"share": 0.5, "temperature": 2}}
CONVNET |= {"width": 8, "group_lasso": 5e-5}
RECIPES = {
    "lenet_300_100": {
        "w4": LENET_300_100
        | {"width": 4, "group_lasso": 5e-5, "without_lasso": ["fc3"]}
        | {"density": {"fc1": 0.0405, "fc2": 0.083, "fc3": 0.5}},
    },
    "lenet_5": {
        "w4": LENET_5
        | {"width": 4, "group_lasso": 3e-5}
        | {"density": {"conv1": 0.6, "conv2": 0.10, "fc1": 0.035, "fc2": 0.2}},
        "cpu": NODES_FIRST | {"origin": "masks", "density": {"fc1": 0.2, "fc2": 0.8}},
        "mild": NODES_FIRST | {"origin": "mild", "density": {"fc1": 0.35, "fc2": 0.8}},
    },
    "convnet": {
        "w8": CONVNET | {"density": {"conv1": 0.55, "conv2": 0.28, "conv3": 0.28, "fc1": 0.25}},
        "fewer": CONVNET
        | {"density": {"conv1": 0.5, "conv2": 0.2, "conv3": 0.2, "fc1": 0.25}}
        | {"cycles": {"count": 3, "epochs": 8, "rate": 0.025}}
        | {"teachers": (0, 1, 2), "bfloat16": True},
    },
}
SEEDS = {"lenet_300_100": (0, 1, 2), "lenet_5": (0, 1, 2), "convnet": (0,)}


class GroupLasso(keras.regularizers.Regularizer):
    """group_lasso * the norms of the groups along the rows of a kernel, plus an L2 penalty."""

    def __init__(self, width, group_lasso, l2):
        self.width, self.group_lasso, self.l2 = width, group_lasso, l2

    def __call__(self, kernel):
        out = kernel.shape[-1]
        cols = math.prod(kernel.shape[:-1])
        squares = ops.reshape(ops.square(kernel), (cols, out))
        squares = ops.pad(squares, ((0, -cols % self.width), (0, 0)))
        sums = ops.sum(ops.reshape(squares, (-1, self.width, out)), axis=1)
        norms = ops.sqrt(sums + 1e-10)  # the root has no gradient at 0
        return self.group_lasso * ops.sum(norms) + self.l2 * ops.sum(sums)


def stored(folder, network, method, seed):
    """The file of a run."""
    return folder / "weight_pruning" / f"{network}_{method}_s{seed}.npz"


def run(network, method, seed, data, folder):
    """(model, how it was made) of a run, which is made and stored where it is missing."""
    path = stored(folder, network, method, seed)
    if not path.exists():
        print(f"{network}, {method}, seed {seed}", flush=True)
        backup, started = path.parent / "unfinished" / path.stem, time.time()
        keras.utils.set_random_seed(seed)
        recipe = RECIPES[network][method]
        dense, _ = node_pruning.run(network, "dense", seed, data, folder)
        origin = dense
        if "origin" in recipe:
            origin, _ = node_pruning.run(network, recipe["origin"], seed, data, folder)
        teachers = node_pruning.teachers(network, recipe, seed, data, folder)
        first = backup / "first.npz"
        if not first.exists():
            save(prune(origin, teachers, recipe, data, backup / "first"), first, backup / "first")
        model, _ = load(first, network)
        if "cycles" in recipe:
            model = average(model, data, recipe, seed=seed, teachers=teachers, backup=backup)
        about = {
            "network": network,
            "method": method,
            "seed": seed,
            "recipe": recipe,
            "validation_error": error(model, data.x_valid, data.y_valid),
            "validation_error_dense": error(dense, data.x_valid, data.y_valid),
            "seconds": round(time.time() - started),
            "command": COMMAND,
        }
        print(path.name, about, flush=True)
        save(model, path, backup, **about)
    return load(path, network)


def prune(origin, teachers, recipe, data, backup):
    """`origin` pruned by the recipe while it trains on; plain Keras."""
    ratio = {name: 1 - density for name, density in recipe["density"].items()}
    others = [layer.name for layer in chain(origin) if layer.name not in ratio]
    model = sc.prune(origin, width=recipe["width"], ratio=ratio, skip=others or None)
    lasso = keras.Variable(recipe["group_lasso"], trainable=False, name="group_lasso")
    for name in ratio:
        strength = 0.0 if name in recipe.get("without_lasso", ()) else lasso
        penalty = GroupLasso(recipe["width"], strength, recipe["l2"])
        model.get_layer(name).layer.kernel.regularizer = penalty

    def release(epoch, logs=None):
        if epoch >= recipe["prune_epochs"]:
            lasso.assign(0.0)

    end_step = recipe["prune_epochs"] * math.ceil(len(data.x_train) / BATCH)
    schedule = sc.schedules.Polynomial(max(ratio.values()), end_step)
    free = keras.callbacks.LambdaCallback(on_epoch_begin=release)
    fit(model, data, recipe, sc.callbacks.Prune(schedule), free, teachers=teachers, backup=backup)
    return sc.strip(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--methods", nargs="+", choices=("w4", "w8", "fewer", "cpu", "mild"))
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--dataset", choices=("fashion_mnist",), help="instead of their own")
    parser.add_argument("--folder", type=Path, help="where the weights are")
    parser.add_argument("--data_dir", help="a folder with mnist.npz and cifar10.npz")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0: all")
    flags = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    folder = flags.folder or node_pruning.FOLDER / (flags.dataset or "")
    for network in flags.networks:
        data = node_pruning.read(network, flags.data_dir, flags.dataset)
        for seed in flags.seeds or SEEDS[network]:
            for method in flags.methods or RECIPES[network]:
                run(network, method, seed, data, folder)


if __name__ == "__main__":
    main()
