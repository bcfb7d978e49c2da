"""What state.json says about a run: checked when it is read, then asked in the run's own words."""

import json
from pathlib import Path

VERSION = 1
SOURCES = ("modelled", "emulated", "measured")
RUN = {
    *("version", "status", "command", "config", "machine", "versions", "started", "finished"),
    *("seconds", "model", "unit", "source", "baseline", "steps", "best", "frozen", "decisions"),
    *("int8", "exported"),
}
CONFIG = {"target", "method", "mix", "max_accuracy_drop", "flash", "ram", "latency", "metric"}
CONFIG |= {"mode", "seed"}
STATE = {"metric", "time", "flash", "ram", "weights", "size", "macs", "layers"}
STEP = STATE | {"index", "layer", "method", "from", "to", "kept", "reason", "seconds"}
PEAK = {"macs", "bytes", "source"}
LAYER = {"path", "type", "shape", "nodes", "weights", "kept", "density", "macs", "time", "bytes"}


def read(folder: Path) -> dict:
    """The state of the run in `folder`.

    Raises ValueError, one sentence, where there is no state.json, or one that is not whole.
    """
    path = folder / "state.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no state.json: give the folder that a run wrote (`out`).")
    try:
        state = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # a UnicodeDecodeError is one too
        raise ValueError(f"{path} is not JSON ({error}): let the run write it anew.") from error
    _check(path, "it", state, RUN)
    if state["version"] != VERSION:
        raise ValueError(
            f"{path} is of version {state['version']!r}; this package reads {VERSION}."
        )
    _check(path, "`config`", state["config"], CONFIG)
    steps = state["steps"]
    if not isinstance(steps, list):
        raise ValueError(f"{path} is broken: `steps` is a {type(steps).__name__}, not a list.")
    for name, keys, part in [
        ("`baseline`", STATE, state["baseline"]),
        *((f"step {index}", STEP, step) for index, step in enumerate(steps)),
    ]:
        _check(path, name, part, keys)
        for layer in part["layers"]:
            _check(path, f"a layer of {name}", layer, LAYER)
    if state.get("peak") is not None:  # older runs have none
        _check(path, "`peak`", state["peak"], PEAK)
    if state["best"] is not None and state["best"] not in range(len(steps)):
        raise ValueError(
            f"{path} is broken: `best` is {state['best']!r}, but there are {len(steps)} steps."
        )
    if state["source"] not in SOURCES:
        raise ValueError(
            f"{path} is broken: `source` is one of {', '.join(SOURCES)}; got {state['source']!r}."
        )
    return state


def _check(path, name, part, keys):
    if not isinstance(part, dict):
        raise ValueError(f"{path} is broken: {name} is a {type(part).__name__}, not an object.")
    missing = sorted(keys - part.keys())
    if missing:
        raise ValueError(f"{path} is broken: {name} has no {', '.join(missing)}.")


def best(state: dict) -> dict:
    """The last step that was kept, or the baseline where none was."""
    return state["baseline"] if state["best"] is None else state["steps"][state["best"]]


def gain(before, after) -> float | None:
    """How many times less; None where one of them is not known."""
    return before / after if before and after else None


def floor(state: dict) -> float | None:
    """The worst metric that the run may end with."""
    drop, metric = state["config"]["max_accuracy_drop"], state["baseline"]["metric"]
    if metric is None or drop is None:
        return None
    return metric - drop if state["config"]["mode"] == "max" else metric + drop


def pairs(state: dict) -> list[tuple[dict, dict | None]]:
    """(layer of the baseline, the same now or None), in the network's order."""
    now = {layer["path"]: layer for layer in best(state)["layers"]}
    return [(layer, now.get(layer["path"])) for layer in state["baseline"]["layers"]]


def final_weights(state: dict, folder: Path) -> Path:
    """The file of the network that the page is about.

    While a run is going that of the step, as best.keras may be ahead of the state.
    """
    if state["best"] is None:
        return folder / "dense.keras"
    step = folder / (best(state).get("file") or "best.keras")
    going = state["status"] == "running" and step.is_file()
    return step if going else folder / "best.keras"
