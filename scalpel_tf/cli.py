"""scalpel-tf: demo, prune, analyze, export, run, report, build, targets; exit code 0 on success."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from absl import app
from absl.flags import argparse_flags

from scalpel_tf.cli_prune import prune, prune_arguments, size
from scalpel_tf.core.targets import KIB, TARGETS
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
    command.add_argument("--flash", type=size, help="limit, such as 256K")
    command.add_argument("--ram", type=size, help="limit, such as 64K")
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


COMMANDS = {
    "demo": (demo, _demo_arguments),
    "prune": (prune, prune_arguments),
    "export": (export, _export_arguments),
    "analyze": (analyze, _analyze_arguments),
    "run": (run, _run_arguments),
    "report": (report, _report_arguments),
    "build": (build, lambda command: None),
    "targets": (targets, lambda command: None),
}

if __name__ == "__main__":
    main()
