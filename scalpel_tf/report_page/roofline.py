"""The roofline: what each layer gets out of the processor, beside what it cannot exceed.

A layer's intensity is the multiply-accumulates with weights that are not zero, per byte of weights
as stored; a convolution by tiles counts those that it does (`products`). The roof of a
microcontroller is the target's `Peak`, in cycles, the one that `analyze` uses; that of a CPU was
measured by the run, in seconds.
"""

import math
from dataclasses import replace

from scalpel_tf.core.targets import TARGETS, Peak
from scalpel_tf.report_page import state as states
from scalpel_tf.report_page import text
from scalpel_tf.report_page.drawing import (
    BEFORE,
    INK,
    KEPT,
    LINE,
    NARROW,
    PAPER,
    QUIET,
    TEXT,
    panels,
    styled,
    svg,
    title,
)

LABELS = 12
APART = 1.1  # slopes of two roofs that differ by less are drawn as one
# The run's unit -> (a unit of the chart, how many of the others it is, words for both axes).
UNITS = {"cycles": ("cycle", 1, "MACs", "bytes"), "s": ("second", 1e9, "GMACs", "GB")}


def peak(state: dict) -> Peak | None:
    """The Peak of the run's processor; None where it is not known in the unit of the run."""
    known = None
    if state["unit"] == "cycles":
        target = TARGETS.get(state["config"]["target"])
        known = target and target.peak
    elif state["unit"] == "s" and state.get("peak"):
        known = Peak(*(state["peak"][key] for key in ("macs", "bytes", "source")))
    return known if points(state) else None


def peaks(state: dict) -> tuple[Peak, Peak]:
    """The same of the dense network and of what is left, whose weights may lie nearer."""
    known = peak(state)
    return known, replace(known, bytes=states.best(state).get("loads", known.bytes))


def is_nearer(state: dict) -> bool:
    """Whether what is left lies in a nearer memory than the dense weights did."""
    dense, now = peaks(state)
    return now.bytes > dense.bytes * APART


def points(state: dict) -> list[tuple[str, tuple | None, tuple | None]]:
    """(layer, dense, now): (MACs per byte, MACs per cycle); the slowest layers first."""
    pairs = [(before, now) for before, now in states.pairs(state) if _point(before)]
    pairs.sort(key=lambda pair: -pair[0]["time"])
    return [(before["path"], _point(before), _point(now)) for before, now in pairs]


def share(state: dict) -> tuple[float, float]:
    """The fraction of the time that the roof leaves no way around: dense, and now."""

    def fraction(layers, roof):
        layers = [layer for layer in layers if layer and _point(layer)]
        least = sum(roof.time(_work(layer), layer["bytes"]) for layer in layers)
        return least / sum(layer["time"] for layer in layers) if layers else 0.0

    return tuple(map(fraction, zip(*states.pairs(state), strict=True), peaks(state)))


def words(state: dict) -> tuple[str, str]:
    """(what the chart comes to, where its figures are from); the target must have a peak."""
    unit, factor, macs, size = UNITS[state["unit"]]
    (known, now), target = peaks(state), state["config"]["target"]
    dense, pruned = map(text.percent, share(state))
    loads = f"{known.bytes / factor:.3g} {size} a {unit}"
    if is_nearer(state):
        loads += (
            f" from where the dense weights lie, {now.bytes / factor:.3g} from where the pruned "
            "ones do"
        )
    who = target if state["unit"] == "cycles" else f"one thread of this {target}"
    lead = (
        f"At most, {who} does {known.macs / factor:.3g} {macs} and loads {loads}. Kernels at "
        f"that limit would need {dense} of the dense layers' time, and {pruned} of that of the "
        "pruned ones, whose zeros no kernel touches."
    )
    if state["unit"] == "cycles":
        return lead, f"Cycles are {state['source']}. The limit: {known.source}."
    note = (
        f"Times are {state['source']}, of calls that follow one another, so that the weights are "
        f"in the nearest cache that holds them. The limit: {known.source}."
    )
    tiled = [
        before["path"]
        for before, now in states.pairs(state)
        if any(layer and layer.get("products", 1) < 1 for layer in (before, now))
    ]
    if tiled:
        note += (
            f" By tiles (Winograd) {', '.join(tiled)} took fewer multiplications than there are "
            "MACs; the points count those that were done."
        )
    return lead, note


@styled
def roofline(state: dict, width: int) -> str:
    """The chart; the target must have a peak."""
    unit, factor, macs, _ = UNITS[state["unit"]]
    roofs = [replace(p, macs=p.macs / factor, bytes=p.bytes / factor) for p in peaks(state)]
    found = [(name, *(p and (p[0], p[1] / factor) for p in both)) for name, *both in points(state)]
    figure, axes = panels(width, 420 if width >= NARROW else 380)
    roof, now = roofs
    nearer = is_nearer(state)
    xs = [p[0] for _, *both in found for p in both if p] + [p.macs / p.bytes for p in roofs]
    ys = [p[1] for _, *both in found for p in both if p]
    left, right = min(xs) / (2.5 if width >= NARROW else 5), max(xs) * 2.5
    axes.set(xscale="log", yscale="log", xlim=(left, right))
    axes.set_ylim(min(ys) / 2, max(roof.macs, *ys) * 1.7)
    if nearer:
        axes.plot(*_line(now, left, roof.macs / roof.bytes), color=KEPT, lw=1.4, ls=(0, (4, 3)))
    axes.plot(*_line(roof, left, right), color=INK, lw=1.6)
    axes.annotate(
        f"peak: {roof.macs:.3g} {macs} a {unit}", (right, roof.macs), (-2, 5), color=INK,
        ha="right", textcoords="offset points",
    )  # fmt: skip
    axes.fill_between(
        *_line(now if nearer else roof, left, right), roof.macs * 9, color=LINE, alpha=0.45, lw=0,
    )  # fmt: skip
    for _, before, after in found:
        if after:
            arrow = {"arrowstyle": "-", "color": BEFORE, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", after, before, arrowprops=arrow, zorder=1)
        axes.plot(*before, "o", ms=8, mfc=PAPER, mec=QUIET, mew=1.4)
    for _, _, after in found:
        if after:
            axes.plot(*after, "o", ms=8.5, color=KEPT, mec=PAPER, mew=1.2)
    _labels(
        axes,
        [(name, after or before) for name, before, after in found[:LABELS]],
        roof.macs / roof.bytes,
    )
    axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.tick_params(which="minor", length=0)
    axes.grid(color=LINE, lw=0.7)
    title(axes, f"{macs} a {unit}, with weights that are not zero")
    axes.set_xlabel("MACs per byte of weights as stored", fontsize=TEXT - 0.5)
    return svg(figure, f"roofline-{width}")


def _line(roof, left, right):
    corner = roof.macs / roof.bytes
    return [left, corner, right], [left * roof.bytes, roof.macs, roof.macs]


def _labels(axes, named, corner):
    """Names left of their points, right of those below the slope, which is in the way; of two that
    would meet the lower one gives way downwards."""
    pixels = axes.figure.get_size_inches() * 72
    across, down = (
        math.log(high / low) * size / whole
        for (low, high), size, whole in zip(
            (axes.get_xlim(), axes.get_ylim()), (70, 17), pixels, strict=True
        )
    )
    placed = []
    for name, (x, y) in sorted(named, key=lambda pair: -pair[1][1]):
        side = 1 if x < corner else -1
        middle = math.log(x) + side * across / 2
        near = [there for beside, there in placed if abs(middle - beside) < across]
        place = min([math.log(y), *(there - down for there in near)])
        placed.append((middle, place))
        axes.annotate(
            name if len(name) <= 24 else "…" + name[-23:], (x, math.exp(place)), (9 * side, 0),
            textcoords="offset points", ha="left" if side > 0 else "right", va="center", color=INK,
        )  # fmt: skip


def _work(layer):
    return layer["macs"] * layer["density"] * layer.get("products", 1)


def _point(layer):
    if not layer or not layer["time"] or not layer["bytes"] or not _work(layer):
        return None
    return _work(layer) / layer["bytes"], _work(layer) / layer["time"]
