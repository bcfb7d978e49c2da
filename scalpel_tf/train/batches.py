"""A user's data, in whatever form `fit` takes it, as batches of (x, y, sample_weight)."""

from collections.abc import Iterator
from itertools import islice

import keras
import tensorflow as tf


def batches(data, *, batch_size: int = 128, limit: int | None = None) -> Iterator[tuple]:
    """(x, y, sample_weight) for every batch of `data`; y and sample_weight are None where absent.

    data: arrays x or (x, y) or (x, y, sample_weight), which are cut into `batch_size` in their
        order, x being one array, a list or a dict of them; or what gives batches itself: a
        tf.data.Dataset, a keras.utils.PyDataset, a generator or any other iterable of x or
        (x, y) or (x, y, sample_weight).
    limit: at most so many batches; all where None.

    Raises ValueError for data without batches, for arrays of different lengths, and for a
    `batch_size` or `limit` below 1.
    """
    for name, value in (("batch_size", batch_size), ("limit", limit)):
        if value is not None and value < 1:
            raise ValueError(f"The number of {name} is from 1 on; got {value}.")
    empty = True
    for batch in islice(_source(data, batch_size), limit):
        empty = False
        yield keras.utils.unpack_x_y_sample_weight(batch)
    if empty:
        raise ValueError("The data has no batches; is it an iterator that was read before?")


def _source(data, batch_size):
    if isinstance(data, keras.utils.PyDataset):
        return (data[index] for index in range(len(data)))
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    listed = isinstance(data, list) and any(isinstance(batch, tuple) for batch in data)
    if (
        leaves
        and not listed
        and all(hasattr(leaf, "shape") and hasattr(leaf, "__getitem__") for leaf in leaves)
    ):
        several = (data,) if isinstance(data, list) else data  # or the second input would be y
        return _slices(several, leaves, batch_size)
    if not hasattr(data, "__iter__"):
        raise ValueError(
            "Data is an array, a tuple (x, y) of arrays, a tf.data.Dataset, a PyDataset or an "
            f"iterable of batches; got a {type(data).__name__}."
        )
    return iter(data)


def _slices(data, leaves, batch_size):
    lengths = {len(leaf) for leaf in leaves}
    if len(lengths) > 1:
        raise ValueError(f"The arrays of the data have different lengths: {sorted(lengths)}.")
    for start in range(0, lengths.pop(), batch_size):
        yield keras.tree.map_structure(
            lambda leaf, start=start: None if leaf is None else leaf[start : start + batch_size],
            data,
        )


def as_tensors(batch):
    """The arrays of a batch as tensors, so that one traced function serves all batches."""
    return keras.tree.map_structure(lambda leaf: leaf if leaf is None else _tensor(leaf), batch)


def _tensor(leaf):
    tensor = tf.convert_to_tensor(leaf)
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 else tensor
