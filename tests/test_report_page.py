"""The page of a run: whole, self-contained and escaped, for both kinds of target."""

import base64
import json
import re
import sys
from copy import deepcopy
from html.parser import HTMLParser

import keras
import numpy as np
import pytest
import run_folder
import tensorflow as tf

from scalpel_tf import cli, report_page
from scalpel_tf.core.pictures import downsample
from scalpel_tf.core.targets import Peak
from scalpel_tf.report_page import masks, roofline, sections, text
from scalpel_tf.report_page import state as states
from scalpel_tf.train.surgery import shrink

VOID = {"meta", "img", "br", "path", "use", "rect"}
EVIL = '<i>"fc1" & $1</i></style>'


class Page(HTMLParser):
    """What is wrong with a page, and what a reader sees of it."""

    def __init__(self, page):
        super().__init__()
        self.open, self.wrong, self.ids, self.links, self.seen = [], [], set(), [], ""
        self.feed(page)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self.open]
        self.wrong += [link for link in self.links if not re.match("#|data:image/png;", link)]
        self.wrong += [link for link in self.links if link[0] == "#" and link[1:] not in self.ids]
        self.wrong += re.findall(r"https?:|@import|url\([^#]|<script|<link|<iframe", page)

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.handle_startendtag(tag, attributes)

    def handle_startendtag(self, tag, attributes):
        values = dict(attributes)
        if values.get("id") in self.ids:
            self.wrong.append(f"id {values['id']} is there twice")
        self.ids |= {values["id"]} if "id" in values else set()
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag == "img" and not values.get("alt"):
            self.wrong.append("a picture without words")

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.wrong.append(f"</{tag}> closes another one")

    def handle_data(self, data):
        self.seen += "" if self.open[-1:] == ["style"] else data


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """(folder, state, page) of a run that is done, on a microcontroller."""
    folder = tmp_path_factory.mktemp("board") / "run"
    state = run_folder.make(folder)
    return folder, state, report_page.write(folder).read_text("utf-8")


@pytest.fixture(scope="module")
def cpu(tmp_path_factory):
    """(folder, state, page) of a run that is going, on a CPU; its names are HTML."""
    folder = tmp_path_factory.mktemp("cpu") / "run"
    state = run_folder.make(folder, "x86-64-avx2", "running")
    for part in [state["baseline"], *state["steps"]]:
        part["layers"][2]["path"] = EVIL
    state["model"] = state["command"] = state["machine"] = EVIL
    state["steps"][3]["layer"] = state["steps"][3]["reason"] = EVIL
    state["decisions"], state["frozen"] = [EVIL], {EVIL: EVIL}
    (folder / "state.json").write_text(json.dumps(state))
    return folder, state, report_page.write(folder).read_text("utf-8")


@pytest.mark.parametrize(
    "page, wrong",
    [
        ("<p>5 &lt; 6</p><br><svg><path id='a'/><use href='#a'/></svg>", 0),
        ("<p><b>5</p></b>", 2),
        ("<div>", 1),
        ("<p id=a></p><p id=a></p>", 1),
        ("<a href='#b'>b</a>", 1),
        ("<img src='https://example.com/a.png' alt=a>", 2),
        ("<img src='data:image/png;base64,aaaa'>", 1),
        ("<style>@import 'x'; p { background: url(x.png) }</style>", 2),
        ("<script></script>", 1),
    ],
)
def test_the_reader_of_pages_sees_what_is_wrong(page, wrong):
    assert len(Page(page).wrong) == wrong


def test_a_run_on_a_board(board):
    _, state, page = board
    read = Page(page)
    assert read.wrong == []
    now = state["steps"][state["best"]]
    faster = f"{state['baseline']['time'] / now['time']:.2f}× faster"
    assert f"lenet_5 runs {faster} on cortex-m4" in read.seen and "modelled" in read.seen
    assert "99.34 %" in read.seen and "99.29 %" in read.seen
    assert "Undone: it is not faster" in read.seen and "peak: 2 MACs a cycle" in read.seen
    assert page.count("<svg") == 6 and page.count("<img") == 4  # three charts for two widths


def test_a_run_that_is_going_on_a_cpu(cpu):
    _, _, page = cpu
    read = Page(page)
    assert read.wrong == []
    assert "Still going." in read.seen and "so far" in read.seen and "measured" in read.seen
    assert "No roofline: no peak of x86-64-avx2" in read.seen and "removed with a node" in read.seen
    assert "<i>" not in page and page.count("</style>") == 1
    assert read.seen.count(EVIL) >= 8


def test_two_pages_of_a_run_are_the_same_bytes(cpu):
    folder, _, page = cpu
    assert report_page.write(folder).read_text("utf-8") == page
    assert not list(folder.glob(".*"))


def test_what_went_with_nodes_is_tinted(cpu):
    folder, state, _ = cpu
    first = masks.masks(state, folder)[0]
    assert (first.name, first.shape, first.left) == ("conv1", (20, 25), (12, 25))
    assert first.density == pytest.approx(0.6)
    data = base64.b64decode(first.png.partition(",")[2])
    pixels = tf.io.decode_png(data, channels=4).numpy()
    rows, columns = (np.array(pixels.shape[:2]) // (20, 25)).tolist()
    assert np.all(pixels[: 12 * rows, :, 3] == 255) and np.all(pixels[12 * rows :, :, 3] == 40)
    assert columns * 25 == pixels.shape[1]


def test_nodes_that_went_are_tinted_where_they_were(tmp_path):
    conv, flat = keras.layers.Conv2D, keras.layers.Flatten()
    layers = [conv(5, 2, name="a"), conv(4, 2, name="b"), flat, keras.layers.Dense(3, name="c")]
    dense = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    small = shrink(dense, keep={"a": [1, 4], "b": [0, 2, 3]})
    dense.save(tmp_path / "dense.keras")
    small.save(tmp_path / "best.keras")
    step = {"kept": True, "nodes_left": {"a": "1 4", "b": "0 2-3"}}
    state = {"status": "done", "best": 0, "steps": [step]}
    a, b, c = masks.masks(state, tmp_path)
    assert [m.in_place for m in (a, b, c)] == [True] * 3
    assert [m.nodes for m in (a, b, c)] == ["1 4", "0 2-3", ""]
    np.testing.assert_array_equal(inked(a), np.isin(range(5), [1, 4])[:, None] * np.ones((1, 4)))
    columns = np.isin(np.arange(20) % 5, [1, 4])
    np.testing.assert_array_equal(inked(b), np.outer(np.isin(range(4), [0, 2, 3]), columns))
    np.testing.assert_array_equal(inked(c)[0], np.isin(np.arange(16) % 4, [0, 2, 3]))
    step["nodes_left"] = {"a": "1 4"}  # and an older version cut b
    a, b, c = masks.masks(state, tmp_path)
    assert [m.in_place for m in (a, b, c)] == [True, False, False] and b.nodes == ""
    np.testing.assert_array_equal(inked(b)[0], np.arange(20) < 8)


def inked(mask):
    """True where a weight is left, False where it went with a node."""
    pixels = tf.io.decode_png(base64.b64decode(mask.png.partition(",")[2]), channels=4).numpy()
    down, across = np.array(pixels.shape[:2]) // mask.shape
    points = pixels[down // 2 :: down, across // 2 :: across]
    assert set(np.unique(points[..., 3])) <= {40, 255}
    return points[..., 3] == 255


def test_a_missing_model_leaves_a_sentence(board, tmp_path):
    folder, state, _ = board
    with pytest.raises(ValueError, match="dense.keras is not in the folder"):
        masks.masks(state, tmp_path)
    (tmp_path / "dense.keras").write_text("nothing")
    with pytest.raises(ValueError, match="dense.keras cannot be loaded"):
        masks.masks(state, tmp_path)


def without(key):
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (without("steps"), "it has no steps"),
        (lambda s: s["config"].pop("target"), "`config` has no target"),
        (lambda s: s.update(steps={}), "`steps` is a dict, not a list"),
        (lambda s: s.update(baseline=None), "`baseline` is a NoneType"),
        (lambda s: s["steps"][2].pop("kept"), "step 2 has no kept"),
        (lambda s: s["steps"][1]["layers"][0].pop("macs"), "a layer of step 1 has no macs"),
        (lambda s: s.update(best=99), "`best` is 99, but there are 13 steps"),
        (lambda s: s.update(version=2), "of version 2"),
        (lambda s: s.update(source="guessed"), "got 'guessed'"),
        (lambda s: s.update(peak={"macs": 1, "source": ""}), "`peak` has no bytes"),
    ],
)
def test_a_broken_state_is_one_sentence(board, tmp_path, spoil, message):
    state = deepcopy(board[1])
    spoil(state)
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=message) as error:
        report_page.write(tmp_path)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", [None, "{", "[]", b"\xff"])
def test_the_command_without_a_state_fails_in_one_line(tmp_path, capsys, content):
    if content is not None:
        state = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "state.json").write_bytes(state)
    assert cli._main(cli.parse(["scalpel-tf", "report", str(tmp_path)])) == 1
    error = capsys.readouterr().err
    assert error.startswith("scalpel-tf report: ") and error.count("\n") == 1


def test_without_matplotlib_it_says_what_to_install(board, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RuntimeError, match="pip install"):
        report_page.write(board[0])


def test_budgets(board):
    state = deepcopy(board[1])
    state["config"] |= {"flash": 10**6, "ram": 100, "latency": None}
    met = {what: met for what, *_, met in text.budgets(state)}
    assert met == {"accuracy": True, "flash": True, "RAM": False, "latency": None}
    state["config"]["max_accuracy_drop"] = 0.0
    assert text.budgets(state)[0] == ("accuracy", "at least 99.34 %", "99.29 %", False)
    state["config"] |= {"metric": "loss", "mode": "min"}
    assert text.budgets(state)[0] == ("loss", "at most 0.9934", "0.9929", True)


def test_a_run_that_kept_nothing(board):
    state = {**board[1], "best": None}
    assert states.best(state) is state["baseline"]
    assert "".join(text.headline(state)) == "lenet_5 could not be pruned without loss on cortex-m4"


@pytest.mark.parametrize(
    "unit, time, expected",
    [
        ("cycles", 50, "lenet_5 runs 2.00× faster on cortex-m4, at 25 % of its size"),
        ("s", 200, "lenet_5 runs 2.00× slower on cortex-m4, at 25 % of its size"),
        ("MACs", 50, "lenet_5 needs 2.00× fewer MACs on cortex-m4, at 25 % of its size"),
        ("instructions", 200, "lenet_5 needs 2.00× more instructions on cortex-m4, at 25 % of "
         "its size"),
    ],
)  # fmt: skip
def test_headlines(board, unit, time, expected):
    state = {**deepcopy(board[1]), "unit": unit}
    state["baseline"] |= {"time": 100, "size": 400}
    state["steps"][state["best"]] |= {"time": time, "size": 100}
    assert "".join(text.headline(state)) == expected


@pytest.mark.parametrize(
    "shown, expected",
    [
        (text.percent(0.05), "5 %"),
        (text.percent(0.9934), "99.3 %"),
        (text.percent(None), "–"),
        (text.time(885652, "cycles"), "886 k cycles"),
        (text.time(1.5e-6, "s"), "1.50 µs"),
        (text.time(0.0123, "s"), "12.3 ms"),
        (text.size(700), "700 bytes"),
        (text.size(33000), "32.2 KiB"),
        (text.size(5 * 1024**2), "5 MiB"),
        (text.change(("2.10 M cycles", "9 k cycles")), "2.10 M → 9 k cycles"),
        (text.change(("500 bytes", "1 KiB")), "500 bytes → 1 KiB"),
        (text.duration(59), "59 s"),
        (text.duration(812.3), "13 min 32 s"),
        (text.duration(7322), "2 h 2 min"),
        (text.nodes("0-2 7", 9), "4 of 9 nodes are left: 0–2, 7"),
        (text.nodes(" ".join(map(str, range(0, 80, 2))), 80), "40 of 80 nodes are left"),
        (text.date("2026-11-22T13:05:12+00:00"), "22 November 2026, 13:05"),
    ],
)
def test_figures_as_text(shown, expected):
    assert shown == expected


def test_the_roof(board):
    state = deepcopy(board[1])
    assert Peak(2, 4, "").time(macs=100, weights=10) == 50
    assert Peak(2, 4, "").time(macs=10, weights=100) == 25
    layer = {"path": "a", "macs": 1000, "density": 1.0, "bytes": 100, "time": 2000}
    state["baseline"]["layers"] = [layer]
    state["steps"][state["best"]]["layers"] = [{**layer, "density": 0.1, "time": 50.0}]
    assert roofline.points(state) == [("a", (10.0, 0.5), (1.0, 2.0))]
    assert roofline.share(state) == (0.25, 1.0)


def measured(cpu):
    """A run on a CPU that measured its peak."""
    state = deepcopy(cpu[1])
    state["peak"] = {"macs": 50e9, "bytes": 80e9, "source": "measured <here>"}
    for layer in state["baseline"]["layers"][:2]:
        layer["products"] = 0.4
    return state


def test_the_roof_of_a_cpu_is_in_seconds(cpu):
    state = measured(cpu)
    read = Page(f"<main>{sections.roof(state)}</main>")
    assert read.wrong == [] and read.seen.count("peak: 50 GMACs a second") == 2
    assert "does 50 GMACs and loads 80 GB a second." in read.seen
    assert read.seen.count("GMACs a second, with weights that are not zero") == 2
    assert "The limit: measured <here>. By tiles (Winograd) conv1, conv2 took" in read.seen
    assert "cycle" not in read.seen.lower() and "0 MACs a" not in read.seen
    state["steps"][state["best"]]["loads"] = 160e9  # what is left fits a nearer cache
    nearer = "80 GB a second from where the dense weights lie, 160 from"
    assert roofline.is_nearer(state) and nearer in roofline.words(state)[0]


def test_the_roof_counts_multiplications_that_are_done(cpu):
    state = measured(cpu)
    layer = {"path": "a", "macs": 1e6, "density": 1.0, "bytes": 4e4, "time": 2e-5, "products": 0.4}
    now = {**layer, "bytes": 4e6, "time": 1e-4, "products": 1.0}
    state["baseline"]["layers"] = [layer]
    state["steps"][state["best"]] |= {"layers": [now], "loads": 160e9}
    assert roofline.points(state) == [("a", (10.0, 2e10), (0.25, 1e10))]
    assert roofline.share(state) == (pytest.approx(0.4), pytest.approx(0.25))


def test_downsample():
    matrix = [[1, 0, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 0, 1, 1]]
    np.testing.assert_array_equal(downsample(matrix, 9, 9), matrix)
    np.testing.assert_allclose(downsample(matrix, 1, 2), [[3 / 6, 4 / 9]])
    np.testing.assert_allclose(downsample(matrix, 3, 1), [[2 / 5], [3 / 5], [2 / 5]])
