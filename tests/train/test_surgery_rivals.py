"""benchmarks/paper/surgery_rivals.py: what it models of others, and its rows."""

import json
import sys
from pathlib import Path

import graphs
import layer_graphs
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "paper"))

import surgery_rivals  # noqa: E402

from scalpel_tf.train import graph  # noqa: E402


@pytest.mark.parametrize(
    "make, layers",
    [
        (layer_graphs.chain, ["sigmoid", "soft", "strided"]),
        (layer_graphs.flatten, ["hidden"]),  # the flattened reads more than `one` has channels
        (graphs.preactivation, ["narrow1", "narrow2"]),  # the others meet in sums
        (graphs.grouped, ["last"]),
        (graphs.inception, ["b2a", "last"]),
        (graphs.shared_layer, ["one", "two"]),
        (layer_graphs.transposed, ["stem", "up", "up2", "last"]),
    ],
)
def test_what_mct_would_prune(make, layers):
    calls = surgery_rivals.prunable_for_mct(graph.read(make()))
    assert sorted(call.path for call in calls) == sorted(layers)


OURS = {"parameters": [1000, 250], "difference": 2e-7, "whole": ["a"], "mct": 0.5}


def test_a_row_without_torch_says_so():
    rows, versions = surgery_rivals.torch_rows(None)
    row = surgery_rivals.joined("VGG16", OURS, rows["VGG16"])
    assert (row["ours"], row["rival"], row["ratio"], versions) == (0.25, "MCT", 2.0, {})
    assert surgery_rivals.cells(row)[4:6] == ["", "left out: no --torch"]


def test_a_row_beside_torch(tmp_path):
    found = {"case": "VGG16", "before": 900, "after": 180, "difference": 0.3}
    path = tmp_path / "torch.json"
    path.write_text(json.dumps({"versions": {"torch": "2"}, "rows": [found]}))
    rows, versions = surgery_rivals.torch_rows(path)
    row = surgery_rivals.joined("VGG16", OURS, rows["VGG16"])
    assert (row["rival"], row["ratio"], versions) == ("Torch-Pruning", 0.8, {"torch": "2"})
    assert surgery_rivals.cells(row)[2:] == ["25.0%", "2e-07", "20.0%", "3e-01", "50.0%"]
    assert "not in torch.json" in rows["ResNet50"]["error"]
