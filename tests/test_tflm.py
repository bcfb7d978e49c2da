"""The rewritten model: what is custom decodes to the weights that it had, all else is as it was."""

import json
import re
import struct

import fc_model
import keras
import numpy as np
import pytest
from edited_tflite import small_model
from models import conv_model, dense_model, int8

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import convert, tflite, tflm
from scalpel_tf.deploy.export import export
from scalpel_tf.deploy.rewrite import isolate, rewrite
from scalpel_tf.deploy.tflite import Model

M4 = find_target("cortex-m4")


def sparse_image_model(seed=0):
    """Convolution, pool, convolution, dense, with random zero groups of 4 in the filters."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((11, 9, 3)),
            layers.Conv2D(6, 3, activation="relu", name="first"),
            layers.MaxPooling2D(2),
            layers.Conv2D(5, (2, 3), strides=2, padding="same", name="second"),
            layers.Flatten(),
            layers.Dense(4, name="classes"),
        ]
    )
    for layer in model.layers:
        if layer.weights:
            kernel = layer.kernel.numpy()
            flat = kernel.reshape(-1, kernel.shape[-1])
            keep = np.repeat(rng.random((-(-len(flat) // 4), flat.shape[1])) < 0.3, 4, 0)
            layer.kernel.assign(np.where(keep[: len(flat)], flat, 0).reshape(kernel.shape))
    return convert.convert(model, rng.normal(0, 1, (50, 11, 9, 3)).astype(np.float32))


def arrays(network: Model, number):
    """(options, constants) of an operator."""
    operator = network.operators[number]
    return [network.tensors[i].data for i in operator.inputs[1:]]


def decoded_rows(values, indices, rows, width, delta, cols):
    """The int8 matrix of SCALPEL_FULLY_CONNECTED's arrays, as scalpel_runtime.h describes them."""
    matrix, at = np.zeros((len(rows), cols), np.int8), 0
    groups = values[: values.size // width * width].reshape(-1, width)
    for r, (_, _, packed) in enumerate(rows.view(np.uint32)):
        steps = 8 * (int(packed) >> 16) + 8 - (int(packed) >> 8 & 15)
        group = 0
        for _ in range(8 // width * steps + (int(packed) >> 12 & 1)):
            group = int(indices[at]) + (group if delta else 0)
            first = min(width * group, cols - width)
            matrix[r, first : first + width] += groups[at]
            at += 1
    return matrix


def one_layer(**options):
    return fc_model.as_tflite(fc_model.model([fc_model.layer(**options)]))


@pytest.mark.parametrize(
    "make, kernel",
    [
        (lambda: int8(dense_model), "gcsr_fc4"),
        (lambda: one_layer(out=33, cols=1501, density=0.05, width=8, seed=1), "gcsr_fc8"),
        (lambda: one_layer(out=9, cols=2503, density=0.03, width=4, seed=2), "gcsr_fc4_delta"),
        (lambda: one_layer(out=5, cols=16, density=0.0, width=4, seed=3), None),
    ],
)
def test_fully_connected_arrays_decode_to_the_weights(make, kernel):
    data = make()
    before = tflite.read(data)
    found = tflm.sparse_operators(before, M4)
    after = tflite.read(tflm.rewritten(data, found))
    assert list(found) == list(range(len(before.operators)))
    for number, sparse in found.items():
        weights = before.tensors[before.operators[number].inputs[1]].data
        assert after.operators[number].name == "SCALPEL_FULLY_CONNECTED"
        assert sparse.kernel == (kernel or sparse.kernel)
        width = 8 if sparse.kernel.endswith("8") else 4
        delta = sparse.kernel.endswith("delta")
        got = decoded_rows(*arrays(after, number), width, delta, weights.shape[1])
        np.testing.assert_array_equal(got, weights)


def decoded_filters(values, steps, rows, planes, options):
    """The int8 weights, (out, rows, columns, channels), of SCALPEL_CONV_2D's arrays."""
    numbers = struct.unpack("<6b19i", options)
    kernel, window, (_, _, entries, _, _) = numbers[1], numbers[6:20], numbers[20:]
    channels, out, filter = window[2], window[5], window[6:8]
    apart, dilation = window[9] * channels, window[10:12]
    weights, at, value = np.zeros((out, *filter, channels), np.int8), 0, 0
    for r, packed in enumerate(rows.view(np.uint32)[:, 3].tolist()):
        at, entry = 0 if kernel >= 2 else at, 0
        for _ in range(16 * (packed >> 8 & 255) + 16 - (packed >> 16) // 60):
            entry += int(steps[at])
            line, rest = divmod(entry, len(planes) * entries)
            plane, shift = divmod(rest, entries)
            first, second, bits = planes[plane].tolist()
            for lane in range(4):
                split, below = bits & 255, bits >> 8
                place = (first if lane < split else second) + lane + shift * apart
                row = line // dilation[0] + (below if lane >= split else 0)
                column, channel = divmod(place, channels)
                weight = values[4 * value + lane]
                if weight:
                    weights[r, row, column // dilation[1], channel] += weight
            at, value = at + 1, value + 1
    return weights


def test_convolution_arrays_decode_to_the_weights():
    data = sparse_image_model()
    before = tflite.read(data)
    found = tflm.sparse_operators(before, M4)
    after = tflite.read(tflm.rewritten(data, found))
    assert [before.operators[i].name for i in found] == ["CONV_2D", "CONV_2D", "FULLY_CONNECTED"]
    for number, sparse in found.items():
        if sparse.kernel == "gcsr_conv":
            weights = before.tensors[before.operators[number].inputs[1]].data
            got = decoded_filters(*arrays(after, number), sparse.custom.options)
            np.testing.assert_array_equal(got, weights)


def test_all_else_stays_as_it_was():
    data = sparse_image_model()
    before = tflite.read(data)
    after = tflite.read(tflm.rewritten(data, tflm.sparse_operators(before, M4)))
    pairs = list(zip(before.operators, after.operators, strict=True))
    kept = [(a, b) for a, b in pairs if not b.name.startswith("SCALPEL")]
    assert [b.name for _, b in kept] == ["MAX_POOL_2D", "RESHAPE"]
    for old, new in pairs:
        assert new.options == (old.options if (old, new) in kept else {})
        for i, j in [(old.inputs[0], new.inputs[0]), (old.outputs[0], new.outputs[0])]:
            a, b = before.tensors[i], after.tensors[j]
            assert (a.name, a.shape, a.dtype, a.scale, a.zero_point) == (
                *(b.name, b.shape, b.dtype, b.scale, b.zero_point),
            )
    constants = [tensor for tensor in after.tensors if tensor.data is not None]
    assert all(any(t.index in op.inputs for op in after.operators) for t in constants)


def test_constants_are_aligned_to_16_bytes():
    model = rewrite(small_model(), {})
    start = np.frombuffer(model, np.uint8).ctypes.data
    constants = [tensor.data for tensor in tflite.read(model).tensors if tensor.data is not None]
    assert len(constants) >= 4
    assert [(array.ctypes.data - start) % 16 for array in constants] == [0] * len(constants)


@pytest.mark.parametrize("number", [0, 3])
def test_an_operator_alone_has_its_own_tensors_only(number):
    whole, network = tflite.read(small_model()), tflite.read(isolate(small_model(), number))
    assert [op.name for op in network.operators] == [whole.operators[number].name]
    inputs = set(network.operators[0].inputs) - {-1}
    assert len(network.tensors) == len(inputs) + 1
    for i, j in zip(whole.operators[number].inputs, network.operators[0].inputs, strict=True):
        if i >= 0:
            np.testing.assert_array_equal(whole.tensors[i].data, network.tensors[j].data)


@pytest.mark.parametrize("make", [lambda: int8(conv_model), small_model])
def test_a_model_without_custom_operators_runs_in_the_stock_wheel(make):
    pytest.importorskip("tflite_micro")
    data = make()
    network = tflite.read(data)
    found = tflm.sparse_operators(network, M4)
    model = tflm.rewritten(data, {})
    shape = (20, *network.tensors[network.inputs[0]].shape[1:])
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    assert len(found) < len(network.operators)
    np.testing.assert_array_equal(
        convert.run_tflite_micro(model, x)[0], convert.run_tflite_micro(data, x)[0]
    )


def test_the_folder(tmp_path):
    report = export(sparse_image_model(), out=tmp_path / "out", project="tflm")
    folder = tmp_path / "out"
    description = json.loads((folder / "model.json").read_text())
    kernels = [layer["kernel"] for layer in report.layers]
    assert kernels.count("SCALPEL_CONV_2D") == 2 and kernels.count("SCALPEL_FULLY_CONNECTED") == 1
    assert report.verified and "TensorFlow Lite Micro" in report.verified[0]
    header = (folder / "model_ops.h").read_text()
    assert re.findall(r"resolver\.(\w+)\(", header) == [
        *("AddMaxPool2D", "AddReshape", "AddCustom", "AddCustom")
    ]
    assert "MicroMutableOpResolver<4>" in header
    assert f"kModelArenaBytes = {description['arena_bytes']};" in header
    numbers = (folder / "model_data.cc").read_text().split("{")[1].split("}")[0]
    model = bytes(map(int, numbers.split(",")))
    assert len(model) == description["model_bytes"] == report.flash
    assert (
        "#define SCALPEL_DOUBLE_ROUNDING 1" in (folder / "runtime/scalpel_rounding.h").read_text()
    )
    assert not re.search(r"@[A-Z]+@", (folder / "README.md").read_text())
    names = {path.name for path in folder.rglob("*")}
    assert {"scalpel_conv.cc", "scalpel_fully_connected.cc", "scalpel_gcsr_conv.c"} <= names
    assert "scalpel_softmax_s8.c" not in names


def test_a_check_of_the_constants_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`check` is for the constants of C projects"):
        export(small_model(), out=tmp_path / "out", project="tflm", check=True)
    assert not list(tmp_path.iterdir())


def test_the_resolver_names_the_methods_of_tensorflow_lite_micro():
    names = ["CONV_2D", "FULLY_CONNECTED", "L2_NORMALIZATION", "SPACE_TO_BATCH_ND", "PADV2"]
    methods = [
        "AddConv2D",
        "AddFullyConnected",
        "AddL2Normalization",
        "AddSpaceToBatchNd",
        "AddPadV2",
    ]
    assert [tflm.method_of(name) for name in names] == methods
