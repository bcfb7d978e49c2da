"""Figures of matplotlib as parts of a page: one palette, one style, SVG that goes into HTML.

A point of matplotlib is a pixel of the page. Colours are names of the palette, which the page may
change after the fact: an SVG says var(--kept), and the style says what that is in light and dark.
"""

import functools
import io
import re

# name -> (light, dark). Blue and vermillion are Okabe and Ito's, told apart by every kind of colour
# vision; shapes say it again. The dark ones are lighter kin.
PALETTE = {
    "ink": ("#17202b", "#e9eef4"),
    "quiet": ("#566373", "#9fadbd"),
    "line": ("#dbe1e8", "#324050"),
    "paper": ("#fefefe", "#18212c"),
    "ground": ("#f3f5f8", "#0f161f"),
    "before": ("#c3ccd6", "#4a5a6c"),
    "kept": ("#0068a8", "#5db6ee"),
    "undone": ("#c24a00", "#ff9b5e"),
    "good": ("#00735a", "#3fc9a0"),
}
INK, QUIET, LINE, PAPER, _, BEFORE, KEPT, UNDONE, _ = (light for light, _ in PALETTE.values())
NARROW = 560  # pixels below which panels stand one upon the other
TEXT = 12.5
STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "xtick.labelsize": TEXT - 0.5,
    "ytick.labelsize": TEXT - 0.5,
    "axes.labelsize": TEXT - 0.5,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
    "axes.axisbelow": True,
    "text.parse_math": False,
}


def require_matplotlib() -> None:
    """Raises RuntimeError, which says what to install, where there is no matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            'The page of a run draws with matplotlib: pip install "scalpel_tf[report]".'
        ) from error


def styled(chart):
    """`chart`, a function, run under STYLE whatever matplotlib's settings are."""

    @functools.wraps(chart)
    def run(*args):
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return chart(*args)

    return run


def panels(width: int, height: int, **subplots):
    """(figure, axes) of that many pixels; `subplots` as matplotlib's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    figure.get_layout_engine().set(w_pad=4 / 72, h_pad=5 / 72)
    return figure, figure.subplots(**subplots)


def title(axes, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=TEXT, color=QUIET, pad=8)


def svg(figure, name: str) -> str:
    """The figure as an <svg> to put into a page; no other figure's ids begin with `name`."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' (?:xmlns(?::xlink)?|version)="[^"]*"', "", text, count=3)
    text = re.sub(r'^<svg width="[^"]*" height="[^"]*"', '<svg aria-hidden="true"', text)
    text = re.sub(r'\bid="', f'id="{name}-', text.replace("xlink:href", "href"))
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", text)
    for color, (light, _) in PALETTE.items():
        text = text.replace(light, f"var(--{color})")
    return re.sub(r"\n\s*", "\n", text)
