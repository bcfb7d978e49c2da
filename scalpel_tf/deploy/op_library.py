"""The shared library of the C++ ops: where it lies, how it is built and how it is loaded.

Its name has a digest of its sources: a library never meets sources that are not its own. One
library serves every TensorFlow since 2.16, for it calls nothing but TensorFlow's C API.
"""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import tensorflow as tf

from scalpel_tf.deploy import kernels, toolchain

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Library:
    """The ops of a loaded library for TensorFlow, and its kernels, which share the threads."""

    ops: ModuleType
    kernels: kernels.Kernels


def build(out: Path | str | None = None) -> Path:
    """Compile the ops with the headers of the installed TensorFlow; returns the library's path.

    out: the file to write; by default the first of `paths` whose folder may be written.
    RuntimeError where the compiler is missing or fails.
    """
    # TensorFlow's as system headers, so that their warnings are not errors.
    arguments = [*kernels.flags(), "-isystem", tf.sysconfig.get_include()]
    files = [*kernels.files(), *sorted(kernels.sources().glob("tf_*.cc"))]
    link = ["-shared", *tf.sysconfig.get_link_flags()]
    library = _writable_path() if out is None else Path(out)
    return toolchain.link_cxx(toolchain.host_cxx(), arguments, files, link, library)


def load() -> Library:
    """Register the ops of the library that is built from the present sources.

    RuntimeError that says what is wrong and what to do.
    """
    library = next(filter(Path.exists, paths()), None)
    if library is None:
        raise RuntimeError("The C++ ops of scalpel_tf are not built; run `scalpel-tf build`.")
    try:
        return Library(tf.load_op_library(str(library)), kernels.load(library))
    except (tf.errors.OpError, OSError, AttributeError) as error:
        raise RuntimeError(
            f"The C++ ops of scalpel_tf cannot be loaded from {library} ({_sentence(error)}); "
            "run `scalpel-tf build`."
        ) from None


def paths() -> list[Path]:
    """Where the library is looked for: in the package, then in the user's cache folder."""
    name = f"libscalpel_tf_ops-{platform.machine()}-{_digest()}.so"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [PACKAGE / "lib" / name, cache / "scalpel_tf" / name]


def _writable_path():
    first, *rest = paths()
    try:
        first.parent.mkdir(exist_ok=True)
    except OSError:
        return rest[0]
    return first if os.access(first.parent, os.W_OK) else rest[0]


def _digest():
    digest = hashlib.sha256()
    for file in sorted(kernels.sources().glob("*.[ch]*")):
        if not file.stem.endswith(kernels.NOT_KERNELS[1:]):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _sentence(error):
    return str(getattr(error, "message", error)).splitlines()[0]
