"""Export: verified, complete, whole or not at all; and every refusal in one sentence."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import conv_model, dense_model, int8

from scalpel_tf.deploy import convert, host, lower, tflite, toolchain
from scalpel_tf.deploy import export as export_module
from scalpel_tf.deploy.export import export, quantise, run
from scalpel_tf.zoo import networks

CMAKE = shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))


def noise(data, samples=20, seed=0):
    network = tflite.read(data)
    shape = (samples, *network.tensors[network.inputs[0]].shape[1:])
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(folder, report, bytes) of the sparse model."""
    data = int8(dense_model)
    folder = tmp_path_factory.mktemp("export") / "firmware"
    return folder, export(data, out=folder), data


@pytest.mark.parametrize("make", [dense_model, conv_model])
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_an_export_runs_as_the_reference_does(make, target, tmp_path):
    data = int8(make)
    report = export(data, target=target, out=tmp_path / "firmware")
    assert any("virtual" in where for where in report.verified)
    x = noise(data)
    result = run(tmp_path / "firmware", [x])
    np.testing.assert_array_equal(result.outputs[0], convert.run_reference(data, x)[0])


@pytest.mark.parametrize("make", [dense_model, conv_model])
def test_with_double_rounding_it_runs_as_tflite_micro_does(make, tmp_path):
    pytest.importorskip("tflite_micro")
    data = int8(make)
    report = export(data, out=tmp_path / "firmware", rounding="double")
    assert "TensorFlow Lite Micro" in report.verified[0]
    x = noise(data)
    result = run(tmp_path / "firmware", [x])
    np.testing.assert_array_equal(result.outputs[0], convert.run_tflite_micro(data, x)[0])


def test_the_report_says_what_was_written(exported):
    folder, report, _ = exported
    description = json.loads((folder / "model.json").read_text())
    assert list(report.layers) == description["layers"]
    assert [layer["name"] for layer in report.layers] == ["fc1", "fc2"]
    assert report.layers[0]["kernel"] == "gcsr_fc4" and report.layers[0]["density"] < 0.4
    assert sum(layer["bytes"] for layer in report.layers) < report.flash < 8192
    assert description["arena_bytes"] < report.ram < 1024
    assert str(folder) in str(report) and "gcsr_fc4" in str(report)


def test_a_dense_layer_stays_dense(tmp_path):
    report = export(int8(dense_model, (20,), 37, 1.0), out=tmp_path / "firmware")
    assert report.layers[0]["kernel"] == "fc" and report.layers[0]["density"] == 1.0


def test_the_project_builds_by_itself_and_its_vectors_pass(exported, tmp_path):
    folder, _, _ = exported
    subprocess.run([CMAKE, "-S", folder, "-B", tmp_path], check=True, capture_output=True)
    subprocess.run([CMAKE, "--build", tmp_path], check=True, capture_output=True)
    result = subprocess.run([tmp_path / "model_test"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "0 of 8 test vectors differ\n")


def test_its_own_test_fails_where_a_weight_is_wrong(exported, tmp_path):
    folder, _, _ = exported
    broken = shutil.copytree(folder, tmp_path / "broken")
    text = (broken / "model.c").read_text()
    start = text.index("layer_1_rows[10] = {\n    {") + len("layer_1_rows[10] = {\n    {")
    (broken / "model.c").write_text(f"{text[:start]}9999 + {text[start:]}")
    subprocess.run([CMAKE, "-S", broken, "-B", tmp_path / "b"], check=True, capture_output=True)
    subprocess.run([CMAKE, "--build", tmp_path / "b"], check=True, capture_output=True)
    assert subprocess.run([tmp_path / "b" / "model_test"], capture_output=True).returncode != 0


def test_model_data_is_the_plain_model(exported):
    folder, _, data = exported
    text = (folder / "model_data.cc").read_text()
    numbers = text[text.index("{") + 1 : text.index("}")]
    assert bytes(map(int, numbers.split(","))) == data
    assert "alignas(16)" in text and f"model_data_size = {len(data)};" in text


def test_the_export_is_clean_under_the_sanitizers(tmp_path):
    data = int8(conv_model)
    export(data, out=tmp_path / "firmware")
    x = noise(data)
    program = host.build_sanitized(tmp_path / "firmware", tmp_path)
    np.testing.assert_array_equal(
        host.run_sanitized(program, [x])[0], convert.run_reference(data, x)[0]
    )


def test_a_keras_model_is_converted(tmp_path):
    x = np.random.default_rng(0).normal(0, 1, (30, 37)).astype(np.float32)
    dense_model().save(tmp_path / "model.keras")
    report = export(tmp_path / "model.keras", out=tmp_path / "firmware", representative_data=x)
    assert [layer["op"] for layer in report.layers] == ["FULLY_CONNECTED"] * 2


def test_an_earlier_export_is_replaced(exported, tmp_path):
    _, _, data = exported
    (tmp_path / "firmware").mkdir()
    for _ in range(2):
        export(data, out=tmp_path / "firmware")
    assert [path.name for path in tmp_path.iterdir()] == ["firmware"]


def refused(tmp_path, message, model, **options):
    """Asserts that the export fails with that sentence and leaves nothing behind."""
    out = tmp_path / "firmware"
    with pytest.raises((ValueError, RuntimeError), match=message) as caught:
        export(model, out=out, **options)
    assert not list(tmp_path.iterdir())
    assert str(caught.value).rstrip(".").count(". ") <= 1


def test_refused_sees_an_export_that_succeeds(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refused(tmp_path, "anything", int8(dense_model))


def float_model(quantise_weights):
    converter = tf.lite.TFLiteConverter.from_keras_model(dense_model())
    if quantise_weights:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


def test_refuses_float_and_dynamic_range_models(tmp_path):
    refused(tmp_path, "float32", float_model(False))
    refused(tmp_path, "float32", float_model(True))


@pytest.mark.parametrize("data", [b"", b"garbage" * 100, b"\x1c\0\0\0TFL3"])
def test_refuses_garbage(tmp_path, data):
    refused(tmp_path, "tflite", data)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_refuses_a_truncated_file(tmp_path, part):
    data = int8(dense_model)
    refused(tmp_path, "tflite|file", data[: int(len(data) * part)])


def test_refuses_an_operator_without_a_kernel_and_names_it(tmp_path):
    x = keras.Input((8,))
    model = keras.Model(x, keras.layers.Maximum()([keras.layers.Dense(8)(x), x]))
    data = convert.convert(model, np.ones((10, 8), np.float32))
    refused(tmp_path, "Operator . is MAXIMUM, which has no kernel yet", data)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"flash": 1000}, r"bytes of flash, [\d,]+ more than the 1,000 .*STM32F401CC"),
        ({"flash": 1900}, r"prune it to a ratio of about 0\.\d\d"),
        ({"ram": 20}, r"bytes of RAM, [\d,]+ more than the 20 .*fc1 \(FULLY_CONNECTED\) breaks it"),
        ({"device": "STM32F999"}, "Unknown device 'STM32F999'.*STM32F401CC"),
        ({"target": "gpu"}, "microcontroller.*got 'gpu'"),
        ({"target": "cortex-m99"}, "Unknown target"),
        ({"rounding": "up"}, 'rounding.*"single" or "double".*up'),
    ],
)
def test_refuses_what_does_not_fit(tmp_path, options, message):
    refused(tmp_path, message, int8(dense_model), **options)


def test_refuses_a_model_larger_than_every_board(tmp_path):
    data = int8(dense_model, (600, 600), 600, 1.0)
    refused(tmp_path, "128 KiB|131,072", data, target="cortex-m0plus", device="STM32G071RB")


def test_refuses_a_keras_model_without_data_or_with_wrong_data(tmp_path):
    refused(tmp_path, "representative_data", dense_model())
    refused(tmp_path, "empty", dense_model(), representative_data=np.zeros((0, 37), np.float32))
    refused(tmp_path, r"\(37,\)", dense_model(), representative_data=np.zeros((9, 36), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_weights_that_are_not_finite(tmp_path, value):
    model = keras.models.clone_model(dense_model())
    model.layers[1].bias.assign(np.full(20, value))
    x = np.zeros((9, 37), np.float32)
    refused(tmp_path, "NaN or infinity", model, representative_data=x)


def test_refuses_a_missing_file_and_a_folder_of_other_things(tmp_path):
    with pytest.raises(ValueError, match="nothing.tflite is not a file"):
        export(tmp_path / "nothing.tflite", out=tmp_path / "firmware")
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="other files than an earlier export"):
        export(int8(dense_model), out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_refuses_without_a_compiler(tmp_path, monkeypatch):
    def missing():
        raise RuntimeError("There is no C compiler here: install gcc.")

    monkeypatch.setattr(toolchain, "host", missing)
    refused(tmp_path, "no C compiler", int8(dense_model))


def test_a_wrong_kernel_is_never_written(tmp_path, monkeypatch):
    exact = lower.fc.pack_sparse

    def wrong(weights, width):
        packed = exact(weights, width)
        packed.values[::7] ^= 1
        return packed

    monkeypatch.setattr(lower.fc, "pack_sparse", wrong)
    refused(tmp_path, "differs from TensorFlow Lite's kernels", int8(dense_model))


def test_a_failure_leaves_the_earlier_export(exported, tmp_path, monkeypatch):
    folder = shutil.copytree(exported[0], tmp_path / "firmware")
    before = sorted((p.name, p.stat().st_size) for p in folder.rglob("*"))
    monkeypatch.setattr(export_module.verify.board, "run", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(exported[2], out=folder)
    assert sorted((p.name, p.stat().st_size) for p in folder.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["firmware"]


def test_quantise_saturates_and_leaves_integers_alone():
    entry = {"dtype": "int8", "scale": 0.5, "zero_point": -3}
    x = np.array([0.0, 1.0, 99.0, -99.0], np.float32)
    assert quantise(x, entry).tolist() == [-3, -1, 127, -128]
    integers = np.array([1, 2], np.int8)
    assert quantise(integers, entry) is integers


PRUNED_ELSEWHERE = """
import sys
import numpy as np, tensorflow_model_optimization as tfmot, tf_keras, tensorflow as tf
tf_keras.utils.set_random_seed(0)
model = tf_keras.Sequential([
    tf_keras.layers.Dense(64, activation="relu", input_shape=(96,)), tf_keras.layers.Dense(10)])
pruned = tfmot.sparsity.keras.prune_low_magnitude(
    model, tfmot.sparsity.keras.ConstantSparsity(0.85, 0, frequency=1), block_size=(4, 1))
pruned.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(256, 96)).astype(np.float32)
pruned.fit(x, x[:, :10], epochs=2, verbose=0,
           callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
converter = tf.lite.TFLiteConverter.from_keras_model(tfmot.sparsity.keras.strip_pruning(pruned))
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([row[None]] for row in x[:100])
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(sys.argv[1], "wb").write(converter.convert())
"""


def test_a_model_that_tfmot_pruned_in_blocks_is_exported_sparse(tmp_path):
    """tfmot flips the whole process to Keras 2, so it gets one of its own."""
    path = tmp_path / "elsewhere.tflite"
    environment = {"TF_USE_LEGACY_KERAS": "1", "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, "-c", PRUNED_ELSEWHERE, path], check=True, env=environment,
        capture_output=True,
    )  # fmt: skip
    report = export(path, out=tmp_path / "firmware")
    assert report.layers[0]["kernel"] == "gcsr_fc4"
    assert report.layers[0]["density"] == pytest.approx(0.15, abs=0.02)
    data = path.read_bytes()
    x = noise(data, 50)
    np.testing.assert_array_equal(
        run(tmp_path / "firmware", [x]).outputs[0], convert.run_reference(data, x)[0]
    )


def test_without_a_compiler_for_the_target_it_is_proved_here_only(tmp_path, monkeypatch):
    def missing(*arguments):
        raise RuntimeError("There is no compiler for Cortex-M here.")

    monkeypatch.setattr(toolchain, "arm", missing)
    report = export(int8(dense_model), out=tmp_path / "firmware")
    assert report.verified == ("this machine",)
    assert report.flash == sum(layer["bytes"] for layer in report.layers)


@pytest.mark.parametrize("build", [networks.lenet_300_100, networks.lenet_5, networks.convnet])
def test_the_networks_of_the_zoo_are_exported(build, tmp_path):
    model = build()
    x = np.random.default_rng(0).random((20, *model.input_shape[1:]), np.float32)
    report = export(model, out=tmp_path / "firmware", representative_data=x)
    assert len(report.verified) == 2
    assert sum(layer["macs"] for layer in report.layers) == {
        "lenet_300_100": 266_200, "lenet_5": 2_293_000, "convnet": 12_298_240
    }[model.name]  # fmt: skip


@pytest.mark.parametrize("kind", [tf.float32, tf.uint8])
def test_real_and_unsigned_ends_are_exported(kind, tmp_path):
    model = dense_model()
    serve = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((1, 37))])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
    x = np.random.default_rng(0).normal(0, 1, (50, 37)).astype(np.float32)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = kind
    data = converter.convert()
    report = export(data, out=tmp_path / "firmware")
    assert [layer["op"] for layer in report.layers][:2] == ["QUANTIZE", "FULLY_CONNECTED"]
    given = x if kind == tf.float32 else np.clip(x * 40 + 128, 0, 255).astype(np.uint8)
    outputs = run(tmp_path / "firmware", [given]).outputs[0]
    np.testing.assert_array_equal(outputs, convert.run_reference(data, given)[0])


def test_a_dense_layer_over_a_sequence_runs_once_per_step(tmp_path):
    x = keras.Input((5, 12))
    model = keras.Model(x, keras.layers.Dense(7, activation="relu6")(x))
    noise_in = np.random.default_rng(0).normal(0, 4, (50, 5, 12)).astype(np.float32)
    data = convert.convert(model, noise_in)
    report = export(data, out=tmp_path / "firmware")
    assert report.layers[0]["macs"] == 5 * 12 * 7
    given = noise(data, 20)
    np.testing.assert_array_equal(
        run(tmp_path / "firmware", [given]).outputs[0], convert.run_reference(data, given)[0]
    )
