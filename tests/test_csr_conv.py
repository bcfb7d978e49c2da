"""Convolutions in plain CSR against the plain kernel, which is held against TFLite elsewhere."""

import numpy as np
import one_conv
import pytest

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source, conv, csr_conv, host
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.lower import lower

M4 = find_target("cortex-m4")
CASE = {
    "input": (12, 12),
    "channels": 8,
    "filters": 6,
    "filter": (3, 3),
    "stride": (1, 1),
    "dilation": (1, 1),
    "padding": "VALID",
    "density": 0.3,
    "activation": "NONE",
    "zero_points": (3, -5),
    "right_shift": 9,
    "pool": None,
}
PAIRS = {"filter": (2, 2), "stride": (2, 2), "padding": "VALID", "activation": "NONE"}
POOL = {"name": "MAX_POOL_2D", **PAIRS}


def project(folder, network, formats=csr_conv.candidates):
    layers = lower(network, M4, conv_formats=formats)
    x = one_conv.random_inputs(network, 1)
    write(folder, c_source.emit(network, b"", layers, M4, x, x))
    return layers


def expected(folder, network, x):
    project(folder, network, lambda weights, shape: [])
    return host.invoke(host.build(folder, folder), x)


def random_network(first, count):
    cases = []
    for seed in range(first, first + count):
        case = one_conv.random_case(seed)
        try:
            one_conv.model([case])
        except ValueError:
            continue
        cases.append(case)
    return one_conv.model(cases)


def on_the_board(folder, compiler=None):
    try:
        return board.build(folder, folder, "cortex-m4", compiler=compiler)
    except RuntimeError as error:
        if "There is no compiler" not in str(error):
            raise
        pytest.skip(str(error))


def check(got, wanted):
    for index, (a, b) in enumerate(zip(got, wanted, strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=str(index))


FIRST = [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1000, 9000, 100))]


@pytest.mark.parametrize("first", FIRST)
def test_random_convolutions(first, tmp_path):
    """On this machine under the sanitizers, and on the virtual board."""
    network = random_network(first, 40)
    x = one_conv.random_inputs(network, 2)
    wanted = expected(tmp_path / "plain", network, x)
    layers = project(tmp_path / "project", network)
    assert sum("csr" in layer.kernel for layer in layers) > len(wanted) / 2
    folder = tmp_path / "project"
    check(host.run_sanitized(host.build_sanitized(folder, tmp_path), x), wanted)
    check(board.run(on_the_board(folder), x).outputs, wanted)


def test_columns_of_two_bytes_and_long_rows(tmp_path):
    wide = {**CASE, "input": (4, 5), "channels": 100, "filter": (3, 3), "filters": 3}
    shapes = [{"density": 0.2}, {"density": 0.2, "pool": POOL}, {"density": 1.0}]
    network = one_conv.model([one_conv.random_case(1, **{**wide, **s}) for s in shapes])
    x = one_conv.random_inputs(network, 1)
    layers = project(tmp_path, network)
    assert all("scalpel_csr_conv4_wide" in layer.constants for layer in layers)
    wanted = expected(tmp_path / "plain", network, x)
    check(board.run(on_the_board(tmp_path), x).outputs, wanted)


def test_packing():
    shape = conv.Shape((5, 5), (4, 4), (2, 2), (1, 1), (1, 1), (0, 0), 2)
    weights = np.zeros((2, 8), np.int8)
    weights[0, [1, 2, 3, 5, 7]] = [1, 2, 3, 4, 5]
    (packed,) = csr_conv.candidates(weights, shape)
    np.testing.assert_array_equal(packed.values, [1, 2, 3, 4, 5, 0, 0, 0])
    np.testing.assert_array_equal(packed.columns, [1, 2, 3, 5, 7, 0, 0, 0])
    assert packed.columns.dtype == np.uint8 and packed.counts.tolist() == [2, 0]
    assert packed.density == 5 / 16 and packed.cost(M4).flash == 16 + 2 * 16
    assert packed.words(np.array([9, 3])).tolist() == [124 * 6 << 16 | 9, 124 * 8 << 16 | 3]
    assert csr_conv.candidates(np.ones((1, 8192), np.int8), shape) == []


@pytest.mark.parametrize(
    "change, kernel",
    [
        ({}, "gcsr_conv"),
        ({"density": 1.0}, "conv4"),
        ({"density": 1.0, "single": 0.2}, "csr_conv"),
        ({"density": 1.0, "single": 0.2, "pool": POOL}, "csr_conv"),
        ({"density": 1.0, "single": 0.2, "pool": {**POOL, "stride": (1, 1)}}, "csr_conv"),
    ],
)
def test_an_export_takes_it_for_single_weights_only(change, kernel):
    single = change.get("single")
    network = one_conv.model([one_conv.random_case(1, **{**CASE, **change})])
    if single:
        weights = network.tensors[1].data
        weights[np.random.default_rng(0).random(weights.shape) > single] = 0
    layer = lower(network, M4)[0]
    assert layer.kernel == kernel


def test_where_ram_is_short_pooling_stays_inside():
    pool = {**POOL, "filter": (3, 3), "stride": (2, 2)}
    network = one_conv.model([one_conv.random_case(1, **{**CASE, "density": 1.0, "pool": pool})])
    weights = network.tensors[1].data
    weights[np.random.default_rng(0).random(weights.shape) > 0.2] = 0
    roomy, tight = (lower(network, M4, tight=t) for t in (False, True))
    assert [layer.kernel for layer in roomy] == ["csr_conv", "max_pool"]
    assert [layer.kernel for layer in tight] == ["gcsr_conv, max_pool"]


def test_cycles_are_within_a_tenth_of_the_board(tmp_path):
    cases = [
        one_conv.random_case(seed, **{**CASE, "density": density, **change})
        for seed, density in enumerate((0.1, 0.5))
        for change in (
            {"channels": 16, "filters": 24},
            {"channels": 3, "filters": 16, "filter": (5, 5), "pool": POOL},
            {"channels": 32, "filters": 32, "filter": (1, 1)},
        )
    ]
    network = one_conv.model(cases)
    estimates = []

    def single(weights, shape):
        (packed,) = csr_conv.candidates(weights, shape)
        estimates.append(packed.cost(M4).cycles)
        return [packed]

    project(tmp_path, network, single)
    run = board.run(on_the_board(tmp_path), one_conv.random_inputs(network, 1))
    for estimate, count in zip(estimates, run.layers, strict=True):
        assert estimate == pytest.approx(count.cycles, rel=0.1), count.name
