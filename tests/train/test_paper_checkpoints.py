"""The stored networks of benchmarks/paper/node_pruning.py load, and are as small as asked."""

import sys
from pathlib import Path

import numpy as np
import pytest

PAPER = Path(__file__).parents[2] / "benchmarks" / "paper"
sys.path.insert(0, str(PAPER))

import node_pruning  # noqa: E402
from small_networks import load, macs, sizes, widths  # noqa: E402


@pytest.mark.parametrize("seed", node_pruning.CASES["lenet_5"].seeds)
def test_lenet_5_is_as_small_as_asked(seed):
    dense, about = load(
        node_pruning.stored(node_pruning.FOLDER, "lenet_5", "dense", seed), "lenet_5"
    )
    assert about["seed"] == seed and about["versions"]["tensorflow"]
    masks, about = load(
        node_pruning.stored(node_pruning.FOLDER, "lenet_5", "masks", seed), "lenet_5"
    )
    assert sum(sizes(dense)) == 430_500 and sum(macs(dense)) == 2_293_000
    assert sum(sizes(masks)) <= node_pruning.CASES["lenet_5"].size * sum(sizes(dense))
    assert about["method"] == "masks" and list(widths(masks)) == ["conv1", "conv2", "fc1"]
    assert np.isfinite(masks(np.zeros((1, 28, 28, 1), np.float32))).all()


def row(method, seed, size, ours):
    nodes = {"conv1": 9}
    return {"case": "LeNet-5", "method": method, "seed": seed, "size_ratio": size} | {
        "macs_ratio": 0.2,
        "nodes": nodes,
        "ours": ours,
        "rivals": {"dense": 0.5},
    }


@pytest.mark.parametrize(
    "size, errors, met",
    [
        (0.055, (0.5, 0.6, 0.7), True),  # 0.10 more is the limit
        (0.055, (0.5, 0.6, 0.71), False),
        (0.056, (0.5, 0.5, 0.5), False),
        (0.055, (0.5, 0.5), False),  # a seed is missing
        (0.055, (), False),
    ],
)
def test_the_summary_judges_the_mean_of_all_seeds(size, errors, met):
    rows = [row("masks", seed, size, error) for seed, error in enumerate(errors)]
    assert node_pruning.summary(["lenet_5"], rows)[1] == met
