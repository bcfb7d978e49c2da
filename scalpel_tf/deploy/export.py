"""A trained model -> a verified C project for a Cortex-M, written whole or not at all."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scalpel_tf.core.targets import KIB, TARGETS, Board, Target, find_target
from scalpel_tf.deploy import (
    board,
    c_source,
    convert,
    layouts,
    native,
    rewrite,
    tflite,
    tflm,
    verify,
)
from scalpel_tf.deploy import project as projects
from scalpel_tf.deploy.int8 import require_int8
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import MemoryPlan, operator_peaks, plan_memory
from scalpel_tf.deploy.output_folder import replace_folder, require_replaceable
from scalpel_tf.deploy.verify import write as write

STACK = 1024  # bytes that a project may need beside its arena, before it is known


@dataclass(frozen=True)
class ExportReport:
    """What was written, and on what it was proved.

    layers: as in model.json.  flash: bytes of the whole program where it could be built for the
    target, else of its constants.  ram: arena and stack, or the arena alone.  stack: the most that
    model_invoke can take; stack_measured: what it took on the virtual board; 0 where unknown.
    verified: where the outputs equalled TensorFlow Lite's reference kernels, bit for bit.
    """

    path: Path
    target: str
    layers: tuple[dict, ...]
    flash: int
    ram: int
    stack: int
    stack_measured: int
    verified: tuple[str, ...]

    def __str__(self):
        head = ("layer", "kernel", "density", "bytes", "dense", "RAM")
        lines = ["{:<16} {:<18} {:>8} {:>9} {:>9} {:>8}".format(*head)]
        for layer in self.layers:
            density = "" if layer["density"] is None else f"{layer['density']:.1%}"
            lines.append(
                f"{layer['name']:<16} {layer['kernel']:<18} {density:>8} {layer['bytes']:>9,} "
                f"{layer['bytes_dense']:>9,} {layer['ram']:>8,}"
            )
        lines.append(f"flash {self.flash:,} bytes, RAM {self.ram:,} bytes on {self.target}")
        if self.stack:
            lines.append(
                f"stack: at most {self.stack:,} bytes, {self.stack_measured:,} measured; in the RAM"
            )
        return "\n".join(
            [
                *lines,
                *(f"equal to TensorFlow Lite, bit for bit, on {where}" for where in self.verified),
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
    project: str = "plain",
    check: bool = False,
    dtype: str | None = None,
) -> ExportReport | native.NativeReport:
    """Writes the C project of a model to the folder `out`; an ExportReport says what is in it.

    For target="x86-64" it is a shared library with a C header; a NativeReport says what is in it.

    model: a Keras model (then representative_data is needed, see `convert`), the path of any int8
    `.tflite`, or its bytes.  device: a board that `scalpel-tf targets` lists, whose flash and RAM
    are the limits; the target's largest board by default.  flash, ram: the limits in bytes instead.
    rounding: "single", as TensorFlow Lite's interpreter rounds the sums of fully connected layers,
    or "double", as TensorFlow Lite Micro does; about one output in a hundred of the demo differs.
    project: "plain", "cmake", "arduino" or "zephyr", the build system that the folder is for (see
    layouts.py), or "tflm" for TensorFlow Lite Micro with custom operators (see tflm.py).
    check: with a model_check(), which finds damaged constants by their CRC-32.
    dtype: "float32" (the default for x86-64) or "int8" (on a microcontroller, always).
    `out` may be missing, empty, or an earlier export, which is replaced.
    Raises ValueError for a model that cannot be exported, RuntimeError without a C compiler.
    """
    if target in native.TARGETS:
        given = {"device": device, "flash": flash, "ram": ram, "check": check or None}
        given = [name for name, value in given.items() if value is not None]
        if given or rounding != "single" or project != "plain":
            names = ", ".join(given) or "rounding and project"
            raise ValueError(f"{names}: for microcontrollers only; leave out for {target}.")
        return native.export(
            model,
            target=target,
            out=out,
            dtype=dtype or "float32",
            representative_data=representative_data,
        )
    facts = find_target(target)
    if not facts.is_microcontroller:
        names = ", ".join(t.name for t in TARGETS.values() if t.is_microcontroller)
        raise ValueError(
            f"`export` writes C for a microcontroller ({names}) or for x86-64; got {target!r}."
        )
    if dtype not in (None, "int8"):
        raise ValueError(f'`dtype` is "int8" on a microcontroller; got {dtype!r}.')
    out = Path(out)
    require_replaceable(out)
    device = _device(facts, device)
    limits = _limits(device, flash, ram)
    if rounding not in ("single", "double"):
        raise ValueError(f'`rounding` is "single" or "double"; got {rounding!r}.')
    projects_known = (*layouts.LAYOUTS, "tflm")
    if project not in projects_known:
        raise ValueError(
            f"`project` is one of {', '.join(map(repr, projects_known))}; got {project!r}."
        )
    if check and project == "tflm":
        raise ValueError(
            '`check` is for the constants of C projects; a project for "tflm" holds a flatbuffer. '
            "Leave one of them out."
        )
    data = _bytes_of(model, representative_data)
    if project == "tflm":
        return _export_tflm(data, facts, out, limits)
    network = tflite.read(data)
    require_int8(network)
    layers = lower(network, facts, rounding=rounding)
    plan = plan_memory(network, layers)
    if plan.arena + STACK > limits[2]:
        layers = lower(network, facts, rounding=rounding, tight=True)
        plan = plan_memory(network, layers)
    constants = sum(layer.bytes for layer in layers)
    _require_fit(constants, plan.arena, limits, facts, layers, plan)
    inputs = verify.probes(network)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        scratch = Path(scratch)
        outputs, here, crc = verify.here(scratch, network, data, facts, inputs, rounding)
        crc = crc if check else None
        files = c_source.emit(network, data, layers, facts, inputs, outputs, rounding, crc)
        write(scratch / "plain", files)
        there = verify.on_board(scratch / "plain", scratch, target, inputs, outputs)
        deepest = there.stack if there.deepest is None else there.deepest
        used = (there.program or constants, plan.arena + deepest)
        _require_fit(*used, limits, facts, layers, plan)
        description = {**json.loads(files["model.json"]), "stack_bytes": deepest}
        write(scratch / "project", layouts.arrange(files, project, description, device, facts))
        replace_folder(scratch / "project", out, scratch)
    return ExportReport(
        path=out,
        target=target,
        layers=tuple(description["layers"]),
        flash=used[0],
        ram=used[1],
        stack=deepest,
        stack_measured=there.stack,
        verified=here + there.where,
    )


def _export_tflm(data, target, out, limits) -> ExportReport:
    """Every operator that becomes a custom one is proved by itself, with the same kernels."""
    network = tflite.read(data)
    found = tflm.sparse_operators(network, target)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        scratch = Path(scratch)
        where = set()
        for index in found:
            alone = rewrite.isolate(data, index)
            operator = tflite.read(alone)
            require_int8(operator)
            folder = scratch / str(index)
            inputs = verify.probes(operator)
            where.update(verify.here(folder, operator, alone, target, inputs, "double")[1])
        files = tflm.emit(data, target, found)
        description = json.loads(files["model.json"])
        used = (description["model_bytes"], description["arena_bytes"])
        _require_fit(*used, limits, target, [], None)
        write(scratch / "project", files)
        replace_folder(scratch / "project", out, scratch)
    return ExportReport(
        path=out,
        target=target.name,
        layers=tuple(description["layers"]),
        flash=used[0],
        ram=used[1],
        stack=0,
        stack_measured=0,
        verified=tuple(sorted(where)),
    )


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


def _bytes_of(model, representative_data):
    model = convert.load(model)
    if isinstance(model, bytes):
        return model
    if representative_data is None:
        raise ValueError(
            "A Keras model becomes int8 through `representative_data`, some hundred inputs of the "
            "kind that it will see; got none."
        )
    return convert.convert(model, representative_data)


def _device(target: Target, name):
    """The board of that name, or the one with the most flash."""
    boards = {board.name: board for board in target.boards}
    if name is not None and name not in boards:
        raise ValueError(
            f"Unknown device {name!r} for {target.name}; expected one of {', '.join(boards)}."
        )
    return boards[name] if name else max(target.boards, key=lambda board: board.flash)


def _limits(device: Board, flash, ram):
    """(name of what sets the limits, bytes of flash, bytes of RAM)."""
    given = flash is not None or ram is not None
    return (
        "the limits given" if given else device.name,
        device.flash if flash is None else flash,
        device.ram if ram is None else ram,
    )


def _require_fit(flash, ram, limits, target, layers: list[Layer], plan: MemoryPlan | None):
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
        density = room / max(1.25 * sum(layer.bytes_dense for layer in layers), 1)
        if density > 0:
            advice += f", or prune it to a ratio of about {1 - density:.2f}"
    elif plan is not None:
        advice += f"; {_widest(layers, plan)}"
    raise ValueError(
        f"The model needs {used:,} bytes of {kind}, {used - most:,} more than the {most:,} of "
        f"{name} ({most // KIB} KiB); {advice}."
    )


def _widest(layers, plan):
    """Which layer needs the RAM, and what would make it less."""
    step, (name, most) = max(enumerate(operator_peaks(layers, plan)), key=lambda item: item[1][1])
    layer = layers[step]
    words = f"{name} ({layer.op}) breaks it with {most:,} bytes alive"
    if layer.scratch:
        words += f", {layer.scratch:,} of them to work in"
    return f"{words}, where a smaller input or fewer channels would help"
