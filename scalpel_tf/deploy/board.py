"""The virtual board: a project built for a Cortex-M, run in Unicorn, counted layer by layer.

Instruction counts are exact; an instruction skipped by its condition counts.  Cycles are modelled
(timing.py), for the Cortex-M4 only.  No instrumentation is in the program: a layer begins where
its function model_layer_<i> begins, and ends back in model_invoke.  The branch into a layer thus
counts in the layer, the branch back outside of it.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalpel_tf.deploy import project as projects
from scalpel_tf.deploy import toolchain
from scalpel_tf.deploy.elf import Program, load
from scalpel_tf.deploy.emulator import PAINT, Machine
from scalpel_tf.deploy.timing import BRANCH, block_cost, decode

FIRMWARE = Path(__file__).parent / "firmware"
FLAGS = ("-O2", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
MODELLED = "cortex-m4"

# The emulator knows no Armv8.1-M: for an M55 the board builds the part that an M33 has as well.
BUILT_FOR = {"cortex-m55": "cortex-m33"}
MAY_BE_UNALIGNED = {"ldr", "ldrh", "ldrsh", "ldrt", "str", "strh"}


@dataclass(frozen=True)
class LayerCount:
    """One layer's instructions and modelled cycles (None where there is no model)."""

    name: str
    instructions: int
    cycles: int | None


@dataclass(frozen=True)
class BoardRun:
    """Outputs, (samples, ...) per model output, and the counts of the first sample.

    instructions, cycles: model_invoke from entry to return, at least the sum of the layers.
    stack_bytes: the deepest that model_invoke reached.  compiler: who built the program.
    """

    outputs: list[np.ndarray]
    layers: tuple[LayerCount, ...]
    instructions: int
    cycles: int | None
    stack_bytes: int
    compiler: str
    source: str = "modelled"


def build(
    project: Path | str,
    out: Path | str,
    target: str,
    *,
    compiler: str | None = None,
    main: Path = FIRMWARE / "board_main.c",
    built_for: str | None = None,
) -> Path:
    """Build a project for the board; returns the ELF, out/board-<target>.elf.

    target: a key of toolchain.ARM_TARGETS.  compiler: "gcc", "zig", or None for what is there.
    main: the C file with the arena and main, which the board never enters.  built_for: the
    processor whose code is made, by default one that the board can run.
    ValueError for a folder that is no project; RuntimeError where the compiler is missing or fails.
    """
    project = Path(project)
    information = projects.read(project)
    files = projects.sources(project)
    built_for = built_for or BUILT_FOR.get(target, target)
    found = toolchain.arm(built_for, compiler)
    words = found.description + (f" for {built_for}" if built_for != target else "")
    information = {**information, "target": target, "compiler": words}
    with tempfile.TemporaryDirectory() as scratch:
        embedded = Path(scratch) / "model_information.c"
        embedded.write_text(projects.information_source(information))
        arguments = [*FLAGS, f"-I{projects.source_folder(project)}", "-T", FIRMWARE / "board.ld"]
        arguments += [main, FIRMWARE / "startup.c", embedded, *files]
        return toolchain.compile_c(found, arguments, Path(out) / f"board-{target}.elf")


def sizes(elf: Path | str) -> dict[str, int]:
    """Bytes of an ELF of `build`: {"text", "data", "bss"}, as the `size` command counts them.

    Flash is text + data; RAM is data + bss, the arena included and the stack not.
    """
    return load(elf).sizes


def run(elf: Path | str, inputs: list[np.ndarray], *, budget: int = 2_000_000_000) -> BoardRun:
    """Run every sample and count the first.

    elf: of `build`.  inputs: one array per model input, first axis samples.  budget: instructions
    a sample may take.  ValueError for wrong inputs or another ELF; RuntimeError where the program
    faults, hangs, or makes an unaligned access that the processor would not allow.
    """
    program = load(elf)
    information, arena = program.information, program.symbols["board_arena"]
    arrays = projects.check_inputs(information, inputs)
    outputs = projects.empty_outputs(information, len(arrays[0]))
    layers = _layers(program)
    outside = len(information["layers"])
    machine = Machine(program, information["target"], budget=budget)
    machine.write(arena, bytes([PAINT]) * information["arena_bytes"])
    sources = [machine.call("model_input", arena, i) for i in range(len(arrays))]
    results = [machine.call("model_output", arena, i) for i in range(len(outputs))]

    def give(sample):
        for address, array in zip(sources, arrays, strict=True):
            machine.write(address, array[sample].tobytes())

    for sample in range(len(arrays[0])):
        give(sample)
        if sample == 0:
            counts, stack = machine.call_counted(
                "model_invoke", arena, layer_at=layers, outside=outside
            )
        else:
            machine.call("model_invoke", arena)
        for address, array in zip(results, outputs, strict=True):
            data = machine.read(address, array[sample].nbytes)
            array[sample] = np.frombuffer(data, array.dtype).reshape(array.shape[1:])

    give(0)
    accesses = machine.call_accesses("model_invoke", arena, outside=outside)
    instructions, cycles = _price(program, machine, np.concatenate([counts, accesses]))
    modelled = information["target"] == MODELLED
    return BoardRun(
        outputs=outputs,
        layers=tuple(
            LayerCount(entry["name"], instructions[i], cycles[i] if modelled else None)
            for i, entry in enumerate(information["layers"])
        ),
        instructions=sum(instructions),
        cycles=sum(cycles) if modelled else None,
        stack_bytes=stack,
        compiler=information["compiler"],
    )


def _price(program: Program, machine: Machine, counts: np.ndarray) -> tuple[list[int], list[int]]:
    """Instructions and cycles by layer, the last entry for what is outside of layers."""
    instructions, cycles = ([0] * (len(program.information["layers"]) + 1) for _ in range(2))
    cost: dict[tuple[int, int], tuple[int, int]] = {}
    for address, size, layer, extra, runs in counts.tolist():
        if size == 0:
            _require_unaligned(program, machine, address)
            cycles[layer] += extra * runs
            continue
        if (address, size) not in cost:
            cost[address, size] = block_cost(machine.read(address, size), address)
        executed, price = cost[address, size]
        instructions[layer] += executed * runs
        cycles[layer] += (price + BRANCH * extra) * runs
    return instructions, cycles


def _require_unaligned(program: Program, machine: Machine, address: int) -> None:
    """RuntimeError where the processor faults although the emulator does not."""
    target = program.information["target"]
    instruction = next(decode(machine.read(address, 4), address))
    name = instruction.mnemonic.split(".")[0] if instruction is not None else "an instruction"
    if target == "cortex-m0plus" or name not in MAY_BE_UNALIGNED:
        raise RuntimeError(
            f"The program makes an unaligned access by {name.upper()} "
            f"{program.where(address)}, which is a fault on a {target}."
        )


def _layers(program: Program) -> dict[int, int]:
    """Address -> layer that starts there; any address of model_invoke -> number of layers."""
    number = len(program.information["layers"])
    entries = {}
    for name, addresses in program.functions.items():
        # A compiler may specialise a static function and rename it.
        match = re.fullmatch(r"model_layer_(\d+)(\.(isra|constprop)\.\d+)*", name)
        if match:
            entries[int(match.group(1))] = addresses.start
    missing = set(range(number)) - entries.keys()
    if missing or len(set(entries.values())) != len(entries):
        which = f"model_layer_{min(missing)}" if missing else "one function for each layer"
        raise ValueError(f"The program lacks {which}; layers are counted by their functions.")
    outside = dict.fromkeys(program.functions["model_invoke"][::2], number)
    return outside | {address: layer for layer, address in entries.items()}
