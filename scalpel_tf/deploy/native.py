"""A model as one shared library for this machine's CPU: written, called from Python, timed."""

from __future__ import annotations

import ctypes
import json
import tempfile
import threading
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from scalpel_tf.deploy import (
    convert,
    native_build,
    native_int8,
    native_source,
    tflite,
    verify,
)
from scalpel_tf.deploy import project as projects
from scalpel_tf.deploy.c_source import describe
from scalpel_tf.deploy.float32 import require_float32
from scalpel_tf.deploy.float_constants import ALIGNMENT, Constants
from scalpel_tf.deploy.float_lower import lower
from scalpel_tf.deploy.int8 import require_int8
from scalpel_tf.deploy.memory import plan_memory
from scalpel_tf.deploy.output_folder import replace_folder, require_replaceable

LIBRARY = "libmodel.so"
TOLERANCES = {"float32": 1e-5, "int8": 0.0}  # of the largest output
KINDS = {"float32": "float", "int8": "int8"}  # of kernels
ROUNDINGS = {"float32": ("single",), "int8": ("single", "double")}  # the interpreter has either
TARGETS = ("x86-64", "x86-64-avx2", "x86-64-avx512")


@dataclass(frozen=True)
class NativeReport:
    """What was written, and on what it was proved.

    layers: as in model.json.  constants, arena: bytes.  isas: the instruction sets that were run.
    error: the largest difference to LiteRT of all of them, as a part of the largest output.
    """

    path: Path
    target: str
    dtype: str
    layers: tuple[dict, ...]
    constants: int
    arena: int
    isas: tuple[str, ...]
    error: float

    def __str__(self):
        lines = ["{:<16} {:<18} {:>8} {:>11} {:>11}".format("layer", "kernel", "density",
                                                            "bytes", "dense")]  # fmt: skip
        for layer in self.layers:
            density = "" if layer["density"] is None else f"{layer['density']:.1%}"
            lines.append(
                f"{layer['name']:<16} {layer['kernel']:<18} {density:>8} {layer['bytes']:>11,} "
                f"{layer['bytes_dense']:>11,}"
            )
        equal = "equal to TensorFlow Lite, bit for bit"
        if self.dtype == "float32":
            equal = f"within {max(self.error, 1e-9):.1e} of LiteRT's largest output"
        return "\n".join(
            [
                *lines,
                f"constants {self.constants:,} bytes, arena {self.arena:,} bytes",
                f"{equal}, on this machine ({', '.join(self.isas)})",
                f"written to {self.path}",
            ]
        )


@dataclass(frozen=True)
class NativeModel:
    """A loaded library. Calls are thread-safe.

    information: model.json.  isas: the instruction sets that run here, best first.
    memory: what each thread that called keeps, since new pages, and asking numpy for addresses,
    take longer than a small network.
    """

    information: dict
    isas: tuple[str, ...]
    library: ctypes.CDLL = field(repr=False)
    memory: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def __call__(self, *inputs, isa: str | None = None):
        """One array per output, or the only one; inputs: one array each, first axis samples."""
        number, own = self._number(isa), self._own()
        if own.hold(inputs):
            self.library.model_run(number, 1, own.given, own.made, own.arena)
            outputs = [array.copy() for array in own.outputs]
        else:
            arrays = projects.check_inputs(self.information, list(inputs))
            samples = len(arrays[0])
            outputs = projects.empty_outputs(self.information, samples)
            given, made = _addresses(arrays), _addresses(outputs)
            self.library.model_run(number, samples, given, made, own.arena)
        return outputs if len(outputs) > 1 else outputs[0]

    def seconds(self, inputs, rounds: int, calls: int, isa: str | None = None) -> np.ndarray:
        """(rounds, 1 + layers): of the first sample, a whole call (the mean of `calls`), layers."""
        arrays = projects.check_inputs(self.information, list(inputs))
        outputs = projects.empty_outputs(self.information, 1)
        seconds = np.empty((rounds, 1 + len(self.information["layers"])))
        self.library.model_profile(
            self._number(isa), rounds, calls, _addresses(arrays), _addresses(outputs),
            self._own().arena, seconds.ctypes.data,
        )  # fmt: skip
        return seconds

    def _own(self):
        """The memory of this thread."""
        if not hasattr(self.memory, "own"):
            self.memory.own = _Memory(self.information)
        return self.memory.own

    def _number(self, isa):
        if isa is None:
            return 0
        if isa not in self.isas:
            raise ValueError(f"`isa` is one of {', '.join(self.isas)} here; got {isa!r}.")
        return self.isas.index(isa)


class _Memory:
    """An arena, and arrays for one sample: copying that is quicker than learning where it lies."""

    def __init__(self, information):
        self.array = np.empty(information["arena_bytes"] + ALIGNMENT, np.uint8)
        self.arena = -(-self.array.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.inputs, self.outputs = (
            [np.empty((1, *entry["shape"][1:]), entry["dtype"]) for entry in information[kind]]
            for kind in ("inputs", "outputs")
        )
        self.given, self.made = _addresses(self.inputs), _addresses(self.outputs)

    def hold(self, inputs):
        """Copies one sample; False where it is anything else."""
        if len(inputs) != len(self.inputs) or not all(map(_alike, inputs, self.inputs)):
            return False
        for own, array in zip(self.inputs, inputs, strict=True):
            own[...] = array
        return True


def _alike(given, own):
    return type(given) is np.ndarray and given.shape == own.shape and given.dtype == own.dtype


def export(
    model, *, out, dtype: str = "float32", representative_data=None, target: str = "x86-64"
) -> NativeReport:
    """Writes a model as a shared library with a C header, and its sources, to the folder `out`.

    model: a Keras model, the path of a `.keras` or `.tflite` model, or the bytes of the latter.
    dtype: "float32", or "int8" as for a microcontroller, from `representative_data`.
    `out` may be missing, empty, or an earlier export, which is replaced.
    Raises ValueError for a model that cannot be exported, RuntimeError without compilers.
    """
    out = Path(out)
    require_replaceable(out)
    if dtype not in ("float32", "int8"):
        raise ValueError(f'`dtype` is "float32" or "int8"; got {dtype!r}.')
    data = _bytes_of(convert.load(model), dtype, representative_data)
    network = tflite.read(data)
    {"float32": require_float32, "int8": require_int8}[dtype](network)
    inputs = verify.probes(network)
    reference = {"float32": convert.run_litert, "int8": convert.run_reference}[dtype](data, inputs)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        for rounding in ROUNDINGS[dtype]:
            project = Path(scratch) / rounding
            files = _files(network, dtype, rounding, target)
            verify.write(project, files)
            native_build.build(project, project / LIBRARY, KINDS[dtype])
            loaded = load(project)
            errors = [_error(loaded, inputs, reference, isa) for isa in loaded.isas]
            error = float(np.max(errors))  # of which NaN is the largest
            if error <= TOLERANCES[dtype]:
                break
        _require_close(error, dtype)
        replace_folder(project, out, Path(scratch))
    return NativeReport(
        path=out,
        target=target,
        dtype=dtype,
        layers=tuple(loaded.information["layers"]),
        constants=loaded.information["constant_bytes"],
        arena=loaded.information["arena_bytes"],
        isas=loaded.isas,
        error=error,
    )


def load(project) -> NativeModel:
    """The model of a folder that `export` wrote; ValueError where it is none."""
    information, path = projects.read(project), Path(project) / LIBRARY
    if not path.is_file():
        raise ValueError(f"{project} holds no {LIBRARY}; export for x86-64 first.")
    status = path.stat()
    library = _library(path.resolve(), (status.st_ino, status.st_mtime_ns))
    isas = []
    while name := library.model_isa(len(isas)):
        isas.append(name.decode())
    return NativeModel(information, tuple(isas), library)


def profile(project, x, *, repeats: int = 200, isa: str | None = None) -> dict:
    """Median seconds of a call, and of every layer: {"seconds": s, "layers": [(name, s), ...]}.

    x: the first sample is used; a list of arrays for several inputs.  repeats: rounds, each of so
    many calls that it takes about a millisecond.
    """
    model = load(project)
    arrays = list(x) if isinstance(x, (list, tuple)) else [x]
    once = float(np.median(model.seconds(arrays, 3, 1, isa)[:, 0]))
    calls = int(np.clip(1e-3 / max(once, 1e-9), 1, 1000))
    seconds = np.median(model.seconds(arrays, repeats, calls, isa), axis=0).tolist()
    names = [layer["name"] for layer in model.information["layers"]]
    return {"seconds": seconds[0], "layers": list(zip(names, seconds[1:], strict=True))}


def _bytes_of(model, dtype, representative_data):
    if isinstance(model, bytes):
        return model
    if dtype == "float32":
        return convert.convert_float(model)
    if representative_data is None:
        raise ValueError(
            "A Keras model becomes int8 through `representative_data`, some hundred inputs of the "
            "kind that it will see; got none."
        )
    return convert.convert(model, representative_data)


def _files(network, dtype, rounding, target):
    """Relative path -> contents, of the project."""
    constants = Constants()
    if dtype == "float32":
        head, layers = native_source.FLOAT_HEAD, lower(network, constants)
    else:
        head, layers = native_int8.HEAD, native_int8.layers(network, constants, rounding)
    plan = plan_memory(network, layers, ALIGNMENT)
    source = native_source.model_c(network, layers, plan, head, KINDS[dtype])
    description = describe(network, layers, plan, SimpleNamespace(name=target))
    description["dtype"] = dtype
    files = {
        "model.h": native_source.model_h(network, layers, plan, dtype).encode(),
        "model.c": source.encode(),
        "model_constants.S": native_source.CONSTANTS_S.encode(),
        "model_constants.bin": constants.data(),
        "CMakeLists.txt": native_build.CMAKE.encode(),
        **native_build.kernel_files(KINDS[dtype]),
    }
    description["constant_bytes"] = constants.size
    if dtype == "int8":
        files |= native_int8.files(source, rounding)
        elsewhere = [layer.bytes for layer in layers if layer.kernel != "dense"]
        description["constant_bytes"] += sum(elsewhere)
    return {**files, "model.json": (json.dumps(description, indent=2) + "\n").encode()}


def _error(model, inputs, reference, isa):
    """The largest difference as a part of the largest output."""
    outputs = model(*inputs, isa=isa)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    pairs = [
        (a.astype(np.float64), b.astype(np.float64))
        for a, b in zip(outputs, reference, strict=True)
    ]
    return float(np.max([np.abs(a - b).max() / max(np.abs(b).max(), 1e-30) for a, b in pairs]))


def _require_close(error, dtype):
    if not error <= TOLERANCES[dtype]:
        raise RuntimeError(
            f"The compiled model differs from TensorFlow Lite by {error:.1e} of its largest "
            f"output, more than {TOLERANCES[dtype]:g}; nothing was written. Please report the "
            "model."
        )


def _addresses(arrays):
    return (ctypes.c_void_p * len(arrays))(
        *(array.__array_interface__["data"][0] for array in arrays)
    )


@lru_cache
def _library(path, version):
    """A copy, since the loader would give an older library of the same name again."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / LIBRARY
        copy.write_bytes(path.read_bytes())
        try:
            library = ctypes.CDLL(str(copy))
        except OSError as error:
            raise ValueError(f"{path} cannot be loaded: {error}.") from None
    library.model_isa.restype, library.model_isa.argtypes = ctypes.c_char_p, [ctypes.c_int]
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.model_run.restype = library.model_profile.restype = None
    library.model_run.argtypes = [ctypes.c_int, count, pointer, pointer, pointer]
    library.model_profile.argtypes = [ctypes.c_int, count, count, *[pointer] * 4]
    return library
