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
    heights = [150, 150, 30 + 24 * max(1, len(lanes))]
    figure, (metric, speed, lane) = panels(
        width, sum(heights) + 70, nrows=3, sharex=True, height_ratios=heights
    )
    scale = 100 if text.is_accuracy(state) else 1
    name = state["config"]["metric"] + (", %" if scale == 100 else "")
    values = [_scaled(part["metric"], scale) for part in [state["baseline"], *steps]]
    _course(metric, steps, values)
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
    _course(speed, steps, [1.0, *(states.gain(start, step["time"]) for step in steps)])
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
    for index, step in enumerate(steps, start=1):
        if step["layer"] in lanes:
            _mark(lane, index, lanes.index(step["layer"]), step["kept"])
    lane.set_yticks(range(len(lanes)), [_short(path, width) for path in lanes])
    lane.set_ylim(max(len(lanes), 1) - 0.4, -0.6)
    lane.grid(axis="y", color=LINE, lw=1)
    title(lane, "the layer that was cut")
    lane.set_xlim(-0.4, len(steps) + 0.6)
    lane.xaxis.get_major_locator().set_params(integer=True)
    lane.set_xlabel("step (0 is the dense network)")
    return svg(figure, f"story-{width}")


def _course(axes, steps, values):
    """What the run kept as a line from the baseline on; what it undid beside it."""
    x = [0, *(i for i, step in enumerate(steps, start=1) if step["kept"])]
    x = [i for i in x if values[i] is not None]
    axes.plot(x, [values[i] for i in x], color=KEPT, lw=2, zorder=2)
    for index, value in enumerate(values):
        if value is None:
            continue
        kept = index == 0 or steps[index - 1]["kept"]
        if not kept and (earlier := [i for i in x if i < index]):
            dashed = {"color": UNDONE, "lw": 1, "ls": (0, (1, 2)), "zorder": 1}
            axes.plot([earlier[-1], index], [values[earlier[-1]], value], **dashed)
        _mark(axes, index, value, kept)
    axes.margins(y=0.22)
    axes.grid(axis="y", color=LINE, lw=1)


def _name(axes, x, y, words):
    """The figure that the run ends with, above its point."""
    if y is not None:
        axes.annotate(
            words, (x, y), (0, 8), textcoords="offset points", ha="center", va="bottom",
            color=KEPT, weight="bold", bbox={"fc": PAPER, "ec": "none", "pad": 1, "alpha": 0.85},
        )  # fmt: skip


def _mark(axes, x, y, kept):
    if kept:
        axes.plot(x, y, "o", color=KEPT, ms=7, mec=PAPER, mew=1.2, zorder=3)
    else:
        axes.plot(x, y, "X", color=UNDONE, ms=8.5, mec=PAPER, mew=1.2, zorder=3)


@styled
def layers(state: dict, width: int) -> str:
    """Time, size and density of every layer: dense as a pale bar, now as a dark one within it."""
    rows = _rows(state)
    timed = all(row["time"][0] is not None for row in rows)
    keys = [
        ("time", "time") if timed else ("macs", "MACs"),
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
        before = [row[key][0] or 0 for row in rows]
        after = [row[key][1] or 0 for row in rows]
        axes.barh(range(len(rows)), before, 0.62, color=BEFORE)
        axes.barh(range(len(rows)), after, 0.3, color=KEPT)
        for index, row in enumerate(rows):
            first, last = (show[key](value) for value in row[key])
            label = last if key == "density" else f"{first} → {last}"
            at = (max(before[index], after[index]), index)
            axes.annotate(label, at, (6, 0), textcoords="offset points", va="center", color=INK)
        axes.set_xlim(0, max([*before, *after, 1e-12]) * (1.35 if key == "density" else 1.95))
        axes.set_ylim(len(rows) - 0.5, -0.6)
        axes.set_xticks([])
        axes.set_yticks(range(len(rows)), [_short(row["name"], width) for row in rows])
        axes.spines["bottom"].set_visible(False)
        unit = "" if state["unit"] == "s" else f", {state['unit']}"
        source = f"{unit}, {state['source']}" if key == "time" else ""
        title(axes, words + source)
    return svg(figure, f"layers-{width}")


def _rows(state):
    """One row a layer, the slowest LAYERS of them, and what the others come to."""
    found = []
    for before, now in states.pairs(state):
        row = {"name": before["path"]}
        for key in ("time", "macs", "bytes", "weights", "kept"):
            row[key] = (before[key], now[key] if now else 0)
        found.append(row)
    weight = "time" if all(row["time"][0] is not None for row in found) else "macs"
    ranked = sorted(found, key=lambda row: -row[weight][0])
    few = ranked[LAYERS:] if len(ranked) > LAYERS + 1 else []
    rows = [row for row in found if row not in few]
    if few:
        rest = {"name": f"{len(few)} others"}
        for key in ("time", "macs", "bytes", "weights", "kept"):
            pairs = [[value or 0 for value in row[key]] for row in few]
            rest[key] = tuple(map(sum, zip(*pairs, strict=True)))
        rows.append(rest)
    for row in rows:
        row["density"] = (1.0, row["kept"][1] / max(1, row["weights"][0]))
    return rows


def _short(path, width):
    """A path of a layer, the end of it where it is long."""
    most = 26 if width >= NARROW else 14
    return path if len(path) <= most else "…" + path[1 - most :]


def _scaled(value, scale):
    return None if value is None else scale * value
