"""What Torch-Pruning (DepGraph, Fang et al., CVPR 2023) leaves of networks at one ratio.

    python surgery_torch.py --json torch.json     # where torch, torchvision, torch-pruning are

Needs nothing of this repository; surgery_rivals.py reads what it writes: per network the parameters
before and after, `difference`, and `error` where it does not get through.

`difference` is that of the pruned network's outputs and the original's in which every channel that
was cut is 0 where a layer with a kernel writes or reads it, relative to the largest output.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.metadata import version

import numpy as np
import torch
import torch_pruning
from torch import nn
from torch_networks import NETWORKS

READERS = (nn.Conv2d, nn.Linear)


def parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def randomise(model, seed):
    """Random biases, scales and statistics, that nothing is exact by chance."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        normal = torch.randn(tensor.shape, generator=generator) * 0.1 + 0.05
        positive = torch.rand(tensor.shape, generator=generator) + 0.5
        owner = model.get_submodule(name.rpartition(".")[0])
        scale = name.endswith("running_var") or (
            name.endswith("weight") and "Norm" in type(owner).__name__
        )
        if scale or "layer_scale" in name:
            tensor.data.copy_(positive)
        elif tensor.dim() < 2:
            tensor.data.copy_(normal)


def last_layer(model):
    """The layer with a kernel that makes the outputs: it keeps them all."""
    return [module for module in model.modules() if isinstance(module, READERS)][-1]


def prune(model, x, ratio):
    """Prunes `model` in place; (name, "in" or "out") -> what its layers with kernels have left."""
    names = {module: name for name, module in model.named_modules()}
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        x,
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=ratio,
        ignored_layers=[last_layer(model)],
    )
    left = {}
    for module in model.modules():
        if isinstance(module, READERS):
            for side, count in zip(("in", "out"), sizes(module), strict=True):
                left[names[module], side] = np.arange(count)
    for group in pruner.step(interactive=True):
        for dep, indices in group:
            module = dep.target.module
            if isinstance(module, READERS):
                side = "in" if pruner.DG.is_in_channel_pruning_fn(dep.pruning_fn) else "out"
                left[names[module], side] = np.delete(left[names[module], side], indices)
        group.prune()
    return left


def sizes(module):
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return module.in_channels, module.out_channels


def mute(model, left):
    """Makes each layer with a kernel read and write 0 in the channels that `left` does not name."""

    def silent(module, x, kept):
        axis = 1 if isinstance(module, nn.Conv2d) else x.dim() - 1
        if x.shape[axis] == len(kept):
            return x
        keep = torch.zeros(x.shape[axis])
        keep[kept] = 1
        return x * keep.reshape([-1 if other == axis else 1 for other in range(x.dim())])

    for name in {name for name, _ in left}:
        module = model.get_submodule(name)
        read, write = left[name, "in"], left[name, "out"]
        module.register_forward_pre_hook(
            lambda module, args, kept=read: (silent(module, args[0], kept),)
        )
        module.register_forward_hook(
            lambda module, args, output, kept=write: silent(module, output, kept)
        )


def run(name, ratio, seed):
    """One row of the JSON file."""
    torch.manual_seed(seed)
    model, shape = NETWORKS[name]()
    randomise(model.eval(), seed)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    row = {"case": name, "before": parameters(model)}
    x = torch.randn(1, *shape)
    try:
        left = prune(model, x, ratio)
        row["after"] = parameters(model)
        x = torch.randn(2, *shape)
        with torch.no_grad():
            outputs = model(x)
            original, _ = NETWORKS[name]()
            original.eval().load_state_dict(weights)
            mute(original, left)
            expected = original(x)
        row["difference"] = ((outputs - expected).abs().max() / expected.abs().max()).item()
    except Exception as error:  # whatever it raises is what the row says
        row["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratio", type=float, default=0.5, help="of each layer's channels to cut")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--json", metavar="PATH", help="write here instead of to stdout")
    options = parser.parse_args()
    versions = {name: version(name) for name in ("torch", "torchvision", "torch-pruning")}
    rows = []
    for name in options.networks:
        rows.append(run(name, options.ratio, seed=0))
        print(rows[-1], file=sys.stderr, flush=True)
    text = json.dumps({"versions": versions, "ratio": options.ratio, "rows": rows}, indent=1)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
