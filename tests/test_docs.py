"""Every block of code in the documentation runs, is compiled or is parsed, and its links lead on.

The pages of how_to/ and driver.md go on from start/microcontroller.md, whose names and files they
share, as they say; every other page starts from nothing. All of them train on 256 made-up images
instead of MNIST. The runs of driver.md are checked as they stand, and the first goes to the target
"gpu", where there is nothing to compile; marked slow, they go to their own.
"""

import dataclasses
import re
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

import scalpel_tf as sc
from scalpel_tf import cli, scalpel
from scalpel_tf.driver.options import Options
from scalpel_tf.zoo import datasets

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
QUICK_START = "start/microcontroller.md"
GO_ON = [name for name in PAGES if name.startswith("how_to/") or name == "driver.md"]
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.M | re.S)
LINK = re.compile(r"(?<!`)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")


class Block(NamedTuple):
    language: str
    line: int
    code: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, with the number of their first line."""
    return [
        Block(m[2], text.count("\n", 0, m.start(3)) + 1, textwrap.dedent(m[3]))
        for m in FENCE.finditer(text)
    ]


def pages_with(*languages):
    found = {name: blocks(path.read_text()) for name, path in PAGES.items()}
    return [name for name in found if any(b.language in languages for b in found[name])]


def small_digits():
    """Ten noisy patterns that a network learns in a few steps."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(size=(10, 28, 28, 1))

    def sample(count):
        labels = rng.permutation(np.arange(count) % 10)
        images = 0.9 * patterns[labels] + 0.1 * rng.uniform(size=(count, 28, 28, 1))
        return images.astype(np.float32), labels

    return datasets.Dataset(*sample(256), *sample(32), *sample(32), source="made up")


def run(name: str, names: dict) -> None:
    """Executes the Python of a page in the namespace, then builds its C for what was exported."""
    found = blocks(PAGES[name].read_text())
    for block in found:
        if block.language == "python":
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(PAGES[name]), "exec"), names)
    for block in found:
        if block.language == "c":
            build(block.code, Path(name).with_suffix(f".{block.line}").name)


def build(code: str, name: str) -> None:
    """Compiles C for the current folder's native/, or else firmware/; a program is run."""
    compiler = shutil.which("cc") or pytest.skip("There is no C compiler `cc`.")
    exported = Path("native" if Path("native").is_dir() else "firmware").resolve()
    source, program = Path(f"{name}.c"), Path(f"{name}.out").resolve()
    source.write_text(code)
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{exported}", source]
    if "int main(" not in code:
        subprocess.run([*command, "-fsyntax-only"], check=True, timeout=60)
        return
    linked = ["-o", program, f"-L{exported}", "-lmodel", f"-Wl,-rpath,{exported}"]
    subprocess.run([*command, *linked], check=True, timeout=60)
    subprocess.run([program], check=True, timeout=60)


def test_c_of_a_page_that_does_not_compile_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        build("int f(void) { return undefined; }", "broken")


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    """(folder, names): where and what the quick start for a microcontroller left."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        few(patch, folder)
        names = {}
        run(QUICK_START, names)
    return folder, names


def few(patch, folder):
    """Few images, no progress bars, in that folder, which becomes the current one.

    A dozen steps are faster eagerly than traced.
    """
    fit, digits = keras.Model.fit, small_digits()
    patch.setattr(keras.Model, "fit", lambda *args, verbose=0, **o: fit(*args, verbose=0, **o))
    patch.setattr(keras.Model, "run_eagerly", property(lambda self: True, lambda self, _: None))
    patch.setattr(datasets, "mnist", lambda: digits)
    patch.chdir(folder)


def on_the_gpu(results):
    """`scalpel` that checks its arguments; the first call runs, on a target without a compiler."""

    def call(model, data, **arguments):
        known = {field.name for field in dataclasses.fields(Options)}
        Options(**{name: value for name, value in arguments.items() if name in known})
        nowhere = {"target": "gpu", "flash": None, "ram": None, "latency": None}
        if not results:
            results.append(short_run(model, data, **arguments | nowhere))
        return results[0]

    return call


def short_run(model, data, **arguments):
    """A step or two of one layer."""
    short = {"layers": "fc1", "epochs": 1, "step": 0.5, "min_density": 0.4}
    return scalpel(model, data, **arguments | short)


@pytest.mark.parametrize(
    "name", [name for name in pages_with("python", "c") if name != QUICK_START]
)
def test_the_python_of_a_page_runs(name, quick_start, tmp_path, monkeypatch):
    folder, names = quick_start
    few(monkeypatch, folder if name in GO_ON else tmp_path)
    monkeypatch.setattr(sc, "scalpel", on_the_gpu([]))
    run(name, dict(names) if name in GO_ON else {})


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_runs_of_the_driver_go_to_their_target(quick_start, tmp_path, monkeypatch):
    few(monkeypatch, tmp_path)
    monkeypatch.setattr(sc, "scalpel", short_run)
    run("driver.md", dict(quick_start[1]))
    assert (tmp_path / "run/firmware/model.h").is_file()


def test_the_quick_start_prunes_and_exports(quick_start):
    folder, names = quick_start
    assert {layer["kernel"] for layer in names["report"].layers} == {"gcsr_fc4", "fc"}
    assert names["counted"].cycles > 0
    float_logits = names["plain"].predict(names["digits"].x_test[:5], verbose=0)
    assert (names["counted"].outputs[0].argmax(1) == float_logits.argmax(1)).all()
    assert (folder / "firmware/model.h").is_file()


def commands(text: str) -> list[tuple[int, list[str]]]:
    """The calls of scalpel-tf in a page's blocks, each with its line and as words."""
    found = []
    for block in blocks(text):
        if block.language in ("sh", ""):
            lines = block.code.replace("\\\n", " ").splitlines()
            for number, line in enumerate(lines, block.line):
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] == ["scalpel-tf"]:
                    found.append((number, words))
    return found


def test_commands_are_found():
    text = "```sh\n$ scalpel-tf run \\\n 'a b'  # not this\nls\n```\n```python\nscalpel-tf x\n```\n"
    assert commands(text) == [(2, ["scalpel-tf", "run", "a b"])]


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{name}" for name in PAGES)])
def test_the_commands_of_a_page_are_understood(name, capsys):
    for line, words in commands((ROOT / name).read_text()):
        try:
            cli.parse(words)
        except SystemExit:
            pytest.fail(f"{name}:{line}: {capsys.readouterr().err}")


def slug(heading: str) -> str:
    """The anchor of a heading, as Python-Markdown's toc makes it."""
    text = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def broken_links(path: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    prose = FENCE.sub("", path.read_text())
    broken = []
    for target in LINK.findall(prose):
        file, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        there = (path.parent / file).resolve() if file else path
        if not there.is_file():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", there.read_text()), re.M)
            if anchor not in map(slug, headings):
                broken.append(target)
    return broken


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *(f"docs/{n}" for n in PAGES)])
def test_links_lead_on(name):
    assert broken_links(ROOT / name) == []


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# It's `so`, well\n[a](#its-so-well) [b](page.md#no) [c](no.md) [d](http://x)\n"
    )
    assert broken_links(page) == ["page.md#no", "no.md"]


def test_every_public_name_is_in_the_reference():
    text = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    described = set(re.findall(r"^::: scalpel_tf\.([\w.]+)$", text, re.M))
    modules = re.findall(r"^`scalpel_tf\.([\w.]+)`", text, re.M)
    last = {name.rpartition(".")[2] for name in described} | set(modules)
    rooms = {"recipes", "regularizers", "rules", "zoo"}  # by their functions
    assert set(sc.__all__) - rooms <= last
    assert all(any(f".{room}." in f".{name}" for name in described) for room in rooms)


def test_docstrings_become_lists(monkeypatch):
    pytest.importorskip("griffe")
    monkeypatch.syspath_prepend(DOCS)
    from docstrings import markdown

    text = (
        "What it is.\n\nwidth: of a group.  kind: one of\n    two. depth: 1.\nRaises it. note: x."
    )
    lists = "- **`width`**: of a group.\n- **`kind`**: one of two.\n- **`depth`**: 1."
    assert (
        markdown(text, {"width", "kind", "depth"})
        == f"What it is.\n\n{lists}\n\nRaises it. note: x."
    )
    table = "kind: what.\n    a    the first\n    b    the second"
    block = "- **`kind`**: what.\n\n    ```text\n    a    the first\n    b    the second\n    ```\n"
    assert markdown(table, {"kind"}) == block


def test_the_figures_of_the_first_page_are_those_of_the_readme_and_the_measurements():
    sources = [ROOT / "README.md", DOCS / "cpu.md"]
    text = "\n".join(path.read_text() for path in sources)
    first = (DOCS / "index.md").read_text()
    figures = re.findall(r"\d[\d,.]*(?= cycles|x faster| ±)", first)
    assert len(figures) > 8
    assert [f for f in figures if not re.search(rf"(?<![\d.,]){re.escape(f)}(?![\d])", text)] == []
