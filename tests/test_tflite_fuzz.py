"""Thousands of damaged files: the reader answers with a Model or a ValueError, soon and in small
memory. Runs as a process of its own, so that a limit on memory or a crash cannot take pytest along.
"""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
CASES = 6000
SECONDS_PER_CASE = 3
EXTRA_MEMORY = 128 << 20


def flip_bytes(data, rng):
    for at in rng.integers(len(data), size=rng.integers(1, 9)):
        data[at] ^= 1 << rng.integers(8)


def overwrite_bytes(data, rng):
    at = rng.integers(len(data))
    data[at : at + 4] = rng.integers(256, size=4, dtype=np.uint8)[: len(data) - at]


def blow_up_words(data, rng):
    """Small words are lengths, offsets and indices: make some of them large or negative."""
    words = data[: len(data) // 4 * 4].view("<u4")
    small = np.flatnonzero(words < 4096)
    for at in rng.choice(small, size=rng.integers(1, 4)):
        words[at] = rng.choice([0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(data), 1 << 20, 0xFFFF, 0])


def nudge_words(data, rng):
    words = data[: len(data) // 4 * 4].view("<u4")
    small = np.flatnonzero(words < 4096)
    for at in rng.choice(small, size=rng.integers(1, 4)):
        words[at] += rng.integers(1, 64, dtype=np.uint32)


def splice(data, rng):
    size = rng.integers(1, 128)
    source, target = rng.integers(len(data) - size, size=2)
    data[target : target + size] = data[source : source + size].copy()


def zero(data, rng):
    at = rng.integers(len(data))
    data[at : at + rng.integers(1, 256)] = 0


MUTATIONS = (flip_bytes, overwrite_bytes, blow_up_words, nudge_words, splice, zero)


def mutant(original, seed):
    """(bytes, what was done to them) for one seed; every seventh file is cut off."""
    rng = np.random.default_rng(seed)
    data = np.frombuffer(original, np.uint8).copy()
    chosen = [MUTATIONS[i] for i in rng.integers(len(MUTATIONS), size=rng.integers(1, 4))]
    for mutation in chosen:
        mutation(data, rng)
    names = [mutation.__name__ for mutation in chosen]
    if seed % 7 == 0:
        data = data[: rng.integers(len(data))]
        names.append("truncate")
    data[4:8] = np.frombuffer(b"TFL3", np.uint8)[: max(0, len(data) - 4)]
    return data.tobytes(), names


def hunt(paths, cases):
    """Prints, as JSON, how many mutants were read and refused, and the seeds of all others."""
    from scalpel_tf.deploy.int8 import require_int8
    from scalpel_tf.deploy.tflite import read

    originals = [Path(path).read_bytes() for path in paths]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + EXTRA_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    found = {"accepted": 0, "refused": 0, "slowest": 0.0, "wrong": []}
    for seed in range(cases):
        data, names = mutant(originals[seed % len(originals)], seed)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_CASE)
        start = time.monotonic()
        try:
            require_int8(read(data))
            found["accepted"] += 1
        except ValueError as error:
            found["refused"] += 1
            if "\n" in str(error):
                found["wrong"].append([seed, names, f"not one sentence: {error}"])
        except BaseException as error:
            found["wrong"].append([seed, names, repr(error)])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        found["slowest"] = max(found["slowest"], time.monotonic() - start)
    print(json.dumps(found))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    import keras

    from scalpel_tf.deploy.convert import convert

    keras.utils.set_random_seed(0)
    layers = keras.layers
    convolutional = [
        layers.Conv2D(3, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.DepthwiseConv2D(3, strides=2),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ]
    dense = [layers.Dense(9, activation="relu"), layers.Dense(5), layers.ReLU(6.0)]
    folder, paths = tmp_path_factory.mktemp("fuzz"), []
    for name, shape, stack in (("conv", (12, 11, 2), convolutional), ("dense", (13,), dense)):
        model = keras.Sequential([keras.Input(shape), *stack])
        samples = np.random.default_rng(0).normal(size=(10, *shape)).astype(np.float32)
        paths.append(folder / f"{name}.tflite")
        paths[-1].write_bytes(convert(model, samples))
    return paths


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by Linux's /proc and RLIMIT_AS")
def test_mutants_are_read_or_refused(models):
    command = [sys.executable, "-m", "tests.test_tflite_fuzz", str(CASES), *map(str, models)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["wrong"] == [], "seed, mutations and what escaped; mutant(file, seed) remakes it"
    assert found["accepted"] + found["refused"] == CASES
    # Both happen: damage to a weight is no damage, and most other damage is seen.
    assert min(found["accepted"], found["refused"]) > CASES // 20, found
    assert found["slowest"] < 1, found


if __name__ == "__main__":
    hunt(sys.argv[2:], int(sys.argv[1]))
