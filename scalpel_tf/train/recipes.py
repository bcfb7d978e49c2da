"""Recipes: they call the functions that train, which are the user's, and decide when to stop."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import keras

from scalpel_tf.train.mask_callbacks import nodes
from scalpel_tf.train.mask_layer import find_masks

STATE = "rounds.json"


class Round(NamedTuple):
    """One round of `prune_by_masks`: `nodes` are those left, `good` whether accuracy recovered."""

    l1: float
    accuracy: float
    nodes: int
    good: bool


def prune_by_masks(
    masked: keras.Model,
    *,
    train_masks: Callable[[keras.Model, float], object],
    retrain: Callable[[keras.Model], object],
    evaluate: Callable[[keras.Model], float],
    l1: Iterable[float],
    max_drop: float = 0.0,
    folder: str | Path | None = None,
) -> keras.Model:
    """The masked model at its last good state, masks frozen; `.rounds` says how it got there.

    Each round takes the next `l1`, trains masks and weights, then, with frozen masks, the weights
    alone. Where that does not bring the accuracy back, the round before it is the last good one,
    and the end (Yu et al., Scalpel, ISCA 2017, section 4.2).

    masked: a model of `add_masks`; it is changed in place.
    train_masks, retrain: compile and fit the model, the first with callbacks.TrainMasks().
    evaluate: the accuracy, on data kept for validation; higher is better.
    l1: increasing penalties, a sequence or a generator, of which no more is taken than needed.
    max_drop: how far below its first value the accuracy may end, as `evaluate` measures it.
    folder: keeps the rounds and the weights of the last good one, so that a run that was killed
        goes on with the round that it was in. The optimizer is not kept. A run that has come to its
        end is not repeated.

    Raises ValueError for a model without MaskLayer, an `l1` that does not increase, an accuracy
    that is not finite, a `folder` of another run, and a layer that lost all its nodes. After any
    error the model is as it was after the last good round.
    """
    masks = find_masks(masked)
    run = _Run(masked, folder)
    if run.baseline is None:
        run.begin(_finite(evaluate(masked)))
    penalties = enumerate(_increasing(l1))
    while run.goes_on and (following := next(penalties, None)):
        index, value = following
        if index < len(run.rounds):
            run.check(index, value)
            continue
        try:
            _train(masked, value, train_masks, retrain)
            accuracy = _finite(evaluate(masked))
        except Exception:
            run.go_back()
            raise
        good = accuracy >= run.baseline - max_drop - 1e-9
        run.end(Round(value, accuracy, nodes(masked), good))
    for mask in masks:
        mask.frozen.assign(True)
    masked.rounds = tuple(run.rounds)
    return masked


def _train(masked, l1, train_masks, retrain):
    masks = find_masks(masked)
    for mask in masks:
        mask.l1.assign(l1)
        mask.frozen.assign(False)
    train_masks(masked, l1)
    for mask in masks:
        mask.frozen.assign(True)
        if not mask.keep.any():
            raise ValueError(
                f"`l1` {l1:g} took all {len(mask.keep)} nodes of {mask.name!r}; the model is as it "
                "was before that round: raise `l1` in smaller steps."
            )
    retrain(masked)


class _Run:
    """The rounds so far and the weights of the last good one, in memory and in a folder.

    `STATE` names the file of the weights that belong to it and is replaced last, so that the two
    agree whenever the run is killed.
    """

    def __init__(self, model, folder):
        self.model = model
        self.folder = None if folder is None else Path(folder)
        self.baseline, self.rounds = None, []
        if self.folder is not None and (self.folder / STATE).is_file():
            state = json.loads((self.folder / STATE).read_text("utf-8"))
            self.baseline = state["baseline"]
            self.rounds = [Round(*entry) for entry in state["rounds"]]
            self._load(self.folder / state["weights"])
        self.good = model.get_weights()

    @property
    def goes_on(self):
        return not self.rounds or self.rounds[-1].good

    def begin(self, baseline):
        self.baseline = baseline
        self._write()

    def check(self, index, l1):
        if not math.isclose(l1, self.rounds[index].l1, rel_tol=1e-9):
            raise ValueError(
                f"{self.folder} is the folder of another run, whose round {index + 1} had `l1` "
                f"{self.rounds[index].l1:g}, not {l1:g}: give an empty folder."
            )

    def end(self, entry):
        self.rounds.append(entry)
        if entry.good:
            self.good = self.model.get_weights()
        else:
            self.go_back()
        self._write()

    def go_back(self):
        self.model.set_weights(self.good)

    def _load(self, path):
        try:
            self.model.load_weights(path)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"The weights in {path} do not fit the model ({reason}); give an empty folder."
            ) from error

    def _write(self):
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        good = sum(entry.good for entry in self.rounds)
        weights = self.folder / f"round_{good}.weights.h5"
        if self.goes_on:
            temporary = self.folder / "tmp.weights.h5"
            self.model.save_weights(temporary)
            temporary.replace(weights)
        state = {"baseline": self.baseline, "rounds": self.rounds, "weights": weights.name}
        temporary = self.folder / f"{STATE}.tmp"
        temporary.write_text(json.dumps(state, indent=1), "utf-8")
        temporary.replace(self.folder / STATE)
        for old in self.folder.glob("round_*.weights.h5"):
            if old != weights:
                old.unlink()


def _increasing(penalties):
    last = 0.0
    for value in penalties:
        if not last < value < math.inf:
            raise ValueError(f"`l1` increases from above 0 on; got {value!r} after {last:g}.")
        last = float(value)
        yield last


def _finite(accuracy):
    value = float(accuracy)
    if not math.isfinite(value):
        raise ValueError(f"`evaluate` returned {value}; it has to be a finite accuracy.")
    return value
