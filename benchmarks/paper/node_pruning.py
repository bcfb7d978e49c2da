"""The paper's node pruning on LeNet-300-100, LeNet-5 and ConvNet, beside other choices of nodes.

    python benchmarks/paper/node_pruning.py --evaluate --json n.json   # the committed weights
    python benchmarks/paper/node_pruning.py --train                    # makes what is missing

Needs all of MNIST and CIFAR-10 (SCALPEL_TF_DATA, --data_dir or a download). A finished run is
skipped and a killed one goes on from its last whole epoch. Every choice in RECIPES was made on the
validation split; weights are those of the last epoch; only --evaluate reads the test split.

masks    masks learn until the limits of the recipe (Yu et al., ISCA 2017, section 4.2), the dead
         nodes are cut, and what is left trains on
l1 ...   of the same dense network as many nodes in each layer as the masks leave, and so as many
         weights and MACs, chosen by that criterion; what is left trains on in the same way
mild     of LeNet-5, for the CPU and the GPU: masks that stop earlier, and cycles
whole    the dense network without a cut, trained on in the same way
scratch  a new network of these widths, trained for as many epochs as the dense network, the masks
         and what was left took together
Where a recipe has "distillation", these learn from the labels and from the answers of the dense
network, or from the mean answers of the dense networks of the seeds that "teachers" names (Hinton
et al., Distilling the Knowledge in a Neural Network, 2015). LeNet-300-100 trains on for three times
the epochs of its dense network, with the same input dropout. Where a recipe has "cycles", the
weights are the mean of those at the end of this training and of those after each cycle more. A
run's own recipe is stored with it.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from small_networks import average, build, error, fit, load, machine, macs, save, sizes, widths

import scalpel_tf as sc
from scalpel_tf.report import save_json, table
from scalpel_tf.train.mask_layer import find_masks

FOLDER = Path(__file__).parents[1] / "checkpoints"
COMMAND = "python benchmarks/paper/node_pruning.py --train"
FEW = 5_000  # training images for criteria that are measured on data
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LENET_300_100 = {"input_dropout": 0.2, "l2": 5e-5}
LENET_5 = {"shift": 1, "l2": 1e-4}
LENET_5_RETRAIN = LENET_5 | {"epochs": 40, "rate": 0.03, "l2": 5e-5}
LENET_5_RETRAIN |= {"distillation": {"share": 0.7, "temperature": 2}}
CONVNET = {"shift": 2, "flip": True, "l2": 2e-4, "bfloat16": True}


def lenet_5_masks(macs_left, weights_left):
    """Masks on the convolutions, then on the fully connected layer."""
    return [
        LENET_5
        | {"of": "mask_conv.*", "left": "macs", "limit": macs_left, "epochs": 20}
        | {"rate": 0.005, "l1": 6e-3, "growth": 1.1, "constant": True},
        LENET_5
        | {"of": "mask_fc1", "left": "weights", "limit": weights_left, "epochs": 20}
        | {"rate": 0.005, "l1": 3e-3, "growth": 1.15, "constant": True},
    ]


RECIPES = {
    "lenet_300_100": {
        "dense": LENET_300_100 | {"epochs": 40, "rate": 0.1},
        "masks": [
            LENET_300_100
            | {"of": "mask_.*", "left": "weights", "limit": 0.513, "epochs": 30}
            | {"rate": 0.005, "l1": 5e-4, "growth": 1.2, "constant": True},
        ],
        "retrain": LENET_300_100 | {"epochs": 120, "flat": 48, "rate": 0.1},
    },
    "lenet_5": {
        "dense": LENET_5 | {"epochs": 22, "rate": 0.03},
        "masks": lenet_5_masks(macs_left=0.23, weights_left=0.0545),
        "mild": lenet_5_masks(macs_left=0.31, weights_left=0.10),
        "retrain": LENET_5_RETRAIN,
        "mild_retrain": LENET_5_RETRAIN
        | {"cycles": {"count": 3, "epochs": 8, "rate": 0.015}}
        | {"teachers": (0, 1, 2), "bfloat16": True},
    },
    "convnet": {
        "dense": CONVNET | {"epochs": 28, "rate": 0.02},
        "masks": [
            CONVNET
            | {"of": "mask_conv[23]", "left": "weights", "limit": 0.454, "epochs": 20}
            | {"rate": 0.005, "l1": 2e-2, "growth": 1.15, "constant": True},
        ],
        "retrain": CONVNET
        | {"shift": 1, "epochs": 100, "rate": 0.05, "l2": 5e-5}
        | {"distillation": {"share": 0.5, "temperature": 2}, "teachers": (0, 1, 2)}
        | {
            "cycles": [
                {"count": 3, "epochs": 8, "rate": 0.025},
                {"count": 4, "epochs": 16, "rate": 0.05},
            ]
        },
    },
}


class Case(NamedTuple):
    """Of the mean of the seeds: weights left, and points of test error above dense, at most."""

    name: str
    seeds: tuple[int, ...]
    size: float
    loss: float


CASES = {
    "lenet_300_100": Case("LeNet-300-100", (0, 1, 2), 0.515, 0.05),
    "lenet_5": Case("LeNet-5", (0, 1, 2), 0.055, 0.10),
    "convnet": Case("ConvNet", (0,), 0.454, 0.30),
}


class Limit(keras.callbacks.Callback):
    """Ends the training of masks as soon as they leave at most `limit` of `total` weights or MACs.

    cost: those of each layer of the masked chain, without masks.
    """

    def __init__(self, masked, cost, total, limit):
        super().__init__()
        self.masks = find_masks(masked)
        self.cost, self.total, self.limit = np.array(cost), total, limit
        self.met, self.epochs = False, 0

    def on_train_batch_end(self, batch, logs=None):
        kept = [1.0, *(mask.keep.mean() for mask in self.masks), 1.0]
        left = np.sum(self.cost * kept[:-1] * kept[1:]) / self.total
        self.met = self.model.stop_training = bool(left <= self.limit)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs = epoch + 1
        print([int(mask.keep.sum()) for mask in self.masks], flush=True)


def run(network, method, seed, data, folder):
    """(model, how it was made) of a run, which is made and stored where it is missing."""
    path = stored(folder, network, method, seed)
    if not path.exists():
        print(f"{network}, {method}, seed {seed}", flush=True)
        backup, started = folder / "node_pruning" / "unfinished" / path.stem, time.time()
        keras.utils.set_random_seed(seed)
        model, about = make(network, method, seed, data, folder, backup)
        about |= {
            "network": network,
            "method": method,
            "seed": seed,
            "validation_error": valid_error(model, data),
            "seconds": round(time.time() - started),
            "command": COMMAND,
        }
        print(path.name, about, flush=True)
        save(model, path, backup, **about)
    return load(path, network)


def stored(folder, network, method, seed):
    """The file of a run; the dense LeNet-300-100 are those of lenet_300_100.py."""
    shared = network == "lenet_300_100" and method == "dense"
    return folder / ("" if shared else "node_pruning") / f"{network}_{method}_s{seed}.npz"


def make(network, method, seed, data, folder, backup):
    """Trains; (model, recipe and epochs)."""
    recipe = RECIPES[network]
    if method == "dense":
        model = build(network, {})
        fit(model, data, recipe["dense"], backup=backup / "dense")
        return model, {"recipe": recipe["dense"]}
    dense, _ = run(network, "dense", seed, data, folder)
    retrain = recipe.get(f"{method}_retrain", recipe["retrain"])
    teaching = teachers(network, retrain, seed, data, folder)
    first = backup / "first.npz"
    if not first.exists():
        model, about = cut(network, method, seed, dense, data, folder, backup)
        retrained = retrain | {"epochs": about.pop("epochs", retrain["epochs"])}
        about |= {"recipe": retrained, "validation_error_before": valid_error(model, data)}
        fit(model, data, retrained, teachers=teaching, backup=backup / "retrain")
        save(model, first, backup / "retrain", **about)
    model, about = load(first, network)
    if "cycles" in retrain:
        model = average(model, data, retrain, seed=seed, teachers=teaching, backup=backup)
        about["recipe"]["cycles"] = retrain["cycles"]
    return model, about


def teachers(network, recipe, seed, data, folder):
    """The dense networks of the seeds in recipe["teachers"], or of this seed."""
    return [
        run(network, "dense", each, data, folder)[0] for each in recipe.get("teachers", (seed,))
    ]


def cut(network, method, seed, dense, data, folder, backup):
    """(what is left of the dense network, how it came about)."""
    recipe = RECIPES[network]
    if method in ("masks", "mild"):
        return cut_by_masks(dense, data, recipe[method], backup)
    if method == "whole":
        return dense, {}
    masks, about = run(network, "masks", seed, data, folder)
    if method == "scratch":
        epochs = recipe["dense"]["epochs"] + about["mask_epochs"] + recipe["retrain"]["epochs"]
        return build(network, widths(masks)), {"epochs": epochs}
    return cut_by_criterion(dense, data, method, widths(masks), seed), {}


def valid_error(model, data):
    return error(model, data.x_valid, data.y_valid)


def cut_by_masks(dense, data, stages, backup):
    """(what the masks leave of the dense network, how it came about)."""
    model, epochs = dense, 0
    for index, stage in enumerate(stages):
        path = backup / f"stage{index}.npz"
        if not path.exists():
            masked = sc.add_masks(model)
            count = {"weights": sizes, "macs": macs}[stage["left"]]
            limit = Limit(masked, count(model), sum(count(dense)), stage["limit"])
            learn = sc.callbacks.TrainMasks(
                lambda epoch, of=stage: of["l1"] * of["growth"] ** epoch, masks=stage["of"]
            )
            fit(masked, data, stage, learn, limit, backup=backup / f"stage{index}")
            if not limit.met:
                raise SystemExit(f"Masks {stage['of']!r} left too much: raise their l1 or epochs.")
            save(sc.shrink(masked), path, backup / f"stage{index}", epochs=limit.epochs)
        model, about = load(path, dense.name)
        epochs += about["epochs"]
    return model, {"masks": stages, "mask_epochs": epochs}


def cut_by_criterion(dense, data, criterion, nodes, seed):
    """The dense network with nodes[layer] nodes in each layer, those with the highest scores."""
    few = data.x_train[:FEW], data.y_train[:FEW]
    ratio = {
        name: (width - nodes[name] + 0.5) / width for name, width in widths(dense).items()
    }  # half a node more than go: prune_nodes rounds down
    return sc.prune_nodes(dense, criterion, ratio=ratio, data=few, loss=CROSS_ENTROPY, seed=seed)


def methods(network):
    """Everything that is compared on a network."""
    scale = ["bn_scale"] if network == "convnet" else []
    mild = ["mild"] if "mild" in RECIPES[network] else []
    apoz = [] if network == "lenet_5" else ["apoz"]  # its convolutions have no activations
    return ["masks", *mild, "whole", "scratch", "l1", "random", "taylor", *scale, *apoz, "l2"]


def train(networks, data, folder):
    """Stores every run that `folder` lacks."""
    for network in networks:
        for method in ("dense", *methods(network)):
            for seed in CASES[network].seeds:
                run(network, method, seed, data[network], folder)


def evaluate(network, data, folder):
    """One row for each method and seed whose weights are there, in the format of the benchmarks."""
    case, rows = CASES[network], []
    for seed in case.seeds:
        paths = {method: stored(folder, network, method, seed) for method in methods(network)}
        for path in paths.values():
            if not path.exists():
                print(f"{path.name} is missing: make it with --train", file=sys.stderr)
        if not any(path.exists() for path in paths.values()):
            continue
        dense, _ = load(stored(folder, network, "dense", seed), network)
        dense_error = error(dense, data.x_test, data.y_test)
        for method, path in paths.items():
            if not path.exists():
                continue
            print(f"evaluating {path.name}", file=sys.stderr, flush=True)
            model, about = load(path, network)
            ours = error(model, data.x_test, data.y_test)
            rows.append(
                {
                    "case": case.name,
                    "kernel": "dense",
                    "method": method,
                    "seed": seed,
                    "size_ratio": sum(sizes(model)) / sum(sizes(dense)),
                    "macs_ratio": sum(macs(model)) / sum(macs(dense)),
                    "nodes": widths(model),
                    "ours": ours,
                    "rivals": {"dense": dense_error},
                    "rival": "dense",
                    "ratio": dense_error / ours,
                    "unit": "% test error",
                    "source": "measured",
                    "trained": about,
                }
            )
    return rows


def summary(networks, rows):
    """The table of means and standard deviations, and whether the masks meet what is asked."""
    lines = [["network", "method", "seeds", "nodes", "weights", "MACs", "error", "dense", "more"]]
    met = True
    for network in networks:
        case = CASES[network]
        for method in methods(network):
            own = [row for row in rows if (row["case"], row["method"]) == (case.name, method)]
            if not own:
                met &= method != "masks"
                continue
            ours = [row["ours"] for row in own]
            dense = [row["rivals"]["dense"] for row in own]
            more = np.mean(ours) - np.mean(dense)
            size = max(row["size_ratio"] for row in own)
            lines.append(
                [
                    case.name,
                    method,
                    str(len(own)),
                    " ".join("-".join(map(str, row["nodes"].values())) for row in own),
                    f"{size:.2%}",
                    f"{max(row['macs_ratio'] for row in own):.2%}",
                    spread(ours),
                    spread(dense),
                    f"{more:+.2f}",
                ]
            )
            if method == "masks":
                whole = len(own) == len(case.seeds)
                fine = whole and size <= case.size and more <= case.loss + 1e-9
                lines[-1].append("met" if fine else "MISSED")
                lines[-1][-1] += f": {case.size:.1%}, {case.loss:+.2f}"
                met &= fine
            else:
                lines[-1].append("")
    lines[0].append("asked of the masks")
    return table(lines), met


def spread(values):
    """Mean and, of several values, standard deviation."""
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{deviation}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--train", action="store_true", help="train the runs that are missing")
    task.add_argument("--evaluate", action="store_true", help="test errors of the stored weights")
    parser.add_argument("--networks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the weights are")
    parser.add_argument("--data_dir", help="a folder with mnist.npz and cifar10.npz")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0: all")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    flags = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    data = {network: read(network, flags.data_dir) for network in flags.networks}
    if flags.train:
        return train(flags.networks, data, flags.folder)
    rows = [row for name in flags.networks for row in evaluate(name, data[name], flags.folder)]
    text, met = summary(flags.networks, rows)
    print(text)
    print("test errors in %, mean ± standard deviation; weights and MACs left: the seeds' largest")
    if flags.json:
        save_json(flags.json, {**machine(), "rows": rows})
    raise SystemExit(not met)


def read(network, data_dir, name=None):
    """All of the network's data set, or that of `name`; SystemExit where only a part is there."""
    name = name or ("cifar10" if network == "convnet" else "mnist")
    data = getattr(sc.zoo.datasets, name)(data_dir)
    if len(data.y_test) != 10_000:
        raise SystemExit(f"All of {name} is needed; got {data.source}.")
    return data


if __name__ == "__main__":
    main()
