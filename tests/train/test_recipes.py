import itertools
import json

import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.train.callbacks import TrainMasks
from scalpel_tf.train.mask_layer import UNIT, MaskLayer, find_masks
from scalpel_tf.train.recipes import Round, prune_by_masks

NODES = 10


def masked_model():
    keras.utils.set_random_seed(0)
    mask = MaskLayer(**{**UNIT, "gain": 1.0}, l1=0.0, name="mask")
    hidden = layers.Dense(NODES, activation="relu", name="hidden")
    return keras.Sequential([keras.Input((2,)), hidden, mask, layers.Dense(2, name="last")])


class Work:
    """What a user gives: each round drops two nodes and adds 1 to a bias, or dies before that.

    `accuracies` are what `evaluate` finds from the baseline on; the last bias says which is next.
    """

    def __init__(self, *accuracies, dies_at=None):
        self.accuracies, self.dies_at, self.log = accuracies, dies_at, []

    def train_masks(self, model, l1):
        (mask,) = find_masks(model)
        assert mask.l1.numpy() == np.float32(l1) and not mask.frozen.numpy()
        self.log.append(l1)
        mask.alpha.assign(np.arange(NODES) >= 2 + NODES - mask.keep.sum())

    def retrain(self, model):
        assert find_masks(model)[0].frozen.numpy()
        if self.log[-1] == self.dies_at:
            raise KeyboardInterrupt
        model.get_layer("last").bias.assign_add([0, 1])

    def evaluate(self, model):
        return self.accuracies[rounds_of(model)]

    def run(self, l1, model=None, **settings):
        return prune_by_masks(
            model or masked_model(),
            train_masks=self.train_masks,
            retrain=self.retrain,
            evaluate=self.evaluate,
            l1=l1,
            **settings,
        )


def rounds_of(model):
    return int(model.get_layer("last").bias.numpy()[1])


def nodes_of(model):
    return int(find_masks(model)[0].keep.sum())


@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize(
    "accuracies, max_drop, good",
    [
        ((0.9, 0.9, 0.95, 0.89), 0.0, 2),
        ((0.9, 0.89), 0.0, 0),
        ((0.9, 0.89, 0.88, 0.879), 0.02, 2),  # 0.9 - 0.02 is 0.88 but for rounding
        ((0.5, 0.5, 0.5, 0.5), 0.0, 3),  # ends with `l1`
    ],
)
def test_it_ends_at_the_last_good_round(tmp_path, in_folder, accuracies, max_drop, good):
    work = Work(*accuracies)
    folder = tmp_path / "new" / "run" if in_folder else None
    masked = work.run([0.25, 0.5, 0.75], max_drop=max_drop, folder=folder)
    done = len(accuracies) - 1
    assert work.log == [0.25, 0.5, 0.75][:done]
    assert (rounds_of(masked), nodes_of(masked)) == (good, NODES - 2 * good)
    assert find_masks(masked)[0].frozen.numpy()
    assert list(masked.rounds) == [
        Round(l1, accuracies[i + 1], NODES - 2 * (i + 1), i < good) for i, l1 in enumerate(work.log)
    ]
    if in_folder:
        assert sorted(path.name for path in folder.iterdir()) == [
            f"round_{good}.weights.h5",
            "rounds.json",
        ]


def test_no_more_penalties_are_taken_than_needed():
    taken = []
    l1 = (taken.append(value) or value for value in itertools.count(1))
    Work(0.9, 0.9, 0.1).run(l1)
    assert taken == [1, 2]


def test_it_saves_with_its_rounds(tmp_path):
    masked = Work(0.9, 0.9).run([0.5])
    masked.save(tmp_path / "masked.keras")
    again = keras.models.load_model(tmp_path / "masked.keras")
    assert (rounds_of(again), nodes_of(again)) == (1, NODES - 2)


def test_a_killed_run_goes_on(tmp_path):
    """It dies in its third round, with masks of that round; the next process starts that round."""
    accuracies = (0.9, 0.91, 0.92, 0.93, 0.1)
    with pytest.raises(KeyboardInterrupt):
        Work(*accuracies, dies_at=3).run(itertools.count(1), folder=tmp_path)
    (tmp_path / "round_3.weights.h5").write_bytes(b"written before the state was")
    (tmp_path / "tmp.weights.h5").write_bytes(b"written in part")
    work = Work(*accuracies)
    masked = work.run(itertools.count(1), folder=tmp_path)
    assert work.log == [3, 4]
    whole = Work(*accuracies).run(itertools.count(1))
    assert list(masked.rounds) == list(whole.rounds) and len(masked.rounds) == 4
    for one, other in zip(masked.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


def test_a_run_that_has_ended_is_not_repeated(tmp_path):
    Work(0.9, 0.9, 0.1).run([1, 2, 3], folder=tmp_path)
    work = Work()
    masked = work.run([1, 2, 3], folder=tmp_path)
    assert work.log == [] and (rounds_of(masked), nodes_of(masked)) == (1, NODES - 2)
    assert [entry.good for entry in masked.rounds] == [True, False]


def test_a_run_that_was_good_to_the_end_takes_more(tmp_path):
    Work(0.9, 0.9).run([1], folder=tmp_path)
    work = Work(None, None, 0.95)
    masked = work.run([1, 2], folder=tmp_path)
    assert work.log == [2] and rounds_of(masked) == 2


def test_the_state_is_written_last(tmp_path, monkeypatch):
    """Killed between the two files of a round, the folder still holds the round before."""
    work = Work(0.9, 0.9, 0.9)
    dump = json.dumps

    def die(state, **settings):
        if len(state["rounds"]) == 2:
            raise KeyboardInterrupt
        return dump(state, **settings)

    monkeypatch.setattr(json, "dumps", die)
    with pytest.raises(KeyboardInterrupt):
        work.run([1, 2], folder=tmp_path)
    monkeypatch.undo()
    again = Work(0.9, 0.9, 0.9)
    assert rounds_of(again.run([1, 2], folder=tmp_path)) == 2 and again.log == [2]


def test_the_loop_on_real_training():
    """Neurons 0 and 1 tell classes apart, the others are idle: those go, and only those."""
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    masked = masked_model()
    hidden, _, last = masked.layers
    idle = [0.0] * (NODES - 2)
    hidden.kernel.assign([[1, -1, *idle], [0, 0, *idle]])
    hidden.bias.assign([0, 0, *[-1] * (NODES - 2)])
    last.kernel.assign([[0, 1], [1, 0], *[[0, 0]] * (NODES - 2)])

    def fit(model, *callbacks, epochs=1):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"], run_eagerly=True)
        model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)

    prune_by_masks(
        masked,
        train_masks=lambda model, l1: fit(model, TrainMasks(), epochs=5),
        retrain=fit,
        evaluate=lambda model: model.evaluate(x, y, verbose=0)[1] if model.compiled else 1.0,
        l1=[0.0625, 0.125],
        max_drop=0.05,
    )
    # a pull of rate * l1 in each of 10 steps: beta stays above a half in the first round only
    assert [entry.nodes for entry in masked.rounds] == [NODES, 2]
    assert find_masks(masked)[0].keep.tolist() == [True, True] + [False] * (NODES - 2)


def empties(model, l1):
    find_masks(model)[0].alpha.assign(np.zeros(NODES))


@pytest.mark.parametrize(
    "l1, accuracies, settings, message",
    [
        ([1, 1], (0.9, 0.9), {}, "`l1` increases from above 0 on; got 1 after 1"),
        ([0.0], (0.9,), {}, "got 0.0 after 0"),
        ([1, float("nan")], (0.9, 0.9), {}, "got nan after 1"),
        ([1], (float("nan"),), {}, "`evaluate` returned nan"),
        ([1, 2], (0.9, 0.9, float("inf")), {}, "`evaluate` returned inf"),
        ([1], (0.9,), {"train_masks": empties}, "`l1` 1 took all 10 nodes of 'mask'"),
    ],
)
def test_errors_leave_the_last_good_state(l1, accuracies, settings, message):
    work, masked = Work(*accuracies), masked_model()
    vars(work).update(settings)
    with pytest.raises(ValueError, match=message):
        work.run(l1, model=masked)
    good = max(0, len(accuracies) - 1 - (accuracies[-1] == float("inf")))
    assert (rounds_of(masked), nodes_of(masked)) == (good, NODES - 2 * good)


def test_a_model_without_masks_is_refused():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="last")])
    with pytest.raises(ValueError, match="has no MaskLayer"):
        Work(0.9).run([1], model=model)


def test_a_folder_of_another_run_is_refused(tmp_path):
    Work(0.9, 0.9).run([1], folder=tmp_path)
    with pytest.raises(ValueError, match="another run, whose round 1 had `l1` 1, not 2"):
        Work(0.9, 0.9).run([2], folder=tmp_path)
    other = keras.Sequential([keras.Input((3,)), MaskLayer(), layers.Dense(2, name="last")])
    with pytest.raises(ValueError, match="do not fit the model .* give an empty folder"):
        Work(0.9).run([1], model=other, folder=tmp_path)
