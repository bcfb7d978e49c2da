"""scalpel: the whole method, from a trained model to something that runs on its target."""

import platform
import sys
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import keras

from scalpel_tf.driver import finish, training
from scalpel_tf.driver.data import Data
from scalpel_tf.driver.folder import BEST, DENSE, Folder, digest, digest_data
from scalpel_tf.driver.loop import Loop, time_stamp
from scalpel_tf.driver.measure import Remembering, meter, peak
from scalpel_tf.driver.options import Options
from scalpel_tf.models import check_model, copy_model, same_layer
from scalpel_tf.report import figure


@dataclass(frozen=True)
class ScalpelResult:
    """What a run ended with.

    model: the best plain Keras model, not compiled.  report: its story as text.  folder: where all
    of it is.  state: what state.json says.  met: whether the budgets are met; True without any.
    """

    model: keras.Model
    report: str
    folder: Path
    state: dict
    met: bool

    def __str__(self):
        return self.report


def scalpel(
    model: keras.Model,
    data,
    target: str = "cortex-m4",
    *,
    out="run",
    validation_data=None,
    max_accuracy_drop: float = 0.0,
    flash: int | None = None,
    ram: int | None = None,
    latency: float | None = None,
    method: str = "scalpel",
    mix: str | dict = "auto",
    metric: str | None = None,
    epochs: int = 3,
    step: float = 0.6,
    min_density: float = 0.02,
    criterion: str = "taylor",
    rounds: int = 3,
    distillation: float = 1.0,
    layers=None,
    skip=None,
    fit_options: dict | None = None,
    callbacks=None,
    representative_data=None,
    seed: int = 0,
    command: str | None = None,
) -> ScalpelResult:
    """Prunes a trained model to fit its target, and exports it (Yu et al., Scalpel, ISCA 2017).

    Every layer is timed on the target, the slowest is pruned further, the model trains on, and the
    step is kept if the validation metric is back, else undone; a layer that twice could not be
    pruned further is frozen for this round. A round in which no layer is left is followed by one of
    smaller steps. It ends when a round brings nothing or the budgets are met. Microcontrollers
    lose groups of weights; CPUs nodes of convolutions and groups of fully connected layers; GPUs
    nodes. Then the model becomes int8 (and trains on as such where that costs accuracy) and a C
    project on a microcontroller, a library on x86-64.

    model: built and trained, functional or Sequential; its `compile` settings train every step, and
        one that is not compiled is a classifier of integer labels. It is not changed.
    data: what `fit` takes: (x, y) or (x, y, sample_weight) of arrays, lists or dicts of them, a
        tf.data.Dataset, a PyDataset; or a function of no arguments that returns one, called anew
        for every step after seeds are set (a shuffled Dataset then repeats when a run resumes).
    out: the folder of the run. A run in it that was killed goes on from its last whole step, with
        the same result; one that is done is returned. best.keras is there at any time.
    validation_data: decides about every step; a tenth of arrays where not given.
    max_accuracy_drop: in the unit of the metric: 0.01 is one point of accuracy.
    flash, ram: bytes on a microcontroller. latency: cycles on a Cortex-M4 (instructions on other
        Cortex-M), seconds on x86-64, multiply-accumulates elsewhere. The loop stops when all that
        are given are met; without any it goes as far as the accuracy allows.
    method: "scalpel", or the paper's baselines: "traditional", single weights and CSR in every
        layer, and "optimized", which leaves a layer dense where CSR is slower.
    mix: "paper", {"conv": "nodes" | "groups", "fc": ...}, or "auto": nodes and groups are both
        tried on the convolutions, and the faster that keeps the accuracy is taken.
    metric: the name of a compiled metric; the first accuracy, else the loss.
    epochs: of training in each step, at most: it ends when the metric is back, with the weights of
        its best epoch, and where they are not good enough goes on for as many epochs once. A
        constant learning rate falls along half a cosine; a schedule of the optimizer starts anew in
        each step.
    step: what a step leaves of a layer, in (0, 1); after a step that was undone, its root.
    min_density: the least that stays of a layer.
    criterion: of nodes, as in `prune_nodes`.
    rounds: at most; the paper's loop has one.
    distillation: how much a classifier learns from the dense model's softened answers, beside your
        own loss (Hinton et al., 2015, temperature 2); 0 for your loss alone.
    layers, skip: what may be pruned, what not, as in `prune`.
    fit_options: further arguments of `fit`, such as batch_size and class_weight.
    callbacks: for every `fit`: a list, or a function that makes one for each.
    representative_data: for int8, as in `export`; 200 training inputs where not given.
    seed: the run is a function of it, as far as TensorFlow's kernels are deterministic; times that
        are measured on a CPU differ from run to run, and with them the order of steps.

    Raises ValueError for a model, data or options that do not fit, and for a folder of another run.
    """
    check_model(model, "scalpel")
    options = Options(
        target=target,
        method=method,
        mix=mix,
        max_accuracy_drop=max_accuracy_drop,
        flash=flash,
        ram=ram,
        latency=latency,
        metric=metric,
        epochs=epochs,
        step=step,
        min_density=min_density,
        criterion=criterion,
        rounds=rounds,
        distillation=distillation,
        seed=seed,
    )
    fit_options = dict(fit_options or {})
    for name in ("x", "y", "epochs", "callbacks", "validation_data", "initial_epoch"):
        if name in fit_options:
            raise ValueError(f"`fit_options` has {name!r}, which `scalpel` itself gives to `fit`.")
    folder = Folder(out)
    keras.utils.set_random_seed(seed)
    everything = Data(data, validation_data, fit_options)
    samples = everything.samples() if representative_data is None else representative_data
    samples = list(samples) if isinstance(samples, (list, tuple)) else [samples]
    folder.lock()
    try:
        meters = Remembering(meter(options, samples), {})
        _begin(folder, model, options, everything, meters, command)
        loop = Loop(model, options, everything, folder, meters, (layers, skip), callbacks)
        if folder.state["status"] != "done":
            loop.run()
            finish.finish(loop, samples)
        met = all(budget[-1] for budget in loop.budgets())
        return ScalpelResult(
            model=folder.load_model(BEST),
            report=finish.summary(loop),
            folder=folder.path,
            state=folder.state,
            met=met,
        )
    finally:
        folder.release()


def _begin(folder, model, options, data, meters, command):
    """The state of a new run, or that of this one, checked."""
    identity = {
        "model": digest(model),
        "data": digest_data(data.samples()),
        "options": options.as_json(),
    }
    if folder.state is not None:
        for name, value in identity.items():
            if folder.state["identity"][name] != value:
                raise ValueError(
                    f"{folder.path} is the folder of a run with other {name}; give the same to go "
                    "on with it, or a new folder."
                )
        if folder.state["status"] != "done":
            print(f"going on after {len(folder.state['steps'])} steps in {folder.path}", flush=True)
        return
    started = time.time()
    plain = copy_model(model, same_layer)
    values = training.evaluate(plain, model, data, options.metric)
    name, mode = training.choose_metric(values)
    if options.metric is not None:
        name, mode = options.metric, training.direction(options.metric)
    baseline = {"metric": values[name], **meters(plain)}
    folder.save_model(copy_model(plain, same_layer), DENSE)
    folder.set_best(DENSE)
    folder.state = {
        "version": 1,
        "status": "running",
        "command": command or "scalpel_tf.scalpel(...)",
        "identity": identity,
        "config": {**options.as_json(), "mix": None, "metric": name, "mode": mode},
        "machine": f"{platform.machine()}, {platform.system()}, Python {sys.version.split()[0]}",
        "versions": {p: version(p) for p in ("scalpel_tf", "tensorflow", "keras", "numpy")},
        "started": time_stamp(),
        "finished": None,
        "seconds": round(time.time() - started, 1),
        "model": model.name,
        "unit": meters.unit,
        "source": meters.source,
        "peak": peak(baseline),
        "mix": None,
        "baseline": baseline,
        "steps": [],
        "best": None,
        "fractions": {},
        "dropout": {},
        "frozen": {},
        "tried": [],
        "round": 0,
        "decisions": [],
        "decided": None,
        "int8": None,
        "exported": None,
    }
    folder.save()
    print(
        f"dense: {name} {values[name]:.4f}, {figure(baseline['time'])} {meters.unit} "
        f"({meters.source})",
        flush=True,
    )
    if not model.compiled:
        warnings.warn(
            f"{model.name!r} is not compiled: it is taken for a classifier of integer labels.",
            stacklevel=3,
        )
