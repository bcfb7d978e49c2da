"""The trial of two mixes: whether convolutions lose nodes or groups on this target."""

import math
import time

import keras

from scalpel_tf.driver import training
from scalpel_tf.driver.folder import DENSE
from scalpel_tf.report import figure

LEFT = 0.5  # of the multiply-accumulates of the convolutions


def choose(loop) -> dict[str, str]:
    """The mix whose convolutions are faster of those that keep the accuracy; says so.

    The paper's for this parallelism where neither keeps it.
    """
    paper, started = loop.options.paper_mix, time.time()
    convs = [path for path, kind in loop.prunable.items() if kind == "conv"]
    lines, good = [], {}
    for method in ("groups", "nodes") if convs else ():
        try:
            trained = _trained(loop, convs, method)
        except ValueError as error:
            loop.say(f"trial of {method}: {error}")
            continue
        value = loop.value_of(trained)
        found = loop.meter(trained)["time"]
        if loop.goal.is_good(value):
            good[method] = found
        lines.append(
            f"With half of their multiply-accumulates, by {method}, the convolutions give "
            f"{figure(found)} {loop.meter.unit} ({loop.meter.source}) at {loop.goal.metric} "
            f"{value:.4f}."
        )
        loop.say(lines[-1])
    best = min(good, key=good.get) if good else paper["conv"]
    if lines:
        why = "the faster that kept the accuracy" if good else "as neither kept it"
        same = "as" if best == paper["conv"] else "unlike"
        lines.append(f"Convolutions lose {best}, {why}; {same} the paper for this parallelism.")
        loop.say(lines[-1])
    loop.state["decisions"] += lines
    loop.add_seconds(started)
    return {**paper, "conv": best}


def _trained(loop, convs, method):
    keras.utils.set_random_seed(loop.options.seed * 100_003)
    plain = loop.folder.load_model(DENSE)
    if method == "groups":
        density = dict.fromkeys(convs, LEFT)
        model = training.prune_groups(plain, density, loop.options.width, loop.options.target)
    else:
        model = loop.cut(plain, dict.fromkeys(convs, math.sqrt(LEFT)))
    return loop.retrain(model, training.dropout_rates(model, {}))
