"""An exported project, built for a Cortex-M with all its extensions and run in QEMU.

QEMU knows Armv8.1-M, which the virtual board (board.py) does not: this runs the Helium kernels.
It counts instructions, by its own clock: with -icount shift=5 every instruction takes 32 ns, an
instruction skipped by its predicate too.  There are no cycles.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalpel_tf.deploy import layouts, toolchain
from scalpel_tf.deploy import project as projects

FIRMWARE = Path(__file__).parent / "firmware"
BOARD = layouts.SKELETONS / "cmake"
FLAGS = ("-O2", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
STACK_BYTES = 16384
MARGIN = 8192  # bytes, for qemu_main.c, board.c and what its loops need of the C library
CALIBRATION = 20000  # instructions, see qemu_main.c
SECONDS = 300


@dataclass(frozen=True)
class QemuRun:
    """Outputs, (samples, ...) per model output, and the instructions of the last sample's layers.

    The call of a layer's function and its return count in the layer, and two or three instructions
    that read the clock.  stack_bytes: the deepest that a layer reached.  compiler: who built the
    program.
    """

    outputs: list[np.ndarray]
    instructions: tuple[int, ...]
    stack_bytes: int
    compiler: str
    source: str = "emulated"


def available() -> bool:
    """Whether there is a qemu-system-arm here."""
    return shutil.which("qemu-system-arm") is not None


def has_room(sizes: dict[str, int], target: str) -> bool:
    """Whether a program of such sizes (of `board.sizes`) fits the memories that `run` has."""
    flash, ram = layouts.MACHINES[target][1][1::2]
    own = sizes["text"] + sizes["data"], sizes["data"] + sizes["bss"] + STACK_BYTES
    return own[0] + MARGIN < flash and own[1] + MARGIN < ram


def run(
    project: Path | str,
    inputs: list[np.ndarray],
    *,
    target: str,
    compiler: str | None = None,
    flags: tuple[str, ...] = (),
) -> QemuRun:
    """Builds a project for one of QEMU's boards and runs every sample.

    inputs: one array per model input, first axis samples.  target: a key of toolchain.ARM_TARGETS.
    compiler: "gcc", "zig", or None for what is there.  flags: more of them for the compiler, as
    -mcpu=cortex-m55+nomve for GCC.
    ValueError for wrong inputs or a folder that is no project; RuntimeError where the compiler or
    QEMU is missing or fails, or the program faults.
    """
    if not available():
        raise RuntimeError("There is no qemu-system-arm here; install qemu-system-arm.")
    project = Path(project)
    information = projects.read(project)
    arrays = projects.check_inputs(information, inputs)
    outputs = projects.empty_outputs(information, len(arrays[0]))
    found = toolchain.arm(target, compiler)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        elf = _build(project, information, scratch, target, found, flags)
        rows = [array.reshape(len(array), -1).view(np.uint8) for array in arrays]
        (scratch / "inputs").write_bytes(np.concatenate(rows, 1).tobytes())
        _boot(scratch, elf, layouts.MACHINES[target][0])
        data = np.fromfile(scratch / "outputs", np.uint8).reshape(len(rows[0]), -1)
        stack, calibration, *ticks = np.fromfile(scratch / "counts", np.uint32).tolist()
    start = 0
    for array in outputs:
        size = array[0].nbytes
        part = np.ascontiguousarray(data[:, start : start + size])
        array[...] = part.view(array.dtype).reshape(array.shape)
        start += size
    return QemuRun(
        outputs=outputs,
        instructions=tuple(round(count * CALIBRATION / calibration) for count in ticks),
        stack_bytes=stack,
        compiler=found.description,
    )


def _build(project, information, scratch, target, compiler, flags):
    origin, flash, ram_origin, ram = layouts.MACHINES[target][1]
    words = {
        "BOARD": layouts.MACHINES[target][0],
        "FLASH_ORIGIN": origin,
        "FLASH_BYTES": flash,
        "RAM_ORIGIN": ram_origin,
        "RAM_BYTES": ram,
        "STACK_BYTES": STACK_BYTES,
    }
    script = (BOARD / "board.ld.in").read_text()
    for name, word in words.items():
        script = script.replace(f"@{name}@", str(word))
    (scratch / "board.ld").write_text(script)
    lists = {
        "LAYERS": [f"model_layer_{i}" for i in range(len(information["layers"]))],
        "INPUT_BYTES": [entry["bytes"] for entry in information["inputs"]],
        "OUTPUT_BYTES": [entry["bytes"] for entry in information["outputs"]],
    }
    (scratch / "qemu_model.h").write_text(
        "".join(f"#define {name} {', '.join(map(str, items))}\n" for name, items in lists.items())
    )
    defines = ["-DSEMIHOSTING", f"-DSTACK_BOTTOM={ram_origin:#x}u"]
    folder = projects.source_folder(project)
    files = [path for path in projects.sources(project) if path.name != "model.c"]
    arguments = [*FLAGS, *flags, f"-I{folder}", f"-I{scratch}", f"-I{BOARD}", *defines]
    arguments += ["-T", scratch / "board.ld", FIRMWARE / "qemu_main.c", BOARD / "board.c", *files]
    return toolchain.compile_c(compiler, arguments, scratch / "program.elf")


def _boot(folder, elf, machine):
    command = ["qemu-system-arm", "-M", machine, "-display", "none", "-serial", "none"]
    command += ["-monitor", "none", "-icount", "shift=5", "-semihosting", "-kernel", str(elf)]
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"The program did not end within {SECONDS} s in QEMU.") from None
    if result.returncode:
        what = "faulted" if result.returncode == 253 else f"ended with {result.returncode}"
        raise RuntimeError(f"The program {what} in QEMU's {machine}. {result.stderr.strip()}")
