"""The end of a run: int8 where the target wants it, the export, the page, the summary."""

import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from scalpel_tf.deploy import convert, host
from scalpel_tf.deploy.export import export, quantise
from scalpel_tf.deploy.project import read as read_project
from scalpel_tf.driver import training
from scalpel_tf.driver.folder import BEST
from scalpel_tf.driver.loop import time_stamp
from scalpel_tf.report import figure, table
from scalpel_tf.train.batches import batches

TFLITE, FIRMWARE, NATIVE = "model.tflite", "firmware", "native"
UNLIMITED = 1 << 40
TUNING_EPOCHS = 3  # times the epochs of a step


def finish(loop, samples):
    """Converts and exports the best model and writes the page; the state is then done."""
    state, options = loop.state, loop.options
    if state["decided"] is None:
        state["decided"] = len(state["decisions"])
    del state["decisions"][state["decided"] :]  # of an end that was killed
    if options.method != "scalpel":
        loop.decide(f"{options.method} pruning is a baseline, to be compared: nothing is exported.")
    elif options.facts.is_microcontroller:
        _to_int8(loop, samples)
        _export(loop, loop.folder.path / TFLITE, FIRMWARE, flash=options.flash, ram=options.ram)
    elif loop.meter.source == "measured":
        _export(loop, loop.folder.load_model(loop.best_file), NATIVE, dtype="float32")
    for name, budget, value, met in loop.budgets():
        words = "is met" if met else "is MISSED: accuracy allows no more"
        loop.decide(f"The budget of {figure(budget)} for {name} {words}, {figure(value)} now.")
    state["status"], state["finished"] = "done", time_stamp()
    loop.folder.save()
    _page(loop.folder.path)


def _to_int8(loop, samples):
    """model.tflite of the best model, trained on as int8 where conversion costs accuracy."""
    best = loop.folder.load_model(loop.best_file)
    metric = loop.goal.metric
    data, value = _converted(loop, best, samples)
    found = {
        "dense_metric": loop.goal.baseline,
        "float_metric": loop.now["metric"],
        "metric": value,
        "finetuned": False,
    }
    if not loop.goal.is_good(value):
        loop.say(f"int8 costs accuracy ({metric} {value:.4f}): training on as int8")
        tuned = _tuned(loop, best, samples)
        tuned_data, tuned_value = _converted(loop, tuned, samples)
        if loop.goal.score(tuned_value) > loop.goal.score(value):
            data, value = tuned_data, tuned_value
            found |= {"metric": value, "finetuned": True}
            loop.folder.save_model(tuned, BEST)
    word = "after training on as int8" if found["finetuned"] else "without further training"
    loop.state["int8"] = found
    missed = "" if loop.goal.is_good(value) else f", which is MISSED: {loop.goal.bar:.4f} is needed"
    loop.decide(
        f"As int8 the model has {metric} {value:.4f}, {word}; the dense float model "
        f"{loop.goal.baseline:.4f}{missed}."
    )
    path = loop.folder.path / TFLITE
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def _tuned(loop, model, samples):
    from scalpel_tf.train import int8_training

    keras.utils.set_random_seed(loop.options.seed * 100_003 + 99_999)
    inputs = samples if len(samples) > 1 else samples[0]
    aware = int8_training.int8_aware(model, inputs)
    trained = loop.retrain(aware, {}, TUNING_EPOCHS * loop.options.epochs)
    return int8_training.plain(trained)


def _converted(loop, model, samples):
    """(the bytes of the int8 model, its metric on the validation data).

    It is that of the exported C, run here, which equals TensorFlow Lite's bit for bit.
    """
    data = convert.convert(model, samples if len(samples) > 1 else samples[0])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        export(data, target=loop.options.target, out=folder, flash=UNLIMITED, ram=UNLIMITED)
        value = _evaluated(loop, model, folder, read_project(folder))
    return data, value


def _evaluated(loop, model, folder, entries):
    library, predictions, targets, weights = host.build(folder, folder), [], [], []
    for x, y, weight in batches(loop.data.validation, batch_size=256):
        inputs = [
            quantise(np.asarray(leaf), entry)
            for leaf, entry in zip(keras.tree.flatten(x), entries["inputs"], strict=True)
        ]
        outputs = [
            (o.astype(np.float32) - e.get("zero_point", 0)) * e.get("scale", 1)
            for o, e in zip(host.invoke(library, inputs), entries["outputs"], strict=True)
        ]
        if not predictions:
            order = _order(model, x, outputs)
        predictions.append([outputs[index] for index in order])
        targets.append(y)
        weights.append(weight)
    return _score(loop, model, predictions, targets, weights)


def _order(model, x, outputs):
    """For each output of the Keras model, which of the converter's is nearest to it."""
    found, left = [], list(range(len(outputs)))
    for expected in keras.tree.flatten(model.predict_on_batch(x)):
        same = [i for i in left if outputs[i].shape == expected.shape]
        found.append(min(same, key=lambda i: np.abs(outputs[i] - expected).mean()))
        left.remove(found[-1])
    return found


def _score(loop, model, predictions, targets, weights):
    """The metric of outputs that are there already, by a model that only passes them on."""
    outputs = [np.concatenate(parts) for parts in zip(*predictions, strict=True)]
    inputs = [keras.Input(o.shape[1:]) for o in outputs]
    passed = [
        keras.layers.Identity(name=name)(x)
        for name, x in zip(_output_names(model), inputs, strict=True)
    ]
    structure = keras.tree.pack_sequence_as(loop.like.output, passed)
    scorer = training.compile_like(keras.Model(inputs, structure), loop.like)
    x = outputs if len(outputs) > 1 else outputs[0]
    y = _joined(targets)
    weight = None if weights[0] is None else _joined(weights)
    values = scorer.evaluate(
        x, y, sample_weight=weight, batch_size=256, verbose=0, return_dict=True
    )
    return float(values[loop.goal.metric])


def _output_names(model):
    return list(getattr(model, "output_names", None) or ["output"])


def _joined(parts):
    return keras.tree.map_structure(
        lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts
    )


def _export(loop, model, name, **arguments):
    """The export; where it does not fit, a decision says so and the run is still whole."""
    try:
        report = export(model, target=loop.options.target, out=loop.folder.path / name, **arguments)
    except ValueError as error:
        loop.decide(f"The export was refused: {error}")
        return
    last = loop.now
    loop.state["exported"] = {
        "folder": name,
        "flash": getattr(report, "flash", None),
        "ram": getattr(report, "ram", None),
        "time": last["time"],
    }
    loop.say(str(report))


def _page(folder: Path):
    try:
        from scalpel_tf.report_page import write

        print(f"report: {write(folder)}", flush=True)
    except Exception as error:  # the run itself is whole
        warnings.warn(f"No report.html was written: {error}", stacklevel=2)


def summary(loop) -> str:
    """The run as text."""
    state = loop.state
    last, first = loop.now, state["baseline"]
    before = {layer["path"]: layer for layer in first["layers"]}
    rows = [["layer", "nodes", "density", f"{state['unit']} before", "after", "times faster"]]
    for layer in [*last["layers"], {**last, "path": "all"}]:
        own = first if layer["path"] == "all" else before[layer["path"]]
        times = own["time"], layer["time"]
        whole = layer["path"] == "all"
        rows.append(
            [
                layer["path"],
                "" if whole else f"{own['nodes']} -> {layer['nodes']}",
                "" if whole else f"{layer['density']:.1%}",
                *("" if t is None else figure(t) for t in times),
                f"{times[0] / times[1]:.2f}" if all(times) else "",
            ]
        )
    name = state["config"]["metric"]
    lines = [
        table(rows),
        f"times are {state['source']}; {name} {first['metric']:.4f} dense, "
        f"{last['metric']:.4f} pruned"
        + (f", {state['int8']['metric']:.4f} int8" if state["int8"] else "")
        + " (validation data)",
        *state["decisions"],
        f"{len(state['steps'])} steps, {state['seconds'] / 60:.1f} minutes; all of it is in "
        f"{loop.folder.path}",
    ]
    return "\n".join(lines)
