"""Pictures of what is left of each kernel: rows are outputs, columns inputs in im2col order.

A weight that is left is dark. What went with whole nodes is tinted: the smaller network does not
say which they were, so that what is left stands together, top left.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from scalpel_tf.core.layout import to_matrix
from scalpel_tf.core.pictures import downsample
from scalpel_tf.models import walk
from scalpel_tf.report_page import state as states
from scalpel_tf.report_page.drawing import PALETTE
from scalpel_tf.train.layers import kernels

ROWS, COLUMNS = 512, 1024  # pixels at most
SLENDER = (1.25, 8)  # the shape of a picture: width / height at least, at most
HALF = 3  # width / height above which a picture takes the page's whole width
WIDE, NARROW = 980, 480  # pixels that it then has, and otherwise; fewer are repeated


@dataclass(frozen=True)
class Mask:
    """A kernel's picture.

    shape: (rows, columns) of the dense kernel; left: those of what nodes have left of it.
    density: the fraction of the dense kernel's weights that is left.  aspect: width / height to
    show it in.  png: a data: address.  blocks: (rows, columns) of weights in a point of it.
    """

    name: str
    shape: tuple[int, int]
    left: tuple[int, int]
    density: float
    aspect: float
    png: str
    blocks: tuple[int, int]


def masks(state: dict, folder: Path) -> list[Mask]:
    """One of each kernel that pruning acts on, in the network's order.

    Raises ValueError where a model of the run is missing or cannot be read.
    """
    dense, now = (_matrices(path) for path in _files(state, folder))
    return [_mask(name, matrix.shape, now[name]) for name, matrix in dense.items() if name in now]


def _files(state, folder):
    return folder / "dense.keras", states.final_weights(state, folder)


def _matrices(path):
    """Name -> bool (rows, columns), True where a weight is not zero."""
    if not path.is_file():
        raise ValueError(f"{path.name} is not in the folder of the run")
    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{path.name} cannot be loaded ({reason})") from error
    found = {}
    for name, layer in walk(model):
        variables = kernels(layer)
        for variable, kind in variables:
            matrix = to_matrix(variable.value.numpy() != 0, kind)
            own = name if len(variables) == 1 else f"{name}/{variable.name}"
            found[own] = matrix.reshape(len(matrix), -1)
    return found


def _mask(name, shape, keep):
    rows, columns = keep.shape
    whole = np.zeros((max(shape[0], rows), max(shape[1], columns)))
    whole[:rows, :columns] = keep
    shown = downsample(whole, ROWS, COLUMNS)
    blocks = tuple(-(-n // m) for n, m in zip(whole.shape, shown.shape, strict=True))
    gone = np.zeros(shown.shape, bool)
    gone[round(rows * shown.shape[0] / whole.shape[0]) :] = True
    gone[:, round(columns * shown.shape[1] / whole.shape[1]) :] = True
    aspect = float(np.clip(whole.shape[1] / whole.shape[0], *SLENDER))
    width = WIDE if aspect > HALF else NARROW
    times = [-(-n // m) for n, m in zip((width / aspect, width), shown.shape, strict=True)]
    return Mask(
        name=name,
        shape=tuple(shape),
        left=(rows, columns),
        density=keep.sum() / (shape[0] * shape[1]),
        aspect=aspect,
        png=_png(*(np.kron(part, np.ones(list(map(int, times)))) for part in (shown, gone))),
        blocks=blocks,
    )


def _png(shown, gone):
    """RGBA: ink as opaque as the block is dense, its root so that few weights are seen too."""
    pixels = np.zeros((*shown.shape, 4), np.uint8)
    pixels[..., :3] = _rgb("ink")
    pixels[..., 3] = np.round(255 * np.sqrt(shown / max(shown.max(), 1e-12)))
    pixels[gone > 0] = (*_rgb("undone"), 40)
    encoded = tf.io.encode_png(pixels, compression=9).numpy()
    return "data:image/png;base64," + base64.b64encode(encoded).decode()


def _rgb(name):
    light = PALETTE[name][0]
    return tuple(int(light[at : at + 2], 16) for at in (1, 3, 5))
