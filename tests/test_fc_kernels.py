"""Every fully connected kernel, on this machine and on the virtual board, against big integers."""

import numpy as np
import pytest
from fc_model import as_tflite, expected, layer, model

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source, convert, host
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.lower import lower


def sparse4(weights):
    return fc.pack_sparse(weights, 4)


def sparse8(weights):
    return fc.pack_sparse(weights, 8)


CASES = [
    # pack, layer
    *((fc.pack_dense, layer(3, cols, 1.0, 1, cols)) for cols in (1, 2, 3, 4, 5, 7, 8, 31, 33, 127)),
    *((fc.pack_dense, layer(out, 36, 1.0, 1, out)) for out in (1, 2, 5)),
    *((sparse4, layer(3, cols, 0.5, 4, cols)) for cols in (4, 5, 6, 7, 8, 9, 63, 784, 1021, 1024)),
    *((sparse8, layer(3, cols, 0.5, 8, cols)) for cols in (8, 9, 15, 16, 17, 61, 784, 2041, 2048)),
    *((fc.pack_sparse_delta, layer(3, cols, 0.3, 4, cols)) for cols in (4, 7, 1025, 4099)),
    *((fc.pack_csr, layer(3, cols, 0.4, 1, cols)) for cols in (1, 2, 5, 33, 255, 256, 257, 4099)),
    *((fc.pack_csr, layer(8, 90, kept / 90, 1, kept)) for kept in (0, 1, 3, 4, 5, 33, 90)),
    (fc.pack_csr, layer(2, 65536, 0.001, 1, 1)),
    *((fc.pack_csr, layer(9, 300, 0.1, 1, 6, right_shift=shift)) for shift in (-2, 0, 1, 22, 25)),
    (fc.pack_sparse_delta, layer(2, 65536, 0.001, 4, 1)),  # distances over 255 groups
    (fc.pack_sparse_delta, layer(1, 65535, 1.0, 4, 2)),
    *((pack, layer(7, 100, 1.0, 1, 3)) for pack in (sparse4, sparse8, fc.pack_sparse_delta)),
    *((pack, layer(7, 100, 0.0, 4, 4)) for pack in (sparse4, sparse8, fc.pack_sparse_delta)),
    *(
        (sparse4, layer(9, 64, 0.3, 4, 40 + shift, right_shift=shift))
        for shift in (1, 2, 8, 21, 22)
    ),
    *(
        (sparse4, layer(9, 64, 0.3, 4, 40 + shift, right_shift=shift))
        for shift in (-9, -1, 0, 23, 30)
    ),
    *(
        (fc.pack_dense, layer(9, 64, 1.0, 1, 40 + shift, right_shift=shift))
        for shift in (-2, 0, 25)
    ),
    (sparse8, layer(9, 64, 0.3, 8, 5, right_shift=0)),
    (fc.pack_sparse_delta, layer(9, 64, 0.3, 4, 6, right_shift=0)),
    (sparse4, layer(64, 128, 0.1, 4, 7, spread=4)),
    *(
        (pack, layer(64, 32, 0.3, 4, 10, right_shift=3, dyadic=True))
        for pack in (sparse4, fc.pack_dense, fc.pack_csr)
    ),
    *((sparse4, layer(9, 64, 0.4, 4, 8, activation=a)) for a in ("RELU", "RELU6", "RELU_N1_TO_1")),
]
TARGET = find_target("cortex-m4")


@pytest.fixture(scope="module", params=["single", "double"])
def project(request, tmp_path_factory):
    """(folder of one project with all cases, the outputs that it must give)."""
    rounding = request.param
    entries = [entry for _, entry in CASES]
    packs = {id(entry["weights"]): pack for pack, entry in CASES}
    network = model(entries)
    layers = lower(
        network, TARGET, rounding=rounding, formats=lambda weights: [packs[id(weights)](weights)]
    )
    outputs = [expected(entry, rounding) for entry in entries]
    folder = tmp_path_factory.mktemp(rounding)
    inputs = [entry["x"] for entry in entries]
    write(folder, c_source.emit(network, b"", layers, TARGET, inputs, outputs, rounding))
    return folder, outputs


def check(got, outputs):
    wrong = [
        (CASES[i][0].__name__, CASES[i][1]["weights"].shape, int(np.abs(a - b.astype(int)).max()))
        for i, (a, b) in enumerate(zip(got, outputs, strict=True))
        if not np.array_equal(a, b)
    ]
    assert not wrong


def inputs():
    return [entry["x"] for _, entry in CASES]


def test_check_sees_a_single_wrong_value():
    outputs = [expected(entry, "single") for _, entry in CASES]
    outputs[3][0, 0] ^= 1
    with pytest.raises(AssertionError):
        check([expected(entry, "single") for _, entry in CASES], outputs)


def test_plain_c_is_exact(project, tmp_path):
    folder, outputs = project
    check(host.invoke(host.build(folder, tmp_path), inputs()), outputs)


def test_plain_c_is_clean_under_the_sanitizers(project, tmp_path):
    folder, outputs = project
    check(host.run_sanitized(host.build_sanitized(folder, tmp_path), inputs()), outputs)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33", "cortex-m0plus"])
def test_the_board_is_exact(project, tmp_path, target, compiler):
    folder, outputs = project
    try:
        elf = board.build(folder, tmp_path, target, compiler=compiler)
    except RuntimeError as error:
        if "There is no compiler" not in str(error):
            raise
        pytest.skip(str(error))
    check(board.run(elf, inputs()).outputs, outputs)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 2000, 50))
def test_random_single_weights(first, tmp_path):
    """Under the sanitizers here, and on the virtual board."""
    entries = []
    for seed in range(first, first + 50):
        rng = np.random.default_rng(seed)
        cols = int(rng.choice([rng.integers(1, 300), rng.integers(1, 3000)]))
        density, shift = rng.choice([0, 0.02, 0.1, 0.5, 1]), int(rng.integers(-3, 24))
        entries.append(layer(int(rng.integers(1, 30)), cols, density, 1, seed, right_shift=shift))
    rounding = ("single", "double")[first // 50 % 2]
    network, x = model(entries), [entry["x"] for entry in entries]
    layers = lower(network, TARGET, rounding=rounding, formats=lambda w: [fc.pack_csr(w)])
    outputs = [expected(entry, rounding) for entry in entries]
    folder = tmp_path / "project"
    write(folder, c_source.emit(network, b"", layers, TARGET, x, outputs, rounding))
    runs = host.run_sanitized(host.build_sanitized(folder, tmp_path), x)
    for got in (runs, board.run(board.build(folder, tmp_path, "cortex-m4"), x).outputs):
        for index, (a, b) in enumerate(zip(got, outputs, strict=True)):
            np.testing.assert_array_equal(a, b, err_msg=f"seed {first + index}")


def test_the_roundings_differ():
    """Or the two parametrisations above would prove the same thing twice."""
    entry = layer(64, 128, 0.5, 4, 9, right_shift=8)
    entry["x"] = np.random.default_rng(0).integers(-128, 128, (60, 128)).astype(np.int8)
    assert (expected(entry, "single") != expected(entry, "double")).any()


@pytest.mark.parametrize("dyadic", [False, True])
@pytest.mark.parametrize("out", [64, 1])
def test_the_big_integers_are_those_of_the_interpreters(out, dyadic):
    """LiteRT's reference kernels round once, TensorFlow Lite Micro's twice."""
    entry = layer(out, 32, 0.5, 4, 10, right_shift=3, dyadic=dyadic)
    entry["x"] = np.random.default_rng(0).integers(-128, 128, (200, 32)).astype(np.int8)
    data = as_tflite(model([entry]))
    once = convert.run_reference(data, [entry["x"]])[0]
    np.testing.assert_array_equal(once, expected(entry, "single"))
    pytest.importorskip("tflite_micro")
    twice = convert.run_tflite_micro(data, [entry["x"]])[0]
    np.testing.assert_array_equal(twice, expected(entry, "double"))
