"""Malformed calls of every TensorFlow op, under ASan and UBSan: each gives the right sums or raises
an error with a sentence.  `python tests/fuzz_ops.py --cases 50000` prints the outcomes as JSON.

The calls run in a process of their own, so that a crash leaves the seed that it came from.
"""

import argparse
import collections
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from op_oracle import ORACLES, Places, Refused, TooLarge, expected

DTYPES = (np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.uint16, np.uint32)
DTYPES += (np.int64, ml_dtypes.bfloat16, np.bool_, np.complex64)
NUMBERS = (0, 1, 2, 3, 5, 16, 17, 255, 65535, 65536, -1, -2, 1 << 20, (1 << 31) - 1, 1 << 31)
NUMBERS += (1 << 32, 1 << 40, (1 << 40) + 1, (1 << 62), (1 << 63) - 1, -(1 << 63))
START_SECONDS, SECONDS_PER_CASE = 120, 0.1
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "SCALPEL_TF_PY_OPS": "1",  # else the ops that are built would be there first
}


def valid_call(random):
    """(op, inputs, attributes) of a call that has to succeed."""
    op = random.choice(list(ORACLES))
    rows, width = int(random.integers(1, 9)), int(random.choice([2, 4, 8, 16]))
    n = int(random.choice([0, 1, 2, 3, 7, 16, 17, 40]))
    if op == "grouped_csr_bias_grad":
        return op, [floats(random, *random.integers(0, 5, random.integers(0, 3)), rows)], {}
    convolves = "conv2d" in op
    attributes = {}
    if convolves:
        pairs = ("kernel_size", "strides", "dilations")
        attributes = {name: [int(i) for i in random.integers(1, 4, 2)] for name in pairs}
        attributes["padding"] = str(random.choice(["SAME", "VALID"]))
        image = [int(i) for i in random.integers(1, 9, 3)]
        places = Places((n % 4, *image), rows, **attributes)
        x, out, cols = floats(random, *places.shape), places.out, places.cols
    else:
        cols = int(random.choice([1, 3, 7, 8, 16, 17, 40, 129]))
        x, out = floats(random, n, cols), (n,)
    grad = floats(random, *out, rows)

    values, columns, offsets = matrix(random, rows, cols, width)
    scales = floats(random, rows if values.dtype == np.int8 else 0)
    arrays = [values, columns, offsets, scales]
    if op.endswith("grad_values"):
        return op, [x, grad, columns, offsets], {"width": width, **attributes}
    if op.endswith("grad_inputs"):
        shape = [np.array(x.shape, np.int32)] if convolves else []
        return op, [grad, *arrays, *shape], attributes if convolves else {"cols": cols}
    attributes["activation"] = str(random.choice(["LINEAR", "RELU", "RELU6"]))
    return op, [x, *arrays, floats(random, rows * int(random.integers(2)))], attributes


def matrix(random, rows, cols, width):
    last = max(cols - width, 0)
    starts = [np.flatnonzero(random.random(last + 1) < 1 / width) for _ in range(rows)]
    columns = np.concatenate(starts).astype(random.choice([np.uint16, np.uint32]))
    offsets = np.cumsum([0, *map(len, starts)]).astype(np.uint32)
    kind = (np.float32, ml_dtypes.bfloat16, np.int8)[random.integers(3)]
    scale = 127 if kind == np.int8 else 1
    return (floats(random, len(columns), width) * scale).astype(kind), columns, offsets


def floats(random, *shape):
    return random.uniform(-1, 1, shape).astype(np.float32)


def another_dtype(random, array):
    return array.astype(DTYPES[random.integers(len(DTYPES))])


def another_rank(random, array):
    if random.integers(2):
        return array.reshape(-1)[:1].reshape(()) if array.size else array[None]
    return np.expand_dims(array, int(random.integers(array.ndim + 1)))


def another_size(random, array):
    if not array.ndim:
        return array
    axis = int(random.integers(array.ndim))
    size = int(random.choice([0, 1, array.shape[axis] + 1, max(array.shape[axis] - 1, 0)]))
    if not array.size:
        return np.zeros((*array.shape[:axis], size, *array.shape[axis + 1 :]), array.dtype)
    return np.take(array, np.arange(size), axis, mode="wrap")


def empty_and_huge(random, array):
    """No elements, but one size that a product may overflow on."""
    if not array.ndim:
        return array
    shape = [int(random.choice([0, 1, 7])) for _ in array.shape]
    shape[random.integers(len(shape))] = int(random.choice([1 << 20, 1 << 31, 1 << 40, 1 << 55]))
    shape[random.integers(len(shape))] = 0
    return np.zeros(shape, array.dtype)


def another_number(random, array):
    """In an array of integers; floats are not judged."""
    array = array.copy()
    if array.size and array.dtype.kind in "iu":
        at = random.integers(array.size)
        nudge = int(array.flat[at]) + int(random.integers(-3, 4))
        number = nudge if random.integers(2) else int(random.choice(NUMBERS))
        array.flat[at] = np.array(number % (1 << 64), np.uint64).astype(array.dtype)
    return array


def swapped(random, array):
    return array[::-1].copy() if array.ndim else array


DAMAGES = (another_dtype, another_rank, another_size, empty_and_huge, another_number)
DAMAGES += (another_number, another_number, swapped)
WORDS = ("SAME", "VALID", "same", "", "RELU", "LINEAR", "RELU6", "TANH", "EXPLICIT", "X" * 40)


def another_attribute(random, attribute):
    if isinstance(attribute, str):
        return str(random.choice(WORDS)) if random.integers(4) else int(random.choice(NUMBERS))
    if isinstance(attribute, list) and attribute and random.integers(8):
        attribute = attribute + [1] * int(random.integers(4) == 0)
        attribute[random.integers(len(attribute))] = int(random.choice(NUMBERS))
        return attribute[int(random.integers(4) == 0) :]
    return ["word", [], int(random.choice(NUMBERS))][random.integers(3)]


def damaged_call(seed):
    """(op, inputs, attributes, how many damages were done)."""
    random = np.random.default_rng(seed)
    op, inputs, attributes = valid_call(random)
    damages = int(random.choice([0, 1, 1, 1, 2, 3]))
    for _ in range(damages):
        if attributes and not random.integers(4):
            name = random.choice(list(attributes))
            attributes[name] = another_attribute(random, attributes[name])
        else:
            at = random.integers(len(inputs))
            inputs[at] = DAMAGES[random.integers(len(DAMAGES))](random, inputs[at])
    return op, inputs, attributes, damages


def judge(library, seed):
    """What became of one call; RuntimeError where that is wrong."""
    import tensorflow as tf

    op, inputs, attributes, damages = damaged_call(seed)
    try:
        y, bound = expected(op, inputs, attributes)
        wanted = "right"
    except (Refused, TooLarge) as answer:
        wanted = type(answer).__name__
    if not damages and wanted != "right":
        raise RuntimeError(f"the fuzzer made a call that is not valid: {op}")
    try:
        got = getattr(library, op)(*map(tf.constant, inputs), **attributes).numpy()
    except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
        if wanted == "right":
            raise RuntimeError(f"a valid call of {op} was refused: {error}") from None
        if len(str(error)) < 20:
            raise RuntimeError(f"{op} was refused without a sentence: {error}") from None
        return f"refused by {type(error).__name__}"
    except tf.errors.ResourceExhaustedError:
        if wanted == "right":
            raise RuntimeError(f"no memory for a small call of {op}") from None
        return "refused by ResourceExhaustedError"
    if wanted == "Refused":
        raise RuntimeError(f"{op} took a call that is not valid, and gave {got.shape}")
    if wanted == "TooLarge":
        return "took what is too large to check"
    if got.dtype != np.float32 or got.shape != y.shape:
        raise RuntimeError(f"{op} gave {got.dtype} of {got.shape}, not of {y.shape}")
    if not (np.abs(got - y) <= bound).all():
        raise RuntimeError(f"{op} gave sums that are off by {np.abs(got - y).max()}")
    return "right after damage" if damages else "right"


def hunt(library, first, cases, progress):
    """Prints the outcomes as JSON; the seed of the present case is in the file `progress`."""
    import tensorflow as tf

    ops = tf.load_op_library(library)
    outcomes, failures = collections.Counter(), {}
    file = os.open(progress, os.O_RDWR | os.O_CREAT)
    for seed in range(first, first + cases):
        os.pwrite(file, struct.pack("<q", seed), 0)
        try:
            outcomes[judge(ops, seed)] += 1
        except Exception as error:
            failures[seed] = f"{type(error).__name__}: {error}"
    print(json.dumps({"cases": cases, "outcomes": dict(outcomes), "failures": failures}))


def build_sanitized(folder, isas):
    """(the ops under ASan and UBSan, the libraries that have to be loaded before them).

    isas: pattern of the instruction sets to build; all take minutes.
    """
    import tensorflow as tf

    from scalpel_tf.deploy import kernels, toolchain

    sources, compiler = kernels.sources(), toolchain.host_cxx()
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    include = [f"-I{sources}", "-isystem", tf.sysconfig.get_include()]
    every = set(sources.glob("gcsr_*.cc"))
    files = [file for file in kernels.files() if file not in every]
    files += [*sources.glob(f"gcsr_{isas}.cc"), *sources.glob("tf_*.cc")]
    link = ["-shared", *tf.sysconfig.get_link_flags()]
    library = Path(folder) / "libsanitized_ops.so"
    arguments = [*flags, "-fPIC", "-pthread", *include]
    toolchain.link_cxx(compiler, arguments, files, link, library)
    names = [f"-print-file-name={name}" for name in ("libasan.so", "libubsan.so")]
    found = [subprocess.run([*compiler.command, name], capture_output=True) for name in names]
    return library, [os.path.realpath(result.stdout.decode().strip()) for result in found]


def run(cases, first=0, isas="*"):
    """What `hunt` prints, of a sanitized build; RuntimeError with the seed of a crash."""
    with tempfile.TemporaryDirectory() as folder:
        library, preload = build_sanitized(folder, isas)
        if not all(map(os.path.isabs, preload)):
            raise RuntimeError("The C++ compiler here has no sanitizers that can be loaded.")
        progress = Path(folder) / "progress"
        command = [sys.executable, __file__, "--hunt", library, progress]
        command += ["--cases", cases, "--seed", first]
        try:
            result = subprocess.run(
                [str(word) for word in command],
                capture_output=True,
                check=True,
                env={**os.environ, **ENVIRONMENT, "LD_PRELOAD": " ".join(preload)},
                timeout=START_SECONDS + cases * SECONDS_PER_CASE,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            seed = struct.unpack("<q", progress.read_bytes())[0] if progress.exists() else first
            report = (error.stderr or b"").decode(errors="replace")[-6000:]
            raise RuntimeError(f"Seed {seed} ended the process or never ended:\n{report}") from None
        return json.loads(result.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--hunt", nargs=2, metavar=("LIBRARY", "PROGRESS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hunt:
        return hunt(options.hunt[0], options.seed, options.cases, options.hunt[1])
    answer = run(options.cases, options.seed)
    print(json.dumps(answer, indent=2))
    sys.exit(1 if answer["failures"] else 0)


if __name__ == "__main__":
    main()
