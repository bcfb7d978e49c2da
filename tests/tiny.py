"""The hand-written project of data/tiny_project, and what it computes."""

import shutil
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).parent / "data" / "tiny_project"
WEIGHTS = np.array([1, -2, 3, -4, 5, -6, 7, -8])


def inputs(samples, seed=0):
    """One int8 array of (samples, 9) and one float32 array of (samples,)."""
    random = np.random.default_rng(seed)
    x = random.integers(-128, 128, (samples, 9)).astype(np.int8)
    return [x, np.arange(samples, dtype=np.float32)]


def expected(arrays):
    """Its two outputs; exact, as every number in it is a small multiple of 1/2."""
    x, y = arrays
    sums = np.stack([x[:, :8] @ WEIGHTS, x[:, 1:] @ WEIGHTS], axis=1)
    sums = np.maximum(sums, 0).astype(np.int32)
    return [sums, (y * sums[:, 0] + 0.5).astype(np.float32)]


def changed(folder, old, new):
    """A copy of the project, one piece of its model.c replaced."""
    shutil.copytree(PROJECT, folder)
    text = (folder / "model.c").read_text()
    if text.count(old) != 1:
        raise ValueError(f"{old!r} is {text.count(old)} times in model.c, not once.")
    (folder / "model.c").write_text(text.replace(old, new))
    return folder
