"""int8 networks on this CPU, one thread: ours, pruned, beside the dense originals elsewhere.

    python benchmarks/cpu_int8.py --json i.json

Batch 1, warm caches, all in one process and in turns. Ours is what `scalpel-tf export --target
x86-64 --dtype int8` makes of the trained networks of checkpoints/ (seed 0), in a loop in C. Each
rival runs the dense network: LiteRT with XNNPACK the same int8 file that ours came from, ONNX
Runtime what its own static quantisation makes of the float32 network (a scale for each channel,
activations of 8 bits without sign), which takes and gives floats. Ranges are those of 500 training
images.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import cpu_libraries
import cpu_network_cases as cases
import cpu_network_rivals as rivals
import cpu_networks
import numpy as np
import paired

import scalpel_tf as sc
from scalpel_tf.deploy import convert, native
from scalpel_tf.deploy.export import quantise
from scalpel_tf.report import save_json

BUDGET = 4.0  # seconds of a network
CALIBRATION = 500  # images
STEPS = 2.0  # of an int8 output, between LiteRT's kernels
NEAR = 0.1  # of the largest output, between two quantisations of a network
# By network, the stored runs that lost groups.
GROUPS = {
    "lenet_300_100": {
        "groups of 4": "lenet_300_100_w4_s0",
        "fewer groups": "weight_pruning/lenet_300_100_w4_s0",
    },
    "lenet_5": {
        "groups of 4": "weight_pruning/lenet_5_w4_s0",
        "nodes+groups": "weight_pruning/lenet_5_cpu_s0",
    },
    "convnet": {"groups of 8": "weight_pruning/convnet_w8_s0"},
}


def litert(data: bytes, x: np.ndarray) -> paired.Alternative:
    """Its cheapest call of an int8 network, whose input is where it wants it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(given["index"], x)

    def result(_):
        return interpreter.get_tensor(made["index"])

    return paired.in_python("LiteRT", 1, interpreter.invoke, result)


def onnx(model, images: np.ndarray, x: np.ndarray, folder: Path) -> paired.Alternative:
    """ONNX Runtime's own quantisation of the float32 network."""
    import onnx_network
    from onnxruntime import quantization

    class Images(quantization.CalibrationDataReader):
        left = iter(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

        def get_next(self):
            image = next(self.left, None)
            return None if image is None else {"x": image[None]}

    source, made = folder / "float32.onnx", folder / "int8.onnx"
    source.write_bytes(onnx_network.from_keras(model))
    quantization.quantize_static(source, made, Images(), per_channel=True)
    return rivals.onnx_session(made.read_bytes(), model, x)


def compare(name: str, checkpoints: Path, data, folder: Path) -> list[dict]:
    """A row for the dense network and for each way to prune it; RuntimeError where a runtime's
    outputs are not what they should be."""
    case = cases.CASES[name](checkpoints)
    models = {"dense": case.dense()}
    models |= {way: load(checkpoints, name, stem) for way, stem in GROUPS[name].items()}
    images = data.x_train[:: -(-len(data.x_train) // CALIBRATION)]
    floats, own, reports = data.x_valid[:1], [], {}
    for way, model in models.items():
        file = convert.convert(model, images)
        reports[way] = sc.export(file, target="x86-64", dtype="int8", out=folder / way)
        loaded = native.load(folder / way)
        x = quantise(floats, loaded.information["inputs"][0])
        own.append(cpu_networks.ours_bound(way, loaded, x))
        expected = convert.run_reference(file, x)[0].astype(np.float64)
        paired.check(own[-1:], expected, np.zeros(expected.shape))
        if way == "dense":
            others = [litert(file, x)]
            paired.check(others, expected, np.full(expected.shape, STEPS))
    others.append(onnx(models["dense"], images, floats, folder))
    expected = np.asarray(models["dense"](floats), np.float64)
    paired.check(others[1:], expected, np.full(expected.shape, NEAR * np.abs(expected).max()))
    times = paired.measure([*own, *others], budget=BUDGET)
    measured = dict(zip([each.name for each in (*own, *others)], times, strict=True))
    rivals_times = {each.name: measured[each.name] for each in others}
    rows = []
    for way, model in models.items():
        kernel, weights = "dense" if way == "dense" else "sparse", GROUPS[name].get(way, "dense")
        fixed = {"target": f"x86-64-{loaded.isas[0]}", "dtype": "int8", "threads": 1, "batch": 1}
        facts = {"kernel": kernel, "method": way, "weights": weights} | fixed
        row = paired.row(case.name, measured[way], rivals_times, **facts)
        row |= cpu_networks.sizes(models["dense"], model, reports[way])
        row |= {"size_ratio": 4 * row["size_ratio"]}  # that of bytes over int8 weights, not floats
        rows.append(
            row | {"quartiles": cpu_networks.quartiles(measured[way], measured[row["rival"]])}
        )
    return rows


def load(checkpoints: Path, network: str, stem: str):
    return cases.small_networks.load(checkpoints / f"{stem}.npz", network)[0]


def run(names, folder: Path, checkpoints: Path, data_dir: str | None) -> dict:
    cpu_libraries.tensorflow(1)
    rows = []
    for name in names:
        scratch = folder / name
        scratch.mkdir()
        dataset = sc.zoo.datasets.cifar10 if name == "convnet" else sc.zoo.datasets.mnist
        more = compare(name, checkpoints, dataset(data_dir), scratch)
        print("\n".join(map(line, more)), flush=True)
        rows += more
    machine = paired.machine() | {"load": os.getloadavg()[0]}
    return {"machine": machine, "versions": cpu_libraries.versions(), "rows": rows}


def line(row: dict) -> str:
    """One row for people."""
    first, third = row["quartiles"]
    others = "  ".join(f"{name} {us:,.1f}" for name, us in sorted(row["rivals"].items()))
    return (
        f"{row['case']:14}{row['method']:14}{row['density']:7.2%}{row['ours']:>9,.2f} us "
        f"{row['ratio']:6.2f}x ({first:.2f} to {third:.2f}) over {row['rival']}  ({others})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--folder", type=Path, default=cases.FOLDER, help="where the weights are")
    parser.add_argument("--data_dir", help="a folder with mnist.npz and cifar10.npz")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paired.restart_clean(cpu_libraries.best_mkl_setting)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(options.networks, Path(scratch), options.folder, options.data_dir)
    if options.json:
        save_json(options.json, result)


if __name__ == "__main__":
    sys.exit(main())
