"""Weights, masks and inputs at random, so that what is exact is so for any of them."""

import keras
import numpy as np

from scalpel_tf.models import walk
from scalpel_tf.train.mask_layer import MaskLayer, find_masks


def randomise(model, seed):
    """Gives `model` random biases, offsets, scales and statistics; kernels keep theirs."""
    rng = np.random.default_rng(seed)
    for _, layer in walk(model):
        if isinstance(layer, MaskLayer):
            continue
        for variable in layer.weights:
            if "float" not in variable.dtype or "seed" in variable.name:
                continue
            if "variance" in variable.name or "gamma" in variable.name:
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
            elif len(variable.shape) < 2 or "bias" in variable.name or variable.name == "alpha":
                variable.assign(rng.normal(0, 0.1, variable.shape) + 0.05)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def samples(model, count=2, seed=0):
    """Random inputs in the structure that the model takes; integers from 0 to 10."""
    rng = np.random.default_rng(seed)

    def sample(tensor):
        shape = (count, *tensor.shape[1:])
        if "int" in tensor.dtype:
            return rng.integers(0, 11, shape).astype(tensor.dtype)
        return rng.normal(0, 1, shape).astype(tensor.dtype)

    return keras.tree.map_structure(sample, model.input)


def outputs(model, inputs):
    """The model's outputs as one flat list of arrays."""
    results = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(result) for result in results]


def drop(masked, seed):
    """Lets every MaskLayer of `masked` drop 30 to 60 % of its nodes, never all of them."""
    rng = np.random.default_rng(seed)
    for mask in find_masks(masked):
        alpha = np.ones(mask.nodes or mask.alpha.shape[0], np.float32)
        count = min(round(rng.uniform(0.3, 0.6) * alpha.size), alpha.size - 1)
        alpha[rng.permutation(alpha.size)[:count]] = 0
        mask.alpha.assign(alpha)
    return masked


def difference(model, other, inputs):
    """The largest difference of any output, as a fraction of that output's largest magnitude."""
    return distance(outputs(model, inputs), outputs(other, inputs))


def distance(expected, arrays):
    """As `difference`, of two lists of arrays."""
    pairs = zip(expected, arrays, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
