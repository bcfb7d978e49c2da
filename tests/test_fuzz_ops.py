"""A short run of fuzz_ops.py, and whether its judge sees a wrong answer."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from fuzz_ops import damaged_call, judge, run
from op_oracle import ORACLES, expected

CASES = 1000


def test_malformed_calls_are_refused_or_right():
    """With the scalar kernels, which build in seconds; `make fuzz` takes them all."""
    try:
        answer = run(CASES, isas="scalar")
    except RuntimeError as error:
        if "no sanitizers" not in str(error) and "no C++ compiler" not in str(error):
            raise
        pytest.skip(str(error))
    assert answer["failures"] == {}
    outcomes = answer["outcomes"]
    assert sum(outcomes.values()) == CASES
    for outcome in ("right", "right after damage", "refused by InvalidArgumentError"):
        assert outcomes[outcome] > CASES / 20


def library(answer):
    """Ops that all give the same answer."""
    return SimpleNamespace(**dict.fromkeys(ORACLES, lambda *inputs, **attributes: answer()))


def first_seed(damages):
    """Of a call that gives something; it is malformed where damages are wanted."""
    for seed in range(1000):
        op, inputs, attributes, done = damaged_call(seed)
        try:
            y, _ = expected(op, inputs, attributes)
            if not damages and not done and y.size:
                return seed, y
        except Exception:
            if damages:
                return seed, None
    raise ValueError("No seed gives such a call.")


def test_the_judge_sees_wrong_sums_and_wrong_shapes():
    seed, y = first_seed(damages=False)
    assert judge(library(lambda: tf.constant(y, tf.float32)), seed) == "right"
    for wrong in (y + 1e-3, y * np.nan, y[None]):
        with pytest.raises(RuntimeError, match="gave"):
            judge(library(lambda wrong=wrong: tf.constant(wrong, tf.float32)), seed)


def test_the_judge_sees_what_is_taken_or_refused_by_mistake():
    def refuse(sentence):
        raise ValueError(sentence)

    seed, _ = first_seed(damages=True)
    with pytest.raises(RuntimeError, match="not valid"):
        judge(library(lambda: tf.zeros((1, 1))), seed)
    with pytest.raises(RuntimeError, match="without a sentence"):
        judge(library(lambda: refuse("no")), seed)
    seed, _ = first_seed(damages=False)
    with pytest.raises(RuntimeError, match="was refused"):
        judge(library(lambda: refuse("a sentence that is long enough")), seed)
