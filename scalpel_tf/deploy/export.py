"""A trained model -> a verified C project for a Cortex-M, written whole or not at all."""

import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalpel_tf.core.targets import KIB, TARGETS, Target, find_target
from scalpel_tf.deploy import board, c_source, convert, host, tflite, toolchain
from scalpel_tf.deploy import project as projects
from scalpel_tf.deploy.int8 import require_int8
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import plan_memory

TEST_VECTORS = 8


@dataclass(frozen=True)
class ExportReport:
    """What was written, and on what it was proved.

    layers: as in model.json.  flash: bytes of the whole program where it could be built for the
    target, else of its constants.  ram: arena and stack, or the arena alone.
    verified: where the outputs equalled TensorFlow Lite's reference kernels, bit for bit.
    """

    path: Path
    target: str
    layers: tuple[dict, ...]
    flash: int
    ram: int
    verified: tuple[str, ...]

    def __str__(self):
        rows = [f"{'layer':<16} {'kernel':<18} {'density':>8} {'bytes':>9} {'dense':>9}"]
        for layer in self.layers:
            density = "" if layer["density"] is None else f"{layer['density']:.1%}"
            rows.append(
                f"{layer['name']:<16} {layer['kernel']:<18} {density:>8} {layer['bytes']:>9,} "
                f"{layer['bytes_dense']:>9,}"
            )
        return "\n".join(
            [
                *rows,
                f"flash {self.flash:,} bytes, RAM {self.ram:,} bytes on {self.target}",
                f"equal to TensorFlow Lite, bit for bit, on {' and on '.join(self.verified)}",
                f"written to {self.path}",
            ]
        )


def export(
    model,
    *,
    target: str = "cortex-m4",
    out,
    representative_data=None,
    device: str | None = None,
    flash: int | None = None,
    ram: int | None = None,
    rounding: str = "single",
) -> ExportReport:
    """Writes the C project of a model to the folder `out`; an ExportReport says what is in it.

    model: a Keras model (then representative_data is needed, see `convert`), the path of any int8
    `.tflite`, or its bytes.  device: a board that `scalpel-tf targets` lists, whose flash and RAM
    are the limits; the target's largest board by default.  flash, ram: the limits in bytes instead.
    rounding: "single", as TensorFlow Lite's interpreter rounds the sums of fully connected layers,
    or "double", as TensorFlow Lite Micro does; about one output in a hundred of the demo differs.
    `out` may be missing, empty, or an earlier export, which is replaced.
    Raises ValueError for a model that cannot be exported, RuntimeError without a C compiler.
    """
    facts = find_target(target)
    if not facts.is_microcontroller:
        names = ", ".join(t.name for t in TARGETS.values() if t.is_microcontroller)
        raise ValueError(f"`export` writes C for a microcontroller ({names}); got {target!r}.")
    out = Path(out)
    _require_replaceable(out)
    limits = _limits(facts, device, flash, ram)
    if rounding not in ("single", "double"):
        raise ValueError(f'`rounding` is "single" or "double"; got {rounding!r}.')
    data = _bytes_of(model, representative_data)
    network = tflite.read(data)
    require_int8(network)
    layers = lower(network, facts, rounding=rounding)
    plan = plan_memory(network, layers)
    constants = sum(layer.bytes for layer in layers)
    _require_fit(constants, plan.arena, limits, facts, layers)
    inputs = probes(network)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        scratch = Path(scratch)
        outputs, here = _verify_here(scratch, network, data, facts, inputs, rounding)
        project = scratch / "project"
        write(project, c_source.emit(network, data, layers, facts, inputs, outputs, rounding))
        there, program, stack = _verify_on_board(project, scratch, target, inputs, outputs)
        verified = here + there
        used = (program or constants, plan.arena + stack)
        _require_fit(*used, limits, facts, layers)
        _replace(project, out, scratch)
    description = c_source.describe(network, layers, plan, facts)
    return ExportReport(out, target, tuple(description["layers"]), *used, verified)


def run(project, inputs, *, target: str | None = None) -> board.BoardRun:
    """Builds an exported project, runs it on the virtual board and counts.

    inputs: one array per model input, first axis samples.  target: the one it was exported for by
    default.  Errors as `board.build` and `board.run`.
    """
    target = target or projects.read(project).get("target", "cortex-m4")
    with tempfile.TemporaryDirectory() as scratch:
        return board.run(board.build(project, scratch, target), inputs)


def quantise(x: np.ndarray, entry: dict) -> np.ndarray:
    """Real values in the integers of an input that model.json describes; other arrays as they are.

    entry: has "dtype", "scale" and "zero_point".
    """
    if x.dtype.kind != "f" or entry["dtype"] == "float32":
        return x.astype(entry["dtype"]) if x.dtype.kind == "f" else x
    limits = np.iinfo(entry["dtype"])
    scaled = np.round(x / np.float32(entry["scale"])) + entry["zero_point"]
    return np.clip(scaled, limits.min, limits.max).astype(entry["dtype"])


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes the files, by relative path, into a folder that is made where it is missing."""
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


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


def _bytes_of(model, representative_data):
    if isinstance(model, bytes):
        return model
    if isinstance(model, (str, Path)):
        path = Path(model)
        if not path.is_file():
            raise ValueError(f"{path} is not a file; give the path of a .tflite or .keras model.")
        if path.suffix != ".keras":
            return path.read_bytes()
        import keras

        model = keras.models.load_model(path)
    if representative_data is None:
        raise ValueError(
            "A Keras model becomes int8 through `representative_data`, some hundred inputs of the "
            "kind that it will see; got none."
        )
    return convert.convert(model, representative_data)


def _limits(target: Target, device, flash, ram):
    """(name of what sets the limits, bytes of flash, bytes of RAM)."""
    boards = {board.name: board for board in target.boards}
    if device is not None and device not in boards:
        raise ValueError(
            f"Unknown device {device!r} for {target.name}; expected one of {', '.join(boards)}."
        )
    largest = max(target.boards, key=lambda board: board.flash)
    chosen = boards[device] if device else largest
    given = flash is not None or ram is not None
    return (
        "the limits given" if given else chosen.name,
        chosen.flash if flash is None else flash,
        chosen.ram if ram is None else ram,
    )


def _require_fit(flash, ram, limits, target, layers: list[Layer]):
    name, most_flash, most_ram = limits
    if flash <= most_flash and ram <= most_ram:
        return
    kind, used, most = (
        ("flash", flash, most_flash) if flash > most_flash else ("RAM", ram, most_ram)
    )
    fitting = [b.name for b in target.boards if flash <= b.flash and ram <= b.ram]
    advice = f"it fits {' or '.join(fitting)}" if fitting else "no board that is listed is larger"
    if kind == "flash":
        room = sum(layer.bytes for layer in layers) - (used - most)
        density = room / (1.25 * sum(layer.bytes_dense for layer in layers))
        if density > 0:
            advice += f", or prune it to a ratio of about {1 - density:.2f}"
    raise ValueError(
        f"The model needs {used:,} bytes of {kind}, {used - most:,} more than the {most:,} of "
        f"{name} ({most // KIB} KiB); {advice}."
    )


def _verify_here(scratch, network, data, target, inputs, rounding):
    """(the outputs that the project must give, where they were proved).

    The interpreter that is installed rounds once or twice; the C that rounds alike must equal it.
    """
    reference = convert.run_reference(data, inputs)

    def outputs_with(way):
        layers = lower(network, target, rounding=way)
        project = scratch / way
        write(project, c_source.emit(network, data, layers, target, inputs, reference, way))
        return host.invoke(host.build(project, project), inputs)

    outputs = outputs_with(rounding)
    where = "this machine"
    if not _equal(outputs, reference):
        other = "double" if rounding == "single" else "single"
        where += f" (with {other} rounding)"
        _require_equal(outputs_with(other), reference, "TensorFlow Lite's")
    if rounding == "double" and importlib.util.find_spec("tflite_micro"):
        _require_equal(outputs, convert.run_tflite_micro(data, inputs), "TensorFlow Lite Micro's")
        where += " (TensorFlow Lite Micro)"
    return outputs, (where,)


def _require_equal(outputs, reference, whose):
    if not _equal(outputs, reference):
        wrong = sum(np.count_nonzero(a != b) for a, b in zip(outputs, reference, strict=True))
        raise RuntimeError(
            f"The C of this model differs from {whose} kernels in {wrong} of "
            f"{sum(b.size for b in reference)} test outputs; nothing was written. "
            "Please report the model."
        )


def _verify_on_board(project, scratch, target, inputs, outputs):
    """(where it was proved, bytes of the program or 0, bytes of stack or 0)."""
    if not _board_is_here(target):
        return (), 0, 0
    elf = board.build(project, scratch, target)
    result = board.run(elf, inputs)
    if not _equal(result.outputs, outputs):
        raise RuntimeError(
            f"A virtual {target} gives other outputs than this machine; nothing was written. "
            "Please report the model."
        )
    sizes = board.sizes(elf)
    where = f"a virtual {target} ({result.compiler})"
    return (where,), sizes["text"] + sizes["data"], result.stack_bytes


def _board_is_here(target):
    """Whether the emulator is installed, and a compiler for the target."""
    try:
        toolchain.arm(target)
    except RuntimeError:
        return False
    return all(map(importlib.util.find_spec, ("unicorn", "capstone", "elftools")))


def _equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _require_replaceable(out: Path):
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out` is a folder to write; {out} is a file.")
    if out.is_dir() and any(out.iterdir()) and not (out / "model.json").is_file():
        raise ValueError(
            f"{out} holds other files than an earlier export; choose a new folder for `out`."
        )


def _replace(project: Path, out: Path, scratch: Path):
    """Puts the project in the place of `out`, which at no time is half-written."""
    before = scratch / "before"
    if out.exists():
        out.rename(before)
    try:
        project.rename(out)
    except OSError:
        if before.exists():
            before.rename(out)
        raise
