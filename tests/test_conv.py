"""Grouped-CSR convolution against the plain kernel, which test_runtime_ops holds against TFLite."""

from dataclasses import replace

import keras
import numpy as np
import one_conv
import pytest
from models import int8

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source, conv, host
from scalpel_tf.deploy.export import export, write
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import plan_memory

M4 = find_target("cortex-m4")


def cases_that_fit(seeds, **fixed):
    cases = []
    for seed in seeds:
        case = one_conv.random_case(seed, **fixed)
        try:
            one_conv.model([case])
        except ValueError:
            continue
        cases.append(case)
    return cases


def project(folder, network, target=M4, **how):
    """The project of a model, and its layers."""
    layers = lower(network, target, **how)
    x = one_conv.random_inputs(network, 1)
    write(folder, c_source.emit(network, b"", layers, target, x, x))
    return layers


def plain_outputs(folder, network, x):
    layers = project(folder, network, conv_formats=lambda weights, shape: [])
    assert not any("conv4" in layer.kernel or "gcsr" in layer.kernel for layer in layers)
    return host.invoke(host.build(folder, folder), x)


def slow(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("first", [0, *slow(*range(1000, 21000, 100))])
def test_random_convolutions_on_this_machine_under_the_sanitizers(first, tmp_path):
    network = one_conv.model(cases_that_fit(range(first, first + 80)))
    x = one_conv.random_inputs(network, 2)
    expected = plain_outputs(tmp_path / "plain", network, x)
    layers = project(tmp_path / "project", network)
    fast = [layer for layer in layers if "conv4" in layer.kernel or "gcsr" in layer.kernel]
    assert len(fast) > len(expected) / 2
    got = host.run_sanitized(host.build_sanitized(tmp_path / "project", tmp_path), x)
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=str(index))


@pytest.mark.parametrize("tight", [True, *slow(False)])
@pytest.mark.parametrize("first", [500, *slow(*range(30000, 36000, 200))])
def test_random_convolutions_on_the_board(first, tight, tmp_path):
    network = one_conv.model(cases_that_fit(range(first, first + 40)))
    x = one_conv.random_inputs(network, 1)
    expected = plain_outputs(tmp_path / "plain", network, x)
    project(tmp_path / "project", network, tight=tight)
    try:
        elf = board.build(tmp_path / "project", tmp_path, "cortex-m4")
    except RuntimeError as error:
        pytest.skip(str(error))
    for index, (a, b) in enumerate(zip(board.run(elf, x).outputs, expected, strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=str(index))


def only_layer(case, **how):
    return lower(one_conv.model([case]), M4, **how)[0]


CASE = {
    "input": (10, 12),
    "channels": 8,
    "filters": 6,
    "filter": (3, 3),
    "stride": (1, 1),
    "dilation": (1, 1),
    "padding": "SAME",
    "density": 0.3,
    "activation": "NONE",
    "zero_points": (0, -5),
    "right_shift": 9,
    "pool": None,
}
PAIRS = {"filter": (2, 2), "stride": (2, 2), "padding": "VALID", "activation": "NONE"}


def test_the_kept_density_is_that_of_the_groups():
    layer = only_layer(one_conv.random_case(1, **CASE))
    weights = one_conv.model([one_conv.random_case(1, **CASE)]).tensors[1].data
    kept = weights.reshape(-1, 4).any(1).mean()
    assert layer.kernel == "gcsr_conv" and layer.density == pytest.approx(kept)
    assert layer.bytes == pytest.approx(5 * kept * weights.size / 4 + 16 * 6 + 6 * 2, abs=1)


def test_a_dense_layer_stores_its_steps_once():
    layer = only_layer(one_conv.random_case(1, **{**CASE, "density": 1.0}))
    assert layer.kernel == "conv4"
    assert layer.bytes == 8 * 9 * 6 + 8 * 9 // 4 + 16 * 6 + 6 * 2


def test_pooling_runs_inside_of_the_convolution():
    pairs = one_conv.random_case(1, **{**CASE, "pool": {"name": "MAX_POOL_2D", **PAIRS}})
    assert only_layer(pairs).op == "CONV_2D + MAX_POOL_2D"
    assert "conv4_pool2" in only_layer(pairs).constants
    means = one_conv.random_case(1, **{**CASE, "pool": {"name": "AVERAGE_POOL_2D", **PAIRS}})
    assert only_layer(means).kernel == "gcsr_conv, average_pool"


def test_a_pool_over_all_rows_stays_outside():
    """Inside it would save no memory, and a pointwise convolution would lose its long lines."""
    over_all = {**PAIRS, "name": "AVERAGE_POOL_2D", "filter": (10, 12), "stride": (10, 12)}
    case = one_conv.random_case(1, **{**CASE, "filter": (1, 1), "pool": over_all})
    layers = lower(one_conv.model([case]), M4)
    assert [layer.op for layer in layers] == ["CONV_2D", "AVERAGE_POOL_2D"]
    one_less = one_conv.random_case(
        1, **{**CASE, "pool": {**over_all, "filter": (9, 12), "stride": (9, 12)}}
    )
    assert only_layer(one_less).op == "CONV_2D + AVERAGE_POOL_2D"


def test_an_output_that_is_used_twice_is_not_pooled_away():
    network = one_conv.model(
        [one_conv.random_case(1, **{**CASE, "pool": {"name": "MAX_POOL_2D", **PAIRS}})]
    )
    y = network.operators[0].outputs[0]
    layers = lower(replace(network, outputs=(*network.outputs, y)), M4)
    assert [layer.op for layer in layers] == ["CONV_2D", "MAX_POOL_2D"]


def test_taller_bands_take_no_more_than_a_runtime_without_fusion():
    big = {**CASE, "input": (32, 32), "filters": 16, "filter": (5, 5)}
    case = one_conv.random_case(1, **{**big, "pool": {"name": "MAX_POOL_2D", **PAIRS}})
    network = one_conv.model([case])
    roomy, tight = (plan_memory(network, lower(network, M4, tight=t)) for t in (False, True))
    activations = 32 * 32 * 16 + max(32 * 32 * 8, 16 * 16 * 16)
    assert tight.arena < roomy.arena <= activations


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 1, "filter": (1, 3)},
        {"channels": 1, "filter": (3, 3), "dilation": (1, 2), "density": 1.0},
    ],
)
def test_what_groups_cannot_hold_goes_to_csr(change):
    assert only_layer(one_conv.random_case(1, **{**CASE, **change})).kernel == "csr_conv"


def test_what_no_kernel_can_do_goes_to_the_plain_one():
    assert only_layer(one_conv.random_case(1, **{**CASE, "right_shift": -3})).kernel == "conv"


def test_a_filter_whose_scale_is_next_to_nothing_needs_no_weights():
    network = one_conv.model([one_conv.random_case(1, **CASE)])
    weights = network.tensors[1]
    scale = weights.scale.copy()
    scale[2] = 1e-20
    tensors = list(network.tensors)
    tensors[1] = replace(weights, scale=scale)
    layer = lower(replace(network, tensors=tuple(tensors)), M4)[0]
    kept = weights.data[[0, 1, 3, 4, 5]].reshape(-1, 4).any(1).sum()
    assert layer.kernel == "gcsr_conv" and layer.density == pytest.approx(kept / (18 * 6))


@pytest.mark.parametrize(
    "size, channels, line",
    [((12, 12), 64, 8), ((7, 7), 1024, 7), ((25, 5), 64, 25), ((1, 1), 8, 1)],
)
def test_a_pointwise_convolution_cuts_its_image_into_lines(size, channels, line):
    case = one_conv.random_case(1, **{**CASE, "input": size, "channels": channels})
    network = one_conv.model([{**case, "filter": (1, 1)}])
    operator = network.operators[0]
    x, y = network.tensors[operator.inputs[0]], network.tensors[operator.outputs[0]]
    assert conv.shape_of(operator, x, y, (1, 1)).output == (size[0] * size[1] // line, line)


def test_steps_that_do_not_fit_a_byte_are_bridged():
    shape = conv.Shape((1, 64), (1, 64), (1, 1), (1, 1), (1, 1), (0, 0), 256)
    weights = np.zeros((1, 256), np.int8)
    weights[0, [0, 255]] = 1
    packed = min(conv.candidates(weights, shape), key=lambda p: p.groups)
    assert packed.density == 2 / 64 and packed.groups >= 2
    assert packed.steps.sum() == (len(packed.planes) - 1) * packed.entries


def test_cycles_are_within_a_tenth_of_the_board(tmp_path):
    cases = [
        one_conv.random_case(seed, **{**CASE, "density": density, **change})
        for seed, density in enumerate((0.1, 0.5, 1.0))
        for change in (
            {"input": (16, 16), "channels": 16, "filters": 24},
            {"input": (16, 16), "channels": 3, "filters": 16, "filter": (5, 5)},
            {"input": (12, 12), "channels": 32, "filters": 32, "filter": (1, 1)},
        )
    ]
    network = one_conv.model(cases)
    estimates = []

    def cheapest(weights, shape):
        packed = min(conv.candidates(weights, shape), key=lambda p: p.cost(M4).cycles)
        estimates.append(packed.cost(M4).cycles)
        return [packed]

    project(tmp_path / "project", network, conv_formats=cheapest)
    try:
        elf = board.build(tmp_path / "project", tmp_path, "cortex-m4")
    except RuntimeError as error:
        pytest.skip(str(error))
    run = board.run(elf, one_conv.random_inputs(network, 1))
    for estimate, count in zip(estimates, run.layers, strict=True):
        assert estimate == pytest.approx(count.cycles, rel=0.1), count.name


def test_where_ram_is_short_an_export_works_in_less(tmp_path):
    def pooled():
        inputs = keras.Input((32, 32, 8))
        x = keras.layers.Conv2D(16, 5, padding="same")(inputs)
        return keras.Model(inputs, keras.layers.MaxPooling2D(2)(x))

    data = int8(pooled)
    ample = export(data, out=tmp_path / "ample")
    short = export(data, out=tmp_path / "short", ram=ample.ram - 1)
    assert short.ram < ample.ram
