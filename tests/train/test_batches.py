import keras
import numpy as np
import pytest
import tensorflow as tf

from scalpel_tf.train.batches import batches

X = np.arange(5.0)[:, None]
Y = np.arange(10, 15)


class Loader(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


def generator():
    for index in range(3):
        yield Loader()[index]


FORMS = {
    "x": (X, None),
    "x without y": ((X, None), None),
    "x and y": ((X, Y), Y),
    "x, y and weights": ((X, Y, np.ones(5)), Y),
    "several inputs": (([X, X], Y), Y),
    "several inputs without y": ([X, X], None),
    "inputs by name": (({"a": X, "b": X}, Y), Y),
    "dataset": (tf.data.Dataset.from_tensor_slices((X, Y)).batch(2), Y),
    "loader": (Loader(), Y),
    "generator": (generator, Y),
    "list of batches": ([(X[:2], Y[:2]), (X[2:4], Y[2:4]), (X[4:], Y[4:])], Y),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_batches(form):
    data, y = FORMS[form]
    seen = list(batches(data() if form == "generator" else data, batch_size=2))
    assert [len(keras.tree.flatten(x)[0]) for x, _, _ in seen] == [2, 2, 1]
    for part in range(len(keras.tree.flatten(seen[0][0]))):
        whole = np.concatenate([keras.tree.flatten(x)[part] for x, _, _ in seen])
        np.testing.assert_array_equal(whole, X)
    targets = [target for _, target, _ in seen]
    if y is None:
        assert targets == [None] * 3
    else:
        np.testing.assert_array_equal(np.concatenate(targets), y)
    assert (seen[0][2] is not None) == (form == "x, y and weights")


def test_no_more_than_the_limit():
    def endless():
        while True:
            yield X

    assert len(list(batches(endless(), limit=4))) == 4
    assert len(list(batches(X, batch_size=1, limit=4))) == 4


@pytest.mark.parametrize(
    "data, settings, words",
    [
        (iter([]), {}, "no batches"),
        (X[:0], {}, "no batches"),
        ((X, Y[:3]), {}, r"different lengths: \[3, 5\]"),
        (3, {}, "got a int"),
        (X, {"batch_size": 0}, "batch_size is from 1 on; got 0"),
        (X, {"limit": 0}, "limit is from 1 on; got 0"),
    ],
)
def test_data_that_does_not_fit(data, settings, words):
    with pytest.raises(ValueError, match=words):
        list(batches(data, **settings))
