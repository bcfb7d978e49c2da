import ast
import json
import re

import numpy as np
import pytest

from scalpel_tf.deploy import project as projects

INFORMATION = {
    "arena_bytes": 16,
    "inputs": [
        {"name": "x", "shape": [1, 2], "dtype": "int8"},
        {"name": "y", "shape": [1], "dtype": "float32"},
    ],
    "outputs": [{"name": "z", "shape": [1, 3, 1], "dtype": "int16"}],
    "layers": [],
}
X, Y = np.zeros((4, 2), np.int8), np.zeros(4, np.float32)


def test_read_returns_the_description(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(INFORMATION))
    assert projects.read(tmp_path) == INFORMATION


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "holds no model.json"),
        ("{", "is not JSON"),
        ('{"inputs": [], "layers": []}', "lacks 'arena_bytes', 'outputs'"),
    ],
)
def test_read_refuses_what_is_no_project(tmp_path, text, message):
    if text is not None:
        (tmp_path / "model.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        projects.read(tmp_path)


def test_sources_are_the_model_and_the_runtime(tmp_path):
    (tmp_path / "runtime").mkdir()
    for name in ("model.c", "main.c", "runtime/b.S", "runtime/b.c", "runtime/a.c", "runtime/a.h"):
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in projects.sources(tmp_path)]
    assert found == ["model.c", "runtime/a.c", "runtime/b.c", "runtime/b.S"]


def test_sources_need_a_model(tmp_path):
    with pytest.raises(ValueError, match="holds no model.c"):
        projects.sources(tmp_path)


def test_information_survives_the_way_through_c():
    information = {"name": 'quote " backslash \\ ünicode'}
    body = re.search(r"\{(.*)\}", projects.information_source(information)).group(1)
    text = bytes(ast.literal_eval(f"[{body}]"))
    assert text[-1] == 0 and json.loads(text[:-1]) == information


def test_check_inputs_makes_them_contiguous():
    strided = np.arange(16, dtype=np.int8).reshape(4, 4)[:, ::2]
    found = projects.check_inputs(INFORMATION, [strided, Y])
    assert found[0].flags.c_contiguous
    np.testing.assert_array_equal(found[0], strided)


@pytest.mark.parametrize(
    "inputs, message",
    [
        (X, "a list of 2 arrays, one each; got one bare array"),
        ([X], "a list of 2 arrays, one each; got 1 arrays"),
        ([X.astype(np.uint8), Y], r"'x' is int8 of shape \(samples, 2\); got uint8 of shape"),
        ([X[:, :1], Y], r"'x' is int8 of shape \(samples, 2\); got int8 of shape \(4, 1\)"),
        ([X, Y[:, None]], r"'y' is float32 of shape \(samples\); got float32 of shape \(4, 1\)"),
        ([X, Y[:3]], r"one number of samples, at least 1; got \[3, 4\]"),
        ([X[:0], Y[:0]], r"one number of samples, at least 1; got \[0\]"),
    ],
)
def test_check_inputs_says_what_is_wrong(inputs, message):
    with pytest.raises(ValueError, match=message):
        projects.check_inputs(INFORMATION, inputs)


def test_empty_outputs_have_one_row_per_sample():
    (z,) = projects.empty_outputs(INFORMATION, 5)
    assert z.shape == (5, 3, 1) and z.dtype == np.int16


def test_the_sources_of_an_arduino_library_are_in_src(tmp_path):
    (tmp_path / "src" / "runtime").mkdir(parents=True)
    for name in ("src/model.c", "src/runtime/a.c"):
        (tmp_path / name).touch()
    assert projects.source_folder(tmp_path) == tmp_path / "src"
    found = [str(path.relative_to(tmp_path)) for path in projects.sources(tmp_path)]
    assert found == ["src/model.c", "src/runtime/a.c"]
