"""The stored runs behind the paper's tables, and their errors on one split of the data."""

import sys
from dataclasses import dataclass
from pathlib import Path

import node_pruning
import numpy as np
import small_networks
from folds import FOLDS

from scalpel_tf.deploy import convert, tflite
from scalpel_tf.deploy.export import quantise

sys.path.append(str(Path(__file__).parents[1]))  # of what is in benchmarks/ itself

FOLDER = node_pruning.FOLDER
SCRIPT = {
    "": "benchmarks/lenet_300_100.py --train",
    "node_pruning": "benchmarks/paper/node_pruning.py --train",
    "weight_pruning": "benchmarks/paper/weight_pruning.py",
    "fashion_mnist": "benchmarks/lenet_300_100.py --dataset fashion_mnist --train",
    "fashion_mnist/weight_pruning": "benchmarks/paper/weight_pruning.py --dataset fashion_mnist "
    "--networks lenet_300_100",
}
CALIBRATION = 500  # training images that set the ranges of int8 activations
EPSILON = 1e-9  # points of error
CLOSE = 8  # steps of an int8 output
CHECKED = 100  # images on which the reference kernels are run whatever the answers


@dataclass(frozen=True)
class Network:
    """A network of the zoo with stored runs; paths are "folder/name", of which the seeds follow.

    groups: in groups for a microcontroller, the ways to be tried.  nodes: without some nodes.
    """

    name: str
    zoo: str
    dense: str
    groups: tuple[str, ...]
    nodes: tuple[str, ...]
    seeds: tuple[int, ...]


NETWORKS = {
    network.name: network
    for network in (
        Network(
            "LeNet-300-100",
            "lenet_300_100",
            "lenet_300_100_dense",
            (
                "weight_pruning/lenet_300_100_w4",
                "lenet_300_100_w4",
            ),
            ("node_pruning/lenet_300_100_masks",),
            (0, 1, 2),
        ),
        Network(
            "LeNet-5",
            "lenet_5",
            "node_pruning/lenet_5_dense",
            ("weight_pruning/lenet_5_w4",),
            ("node_pruning/lenet_5_masks", "node_pruning/lenet_5_mild"),
            (0, 1, 2),
        ),
        Network(
            "ConvNet",
            "convnet",
            "node_pruning/convnet_dense",
            ("weight_pruning/convnet_fewer", "weight_pruning/convnet_w8"),
            ("node_pruning/convnet_masks",),
            (0,),
        ),
    )
}
# No setting of LeNet-300-100's changed for it.
FASHION = Network(
    "LeNet-300-100",
    "lenet_300_100",
    "fashion_mnist/lenet_300_100_dense",
    ("fashion_mnist/weight_pruning/lenet_300_100_w4", "fashion_mnist/lenet_300_100_w4"),
    (),
    (0, 1, 2),
)


def path(folder: Path, stem: str, seed: int) -> Path:
    return folder / f"{stem}_s{seed}.npz"


def seeds(folder: Path, network: Network, *stems: str) -> tuple[list[int], list[str]]:
    """(the seeds whose runs are all there, what is missing and what makes it)."""
    absent = {
        seed: [stem for stem in stems if not path(folder, stem, seed).exists()]
        for seed in network.seeds
    }
    sentences = [
        advice(path(Path(), stem, seed).as_posix())
        for seed, names in absent.items()
        for stem in names
    ]
    return [seed for seed, names in absent.items() if not names], sentences


def advice(file: str) -> str:
    """What makes a file that is missing; its path in the folder of checkpoints."""
    folder, _, name = file.rpartition("/")
    return f"{name}: python {SCRIPT[folder]}"


def load(folder: Path, network: Network, stem: str, seed: int):
    return small_networks.load(path(folder, stem, seed), network.zoo)[0]


def worse(folder: Path, network: Network, stem: str, seeds: list[int]) -> float:
    """Points by which the mean error of its runs is above that of the dense ones on validation
    images, by what they were stored with; every choice goes by that. 0 of no runs.

    Those of folds.py decide where they are there, since they validate every training image.
    """
    pairs = [(folder, seed) for seed in seeds]
    pairs = folds(folder, network, stem) or pairs
    means = [
        np.mean(
            [
                small_networks.load(path(part, name, seed), network.zoo)[1]["validation_error"]
                for part, seed in pairs
            ]
            or [0.0]
        )
        for name in (stem, network.dense)
    ]
    return float(means[0] - means[1])


def folds(folder: Path, network: Network, stem: str) -> list[tuple[Path, int]]:
    """(folder, seed) of each run of folds.py, if all of them are there."""
    found = [(folder / "folds" / str(index), index) for index in range(FOLDS)]
    stems = (stem, network.dense)
    there = [path(part, name, seed).exists() for part, seed in found for name in stems]
    return found if all(there) else []


def no_worse(ours: list[float], dense: list[float]) -> bool:
    """Whether the mean error is at most the dense networks'; yes where there are no errors."""
    return not ours or sum(ours) / len(ours) <= sum(dense) / len(dense) + EPSILON


def images(data, split: str):
    """(images, labels) of "test" or "validation"."""
    return {"test": (data.x_test, data.y_test), "validation": (data.x_valid, data.y_valid)}[split]


def to_int8(model, data) -> bytes:
    """The int8 network, whose ranges are those of some training images."""
    return convert.convert(model, data.x_train[:: len(data.x_train) // CALIBRATION])


def int8_error(int8: bytes, x: np.ndarray, labels: np.ndarray) -> float:
    """The percentage of the images that the int8 network puts into a wrong class.

    TensorFlow Lite's reference kernels, which the C on a Cortex-M equals bit for bit, decide
    wherever its optimised ones find two answers within CLOSE steps of each other. RuntimeError
    where the two kinds are so far apart, on some of the images, that this could be wrong.
    """
    network = tflite.read(int8)
    tensor = network.tensors[network.inputs[0]]
    entry = {"scale": tensor.scale[0], "zero_point": tensor.zero_point[0], "dtype": "int8"}
    x = quantise(x, entry)
    outputs = optimised(int8, x).astype(int)
    best = np.sort(outputs, -1)
    decide = best[:, -1] - best[:, -2] <= CLOSE
    decide[:CHECKED] = True
    reference = convert.run_reference(int8, x[decide])[0].reshape(-1, outputs.shape[1]).astype(int)
    if np.abs(reference - outputs[decide]).max() > CLOSE // 2:
        raise RuntimeError(f"LiteRT's kernels differ by more than {CLOSE // 2} steps.")
    outputs[decide] = reference
    return 100 * float(np.mean(np.argmax(outputs, -1) != labels))


def optimised(int8: bytes, x: np.ndarray) -> np.ndarray:
    """What LiteRT's optimised kernels, without XNNPACK, make of each image."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=int8, experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for image in x:
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(made["index"])[0])
    return np.stack(outputs)
