"""The Helium kernels in QEMU's Cortex-M55, against big integers and the plain convolution."""

import shutil

import numpy as np
import one_conv
import pytest
import test_conv
import test_fc_kernels
from fc_model import expected, layer, model
from models import dense_model, int8

from scalpel_tf.core import cost
from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import c_source, conv, qemu, toolchain
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.export import export, write
from scalpel_tf.deploy.lower import lower

M55 = find_target("cortex-m55")
NO_HELIUM = ("-mcpu=cortex-m55+nomve",)
pytestmark = pytest.mark.skipif(not qemu.available(), reason="there is no qemu-system-arm here")


def run(folder, inputs, compiler="gcc", flags=()):
    try:
        return qemu.run(folder, inputs, target="cortex-m55", compiler=compiler, flags=flags)
    except RuntimeError as error:
        if "There is no compiler" not in str(error):
            raise
        pytest.skip(str(error))


def check(got, wanted, names):
    pairs = zip(names, got, wanted, strict=True)
    wrong = [name for name, a, b in pairs if not np.array_equal(a, b)]
    assert not wrong


def fully_connected(folder, cases, rounding):
    """(inputs, outputs that a project of these (pack, layer) must give)."""
    entries = [entry for _, entry in cases]
    packs = {id(entry["weights"]): pack for pack, entry in cases}
    network = model(entries)
    layers = lower(
        network, M55, rounding=rounding, formats=lambda weights: [packs[id(weights)](weights)]
    )
    inputs = [entry["x"] for entry in entries]
    outputs = [expected(entry, rounding) for entry in entries]
    write(folder, c_source.emit(network, b"", layers, M55, inputs, outputs, rounding))
    return inputs, outputs


def names(cases):
    return [f"{pack.__name__} {entry['weights'].shape}" for pack, entry in cases]


@pytest.mark.parametrize("rounding, compiler", [("single", "gcc"), ("double", "zig")])
def test_fully_connected(rounding, compiler, tmp_path):
    inputs, outputs = fully_connected(tmp_path, test_fc_kernels.CASES, rounding)
    found = run(tmp_path, inputs, compiler).outputs
    check(found, outputs, names(test_fc_kernels.CASES))


def random_fully_connected(seed):
    """A (pack, layer) of any kind and size."""
    rng = np.random.default_rng(seed)
    name = rng.choice(["dense", "sparse4", "sparse8", "delta", "csr"])
    width = {"dense": 1, "csr": 1, "sparse8": 8}.get(name, 4)
    out, cols = int(rng.integers(1, 40)), int(rng.integers(width, 600))
    packs = {
        "dense": fc.pack_dense,
        "sparse4": test_fc_kernels.sparse4,
        "sparse8": test_fc_kernels.sparse8,
        "delta": fc.pack_sparse_delta,
        "csr": fc.pack_csr,
    }
    density = 1.0 if name == "dense" else float(rng.choice([0.0, 0.05, 0.2, 0.5, 1.0]))
    shift = int(rng.choice([1, 5, 7, 8, 9, 10, 12, 22, 0, -3]))
    activation = str(rng.choice(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))
    return packs[name], layer(
        out, cols, density, width, seed, right_shift=shift, activation=activation
    )


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 3000, 30))
def test_random_fully_connected(first, tmp_path):
    cases = [random_fully_connected(seed) for seed in range(first, first + 30)]
    rounding = ("single", "double")[first // 30 % 2]
    inputs, outputs = fully_connected(tmp_path, cases, rounding)
    check(run(tmp_path, inputs).outputs, outputs, names(cases))


@pytest.mark.parametrize(
    "first, compiler, formats",
    [
        (0, "zig", conv.candidates),
        (100, "gcc", lambda weights, shape: conv.candidates(weights, shape)[-1:]),
        *(
            pytest.param(first, "gcc", conv.candidates, marks=pytest.mark.slow)
            for first in range(2000, 10000, 80)
        ),
    ],
)
def test_random_convolutions(first, compiler, formats, tmp_path):
    network = one_conv.model(test_conv.cases_that_fit(range(first, first + 80)))
    x = one_conv.random_inputs(network, 2)
    outputs = test_conv.plain_outputs(tmp_path / "plain", network, x)
    layers = test_conv.project(tmp_path / "project", network, M55, conv_formats=formats)
    assert sum("conv4" in entry.kernel or "gcsr" in entry.kernel for entry in layers) > 40
    found = run(tmp_path / "project", x, compiler).outputs
    check(found, outputs, [f"{first}: {i}" for i in range(len(outputs))])


def test_a_convolution_in_instructions_and_in_estimated_cycles(tmp_path):
    size = {"input": (12, 16), "channels": 16, "filters": 24, "filter": (3, 3), "stride": (1, 1)}
    size |= {"dilation": (1, 1), "padding": "SAME", "activation": "NONE", "pool": None}
    network = one_conv.model([one_conv.random_case(1, **size, density=d) for d in (0.2, 1.0)])
    cycles = []

    def formats(weights, shape):
        costs = [(packed.cost(M55).cycles, packed) for packed in conv.candidates(weights, shape)]
        least, packed = min(costs, key=lambda pair: pair[0])
        cycles.append(least)
        return [packed]

    layers = test_conv.project(tmp_path, network, M55, conv_formats=formats)
    assert [entry.kernel for entry in layers] == ["gcsr_conv", "conv4"]
    x = one_conv.random_inputs(network, 1)
    helium, dsp = run(tmp_path, x).instructions, run(tmp_path, x, flags=NO_HELIUM).instructions
    for estimate, count, without in zip(cycles, helium, dsp, strict=True):
        assert count < estimate < 2 * count and 1.5 * count < without


def dyadic(size):
    """Scales of 2^-2 to 2^-7, so that every fourth to 128th sum is half-way between two outputs."""
    return (2.0 ** -(2 + np.arange(size) % 6)).astype(np.float32)


@pytest.mark.parametrize("rounding", ["single", "double"])
def test_sums_half_way_between_two_outputs_of_fully_connected(rounding, tmp_path):
    entry = layer(1200, 5, 1.0, 1, 0)
    entry["weights"][:] = [1, 0, 0, 0, -1]
    entry |= {"scale": dyadic(1200), "bias": np.arange(-600, 600, dtype=np.int32)}
    cases = [(pack, dict(entry)) for pack in (fc.pack_dense, test_fc_kernels.sparse4)]
    for _, case in cases:
        case["weights"] = entry["weights"].copy()
    inputs, outputs = fully_connected(tmp_path, cases, rounding)
    fused = "fc_s8(" in (tmp_path / "model.c").read_text()
    assert fused == (rounding == "double")  # rounded once, such sums have a way of their own
    check(run(tmp_path, inputs).outputs, outputs, names(cases))


def test_sums_half_way_between_two_outputs_of_a_convolution(tmp_path):
    size = {"input": (16, 16), "channels": 4, "filters": 48, "filter": (1, 1), "stride": (1, 1)}
    size |= {"dilation": (1, 1), "padding": "VALID", "activation": "NONE", "pool": None}
    network = one_conv.model([one_conv.random_case(1, **size)])
    x, weights, bias, y = network.tensors
    weights.data[...] = np.array([1, 0, 0, 0], np.int8)
    bias.data[:] = 256 * (np.arange(48) // 6) - 1024 + int(x.zero_point[0])
    weights.scale[:] = dyadic(48) / 16  # y has the scale 1/16
    values = np.arange(-128, 128).reshape(1, 16, 16, 1).repeat(4, 3).astype(np.int8)
    outputs = test_conv.plain_outputs(tmp_path / "plain", network, [values])
    layers = test_conv.project(tmp_path / "project", network, M55)
    assert "conv4" in layers[0].kernel and len(np.unique(outputs[0])) == 256
    check(run(tmp_path / "project", [values]).outputs, outputs, ["ties"])


LENET_300_100 = [
    # weights 784 to 300, 300 to 100, 100 to 10, in groups, at what pruning leaves
    (test_fc_kernels.sparse4, layer(300, 784, 0.06, 4, 1)),
    (test_fc_kernels.sparse8, layer(300, 784, 0.06, 8, 1)),
    (test_fc_kernels.sparse4, layer(100, 300, 0.1, 4, 2)),
    (fc.pack_sparse_delta, layer(100, 1200, 0.1, 4, 2)),
    (fc.pack_csr, layer(300, 784, 0.1, 1, 1)),
    (fc.pack_csr, layer(100, 250, 0.2, 1, 2)),
    (fc.pack_dense, layer(10, 100, 1.0, 1, 3)),
]


def test_helium_needs_less_than_half_of_the_instructions(tmp_path):
    inputs, outputs = fully_connected(tmp_path, LENET_300_100, "single")
    helium, dsp = run(tmp_path, inputs), run(tmp_path, inputs, flags=NO_HELIUM)
    check(helium.outputs, outputs, names(LENET_300_100))
    check(dsp.outputs, outputs, names(LENET_300_100))
    for name, with_helium, without in zip(
        names(LENET_300_100), helium.instructions, dsp.instructions, strict=True
    ):
        assert 2 * with_helium < without, name
    for (pack, entry), count in zip(LENET_300_100, helium.instructions, strict=True):
        packed = pack(entry["weights"])
        cycles = cost.fully_connected(packed.kernel, *entry["weights"].shape, packed.groups, M55)
        assert count < cycles.cycles < 2 * count  # a vector instruction takes one or two


def test_instructions_are_those_of_a_loop(tmp_path):
    """A dense row of n inputs at a time: ten instructions for 16 inputs of four rows."""
    cases = [(fc.pack_dense, layer(4, cols, 1.0, 1, 1)) for cols in (1600, 3200)]
    inputs, _ = fully_connected(tmp_path, cases, "single")
    short, long = run(tmp_path, inputs).instructions
    assert long - short == pytest.approx(10 * 100, rel=0.01)


def test_a_wrong_value_is_seen(tmp_path):
    cases = LENET_300_100[-1:]
    inputs, outputs = fully_connected(tmp_path, cases, "single")
    source = tmp_path / "model.c"
    text = source.read_text()
    start = text.index("_rows[10] = {\n    {") + len("_rows[10] = {\n    {")
    source.write_text(f"{text[:start]}99999 + {text[start:]}")
    with pytest.raises(AssertionError):
        check(run(tmp_path, inputs).outputs, outputs, names(cases))


def test_a_fault_is_an_error(tmp_path):
    cases = LENET_300_100[-1:]
    inputs, _ = fully_connected(tmp_path, cases, "single")
    source = tmp_path / "runtime" / "scalpel_fc.c"
    source.write_text(
        source.read_text().replace("{\n#if SCALPEL_MVE", '{\n__asm("udf #0");\n#if 1')
    )
    with pytest.raises(RuntimeError, match="faulted in QEMU's mps3-an547"):
        run(tmp_path, inputs)


def test_a_missing_emulator_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="install qemu-system-arm"):
        qemu.run(tmp_path, [], target="cortex-m55")


def test_an_export_is_proved_and_its_stack_measured_with_helium(tmp_path):
    report = export(int8(dense_model), target="cortex-m55", out=tmp_path / "out")
    assert [where.split(" (")[0] for where in report.verified] == [
        *("this machine", "a virtual cortex-m55", "QEMU's cortex-m55")
    ]
    assert 0 < report.stack_measured <= report.stack <= report.stack_measured + 64


def test_a_program_that_qemu_has_no_room_for_is_known():
    sizes = {"text": 400 << 10, "data": 0, "bss": 400 << 10}
    assert qemu.has_room(sizes, "cortex-m55")
    assert not qemu.has_room({**sizes, "text": 511 << 10}, "cortex-m55")
    assert not qemu.has_room({**sizes, "bss": 500 << 10}, "cortex-m55")


@pytest.mark.parametrize("level", ["-Os", *test_conv.slow("-O0", "-O3")])
def test_the_kernels_compile_at_every_level(level, tmp_path):
    """Registers are scarce around their loops, and some instructions take the low ones only."""
    try:
        compiler = toolchain.arm("cortex-m55", "gcc")
    except RuntimeError as error:
        pytest.skip(str(error))
    for source in sorted(c_source.RUNTIME.glob("*.c")):
        if "SCALPEL_MVE" in source.read_text():
            arguments = [level, "-Wconversion", "-pedantic", "-c", source]
            toolchain.compile_c(compiler, arguments, tmp_path / "out.o")
