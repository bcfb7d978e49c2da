"""Layers of real networks at 30 % density, beside TensorFlow's, LiteRT's and ONNX Runtime's own.

    python benchmarks/cpu_layers.py --json l.json

Every layer has a bias and ReLU, random groups, and inputs that are warm; it runs through the C ABI
and through this package's Keras layer. Results are held against float64 before they are timed.
Rows of two threads run in a process of their own, and there a rival is what it reaches with one
thread or with two. `--quick` runs a few layers only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import cpu_layer
import cpu_layer_rivals
import cpu_libraries
import cpu_ours
import numpy as np
import paired

from scalpel_tf.deploy import kernels as scalpel
from scalpel_tf.report import save_json

NETWORKS = ("alexnet", "vgg16", "resnet50", "mobilenet_v2")
THREADS, BATCHES = (1, 2), (1, 32)
BUDGET = 1.0
WAYS = {"ours, C ABI": "C ABI", "ours, Keras": "Keras layer"}


def compare(kernels, layer: cpu_layer.Layer, threads: int, density: float, models: Path):
    """A row for each of our ways, and the reasons of those who are absent."""
    alternatives, reasons = [cpu_layer_rivals.c_abi(layer, threads, kernels)], {}
    rivals = cpu_layer_rivals
    litert = partial(rivals.litert, models=models)
    others = (rivals.sparse_keras, rivals.keras_layer, litert, rivals.onnx_runtime)
    names = ("ours, Keras", "TensorFlow", "LiteRT", "ONNX Runtime")
    for name, create in zip(names, others, strict=True):
        try:
            alternatives.append(create(layer, threads))
        except (ImportError, OSError, RuntimeError) as error:
            reasons[name] = str(error)
    cpu_layer.check(layer, alternatives)
    times = dict(
        zip(
            [each.name for each in alternatives],
            paired.measure(alternatives, budget=BUDGET),
            strict=True,
        )
    )
    theirs = {name: rounds for name, rounds in times.items() if name not in WAYS}
    conv = layer.conv if layer.shape.kernel_size else None
    columns = conv.batch * conv.out_height * conv.out_width if conv else len(layer.x)
    rows = [
        paired.row(
            *(layer.shape.network, times[name], theirs),
            layer=layer.shape.name,
            target=f"x86-64-{kernels.isa}",
            kernel="sparse",
            through=through,
            density=density,
            dtype="float32",
            width=layer.width,
            threads=threads,
            batch=len(layer.x),
            matrix=layer.matrix.shape,
            columns=columns,
            groups=len(layer.sparse.values),
            bytes=layer.sparse.size_bytes,
            size_ratio=layer.sparse.size_bytes / layer.matrix.nbytes,
        )
        for name, through in WAYS.items()
        if name in times
    ]
    return rows, reasons


def chosen(networks, quick) -> list[cpu_layer.Shape]:
    shapes = [shape for network in networks for shape in cpu_layer.read(network)]
    return shapes[::8] if quick else shapes


def run(options, models: Path) -> dict:
    """All rows of one number of threads. models: a folder for converted layers."""
    cpu_libraries.tensorflow(options.threads)
    kernels = cpu_ours.load(options.library, options.isa)
    rows, absent = [], {}
    for shape in chosen(options.network or NETWORKS, options.quick):
        for batch in options.batch or BATCHES:
            layer = cpu_layer.random_layer(shape, batch, options.density, options.width)
            more, reasons = compare(kernels, layer, options.threads, options.density, models)
            rows += more
            absent.update(reasons)
            print("\n".join(line(row) for row in more), flush=True)
    return {
        "machine": paired.machine(),
        "versions": cpu_libraries.versions(),
        "absent": absent,
        "rows": rows,
    }


def best_counts(one: list[dict], two: list[dict]) -> list[dict]:
    """The rows of two threads, where each rival has the better of one thread and two."""

    def key(row):
        return tuple(row[name] for name in ("case", "layer", "batch", "through"))

    single, merged = {key(row): row["rivals"] for row in one}, []
    for row in two:
        other = single.get(key(row), {})
        rivals = {name: min(us, other.get(name, us)) for name, us in row["rivals"].items()}
        rival = min(rivals, key=rivals.get)
        ratio = row["ratio"]
        if rival != row["rival"] or rivals[rival] < row["rivals"][rival]:
            ratio = rivals[rival] / row["ours"]
        merged.append({**row, "rivals": rivals, "rival": rival, "ratio": ratio})
    return merged


def line(row: dict) -> str:
    """One row for people."""
    rivals = "  ".join(f"{name} {us:,.1f}" for name, us in sorted(row["rivals"].items()))
    return (
        f"{row['case']:12}{row['layer']:26}batch {row['batch']:<3} {row['threads']} thr "
        f"{row['through']:12}{row['ours']:>12,.1f} us  {row['ratio']:6.2f}x +-{row['spread']:.2f} "
        f"over {row['rival']}  ({rivals})"
    )


def summary(rows: list[dict]) -> str:
    """How many rows win, and which are the worst."""
    lines = []
    for through in WAYS.values():
        own = [row for row in rows if row["through"] == through]
        if own:
            wins = sum(row["ratio"] > 1 for row in own)
            mean = np.exp(np.mean([np.log(row["ratio"]) for row in own]))
            lines.append(
                f"{through}: faster than every rival in {wins} of {len(own)} rows, "
                f"geometric mean {mean:.2f}x"
            )
    losers = sorted((row for row in rows if row["ratio"] <= 1), key=lambda row: row["ratio"])
    return "\n".join(lines + [line(row) for row in losers])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, action="append", help="default: all")
    parser.add_argument("--batch", type=int, action="append", help="default: 1 and 32")
    parser.add_argument("--threads", type=int, choices=THREADS, help="default: both, in turn")
    parser.add_argument("--density", type=float, default=0.3)
    parser.add_argument("--width", type=int, choices=(4, 8, 16), default=8, help="weights a group")
    parser.add_argument("--library", type=Path, help="built kernels; default: builds them")
    parser.add_argument("--isa", help="one of the kernels' instruction sets; default: the best")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", type=Path, help="a folder that keeps LiteRT's models")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paired.restart_clean(dict)
    with tempfile.TemporaryDirectory() as scratch:
        models = options.models or Path(scratch)
        models.mkdir(parents=True, exist_ok=True)
        if options.threads:
            result = run(options, models)
        else:
            library = options.library or scalpel.build(scratch)
            result, two = (in_process(threads, models, library) for threads in THREADS)
            result["rows"] += best_counts(result["rows"], two["rows"])
    print(summary(result["rows"]))
    if options.json:
        save_json(options.json, result)


def in_process(threads: int, models: Path, library: Path) -> dict:
    """`run` with the same options and so many threads, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        last = ["--threads", threads, "--models", models, "--library", library, "--json", out]
        subprocess.run([sys.executable, *sys.argv, *map(str, last)], check=True)
        return json.loads(out.read_text())


if __name__ == "__main__":
    main()
