"""The rates of core/cpu_cost.py, fitted to what cpu_layers.py measured with one thread.

    python benchmarks/cpu_layers.py --threads 1 --json l.json
    python benchmarks/cpu_cost.py l.json

Prints the rates, how far the model is from the measured times, and in how many rows it prefers what
was slower, our kernel or TensorFlow's own layer. What TensorFlow takes to call any layer is in the
measured dense times; the fit finds it as a constant, and it is taken off both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from scalpel_tf.core import cpu_cost
from scalpel_tf.core.targets import find_target


def fit(equations: list[tuple[list[float], float]]) -> np.ndarray:
    """The factors >= 0 of terms -> ns with the least squared relative errors."""
    left = np.array([terms for terms, _ in equations], float)
    right = np.array([ns for _, ns in equations], float)
    largest = np.abs(left).max(axis=0)
    solution, _ = nnls(left / right[:, None] / largest, np.ones(len(right)))
    return solution / largest


def rates(rows: list[dict], target: str) -> dict[str, float]:
    """What CpuCost has of them, in nanoseconds, and `overhead`, of a call by TensorFlow."""
    lanes = find_target(target).simd_width["float32"]
    wide, dense = [], []
    for row in rows:
        (out, cols), n = row["matrix"], row["columns"]
        if n <= cpu_cost.NARROW:  # memory decides
            continue
        kept = row["groups"] * row["width"] * -(-n // lanes) * lanes
        wide.append(([kept, n * cols, n * out], row["ours"] * 1e3))
        dense.append(([1, out * cols * n], row["rivals"]["TensorFlow"] * 1e3))
    mac, wide_input, wide_output = fit(wide)
    overhead, dense_mac = fit(dense)
    return {
        "wide_macs": 1 / mac,
        "wide_input": wide_input,
        "wide_output": wide_output,
        "dense_macs": 1 / dense_mac,
        "overhead": overhead,
    }


def judge(rows: list[dict], target: str, overhead: float) -> str:
    """How well core/cpu_cost.py, as it is now, foretells these rows."""
    errors, wrong = {"sparse": [], "dense": []}, 0
    for row in rows:
        (out, cols), n = row["matrix"], row["columns"]
        facts = {"groups": row["groups"], "width": row["width"], "value_type": "float32"}
        model = {
            "sparse": cpu_cost.sparse_seconds(out, cols, n, **facts, target=find_target(target)),
            "dense": cpu_cost.dense_seconds(out, cols, n, target=find_target(target)),
        }
        dense = max(row["rivals"]["TensorFlow"] * 1e-6 - overhead * 1e-9, 1e-9)
        measured = {"sparse": row["ours"] * 1e-6, "dense": dense}
        for kernel, seconds in model.items():
            errors[kernel].append(abs(np.log(seconds / measured[kernel])))
        wrong += (model["sparse"] < model["dense"]) != (measured["sparse"] < measured["dense"])
    typical = {kernel: np.exp(np.median(values)) for kernel, values in errors.items()}
    return (
        f"core/cpu_cost.py on {len(rows)} rows: sparse within {typical['sparse']:.2f}x and dense "
        f"within {typical['dense']:.2f}x of the measured time (medians), {wrong} wrong choices"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("layers", type=Path, help="the JSON that cpu_layers.py wrote")
    rows = [
        row
        for row in json.loads(parser.parse_args().layers.read_text())["rows"]
        if row["through"] == "C ABI" and row["threads"] == 1
    ]
    for target in sorted({row["target"] for row in rows}):
        own = [row for row in rows if row["target"] == target]
        found = rates(own, target)
        print(target, {name: round(value, 3) for name, value in found.items()})
        print(judge(own, target, found["overhead"]))


if __name__ == "__main__":
    main()
