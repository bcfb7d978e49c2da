"""benchmarks/cpu_int8.py: every runtime computes the network that it is timed on."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import cpu_int8  # noqa: E402


def test_ours_and_the_rivals_run_the_network(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(cpu_int8, "BUDGET", 0.05)
    images = np.random.default_rng(0).random((60, 28, 28, 1), np.float32)
    data = SimpleNamespace(x_train=images[:50], x_valid=images[50:])
    folder = cpu_int8.cases.FOLDER
    dense, groups, fewer = cpu_int8.compare("lenet_300_100", folder, data, tmp_path)
    assert set(dense["rivals"]) == {"LiteRT", "ONNX Runtime"}
    assert dense["density"] > 0.9 > 0.08 > groups["density"] > fewer["density"] > 0.04
    assert dense["size_ratio"] > 1 > groups["size_ratio"] > fewer["size_ratio"] > 0.06
    assert fewer["ours"] < dense["ours"] and "over LiteRT" in cpu_int8.line(fewer)


def test_a_rival_that_is_wrong_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_int8, "STEPS", -1.0)
    images = np.random.default_rng(0).random((60, 28, 28, 1), np.float32)
    data = SimpleNamespace(x_train=images[:50], x_valid=images[50:])
    with pytest.raises(RuntimeError, match="LiteRT is wrong by"):
        cpu_int8.compare("lenet_300_100", cpu_int8.cases.FOLDER, data, tmp_path)
