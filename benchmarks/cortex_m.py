"""Cycles, instructions and bytes on the virtual Cortex-M4, sparse beside dense beside CMSIS-NN.

    python benchmarks/cortex_m.py --network lenet-300-100 --json out.json

Fully connected layers get random groups at every density; other layers are dense. The dense rivals
are this package's own dense kernels, run here, and CMSIS-NN, whose figures are in peers/ and were
modelled in the same way. Every program's outputs are held against TensorFlow Lite's.
"""

import argparse
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source, convert, tflite
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.lower import lower
from scalpel_tf.report import save_json, table
from scalpel_tf.zoo import networks

NETWORKS = {
    "lenet-300-100": ("LeNet-300-100", networks.lenet_300_100),
    "lenet-5": ("LeNet-5", networks.lenet_5),
    "convnet": ("ConvNet", networks.convnet),
}
DENSITIES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.07, 0.06, 0.05)
CMSIS_NN = Path(__file__).parent / "peers" / "cmsis_nn_cortex_m4.json"
TARGET = "cortex-m4"
SAMPLES = 4


def random_model(build, density: float, width: int, seed: int = 0) -> bytes:
    """The int8 network with random weights, of which `density` is kept in Dense layers."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = build()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel = layer.kernel.numpy()
            cols, out = kernel.shape
            groups = -(-cols // width)
            keep = np.zeros(groups * out, bool)
            keep[rng.permutation(keep.size)[: max(1, round(density * keep.size))]] = True
            mask = np.repeat(keep.reshape(out, groups), width, 1)[:, :cols].T
            layer.kernel.assign(np.where(mask, kernel, 0))
            layer.bias.assign(rng.normal(0, 0.05, out))
    return convert.convert(model, rng.random((50, *model.input_shape[1:]), np.float32))


def measure(data: bytes, formats) -> tuple[board.BoardRun, list]:
    """A run on the virtual board, proved against TensorFlow Lite, and the layers."""
    network, target = tflite.read(data), find_target(TARGET)
    layers = lower(network, target, formats=formats)
    shape = (SAMPLES, *network.tensors[network.inputs[0]].shape[1:])
    x = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    reference = convert.run_reference(data, x)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        write(project, c_source.emit(network, data, layers, target, [x], reference))
        run = board.run(board.build(project, scratch, TARGET), [x])
    if not np.array_equal(run.outputs[0], reference[0]):
        raise RuntimeError("the virtual board's outputs differ from TensorFlow Lite's.")
    return run, layers


def sparse_format(width):
    """Groups of `width` wherever they can be encoded, at any density."""

    def formats(weights):
        fits = weights.shape[1] <= 256 * width
        return [fc.pack_sparse(weights, width) if fits else fc.pack_sparse_delta(weights)]

    return formats


def dense_format(weights):
    return [fc.pack_dense(weights)]


def rows_of(case: str, density: float, kernel: str, run, plain, layers) -> list[dict]:
    """One row per layer, and one for the network; `plain` is the run of the dense kernels."""
    peers = json.loads(CMSIS_NN.read_text())["networks"][case]
    parts = [
        {
            "layer": layer.name,
            "density": density if layer.op == "FULLY_CONNECTED" else 1.0,
            "macs": layer.macs,
            "kept_macs": layer.macs * (density if layer.op == "FULLY_CONNECTED" else 1.0),
            "bytes": layer.bytes,
            "bytes_dense": layer.bytes_dense,
            "cycles": [count.cycles, dense.cycles, peer["cycles"]],
            "instructions": [count.instructions, dense.instructions, peer["instructions"]],
        }
        for layer, count, dense, peer in zip(layers, run.layers, plain.layers, peers, strict=True)
    ]
    whole = {key: sum(part[key] for part in parts) for key in SUMS}
    for key in ("cycles", "instructions"):
        peer = sum(part[key][2] for part in parts)
        whole[key] = [getattr(run, key), getattr(plain, key), peer]
    whole["density"] = whole["kept_macs"] / whole["macs"]
    return [row(case, kernel, run.compiler, **part) for part in (*parts, whole)]


SUMS = ("macs", "kept_macs", "bytes", "bytes_dense")


def row(case, kernel, compiler, *, cycles, instructions, **values) -> dict:
    """A row in the format that all benchmarks share; each triple is ours, our dense, CMSIS-NN."""
    names = ["own dense", "CMSIS-NN"] if kernel == "sparse" else ["CMSIS-NN"]
    rivals = dict(zip(names, cycles[-len(names) :], strict=True))
    rival = min(rivals, key=rivals.get)
    return {
        "case": case,
        "target": TARGET,
        "kernel": kernel,
        "dtype": "int8",
        "threads": 1,
        "batch": 1,
        **values,
        "size_ratio": values["bytes"] / values["bytes_dense"] if values["bytes_dense"] else None,
        "ours": cycles[0],
        "unit": "cycles",
        "rivals": rivals,
        "rival": rival,
        "ratio": rivals[rival] / cycles[0],
        "over_cmsis_nn": rivals["CMSIS-NN"] / cycles[0],
        "instructions": instructions[0],
        "rivals_instructions": dict(zip(names, instructions[-len(names) :], strict=True)),
        "spread": 0.0,
        "source": "modelled",
        "compiler": compiler,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="lenet-300-100")
    parser.add_argument("--width", type=int, choices=(4, 8), default=4, help="weights a group")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = list(NETWORKS) if options.network == "all" else [options.network]
    rows = []
    progress = keras.utils.Progbar(len(names) * (1 + len(DENSITIES)), unit_name="program")
    for name in names:
        case, build = NETWORKS[name]
        data = random_model(build, 1.0, options.width)
        plain, layers = measure(data, dense_format)
        rows += rows_of(case, 1.0, "dense", plain, plain, layers)
        progress.add(1)
        for density in DENSITIES:
            data = random_model(build, density, options.width)
            run, layers = measure(data, sparse_format(options.width))
            rows += rows_of(case, density, "sparse", run, plain, layers)
            progress.add(1)
    print(summary(rows))
    print(f"modelled cycles; built by {rows[0]['compiler']}; bit-exact with TensorFlow Lite")
    if options.json:
        packages = ("tensorflow", "keras", "numpy", "unicorn", "capstone")
        versions = {package: version(package) for package in packages}
        save_json(
            options.json,
            {
                "machine": platform.platform(),
                "versions": {**versions, "compiler": rows[0]["compiler"]},
                "rows": rows,
            },
        )


def summary(rows) -> str:
    """The rows for people."""
    head = ["layer", "kernel", "density", "bytes", "size", "instructions", "cycles", "per kept MAC"]
    lines = [[*head, "over CMSIS-NN", "over own dense"]]
    for entry in rows:
        own = entry["rivals"].get("own dense")
        lines.append(
            [
                f"{entry['case']} {entry.get('layer', 'total')}",
                entry["kernel"],
                f"{entry['density']:.0%}",
                f"{entry['bytes']:,}",
                f"{entry['size_ratio']:.1%}" if entry["size_ratio"] else "",
                f"{entry['instructions']:,}",
                f"{entry['ours']:,}",
                f"{entry['ours'] / entry['kept_macs']:.2f}" if entry["kept_macs"] else "",
                f"{entry['over_cmsis_nn']:.2f}x",
                f"{own / entry['ours']:.2f}x" if own else "",
            ]
        )
    return table(lines)


if __name__ == "__main__":
    main()
