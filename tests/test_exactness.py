"""The exactness run: that it draws every operator, and that it sees what is wrong."""

from dataclasses import replace

import exactness
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from operator_models import strands, tensor, windows
from random_operators import OPERATORS

from scalpel_tf.deploy import convert
from scalpel_tf.deploy.memory import plan_memory


@pytest.fixture(scope="module")
def chains():
    """One of every operator."""
    return exactness.random_chains(0, len(OPERATORS), list(OPERATORS))[0]


def test_every_operator_is_equal_on_this_machine(chains):
    assert [name for name, _, _ in chains] == list(OPERATORS)
    exactness.check(chains, "host")


def test_one_wrong_output_is_found_and_named(chains, monkeypatch):
    exact = convert.run_reference

    def wrong(data, inputs):
        outputs = exact(data, inputs)
        outputs[1].flat[-1] ^= 1
        return outputs

    monkeypatch.setattr(convert, "run_reference", wrong)
    few = chains[6:8]
    name, seed, _ = few[1]
    with pytest.raises(RuntimeError, match=f"{name} of seed {seed} differs on host in 1 of"):
        exactness.check(few, "host")


def test_a_layer_that_writes_beside_its_output_is_found(chains, monkeypatch):
    def wrong(model, layers):
        plan = plan_memory(model, layers)
        return replace(plan, tensors={i: place + 16 for i, place in plan.tensors.items()})

    monkeypatch.setattr(exactness, "plan_memory", wrong)
    with pytest.raises(RuntimeError, match=r"layer \d writes to byte"):
        exactness.check(chains[6:8], "host")


def test_a_sum_below_a_half_that_two_roundings_raise():
    """31 / 64 is rounded to 16 / 32, which is rounded to 1; the other row's 30 / 64 is not."""
    x, y = tensor((1, 2, 2, 4), 0.125, -29), tensor((1, 2, 2, 2), 0.03125, 57)
    weights = tensor((2, 1, 1, 4), 2.0**-8), np.zeros((2, 1, 1, 4), np.int8)
    bias = tensor((2,), 2.0**-11, kind="INT32"), np.array([31, 30], np.int32)
    options = windows(schema.Conv2DOptionsT(), (1, 1), (1, 1), (1, 1), "SAME", "NONE")
    chain = [("CONV_2D", [x, weights, bias], y, options, 3)]
    (expected,) = convert.run_reference(strands([chain]), np.zeros((1, 2, 2, 4), np.int8))
    assert expected[0, 0, 0].tolist() == [58, 57]
    exactness.check([("CONV_2D", 0, chain)], "host")


def test_the_corners_are_drawn():
    """Shifts from -31 to 8, exact powers of two, zero points at both ends, empty rows."""
    factors, points, powers, empty = [], set(), 0, 0
    for seed in range(300):
        ((_, operands, y, _, _),) = OPERATORS["FULLY_CONNECTED"](np.random.default_rng(seed))
        x, (weights, values) = operands[:2]
        scales = np.array(weights.quantization.scale, np.float64)
        real = scales * x.quantization.scale[0] / y.quantization.scale[0]
        factors += np.frexp(real)[1].tolist()
        powers += (np.frexp(real)[0] == 0.5).any()
        points.update(int(t.quantization.zeroPoint[0]) for t in (x, y))
        empty += not values.any(1).all()
    assert min(factors) <= -31 and max(factors) >= 8
    assert {-128, 127} < points and powers > 10 and empty > 30
