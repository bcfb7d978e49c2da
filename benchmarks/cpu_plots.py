"""Figures in the paper's form: time relative to the fastest dense library, against density."""

from __future__ import annotations

from pathlib import Path

import numpy as np

TITLES = {
    "spmv-4096x4096": "SpMV, 4096 x 4096, one thread",
    "spmm-128x1200x729": "SpMM, 128 x 1200 by 1200 x 729, one thread",
}
# Okabe and Ito's colours, which every kind of colour vision tells apart; markers say it again.
STYLES = {
    "ours, float32": ("#D55E00", "o", "-"),
    "ours, bfloat16": ("#D55E00", "s", "--"),
    "ours, int8": ("#D55E00", "^", ":"),
    "MKL dense": ("#0072B2", "o", "-"),
    "MKL packed": ("#0072B2", "s", "--"),
    "MKL sparse": ("#0072B2", "^", ":"),
    "OpenBLAS": ("#009E73", "o", "-"),
    "TensorFlow": ("#CC79A7", "o", "-"),
    "tf.sparse": ("#CC79A7", "^", ":"),
    "scipy CSR": ("#000000", "^", ":"),
    "libxsmm dense": ("#56B4E9", "o", "-"),
    "libxsmm sparse": ("#56B4E9", "^", ":"),
}


def curves(rows: list[dict]) -> dict[str, list[tuple[float, float]]]:
    """By name, (density, time relative to the fastest dense library at that density)."""
    found = {}
    for row in sorted(rows, key=lambda row: row["density"]):
        own = f"ours, {row['dtype']}"
        found.setdefault(own, []).append((row["density"], row["relative"]))
        if row["dtype"] == "float32":
            dense = row["rivals"][row["dense"]]
            for name, time in row["rivals"].items():
                found.setdefault(name, []).append((row["density"], time / dense))
    return found


def figures(rows: list[dict], folder: Path) -> list[Path]:
    """Writes folder/<case>.png for the two cases of the paper that the rows have."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for case, title in TITLES.items():
        own = [row for row in rows if row["case"] == case]
        if not own:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 5), dpi=120)
        for name, points in curves(own).items():
            color, marker, dashes = STYLES[name]
            x, y = np.array(points).T
            width = 2.2 if name.startswith("ours") else 1.2
            axes.plot(100 * x, y, dashes, color=color, marker=marker, lw=width, ms=5, label=name)
        axes.axhline(1, color="grey", lw=0.8)
        axes.set(xlabel="weights kept, %", ylabel="time / fastest dense", title=title)
        axes.set(xlim=(0, 102), yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(True, which="both", lw=0.3)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
        path = folder / f"{case}.png"
        figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
        pyplot.close(figure)
        written.append(path)
    return written
