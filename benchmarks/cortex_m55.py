"""Instructions on a Cortex-M55 in QEMU: the kernels for Helium beside those for the DSP extension.

    python benchmarks/cortex_m55.py --json out.json

The networks and random weights of cortex_m.py, dense and at the densities of MIXED; one project,
built twice by GCC. Every program's outputs are held against TensorFlow Lite's. These are
instructions, not cycles: a vector instruction of Helium takes the M55 two cycles or more.
"""

import argparse
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cortex_m import MIXED, NETWORKS, SAMPLES, random_model

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import c_source, convert, qemu, tflite
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.lower import lower
from scalpel_tf.report import save_json, table

TARGET = "cortex-m55"
BUILDS = {"helium": (), "dsp": ("-mcpu=cortex-m55+nomve",)}


def measure(data: bytes) -> tuple[list, dict[str, qemu.QemuRun]]:
    """The layers of a model, and a run of each of BUILDS, proved against TensorFlow Lite."""
    network, target = tflite.read(data), find_target(TARGET)
    layers = lower(network, target)
    shape = (SAMPLES, *network.tensors[network.inputs[0]].shape[1:])
    x = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    reference = convert.run_reference(data, x)
    runs = {}
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), c_source.emit(network, data, layers, target, [x], reference))
        for name, flags in BUILDS.items():
            runs[name] = qemu.run(scratch, [x], target=TARGET, compiler="gcc", flags=flags)
            if not np.array_equal(runs[name].outputs[0], reference[0]):
                raise RuntimeError(f"{name}: QEMU's outputs differ from TensorFlow Lite's.")
    return layers, runs


def rows_of(case: str, densities: dict[str, float], layers, runs) -> list[dict]:
    """One row per layer, and one for the network."""
    counts = list(zip(*(runs[name].instructions for name in BUILDS), strict=True))
    rows = [
        row(case, layer.kernel, densities.get(layer.name, 1.0), layer.macs, *pair, layer=layer.name)
        for layer, pair in zip(layers, counts, strict=True)
    ]
    kept = sum(entry["kept_macs"] for entry in rows)
    macs = sum(layer.macs for layer in layers)
    totals = [sum(column) for column in zip(*counts, strict=True)]
    return [*rows, row(case, "network", kept / macs, macs, *totals)]


def row(case, kernel, density, macs, helium, dsp, **more) -> dict:
    """A row in the format that all benchmarks share."""
    return {
        "case": case,
        **more,
        "target": TARGET,
        "kernel": kernel,
        "density": density,
        "macs": macs,
        "kept_macs": macs * density,
        "dtype": "int8",
        "threads": 1,
        "batch": 1,
        "ours": helium,
        "unit": "instructions",
        "rivals": {"DSP extension": dsp},
        "rival": "DSP extension",
        "ratio": dsp / helium,
        "spread": 0.0,
        "source": "emulated",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=[*NETWORKS, "all"], default="all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name in NETWORKS if options.network == "all" else [options.network]:
        case, build = NETWORKS[name]
        for densities in (dict.fromkeys(MIXED[case], 1.0), MIXED[case]):
            layers, runs = measure(random_model(build, densities, 4))
            rows += rows_of(case, densities, layers, runs)
    compiler = runs["helium"].compiler
    lines = [["layer", "kernel", "density", "Helium", "DSP", "DSP / Helium", "per kept MAC"]]
    lines += [
        [
            f"{entry['case']} {entry.get('layer', 'total')}",
            entry["kernel"],
            f"{entry['density']:.0%}",
            f"{entry['ours']:,}",
            f"{entry['rivals']['DSP extension']:,}",
            f"{entry['ratio']:.2f}x",
            f"{entry['ours'] / entry['kept_macs']:.2f}" if entry["kept_macs"] else "",
        ]
        for entry in rows
    ]
    print(table(lines))
    print(f"emulated instructions, no cycles; built by {compiler}; bit-exact with TensorFlow Lite")
    if options.json:
        versions = {package: version(package) for package in ("tensorflow", "keras", "numpy")}
        save_json(
            options.json,
            {
                "machine": platform.platform(),
                "versions": {**versions, "compiler": compiler},
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
