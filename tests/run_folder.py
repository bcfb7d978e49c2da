"""A folder as a run leaves it: LeNet-5 with real zeros, and a state.json with a dozen steps."""

from copy import deepcopy

import keras
import numpy as np

from scalpel_tf.core import criteria, selection
from scalpel_tf.core.granularity import Granularity, simd
from scalpel_tf.core.layout import from_matrix, to_matrix
from scalpel_tf.report import save_json
from scalpel_tf.zoo import networks

FILTERS = {"conv1": 20, "conv2": 50}
POSITIONS = {"conv1": 576, "conv2": 64, "fc1": 1, "fc2": 1}
# (layer, whether it was kept, the accuracy)
MICROCONTROLLER = [
    *(("conv2", True, 0.9931), ("fc1", True, 0.9937), ("conv2", True, 0.9934)),
    *(("conv2", True, 0.9929), ("conv1", True, 0.9936), ("fc1", True, 0.9930)),
    *(("conv2", False, 0.9902), ("conv1", False, 0.9911), ("fc1", True, 0.9932)),
    *(("fc1", True, 0.9928), ("fc2", True, 0.9929), ("fc1", False, 0.9917), ("fc2", False, None)),
]
CPU = [
    *(("conv2", True, 0.9930), ("conv1", True, 0.9936), ("conv2", True, 0.9928)),
    *(("conv1", False, 0.9894), ("conv2", False, 0.9909), ("fc1", True, 0.9935)),
    *(("fc1", True, 0.9933), ("fc1", True, 0.9930), ("fc2", True, 0.9931), ("fc1", True, 0.9928)),
    *(("fc2", False, 0.9916), ("fc1", False, 0.9921)),
]


def make(folder, target="cortex-m4", status="done"):
    """Writes the folder; returns its state. `target` is "cortex-m4" or "x86-64-avx2"."""
    folder.mkdir(parents=True, exist_ok=True)
    cpu = target.startswith("x86")
    keras.utils.set_random_seed(0)
    network = networks.lenet_5()
    network.save(folder / "dense.keras")
    left = {layer: 1.0 for layer in POSITIONS}
    baseline = _state(network, left, 0.9934, cpu)
    plan, steps, best = (CPU if cpu else MICROCONTROLLER), [], None
    plan = plan if status == "done" else plan[:5]
    for index, (layer, kept, metric) in enumerate(plan):
        before, left = left, {**left, layer: 0.6 * left[layer]}
        nodes = cpu and layer.startswith("conv")
        slow = "It is not faster: 1.9 k cycles before, 2.1 k after."
        lost = f"accuracy {metric} is below 0.9924 after 3 epochs"
        steps.append(
            {
                **_state(_pruned(left, cpu), left, metric, cpu),
                "index": index,
                "layer": layer,
                "method": "nodes" if nodes else "groups",
                "from": before[layer],
                "to": left[layer],
                "kept": kept,
                "reason": "" if kept else slow if metric is None else lost,
                "seconds": 31.5 + index,
                "digest": f"{index:064x}",
                "file": f"step_{index:03}.keras",
            }
        )
        if kept:
            best = index
        else:
            left = before
    final = _pruned(left, cpu)
    final.save(folder / "best.keras")
    final.save(folder / f"step_{best:03}.keras")
    done = status == "done"
    state = {
        "version": 1,
        "status": status,
        "command": f"scalpel-tf prune lenet_5.keras --data mnist.npz --target {target} --out run",
        "config": {
            **{"target": target, "parallelism": "moderate" if cpu else "low"},
            **{"method": "scalpel", "mix": {"conv": "nodes" if cpu else "groups", "fc": "groups"}},
            **{"max_accuracy_drop": 0.001, "ram": None if cpu else 65536, "epochs": 3},
            **{"flash": None if cpu else 40000, "latency": 2e-5 if cpu else 900000},
            **{"step": 0.6, "min_density": 0.02, "seed": 0, "metric": "accuracy", "mode": "max"},
        },
        "machine": "x86_64, Linux, Python 3.11.2",
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.0", "numpy": "2.4.1"},
        "started": "2026-11-22T13:05:12+00:00",
        "finished": "2026-11-22T13:18:44+00:00" if done else None,
        "seconds": 812.3 if done else 190.0,
        "model": "lenet_5",
        "unit": "s" if cpu else "cycles",
        "source": "measured" if cpu else "modelled",
        "baseline": baseline,
        "steps": steps,
        "best": best,
        "frozen": {"conv2": "The accuracy did not come back.", "conv1": "It did not either."},
        "decisions": [
            "Convolutions lose whole nodes: on this target that was faster than groups of 8."
            if cpu
            else "Convolutions lose groups of 4, which was 1.4 times as fast as cutting nodes.",
            "conv2 comes first: it takes most of the time.",
        ],
        "int8": None,
        "exported": None,
    }
    if done:
        state["exported"] = {"folder": "native" if cpu else "firmware", "flash": None, "ram": None}
        state["exported"]["time"] = steps[best]["time"]
        if not cpu:
            state["exported"] |= {"flash": steps[best]["flash"], "ram": 13984}
            state["int8"] = {"metric": 0.9927, "dense_metric": 0.9934, "float_metric": 0.9929}
            state["int8"]["finetuned"] = True
    save_json(folder / "state.json", state)
    return deepcopy(state)


def _pruned(left, cpu):
    """LeNet-5 with that fraction of each layer left: whole nodes of convolutions on a CPU."""
    network = networks.lenet_5()
    if cpu:
        narrow = {name: round(left[name] * filters) for name, filters in FILTERS.items()}

        def clone(layer):
            config = layer.get_config()
            if layer.name in narrow:
                config["filters"] = narrow[layer.name]
            return type(layer).from_config(config)

        network = keras.models.clone_model(network, clone_function=clone)
    for name, kind in [("conv1", "conv"), ("conv2", "conv"), ("fc1", "dense"), ("fc2", "dense")]:
        if left[name] == 1 or (cpu and kind == "conv"):
            continue
        kernel = network.get_layer(name).kernel
        matrix = to_matrix(kernel.numpy(), kind)
        rows = np.random.default_rng(1).gamma(12, 1, (len(matrix), 1, 1))  # rows differ in worth
        unit = Granularity(simd(8 if cpu else 4))
        keep = selection.mask(matrix * rows, unit, criteria.rms, 1 - left[name])
        kernel.assign(from_matrix(np.where(keep, matrix, 0), kind, kernel.shape))
    return network


def _state(network, left, metric, cpu):
    layers = []
    for name in left:
        layer = network.get_layer(name)
        kernel = layer.kernel.numpy()
        kept = int(np.count_nonzero(kernel))
        macs = kernel.size * POSITIONS[name]
        work = kept * POSITIONS[name]
        dense = kept == kernel.size
        time = work * (2.5e-11 if cpu else 0.9 if dense else 0.75) * (1 if dense else 1.3)
        layers.append(
            {
                **{"path": name, "type": type(layer).__name__, "shape": list(kernel.shape)},
                **{"nodes": kernel.shape[-1], "weights": kernel.size, "kept": kept},
                **{"density": kept / kernel.size, "macs": macs},
                "time": time + (1e-7 if cpu else 900),
                "bytes": round(kept * (4 if cpu else 1) * (1 if dense else 1.3)),
            }
        )
    total = {key: sum(layer[key] for layer in layers) for key in ("macs", "bytes", "time")}
    return {
        "metric": metric,
        "time": total["time"],
        "flash": None if cpu else total["bytes"] + 9000,
        "ram": None if cpu else 13984,
        "weights": sum(layer["kept"] for layer in layers),
        "size": total["bytes"] + 580 * 4,
        "macs": total["macs"],
        "layers": layers,
    }
