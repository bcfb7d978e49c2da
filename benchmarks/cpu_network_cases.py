"""The five networks of the paper's Table 3, as they were and as they are pruned for a CPU.

LeNet-300-100, LeNet-5 and ConvNet have the weights of checkpoints/. NIN and AlexNet have random
weights and are there for their speed only, at published structures: nodes of the authors' later
models, and for AlexNet's fully connected layers the densities of Han et al. (2015).
AlexNet's filters are rounded up to even numbers, since three of its layers are in two groups.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cpu_ours
import keras
import numpy as np

import scalpel_tf as sc
from scalpel_tf.zoo import networks

sys.path.append(str(Path(__file__).parent / "paper"))
import small_networks  # noqa: E402

FOLDER = Path(__file__).parent / "checkpoints"
WIDTH = 8
NIN_NODES = (117, 81, 62, 183, 123, 148, 91, 54)
ALEXNET_NODES = (84, 226, 234, 238, 254, 4096, 4096)  # published: 83, 225, 233, 238, 253
ALEXNET_DENSITY = {"fc6": 0.09, "fc7": 0.09, "fc8": 0.25}
# Element-wise densities of Han et al. (NIPS 2015); ConvNet and NIN are not in that paper, and have
# what its AlexNet has in most of its convolutions.
HAN = {
    "LeNet-300-100": {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26},
    "LeNet-5": {"conv1": 0.66, "conv2": 0.12, "fc1": 0.08, "fc2": 0.19},
    "ConvNet": {"": 0.37},
    "NIN": {"": 0.37},
    "AlexNet": dict(
        zip(
            ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"),
            (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25),
            strict=True,
        )
    ),
}
RANDOM = "random weights, speed only"


@dataclass(frozen=True)
class Case:
    """A network; each function makes a Keras model.

    dense: None where its weights are missing.  pruned: by the way it was pruned.
    weights: by the same names, where they come from.
    traditional: element-wise densities by layer, "" for all layers.
    """

    name: str
    dense: Callable[[], keras.Model] | None
    pruned: dict[str, Callable[[], keras.Model]]
    weights: dict[str, str]
    traditional: dict[str, float]
    facts: dict = field(default_factory=dict)


def stored(network: str, name: str, checkpoints: Path, dense: Path, found: dict[str, Path]) -> Case:
    """A case of checkpoints; those that are missing are left out, and `facts` names them.

    A network with nodes that lost all weights is there with them and without ("cut"): its outputs
    are the same, but the groups of the next layer shift.
    """
    there = {way: path for way, path in found.items() if path.exists()}
    paths = [path for path in (dense, *found.values()) if not path.exists()]
    missing = [path.relative_to(checkpoints).as_posix() for path in paths]

    def load(path):
        return small_networks.load(path, network)[0]

    def cut(path):
        return sc.shrink(load(path))

    ways = {way: (partial(load, path), path) for way, path in there.items()}
    for way, path in there.items():
        if load(path).count_params() != cut(path).count_params():
            ways[f"{way}, cut"] = partial(cut, path), path
    return Case(
        name,
        partial(load, dense) if dense.exists() else None,
        {way: make for way, (make, _) in ways.items()},
        {way: str(path.relative_to(checkpoints)) for way, (_, path) in ways.items()},
        HAN[name],
        {"missing": missing} if missing else {},
    )


def lenet_300_100(folder: Path) -> Case:
    """Groups, and fewer of them."""
    paths = {"groups": folder / "lenet_300_100_w4_s0.npz"}
    paths["fewer groups"] = folder / "weight_pruning" / "lenet_300_100_w4_s0.npz"
    dense = folder / "lenet_300_100_dense_s0.npz"
    return stored("lenet_300_100", "LeNet-300-100", folder, dense, paths)


def lenet_5(folder: Path) -> Case:
    """Nodes of the convolutions and then groups of the fully connected layers."""
    paths = {"nodes+groups": folder / "weight_pruning" / "lenet_5_cpu_s0.npz"}
    paths["nodes"] = folder / "node_pruning" / "lenet_5_masks_s0.npz"
    paths["more nodes+groups"] = folder / "weight_pruning" / "lenet_5_mild_s0.npz"
    dense = folder / "node_pruning" / "lenet_5_dense_s0.npz"
    return stored("lenet_5", "LeNet-5", folder, dense, paths)


def convnet(folder: Path) -> Case:
    """The paper's nodes, and groups: our sparse convolutions win where the paper's lost."""
    paths = {"groups": folder / "weight_pruning" / "convnet_w8_s0.npz"}
    paths["fewer groups"] = folder / "weight_pruning" / "convnet_fewer_s0.npz"
    paths["nodes"] = folder / "node_pruning" / "convnet_masks_s0.npz"
    dense = folder / "node_pruning" / "convnet_dense_s0.npz"
    return stored("convnet", "ConvNet", folder, dense, paths)


def nin(folder: Path) -> Case:
    pruned = {"nodes": partial(seeded, networks.nin, NIN_NODES)}
    dense = partial(seeded, networks.nin)
    return Case("NIN", dense, pruned, {"nodes": RANDOM}, HAN["NIN"])


def alexnet(folder: Path) -> Case:
    def prune():
        return random_groups(seeded(networks.alexnet, ALEXNET_NODES), ALEXNET_DENSITY, WIDTH)

    dense = partial(seeded, networks.alexnet)
    weights = {"nodes+groups": RANDOM}
    return Case("AlexNet", dense, {"nodes+groups": prune}, weights, HAN["AlexNet"])


def seeded(build, *arguments) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build(*arguments)


def random_groups(model: keras.Model, density: dict[str, float], width: int) -> keras.Model:
    """The model, of whose layers density[layer] is kept in random groups of weights."""
    rng = np.random.default_rng(0)
    for name, kept in density.items():
        kernel = model.get_layer(name).kernel
        shape, out = kernel.shape, kernel.shape[-1]
        cols = int(np.prod(shape[:-1]))
        mask = cpu_ours.random_mask(out, cols, kept, width, rng).T.reshape(shape)
        kernel.assign(np.where(mask, kernel.numpy(), np.float32(0)))
    return model


CASES = {
    "lenet_300_100": lenet_300_100,
    "lenet_5": lenet_5,
    "convnet": convnet,
    "nin": nin,
    "alexnet": alexnet,
}
