"""What is left of networks when half of every layer's nodes go, and whether it is still right.

    cd benchmarks/paper
    python surgery_torch.py --json torch.json     # where torch, torchvision, torch-pruning are
    python surgery_rivals.py --torch torch.json --json surgery.json --docs ../../docs

Beside scalpel_tf stands Torch-Pruning; without --torch its cells are empty and the row says so.
Sony MCT's figure is modelled: the rule of its code for what may be pruned, on the same graph.
`ours` and `rivals` are fractions of the parameters left, `ratio` the smaller rival's over ours;
differences are the largest of any output, relative to the largest output.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "train")]

import cpu_report  # noqa: E402
import graphs  # noqa: E402
import layer_graphs  # noqa: E402
from random_models import difference, randomise, samples  # noqa: E402

from scalpel_tf.report import save_json, table  # noqa: E402
from scalpel_tf.train import graph  # noqa: E402
from scalpel_tf.train.mask_layer import find_masks  # noqa: E402
from scalpel_tf.train.masks import add_masks  # noqa: E402
from scalpel_tf.train.surgery import shrink  # noqa: E402

SMALL = {make.__name__: make for make in graphs.GRAPHS + layer_graphs.GRAPHS}
NETWORKS = (
    *("VGG16", "ResNet50", "DenseNet121", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0"),
    *("InceptionV3", "ConvNeXtTiny", "grouped", "shuffle_of_layers", "squeeze_excite"),
    *("dense_block", "unet_upsampling", "multi_head_attention", "matmul_attention"),
    *("shared_layer", "raw_operations"),
)
TORCH, MCT = "Torch-Pruning", "MCT"
KERNELS = keras.layers.Dense, keras.layers.Conv2D, keras.layers.Conv2DTranspose


def network(name):
    """The Keras network of that name, with random biases, offsets and statistics."""
    keras.utils.set_random_seed(0)
    if name in SMALL:
        return randomise(SMALL[name](), 0)
    size = 299 if name == "InceptionV3" else 224
    options = {"weights": None, "input_shape": (size, size, 3), "classifier_activation": None}
    return randomise(getattr(keras.applications, name)(**options), 0)


def close(masked, ratio):
    """Lets each mask drop that fraction of its nodes, at random; one stays at least."""
    rng = np.random.default_rng(0)
    for mask in find_masks(masked):
        alpha = np.ones(mask.alpha.shape, np.float32)
        count = min(round(ratio * alpha.size), alpha.size - 1)
        alpha[rng.permutation(alpha.size)[:count]] = 0
        mask.alpha.assign(alpha)
    return masked


def prunable_for_mct(read) -> list:
    """The layers that MCT 2.6 would prune: its rule, on our graph.

    model_compression_toolkit, core/common/graph/base_graph.py, _is_node_topology_prunable: from a
    Conv2D, Conv2DTranspose (groups 1) or Dense, along single edges, through layers that are none of
    these and no DepthwiseConv2D, to another such layer that reads as many channels.
    """

    def edge(call):
        return type(call.layer) in KERNELS and getattr(call.layer, "groups", 1) == 1

    def reads(call):
        transposed = isinstance(call.layer, keras.layers.Conv2DTranspose)
        return call.layer.kernel.shape[-1 if transposed else -2]

    found = []
    for entry in filter(edge, read.calls):
        call = entry
        while len(call.outputs) == 1 and len(call.outputs[0].consumers) == 1:
            call = call.outputs[0].consumers[0]
            if len(call.inputs) != 1:
                break
            if edge(call):
                if reads(call) == entry.made.size:
                    found.append(entry)
                break
            if isinstance(call.layer, (*KERNELS, keras.layers.DepthwiseConv2D)):
                break
    return found


def ours(name, ratio) -> dict:
    """Our part of a row, and the modelled one of MCT."""
    model = network(name)
    masked = close(add_masks(model), ratio)
    small = shrink(masked)
    inputs = samples(model, 1)
    read = graph.read(model)
    cut = [call.made[: round(ratio * call.made.size)] for call in prunable_for_mct(read)]
    cut = np.concatenate([*cut, np.zeros(0, int)])
    left = sum(cost.parameters for cost in graph.costs(read, cut).values())
    return {
        "parameters": [model.count_params(), small.count_params()],
        "difference": difference(masked, small, inputs),
        "whole": [path for path, reason in small.report.whole if reason != graph.OUTPUT],
        "mct": left / model.count_params(),
    }


def torch_rows(path) -> tuple[dict, dict]:
    """(network -> what Torch-Pruning made of it, versions), from surgery_torch.py's file."""
    if path is None:
        return dict.fromkeys(NETWORKS, {"error": "left out: no --torch"}), {}
    result = json.loads(path.read_text())
    missing = dict.fromkeys(NETWORKS, {"error": f"left out: not in {path.name}"})
    return missing | {row["case"]: row for row in result["rows"]}, result["versions"]


def joined(name, own, other) -> dict:
    """One row, as docs and DESIGN have them."""
    before, after = own["parameters"]
    rivals = {MCT: own["mct"]}
    if "error" not in other:
        rivals[TORCH] = other["after"] / other["before"]
    row = {
        "case": name,
        "kernel": "dense",
        "dtype": "float32",
        "ours": after / before,
        "unit": "parameters left",
        "parameters": own["parameters"],
        "difference": own["difference"],
        "whole": own["whole"],
        "rivals": rivals,
        "rival": min(rivals, key=rivals.get),
        "rival_parameters": [other.get("before"), other.get("after")],
        "rival_difference": other.get("difference"),
        "rival_error": other.get("error"),
        "size_ratio": after / before,
        "sources": {TORCH: "measured", MCT: "modelled"},
        "source": "measured",
    }
    return {**row, "ratio": rivals[row["rival"]] / row["ours"]}


def cells(row) -> list[str]:
    """A line of the table."""
    torch = row["rivals"].get(TORCH)
    found = row["rival_difference"]
    return [
        row["case"],
        f"{row['parameters'][0]:,}",
        f"{row['ours']:.1%}",
        f"{row['difference']:.0e}" if row["difference"] else "0",
        "" if torch is None else f"{torch:.1%}",
        row["rival_error"] if found is None else f"{found:.0e}" if found else "0",
        f"{row['rivals'][MCT]:.1%}",
    ]


HEAD = [
    *("network", "parameters", "left by scalpel_tf", "difference"),
    *("left by Torch-Pruning", "difference", "left by MCT's rule"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratio", type=float, default=0.5, help="of the nodes to cut")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NAME")
    parser.add_argument("--torch", type=Path, metavar="PATH", help="what surgery_torch.py wrote")
    parser.add_argument("--json", type=Path, metavar="PATH")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="where node_pruning.md is")
    options = parser.parse_args()
    theirs, versions = torch_rows(options.torch)
    rows = []
    for name in options.networks:
        rows.append(joined(name, ours(name, options.ratio), theirs[name]))
        print(cells(rows[-1]), file=sys.stderr, flush=True)
        keras.backend.clear_session()
        gc.collect()
    print(table([HEAD, *map(cells, rows)]))
    versions |= {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    if options.json:
        machine = {"processor": platform.processor() or platform.machine()}
        result = {"machine": machine, "versions": versions, "ratio": options.ratio, "rows": rows}
        save_json(options.json, result)
    if options.docs:
        page = options.docs / "node_pruning.md"
        filled = {"rivals": cpu_report.markdown(HEAD, [cells(row) for row in rows])}
        page.write_text(cpu_report.fill(page.read_text(), filled))


if __name__ == "__main__":
    main()
