"""Pictures of what is left of each kernel: rows are outputs, columns inputs in im2col order.

A weight that is left is dark. What went with whole nodes is tinted where it was; where an older run
does not say which nodes went, what is left stands together, top left.
"""

import base64
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from scalpel_tf.core import left_nodes
from scalpel_tf.core.layout import to_matrix
from scalpel_tf.core.pictures import downsample
from scalpel_tf.driver import nodes_left
from scalpel_tf.models import walk
from scalpel_tf.report_page import state as states
from scalpel_tf.report_page.drawing import PALETTE
from scalpel_tf.train import graph
from scalpel_tf.train.layers import kernels

ROWS, COLUMNS = 512, 1024  # pixels at most
SLENDER = (1.25, 8)  # the shape of a picture: width / height at least, at most
HALF = 3  # width / height above which a picture takes the page's whole width
TINT = 40 / 255
WIDE, NARROW = 980, 480  # pixels that it then has, and otherwise; fewer are repeated


@dataclass(frozen=True)
class Mask:
    """A kernel's picture.

    shape: (rows, columns) of the dense kernel; left: those of what nodes have left of it.
    in_place: whether what is left stands where it was.  nodes: of the layer that are left, packed;
    "" where none went.
    density: the fraction of the dense kernel's weights that is left.  aspect: width / height to
    show it in.  png: a data: address.  blocks: (rows, columns) of weights in a point of it.
    """

    name: str
    shape: tuple[int, int]
    left: tuple[int, int]
    in_place: bool
    nodes: str
    density: float
    aspect: float
    png: str
    blocks: tuple[int, int]


def masks(state: dict, folder: Path) -> list[Mask]:
    """One of each kernel that pruning acts on, in the network's order.

    Raises ValueError where a model of the run is missing or cannot be read.
    """
    dense = _model(folder / "dense.keras")
    now = _matrices(_model(states.final_weights(state, folder)))
    left = nodes_left.so_far(state)
    stays = _stays(dense, left) if left else {}
    found = []
    for name, matrix in _matrices(dense).items():
        if name in now:
            path = name if name in left else name.rpartition("/")[0]
            given = matrix.shape, now[name], stays.get(name), left.get(path, [])
            found.append(_mask(name, *given))
    return found


def _model(path):
    if not path.is_file():
        raise ValueError(f"{path.name} is not in the folder of the run")
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{path.name} cannot be loaded ({reason})") from error


def _matrices(model):
    """Name -> bool (rows, columns), True where a weight is not zero."""
    found = {}
    for path, layer in walk(model):
        for variable, kind in kernels(layer):
            found[_name(path, layer, variable)] = _matrix(variable.value.numpy() != 0, kind)
    return found


def _stays(dense, left):
    """Name -> bool (rows, columns), True where both nodes of a weight are left.

    left: {path of a layer: its nodes that are left}.
    """
    network = graph.read(dense)
    cut = [np.delete(call.made, left[call.path]) for call in network.makers() if call.path in left]
    gone = graph.is_cut(network, np.concatenate([*cut, np.zeros(0, int)]))
    found = {}
    for call, *_ in network.of_layer.values():
        axes = {id(w): nodes for w, nodes in zip(call.layer.weights, call.weights, strict=False)}
        for variable, kind in kernels(call.layer):
            stays = np.ones(variable.shape, bool)
            for axis, nodes in enumerate(axes.get(id(variable), ())):
                if nodes is not None:
                    np.moveaxis(stays, axis, 0)[gone(nodes)] = False
            found[_name(call.path, call.layer, variable)] = _matrix(stays, kind)
    return found


def _name(path, layer, variable):
    return path if len(kernels(layer)) == 1 else f"{path}/{variable.name}"


def _matrix(array, kind):
    matrix = to_matrix(array, kind)
    return matrix.reshape(len(matrix), -1)


def _mask(name, shape, keep, stays, nodes):
    """stays: where the weights of `keep` were, None where that is not known.  nodes: of the layer
    that are left; none where none went."""
    rows, columns = keep.shape
    in_place = stays is not None and stays.sum() == keep.size
    if not in_place:
        stays = np.zeros((max(shape[0], rows), max(shape[1], columns)), bool)
        stays[:rows, :columns] = True
    whole = np.zeros(stays.shape)
    whole[stays] = keep.ravel()
    shown, gone = (downsample(part, ROWS, COLUMNS) for part in (whole, ~stays))
    blocks = tuple(-(-n // m) for n, m in zip(whole.shape, shown.shape, strict=True))
    aspect = float(np.clip(whole.shape[1] / whole.shape[0], *SLENDER))
    width = WIDE if aspect > HALF else NARROW
    times = [-(-n // m) for n, m in zip((width / aspect, width), shown.shape, strict=True)]
    return Mask(
        name=name,
        shape=tuple(shape),
        left=(rows, columns),
        in_place=in_place,
        nodes=left_nodes.pack(nodes) if in_place and len(nodes) == rows else "",
        density=keep.sum() / (shape[0] * shape[1]),
        aspect=aspect,
        png=_png(*(np.kron(part, np.ones(list(map(int, times)))) for part in (shown, gone))),
        blocks=blocks,
    )


def _png(shown, gone):
    """RGBA: ink as opaque as the block is dense, its root so that few weights are seen too, over a
    tint as strong as the part of the block that is gone."""
    ink = np.sqrt(shown / max(shown.max(), 1e-12))[..., None]
    tint = TINT * gone[..., None] * (1 - ink)
    opaque = ink + tint
    colour = (ink * _rgb("ink") + tint * _rgb("undone")) / np.maximum(opaque, 1e-12)
    pixels = np.concatenate([colour, 255 * opaque], -1).round().astype(np.uint8)
    encoded = tf.io.encode_png(pixels, compression=9).numpy()
    return "data:image/png;base64," + base64.b64encode(encoded).decode()


def _rgb(name):
    light = PALETTE[name][0]
    return np.array([int(light[at : at + 2], 16) for at in (1, 3, 5)])
