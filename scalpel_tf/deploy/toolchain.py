"""The compilers of this machine: C and C++ for itself, C for a Cortex-M."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
CXX_FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror")
FREESTANDING = Path(__file__).parent / "firmware" / "freestanding"

# Zig's processor models leave the floating-point unit, the DSP extension of the M33 and Helium out.
ARM_TARGETS = {
    "cortex-m0plus": ("thumb-freestanding-eabi", "cortex_m0plus"),
    "cortex-m3": ("thumb-freestanding-eabi", "cortex_m3"),
    "cortex-m4": ("thumb-freestanding-eabihf", "cortex_m4+vfp4d16sp"),
    "cortex-m7": ("thumb-freestanding-eabihf", "cortex_m7+fp_armv8d16"),
    "cortex-m33": ("thumb-freestanding-eabihf", "cortex_m33+dsp+fp_armv8d16sp"),
    "cortex-m55": ("thumb-freestanding-eabihf", "cortex_m55+fp_armv8d16+mve"),
}


@dataclass(frozen=True)
class Compiler:
    """A C compiler: the words that start it, and the words that name it beside a figure."""

    command: tuple[str, ...]
    description: str


def host() -> Compiler:
    """The C compiler for this machine: $CC, cc, gcc, clang, or the one in the ziglang wheel.

    RuntimeError where there is none, or where $CC cannot be run.
    """
    return _host("CC", "C", ("cc", "gcc", "clang"))


def host_cxx() -> Compiler:
    """The C++ compiler for this machine: $CXX, c++, g++, clang++, or the one in the ziglang wheel.

    Errors as `host`.
    """
    return _host("CXX", "C++", ("c++", "g++", "clang++"))


def _host(variable, language, commands):
    chosen = os.environ.get(variable)
    for command in [shlex.split(chosen)] if chosen else [[name] for name in commands]:
        if command and shutil.which(command[0]):
            return Compiler(tuple(command), _describe(tuple(command)))
    if chosen:
        raise RuntimeError(
            f"${variable} is {chosen!r}, which is not a program on this machine; unset it."
        )
    if _has_zig():
        driver = "cc" if language == "C" else "c++"
        return Compiler((*_zig()[:-1], driver), _describe_zig())
    raise RuntimeError(
        f"There is no {language} compiler here: install gcc or clang, "
        'or `pip install "scalpel_tf[board]"`, which brings one.'
    )


def arm(target: str, compiler: str | None = None) -> Compiler:
    """The compiler for one Cortex-M, its command already selecting processor and float ABI.

    target: a key of ARM_TARGETS.  compiler: "gcc" (arm-none-eabi-gcc with its C library), "zig"
    (the ziglang wheel), or None for the first of the two that is installed.
    ValueError for another name; RuntimeError where the compiler is missing.
    """
    if target not in ARM_TARGETS:
        raise ValueError(f"`target` is one of {', '.join(ARM_TARGETS)}; got {target!r}.")
    if compiler not in (None, "gcc", "zig"):
        raise ValueError(f'`compiler` is "gcc", "zig" or None; got {compiler!r}.')
    triple, processor = ARM_TARGETS[target]
    gcc = ("arm-none-eabi-gcc",)
    if compiler != "zig" and _has_newlib():
        hard = ("-mfloat-abi=hard",) if triple.endswith("hf") else ()
        # Layers with equal code keep their own functions: the board tells layers by address.
        flags = ("-mthumb", f"-mcpu={target}", *hard, "-fno-ipa-icf", "-nostartfiles")
        return Compiler(gcc + flags, _describe(gcc))
    if compiler != "gcc" and _has_zig():
        flags = ("-target", triple, f"-mcpu={processor}", "-fomit-frame-pointer")
        return Compiler((*_zig(), *flags, f"-I{FREESTANDING}"), _describe_zig())
    raise RuntimeError(
        "There is no compiler for Cortex-M here: install gcc-arm-none-eabi and "
        'libnewlib-arm-none-eabi, or `pip install "scalpel_tf[board]"`, which brings one.'
    )


def compile_c(compiler: Compiler, arguments: Iterable[str | Path], out: Path) -> Path:
    """Compile C99 into the file `out`, which appears only on success; returns it.

    RuntimeError with the compiler's first error lines.
    """
    return _compile(compiler, [*C_FLAGS, *arguments], out)


def compile_cxx(compiler: Compiler, arguments: Iterable[str | Path], out: Path) -> Path:
    """`compile_c` for C++17."""
    return _compile(compiler, [*CXX_FLAGS, *arguments], out)


def link_cxx(
    compiler: Compiler, arguments: list, files: Iterable[Path], link: list, out: Path
) -> Path:
    """`compile_cxx` of each of the files, at the same time, and then of the objects into `out`.

    arguments: for every compilation.  link: for the last one, after the objects.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:

        def compile_one(numbered):
            number, file = numbered
            product = Path(scratch) / str(number) / f"{file.name}.o"
            return compile_cxx(compiler, [*arguments, "-c", file], product)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, enumerate(files)))
        return compile_cxx(compiler, [*arguments, *objects, *link], out)


def _compile(compiler, arguments, out):
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        product = Path(scratch) / out.name
        command = [*compiler.command, *map(str, arguments), "-o", str(product)]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if result.returncode:
            raise RuntimeError(
                f"{compiler.description} could not build {out.name}:\n{_first_errors(result)}"
            )
        product.replace(out)
    return out


def _first_errors(result: subprocess.CompletedProcess[str]) -> str:
    lines = result.stderr.splitlines() or [f"exit code {result.returncode}"]
    errors = [line for line in lines if re.search(r"error|undefined|overflow", line, re.I)]
    return "\n".join((errors or lines)[:5])


def _zig() -> tuple[str, ...]:
    return (sys.executable, "-m", "ziglang", "cc")


def _has_zig() -> bool:
    return importlib.util.find_spec("ziglang") is not None


@lru_cache
def _has_newlib() -> bool:
    if not shutil.which("arm-none-eabi-gcc"):
        return False
    return os.path.isabs(_output("arm-none-eabi-gcc", "-print-file-name=libc.a").strip())


@lru_cache
def _describe(command: tuple[str, ...]) -> str:
    line = (_output(*command, "--version").splitlines() or [""])[0]
    # The vendor's own version stands in brackets, the compiler's after them.
    version = re.search(r"\d+(\.\d+)+", re.sub(r"\([^)]*\)", "", line))
    name = "clang" if "clang" in line else Path(command[0]).name
    return f"{name} {version.group()}" if version else name


@lru_cache
def _describe_zig() -> str:
    clang = re.search(r"clang version (\S+)", _output(*_zig(), "--version"))
    zig = _output(*_zig()[:-1], "version").strip()
    return f"zig cc {zig} (clang {clang.group(1) if clang else 'unknown'})"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
