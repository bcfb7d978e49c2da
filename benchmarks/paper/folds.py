"""Cross-validation: the dense and the pruned network, trained anew, each time without other images.

    python benchmarks/paper/folds.py          # makes what is missing

The validation split is 5,000 images, on which two LeNet-300-100 differ by chance by a dozen errors.
Here every training image of MNIST is validated once: FOLDS times, a sixth of them is held back, a
dense network is trained on the others and pruned, both by the recipes of node_pruning.py and
weight_pruning.py, with the fold's number as seed. Needs all of MNIST (SCALPEL_TF_DATA, --data_dir
or a download). Nothing here reads the test split; paper.py chooses by these runs where they exist.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import node_pruning
import numpy as np
import tensorflow as tf
import weight_pruning

FOLDS = 6
FOLDER = node_pruning.FOLDER / "folds"
NETWORK, METHOD = "lenet_300_100", "w4"


def fold(data, index):
    """The data set with part `index` of FOLDS of all training images, shuffled, for validation."""
    x = np.concatenate([data.x_train, data.x_valid])
    y = np.concatenate([data.y_train, data.y_valid])
    # RandomState: its stream is the same in every version of numpy.
    parts = np.array_split(np.random.RandomState(1).permutation(len(x)), FOLDS)
    valid = parts.pop(index)
    train = np.concatenate(parts)
    return replace(data, x_train=x[train], y_train=y[train], x_valid=x[valid], y_valid=y[valid])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(FOLDS)))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--data_dir", help="a folder with mnist.npz")
    parser.add_argument("--threads", type=int, default=0, help="of TensorFlow; 0: all")
    flags = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(flags.threads)
    data = node_pruning.read(NETWORK, flags.data_dir)
    for index in flags.folds:
        part = fold(data, index)
        weight_pruning.run(NETWORK, METHOD, index, part, flags.folder / str(index))


if __name__ == "__main__":
    main()
