"""Proof of an export: its C beside TensorFlow Lite's reference kernels, here and on the board."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalpel_tf.core.targets import Target
from scalpel_tf.deploy import board, c_source, convert, host, qemu, stack, tflite, toolchain
from scalpel_tf.deploy.elf import load
from scalpel_tf.deploy.emulator import Machine
from scalpel_tf.deploy.lower import lower

TEST_VECTORS = 8


@dataclass(frozen=True)
class OnBoard:
    """What the virtual board found; zeros and None where there is none.

    where: what it is.  program: bytes of flash.  stack: measured.  deepest: its bound (stack.py).
    """

    where: tuple[str, ...] = ()
    program: int = 0
    stack: int = 0
    deepest: int | None = None


def probes(network: tflite.Model) -> list[np.ndarray]:
    """Inputs that reach every corner of a model: extremes, zeros, and noise of a fixed seed."""
    rng = np.random.default_rng(0)
    arrays = []
    for index in network.inputs:
        tensor = network.tensors[index]
        shape = (TEST_VECTORS, *tensor.shape[1:])
        if tensor.dtype.kind == "f":
            low, high = -1.0, 1.0
            array = rng.uniform(low, high, shape).astype(tensor.dtype)
        else:
            low, high = np.iinfo(tensor.dtype).min, np.iinfo(tensor.dtype).max
            array = rng.integers(low, high, shape, tensor.dtype, endpoint=True)
        array[0], array[1] = low, high
        arrays.append(array)
    return arrays


def here(
    scratch: Path,
    network: tflite.Model,
    data: bytes,
    target: Target,
    inputs: list[np.ndarray],
    rounding: str,
) -> tuple[list[np.ndarray], tuple[str, ...], int]:
    """(the outputs that the project must give, where they were proved, the constants' CRC-32).

    The interpreter that is installed rounds once or twice; the C that rounds alike must equal it.
    """
    reference = convert.run_reference(data, inputs)

    def outputs_with(way):
        layers = lower(network, target, rounding=way)
        project = scratch / way
        files = c_source.emit(network, data, layers, target, inputs, reference, way, crc=0)
        write(project, files)
        library = host.build(project, project)
        return host.invoke(library, inputs), host.crc(library)

    outputs, crc = outputs_with(rounding)
    where = "this machine"
    if not _equal(outputs, reference):
        other = "double" if rounding == "single" else "single"
        where += f" (with {other} rounding)"
        _require_equal(outputs_with(other)[0], reference, "TensorFlow Lite's")
    if rounding == "double" and importlib.util.find_spec("tflite_micro"):
        _require_equal(outputs, convert.run_tflite_micro(data, inputs), "TensorFlow Lite Micro's")
        where += " (TensorFlow Lite Micro)"
    return outputs, (where,), crc


def on_board(
    project: Path, scratch: Path, target: str, inputs: list[np.ndarray], outputs: list[np.ndarray]
) -> OnBoard:
    """Runs a project on the virtual board, if there is one here; RuntimeError where it differs.

    What the board does not know, Helium, runs in QEMU, where that is installed and has the room.
    """
    if not _board_is_here(target):
        return OnBoard()
    elf = board.build(project, scratch, target)
    result = board.run(elf, inputs)
    _require_alike(result.outputs, outputs, f"A virtual {target}")
    if "model_check" in (program := load(elf)).functions:
        _require_intact(program, target)
    where, stack_bytes = (f"a virtual {target} ({result.compiler})",), result.stack_bytes
    if target in board.BUILT_FOR:
        elf = board.build(project, scratch / target, target, built_for=target)
        if qemu.available() and qemu.has_room(board.sizes(elf), target):
            result = qemu.run(project, inputs, target=target)
            _require_alike(result.outputs, outputs, f"QEMU's {target}")
            where += (f"QEMU's {target} ({result.compiler})",)
            stack_bytes = result.stack_bytes
    sizes = board.sizes(elf)
    return OnBoard(
        where=where,
        program=sizes["text"] + sizes["data"],
        stack=stack_bytes,
        deepest=_deepest(load(elf)),
    )


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the files, by relative path, into a folder that is made where it is missing."""
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


def _require_alike(found, outputs, machine):
    if not _equal(found, outputs):
        raise RuntimeError(
            f"{machine} gives other outputs than this machine; nothing was written. "
            "Please report the model."
        )


def _require_intact(program, target):
    if Machine(program, target, budget=10**9).call("model_check"):
        raise RuntimeError(
            f"The CRC of the constants on a virtual {target} is another than on this machine; "
            "nothing was written. Please report the model."
        )


def _deepest(program):
    try:
        return stack.worst_stack(program, "model_invoke")
    except ValueError:  # what cannot be bounded is measured only
        return None


def _require_equal(outputs, reference, whose):
    if not _equal(outputs, reference):
        wrong = sum(np.count_nonzero(a != b) for a, b in zip(outputs, reference, strict=True))
        raise RuntimeError(
            f"The C of this model differs from {whose} kernels in {wrong} of "
            f"{sum(b.size for b in reference)} test outputs; nothing was written. "
            "Please report the model."
        )


def _board_is_here(target):
    """Whether the emulator is installed, and a compiler for the target."""
    try:
        toolchain.arm(target)
    except RuntimeError:
        return False
    return all(map(importlib.util.find_spec, ("unicorn", "capstone", "elftools")))


def _equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
