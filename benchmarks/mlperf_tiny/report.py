"""ResNet-8 and DS-CNN in groups on the virtual Cortex-M4, from the committed weights.

    make mlperf_tiny                                   # the same as
    python benchmarks/mlperf_tiny/report.py --split test --json out/mlperf_tiny.json

Needs all of CIFAR-10 (SCALPEL_TF_DATA, --data_dir or a download) and the words of speech.py
(--speech). Only --split test reads the test split. Cycles are modelled (cortex_m.py); CMSIS-NN's
are estimated (cmsis_nn.py). Flash is what the layers' constants take, code apart; RAM the arena.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path[:0] = [str(Path(__file__).parents[1] / "paper"), str(Path(__file__).parents[1])]

import checkpoints  # noqa: E402
import cmsis_nn  # noqa: E402
import cortex_m  # noqa: E402
import runs  # noqa: E402
from small_networks import error, machine  # noqa: E402

from scalpel_tf.deploy import convert, tflite  # noqa: E402
from scalpel_tf.deploy import fully_connected as fc  # noqa: E402
from scalpel_tf.deploy.export import quantise  # noqa: E402
from scalpel_tf.deploy.lower_conv import candidates as conv_candidates  # noqa: E402
from scalpel_tf.report import save_json, table  # noqa: E402

NAMES = {"resnet_8": "ResNet-8", "ds_cnn": "DS-CNN"}
WHAT = {
    "resnet_8": "image classification, CIFAR-10",
    "ds_cnn": "keyword spotting, synthesised speech",
}
FORMATS = {
    "dense": (cortex_m.dense_format, cortex_m.dense_conv_format),
    "w4": (fc.candidates, conv_candidates),
}
READ = """, and the
test split decided nothing. The test clips of the speech had been read before, for a DS-CNN in
groups that trained for half as long"""
PAGE = """\
# MLPerf Tiny

This page is written by `make mlperf_tiny`, from the weights in
`benchmarks/checkpoints/mlperf_tiny`: ResNet-8 and DS-CNN of MLPerf Tiny (Banbury et al., 2021) as
whole pipelines. Each is trained dense, loses groups of four weights while it trains on and learns
from the dense one's answers, becomes int8, and runs on the virtual Cortex-M4, where it equals
TensorFlow Lite bit for bit.

**The speech is synthesised.** DS-CNN hears words of `espeak-ng` and `flite` in noise, made by
`benchmarks/mlperf_tiny/speech.py`, and not Speech Commands: its errors are not comparable to those
of MLPerf Tiny, only to each other. No speaker of the validation or test clips is in the training
clips.

```text
{errors}
```

Errors in %. Every choice was made on the validation split{test}. {seeds}
The pruned networks have trained on from the dense ones; there is no dense control of their length.

```text
{costs}
```

Cycles are modelled (Cortex-M4 Technical Reference Manual, zero wait states). CMSIS-NN was not run
on these networks: its cycles are estimated from those of its layers in other networks,
at {conv:.2f} cycles per product of a convolution and {fc:.2f} of a fully connected layer. Flash is
what the constants of the layers take, in bytes, and RAM the arena.

{absent}{layers}
Versions: {versions}.
"""


def row(network: str, method: str, seed: int, data, folder: Path, splits) -> dict:
    """The row of one model: its errors, and its cycles and bytes as int8."""
    model, about = runs.load(runs.stored(folder, network, method, seed), network)
    int8 = checkpoints.to_int8(model, data)
    errors = {}
    for split in splits:
        x, labels = checkpoints.images(data, split)
        both = error(model, x, labels), int8_error(int8, x, labels)
        errors[split] = dict(zip(("float32", "int8"), both, strict=True))
    found, layers, ram, _ = cortex_m.measure(int8, *FORMATS[method], samples=1)
    parts = [
        {
            "layer": layer.name,
            "op": layer.op,
            "kernel": layer.kernel,
            "density": layer.density,
            "macs": layer.macs,
            "bytes": layer.bytes,
            "cycles": count.cycles,
        }
        for layer, count in zip(layers, found.layers, strict=True)
    ]
    return {
        "case": NAMES[network],
        "target": cortex_m.TARGET,
        "kernel": "dense" if method == "dense" else "sparse",
        "density": density(model),
        "dtype": "int8",
        "threads": 1,
        "batch": 1,
        "seed": seed,
        "data": WHAT[network],
        "errors": errors,
        "ours": found.cycles,
        "unit": "cycles",
        "spread": 0.0,
        "bytes": sum(part["bytes"] for part in parts),
        "ram": ram,
        "layers": parts,
        "compiler": found.compiler,
        "source": "modelled",
        "training": about,
    }


def rows_of(network: str, seed: int, data, folder: Path, splits) -> list[dict]:
    """The rows of the dense and, where it is there, of the pruned network, beside their rivals."""
    dense = row(network, "dense", seed, data, folder, splits)
    parts = [(part["op"], part["macs"], part["cycles"]) for part in dense["layers"]]
    peer = {"CMSIS-NN (estimated)": round(cmsis_nn.estimate(parts))}
    found = [beside(dense, peer, dense["bytes"])]
    if runs.stored(folder, network, "w4", seed).exists():
        pruned = row(network, "w4", seed, data, folder, splits)
        found.append(beside(pruned, peer | {"own dense": dense["ours"]}, dense["bytes"]))
    return found


def missing(networks, folder: Path) -> list[str]:
    """What is not there, and what makes it."""
    return [
        f"{NAMES[network]} in groups, seed {seed}, is missing: {runs.COMMAND} --networks {network}"
        for network in networks
        for seed in runs.SEEDS[network]
        if not runs.stored(folder, network, "w4", seed).exists()
    ]


def beside(entry: dict, rivals: dict, dense_bytes: int) -> dict:
    """The row with what stands beside it; `rival` is the fastest."""
    rival = min(rivals, key=rivals.get)
    facts = {"rivals": rivals, "rival": rival, "ratio": rivals[rival] / entry["ours"]}
    return entry | facts | {"size_ratio": entry["bytes"] / dense_bytes}


def int8_error(int8: bytes, x: np.ndarray, labels: np.ndarray) -> float:
    """The percentage of the inputs that TensorFlow Lite's reference kernels put into a wrong class;
    the C on a Cortex-M equals them bit for bit."""
    network = tflite.read(int8)
    tensor = network.tensors[network.inputs[0]]
    entry = {"scale": tensor.scale[0], "zero_point": tensor.zero_point[0], "dtype": "int8"}
    outputs = convert.run_reference(int8, quantise(x, entry))[0].reshape(len(x), -1)
    return 100 * float(np.mean(np.argmax(outputs, -1) != labels))


def density(model) -> float:
    """Weights that are not zero, of all layers with kernels but depthwise ones."""
    found = [layer.kernel.numpy() for layer in runs.kernels(model)]
    return sum(map(np.count_nonzero, found)) / sum(kernel.size for kernel in found)


def errors_table(rows: list[dict], splits) -> str:
    head = [f"{split} {dtype}" for split in splits for dtype in ("float32", "int8")]
    lines = [["network", "data", "seed", "", "weights left", *head]]
    for entry in rows:
        errors = [entry["errors"][split][dtype] for split, dtype in map(str.split, head)]
        facts = [entry["case"], entry["data"], str(entry["seed"]), entry["kernel"]]
        lines.append([*facts, f"{entry['density']:.1%}", *(f"{value:.2f}" for value in errors)])
    return table(lines)


def costs_table(rows: list[dict]) -> str:
    head = ["network", "seed", "", "cycles", "over own dense", "over CMSIS-NN (estimated)"]
    lines = [[*head, "flash", "RAM"]]
    for entry in rows:
        own, peer = (entry["rivals"].get(name) for name in ("own dense", "CMSIS-NN (estimated)"))
        facts = [entry["case"], str(entry["seed"]), entry["kernel"], f"{entry['ours']:,}"]
        speed = [f"{own / entry['ours']:.2f}x" if own else "", f"{peer / entry['ours']:.2f}x"]
        lines.append([*facts, *speed, f"{entry['bytes']:,}", f"{entry['ram']:,}"])
    return table(lines)


def layers_table(rows: list[dict]) -> str:
    """The cycles of every layer of the first seed, dense and, where that is there, pruned."""
    dense, pruned = rows[0], rows[1] if len(rows) > 1 else None
    lines = [["layer", "kernel", "density", "cycles dense", "pruned", "speedup"]]
    for index, old in enumerate(dense["layers"]):
        new = pruned["layers"][index] if pruned else old
        kept = "" if new["density"] is None else f"{new['density']:.0%}"
        line = [new["layer"], new["kernel"], kept, f"{old['cycles']:,}"]
        ratio = old["cycles"] / new["cycles"]
        lines.append([*line, *([f"{new['cycles']:,}", f"{ratio:.2f}x"] if pruned else ["", ""])])
    return f"{dense['case']}, cycles of the int8 layers:\n\n```text\n{table(lines)}\n```\n"


def write_page(path: Path, rows: list[dict], absent: list[str], splits, about):
    """The tables as a page of Markdown."""
    rates = cmsis_nn.per_product()
    names = dict.fromkeys(entry["case"] for entry in rows)
    counts = {name: len({row["seed"] for row in rows if row["case"] == name}) for name in names}
    text = PAGE.format(
        errors=errors_table(rows, splits),
        costs=costs_table(rows),
        test=READ if "test" in splits else "",
        absent="".join(f"**{sentence}.**\n\n" for sentence in absent),
        seeds="Seeds: " + ", ".join(f"{name} {count}" for name, count in counts.items()) + ".",
        conv=rates["CONV_2D"],
        fc=rates["FULLY_CONNECTED"],
        layers="\n".join(layers_table([r for r in rows if r["case"] == name]) for name in names),
        versions=", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--folder", type=Path, default=runs.FOLDER, help="the weights")
    parser.add_argument("--data_dir", help="a folder with cifar10.npz")
    parser.add_argument("--speech", type=Path, default=Path("out/speech"), help="a folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="also write this page of the documentation")
    flags = parser.parse_args()
    tf.config.threading.set_inter_op_parallelism_threads(1)
    splits = ("validation", "test") if flags.split == "test" else ("validation",)
    rows = []
    for network in flags.networks:
        data = runs.data_of(network, flags)
        for seed in runs.SEEDS[network]:
            rows += rows_of(network, seed, data, flags.folder, splits)
    absent = missing(flags.networks, flags.folder)
    print(f"{errors_table(rows, splits)}\nerrors in %\n\n{costs_table(rows)}\nmodelled cycles")
    print(*absent, sep="\n")
    if flags.json:
        save_json(flags.json, {**machine(), "rows": rows})
    if flags.page:
        write_page(flags.page, rows, absent, splits, machine())


if __name__ == "__main__":
    main()
