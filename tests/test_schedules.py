import subprocess
import sys

import numpy as np
import pytest

from scalpel_tf.core.schedules import Adapted, Constant, Polynomial, as_schedule

RAMP = Polynomial(0.8, end_step=30, initial_ratio=0.2, begin_step=10, power=1, frequency=8)


@pytest.mark.parametrize(
    "schedule, values",
    [
        (Constant(0.5), {0: 0.5, 1000: 0.5}),
        (Constant(0.5, begin_step=3, end_step=5), {2: 0.0, 3: 0.5, 9: 0.5}),
        (RAMP, {9: 0.0, 10: 0.2, 20: 0.5, 25: 0.65, 30: 0.8, 99: 0.8}),
        (Polynomial(0.8, end_step=4), {0: 0.0, 1: 0.8 * (1 - 0.75**3), 4: 0.8}),
        (Polynomial(0.8, end_step=7, begin_step=7), {6: 0.0, 7: 0.8}),
    ],
)
def test_ratio_at_a_step(schedule, values):
    for step, ratio in values.items():
        assert schedule(step) == pytest.approx(ratio, abs=1e-15), step


@pytest.mark.parametrize(
    "schedule, due",
    [
        (Constant(0.5, frequency=40), [0, 40, 80]),
        (Constant(0.5, begin_step=3, end_step=25, frequency=10), [3, 13, 23, 25]),
        (RAMP, [10, 18, 26, 30]),  # the end is due, whatever the frequency
        (Adapted(lambda step: 0.5 if step >= 7 else 0.1), [0, 7]),
        (Adapted(lambda step: (step % 30 == 1, 0.5)), [1, 31, 61, 91]),
    ],
)
def test_due_steps(schedule, due):
    assert [step for step in range(100) if schedule.due(step)] == due


@pytest.mark.parametrize("schedule", [Constant(0.5, 3, 25, 10), RAMP])
def test_configuration_round_trip(schedule):
    assert type(schedule).from_config(schedule.get_config()) == schedule


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Constant(1.0), r"in \[0, 1\); got 1.0"),
        (lambda: Constant(float("nan")), "got nan"),
        (lambda: Constant(0.5, begin_step=-1), "`begin_step` is at least 0"),
        (lambda: Constant(0.5, frequency=0), "`frequency` at least 1"),
        (lambda: Constant(0.5, begin_step=9, end_step=8), "not before"),
        (lambda: Polynomial(0.5, end_step=-1), "`end_step` is a step"),
        (lambda: Polynomial(1.5, end_step=9), "`final_ratio`"),
        (lambda: Polynomial(0.5, end_step=9, initial_ratio=-0.5), "`initial_ratio`"),
        (lambda: as_schedule("fast"), "callable of the step; got 'fast'"),
        (lambda: as_schedule(None), "callable of the step; got None"),
        (lambda: as_schedule(1.5), "got 1.5"),
        (lambda: as_schedule(lambda step: 2.0)(5), "got 2.0 for step 5"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("ratio", [0, 0.5, np.float32(0.5)])
def test_a_number_is_a_constant(ratio):
    assert as_schedule(ratio) == Constant(float(ratio))


def test_a_schedule_stays_itself():
    assert as_schedule(RAMP) is RAMP


def test_a_callable_ends_where_it_settles():
    schedule = as_schedule(lambda step: min(0.9, step / 100))
    assert (schedule(50), schedule.final_ratio, schedule.begin_step) == (0.5, 0.9, 0)


TFMOT = """
import tensorflow_model_optimization as tfmot
from scalpel_tf.core.schedules import Adapted, Constant, Polynomial, as_schedule
keras = tfmot.sparsity.keras
class Own(keras.PolynomialDecay):
    pass
decay = dict(initial_sparsity=.2, final_sparsity=.9, begin_step=10, end_step=52, frequency=7)
for theirs, kind in (
    (keras.PolynomialDecay(**decay), Polynomial),
    (keras.PolynomialDecay(**decay, power=1), Polynomial),
    (keras.ConstantSparsity(.5, begin_step=3, end_step=33, frequency=10), Constant),
    (Own(**decay), Adapted),
):
    ours, called = as_schedule(theirs), Adapted(theirs)
    assert type(ours) is kind, ours
    assert ours.begin_step == theirs.begin_step and ours.end_step == theirs.end_step
    assert abs(ours.final_ratio - called.final_ratio) < 1e-6
    for step in range(0, 70):
        should, sparsity = theirs(step)
        assert ours.due(step) == bool(should), (theirs, step)
        if step >= theirs.begin_step:
            assert abs(ours(step) - float(sparsity)) < 1e-6, (theirs, step)
print("equal")
"""


def test_schedules_of_tfmot_are_taken_as_they_are():
    """In a process of its own: tfmot switches TensorFlow to Keras 2."""
    pytest.importorskip("tensorflow_model_optimization")
    run = subprocess.run([sys.executable, "-c", TFMOT], capture_output=True, text=True)
    assert run.stdout == "equal\n", run.stderr
