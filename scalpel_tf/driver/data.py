"""The user's data, in the forms that `fit` takes, cut into training and validation."""

import keras
import numpy as np
import tensorflow as tf

from scalpel_tf.train.batches import as_tensors, batches

VALIDATION = 0.1
BATCH = 256
KERAS_BATCH = 32  # of `fit`, where nothing else is asked for
SAMPLES = 200


class Data:
    """Training and validation data of a run.

    data: arrays (x, y) or (x, y, sample_weight), where each may be a list or dict of arrays; a
        tf.data.Dataset of batches or a keras.utils.PyDataset; or a function of no arguments that
        returns one of these, called before every step, after the seeds are set.
    validation: the same; where None, the last tenth of a fixed shuffle of the arrays.
    """

    def __init__(self, data, validation=None, options: dict | None = None):
        self.options = dict(options or {})
        self._make = data if callable(data) and not _is_batched(data) else None
        first = self._make() if self._make else data
        if isinstance(first, (list, tuple)):
            first = _checked(first)
        elif not _is_batched(first):
            raise ValueError(
                "`data` is (x, y), a tf.data.Dataset, a PyDataset, or a function that returns one; "
                f"got a {type(first).__name__}."
            )
        if validation is None:
            if self._make or not isinstance(first, tuple):
                raise ValueError(
                    "Only arrays (x, y) can be cut into training and validation here; give "
                    "`validation_data` beside a dataset."
                )
            first, validation = _cut(first)
        if isinstance(validation, (list, tuple)):
            validation = _checked(validation)
        self._first, self.validation = first, validation
        self._validation = None

    def train(self):
        """What to give to `fit`: its arguments; of arrays, batches in an order of the seed."""
        options = dict(self.options)
        shuffle = options.get("shuffle", True)
        data = self._make() if self._make else self._first
        if not _are_plain(data) or shuffle not in (True, False):
            return _arguments(data) | options
        options.pop("shuffle", None)
        size = options.pop("batch_size", None) or KERAS_BATCH
        return {"x": _pipeline(data, size, shuffle), "shuffle": False, **options}

    def evaluate(self):
        """What to give to `evaluate`: its arguments."""
        if _is_batched(self.validation):
            return {"x": self.validation}
        size = self.options.get("validation_batch_size") or self.options.get("batch_size") or 0
        size = max(size, BATCH)
        if not _are_plain(self.validation):
            return _arguments(self.validation) | {"batch_size": size}
        if self._validation is None:
            self._validation = _pipeline(self.validation, size, False)
        return {"x": self._validation}

    def samples(self) -> list[np.ndarray]:
        """Up to 200 inputs of the training data, one array for each input of the model."""
        rows, found = 0, []
        for x, _, _ in batches(self._first, batch_size=SAMPLES):
            found.append([np.asarray(leaf) for leaf in keras.tree.flatten(x)])
            rows += len(found[-1][0])
            if rows >= SAMPLES:
                break
        return [np.concatenate(parts)[:SAMPLES] for parts in zip(*found, strict=True)]

    def few(self):
        """Some batches for criteria that are measured on data."""
        return list(batches(self._first, batch_size=128, limit=16))


def _is_batched(data):
    return isinstance(data, keras.utils.PyDataset) or hasattr(data, "element_spec")


def _are_plain(data):
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    return not _is_batched(data) and all(
        isinstance(leaf, tf.Tensor) or (isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf")
        for leaf in leaves
    )


def _pipeline(arrays, batch_size, shuffle):
    """Batches of (x, y) or (x, y, sample_weight), as Keras itself makes them of arrays.

    But without tf.data's autotuning, which has nothing to tune here: in TensorFlow 2.21 its thread
    can miss that it was cancelled, and the end of every epoch and evaluation then waits for its
    next turn, up to as long as they have taken.
    """
    tensors = keras.tree.lists_to_tuples(as_tensors(arrays))
    count = len(next(leaf for leaf in keras.tree.flatten(tensors) if leaf is not None))
    rows = tf.data.Dataset.range(count)
    rows = (rows.shuffle(count) if shuffle else rows).batch(batch_size)
    gathered = rows.map(
        lambda chosen: keras.tree.map_structure(
            lambda leaf: None if leaf is None else tf.gather(leaf, chosen), tensors
        )
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    return gathered.prefetch(2).with_options(options)


def _arguments(data):
    if _is_batched(data):
        return {"x": data}
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    return {"x": x, "y": y} | ({} if weight is None else {"sample_weight": weight})


def _checked(data):
    leaves = [leaf for leaf in keras.tree.flatten(tuple(data)) if leaf is not None]
    if len(data) not in (2, 3) or not all(hasattr(leaf, "shape") for leaf in leaves):
        raise ValueError(
            "`data` of arrays is (x, y) or (x, y, sample_weight); got "
            f"{len(data)} parts of {', '.join(type(leaf).__name__ for leaf in data)}."
        )
    lengths = {len(leaf) for leaf in leaves}
    if len(lengths) > 1 or min(lengths) < 10:
        raise ValueError(
            f"The arrays of `data` have one length, of at least 10 examples; got {sorted(lengths)}."
        )
    return tuple(data)


def _cut(data):
    """(training, validation): the last tenth of a fixed shuffle."""
    count = len(next(leaf for leaf in keras.tree.flatten(data) if leaf is not None))
    order = np.random.RandomState(0).permutation(count)
    parts = np.split(order, [count - int(count * VALIDATION)])
    return tuple(
        keras.tree.map_structure(
            lambda leaf, part=part: None if leaf is None else np.asarray(leaf)[part], data
        )
        for part in parts
    )
