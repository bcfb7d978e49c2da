"""Rewritten models beside the originals in a real TensorFlow Lite Micro, bit for bit.

    python tests/tflm_tree.py --tflm /path/to/tflite-micro

The tree is the user's own, built by its own makefile:

    make -f tensorflow/lite/micro/tools/make/Makefile microlite

which downloads flatbuffers, gemmlowp and ruy and makes gen/*/lib/libtensorflow-microlite.a; another
place of the library is --library. Our operators are compiled with -Wall -Wextra -Werror. Damaged
constants and options have to be refused, or at least be harmless, under ASan and UBSan.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import fc_model
import flatbuffers
import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras.layers import Conv2D
from models import conv_model, dense_model, int8

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import convert, tflite, tflm
from scalpel_tf.deploy.verify import write

RUNNER = Path(__file__).parent / "tflm_runner.cc"
SAMPLES = 200
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
WARNINGS = ("-Wall", "-Wextra", "-Werror")
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard")
CXX = ("-std=c++17", "-fno-rtti", "-fno-exceptions", "-DTF_LITE_STATIC_MEMORY")


def image_model(*layers, shape, density):
    """The int8 model of convolutions whose kernels have random zero groups of 4 in a filter."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = keras.Sequential([keras.Input(shape), *layers])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = layer.kernel.numpy()
            flat = kernel.reshape(-1, kernel.shape[-1])
            keep = np.repeat(rng.random((-(-len(flat) // 4), flat.shape[1])) < density, 4, 0)
            layer.kernel.assign(np.where(keep[: len(flat)], flat, 0).reshape(kernel.shape))
            layer.bias.assign(rng.normal(0, 0.1, kernel.shape[-1]))
    return convert.convert(model, rng.normal(0, 1, (50, *shape)).astype(np.float32))


def layer_model(**options):
    """A single fully connected layer made by hand, with scales of every kind."""
    return fc_model.as_tflite(fc_model.model([fc_model.layer(**options)]))


MODELS = {
    "two sparse layers": lambda: int8(dense_model),
    "dense and sparse": lambda: int8(dense_model, (300, 10), 784, 0.06),
    "a dense layer": lambda: int8(dense_model, (20,), 37, 1.0),
    "every other operator": lambda: int8(conv_model),
    "groups of 8": lambda: layer_model(out=33, cols=2000, density=0.05, width=8, seed=1),
    "long rows": lambda: layer_model(out=9, cols=5003, density=0.02, width=4, seed=2),
    "shifts from 0 to 24": lambda: layer_model(
        out=64, cols=61, density=0.3, width=4, seed=3, right_shift=12, spread=12
    ),
    "ties": lambda: layer_model(
        out=64, cols=128, density=0.2, width=4, seed=4, right_shift=6, dyadic=True
    ),
    "convolutions": lambda: image_model(
        Conv2D(20, 5, activation="relu"),
        keras.layers.MaxPooling2D(),
        Conv2D(17, 3, strides=2, padding="same", activation="relu6"),
        Conv2D(8, 1),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
        shape=(28, 28, 1),
        density=0.2,
    ),
    "wide convolutions": lambda: image_model(
        Conv2D(12, (3, 2), dilation_rate=2, padding="same"),
        Conv2D(33, (1, 3), strides=(3, 1), activation="relu"),
        Conv2D(5, (2, 4), padding="same"),
        shape=(9, 40, 6),
        density=0.1,
    ),
    "no weights at all": lambda: layer_model(out=5, cols=16, density=0.0, width=4, seed=5),
}


def compile_runner(files, folder, tree, library, extra=("-O2",)):
    """The program of a folder of `tflm.emit`: our sources without a warning, and the library."""
    write(folder, files)
    objects = []
    for source in [RUNNER, *folder.glob("*.cc"), *folder.glob("runtime/*.c")]:
        compiler = ("gcc", "-std=c99", "-Wconversion") if source.suffix == ".c" else ("g++", *CXX)
        objects.append(folder / f"{source.name}.o")
        call(*compiler, *WARNINGS, *extra, *includes(folder, tree), "-c", source, "-o", objects[-1])
    call("g++", *extra, "-Wl,--gc-sections", *objects, library, "-o", folder / "runner")
    return folder / "runner"


def cross_compile(folder, tree):
    """The same sources for a Cortex-M4, whose kernels are others, where there is a compiler."""
    if shutil.which("arm-none-eabi-g++") is None:
        return "no compiler for a Cortex-M4 here"
    for source in [*folder.glob("*.cc"), *folder.glob("runtime/*.[cS]")]:
        words = {".c": ("gcc", "-std=c99", "-Wconversion"), ".S": ("gcc",)}
        name, *flags = words.get(source.suffix, ("g++", *CXX))
        flags += [*CORTEX_M4, *WARNINGS, "-O2", *includes(folder, tree), "-c", source]
        call(f"arm-none-eabi-{name}", *flags, "-o", folder / "cross.o")
    return "no warning for a Cortex-M4"


def includes(folder, tree):
    """Where headers are; those that are not ours are not warned about."""
    downloads = tree / "tensorflow/lite/micro/tools/make/downloads"
    theirs = [tree, downloads / "flatbuffers/include", downloads / "gemmlowp", downloads / "ruy"]
    return [f"-I{folder}", *(word for path in theirs for word in ("-isystem", path))]


def call(*command):
    """What a program prints; SystemExit with its errors where it fails."""
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, errors="replace")
    if result.returncode:
        lines = result.stderr.splitlines()
        shown = [line for line in lines if re.search("error:|undefined", line)] or lines
        sys.exit(f"{Path(command[0]).name} failed with {result.returncode}: {shown[0]}")
    return result.stdout


def run(runner, inputs, models, folder):
    """(what is printed by model, the outputs in a row)."""
    (folder / "inputs").write_bytes(inputs)
    paths = []
    for number, model in enumerate(models):
        paths.append(folder / f"{number}.tflite")
        paths[-1].write_bytes(model)
    lines = call(runner, folder / "inputs", folder / "outputs", *paths).split()
    return lines, (folder / "outputs").read_bytes()


def compare(name, data, target, tree, library, folder):
    """Prints a line; the number of outputs that differ."""
    network = tflite.read(data)
    found = tflm.sparse_operators(network, target)
    model = tflm.rewritten(data, found)
    size = int(np.prod(network.tensors[network.inputs[0]].shape))
    inputs = np.random.default_rng(0).integers(-128, 128, SAMPLES * size).astype(np.int8)
    inputs[:size], inputs[size : 2 * size] = -128, 127
    plain = tflm.emit(data, target, {})
    before = compile_runner(plain, folder / "before", tree, library)
    files = tflm.emit(data, target, found)
    after = compile_runner(files, folder / "after", tree, library)
    (used, *_), expected = run(before, inputs.tobytes(), [data], folder / "before")
    (now, *_), got = run(after, inputs.tobytes(), [model], folder / "after")
    wrong = sum(a != b for a, b in zip(expected, got, strict=True))
    bound = tflm.arena_bytes(tflite.read(model), {i: s.scratch for i, s in found.items()})
    plain_bound = tflm.arena_bytes(network, {})
    custom = ", ".join(sorted({s.kernel for s in found.values()})) or "none"
    print(
        f"{name:<22} {len(found)} custom ({custom}): {len(expected):,} bytes of outputs, "
        f"{wrong} differ; model {len(data):,} -> {len(model):,} bytes, "
        f"arena {int(used):,} -> {int(now):,} (said: {bound:,})"
    )
    if "sparse" in name or "convolutions" in name:
        print(f"{'':<22} {cross_compile(folder / 'after', tree)}")
    if int(now) > bound or int(used) > plain_bound:
        print("    the arena is larger than was said")
        wrong += 1
    return wrong


def damaged(model, seed):
    """The model with some bytes of a custom operator's constants or options replaced."""
    rng = np.random.default_rng(seed)
    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = tree.subgraphs[0]
    custom = [operator for operator in graph.operators if operator.customOptions is not None]
    operator = custom[rng.integers(len(custom))]
    arrays = [tree.buffers[graph.tensors[i].buffer].data for i in operator.inputs[1:]]
    chosen = [*arrays, operator.customOptions][rng.integers(len(arrays) + 1)]
    changed = np.array(chosen, np.uint8)
    for _ in range(rng.integers(1, 4)):
        changed[rng.integers(len(changed))] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    for buffer in tree.buffers:
        if buffer.data is chosen:
            buffer.data = changed
    if operator.customOptions is chosen:
        operator.customOptions = changed
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tflm", type=Path, required=True)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--damages", type=int, default=400)
    options = parser.parse_args()
    tree = options.tflm.resolve()
    built = sorted(tree.glob("gen/*/lib/libtensorflow-microlite.a"))
    library = options.library or (built[0] if built else None)
    if library is None or not library.is_file():
        sys.exit(f"{tree} has no libtensorflow-microlite.a; build it first, see {__file__}.")
    target = find_target("cortex-m4")
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in MODELS.items():
            wrong += compare(name, make(), target, tree, library, Path(scratch) / name)
        wrong += harmed(target, tree, library, Path(scratch) / "damaged", options.damages)
    if wrong:
        sys.exit(f"{wrong} differences.")


def harmed(target, tree, library, folder, count):
    """Runs damaged models under the sanitizers; `call` ends the program at a finding."""
    for name in ("two sparse layers", "long rows", "convolutions", "wide convolutions"):
        data = MODELS[name]()
        found = tflm.sparse_operators(tflite.read(data), target)
        model = tflm.rewritten(data, found)
        files = tflm.emit(data, target, found)
        runner = compile_runner(files, folder / name, tree, library, SANITIZE)
        models = [damaged(model, seed) for seed in range(count)]
        lines, _ = run(runner, bytes(20000), models, folder / name)
        refused = lines.count("refused")
        print(f"{name:<22} damaged {count} times: {refused} refused, no sanitizer found anything")
        if len(lines) != count or not refused:
            return 1
    return 0


if __name__ == "__main__":
    main()
