"""What a run says after a step."""

import math

from scalpel_tf.report import figure


def line(loop, step) -> str:
    """A step that was kept or undone, and the time that is left."""
    name, value = loop.goal.metric, step["metric"]
    what = f"step {step['index']}: {step['layer']} {step['from']:.1%} -> {step['to']:.1%} of "
    what += f"its {step['method']}, {name} {value:.4f}"
    if not step["kept"]:
        return f"{what}, undone ({step['reason']}){_left(loop)}"
    ratio = loop.state["baseline"]["time"] / step["time"] if step["time"] else math.nan
    return (
        f"{what}, kept: {figure(step['time'])} {loop.meter.unit} ({loop.meter.source}), "
        f"{ratio:.2f}x the dense network's speed{_left(loop)}"
    )


def _left(loop):
    """The time that this round takes at most, from the steps so far."""
    seconds = [step["seconds"] for step in loop.state["steps"]]
    options, steps = loop.options, 0
    for path, method in loop.units():
        if path not in loop.state["frozen"]:
            room = math.log(options.min_density / loop.fraction(path, method))
            each = math.log(options.step) / (1 << loop.state["round"])
            steps += max(1, math.ceil(room / each))
    if not seconds or not steps:
        return ""
    minutes = steps * sum(seconds) / len(seconds) / 60
    return f"; at most {minutes:.0f} minutes left in round {loop.state['round'] + 1}"
