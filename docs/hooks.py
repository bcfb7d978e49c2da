"""MkDocs hooks: the page that `make paper` writes is in the navigation once it is there."""

from pathlib import Path


def on_config(config):
    if (Path(config.docs_dir) / "paper.md").is_file():
        config.nav[-1]["Measurements"].insert(0, {"The paper's tables": "paper.md"})
    return config
