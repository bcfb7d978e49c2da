"""The stored networks of benchmarks/paper/node_pruning.py load, and are as small as asked."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

PAPER = Path(__file__).parents[2] / "benchmarks" / "paper"
sys.path.insert(0, str(PAPER))

import node_pruning  # noqa: E402
from small_networks import BATCH, average, build, load, macs, shuffled, sizes, widths  # noqa: E402


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


def test_the_weights_after_each_cycle_are_averaged_and_zeros_stay(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (256, 28, 28, 1)).astype(np.float32)
    data = SimpleNamespace(x_train=images, y_train=rng.integers(0, 10, 256))
    recipe = {"l2": 0.0, "cycles": {"count": 2, "epochs": 1, "rate": 0.01}}
    model = build("lenet_300_100", {})
    kernel = model.get_layer("fc1").kernel.numpy()
    kernel[:, ::2] = 0
    model.get_layer("fc1").kernel.assign(kernel)
    found = [model.get_weights()]
    mean = average(model, data, recipe, seed=0, backup=tmp_path).get_weights()
    found += [load(tmp_path / f"cycle{i}.npz", "lenet_300_100")[0].get_weights() for i in range(2)]
    assert all(np.abs(found[i][0] - found[i + 1][0]).max() > 1e-4 for i in range(2))
    for arrays in zip(mean, *found, strict=True):
        np.testing.assert_allclose(arrays[0], np.mean(arrays[1:], axis=0), atol=1e-7)
    assert not mean[0][:, ::2].any() and mean[0][:, 1::2].all()
    model.set_weights(found[0])  # a run that was killed reads the cycles that are there
    again = average(model, data, recipe, seed=0, backup=tmp_path).get_weights()
    np.testing.assert_array_equal(again[0], mean[0])


def test_every_epoch_has_all_rows_in_another_order():
    rows = np.arange(300, dtype=np.float32)
    batches = shuffled(rows, -rows)
    epochs = []
    for _ in range(2):
        found = [(x.numpy(), y.numpy()) for x, y in batches]
        assert [len(x) for x, _ in found] == [BATCH, BATCH, 300 - 2 * BATCH]
        assert all((x == -y).all() for x, y in found)
        epochs.append(np.concatenate([x for x, _ in found]))
        assert (np.sort(epochs[-1]) == rows).all() and (epochs[-1] != rows).any()
    assert (epochs[0] != epochs[1]).any()


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
