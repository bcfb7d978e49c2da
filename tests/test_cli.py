"""The command line: results, JSON, exit codes."""

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from models import dense_model, int8

from scalpel_tf import cli, cli_prune
from scalpel_tf.deploy import convert
from scalpel_tf.train import callbacks


def call(*arguments):
    """The exit code of a command, run in this process."""
    return cli._main(cli.parse(["scalpel-tf", *map(str, arguments)]))


def test_targets_lists_them_all(tmp_path, capsys):
    assert call("targets", "--json", tmp_path / "targets.json") == 0
    entries = json.loads((tmp_path / "targets.json").read_text())
    printed = capsys.readouterr().out
    assert len(entries) == 10
    assert all(entry["name"] in printed and entry["source"] for entry in entries)


def test_export_then_run(tmp_path, capsys):
    data = int8(dense_model)
    (tmp_path / "model.tflite").write_bytes(data)
    firmware = tmp_path / "firmware"
    arguments = ["--target", "cortex-m4", "--out", firmware, "--json", tmp_path / "export.json"]
    assert call("export", tmp_path / "model.tflite", *arguments) == 0
    report = json.loads((tmp_path / "export.json").read_text())
    assert report["layers"][0]["kernel"] == "gcsr_fc4" and report["path"] == str(firmware)

    x = np.random.default_rng(0).integers(-128, 128, (4, 37)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    outputs = ["--outputs", tmp_path / "y.npy", "--json", tmp_path / "run.json"]
    assert call("run", firmware, "--inputs", tmp_path / "x.npy", *outputs) == 0
    expected = convert.run_reference(data, x)[0]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    result = json.loads((tmp_path / "run.json").read_text())
    assert result["outputs"] == [expected.tolist()]
    assert result["source"] == "modelled" and result["cycles"] > sum(
        layer["cycles"] for layer in result["layers"]
    )
    assert re.search(r"fc1 +[\d,]+ +[\d,]+\n", capsys.readouterr().out)


def test_run_takes_real_values_and_quantises_them(tmp_path):
    data = int8(dense_model)
    (tmp_path / "model.tflite").write_bytes(data)
    assert call("export", tmp_path / "model.tflite", "--out", tmp_path / "firmware") == 0
    x = np.random.default_rng(0).normal(0, 1, (3, 37)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    run = ["run", tmp_path / "firmware", "--inputs", tmp_path / "x.npy", "--target", "cortex-m3"]
    assert call(*run, "--outputs", tmp_path / "y.npy") == 0
    entry = json.loads((tmp_path / "firmware" / "model.json").read_text())["inputs"][0]
    q = np.clip(np.round(x / np.float32(entry["scale"])) + entry["zero_point"], -128, 127)
    expected = convert.run_reference(data, q.astype(np.int8))[0]
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)


def test_prune_writes_a_plain_model_with_zeros(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (300, 37)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=np.argmax(x[:, :10], 1))
    model = keras.models.clone_model(dense_model((20, 10), 37, 1.0))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    model.save(tmp_path / "model.keras")
    arguments = ["--data", tmp_path / "data.npz", "--epochs", 4, "--ratio", 0.5, "--skip", "fc2"]
    out = tmp_path / "pruned.keras"
    json_path = ["--json", tmp_path / "r.json"]
    assert call("prune", tmp_path / "model.keras", *arguments, "--out", out, *json_path) == 0
    pruned = keras.models.load_model(out)
    assert [type(layer).__name__ for layer in pruned.layers] == ["InputLayer", "Dense", "Dense"]
    kernel = np.array(pruned.get_layer("fc1").kernel)
    groups = np.pad(kernel, ((0, 3), (0, 0))).reshape(10, 4, 20).any(1)
    assert groups.mean() == pytest.approx(0.5)
    assert np.count_nonzero(np.array(pruned.get_layer("fc2").kernel)) == 200
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["skipped"] == [["fc2", "`skip` selects it"]] and result["after"]["accuracy"] > 0
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".keras", ".keras", ".npz"]


PRUNE_ONCE = ["prune", "m.keras", "--data", "d.npz", "--ratio", "0.5"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["export", "missing.tflite", "--out", "o"], "missing.tflite is not a file"),
        (["run", ".", "--inputs", "x.npy"], "no model.json"),
        (["prune", "missing.keras", "--data", "d.npz", "--out", "o"], "missing.keras"),
        (
            ["prune", "m.keras", "--data", "d.npz", "--out", "o.h5", "--ratio", "0.5"],
            "`out` is the .keras file",
        ),
        (
            ["prune", "m", "--data", "d", "--out", "o.keras", "--epochs", "1", "--ratio", "0.5"],
            "at least 2",
        ),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith(f"scalpel-tf {arguments[0]}: ")
    assert error.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["flash"], ["export", "m.tflite"], ["export", "--x"]])
def test_a_wrong_command_line_is_exit_code_2(arguments):
    command = [sys.executable, "-m", "scalpel_tf.cli", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "usage: scalpel-tf" in result.stderr


@pytest.mark.parametrize("text, value", [("1024", 1024), ("256K", 256 * 1024), ("1m", 1024**2)])
def test_bytes(text, value):
    assert cli_prune.size(text) == value


def test_a_prune_that_was_killed_goes_on_from_its_last_epoch(tmp_path, monkeypatch, capsys):
    x = np.random.default_rng(0).normal(0, 1, (300, 37)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=np.argmax(x[:, :10], 1))
    dense_model().save(tmp_path / "model.keras")
    arguments = ["prune", tmp_path / "model.keras", "--data", tmp_path / "data.npz"]
    arguments += ["--epochs", 4, "--ratio", 0.9, "--out", tmp_path / "pruned.keras"]

    def killed(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.AdjustDropout, "on_epoch_begin", killed)
        with pytest.raises(KeyboardInterrupt):
            call(*arguments)
    assert not (tmp_path / "pruned.keras").exists()
    assert "Epoch 2/4" in capsys.readouterr().out
    assert call(*arguments) == 0
    printed = capsys.readouterr().out
    assert "Epoch 3/4" in printed and "Epoch 2/4" not in printed
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("data.npz", "model.keras", "pruned.keras")
    ]
