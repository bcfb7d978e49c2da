"""Compiles a native project into one shared library; the kernels themselves are compiled once."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from scalpel_tf.deploy import kernels, toolchain

PACKAGE = Path(__file__).resolve().parent.parent
FLAGS = ["-O3", "-fPIC"]
KERNEL_FLAGS = [*FLAGS, "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"]
SOURCES = {
    "float": ("native/float_*", "native/vector_*", "native/scalpel_float.h", "simd_avx*.h"),
    "int8": ("native/int8_*", "native/scalpel_int8.h"),
    "peak": ("native/peak*", "native/vector_*", "native/scalpel_float.h", "simd_avx*.h"),
}
CMAKE = """\
cmake_minimum_required(VERSION 3.16)
project(model C CXX ASM)
file(GLOB sources *.c *.S kernels/native/*.cc runtime/*.c)
add_library(model SHARED ${sources})
target_include_directories(model PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
set_target_properties(model PROPERTIES C_STANDARD 99 CXX_STANDARD 17)
target_compile_options(model PRIVATE -O3 $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti>)
target_link_libraries(model m)
"""


def kernel_files(kind: str) -> dict[str, bytes]:
    """Path in a project -> contents, of the kernels' sources. kind: a key of SOURCES."""
    folder = kernels.sources()
    files = [file for pattern in SOURCES[kind] for file in sorted(folder.glob(pattern))]
    return {f"kernels/{file.relative_to(folder)}": file.read_bytes() for file in files}


def build(project: Path, library: Path, kind: str) -> Path:
    """Compiles the sources of a project folder into `library`; returns it. kind: of its kernels.

    RuntimeError where a compiler is missing or fails.
    """
    compiler = toolchain.host()
    sources = [*sorted(project.glob("*.[cS]")), *sorted((project / "runtime").glob("*.c"))]
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        objects = [
            toolchain.compile_c(
                compiler,
                [*FLAGS, *_visibility(file, project), f"-I{project}", "-c", file],
                Path(scratch) / f"{number}.o",
            )
            for number, file in enumerate(sources)
        ]
        objects += kernel_objects(kind)
        return toolchain.compile_c(compiler, ["-shared", *objects, "-lm"], library)


def kernel_objects(kind: str) -> list[Path]:
    """The compiled kernels: those of this package's sources and this compiler, made once.

    They lie beside the package, or where that cannot be written in the user's cache folder.
    """
    compiler = toolchain.host_cxx()
    name = f"native-{kind}-{platform.machine()}-{_digest(compiler.description, kind)}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [PACKAGE / "lib" / name, cache / "scalpel_tf" / name]
    for folder in folders:
        if folder.is_dir():
            return sorted(folder.glob("*.o"))
    folder = folders[0] if _writable(folders[0].parent) else folders[1]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        files = sorted((kernels.sources() / "native").glob(f"{kind}_*.cc"))

        def compile_one(file):
            return toolchain.compile_cxx(
                compiler, [*KERNEL_FLAGS, "-c", file], made / f"{file.stem}.o"
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_one, files))
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    return sorted(folder.glob("*.o"))


def _visibility(file, project):
    return [] if file.parent == project else ["-fvisibility=hidden"]


@lru_cache
def _digest(compiler, kind):
    digest = hashlib.sha256(f"{compiler} {KERNEL_FLAGS}".encode())
    for name, contents in kernel_files(kind).items():
        digest.update(name.encode() + b"\0" + contents)
    return digest.hexdigest()[:12]


def _writable(folder):
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
