"""Scalpel's tables 3 and 4 and its figures 18 and 19, from the committed checkpoints.

    make paper                                        # the same as
    python benchmarks/paper/paper.py --split test --out out/paper

Needs all of MNIST, Fashion-MNIST and CIFAR-10 (SCALPEL_TF_DATA, --data_dir or a download) and takes
some minutes. Only --split test reads the test images. Nothing is kept from run to run; the CPU's
part runs in a process of its own, last, and wants a quiet machine.

A network is as good as its dense one where the mean error of its seeds is no larger, int8 beside
int8 on the microcontroller. Speed and size are those of the slowest and of the largest seed, on the
CPU of the first.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import checkpoints
import cpu
import figures
import gpu
import microcontroller
import node_pruning
import numpy as np
import tensorflow as tf
from cpu_network_cases import RANDOM
from published import ASKED, MEANS, TABLE_3, TARGETS, geometric_mean
from small_networks import machine

import scalpel_tf as sc
from scalpel_tf.report import save_json, table

NOISY = 1.2  # third quartile of the ratio over its first
PAGE = """\
# The paper's tables

This page is written by `make paper`, from the weights in `benchmarks/checkpoints`. Cortex-M4 cycles
are modelled, beside those of dense CMSIS-NN; times on the CPU are measured ({processor}; one
thread, one image, float32, called from C), beside the fastest of TensorFlow, LiteRT, ONNX Runtime
and MKL on the dense network; speed on a GPU is not measured. Size is values, indices and row ends
over the weights of the dense network. Errors are in %, of the {split} images, mean and standard
deviation of the seeds, of int8 networks on the microcontroller. NIN and AlexNet have random weights
here: they are there for their speed.

## Table 3: accuracy, speed and size

```text
{table_3}
```

Of several ways to prune a network, a row is the fastest, on a GPU the smallest, of those that are
no worse than the dense network in validation and, if one is, as small as asked; where none is, the
one that is least worse there. Nodes that lost all weights are cut where that is faster ("cut"), on
the microcontroller as well; in float32 the outputs are the same. LeNet-300-100 with fewer groups
was validated by `folds.py`: on all 60,000 training images, each by networks that had not seen it;
that this way is validated so was decided when its test errors were known. The others were on a
split of 5,000. The ways that were not taken, with their test errors:

```text
{others}
```

## Table 4: nodes removed

```text
{table_4}
```

## Fashion-MNIST: no setting changed

LeNet-300-100 trained and pruned for the microcontroller on another task, with every setting as on
MNIST, to 7.3 % of its weights and to the 4.7 % of Table 3; the better in validation comes first.

```text
{fashion}
```

## Figures 18 and 19: beside the paper's baselines

"Traditional" keeps the largest single weights, in CSR in every layer, at the densities of Han et
al. (NIPS 2015; 37 % in each layer of ConvNet and NIN, an assumption); it is not trained again, and
there for speed and size. "Optimized" leaves a layer dense where that is faster.

![Speed of original, traditional, optimized and Scalpel](pictures/paper_figure18.png)

![Size of original, traditional, optimized and Scalpel](pictures/paper_figure19.png)

Versions: {versions}.
"""
BENCHMARK = Path(__file__).parents[1] / "cpu_networks.py"


def judge(row: dict) -> dict:
    """The row with the paper's figures beside it, what is asked, and what of that is met."""
    paper = TABLE_3[row["target"]][row["case"]]
    row = row | {"paper": {"speedup": paper.speedup, "size_ratio": paper.size}}
    asked = ASKED.get(row["target"], {}).get(row["case"])
    if "ratio" not in row:
        return row | ({"asked": asked._asdict(), "met": False} if asked else {})
    verdict = {}
    if "errors" in row:
        verdict["error"] = checkpoints.no_worse(row["errors"], row["errors_dense"])
    if asked:
        verdict["speedup"] = row["ratio"] >= asked.speedup
        if asked.size is not None:
            verdict["size"] = row["size_ratio"] <= asked.size
        row |= {"asked": asked._asdict(), "met": all(verdict.values())}
    return row | {"verdict": verdict}


def line_of(row: dict) -> list[str]:
    """A line of Table 3 for people."""
    paper = row["paper"]
    line = [TARGETS[row["target"]], row["case"]]
    theirs = f"{paper['speedup']:.2f}x {paper['size_ratio']:.2%}"
    asked = row.get("asked")
    bar = ""
    if asked:
        bar = f"{asked['speedup']:g}x" + (f" {asked['size']:.1%}" if asked["size"] else "")
    if "ratio" not in row:
        return [*line, "", "", "", "", theirs, bar, "missing" if row["missing"] else ""]
    speed = f"{row['ratio']:.2f}x"
    if row["unit"] == "MACs":
        speed = f"not measured ({1 / row['ratio']:.1%} of the MACs)"
    errors = [mean(row.get(key)) for key in ("errors_dense", "errors")]
    verdict = row["verdict"]
    missed = [name for name, fine in verdict.items() if not fine]
    words = f"MISSED: {', '.join(missed)}" if missed else "met" if verdict else ""
    return [*line, *errors, speed, f"{row['size_ratio']:.2%}", theirs, bar, words]


def mean(errors: list[float] | None) -> str:
    """The mean of the seeds with its standard deviation, or nothing."""
    if not errors:
        return ""
    deviation = f" ± {np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
    return f"{np.mean(errors):.2f}{deviation}"


def summary(rows: list[dict]) -> str:
    """Table 3 with its means, and what is missing."""
    head = ["target", "network", "error dense", "error", "speedup", "size", "paper", "asked", ""]
    lines, notes = [head], []
    for target, name in TARGETS.items():
        own = [row for row in rows if row["target"] == target]
        lines += [line_of(row) for row in own]
        notes += [f"{name}, {row['case']}: {note}" for row in own for note in comments(row)]
        known = [row for row in own if "ratio" in row]
        if known:
            speed = geometric_mean(row["ratio"] for row in known)
            size = geometric_mean(row["size_ratio"] for row in known)
            means = [f"{speed:.2f}x" if target != "gpu" else "", f"{size:.2%}"]
            theirs = f"{MEANS[target].speedup:.2f}x {MEANS[target].size:.2%}"
            title = f"geometric mean of {len(known)}"
            lines.append([name, title, "", "", *means, theirs, "", ""])
    return "\n".join([table(lines), *dict.fromkeys(notes)])


def comments(row: dict) -> list[str]:
    """What has to be said of a row."""
    found = [f"missing: train it with {each}" for each in row.get("missing", [])]
    found += [f"not there: {each}" for each in row.get("absent", [])]
    if row.get("weights") in (RANDOM, gpu.UNTRAINED):
        found.append(row["weights"])
    if "quartiles" in row:
        first, third = row["quartiles"]
        found.append(
            f"{row['method']}, {row['ours']:.2f} us, against {row['rival']}, "
            f"{row['rivals'][row['rival']]:.2f} us (ratio's quartiles {first:.2f} and {third:.2f}; "
            f"from Python {row['from_python']:.2f}x)"
        )
        if third > NOISY * first:
            found.append("the machine was busy with something else: measure again")
    return found


def nodes_table(rows: list[dict]) -> str:
    """Table 4: nodes removed of each hidden layer, of ours in every seed."""
    lines = [["network", "paper", "ours", "weights left", "error dense", "error"]]
    for row in rows:
        if "removed" not in row:
            lines.append([row["case"], "", "; ".join(row["missing"]), "", "", ""])
            continue
        ours = "  ".join(percent(seed) for seed in row["removed"])
        errors = [mean(row[key]) for key in ("errors_dense", "errors")]
        lines.append(
            [row["case"], percent(row["paper"]), ours, f"{row['size_ratio']:.2%}", *errors]
        )
    return table(lines)


def fashion_table(rows: list[dict]) -> str:
    """LeNet-300-100 on Fashion-MNIST, in each way, or what makes it."""
    lines = [["network", "weights", "validation", "error dense", "error", "speedup", "size"]]
    for row in rows:
        if "ratio" not in row:
            lines.append([row["case"], "; ".join(row["missing"]), "", "", "", "", ""])
            continue
        errors = [mean(row[key]) for key in ("errors_dense", "errors")]
        speed = f"{row['ratio']:.2f}x"
        size = f"{row['size_ratio']:.2%}"
        lines.append([row["case"], row["weights"], f"{row['worse']:+.2f}", *errors, speed, size])
    return table(lines)


def others_table(rows: list[dict]) -> str:
    """The ways to prune that are not in Table 3, from C or on the microcontroller."""
    head = ["target", "network", "weights or way", "validation", "error dense", "error"]
    lines = [[*head, "speedup", "size"]]
    for row in rows:
        if row.get("through", "C") != "C" or not row.get("errors"):
            continue
        name = row["weights"] if row["target"] in ("cortex-m4", "gpu") else row["method"]
        speed = "" if row["target"] == "gpu" else f"{row['ratio']:.2f}x"
        errors = [mean(row[key]) for key in ("errors_dense", "errors")]
        lines.append(
            [TARGETS[one_target(row)["target"]], row["case"], name, f"{row['worse']:+.2f}"]
            + [*errors, speed, f"{row['size_ratio']:.2%}"]
        )
    return table(lines)


def percent(fractions) -> str:
    return "-".join(f"{fraction:.0%}".rstrip("%") for fraction in fractions) + " %"


def measure_cpu(options) -> dict:
    """What cpu_networks.py measures now, or what --cpu_rows has from another time."""
    if options.cpu_rows:
        return json.loads(options.cpu_rows.read_text())
    out = options.out / "cpu_networks.json"
    command = [sys.executable, BENCHMARK, "--folder", options.folder, "--json", out]
    subprocess.run([str(word) for word in command], check=True)
    return json.loads(out.read_text())


def bars(table_3: list[dict], baselines: list[dict]) -> tuple[list[dict], list[dict]]:
    """The rows of figure 18, which has no GPU, and of figure 19."""
    known = [row | {"kernel": "Scalpel"} for row in table_3 if "ratio" in row]
    gpu_known = [row for row in known if row["target"] == "gpu"]
    originals = [row | {"kernel": "original", "size_ratio": 1.0} for row in gpu_known]
    timed = [row for row in known if row["target"] != "gpu"]
    plain = [one_target(row) for row in (*baselines, *timed)]
    return plain, [*plain, *originals, *gpu_known]


def one_target(row: dict) -> dict:
    """The row under the name that the tables have for its target."""
    name = "x86-64" if row["target"].startswith("x86-64") else row["target"]
    return row | {"target": name}


def write_page(options, tables, about):
    """The tables and figures as a page of Markdown, the pictures beside it."""
    pictures = options.page.parent / "pictures"
    for name in ("figure18", "figure19"):
        shutil.copyfile(options.out / f"{name}.png", pictures / f"paper_{name}.png")
    text = PAGE.format(
        table_3=tables[0],
        table_4=tables[1],
        others=tables[2],
        fashion=tables[3],
        split=options.split,
        processor=about["processor"]["processor"],
        versions=", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    )
    temporary = options.page.with_name(options.page.name + ".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(options.page)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--networks", nargs="+", choices=TABLE_3["x86-64"])
    parser.add_argument("--folder", type=Path, default=checkpoints.FOLDER, help="the weights")
    parser.add_argument("--data_dir", help="a folder with mnist.npz and cifar10.npz")
    parser.add_argument("--cpu_rows", type=Path, help="what cpu_networks.py --json wrote, instead")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.add_argument("--page", type=Path, help="also write this page of the documentation")
    options = parser.parse_args()
    tf.config.threading.set_inter_op_parallelism_threads(1)
    names = options.networks or list(TABLE_3["x86-64"])
    found = {target: [] for target in TARGETS}
    table_4, others, baselines, data = [], [], [], {}
    for name in names:
        network = checkpoints.NETWORKS.get(name)
        if network:
            data[name] = node_pruning.read(network.zoo, options.data_dir)
            arguments = (network, data[name], options.folder, options.split)
            row, ways, more = microcontroller.rows(*arguments)
            found["cortex-m4"].append(row)
            others += ways
            baselines += more
        row, ways, nodes = gpu.rows(name, data.get(name), options.folder, options.split)
        found["gpu"].append(row)
        others += ways
        table_4.append(nodes)
        print(f"{name}: microcontroller and nodes are done", file=sys.stderr, flush=True)
    fashion_data = sc.zoo.datasets.fashion_mnist(options.data_dir)
    arguments = (checkpoints.FASHION, fashion_data, options.folder, options.split)
    row, ways, _ = microcontroller.rows(*arguments)
    fashion = [row, *ways]
    measured = measure_cpu(options)
    for name in names:
        arguments = (measured["rows"], data.get(name), options.folder, options.split)
        row, ways, more = cpu.rows(name, *arguments)
        found["x86-64"].append(one_target(row))
        others += ways
        baselines += more
    table_3 = [judge(row) for rows in found.values() for row in rows]
    tables = summary(table_3), nodes_table(table_4), others_table(others), fashion_table(fashion)
    print(f"{tables[0]}\nerrors in %, of the {options.split} images\n", *tables[1:], sep="\n\n")
    speed, size = bars(table_3, baselines)
    about = {**machine(), "processor": measured["machine"], "calls": measured["calls"]}
    about["versions"] = about["versions"] | measured["versions"]
    results = {"table3": [*table_3, *others], "table4": table_4, "fashion_mnist": fashion}
    for name, rows in (results | {"figure18": speed, "figure19": size}).items():
        save_json(options.out / f"{name}.json", {**about, "split": options.split, "rows": rows})
    for name, rows in (("figure18", speed), ("figure19", size)):
        figures.draw(rows, name, options.out / f"{name}.png")
    if options.page:
        write_page(options, tables, about)
    missed = [row for row in table_3 if row.get("met") is False]
    print(f"\n{len(missed)} of the rows that were asked for are missed; {options.out} has them all")


if __name__ == "__main__":
    main()
