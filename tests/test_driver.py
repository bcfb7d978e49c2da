"""The loop: what it keeps, undoes and freezes; that it goes on where it was; what it refuses."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import scalpel_tf as sc
from scalpel_tf.core import left_nodes
from scalpel_tf.driver import loop, nodes_left, training
from scalpel_tf.driver.folder import digest


def blobs(count=600, width=16, classes=4, seed=0):
    """Points around centres: a task that a small network learns in a second."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(0, 1, (classes, width))
    y = rng.integers(0, classes, count)
    return (centres[y] + rng.normal(0, 0.7, (count, width))).astype(np.float32), y


def small_network(x, y, dropout=0.0, units=24):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(x.shape[1:], name="x")
    h = keras.layers.Dense(units, activation="relu", name="fc1")(inputs)
    h = keras.layers.Dropout(dropout, name="drop")(h)
    h = keras.layers.Dense(16, activation="relu", name="fc2")(h)
    model = keras.Model(inputs, keras.layers.Dense(4, name="fc3")(h), name="small")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=6, verbose=0)
    return model


@pytest.fixture(scope="module")
def points():
    return blobs()


@pytest.fixture(scope="module")
def network(points):
    return small_network(*points, dropout=0.2)


def fit_to(network, points, out, **options):
    settings = {"target": "gpu", "epochs": 2, "max_accuracy_drop": 0.05, "step": 0.5}
    settings |= {"min_density": 0.4, "skip": None, **options}
    return sc.scalpel(network, points, out=out, **settings)


@pytest.fixture(scope="module")
def whole(network, points, tmp_path_factory):
    return fit_to(network, points, tmp_path_factory.mktemp("driver") / "run")


def test_a_run_prunes_until_all_is_frozen(network, whole):
    state, folder = whole.state, whole.folder
    assert state == json.loads((folder / "state.json").read_text())
    assert state["status"] == "done" and (state["unit"], state["source"]) == ("MACs", "modelled")
    assert state["peak"] is None
    assert set(state["frozen"]) == {"fc1", "fc2", "fc3"} and "fc3" in whole.report
    steps = [step for step in state["steps"] if step["kept"]]
    assert len(steps) >= 2 and state["steps"][0]["layer"] == "fc1"
    assert all(s["metric"] >= state["baseline"]["metric"] - 0.0501 for s in steps)
    assert all(bool(s["reason"]) != s["kept"] for s in state["steps"])
    for step in state["steps"]:  # 0.5 in the first round, its root in the second
        assert step["to"] / step["from"] > 0.5 ** (1 / 2 ** step["round"]) - 0.05
    for step in steps:
        nodes = {layer["path"]: layer["nodes"] for layer in step["layers"]}
        assert step["layer"] in step["nodes_left"]
        for path, left in step["nodes_left"].items():
            assert len(left_nodes.unpack(left)) == nodes[path]
    last = state["steps"][state["best"]]
    assert last["time"] < 0.6 * state["baseline"]["time"]
    assert network.get_layer("fc1").kernel.shape == (16, 24)
    assert digest(whole.model) == last["digest"]
    best = keras.models.load_model(folder / "best.keras")
    assert digest(best) == last["digest"] and best.get_layer("fc3").kernel.shape[-1] == 4
    assert best.get_layer("drop").rate == 0.2 and state["dropout"]["drop"] < 0.2
    names = {path.name for path in folder.iterdir()}
    assert {"dense.keras", "best.keras", "state.json", last["file"]} <= names
    assert not [n for n in names if n.startswith("step_") and n != last["file"]]


def test_a_layer_whose_last_step_saved_next_to_nothing_gets_no_more(
    network, points, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "VAIN", 2.0)  # whatever a step saves
    state = fit_to(network, points, tmp_path / "run", layers=["fc1", "fc2"]).state
    kept = [step["layer"] for step in state["steps"] if step["kept"]]
    assert sorted(kept) == ["fc1", "fc2"]
    for path, reason in state["frozen"].items():
        assert reason.startswith("its last step saved ")
        assert f"{path} is frozen: {reason}." in state["decisions"]


def test_what_a_step_saved_is_counted_in_what_was_to_be_saved_before_it():
    run = SimpleNamespace(now={"layers": [{"bytes": 30, "time": 9}, {"bytes": 20, "time": None}]})
    run._totals = partial(loop.Loop._totals, run)
    assert loop.Loop._vain(run, 0.3, {"bytes": 100}) is None  # flash was missed, and is met now
    assert loop.Loop._vain(run, 0.3, {"bytes": 50.1, "time": 9}) == "its last step saved 0.2%"
    assert loop.Loop._vain(run, 0.6, {"bytes": 50.1}) is None  # too dense for kernels to pay


def test_a_run_that_was_killed_ends_as_one_that_was_not(
    network, points, whole, tmp_path, monkeypatch
):
    real, calls = training.retrain, []

    def dying(*arguments):
        calls.append(1)
        model = real(*arguments)
        if len(calls) in (2, 3):
            raise KeyboardInterrupt
        return model

    monkeypatch.setattr(training, "retrain", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit_to(network, points, tmp_path / "run")
        assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "running"
    broken = fit_to(network, points, tmp_path / "run")
    assert [s["digest"] for s in broken.state["steps"]] == [
        s["digest"] for s in whole.state["steps"]
    ]
    both = [[s["nodes_left"] for s in state["steps"]] for state in (broken.state, whole.state)]
    assert both[0] == both[1]
    count = len(calls)
    assert fit_to(network, points, tmp_path / "run").state == broken.state
    assert len(calls) == count
    with pytest.raises(ValueError, match="a run with other options"):
        fit_to(network, points, tmp_path / "run", min_density=0.2)
    with pytest.raises(ValueError, match="a run with other data"):
        fit_to(network, (points[0] + 1, points[1]), tmp_path / "run")


def test_groups_are_pruned_on_the_virtual_board_until_the_budget_is_met(points, tmp_path):
    network = small_network(*points, dropout=0.2, units=64)
    budgets = {"latency": 5_000, "flash": 64 * 1024, "min_density": 0.1}
    result = fit_to(network, points, tmp_path / "run", target="cortex-m4", **budgets)
    state = result.state
    assert (state["unit"], state["source"]) == ("cycles", "modelled")
    last = state["steps"][-1]
    assert result.met and last["time"] <= 5_000 < state["baseline"]["time"]
    kernel = np.asarray(result.model.get_layer(last["layer"]).kernel)
    groups = kernel.T.reshape(kernel.shape[1], -1, 4).any(2)
    assert groups.any(1).all() and kernel.shape[1] < 64  # nodes without groups are gone
    assert len(nodes_left.so_far(state)[last["layer"]]) == kernel.shape[1]
    assert 0 < state["dropout"]["drop"] < 0.2  # and with them a part of the dropout
    assert groups.sum() <= last["to"] * 64 * groups.shape[1]
    assert state["fractions"]["groups"][last["layer"]] == pytest.approx(groups.mean())
    assert state["int8"]["metric"] >= state["baseline"]["metric"] - 0.05
    assert (tmp_path / "run" / "model.tflite").stat().st_size > 1000
    model_json = json.loads((tmp_path / "run" / "firmware" / "model.json").read_text())
    assert model_json["target"] == "cortex-m4"
    assert any("latency is met" in sentence for sentence in state["decisions"])


def test_a_baseline_prunes_single_weights_and_is_only_measured(network, points, tmp_path):
    options = {"target": "cortex-m4", "method": "traditional", "layers": "fc1", "min_density": 0.6}
    result = fit_to(network, points, tmp_path / "run", **options)
    step = result.state["steps"][result.state["best"]]
    assert step["method"] == "elements" and step["kept"]
    kernel = np.asarray(result.model.get_layer("fc1").kernel)
    assert np.count_nonzero(kernel) / kernel.size == pytest.approx(step["to"], abs=0.01)
    assert result.state["exported"] is None and "is a baseline" in result.report
    assert step["layers"][0]["bytes"] > step["layers"][0]["kept"] * 2  # a column for each weight


def test_a_users_losses_metrics_datasets_and_callbacks_are_kept(tmp_path):
    x, y = blobs()
    keras.utils.set_random_seed(2)
    inputs = {"a": keras.Input((8,), name="a"), "b": keras.Input((8,), name="b")}
    h = keras.layers.Concatenate()(list(inputs.values()))
    h = keras.layers.Dense(32, activation="relu", name="hidden")(h)
    outputs = {
        "kind": keras.layers.Dense(4, name="kind")(h),
        "sum": keras.layers.Dense(1, name="sum")(h),
    }
    model = keras.Model(inputs, outputs, name="two_ways")

    def own_loss(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(keras.ops.cast(y_true, y_pred.dtype) - y_pred), -1)

    model.compile(
        keras.optimizers.Adam(0.01),
        {"kind": keras.losses.SparseCategoricalCrossentropy(True), "sum": own_loss},
        loss_weights={"kind": 1.0, "sum": 0.1},
        metrics={"kind": [keras.metrics.SparseCategoricalAccuracy(name="acc")]},
    )

    def dataset():
        targets = {"kind": y, "sum": x.sum(1, keepdims=True)}
        whole = tf.data.Dataset.from_tensor_slices(({"a": x[:, :8], "b": x[:, 8:]}, targets))
        return whole.shuffle(600).batch(50)

    model.fit(dataset(), epochs=6, verbose=0)
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs))
    result = fit_to(
        model,
        dataset,
        tmp_path / "run",
        validation_data=dataset(),
        callbacks=[watch],
    )
    assert result.state["config"]["metric"] == "kind_acc"
    assert seen and {"kind_loss", "sum_loss", "kind_acc"} <= set(seen[0])
    assert any(step["kept"] for step in result.state["steps"])
    assert set(result.model.output_names) == {"kind", "sum"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"target": "z80"}, "Unknown target 'z80'"),
        ({"step": 1.0}, "`step` lies between 0 and 1"),
        ({"epochs": 0}, "`epochs` is a whole number"),
        ({"max_accuracy_drop": -0.1}, "`max_accuracy_drop` is a number from 0 on"),
        ({"flash": 1000}, "budgets of microcontrollers"),
        ({"mix": {"conv": "nodes"}}, '`mix` has "conv" and "fc"'),
        ({"method": "traditional"}, "only microcontrollers have kernels"),
        ({"metric": "f1"}, "one of the compiled metrics"),
        ({"fit_options": {"epochs": 3}}, "`fit_options` has 'epochs'"),
        ({"layers": "fc9"}, "fc9"),
        ({"skip": ["fc1", "fc2", "fc3"]}, "no layer to prune"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, network, points, tmp_path):
    with pytest.raises(ValueError, match=message):
        fit_to(network, points, tmp_path / "run", **change)


def test_data_that_does_not_fit_is_refused(network, points, tmp_path):
    x, y = points
    with pytest.raises(ValueError, match="one length"):
        fit_to(network, (x, y[:9]), tmp_path / "run")
    with pytest.raises(ValueError, match="give `validation_data`"):
        fit_to(network, tf.data.Dataset.from_tensor_slices((x, y)).batch(8), tmp_path / "run")
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "run" / "thesis.txt").write_text("not a run")
    with pytest.raises(ValueError, match="holds other files than a run"):
        fit_to(network, points, tmp_path / "run")


@pytest.mark.slow
def test_kill_9_twice_and_the_end_is_bit_identical(tmp_path):
    data = sc.zoo.datasets.mnist()
    np.savez(tmp_path / "data.npz", x_train=data.x_train[:4000], y_train=data.y_train[:4000])
    keras.utils.set_random_seed(0)
    model = sc.zoo.networks.lenet_5()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.03, momentum=0.9), loss, metrics=["accuracy"])
    model.fit(data.x_train[:4000], data.y_train[:4000], epochs=2, verbose=0)
    model.save(tmp_path / "lenet_5.keras")

    def start(out):
        command = [sys.executable, "-m", "scalpel_tf.cli", "prune", tmp_path / "lenet_5.keras"]
        command += ["--data", tmp_path / "data.npz", "--target", "cortex-m4", "--epochs", "1"]
        command += ["--max_accuracy_drop", "0.01", "--latency", "2000000", "--out", out]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)

    def begun(out):
        """Whether this process has read or written the state of the run."""
        lock = out / ".lock"
        return (out / "state.json").is_file() and lock.stat().st_mtime > launched

    assert start(tmp_path / "whole").wait() == 0
    for _ in range(2):
        launched = time.time()
        process = start(tmp_path / "broken")
        while process.poll() is None and not begun(tmp_path / "broken"):
            time.sleep(0.1)
        time.sleep(random.uniform(0, 6))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was still at work
        state = json.loads((tmp_path / "broken" / "state.json").read_text())
        assert state["status"] == "running"
    assert start(tmp_path / "broken").wait() == 0
    whole, broken = (
        json.loads((tmp_path / name / "state.json").read_text()) for name in ("whole", "broken")
    )
    assert [s["digest"] for s in whole["steps"]] == [s["digest"] for s in broken["steps"]]
    same = [(tmp_path / name / "model.tflite").read_bytes() for name in ("whole", "broken")]
    assert same[0] == same[1]
