"""Numbers and facts of a run as people write them: plain text, not yet escaped."""

from datetime import datetime

from scalpel_tf.core import left_nodes
from scalpel_tf.core.targets import KIB, MIB
from scalpel_tf.report_page.state import best, floor, gain

UNITS = {"nodes": "nodes", "groups": "groups", "elements": "weights"}
UNKNOWN = "–"
NODES = 60  # characters of a list of nodes at most


def percent(value: float | None) -> str:
    """A fraction; three digits below 10 %."""
    if value is None:
        return UNKNOWN
    text = f"{100 * value:.3g}" if value < 0.1 else f"{100 * value:.1f}"
    return f"{text.removesuffix('.0')} %"


def times(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}×" if value < 10 else f"{value:.1f}×"


def size(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if value < 10 * KIB:
        return f"{value:,.0f} bytes"
    return f"{value / KIB:.3g} KiB" if value < 1000 * KIB else f"{value / MIB:.3g} MiB"


def count(value: float | None) -> str:
    """A number of things in three digits: 885 k, 4.10 M."""
    if value is None:
        return UNKNOWN
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * factor:
            return _digits(value / factor) + unit
    return f"{value:g}"


def time(value: float | None, unit: str) -> str:
    """A time of the run's unit: cycles, s or MACs."""
    if value is None:
        return UNKNOWN
    if unit != "s":
        return f"{count(value)} {unit}"
    for factor, name in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= 0.9995 * factor:
            return f"{_digits(value / factor)} {name}"
    return f"{_digits(value / 1e-9)} ns"


def metric(state: dict, value: float | None) -> str:
    """An accuracy as a percentage, any other metric as it is."""
    if value is None:
        return UNKNOWN
    return f"{100 * value:.2f} %" if is_accuracy(state) else f"{value:.4g}"


def is_accuracy(state: dict) -> bool:
    return "acc" in state["config"]["metric"] and state["config"]["mode"] == "max"


def is_time(state: dict) -> bool:
    """Whether the run's unit is one of time; else instructions or MACs stand for it."""
    return state["unit"] in ("cycles", "s")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def change(values) -> str:
    """first → last, with a unit that both have only once."""
    first, last = values
    number, _, unit = first.rpartition(" ")
    same = number and unit.isalpha() and last.endswith(f" {unit}")
    return f"{number if same else first} → {last}"


def date(text: str | None) -> str:
    """An ISO date as 22 November 2026, 14:05; as it came where it is none."""
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return text or UNKNOWN
    return f"{when.day} {when:%B %Y, %H:%M}"


def headline(state: dict) -> tuple[str, str, str]:
    """(before, the figure that matters, after): one sentence for a slide."""
    now, target = best(state), state["config"]["target"]
    faster = gain(state["baseline"]["time"], now["time"])
    so_far = " so far" if state["status"] == "running" else ""
    if state["best"] is None:
        found = "is not pruned" + so_far if so_far else "could not be pruned without loss"
        return f"{state['model']} ", found, f" on {target}"
    share = f", at {percent(now['size'] / state['baseline']['size'])} of its size{so_far}"
    worse = faster is not None and faster < 1
    figure = times(1 / faster if worse else faster)
    if not is_time(state):
        figure = f"{figure} {'more' if worse else 'fewer'} {state['unit']}"
        return f"{state['model']} needs ", figure, f" on {target}{share}"
    figure = f"{figure} {'slower' if worse else 'faster'}"
    return f"{state['model']} runs ", figure, f" on {target}{share}"


def deed(step: dict) -> str:
    """What a step did, as a sentence."""
    unit, share = UNITS.get(step["method"], step["method"]), percent(step["to"])
    return f"Cut {step['layer']} from {percent(step['from'])} to {share} of its {unit}."


def nodes(packed: str, whole: int) -> str:
    """How many of `whole` nodes are left, and which, as `left_nodes.pack` has them, if few."""
    count = f"{len(left_nodes.unpack(packed)):,} of {whole:,} nodes are left"
    listed = packed.replace("-", "–").replace(" ", ", ")
    return f"{count}: {listed}" if len(packed) <= NODES else count


def verdict(step: dict) -> str:
    if step["kept"]:
        return "Kept."
    reason = (step["reason"] or "no reason was recorded").strip()
    return f"Undone: {reason[0].lower() + reason[1:] if reason[:2].istitle() else reason}"


def budgets(state: dict) -> list[tuple[str, str, str, bool | None]]:
    """(what, its limit, what it is now, whether that is met); None where there is no telling."""
    config, now, exported = state["config"], best(state), state["exported"] or {}
    limit, higher = floor(state), config["mode"] == "max"
    met = None
    if limit is not None and now["metric"] is not None:
        slack = 1e-9
        met = now["metric"] >= limit - slack if higher else now["metric"] <= limit + slack
    word = "at least" if higher else "at most"
    wanted = UNKNOWN if limit is None else f"{word} {metric(state, limit)}"
    rows = [(config["metric"], wanted, metric(state, now["metric"]), met)]
    for key, name, show in [
        ("flash", "flash", size),
        ("ram", "RAM", size),
        ("latency", "latency", lambda value: time(value, state["unit"])),
    ]:
        source = "time" if key == "latency" else key
        value = exported.get(source) if now[source] is None else now[source]
        allowed = config[key]
        if allowed is None and value is None:
            continue
        met = None if allowed is None or value is None else value <= allowed
        limit = "no limit" if allowed is None else f"at most {show(allowed)}"
        rows.append((name, limit, show(value), met))
    return rows


def int8(state: dict) -> str:
    """What became of the network in int8, as a sentence."""
    result = state["int8"]
    if not result:
        return "The network was not converted to int8."
    parts = [f"{state['config']['metric']} {metric(state, result['metric'])} in int8"]
    if result.get("float_metric") is not None:
        parts.append(f"{metric(state, result['float_metric'])} in float32 before that")
    if result.get("dense_metric") is not None:
        parts.append(f"the dense network {metric(state, result['dense_metric'])}")
    tuned = "fine-tuned with its masks held" if result.get("finetuned") else "not fine-tuned"
    return f"{'; '.join(parts)}; {tuned}."


def exported(state: dict) -> str:
    """What was exported, as a sentence."""
    result = state["exported"]
    if not result:
        return "Nothing has been exported."
    facts = [
        f"{show(result[key])} {name}".strip()
        for key, name, show in [
            ("flash", "of flash", size),
            ("ram", "of RAM", size),
            ("time", "", lambda value: f"{time(value, state['unit'])} ({state['source']})"),
        ]
        if result.get(key) is not None
    ]
    return f"{result['folder']}/" + (f": {', '.join(facts)}." if facts else ".")


def _digits(value):
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
