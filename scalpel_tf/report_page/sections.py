"""The parts of the page as HTML; whatever comes from the run is escaped here."""

from html import escape
from pathlib import Path

from scalpel_tf.report_page import roofline, text
from scalpel_tf.report_page import state as states
from scalpel_tf.report_page.figures import layers as layers_chart
from scalpel_tf.report_page.figures import story as story_chart
from scalpel_tf.report_page.masks import HALF
from scalpel_tf.report_page.masks import masks as read_masks

WIDTHS = {"wide": 980, "narrow": 350}  # pixels, for a desktop and for a phone
FILES = 12  # names of exported files at most


def tiles(state: dict) -> str:
    """The four figures of a slide, each with where it comes from."""
    before, now = state["baseline"], states.best(state)
    timing = text.change(text.time(value["time"], state["unit"]) for value in (before, now))
    size = text.change(text.size(value["size"]) for value in (before, now))
    weights = f"{before['weights']:,} → {now['weights']:,}"
    name = state["config"]["metric"]
    faster = text.times(states.gain(before["time"], now["time"]))
    share = now["size"] / before["size"]
    word = "speedup" if text.is_time(state) else f"fewer {state['unit']}"
    cells = [
        (word, faster, timing, state["source"]),
        ("size", text.percent(share), size, "measured, as stored"),
        (
            name,
            text.metric(state, now["metric"]),
            f"dense: {text.metric(state, before['metric'])}",
            "measured, validation data",
        ),
        ("weights left", text.percent(now["weights"] / before["weights"]), weights, "measured"),
    ]
    return "\n".join(
        f"<div><dt>{escape(what)}</dt><dd><div class=value>{escape(value)}</div>"
        f"<div class=from>{escape(origin)}</div><div class=source>{escape(source)}</div></dd></div>"
        for what, value, origin, source in cells
    )


def story(state: dict) -> str:
    """Accuracy, speed and the layer that was cut, by step."""
    steps = state["steps"]
    if not steps:
        return _section("The run", "<p>No step has been finished yet.</p>")
    kept = sum(step["kept"] for step in steps)
    told = f"{len(steps)} steps: {kept} kept, {len(steps) - kept} undone."
    alt = f"{state['config']['metric']}, speed and the layer that was cut, by step. {told}"
    key = _key(("dot", "kept"), ("cross", "undone"), ("dash", "the limit"))
    return _section(
        "The run",
        f"<p>{told} Each step cuts one layer further and trains; it is kept where the "
        f"{escape(state['config']['metric'])} comes back.</p>",
        _figure(lambda width: story_chart(state, width), alt),
        key,
    )


def decisions(state: dict) -> str:
    """What the run decided, which layers it froze, and every step in words."""
    told = "".join(f"<li>{escape(sentence)}</li>" for sentence in state["decisions"])
    frozen = "".join(
        f"<li><b>{escape(layer)}</b>: {escape(why)}</li>" for layer, why in state["frozen"].items()
    )
    rows = [
        [
            ("step", f"{index}", "n"),
            ("", text.deed(step), "main"),
            (state["config"]["metric"], text.metric(state, step["metric"]), "n"),
            ("time", text.time(step["time"], state["unit"]), "n"),
            ("outcome", text.verdict(step), "" if step["kept"] else "no"),
        ]
        for index, step in enumerate(state["steps"], start=1)
    ]
    heads = ["", "what was done", state["config"]["metric"], "time", "outcome"]
    return _section(
        "Decisions",
        f"<ul>{told}</ul>" if told else "",
        f"<h3>Layers that are not cut further</h3><ul>{frozen}</ul>" if frozen else "",
        f"<h3>Step by step</h3>{_table(heads, rows, 'steps')}" if rows else "<p>None yet.</p>",
    )


def layers(state: dict) -> str:
    """Every layer, dense and now."""
    rows = []
    for before, now in states.pairs(state):
        after = now or dict.fromkeys(before)
        gain = text.times(states.gain(before["time"], after["time"]))
        rows.append(
            [
                ("", f"{before['path']} ({before['type']})", "main"),
                ("shape", _change(before, after, "shape", _shape), "n"),
                ("weights left", f"{after['kept'] or 0:,} of {before['weights']:,}", "n"),
                ("size", _change(before, after, "bytes", text.size), "n"),
                (
                    "time",
                    _change(before, after, "time", lambda v: text.time(v, state["unit"])),
                    "n",
                ),
                ("faster", gain, "n"),
            ]
        )
    heads = ["layer", "shape", "weights left", "size", f"time, {state['source']}", "faster"]
    alt = "Time, size and density of each layer before and after; the table below has the figures."
    return _section(
        "Layer by layer",
        _figure(lambda width: layers_chart(state, width), alt),
        _key(("pale", "dense"), ("dark", "pruned")),
        f"<details><summary>The figures</summary>{_table(heads, rows)}</details>",
    )


def masks(state: dict, folder: Path) -> str:
    """What is left of each kernel, as pictures."""
    try:
        found = read_masks(state, folder)
    except ValueError as error:
        return _section("What is left of the weights", f"<p>No pictures: {escape(str(error))}.</p>")
    pictures = "\n".join(map(_mask, found))
    cut = any(mask.left != mask.shape for mask in found)
    where = (
        " where it was"
        if all(m.in_place for m in found if m.left != m.shape)
        else ("; what is left stands together, top left")
    )
    tint = f" What went with whole nodes is tinted{where}." if cut else ""
    return _section(
        "What is left of the weights",
        "<p>Each kernel as the matrix that runs: a row per output, a column per input in im2col "
        f"order. Ink is a weight that is left.{tint}</p>",
        f"<div class=masks>{pictures}</div>",
        _key(("ink", "left"), ("tint", "removed with a node")) if cut else "",
    )


def _mask(mask):
    rows, columns = mask.shape
    size = f"{rows:,} outputs × {columns:,} inputs"
    if mask.left != mask.shape:
        size += f", now {mask.left[0]:,} × {mask.left[1]:,}"
    if mask.nodes:
        size += f"; {text.nodes(mask.nodes, rows)}"
    down, across = mask.blocks
    if mask.blocks != (1, 1):
        size += f"; a pixel stands for {down} × {across} weights, darker where more are left"
    alt = f"{mask.name}: {size}; {text.percent(mask.density)} of the weights are left"
    return (
        f'<figure class="{"wide" if mask.aspect > HALF else ""}">'
        f'<img src="{mask.png}" alt="{escape(alt)}" '
        f'style="aspect-ratio: {mask.aspect:.3f}">'
        f"<figcaption><b>{escape(mask.name)}</b>, {text.percent(mask.density)} left. {size}."
        "</figcaption></figure>"
    )


def roof(state: dict) -> str:
    """The roofline, or why there is none."""
    title, target = "Against the hardware's limits", state["config"]["target"]
    if roofline.peak(state) is None:
        return _section(title, f"<p>No roofline: no peak of {escape(target)} is known here.</p>")
    lead, note = map(escape, roofline.words(state))
    nearer = [("rule", "the limit of the pruned weights")] if roofline.is_nearer(state) else []
    return _section(
        title,
        f"<p>{lead}</p>",
        _figure(
            lambda width: roofline.roofline(state, width),
            "Multiply-accumulates of each layer in a unit of time over its multiply-accumulates "
            f"per byte, below the roof of {target}.",
        ),
        _key(("ring", "dense"), ("dot", "pruned"), *nearer),
        f"<p class=note>{note}</p>",
    )


def outcome(state: dict, folder: Path) -> str:
    """Budgets, int8, what was exported."""
    words = {True: ("met", "yes"), False: ("not met", "no"), None: ("–", "")}
    rows = [
        [("", what, "main"), ("budget", limit, "n"), ("now", value, "n"), ("met", *words[met])]
        for what, limit, value, met in text.budgets(state)
    ]
    exported = f"<p>{escape(text.exported(state))}</p>"
    if state["exported"]:
        files = sorted(p.name for p in (folder / state["exported"]["folder"]).glob("*"))
        if files:
            more = f" and {len(files) - FILES} more" if len(files) > FILES else ""
            exported += f"<p class=note>{escape(', '.join(files[:FILES]))}{more}</p>"
    return _section(
        "Budgets and outcome",
        _table(["", "budget", "now", ""], rows),
        f"<h3>int8</h3><p>{escape(text.int8(state))}</p>",
        f"<h3>Exported</h3>{exported}",
    )


def reproduce(state: dict, folder: Path) -> str:
    """The commands, and what the run ran on."""
    versions = ", ".join(f"{name} {number}" for name, number in state["versions"].items())
    mix = state["config"]["mix"]
    if isinstance(mix, dict):
        mix = ", ".join(f"{kind}: {way}" for kind, way in mix.items())
    settings = [
        f"{name} {state['config'][name]}" for name in ("epochs", "step", "min_density", "seed")
        if name in state["config"]
    ]  # fmt: skip
    facts = {
        "method": f"{state['config']['method']} ({mix})",
        "settings": ", ".join(settings),
        "machine": state["machine"],
        "versions": versions,
        "started": text.date(state["started"]),
        "finished": text.date(state["finished"]) if state["finished"] else "still going",
        "took": text.duration(state["seconds"]),
        "weights (SHA-256)": states.best(state).get("digest") or text.UNKNOWN,
    }
    listed = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    commands = f"{state['command']}\nscalpel-tf report {folder.name or folder}"
    return _section(
        "How to get this again",
        f"<pre>{escape(commands)}</pre><dl class=facts>{listed}</dl>",
    )


def _section(title, *parts):
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _figure(draw, alt):
    drawn = "".join(
        draw(width).replace("<svg ", f'<svg class="{name}" ', 1) for name, width in WIDTHS.items()
    )
    return f'<figure role="img" aria-label="{escape(alt)}">{drawn}</figure>'


def _key(*entries):
    items = "".join(f'<li><i class="{name}"></i>{escape(word)}</li>' for name, word in entries)
    return f"<ul class=key>{items}</ul>"


def _table(heads, rows, name="cards"):
    """Rows of (label on a phone, text, class); numbers, class n, to the right.

    name: how a phone shows it, as "cards" or as "steps" of a run.
    """
    right = [cell[2] == "n" for cell in rows[0]] if rows else [False] * len(heads)
    head = "".join(
        f"<th{' class=n' if number else ''}>{escape(name)}</th>"
        for name, number in zip(heads, right, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}" data-label="{escape(label)}">{escape(words)}</td>'
            for label, words, kind in row
        )
        + "</tr>"
        for row in rows
    )
    return f"<table class={name}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _change(before, after, key, show):
    first, last = show(before[key]), show(after[key])
    return first if first == last else text.change((first, last))


def _shape(shape):
    return "–" if shape is None else "×".join(map(str, shape))
