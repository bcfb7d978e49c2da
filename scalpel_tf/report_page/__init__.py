"""The report of a run: an HTML page that works offline, in light and dark, on paper and phones."""

from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from scalpel_tf.report_page import sections, text
from scalpel_tf.report_page import state as states
from scalpel_tf.report_page.drawing import PALETTE, require_matplotlib

__all__ = ["write"]


def write(folder: Path | str) -> Path:
    """Writes folder/report.html, of the run in `folder`, whole or not at all; returns its path.

    A run that is still going has a page too. Two pages of one state are the same bytes.
    Raises ValueError where the folder has no state.json, or a broken one; RuntimeError, which says
    what to install, without matplotlib.
    """
    require_matplotlib()
    folder = Path(folder)
    page = render(states.read(folder), folder)
    path = folder / "report.html"
    temporary = folder / ".report.html.tmp"
    temporary.write_text(page, "utf-8")
    temporary.replace(path)
    return path


def render(state: dict, folder: Path) -> str:
    """The page of a checked state, whose models are in `folder`."""
    before, figure, after = text.headline(state)
    files = resources.files(__name__)
    return Template(files.joinpath("page.html").read_text("utf-8")).substitute(
        title=escape(f"{before}{figure}{after}"),
        style=f"{_palette()}\n{files.joinpath('page.css').read_text('utf-8')}",
        eyebrow=_eyebrow(state),
        headline=f"{escape(before)}<strong>{escape(figure)}</strong>{escape(after)}",
        lead=escape(_lead(state)),
        tiles=sections.tiles(state),
        sections="\n".join(
            [
                sections.story(state),
                sections.layers(state),
                sections.masks(state, folder),
                sections.roof(state),
                sections.decisions(state),
                sections.outcome(state, folder),
                sections.reproduce(state, folder),
            ]
        ),
    )


def _eyebrow(state):
    when = text.date(state["finished"] or state["started"])
    if state["status"] == "running":
        return (
            "<span class=running>Still going.</span> The figures are those of "
            f"the best network so far. Started {escape(when)}."
        )
    return f"Scalpel run, finished {escape(when)}"


def _lead(state):
    before, now = (
        text.metric(state, part["metric"]) for part in (state["baseline"], states.best(state))
    )
    name = state["config"]["metric"].capitalize()
    int8 = f", {text.metric(state, state['int8']['metric'])} in int8" if state["int8"] else ""
    kept = sum(step["kept"] for step in state["steps"])
    time = "" if state["unit"] == "MACs" else f" The time is {state['source']}."
    return f"{name} {before} before, {now} after {kept} cuts{int8}.{time}"


def _palette():
    light = "".join(f"--{name}: {color};" for name, (color, _) in PALETTE.items())
    dark = "".join(f"--{name}: {color};" for name, (_, color) in PALETTE.items())
    return (
        f":root {{ color-scheme: light; {light} }}\n@media screen and (prefers-color-scheme: dark) "
        f"{{ :root {{ color-scheme: dark; {dark} }} }}"
    )
