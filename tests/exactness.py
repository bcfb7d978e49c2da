"""Random int8 operators against TensorFlow Lite's reference kernels, bit for bit.

    python tests/exactness.py --models 4000 --board 300 --json out/exactness.json

Single operators (random_operators.py), many side by side in one model and so in one program: all of
them on this machine under the address and undefined-behaviour sanitizers, where no layer may write
to what is not its own, some for each processor of the virtual board, and some in QEMU. Prints how
many of each operator were equal in each place. Of a program in which one was not none counts; its
seed, which makes it again, is printed, and the run fails.
"""

import argparse
import collections
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from operator_models import strands
from random_operators import OPERATORS

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import board, c_source, convert, host, tflite, toolchain
from scalpel_tf.deploy import project as projects
from scalpel_tf.deploy.export import write
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import plan_memory, tensor_bytes
from scalpel_tf.report import save_json, table

BOARDS = ("cortex-m4", "cortex-m0plus", "cortex-m33")
WATCHED_MAIN = Path(__file__).parent / "data" / "watched_main.c"
QEMU_MAIN = Path(__file__).parent / "data" / "qemu_vectors.c"
QEMU = ("qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none")
QEMU_HOST = ("-serial", "none", "-semihosting-config", "enable=on,target=native")
SIDE_BY_SIDE = 60
SAMPLES = 3


def random_chains(first: int, count: int, names: list[str]):
    """([(operator, seed, chain)], the next seed): `count` chains that the exporter accepts."""
    chains, seed = [], first
    while len(chains) < count:
        name = names[seed % len(names)]
        chain = OPERATORS[name](np.random.default_rng([seed, 7]))
        chain = [chain[0], *(_behind(step) for step in chain[1:])]
        try:
            tflite.require_int8(tflite.read(strands([chain])))
            chains.append((name, seed, chain))
        except ValueError as error:
            REFUSED[name, str(error).split(": ")[-1][:60]] += 1
        seed += 1
    return chains, seed


REFUSED = collections.Counter()
FAILED = []


def _behind(step):
    """A step of a chain takes what the one before it made."""
    name, operands, *rest = step
    return (name, [None, *operands[1:]], *rest)


def inputs_of(model: tflite.Model, seed: int) -> list[np.ndarray]:
    """Extremes and noise for every input."""
    rng = np.random.default_rng([seed, 11])
    arrays = []
    for index in model.inputs:
        tensor = model.tensors[index]
        shape = (SAMPLES, *tensor.shape[1:])
        if tensor.dtype == np.float32:
            arrays.append((rng.integers(-300, 300, shape) / 2).astype(np.float32))
            continue
        limits = np.iinfo(tensor.dtype)
        array = rng.integers(limits.min, limits.max, shape, tensor.dtype, endpoint=True)
        array[0] = rng.choice([limits.min, limits.max], shape[1:])
        arrays.append(array)
    return arrays


def check(chains, place: str) -> None:
    """Runs the chains in one program in a place; RuntimeError where an output differs."""
    data = strands([chain for _, _, chain in chains])
    network = tflite.read(data)
    tflite.require_int8(network)
    inputs = inputs_of(network, chains[0][1])
    reference = convert.run_reference(data, inputs)
    target = "cortex-m4" if place in ("host", "qemu") else place
    facts = find_target(target)
    layers = lower(network, facts)
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        write(project, c_source.emit(network, data, layers, facts, inputs, reference))
        if place == "qemu":
            _run_qemu(board.build(project, scratch, target, main=QEMU_MAIN))
            return
        if place == "host":
            program = _build_watched(project, Path(scratch), network, layers)
            outputs = host.run_sanitized(program, inputs)
        else:
            outputs = board.run(board.build(project, scratch, target), inputs).outputs
    for (name, seed, _), actual, expected in zip(chains, outputs, reference, strict=True):
        if not np.array_equal(actual, expected):
            wrong = np.count_nonzero(actual != expected)
            raise RuntimeError(
                f"{name} of seed {seed} differs on {place} in {wrong} of {expected.size} outputs."
            )


def _build_watched(project, scratch, network, layers):
    """A sanitized program that fails where a layer writes to what is not its own."""
    plan, information = plan_memory(network, layers), projects.read(project)
    rows = (
        f"{{model_layer_{i}, {plan.tensors[layer.y]}, {tensor_bytes(network.tensors[layer.y])}, "
        f"{plan.scratch[i]}, {layer.scratch}}},\n"
        for i, layer in enumerate(layers)
    )
    (scratch / "watched_layers.h").write_text("".join(rows))
    (scratch / "model_information.c").write_text(projects.information_source(information))
    arguments = ["-O1", "-g", *host.SANITIZE, f"-I{project}", f"-I{scratch}", WATCHED_MAIN]
    for name in ("inputs", "outputs"):
        sizes = ",".join(str(entry["bytes"]) for entry in information[name])
        arguments.append(f"-D{name[:-1].upper()}_BYTES={sizes}")
    files = [path for path in projects.sources(project) if path.name != "model.c"]
    arguments += [scratch / "model_information.c", *files]
    return toolchain.compile_c(toolchain.host(), arguments, scratch / "watched")


def _run_qemu(elf):
    result = subprocess.run(
        [*QEMU, *QEMU_HOST, "-kernel", elf], capture_output=True, text=True, timeout=120
    )
    if result.stderr.split() != ["0"]:
        raise RuntimeError(f"In QEMU, outputs differ: {result.stderr!r}.")


def run(place: str, models: int, seed: int, names: list[str]) -> collections.Counter:
    """How many of each operator were equal in a place."""
    counts = collections.Counter()
    while models > 0:
        chains, seed = random_chains(seed, min(models, SIDE_BY_SIDE), names)
        try:
            check(chains, place)
            counts.update(name for name, _, _ in chains)
        except RuntimeError as error:
            FAILED.append(str(error))
            print(f"\n{error}", file=sys.stderr)
        models -= len(chains)
        print(f"\r{place}: {counts.total()} equal", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=4000, help="on this machine, sanitized")
    parser.add_argument("--board", type=int, default=300, help="on each virtual processor")
    parser.add_argument("--qemu", type=int, default=120, help="in QEMU, where it is installed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operators", nargs="+", choices=OPERATORS, default=list(OPERATORS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = {"host": options.models, **dict.fromkeys(BOARDS, options.board)}
    if shutil.which(QEMU[0]):
        wanted["qemu"] = options.qemu
    counts = {}
    for number, (place, models) in enumerate(wanted.items()):
        first = options.seed + 1_000_000 * number
        counts[place] = run(place, models, first, options.operators)
    rows = [["operator", *counts]]
    for name in options.operators:
        rows.append([name, *(f"{counts[place][name]:,}" for place in counts)])
    rows.append(["all", *(f"{count.total():,}" for count in counts.values())])
    print(table(rows))
    print("equal to TensorFlow Lite's reference kernels, bit for bit; host: ASan and UBSan")
    if REFUSED:
        print(f"{REFUSED.total():,} drawn models were refused before: {json.dumps(_reasons())}")
    if options.json:
        save_json(options.json, {"equal": counts, "refused": _reasons(), "failed": FAILED})
    sys.exit(bool(FAILED))


def _reasons():
    return {f"{name}: {reason}": count for (name, reason), count in REFUSED.items()}


if __name__ == "__main__":
    main()
