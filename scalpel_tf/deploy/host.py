"""A project built for this machine: called from Python, or run under the address sanitizer.

Both take the plain C path of the runtime, unless this machine has the extension a kernel asks for.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scalpel_tf.deploy import kernels, toolchain
from scalpel_tf.deploy import project as projects

FIRMWARE = Path(__file__).parent / "firmware"
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
ARENA_ALIGNMENT = 16
PAINT = 0xA5
TIMEOUT = 600


def build(project: Path | str, out: Path | str) -> Path:
    """Build a project as a shared library; returns out/libmodel.so.

    ValueError for a folder that is no project; RuntimeError where the compiler is missing or fails.
    """
    return _build(Path(project), Path(out) / "libmodel.so", ["-O2", "-shared", "-fPIC"])


def build_sanitized(project: Path | str, out: Path | str) -> Path:
    """Build a project as a program under ASan and UBSan; returns out/model_sanitized.

    Errors as `build`; RuntimeError with zig, which has no address sanitizer.
    """
    information = projects.read(project)
    arguments = ["-O1", "-g", *SANITIZE, FIRMWARE / "sanitized_main.c"]
    for name, entries in (("INPUT", information["inputs"]), ("OUTPUT", information["outputs"])):
        arguments.append(f"-D{name}_BYTES={','.join(str(entry['bytes']) for entry in entries)}")
    program = _build(Path(project), Path(out) / "model_sanitized", arguments)
    if b"__asan_" not in program.read_bytes():  # zig takes the flag and does nothing
        program.unlink()
        raise RuntimeError("The compiler here has no address sanitizer; install gcc or clang.")
    return program


def build_program(files: Iterable[Path | str], out: Path | str) -> Path:
    """Build C99 (`.c`) and C++ files as the program `out`, with the kernels of custom_ops in it.

    They include "scalpel_kernels.h", which says how the kernels are called.  RuntimeError where a
    compiler is missing or fails.
    """
    out, include = Path(out), f"-I{kernels.sources()}"
    files = [Path(file) for file in files]
    cxx_files = [file for file in files if file.suffix != ".c"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        objects = [
            toolchain.compile_c(
                toolchain.host(),
                ["-O3", "-c", include, file],
                Path(scratch) / str(number) / f"{file.name}.o",
            )
            for number, file in enumerate(files)
            if file.suffix == ".c"
        ]
        return toolchain.link_cxx(
            toolchain.host_cxx(), kernels.flags(), [*cxx_files, *kernels.files()], objects, out
        )


def invoke(library: Path | str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Run every sample through a library of `build`: one array per output, first axis samples.

    inputs: one array per model input, first axis samples.  ValueError for wrong inputs.
    """
    status = os.stat(library)
    model = _load(Path(library), (status.st_ino, status.st_mtime_ns))
    address = ctypes.addressof(ctypes.c_ubyte.in_dll(model, projects.SYMBOL))
    information = json.loads(ctypes.string_at(address))
    arrays = projects.check_inputs(information, inputs)
    outputs = projects.empty_outputs(information, len(arrays[0]))

    memory = np.full(information["arena_bytes"] + ARENA_ALIGNMENT, PAINT, np.uint8)
    arena = ctypes.c_void_p(-(-memory.ctypes.data // ARENA_ALIGNMENT) * ARENA_ALIGNMENT)
    sources = [model.model_input(arena, i) for i in range(len(arrays))]
    results = [model.model_output(arena, i) for i in range(len(outputs))]
    for sample in range(len(arrays[0])):
        for to, array in zip(sources, arrays, strict=True):
            ctypes.memmove(to, array[sample : sample + 1].ctypes.data, array[sample].nbytes)
        model.model_invoke(arena)
        for to, array in zip(results, outputs, strict=True):
            ctypes.memmove(array[sample : sample + 1].ctypes.data, to, array[sample].nbytes)
    return outputs


def crc(library: Path | str) -> int:
    """The CRC-32 of the constants of a project with a model_check, in a library of `build`."""
    status = os.stat(library)
    function = _load(Path(library), (status.st_ino, status.st_mtime_ns)).model_crc32
    function.restype, function.argtypes = ctypes.c_uint32, []
    return int(function())


def run_sanitized(program: Path | str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What `invoke` returns, by a program of `build_sanitized`.

    RuntimeError with the first lines of the report where a sanitizer finds something.
    """
    information = json.loads(_execute(program))
    arrays = projects.check_inputs(information, inputs)
    outputs = projects.empty_outputs(information, len(arrays[0]))
    with tempfile.TemporaryDirectory() as scratch:
        sent, received = Path(scratch) / "inputs", Path(scratch) / "outputs"
        samples = range(len(arrays[0]))
        sent.write_bytes(b"".join(array[i].tobytes() for i in samples for array in arrays))
        _execute(program, sent, received)
        data = received.read_bytes()
    position = 0
    for sample in samples:
        for array in outputs:
            part = data[position : position + array[sample].nbytes]
            array[sample] = np.frombuffer(part, array.dtype).reshape(array.shape[1:])
            position += len(part)
    return outputs


def _build(project: Path, product: Path, arguments: list[Any]) -> Path:
    information = projects.read(project)
    files = projects.sources(project)
    compiler = toolchain.host()
    with tempfile.TemporaryDirectory() as scratch:
        embedded = Path(scratch) / "model_information.c"
        embedded.write_text(projects.information_source(information))
        return toolchain.compile_c(
            compiler, [*arguments, f"-I{files[0].parent}", embedded, *files], product
        )


@lru_cache
def _load(library: Path, version: tuple[int, int]) -> ctypes.CDLL:
    """A copy of the library, since the loader would give an older one of the same name again."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copy(library, scratch)
        try:
            model = ctypes.CDLL(copy)
        except OSError as error:
            raise ValueError(f"{library} is not a library made by `host.build`: {error}.") from None
    model.model_input.restype = model.model_output.restype = ctypes.c_void_p
    model.model_input.argtypes = model.model_output.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    model.model_invoke.restype, model.model_invoke.argtypes = None, [ctypes.c_void_p]
    return model


def _execute(program: Path | str, *arguments: Path) -> str:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": ""}
    try:
        result = subprocess.run(
            [Path(program).resolve(), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{program} was still running after {TIMEOUT} seconds.") from None
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.strip(" =")]
        report = "\n".join(lines[:8]) or f"exit code {result.returncode}"
        raise RuntimeError(f"The sanitized program failed:\n{report}")
    return result.stdout
