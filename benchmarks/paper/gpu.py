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


def rows(name: str, data, folder: Path, split: str) -> tuple[dict, list[dict], dict]:
    """The row of Table 3, which has the fewest weights of those that are no worse than the dense
    network in validation, or is the least bad where none is; the others; the row of Table 4."""
    case = {"case": name, "target": "gpu"}
    if name in PUBLISHED:
        build, nodes = PUBLISHED[name]
        found = row(name, build(nodes), build(), weights=UNTRAINED)
        keras.backend.clear_session(free_memory=True)
        return found, [], case | {"missing": [UNTRAINED]}
    network = checkpoints.NETWORKS[name]
    ways, missing = [], []
    for stem in network.nodes:
        seeds, absent = checkpoints.seeds(folder, network, network.dense, stem)
        if seeds:
            ways.append(way(network, stem, seeds, data, folder, split) | {"absent": absent})
        else:
            missing += absent
    if not ways:
        return case | {"missing": missing}, [], case | {"missing": missing}
    fine = [found for found in ways if found["worse"] <= checkpoints.EPSILON]
    chosen = min(
        fine, key=lambda found: found["size_ratio"], default=min(ways, key=lambda r: r["worse"])
    )
    others = [found for found in ways if found is not chosen]
    chosen = chosen | {"absent": chosen["absent"] + missing}
    left = {
        "paper": TABLE_4[name],
        "nodes": small_networks.widths(getattr(networks, network.zoo)()),
    }
    return chosen, others, chosen | left


def way(network, stem: str, seeds: list[int], data, folder: Path, split: str) -> dict:
    """The row of one way to remove nodes, of the seed with most weights, and all errors."""
    x, labels = checkpoints.images(data, split)
    runs, errors, errors_dense, removed = [], [], [], []
    for seed in seeds:
        model = checkpoints.load(folder, network, stem, seed)
        dense = checkpoints.load(folder, network, network.dense, seed)
        runs.append(row(network.name, model, dense))
        errors.append(small_networks.error(model, x, labels))
        errors_dense.append(small_networks.error(dense, x, labels))
        widths = zip(*(small_networks.widths(m).values() for m in (model, dense)), strict=True)
        removed.append([1 - kept / nodes for kept, nodes in widths])
    return max(runs, key=lambda found: found["size_ratio"]) | {
        "errors": errors,
        "errors_dense": errors_dense,
        "removed": removed,
        "seeds": seeds,
        "weights": stem,
        "split": split,
        "worse": checkpoints.worse(folder, network, stem, seeds),
    }
