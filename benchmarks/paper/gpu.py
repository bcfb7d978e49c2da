"""Node pruning for a GPU: weights and MACs that are left. No GPU is here: speed is not measured."""

from pathlib import Path

import checkpoints
import keras
import small_networks
from cpu_network_cases import NIN_NODES
from published import TABLE_4

from scalpel_tf.zoo import networks

# The authors' later models (METHODS 1.5), with convolutions rounded up to even numbers.
PUBLISHED = {
    "NIN": (networks.nin, NIN_NODES),
    "AlexNet": (networks.alexnet, (84, 226, 234, 238, 254, 3001, 3029)),
}
UNTRAINED = "published nodes, not trained here"


def row(name: str, model, dense, **facts) -> dict:
    """A row in the format that all benchmarks share; MACs stand where others have a time."""
    macs, all_macs = (sum(small_networks.macs(each)) for each in (model, dense))
    return {
        "case": name,
        "target": "gpu",
        "kernel": "dense",
        "method": "nodes",
        "density": 1.0,
        "dtype": "float32",
        "ours": macs,
        "unit": "MACs",
        "rivals": {"original": all_macs},
        "rival": "original",
        "ratio": all_macs / macs,
        "spread": 0.0,
        "size_ratio": sum(small_networks.sizes(model)) / sum(small_networks.sizes(dense)),
        "speed": "not measured",
        "source": "modelled",
        **facts,
    }


def rows(name: str, data, folder: Path, split: str) -> tuple[dict, dict]:
    """The row of Table 3, of the seed with most weights, and the row of Table 4."""
    case = {"case": name, "target": "gpu"}
    if name in PUBLISHED:
        build, nodes = PUBLISHED[name]
        found = row(name, build(nodes), build(), weights=UNTRAINED)
        keras.backend.clear_session(free_memory=True)
        return found, case | {"missing": [UNTRAINED]}
    network = checkpoints.NETWORKS[name]
    there, absent = checkpoints.seeds(folder, network, network.dense, network.nodes)
    if not there:
        return case | {"missing": absent}, case | {"missing": absent}
    x, labels = checkpoints.images(data, split)
    runs, errors, errors_dense, removed = [], [], [], []
    for seed in there:
        model = checkpoints.load(folder, network, network.nodes, seed)
        dense = checkpoints.load(folder, network, network.dense, seed)
        runs.append(row(name, model, dense))
        errors.append(small_networks.error(model, x, labels))
        errors_dense.append(small_networks.error(dense, x, labels))
        widths = zip(*(small_networks.widths(m).values() for m in (model, dense)), strict=True)
        removed.append([1 - kept / nodes for kept, nodes in widths])
    largest = max(runs, key=lambda found: found["size_ratio"])
    facts = {"errors": errors, "errors_dense": errors_dense, "seeds": there, "absent": absent}
    facts |= {"split": split}
    left = {"removed": removed, "paper": TABLE_4[name], "nodes": small_networks.widths(dense)}
    return largest | facts, largest | facts | left
