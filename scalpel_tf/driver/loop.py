"""The loop of Scalpel: time every layer, prune the slowest further, train, keep it or undo it."""

import time
from datetime import datetime, timezone

import keras

from scalpel_tf.driver import nodes_left, progress, training, trial
from scalpel_tf.driver.dead_nodes import cut_dead_nodes
from scalpel_tf.driver.folder import DENSE, digest
from scalpel_tf.driver.goal import Goal
from scalpel_tf.driver.measure import describe
from scalpel_tf.driver.prunable import prunable
from scalpel_tf.models import walk
from scalpel_tf.report import figure

NEGLIGIBLE = 0.005  # of the time or bytes of all layers: not worth a step
PAYING = 0.5  # density from which on sparse kernels are faster
VAIN = 0.005  # of the time or bytes of all layers, saved by a step
TRIES = 2  # of a layer in a round, the second with half a step


class Loop:
    """One run, from its folder's state on."""

    def __init__(self, like, options, data, folder, meter, selection, user_callbacks):
        self.like, self.options, self.data, self.folder = like, options, data, folder
        self.meter, self._callbacks = meter, user_callbacks
        self.state = state = folder.state
        self.goal = Goal(
            state["config"]["metric"],
            state["config"]["mode"],
            state["baseline"]["metric"],
            options.max_accuracy_drop,
        )
        self.prunable = prunable(like, *selection)
        self._dense = None

    @property
    def callbacks(self):
        """The user's, for one fit."""
        given = self._callbacks
        return list(given() if callable(given) else given or ())

    def run(self):
        """Prunes until every layer is frozen or the budgets are met; the state is then complete."""
        self.folder.set_best(self.best_file)  # where a kill came between the two
        if self.state["mix"] is None:
            mix = trial.choose(self) if self.options.races else self.options.paper_mix
            self.state["mix"] = self.state["config"]["mix"] = mix
            self.folder.save()
        while not self._done():
            unit = self._costliest()
            if unit is not None:
                self._step(*unit)
            elif not self._thaw():
                break

    def _thaw(self):
        """Begins another round with smaller steps; False where the last one brought nothing."""
        state = self.state
        gained = any(s["kept"] and s["round"] == state["round"] for s in state["steps"])
        if not gained or state["round"] + 1 >= self.options.rounds or not state["tried"]:
            return False
        state["round"] += 1
        for path in state["tried"]:
            del state["frozen"][path]
        count, state["tried"] = len(state["tried"]), []
        self.decide(f"Round {state['round'] + 1}: {count} layers get smaller steps.")
        return True

    def retrain(self, model, rates, epochs=None):
        """The plain model, trained until it is as good as the dense one, or as far as it gets."""
        options = self.options
        return training.retrain(
            model,
            self.like,
            self.data,
            epochs or options.epochs,
            self.goal,
            rates,
            self.callbacks,
            self._teacher(),
            options.distillation,
        )

    def value_of(self, model):
        """The metric of a model on the validation data."""
        return training.evaluate(model, self.like, self.data, None)[self.goal.metric]

    def _teacher(self):
        if not self.options.distillation:
            return None
        if self._dense is None:
            self._dense = training.compile_like(self.folder.load_model(DENSE), self.like)
            self._dense.trainable = False
        return self._dense

    # What there is to prune.

    def units(self):
        """(layer, method) of all that may be pruned: what loses nodes first, then groups."""
        mix, found = self.state["mix"], {"nodes": [], "groups": []}
        for path, kind in self.prunable.items():
            found[mix[kind]].append(path)
        return [(path, "nodes") for path in found["nodes"]] + [
            (path, "groups") for path in found["groups"]
        ]

    def _costliest(self):
        """(layer, method) of those not frozen that costs most of what is to be saved.

        That is time, or flash where its budget is missed; nodes go before groups.
        """
        left = [unit for unit in self.units() if unit[0] not in self.state["frozen"]]
        if not left:
            return None
        first = [unit for unit in left if unit[1] == "nodes"] or left
        keys = self._keys()
        layers = {layer["path"]: layer for layer in self.now["layers"]}
        totals = {key: sum(layer[key] or 0 for layer in layers.values()) for key in keys}

        def share(path):
            return sum((layers[path][key] or 0) / totals[key] for key in keys if totals[key])

        worth = [unit for unit in first if share(unit[0]) >= NEGLIGIBLE]
        for path, _ in first if not worth else ():
            self._freeze(path, f"it is {share(path):.2%} of the {' and '.join(keys)}")
        if not worth:
            return self._costliest()
        return max(worth, key=lambda unit: (share(unit[0]), layers[unit[0]]["kept"]))

    def _keys(self):
        """What is to be saved: "time", "bytes", or both."""
        missed = {name for name, _, _, met in self.budgets() if not met}
        bytes_too = ["bytes"] if "flash" in missed else []
        return bytes_too + (["time"] if missed != {"flash"} else [])

    @property
    def now(self):
        """The last kept step, or the dense network."""
        best = self.state["best"]
        return self.state["baseline"] if best is None else self.state["steps"][best]

    @property
    def best_file(self):
        """The file of the model at the last kept step."""
        best = self.state["best"]
        return DENSE if best is None else self.state["steps"][best]["file"]

    def _done(self):
        budgets = self.budgets()
        return bool(budgets) and all(met for _, _, _, met in budgets)

    def budgets(self):
        """(name, budget, now, whether it is met) of each that was given."""
        now, found = self.now, []
        for name, key in (("flash", "flash"), ("ram", "ram"), ("latency", "time")):
            budget = getattr(self.options, name)
            if budget is not None:
                value = now[key]
                found.append((name, budget, value, value is not None and value <= budget))
        return found

    # One step.

    def _step(self, path, method):
        state, started = self.state, time.time()
        index = len(state["steps"])
        before = self.fraction(path, method)
        tries = sum(
            s["layer"] == path and s["round"] == state["round"] and not s["kept"]
            for s in state["steps"]
        )
        step = self.options.step ** (1 / (1 << (tries + state["round"])))
        after = max(before * step, self.options.min_density)
        if after >= before * 0.995:
            return self._freeze(path, f"{before:.1%} of it are left, the least that is asked for")
        if method == "nodes" and self._nodes(path) * (1 - after / before) < 1:
            return self._freeze(path, f"nodes left: {self._nodes(path)}, a step is less than one")
        try:
            model, rates = self._pruned(path, method, after, index)
        except ValueError as error:
            return self._freeze(path, str(error))
        costs = self._totals(self._keys())
        trained, dead, dropout = self.retrain(model, rates), False, state["dropout"]
        value = self.value_of(trained)
        if method == "groups" and self.goal.is_good(value):
            whole = trained
            trained, dead = cut_dead_nodes(whole, self.meter)
            dropout = self._node_rates(whole, trained) if dead else dropout
            value = self.value_of(trained)
        reason = "" if self.goal.is_good(value) else self.goal.why_not(value)
        found = describe(trained, self.options.width) if reason else self.meter(trained)
        if not reason and method == "nodes" and found["time"] >= self.now["time"]:
            reason = (
                f"it is no faster with fewer nodes: {figure(found['time'])} {self.meter.unit}, "
                f"{figure(self.now['time'])} before"
            )
        kept, vain, name = not reason, None, f"step_{index:03}.keras"
        cuts = dead or method == "nodes"
        step = {
            **found,
            "index": index,
            "round": state["round"],
            "layer": path,
            "method": "elements" if self.options.width == 1 and method == "groups" else method,
            "from": before,
            "to": after,
            "metric": value,
            "kept": kept,
            "reason": reason,
            "seconds": round(time.time() - started, 1),
            "digest": digest(trained),
            "file": name if kept else None,
            "dropout": {**dropout, **rates} if method == "nodes" else dropout,
            "nodes_left": nodes_left.after(state, trained.report) if cuts else {},
        }
        state["steps"].append(step)
        if kept:
            self.folder.save_model(trained, name)
            state["best"], state["dropout"] = index, step["dropout"]
            state["fractions"].setdefault(method, {})[path] = after
            if dead:
                self._count_groups(found)
            vain = self._vain(after, costs)
            if vain:
                state["frozen"][path] = vain
                state["decisions"].append(f"{path} is frozen: {vain}.")
        elif tries + 1 >= TRIES:
            state["frozen"][path] = f"pruned further, {reason}"
            state["tried"].append(path)
        self.say(progress.line(self, step))
        if vain:
            self.say(state["decisions"][-1])
        self.add_seconds(started)
        self.folder.save()
        if kept:
            self.folder.set_best(name)
            self.folder.forget(name)

    def _pruned(self, path, method, after, index):
        """(the model to train, dropout rates), from the last kept state and the step's seed."""
        keras.utils.set_random_seed(self.options.seed * 100_003 + index + 1)
        plain, fractions = self.folder.load_model(self.best_file), self.state["fractions"]
        if method == "nodes":
            small = self.cut(plain, {path: after / self.fraction(path, method)})
            rates = self._node_rates(plain, small)
            return small, rates
        density = {**fractions.get("groups", {}), path: after}
        wrapped = training.prune_groups(plain, density, self.options.width, self.options.target)
        return wrapped, training.dropout_rates(wrapped, self.state["dropout"])

    def cut(self, plain, fraction):
        """A smaller copy: fraction[path] of a layer's nodes stay."""
        training.compile_like(plain, self.like)  # for its loss
        options = self.options
        return training.cut_nodes(plain, fraction, options.criterion, self.data.few(), options.seed)

    def _totals(self, keys):
        """What all layers cost now."""
        return {key: sum(layer[key] or 0 for layer in self.now["layers"]) for key in keys}

    def _vain(self, left, before):
        """Why a layer whose last step was kept gets no more: it brought next to nothing."""
        after = self._totals(before)
        gain = max((1 - after[key] / before[key] for key in before if before[key]), default=0.0)
        return f"its last step saved {max(gain, 0):.1%}" if left <= PAYING and gain < VAIN else None

    def _count_groups(self, found):
        """Densities after a layer has lost nodes, which change what they are a fraction of."""
        groups = self.state["fractions"].get("groups", {})
        for layer in found["layers"]:
            if layer["path"] in groups:
                groups[layer["path"]] = layer["density"]

    def _node_rates(self, plain, small):
        """Rates of dropout that nodes feed: each cut takes its part of what is left."""
        rates = dict(self.state["dropout"])
        original = {p: d.rate for p, d in walk(plain) if isinstance(d, keras.layers.Dropout)}
        for path, rate in small.report.dropout.items():
            if original.get(path):
                rates[path] = rates.get(path, original[path]) * rate / original[path]
        return rates

    def fraction(self, path, method):
        """What is left of a layer's groups or nodes."""
        return self.state["fractions"].get(method, {}).get(path, 1.0)

    def _nodes(self, path):
        return next(own["nodes"] for own in self.now["layers"] if own["path"] == path)

    # What is said.

    def say(self, line):
        print(line, flush=True)

    def _freeze(self, path, reason):
        self.state["frozen"][path] = reason
        self.decide(f"{path} is frozen: {reason.rstrip('.')}.")

    def decide(self, sentence):
        """Writes a decision down."""
        self.state["decisions"].append(sentence)
        self.say(sentence)
        self.folder.save()

    def add_seconds(self, started):
        """Counts what has gone by since `started`."""
        self.state["seconds"] = round(self.state["seconds"] + time.time() - started, 1)


def time_stamp() -> str:
    """Now, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
