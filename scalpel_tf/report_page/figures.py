"""The charts of the page: each a function of the state and a width in pixels."""

from scalpel_tf.report_page import state as states
from scalpel_tf.report_page import text
from scalpel_tf.report_page.drawing import (
    BEFORE,
    INK,
    KEPT,
    LINE,
    NARROW,
    PAPER,
    TEXT,
    UNDONE,
    panels,
    styled,
    svg,
    title,
)

LAYERS = 20  # bars in a chart at most; the rest of the network is one more


@styled
def story(state: dict, width: int) -> str:
    """Accuracy, speed and the layer that was cut, by step."""
    steps = state["steps"]
    lanes = [layer["path"] for layer in state["baseline"]["layers"]]
    lanes = [path for path in lanes if any(step["layer"] == path for step in steps)]
    dot = 7 if len(steps) < 5e-2 * width else 5
    heights = [150, 150, 30 + 24 * max(1, len(lanes))]
    figure, (metric, speed, lane) = panels(
        width, sum(heights) + 70, nrows=3, sharex=True, height_ratios=heights
    )
    scale = 100 if text.is_accuracy(state) else 1
    name = state["config"]["metric"] + (", %" if scale == 100 else "")
    values = [_scaled(part["metric"], scale) for part in [state["baseline"], *steps]]
    _course(metric, steps, values, dot)
    title(metric, name)
    floor = states.floor(state)
    if floor is not None:
        metric.axhline(scale * floor, color=UNDONE, lw=1, ls=(0, (4, 3)))
        side = "top" if state["config"]["mode"] == "max" else "bottom"
        metric.annotate(
            *("the limit", (0, scale * floor)), xycoords=("axes fraction", "data"),
            xytext=(4, -3 if side == "top" else 3), textcoords="offset points",
            va=side, color=UNDONE, fontsize=TEXT - 1.5,
        )  # fmt: skip
    start = state["baseline"]["time"]
    _course(speed, steps, [1.0, *(states.gain(start, step["time"]) for step in steps)], dot)
    speed.set_ylim(bottom=0)
    for axes in (metric, speed):
        axes.spines["bottom"].set_visible(False)
    if state["best"] is not None:
        now, at = states.best(state), state["best"] + 1
        _name(metric, at, _scaled(now["metric"], scale), text.metric(state, now["metric"]))
        faster = states.gain(start, now["time"])
        _name(speed, at, faster, text.times(faster))
    fewer = f"times fewer {state['unit']} than dense"
    title(speed, "times as fast as dense" if text.is_time(state) else fewer)
    cuts = [(index, step) for index, step in enumerate(steps, start=1) if step["layer"] in lanes]
    _marks(lane, [(i, lanes.index(step["layer"]), step["kept"]) for i, step in cuts], dot)
    lane.set_yticks(range(len(lanes)), _short(lanes, width))
    lane.set_ylim(max(len(lanes), 1) - 0.4, -0.6)
    lane.grid(axis="y", color=LINE, lw=1)
    title(lane, "the layer that was cut")
    lane.set_xlim(-0.4, len(steps) + 0.6)
    lane.xaxis.get_major_locator().set_params(integer=True)
    lane.set_xlabel("step (0 is the dense network)")
    return svg(figure, f"story-{width}")


def _course(axes, steps, values, dot):
    """What the run kept as a line from the baseline on; what it undid beside it."""
    x = [0, *(i for i, step in enumerate(steps, start=1) if step["kept"])]
    x = [i for i in x if values[i] is not None]
    axes.plot(x, [values[i] for i in x], color=KEPT, lw=2, zorder=2)
    undone = [i for i, value in enumerate(values) if value is not None and i not in x]
    for index in undone:
        earlier = [i for i in x if i < index][-1:]
        dashed = {"color": UNDONE, "lw": 1, "ls": (0, (1, 2)), "zorder": 1}
        axes.plot([*earlier, index], [values[i] for i in (*earlier, index)], **dashed)
    _marks(axes, [(i, values[i], i in x) for i in sorted([*x, *undone])], dot)
    axes.margins(y=0.22)
    axes.grid(axis="y", color=LINE, lw=1)


def _name(axes, x, y, words):
    """The figure that the run ends with, above its point."""
    if y is not None:
        axes.annotate(
            words, (x, y), (0, 8), textcoords="offset points", ha="center", va="bottom",
            color=KEPT, weight="bold", bbox={"fc": PAPER, "ec": "none", "pad": 1, "alpha": 0.85},
        )  # fmt: skip


def _marks(axes, marks, dot):
    """marks: (x, y, whether the step was kept)."""
    for kind, color, kept, more in (("o", KEPT, True, 0), ("X", UNDONE, False, 1.5)):
        points = [(x, y) for x, y, own in marks if own == kept]
        if points:
            look = {"color": color, "ms": dot + more, "mec": PAPER, "mew": dot / 6, "zorder": 3}
            axes.plot(*zip(*points, strict=True), kind, **look)


@styled
def layers(state: dict, width: int) -> str:
    """Time, size and density of every layer: dense as a pale bar, now as a dark one within it."""
    rows = _rows(state)
    timed = any(row["time"][0] is not None for row in rows)
    stands = "" if text.is_time(state) else state["unit"]
    unit = f"time, {state['unit']}" if state["unit"] == "cycles" else stands or "time"
    keys = [
        ("time", f"{unit}, {state['source']}") if timed else ("macs", "MACs"),
        ("bytes", "size as stored"),
        ("density", "weights kept"),
    ]
    across = width >= NARROW
    height = 24 * len(rows) + 34
    shape = {"ncols": 3, "sharey": True} if across else {"nrows": 3}
    figure, all_axes = panels(width, height if across else 3 * height + 20, **shape)
    show = {
        "time": lambda value: (
            text.time(value, state["unit"]).removesuffix(f" {state['unit']}")
            if state["unit"] != "s"
            else text.time(value, "s")
        ),
        "macs": text.count,
        "bytes": lambda value: text.size(value).replace(" bytes", " B"),
        "density": text.percent,
    }
    for axes, (key, words) in zip(all_axes, keys, strict=True):
        shown = [(0, 0) if row.get("rest") and key != "density" else row[key] for row in rows]
        before, after = ([value or 0 for value in values] for values in zip(*shown, strict=True))
        axes.barh(range(len(rows)), before, 0.62, color=BEFORE)
        axes.barh(range(len(rows)), after, 0.3, color=KEPT)
        for index, row in enumerate(rows):
            first, last = (show[key](value) for value in row[key])
            label = last if key == "density" or first == last else f"{first} → {last}"
            at = (max(before[index], after[index]), index)
            axes.annotate(label, at, (6, 0), textcoords="offset points", va="center", color=INK)
        axes.set_xlim(0, max([*before, *after, 1e-12]) * (1.35 if key == "density" else 2.1))
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.set_xticks([])
        axes.set_yticks(range(len(rows)), _short([row["name"] for row in rows], width))
        axes.spines["bottom"].set_visible(False)
        title(axes, words)
    return svg(figure, f"layers-{width}")


def _rows(state):
    """One row a layer, the slowest LAYERS of them, and what the others come to (no bar: a sum)."""
    found = []
    for before, now in states.pairs(state):
        row = {"name": before["path"]}
        for key in ("time", "macs", "bytes", "weights", "kept"):
            row[key] = (before[key], now[key] if now else 0)
        found.append(row)
    ranked = sorted(found, key=lambda row: (-(row["time"][0] or 0), -(row["macs"][0] or 0)))
    few = ranked[LAYERS:] if len(ranked) > LAYERS + 1 else []
    rows = [row for row in found if row not in few]
    if few:
        rest = {"name": f"{len(few)} others", "rest": True}
        for key in ("time", "macs", "bytes", "weights", "kept"):
            pairs = [[value or 0 for value in row[key]] for row in few]
            rest[key] = tuple(map(sum, zip(*pairs, strict=True)))
        rows.append(rest)
    for row in rows:
        row["density"] = (1.0, row["kept"][1] / max(1, row["weights"][0]))
    return rows


def _short(paths, width):
    """The layers' own names where no two are the same; without the middle of long ones."""
    last = [path.split("/")[-1] for path in paths]
    names = last if len(set(last)) == len(last) else paths
    most = 26 if width >= NARROW else 17
    half = most // 2
    return [name if len(name) <= most else f"{name[:half]}…{name[-half:]}" for name in names]


def _scaled(value, scale):
    return None if value is None else scale * value
