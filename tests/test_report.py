"""Results on disk and on the terminal."""

import json

import pytest

from scalpel_tf.report import save_json, table


def test_save_json_makes_the_folder_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "new" / "result.json"
    save_json(path, {"a": [1, None]})
    assert json.loads(path.read_text()) == {"a": [1, None]}
    assert list(path.parent.iterdir()) == [path]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    save_json(path, 1)
    with pytest.raises(TypeError):
        save_json(path, {"a": object()})
    assert path.read_text() == "1\n"


def test_table_aligns_its_columns():
    assert table([["name", "n"], ["a", "1,000"]]) == "name      n\na     1,000"
