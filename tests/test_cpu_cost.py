"""The shape of the CPU cost model; its coefficients are the benchmark's."""

import pytest

from scalpel_tf.core import cpu_cost
from scalpel_tf.core.targets import find_target


def relative(rows, cols, n, density, width=None, value_type="float32", target="x86-64-avx2"):
    """Sparse seconds over dense seconds, every stored group full."""
    target = find_target(target)
    width = width or target.group_width
    groups = round(rows * cols * density / width)
    return cpu_cost.sparse_seconds(
        rows, cols, n, groups=groups, width=width, value_type=value_type, target=target
    ) / cpu_cost.dense_seconds(rows, cols, n, target=target)


@pytest.mark.parametrize("target", cpu_cost.COSTS)
def test_one_column_costs_the_bytes_that_are_read(target):
    """Figure 13 of the paper: values and a column per group, nothing else, once out of cache."""
    width = find_target(target).group_width
    for density in (0.1, 0.5, 1.0):
        expected = density * (1 + 2 / (4 * width))
        assert relative(4096, 4096, 1, density, target=target) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("value_type, most", [("bfloat16", 0.6), ("int8", 0.35)])
def test_smaller_values_save_memory_traffic(value_type, most):
    sparse = relative(4096, 4096, 1, 0.5, value_type=value_type)
    assert sparse < most * relative(4096, 4096, 1, 0.5)


def test_many_columns_break_even_where_the_measured_layers_do():
    """128 x 1200 by 1200 x 729; benchmarks/results holds what the rates were fitted to."""
    assert relative(128, 1200, 729, 0.5) < 1 < relative(128, 1200, 729, 0.8)
    assert 0.02 < relative(128, 1200, 729, 0.0) < 0.1


def test_a_tiny_layer_is_not_worth_a_slower_call():
    assert relative(10, 100, 1, 0.1) > 1
    assert relative(4096, 4096, 1, 0.1) < 0.2


@pytest.mark.parametrize("n", [1, 8, 729])
def test_costs_grow_with_everything(n):
    grow = [relative(300, 784, n, density) for density in (0.0, 0.1, 0.4, 0.9)]
    assert grow == sorted(grow)
    assert relative(300, 784, n, 0.5, width=2) >= relative(300, 784, n, 0.5, width=8)


def test_long_rows_have_wider_columns():
    target = find_target("x86-64-avx2")
    costs = [
        cpu_cost.sparse_seconds(
            1000, cols, 1, groups=10**6, width=16, value_type="int8", target=target
        )
        for cols in (1 << 16, (1 << 16) + 1)
    ]
    assert costs[1] > costs[0]


@pytest.mark.parametrize("target", ["cortex-m4", "gpu"])
def test_refuses_what_is_no_cpu(target):
    with pytest.raises(ValueError, match=f"{target}' is none of them"):
        relative(8, 8, 1, 0.5, width=4, target=target)
