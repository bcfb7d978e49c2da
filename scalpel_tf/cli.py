"""scalpel-tf: demo, prune, analyze, export, run, report, build, targets; exit code 0 on success."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from absl import app
from absl.flags import argparse_flags

from scalpel_tf.core.targets import ALIASES, KIB, TARGETS
from scalpel_tf.report import save_json, table


def main() -> None:
    """The console script."""
    app.run(_main, flags_parser=parse)


def parse(arguments):
    """The namespace of a command line; argparse explains what is wrong with it and exits with 2."""
    parser = argparse_flags.ArgumentParser(
        prog="scalpel-tf",
        description="Prunes Keras networks to fit their hardware and makes them run fast there.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (function, add_arguments) in COMMANDS.items():
        summary = function.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.add_argument("--json", type=Path, metavar="PATH", help="write the result here")
        command.set_defaults(function=function)
    return parser.parse_args(arguments[1:])


def _main(options):
    try:
        result = options.function(options)
        if options.json:
            save_json(options.json, result)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"scalpel-tf {options.command}: {error}", file=sys.stderr)
        return 1
    return 0


def demo(options):
    """Train, prune, export and run LeNet-300-100, and print what was gained."""
    from scalpel_tf.demo import demo as run_demo

    return run_demo(options.out, data_dir=options.data_dir, target=options.target)


def _demo_arguments(command):
    command.add_argument("--out", type=Path, default=Path("out/demo"))
    command.add_argument("--data_dir", help="a folder with mnist.npz")
    _target(command)


def prune(options):
    """Fit a .keras model to its target by `scalpel`, or, with --ratio, prune it to that once."""
    if options.ratio is None and not options.layer_ratio:
        return _scalpel(options)
    from scalpel_tf.retrain import retrain

    return retrain(
        options.model,
        options.data,
        target=options.target,
        ratio=dict(options.layer_ratio) if options.layer_ratio else options.ratio,
        epochs=20 if options.epochs is None else options.epochs,
        learning_rate=options.learning_rate,
        out=options.out,
        skip=options.skip,
    )


def _scalpel(options):
    import tensorflow as tf

    from scalpel_tf.driver.run import scalpel
    from scalpel_tf.retrain import load_data, load_model

    tf.config.experimental.enable_op_determinism()
    model = load_model(options.model)
    x, y, x_valid, y_valid = load_data(options.data)
    if options.learning_rate is not None and model.compiled:
        model.optimizer.learning_rate = options.learning_rate
    words = [word for word in sys.argv[1:] if word != "--"]
    result = scalpel(
        model,
        (x, y),
        options.target,
        out=options.out,
        validation_data=(x_valid, y_valid),
        max_accuracy_drop=options.max_accuracy_drop,
        flash=options.flash,
        ram=options.ram,
        latency=options.latency,
        method=options.method,
        mix=options.mix,
        metric=options.metric,
        epochs=3 if options.epochs is None else options.epochs,
        step=options.step,
        skip=options.skip,
        fit_options={"batch_size": options.batch_size},
        seed=options.seed,
        command=shlex.join(["scalpel-tf", *words]),
    )
    print(result)
    return {**result.state, "met": result.met}


def _prune_arguments(command):
    command.add_argument("model", type=Path, help="a trained .keras model")
    command.add_argument(
        "--data",
        type=Path,
        required=True,
        help=".npz with x_train and y_train, and x_valid and y_valid or else a tenth of them",
    )
    command.add_argument(
        "--out", type=Path, required=True, help="the folder of the run; with --ratio a .keras file"
    )
    command.add_argument("--target", choices=(*ALIASES, *TARGETS), default="cortex-m4")
    command.add_argument("--skip", action="append", metavar="LAYER", help="name or regular expr.")
    command.add_argument("--epochs", type=int, help="of each step (3); with --ratio of all (20)")
    command.add_argument("--learning_rate", type=float, help="if not the model's own")
    loop = command.add_argument_group("fitting it to the target")
    loop.add_argument("--max_accuracy_drop", type=float, default=0.0, help="0.01 is one point")
    loop.add_argument("--flash", type=_bytes, help="budget, such as 256K")
    loop.add_argument("--ram", type=_bytes, help="budget, such as 64K")
    loop.add_argument("--latency", type=float, help="budget: cycles on a Cortex-M, seconds on x86")
    loop.add_argument(
        "--method", choices=("scalpel", "traditional", "optimized"), default="scalpel"
    )
    loop.add_argument("--mix", choices=("auto", "paper"), default="auto")
    loop.add_argument("--metric", help="of the compiled ones; the first accuracy by default")
    loop.add_argument("--step", type=float, default=0.6, help="what a step leaves of a layer")
    loop.add_argument("--batch_size", type=int, default=64)
    loop.add_argument("--seed", type=int, default=0)
    once = command.add_argument_group("pruning it once")
    once.add_argument("--ratio", type=float, help="fraction of groups removed")
    once.add_argument(
        "--layer_ratio", type=_layer_ratio, action="append", metavar="LAYER=RATIO", help="repeated"
    )


def export(options):
    """Turn a .tflite, or a .keras model and data, into a verified C project or a library."""
    from scalpel_tf.deploy.export import export as run_export

    data = options.representative_data
    report = run_export(
        options.model,
        target=options.target,
        out=options.out,
        representative_data=None if data is None else _load(data),
        device=options.device,
        flash=options.flash,
        ram=options.ram,
        rounding=options.rounding,
        project=options.project,
        check=options.check,
        dtype=options.dtype,
    )
    print(report)
    return {**vars(report), "path": str(report.path)}


def _export_arguments(command):
    command.add_argument("model", type=Path)
    command.add_argument("--out", type=Path, required=True, help="the folder to write")
    command.add_argument("--representative_data", type=Path, help=".npy of some hundred inputs")
    command.add_argument("--device", help="a board of `scalpel-tf targets`")
    command.add_argument("--flash", type=_bytes, help="limit, such as 256K")
    command.add_argument("--ram", type=_bytes, help="limit, such as 64K")
    command.add_argument("--rounding", choices=("single", "double"), default="single")
    command.add_argument(
        "--project", default="plain", help="plain, cmake, arduino, zephyr or tflm (default: plain)"
    )
    command.add_argument("--check", action="store_true", help="with a CRC-32 of the constants")
    command.add_argument("--dtype", choices=("float32", "int8"), help="on x86-64; default: float32")
    command.add_argument("--target", choices=("x86-64", *TARGETS), default="cortex-m4")


def analyze(options):
    """Print what every operator of a model costs, and what pruning would gain."""
    from scalpel_tf.deploy.analyze import analyze as run_analyze

    data = options.representative_data
    analysis = run_analyze(
        options.model,
        target=options.target,
        representative_data=None if data is None else _load(data),
    )
    print(analysis)
    return asdict(analysis)


def _analyze_arguments(command):
    command.add_argument("model", type=Path, help="an int8 .tflite, or a .keras model")
    command.add_argument("--representative_data", type=Path, help=".npy of some hundred inputs")
    _target(command)


def run(options):
    """Build an exported project, run it on the virtual board, print instructions and cycles."""
    from scalpel_tf.deploy import project
    from scalpel_tf.deploy.export import quantise
    from scalpel_tf.deploy.export import run as run_project

    entries = project.read(options.project)["inputs"]
    arrays = [_load(path) for path in options.inputs]
    arrays = [quantise(a, e) for a, e in zip(arrays, entries, strict=False)] + arrays[
        len(entries) :
    ]
    result = run_project(options.project, arrays, target=options.target)
    if options.outputs:
        with open(options.outputs, "wb") as file:
            np.save(file, result.outputs[0])
    rows = [["layer", "instructions", "cycles"]]
    counts = [*result.layers, result]
    for count in counts:
        cycles = "" if count.cycles is None else f"{count.cycles:,}"
        rows.append([getattr(count, "name", "total"), f"{count.instructions:,}", cycles])
    print(table(rows))
    print(f"cycles are {result.source}; {len(arrays[0])} inputs; built by {result.compiler}")
    return {
        "source": result.source,
        "compiler": result.compiler,
        "instructions": result.instructions,
        "cycles": result.cycles,
        "stack_bytes": result.stack_bytes,
        "layers": [vars(layer) for layer in result.layers],
        "outputs": [output.tolist() for output in result.outputs],
    }


def _run_arguments(command):
    command.add_argument("project", type=Path, help="a folder that `export` wrote")
    command.add_argument("--target", choices=_microcontrollers(), help="default: as exported")
    command.add_argument(
        "--inputs", type=Path, nargs="+", required=True, help=".npy, one per input, samples first"
    )
    command.add_argument("--outputs", type=Path, help=".npy to write the first output to")


def report(options):
    """Write report.html into the folder of a run, which may still be going."""
    from scalpel_tf import report_page

    path = report_page.write(options.run)
    print(path)
    return {"report": str(path)}


def _report_arguments(command):
    command.add_argument("run", type=Path, metavar="DIR", help="the folder that a run writes")


def build(options):
    """Compile the C++ ops for the TensorFlow that is installed."""
    from scalpel_tf.deploy import op_library

    library = op_library.build()
    isas = op_library.load().kernels.isas()
    print(f"{library}, with kernels for {', '.join(isas)}")
    return {"library": str(library), "isas": isas}


def targets(options):
    """List the targets, their boards, and where these facts are from."""
    rows = [["target", "parallelism", "group", "boards (flash, RAM in KiB)"]]
    for target in TARGETS.values():
        boards = ", ".join(f"{b.name} ({b.flash // KIB}, {b.ram // KIB})" for b in target.boards)
        rows.append([target.name, target.parallelism, str(target.group_width or "nodes"), boards])
    print(table(rows))
    return [{**asdict(target), "features": sorted(target.features)} for target in TARGETS.values()]


def _target(command):
    command.add_argument("--target", choices=list(TARGETS), default="cortex-m4")


def _microcontrollers():
    return [target.name for target in TARGETS.values() if target.is_microcontroller]


def _load(path):
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a .npy file: {error}") from error


def _layer_ratio(text):
    name, equals, ratio = text.rpartition("=")
    if not equals:
        raise ValueError(text)
    return name, float(ratio)


def _bytes(text):
    unit = {"K": 1024, "M": 1024**2}.get(text[-1:].upper(), 1)
    return int(text if unit == 1 else text[:-1]) * unit


COMMANDS = {
    "demo": (demo, _demo_arguments),
    "prune": (prune, _prune_arguments),
    "export": (export, _export_arguments),
    "analyze": (analyze, _analyze_arguments),
    "run": (run, _run_arguments),
    "report": (report, _report_arguments),
    "build": (build, lambda command: None),
    "targets": (targets, lambda command: None),
}

if __name__ == "__main__":
    main()
