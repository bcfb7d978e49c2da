"""Milliseconds of a training step, wrapped beside unwrapped, and of one mask update.

    python benchmarks/train_step.py --json out.json

LeNet-5 with every layer wrapped, trained by `fit` with callbacks.Prune, against the same network
unwrapped: both in one process, in turns, the ratio taken pair by pair. Limits: a step costs at most
1.15 times the unwrapped one, and new masks for a kernel of 9216 x 4096 take less than 1 s.
"""

import argparse
import os
import platform
import statistics
import time
from importlib.metadata import version

import keras
import numpy as np
import tensorflow as tf

from scalpel_tf.report import save_json, table
from scalpel_tf.train.callbacks import Prune, update_masks
from scalpel_tf.train.wrap import prune
from scalpel_tf.zoo.networks import lenet_5

STEPS = 25
RATIO = 0.9


class StepTimer(keras.callbacks.Callback):
    """Notes when each step begins, so that a step's time includes its callbacks."""

    def on_train_begin(self, logs=None):
        self.begins = []

    def on_train_batch_begin(self, batch, logs=None):
        self.begins.append(time.perf_counter())

    def milliseconds(self) -> float:
        """The mean step, without the first, which fetches the data pipeline."""
        return 1000 * (self.begins[-1] - self.begins[1]) / (len(self.begins) - 2)


def step_time(model, data, callbacks) -> float:
    timer = StepTimer()
    model.fit(data, steps_per_epoch=STEPS, shuffle=False, verbose=0, callbacks=[*callbacks, timer])
    return timer.milliseconds()


def train_step(batch: int, pairs: int) -> dict:
    """The row of one batch size."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.random((batch, 28, 28, 1), np.float32)
    labels = rng.integers(0, 10, batch)
    data = tf.data.Dataset.from_tensors((images, labels)).cache().repeat()
    plain = lenet_5()
    wrapped = prune(plain, ratio=RATIO)
    for model in (plain, wrapped):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
        step_time(model, data, [])
    times = [
        (step_time(plain, data, []), step_time(wrapped, data, [Prune()])) for _ in range(pairs)
    ]
    ratios = [unwrapped / ours for unwrapped, ours in times]
    unwrapped, ours = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        **row("train-step-LeNet-5", batch, ours, spread(ratios)),
        "rivals": {"unwrapped": unwrapped},
        "rival": "unwrapped",
        "ratio": statistics.median(ratios),
    }


def mask_update(repeats: int) -> dict:
    """The row of new masks for one kernel of 9216 x 4096, from scores to assigned weights."""
    keras.utils.set_random_seed(0)
    model = prune(keras.Sequential([keras.Input((9216,)), keras.layers.Dense(4096)]), ratio=RATIO)
    kernel = model.layers[0].layer.kernel
    start, times = kernel.numpy(), []
    for _ in range(repeats):
        kernel.assign(start)
        begin = time.perf_counter()
        update_masks(model, 0)
        times.append(1000 * (time.perf_counter() - begin))
    return row("mask-update-9216x4096", 1, statistics.median(times), spread(times))


def row(case: str, batch: int, milliseconds: float, spread: float) -> dict:
    """A row in the format that all benchmarks share; 0 threads: as many as there are cores."""
    return {
        "case": case,
        "target": "host",
        "kernel": "dense",
        "density": round(1 - RATIO, 3),
        "dtype": "float32",
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count(),
        "batch": batch,
        "ours": milliseconds,
        "unit": "ms",
        "rivals": {},
        "spread": spread,
        "source": "measured",
    }


def spread(values) -> float:
    """The distance between the quartiles."""
    low, _, high = statistics.quantiles(values, n=4)
    return high - low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=21, help="paired runs of a batch size")
    parser.add_argument("--json", help="where to write the rows")
    arguments = parser.parse_args()

    rows = [train_step(batch, arguments.pairs) for batch in (64, 128)]
    rows.append(mask_update(repeats=7))
    lines = [["case", "batch", "ms", "unwrapped ms", "ours / unwrapped", "spread"]]
    for entry in rows:
        rival, ratio = entry["rivals"].get("unwrapped"), entry.get("ratio")
        lines.append(
            [
                entry["case"],
                str(entry["batch"]),
                f"{entry['ours']:.2f}",
                f"{rival:.2f}" if rival else "-",
                f"{1 / ratio:.3f}" if ratio else "-",
                f"{entry['spread']:.3f}",
            ]
        )
    print(table(lines))
    if arguments.json:
        versions = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
        machine = f"{platform.platform()}, {os.cpu_count()} cores"
        save_json(arguments.json, {"machine": machine, "versions": versions, "rows": rows})


if __name__ == "__main__":
    main()
