"""Cycles, instructions and bytes on the virtual Cortex-M4, sparse beside dense beside CMSIS-NN.

    python benchmarks/cortex_m.py --network all --json out.json

Random groups of weights are kept, once at every density in all layers and once at the densities of
MIXED. The dense rivals are this package's own dense kernels, run here, and CMSIS-NN, whose figures
are in peers/ and were modelled in the same way. Every program's outputs are held against TensorFlow
Lite's. A pooling that runs inside of a convolution counts with it, in the rivals as well; ConvNet's
second and third pooling take averages, where CMSIS-NN was measured with maxima.

floor is what the kept products alone need on this instruction set: two products an SMLAD, a load of
two inputs for each, and of the weights one load and two unpackings for four, which a convolution
shares among four columns: 19 cycles for 16 products there, 7 for 4 in a fully connected layer.
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
from scalpel_tf.deploy import board, c_source, conv, convert, tflite
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import plan_memory
from scalpel_tf.report import save_json, table
from scalpel_tf.zoo import networks

NETWORKS = {
    "lenet-300-100": ("LeNet-300-100", networks.lenet_300_100),
    "lenet-5": ("LeNet-5", networks.lenet_5),
    "convnet": ("ConvNet", networks.convnet),
}
DENSITIES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.07, 0.06, 0.05)
MIXED = {
    "LeNet-300-100": dict.fromkeys(("fc1", "fc2", "fc3"), 0.06),
    "LeNet-5": {"conv1": 0.60, "conv2": 0.12, "fc1": 0.04, "fc2": 0.20},
    "ConvNet": dict.fromkeys(("conv1", "conv2", "conv3", "fc1"), 0.35),
}
ASKED = {"LeNet-300-100": 12.5, "LeNet-5": 7.6, "ConvNet": 4.0}  # over CMSIS-NN, at MIXED
# Activations and im2col buffer of CMSIS-NN at the layer that takes most: pool1.
CMSIS_NN_RAM = {"LeNet-5": 11520 + 2880, "ConvNet": 32768 + 8192}
CYCLES_PER_PRODUCT = {"CONV_2D": 19 / 16, "FULLY_CONNECTED": 7 / 4}
CMSIS_NN = Path(__file__).parent / "peers" / "cmsis_nn_cortex_m4.json"
TARGET = "cortex-m4"
SAMPLES = 4


def random_model(build, densities: dict[str, float], width: int, seed: int = 0) -> bytes:
    """The int8 network with random weights, of which densities[layer] is kept, in whole groups."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = build()
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)):
            kernel = layer.kernel.numpy()
            matrix = kernel.reshape(-1, kernel.shape[-1])
            cols, out = matrix.shape
            groups = -(-cols // width)
            keep = np.zeros(groups * out, bool)
            kept = max(1, round(densities[layer.name] * keep.size))
            keep[rng.permutation(keep.size)[:kept]] = True
            mask = np.repeat(keep.reshape(out, groups), width, 1)[:, :cols].T
            layer.kernel.assign(np.where(mask, matrix, 0).reshape(kernel.shape))
            if layer.use_bias:
                layer.bias.assign(rng.normal(0, 0.05, out))
    return convert.convert(model, rng.random((50, *model.input_shape[1:]), np.float32))


def measure(
    data: bytes, formats, conv_formats, samples: int = SAMPLES
) -> tuple[board.BoardRun, list, int, list]:
    """A run on the virtual board, proved against TensorFlow Lite; the layers; bytes of RAM; the
    (filters, weights) of every layer that has some."""
    network, target = tflite.read(data), find_target(TARGET)
    layers = lower(network, target, formats=formats, conv_formats=conv_formats)
    shape = (samples, *network.tensors[network.inputs[0]].shape[1:])
    x = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    reference = convert.run_reference(data, x)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        write(project, c_source.emit(network, data, layers, target, [x], reference))
        run = board.run(board.build(project, scratch, TARGET), [x])
    if not np.array_equal(run.outputs[0], reference[0]):
        raise RuntimeError("the virtual board's outputs differ from TensorFlow Lite's.")
    kernels = [
        network.tensors[operator.inputs[1]].data
        for operator in network.operators
        if operator.name in CYCLES_PER_PRODUCT
    ]
    sizes = [(len(kernel), kernel.size) for kernel in kernels]
    return run, layers, plan_memory(network, layers).arena, sizes


def sparse_format(width):
    """Groups of `width` wherever they can be encoded, at any density."""

    def formats(weights):
        fits = weights.shape[1] <= 256 * width
        return [fc.pack_sparse(weights, width) if fits else fc.pack_sparse_delta(weights)]

    return formats


def dense_format(weights):
    return [fc.pack_dense(weights)]


def sparse_conv_format(weights, shape):
    """The kept groups, also where all are."""
    found = conv.candidates(weights, shape)
    return [packed for packed in found if packed.density < 1] or found


def dense_conv_format(weights, shape):
    return [packed for packed in conv.candidates(weights, shape) if packed.density == 1]


def rows_of(case: str, densities, kernel: str, measured, plain) -> list[dict]:
    """One row per layer, and one for the network; `plain` is what the dense kernels measured."""
    (run, layers, ram, shapes), (dense_run, *_) = measured, plain
    shapes = iter(shapes)
    peers = iter(json.loads(CMSIS_NN.read_text())["networks"][case])
    parts = []
    for layer, count, dense in zip(layers, run.layers, dense_run.layers, strict=True):
        peer = [next(peers) for _ in layer.op.split(" + ")]
        density = densities.get(layer.name, 1.0)
        products = layer.macs * density
        kind = layer.op.split(" + ")[0]
        filters, weights = next(shapes) if kind in CYCLES_PER_PRODUCT else (0, 0)
        parts.append(
            {
                "layer": " + ".join(p["layer"] for p in peer),
                "density": density,
                "macs": layer.macs,
                "kept_macs": products,
                "floor": products * CYCLES_PER_PRODUCT.get(kind, 0),
                "asked_bytes": 1.27 * density * weights + 16 * filters,
                "bytes": layer.bytes,
                "bytes_dense": layer.bytes_dense,
                "cycles": [count.cycles, dense.cycles, sum(p["cycles"] for p in peer)],
                "instructions": [
                    count.instructions,
                    dense.instructions,
                    sum(p["instructions"] for p in peer),
                ],
            }
        )
    whole = {key: sum(part[key] for part in parts) for key in SUMS}
    for key in ("cycles", "instructions"):
        peer = sum(part[key][2] for part in parts)
        whole[key] = [getattr(run, key), getattr(dense_run, key), peer]
    whole |= {"density": whole["kept_macs"] / whole["macs"], "ram": ram, "stack": run.stack_bytes}
    return [row(case, kernel, run.compiler, **part) for part in (*parts, whole)]


SUMS = ("macs", "kept_macs", "floor", "asked_bytes", "bytes", "bytes_dense")


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
    progress = keras.utils.Progbar(len(names) * (2 + len(DENSITIES)), unit_name="program")
    for name in names:
        case, build = NETWORKS[name]
        uniform = [dict.fromkeys(MIXED[case], density) for density in DENSITIES]
        plain = measure(
            random_model(build, uniform[0], options.width), dense_format, dense_conv_format
        )
        rows += rows_of(case, uniform[0], "dense", plain, plain)
        progress.add(1)
        for densities in (*uniform, MIXED[case]):
            data = random_model(build, densities, options.width)
            measured = measure(data, sparse_format(options.width), sparse_conv_format)
            rows += rows_of(case, densities, "sparse", measured, plain)
            rows[-1]["mixed"] = densities is MIXED[case]
            progress.add(1)
    print(summary(rows))
    print(goals(rows))
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
    head.append("over floor")
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
                f"{entry['ours'] / entry['floor']:.2f}x" if entry["floor"] else "",
                f"{entry['over_cmsis_nn']:.2f}x",
                f"{own / entry['ours']:.2f}x" if own else "",
            ]
        )
    return table(lines)


def goals(rows) -> str:
    """What is asked of the networks at MIXED, and of the dense kernels."""
    lines = [
        ["network at mixed densities", "over CMSIS-NN", "asked", "flash", "at most", "RAM", ""]
    ]
    lines[0][-1] = "CMSIS-NN"
    for entry in rows:
        if entry.get("mixed"):
            case = entry["case"]
            lines.append(
                [
                    case,
                    f"{entry['over_cmsis_nn']:.2f}x",
                    f"{ASKED[case]}x",
                    f"{entry['bytes']:,}",
                    f"{entry['asked_bytes']:,.0f}",
                    f"{entry['ram']:,}",
                    f"{CMSIS_NN_RAM[case]:,}" if case in CMSIS_NN_RAM else "",
                ]
            )
    slower = [
        f"{entry['case']} {entry['layer']} ({entry['over_cmsis_nn']:.2f}x)"
        for entry in rows
        if entry["kernel"] == "dense" and "layer" in entry and entry["over_cmsis_nn"] < 1
    ]
    dense = f"dense layers slower than CMSIS-NN's: {', '.join(slower) or 'none'}"
    return f"{table(lines)}\n{dense}"


if __name__ == "__main__":
    main()
