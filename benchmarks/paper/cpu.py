"""Table 3's rows of the CPU, and the figures', from what cpu_networks.py measured."""

from pathlib import Path

import checkpoints
import published
import small_networks


def best(rows: list[dict], worse: dict[str, float], size: float | None = None) -> dict | None:
    """Of the ways to prune a network, the fastest that is no worse than the dense one in
    validation and, if there is one, no larger than `size`; where none is, the least bad.

    worse: points above the dense one, by the way; 0 of random weights.  size: over the dense one's.
    """
    own = [row for row in rows if row["kernel"] == "sparse" and row["through"] == "C"]
    fine = [row for row in own if worse.get(row["method"], 0.0) <= checkpoints.EPSILON]
    small = [row for row in fine if size is None or row["size_ratio"] <= size]
    if own and not fine:
        return min(own, key=lambda row: worse[row["method"]])
    return min(small or fine, key=lambda row: row["ours"], default=None)


def errors_of(network, rows, data, folder: Path, split: str):
    """({way: its float32 errors and the dense ones'}, {way: how much worse it is in validation})
    of each way that was timed, of all its seeds."""
    x, labels = checkpoints.images(data, split)

    def error(stem, seed):
        return small_networks.error(checkpoints.load(folder, network, stem, seed), x, labels)

    found, worse = {}, {}
    for row in rows:
        if row["kernel"] == "sparse" and row["method"] not in found:
            stem = row["weights"].rpartition("_s")[0]
            there, _ = checkpoints.seeds(folder, network, network.dense, stem)
            pairs = [(error(stem, seed), error(network.dense, seed)) for seed in there]
            found[row["method"]] = tuple(map(list, zip(*pairs, strict=True)))
            worse[row["method"]] = checkpoints.worse(folder, network, stem, there)
    return found, worse


def rows(name: str, measured: list[dict], data, folder: Path, split: str):
    """The row of Table 3, the other ways that were timed, and the rows of the figures.

    data: None where the weights are random.
    """
    own = [row for row in measured if row["case"] == name]
    network = checkpoints.NETWORKS.get(name)
    errors, worse = errors_of(network, own, data, folder, split) if data else ({}, {})
    asked = published.ASKED["x86-64"].get(name)
    chosen = best(own, worse, asked.size if asked else None)
    files = own[0].get("missing", []) if own else [f"{network.dense}_s{network.seeds[0]}.npz"]
    absent = [checkpoints.advice(file) for file in files]
    if chosen is None:
        return {"case": name, "target": "x86-64", "missing": absent}, [], []
    python = [r for r in own if r["through"] == "Python" and r["method"] == chosen["method"]]
    row = chosen | {"absent": absent, "from_python": python[0]["ratio"] if python else None}
    if chosen["method"] in errors:
        ours, dense = errors[chosen["method"]]
        row |= {"errors": ours, "errors_dense": dense, "split": split}
    others = [
        other
        | dict(zip(("errors", "errors_dense"), errors.get(other["method"], ()), strict=False))
        | {"worse": worse.get(other["method"], 0.0)}
        for other in own
        if other["kernel"] == "sparse" and other is not chosen
    ]
    return row, others, figures(own, chosen)


def figures(own: list[dict], chosen: dict) -> list[dict]:
    """The bars beside Scalpel's. The original is the fastest dense runtime, which is also what
    "optimized" falls back to where no choice of layers beats it."""
    rival = chosen["rivals"][chosen["rival"]]
    dense = {"ours": rival, "ratio": 1.0, "size_ratio": 1.0, "density": 1.0, "spread": 0.0}
    shared = {key: chosen[key] for key in ("case", "target", "dtype", "threads", "batch", "unit")}
    shared |= {key: chosen[key] for key in ("rivals", "rival", "source")}
    original = shared | dense | {"kernel": "original", "method": chosen["rival"]}
    found = [original]
    for row in own:
        if row["kernel"] in ("traditional", "optimized"):
            if row["kernel"] == "optimized" and row["ratio"] < 1:
                row = original | {"kernel": "optimized", "by_layer": row["ratio"]}
            found.append(row)
    return found
