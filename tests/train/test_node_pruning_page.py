"""The examples of docs/node_pruning.md run as they stand, and print what the page says."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "node_pruning.md"


def test_the_examples_run(monkeypatch, capsys):
    from scalpel_tf.train import rules

    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))
    text = PAGE.read_text()
    first, second = re.findall(r"```python\n(.*?)```", text, re.S)
    said = re.search(r"```\n(parameters .*?)\n```", text, re.S)[1]
    names = {}
    exec(compile(first, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.startswith(said + "\n")
    filters = [names["small"].get_layer(name).filters for name in ("stem", "branch")]
    assert filters == [10, 10]
    exec(compile(second, str(PAGE), "exec"), names)
    assert capsys.readouterr().out == "(4,)\n"


def test_the_table_is_filled():
    section = re.search(r"<!-- rivals -->\n(.*?)<!-- end -->", PAGE.read_text(), re.S)[1]
    assert section.count("\n") > 10
