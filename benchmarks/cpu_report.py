"""docs/cpu.md's tables and figures, from what cpu_kernels.py and cpu_layers.py measured.

python benchmarks/cpu_report.py k.json l.json --out docs
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import cpu_plots
import numpy as np


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; the first column to the left, others right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def curve(rows: list[dict], case: str) -> str:
    """A figure of the paper as numbers: one line per density."""
    own = {(row["density"], row["dtype"]): row for row in rows if row["case"] == case}
    lines = []
    for density, dtype in sorted(own):
        row = own[density, dtype]
        if dtype == "float32":
            narrow = [own.get((density, kind)) for kind in ("bfloat16", "int8")]
            lines.append(
                [
                    f"{density:.0%}",
                    f"{row['ours']:,.0f}",
                    *(f"{other['ours']:,.0f}" if other else "" for other in narrow),
                    f"{row['roofline']:,.0f}",
                    f"{row['rivals'][row['dense']]:,.0f} ({row['dense']})",
                    f"{row['relative']:.2f}",
                    f"{row['ratio']:.2f} ± {row['spread']:.2f} ({row['rival']})",
                ]
            )
    head = ["kept", "float32, µs", "bfloat16", "int8", "reading the float32 arrays"]
    return markdown([*head, "fastest dense", "of dense", "over the fastest rival"], lines)


def lines_of(rows: list[dict], case: str) -> str:
    """Ours as a line over density, in units of each dense library's time."""
    own = [row for row in rows if row["case"] == case and row["dtype"] == "float32"]
    densities = [row["density"] for row in own]
    table = []
    for name in ("libxsmm dense", "OpenBLAS", "MKL dense", "TensorFlow"):
        if all(name in row["rivals"] for row in own):
            relative = [row["ours"] / row["rivals"][name] for row in own]
            slope, constant = np.polyfit(densities, relative, 1)
            table.append([name, f"{constant:.2f} + {slope:.2f} x density"])
    return markdown(["in units of", "our time"], table)


def short(rows: list[dict], case: str) -> str:
    """Ours beside the fastest rival."""
    lines = [
        [
            row.get("layer", f"batch {row['batch']}"),
            row["dtype"],
            f"{row['density']:.0%}",
            f"{row['ours']:,.1f}",
            f"{row['rivals'][row['rival']]:,.1f} ({row['rival']})",
            f"{row['ratio']:.2f} ± {row['spread']:.2f}",
        ]
        for row in rows
        if row["case"] == case
    ]
    return markdown(["", "values", "kept", "ours, µs", "fastest rival", "faster"], lines)


def layers(rows: list[dict]) -> str:
    """A line per layer and batch; times faster than the fastest rival."""
    keys = [(1, "C ABI"), (1, "Keras layer"), (2, "C ABI"), (2, "Keras layer")]
    table = {}
    for row in rows:
        line = table.setdefault((row["case"], row["layer"], row["batch"]), {})
        line[row["threads"], row["through"]] = row
    lines = []
    for (network, layer, batch), found in table.items():
        first = found.get(keys[0]) or next(iter(found.values()))
        cells = [f"{found[key]['ratio']:.2f}" if key in found else "" for key in keys]
        rival = f"{first['rivals'][first['rival']]:,.0f} ({first['rival']})"
        lines.append([f"{network} {layer}", str(batch), f"{first['ours']:,.0f}", rival, *cells])
    head = ["layer", "batch", "ours, µs", "fastest rival"]
    return markdown([*head, *(f"{through}, {count} thr" for count, through in keys)], lines)


def goals(entries: list[dict]) -> str:
    lines = [
        [
            entry["goal"],
            f"{entry['value']:,.2f}",
            f"{entry['bound']} {entry['limit']:,.2f}",
            "met" if entry["met"] else "**missed**",
        ]
        for entry in entries
    ]
    return markdown(["goal", "measured", "asked for", ""], lines)


def setting(result: dict) -> str:
    """One sentence on the machine and the versions."""
    machine, versions = result["machine"], result["versions"]
    caches = ", ".join(f"{name} {size >> 10:,} KiB" for name, size in machine["caches"].items())
    names = ", ".join(f"{name} {value}" for name, value in versions.items())
    return (
        f"Measured on {machine['processor']} ({machine['processors']} processors; {caches}), "
        f"kernels for {result['rows'][0]['target']}. {names}."
    )


def fill(text: str, sections: dict[str, str]) -> str:
    """The text with what stands between `<!-- name -->` and `<!-- end -->` replaced. ValueError
    for a name that the text does not have."""
    for name, body in sections.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, b=body: f"{m[1]}{b}\n{m[2]}", text, flags=re.S)
        if count != 1:
            raise ValueError(f"The page has one place `<!-- {name} -->`; found {count}.")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kernels", type=Path, help="what cpu_kernels.py --json wrote")
    parser.add_argument("layers", type=Path, help="what cpu_layers.py --json wrote")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where cpu.md is")
    options = parser.parse_args()
    kernels, whole = (json.loads(path.read_text()) for path in (options.kernels, options.layers))
    rows, page = kernels["rows"], options.out / "cpu.md"
    sections = {
        "setting": setting(kernels),
        "goals": goals(kernels["goals"]),
        "spmv": curve(rows, "spmv-4096x4096"),
        "spmm": curve(rows, "spmm-128x1200x729"),
        "spmm lines": lines_of(rows, "spmm-128x1200x729"),
        "batches": short(rows, "batch-4096x4096"),
        "lenet": short(rows, "LeNet-300x784"),
        "threads": short(rows, "two threads"),
        "layers": layers(whole["rows"]),
    }
    page.write_text(fill(page.read_text(), sections))
    cpu_plots.figures(rows, options.out)


if __name__ == "__main__":
    main()
