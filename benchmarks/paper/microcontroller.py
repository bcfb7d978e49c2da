"""The networks on the virtual Cortex-M4: in groups, traditionally pruned, and as they were.

Cycles are modelled (cortex_m.py), and stand beside CMSIS-NN's for the dense int8 network. Size is
the paper's: values, indices and row ends over the weights of the dense network. `constants` has the
biases and scales as well, which pruning leaves alone.
"""

from pathlib import Path

import checkpoints
import cortex_m
import numpy as np
import small_networks
from cpu_network_cases import HAN

import scalpel_tf as sc
from scalpel_tf.core import cost
from scalpel_tf.deploy import csr_conv
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.lower_conv import candidates as conv_candidates

TARGET = cortex_m.TARGET
RECORD = {"FULLY_CONNECTED": cost.ROW_BYTES, "CONV_2D": cost.CONV_ROW_BYTES}
COUNT_BYTES = 4  # of a row's record: where it ends
SAMPLES = 1
UNTRAINED = "the original's largest, not trained again: speed and size only"
OURS = (fc.candidates, conv_candidates)
CSR = (lambda weights: [fc.pack_csr(weights)], csr_conv.candidates)
DENSE = (cortex_m.dense_format, cortex_m.dense_conv_format)


def rows(network: checkpoints.Network, data, folder: Path, split: str):
    """The row of Table 3, which is the fastest way to prune that is no worse than the dense network
    in validation, or the least bad where none is; the other ways; the rows of the figures."""
    case = {"case": network.name, "target": TARGET}
    there, absent = checkpoints.seeds(folder, network, network.dense)
    if not there:
        return case | {"missing": absent}, [], []

    def load(stem, seed=there[0]):
        return checkpoints.load(folder, network, stem, seed)

    original = run(checkpoints.to_int8(load(network.dense), data), DENSE)
    original["weights"] = sum(small_networks.sizes(load(network.dense)))
    cut = elements(load(network.dense), HAN[network.name])
    figures = baselines(network.name, cut, data, original)
    ways, missing = [], []
    for stem in network.groups:
        seeds, absent = checkpoints.seeds(folder, network, network.dense, stem)
        if seeds:
            ways.append(way(network, stem, seeds, data, load, original, split))
            ways[-1] |= {"absent": absent, "worse": checkpoints.worse(folder, network, stem, seeds)}
        else:
            missing += absent
    if not ways:
        return case | {"missing": missing}, [], figures
    fine = [row for row in ways if row["worse"] <= checkpoints.EPSILON]
    chosen = max(fine, key=lambda row: row["ratio"], default=min(ways, key=lambda r: r["worse"]))
    others = [row for row in ways if row is not chosen]
    return chosen | {"absent": chosen["absent"] + missing}, others, figures


def way(network, stem: str, seeds: list[int], data, load, original: dict, split: str) -> dict:
    """The row of one way to prune: the slowest and the largest of its seeds, and all errors."""
    x, labels = checkpoints.images(data, split)
    runs, densities, errors = [], [], {"errors": [], "errors_dense": [], "errors_float32": []}
    for seed in seeds:
        dense, pruned = load(network.dense, seed), load(stem, seed)
        dense_int8 = checkpoints.to_int8(dense, data)
        found, int8 = fastest(pruned, data)
        runs.append(found)
        densities.append(density(pruned))
        errors["errors"].append(checkpoints.int8_error(int8, x, labels))
        errors["errors_dense"].append(checkpoints.int8_error(dense_int8, x, labels))
        both = (small_networks.error(model, x, labels) for model in (pruned, dense))
        errors["errors_float32"].append(list(both))
    slowest = max(runs, key=lambda found: found["cycles"])
    found = row(network.name, slowest, original, kernel="sparse", method="groups")
    speeds = [found["rivals"]["CMSIS-NN"] / each["cycles"] for each in runs]
    return found | {
        "size_ratio": max(each["bytes"] for each in runs) / original["weights"],
        "density": max(densities),
        "spread": float(np.ptp(speeds)),
        "seeds": seeds,
        "weights": stem,
        "split": split,
        **errors,
    }


def fastest(model, data) -> tuple[dict, bytes]:
    """(how it runs, the int8 network) of the model, or of it without its dead nodes, whichever is
    faster: in float32 the outputs are the same, but the groups of the next layer shift."""
    models = [model, sc.shrink(model)]
    if models[0].count_params() == models[1].count_params():
        models.pop()
    networks = [checkpoints.to_int8(each, data) for each in models]
    return min(((run(int8, OURS), int8) for int8 in networks), key=lambda pair: pair[0]["cycles"])


def baselines(name: str, cut, data, original) -> list[dict]:
    """The bars beside Scalpel's; `cut` is the network without its smallest weights."""
    csr = run(checkpoints.to_int8(cut, data), CSR)
    about = {"density": density(cut), "method": "elements", "weights": UNTRAINED}
    peer = row(name, original, original, kernel="original", method="CMSIS-NN")
    peer |= {"ours": peer["rivals"]["CMSIS-NN"], "ratio": 1.0, "size_ratio": 1.0}
    del peer["bytes"], peer["constants"], peer["constants_ratio"], peer["ram"], peer["layers"]
    del peer["over_own_dense"], peer["compiler"]
    return [
        peer,
        row(name, csr, original, kernel="traditional", **about),
        row(name, faster(csr, original), original, kernel="optimized", **about),
    ]


def faster(csr: dict, dense: dict) -> dict:
    """Of each layer, with the pooling after it, the faster of two measured ones."""
    pairs = zip(*(parts(found["layers"]) for found in (csr, dense)), strict=True)
    chosen = [min(pair, key=lambda part: part["cycles"]) for pair in pairs]
    rest = dense["cycles"] - sum(layer["cycles"] for layer in dense["layers"])
    return dense | {
        "cycles": rest + sum(part["cycles"] for part in chosen),
        "bytes": sum(part["bytes"] for part in chosen),
        "constants": sum(part["constants"] for part in chosen),
        "layers": chosen,
    }


def parts(layers: list[dict]) -> list[dict]:
    """The layers with weights; what follows one counts with it."""
    found = []
    for layer in layers:
        if layer["density"] is not None or not found:
            found.append(dict(layer))
        else:
            found[-1]["cycles"] += layer["cycles"]
    return found


def elements(model, densities):
    """The model with the largest weights of every layer only."""
    for layer in small_networks.chain(model):
        kept = densities.get(layer.name, densities.get("", 1.0))
        kernel = layer.kernel.numpy()
        threshold = np.quantile(np.abs(kernel), 1 - kept)
        layer.kernel.assign(np.where(np.abs(kernel) >= threshold, kernel, np.float32(0)))
    return model


def density(model) -> float:
    """Weights that are not zero."""
    kernels = [layer.kernel.numpy() for layer in small_networks.chain(model)]
    return sum(map(np.count_nonzero, kernels)) / sum(kernel.size for kernel in kernels)


def run(int8: bytes, formats) -> dict:
    """Modelled cycles and bytes of the whole network, and of its layers."""
    counted, layers, ram, shapes = cortex_m.measure(int8, *formats, samples=SAMPLES)
    shapes, found = iter(shapes), []
    for layer, count in zip(layers, counted.layers, strict=True):
        fixed = 0
        if layer.density is not None:
            fixed = next(shapes)[0] * (RECORD[layer.op.split(" + ")[0]] - COUNT_BYTES)
        entry = {"name": layer.name, "kernel": layer.kernel, "density": layer.density}
        sizes = {"bytes": layer.bytes - fixed, "constants": layer.bytes}
        found.append(entry | sizes | {"cycles": count.cycles})
    return {
        "cycles": counted.cycles,
        "bytes": sum(layer["bytes"] for layer in found),
        "constants": sum(layer["constants"] for layer in found),
        "ram": ram,
        "compiler": counted.compiler,
        "layers": found,
    }


def row(name: str, found, original, **facts) -> dict:
    """A row in the format that all benchmarks share."""
    peers = cortex_m.json.loads(cortex_m.CMSIS_NN.read_text())["totals"][name]
    rivals = {"CMSIS-NN": peers["cycles"], "own dense": original["cycles"]}
    return {
        "case": name,
        "target": TARGET,
        "density": 1.0,
        "dtype": "int8",
        "threads": 1,
        "batch": 1,
        **facts,
        "ours": found["cycles"],
        "unit": "cycles",
        "rivals": rivals,
        "rival": "CMSIS-NN",
        "ratio": rivals["CMSIS-NN"] / found["cycles"],
        "over_own_dense": original["cycles"] / found["cycles"],
        "spread": 0.0,
        "bytes": found["bytes"],
        "size_ratio": found["bytes"] / original["weights"],
        "constants": found["constants"],
        "constants_ratio": found["constants"] / original["constants"],
        "ram": found["ram"],
        "layers": found["layers"],
        "compiler": found["compiler"],
        "source": "modelled",
    }
