"""The roofline: what each layer gets out of the processor, beside what it cannot exceed.

A layer's intensity is the multiply-accumulates with weights that are not zero, per byte of weights
as stored. The roof is the target's `Peak`, the one that `analyze` uses.
"""

import math

from scalpel_tf.core.targets import TARGETS
from scalpel_tf.report_page import state as states
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


def peak(state: dict):
    """The Peak of the run's target, or None where it is not known in the unit of the run."""
    target = TARGETS.get(state["config"]["target"])
    return target.peak if target and state["unit"] == "cycles" and points(state) else None


def points(state: dict) -> list[tuple[str, tuple | None, tuple | None]]:
    """(layer, dense, now): (MACs per byte, MACs per cycle); the slowest layers first."""
    pairs = [(before, now) for before, now in states.pairs(state) if _point(before)]
    pairs.sort(key=lambda pair: -pair[0]["time"])
    return [(before["path"], _point(before), _point(now)) for before, now in pairs]


def share(state: dict) -> tuple[float, float]:
    """The fraction of the time that the roof leaves no way around: dense, and now."""

    def fraction(layers):
        layers = [layer for layer in layers if layer and _point(layer)]
        least = sum(peak(state).cycles(_work(layer), layer["bytes"]) for layer in layers)
        return least / sum(layer["time"] for layer in layers) if layers else 0.0

    return tuple(map(fraction, zip(*states.pairs(state), strict=True)))


@styled
def roofline(state: dict, width: int) -> str:
    """The chart; the target must have a peak."""
    roof, found = peak(state), points(state)
    figure, axes = panels(width, 420 if width >= NARROW else 380)
    xs = [p[0] for _, *both in found for p in both if p] + [roof.macs / roof.bytes]
    ys = [p[1] for _, *both in found for p in both if p]
    left, right = min(xs) / (2.5 if width >= NARROW else 5), max(xs) * 2.5
    axes.set(xscale="log", yscale="log", xlim=(left, right))
    axes.set_ylim(min(ys) / 2, roof.macs * 1.7)
    corner = roof.macs / roof.bytes
    axes.plot([left, corner, right], [left * roof.bytes, roof.macs, roof.macs], color=INK, lw=1.6)
    axes.annotate(
        f"peak: {roof.macs:g} MACs a cycle", (right, roof.macs), (-2, 5), color=INK, ha="right",
        textcoords="offset points",
    )  # fmt: skip
    axes.fill_between(
        [left, corner, right], [left * roof.bytes, roof.macs, roof.macs], roof.macs * 9,
        color=LINE, alpha=0.45, lw=0,
    )  # fmt: skip
    for _, before, now in found:
        if now:
            arrow = {"arrowstyle": "-", "color": BEFORE, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", now, before, arrowprops=arrow)
        axes.plot(*before, "o", ms=8, mfc=PAPER, mec=QUIET, mew=1.4)
    for _, _, now in found:
        if now:
            axes.plot(*now, "o", ms=8.5, color=KEPT, mec=PAPER, mew=1.2)
    _labels(axes, [(name, now or before) for name, before, now in found[:LABELS]])
    axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.tick_params(which="minor", length=0)
    axes.grid(color=LINE, lw=0.7)
    title(axes, "MACs a cycle, with weights that are not zero")
    axes.set_xlabel("MACs per byte of weights as stored", fontsize=TEXT - 0.5)
    return svg(figure, f"roofline-{width}")


def _labels(axes, named):
    """Names left of their points; of two that would meet the lower one gives way downwards."""
    pixels = axes.figure.get_size_inches() * 72
    across, down = (
        math.log(high / low) * size / whole
        for (low, high), size, whole in zip(
            (axes.get_xlim(), axes.get_ylim()), (70, 17), pixels, strict=True
        )
    )
    placed = []
    for name, (x, y) in sorted(named, key=lambda pair: -pair[1][1]):
        near = [there for beside, there in placed if abs(math.log(x / beside)) < across]
        place = min([math.log(y), *(there - down for there in near)])
        placed.append((x, place))
        axes.annotate(
            name if len(name) <= 24 else "…" + name[-23:], (x, math.exp(place)), (-9, 0),
            textcoords="offset points", ha="right", va="center", color=INK,
        )  # fmt: skip


def _work(layer):
    return layer["macs"] * layer["density"]


def _point(layer):
    if not layer or not layer["time"] or not layer["bytes"] or not _work(layer):
        return None
    return _work(layer) / layer["bytes"], _work(layer) / layer["time"]
