"""Whole networks on this CPU: ours, pruned, beside the original in other runtimes; one thread.

    python benchmarks/cpu_networks.py --json n.json

Batch 1, float32, warm caches, all in one process and in turns. Ours is what `scalpel-tf export
--target x86-64` makes of the pruned network; each rival runs the original, dense one: TensorFlow
(compiled by XLA where that is faster), LiteRT with XNNPACK, ONNX Runtime, and MKL (im2col and
sgemm, or sgemv; cpu_network_mkl.py). Outputs are held against Keras before anything is timed.

through "C": ours, MKL and ONNX Runtime through its C API are in a loop in C, with input and output
in place; LiteRT and TensorFlow are called from Python in the cheapest way that they have, and
`calls` says what each of these calls takes for a network of one weight.
through "Python": a numpy array comes in, a numpy array goes out; MKL has no such call.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
from pathlib import Path

import cpu_libraries
import cpu_network_baselines as baselines
import cpu_network_cases as cases
import cpu_network_mkl
import cpu_network_rivals as rivals
import keras
import numpy as np
import paired

import scalpel_tf as sc
from scalpel_tf.deploy import native
from scalpel_tf.report import save_json

BUDGET = 6.0  # seconds of a network through C, and again through Python
TOLERANCE = 1e-4  # of the largest output, between runtimes that add up in different orders
ARENA_ALIGNMENT = 64


class NativeCall(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("invoke", "input", "output", "arena")]


def exported(model, folder: Path):
    """(how it is called, the report) of a model as a library in `folder`."""
    report = sc.export(model, target="x86-64", out=folder, dtype="float32")
    return native.load(folder), report


def ours_bound(name: str, loaded, x: np.ndarray) -> paired.Alternative:
    """model_invoke in a loop in C."""
    x, information = paired.aligned(x), loaded.information
    made = information["outputs"][0]
    y = paired.aligned(np.empty((1, *made["shape"][1:]), made["dtype"]))
    arena = paired.aligned(np.empty(max(information["arena_bytes"], 1), np.uint8))
    address = ctypes.cast(loaded.library.model_invoke, ctypes.c_void_p)
    places = (array.ctypes.data for array in (x, y, arena))
    call = NativeCall(address.value, *places)
    function = cpu_network_mkl.library().scalpel_native
    made = paired.in_c(name, 1, lambda threads: None, "product", function, ctypes.byref(call), y=y)
    return paired.keeping(made, call, x, arena, loaded)


def compare(case: cases.Case, folder: Path) -> tuple[list[dict], dict[str, str]]:
    """Two rows, C and Python, for each way to prune the network; and why rivals are absent."""
    dense, pruned = case.dense(), {name: make() for name, make in case.pruned.items()}
    x = np.random.default_rng(0).random((1, *dense.input_shape[1:]), np.float32)
    made = {name: exported(model, folder / name) for name, model in pruned.items()}
    made |= {"own dense": exported(dense, folder / "own dense")}
    theirs, reasons = rivals.present(rivals.BOUND, dense, x, folder)
    check(theirs, dense, x)
    extra = baselines.alternatives(dense, case.traditional, x) if case.traditional else {}
    bound = [ours_bound(name, loaded, x) for name, (loaded, _) in made.items()]
    arrays, more = rivals.present(rivals.ARRAYS, dense, x, folder)
    check(arrays, dense, x)
    called = [
        paired.in_python(name, 1, lambda loaded=loaded: loaded(x))
        for name, (loaded, _) in made.items()
    ]
    for own in (bound, called):
        for each, model in zip(own, [*pruned.values(), dense], strict=True):
            check([each], model, x)
    kinds = {name: each.alternative for name, each in extra.items()}
    ways = {"C": ([*bound, *kinds.values()], theirs), "Python": (called, arrays)}
    rows = []
    for through, (own, others) in ways.items():
        names = [each.name for each in (*own, *others)]
        measured = paired.measure([*own, *others], budget=BUDGET)
        times = dict(zip(names, measured, strict=True))
        fixed = {"through": through, "target": target(made), **FACTS}
        rest = {each.name: times[each.name] for each in others}
        for name, model in pruned.items():
            row = paired.row(case.name, times[name], rest, kernel="sparse", method=name, **fixed)
            row |= sizes(dense, model, made[name][1])
            row |= {"own_dense": paired.median(times["own dense"]) * 1e6}
            row |= {"quartiles": quartiles(times[name], rest[row["rival"]])}
            rows.append(row | {"weights": case.weights[name], **case.facts})
        for name, each in extra.items():
            if name in times:
                row = paired.row(case.name, times[name], rest, kernel=name, method=name, **fixed)
                quarters = quartiles(times[name], rest[row["rival"]])
                rows.append(row | {"quartiles": quarters} | each.facts | case.facts)
    return rows, reasons | more


FACTS = {"dtype": "float32", "threads": 1, "batch": 1}


def target(made) -> str:
    """With the instruction set that the libraries choose here."""
    return f"x86-64-{next(iter(made.values()))[0].isas[0]}"


def quartiles(ours, rival) -> list[float]:
    """First and third, over rounds, of the rival's time over ours in the same round."""
    ratios = rival / ours
    return np.percentile(ratios[np.isfinite(ratios)], [25, 75]).tolist()


def sizes(dense, pruned, report) -> dict:
    """density: weights that are not zero, of the original's.  size_ratio: bytes of values, indices
    and paddings over the original's float32 weights; biases, which pruning leaves alone, are in
    `constants` only."""
    kernels = {
        name: [w.numpy() for w in model.weights if w.name == "kernel"]
        for name, model in (("dense", dense), ("pruned", pruned))
    }
    total = sum(kernel.size for kernel in kernels["dense"])
    stored = sum(layer["bytes"] for layer in report.layers)
    without_biases = stored - 4 * sum(kernel.shape[-1] for kernel in kernels["pruned"])
    return {
        "density": sum(int(np.count_nonzero(k)) for k in kernels["pruned"]) / total,
        "bytes": without_biases,
        "constants": stored,
        "size_ratio": without_biases / (4 * total),
        "layers": [
            {key: layer[key] for key in ("name", "kernel", "density", "bytes")}
            for layer in report.layers
        ],
    }


def check(alternatives, model: keras.Model, x: np.ndarray) -> None:
    """RuntimeError where a result is not Keras'."""
    expected = np.asarray(model(x), np.float64)
    tolerance = TOLERANCE * np.abs(expected).max()
    paired.check(alternatives, expected, np.full(expected.shape, tolerance))


def calls(folder: Path) -> dict[str, float]:
    """Microseconds of each runtime's call of a network of one weight, through C."""
    image = keras.Input((1, 1, 1), name="image")
    flat = keras.layers.Flatten()(image)
    model = keras.Model(image, keras.layers.Dense(1)(flat), name="one_weight")
    x = np.ones((1, 1, 1, 1), np.float32)
    found, _ = rivals.present(rivals.BOUND, model, x, folder)
    loaded, _ = exported(model, folder / "one_weight")
    found.append(ours_bound("ours", loaded, x))
    times = paired.measure(found, budget=0.5)
    return {e.name: paired.median(t) * 1e6 for e, t in zip(found, times, strict=True)}


def run(names, folder: Path, checkpoints: Path) -> dict:
    """Everything of these networks, in the format that all benchmarks share."""
    cpu_libraries.tensorflow(1)
    rows, absent = [], {}
    taken = calls(folder)
    for name in names:
        case = cases.CASES[name](checkpoints)
        if case.dense is None:
            print(f"{case.name} is missing: {', '.join(case.facts['missing'])}", flush=True)
            continue
        scratch = folder / name
        scratch.mkdir()
        more, reasons = compare(case, scratch)
        print("\n".join(line(row) for row in more), flush=True)
        rows += more
        absent |= reasons
        keras.backend.clear_session(free_memory=True)
    return {
        "machine": paired.machine() | {"load": os.getloadavg()[0]},
        "versions": cpu_libraries.versions(),
        "absent": absent,
        "calls": taken,
        "rows": rows,
    }


def line(row: dict) -> str:
    """One row for people."""
    others = "  ".join(f"{name} {us:,.1f}" for name, us in sorted(row["rivals"].items()))
    first, third = row["quartiles"]
    size = f"{row['size_ratio']:7.2%}" if "size_ratio" in row else ""
    return (
        f"{row['case']:14}{row['method']:14}{row['through']:7}{row['ours']:>10,.2f} us {size} "
        f"{row['ratio']:6.2f}x ({first:.2f} to {third:.2f}) over {row['rival']}  ({others})"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=cases.CASES, default=list(cases.CASES))
    parser.add_argument("--folder", type=Path, default=cases.FOLDER, help="where the weights are")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    paired.restart_clean(cpu_libraries.best_mkl_setting)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(options.networks, Path(scratch), options.folder)
    print("a call of one weight, us: ", end="")
    print("  ".join(f"{name} {us:.2f}" for name, us in result["calls"].items()))
    for name, reason in result["absent"].items():
        print(f"{name} is absent: {reason}", file=sys.stderr)
    if options.json:
        save_json(options.json, result)


if __name__ == "__main__":
    main()
