"""`scalpel-tf prune`: its flags, and which of the two ways to prune they mean."""

import shlex
import sys
from pathlib import Path

from scalpel_tf.core.targets import ALIASES, TARGETS


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
        rounds=options.rounds,
        distillation=options.distillation,
        skip=options.skip,
        fit_options={"batch_size": options.batch_size},
        seed=options.seed,
        command=shlex.join(["scalpel-tf", *words]),
    )
    print(result)
    return {**result.state, "met": result.met}


def prune_arguments(command):
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
    loop.add_argument("--flash", type=size, help="budget, such as 256K")
    loop.add_argument("--ram", type=size, help="budget, such as 64K")
    loop.add_argument("--latency", type=float, help="budget: cycles on a Cortex-M, seconds on x86")
    loop.add_argument(
        "--method", choices=("scalpel", "traditional", "optimized"), default="scalpel"
    )
    loop.add_argument("--mix", choices=("auto", "paper"), default="auto")
    loop.add_argument("--metric", help="of the compiled ones; the first accuracy by default")
    loop.add_argument("--step", type=float, default=0.6, help="what a step leaves of a layer")
    loop.add_argument("--rounds", type=int, default=3, help="at most, each of smaller steps")
    loop.add_argument(
        "--distillation", type=float, default=1.0, help="weight of the dense answers; 0: none"
    )
    loop.add_argument("--batch_size", type=int, default=64)
    loop.add_argument("--seed", type=int, default=0)
    once = command.add_argument_group("pruning it once")
    once.add_argument("--ratio", type=float, help="fraction of groups removed")
    once.add_argument(
        "--layer_ratio", type=_layer_ratio, action="append", metavar="LAYER=RATIO", help="repeated"
    )


def _layer_ratio(text):
    name, equals, ratio = text.rpartition("=")
    if not equals:
        raise ValueError(text)
    return name, float(ratio)


def size(text: str) -> int:
    """Bytes of a text such as 256K."""
    unit = {"K": 1024, "M": 1024**2}.get(text[-1:].upper(), 1)
    return int(text if unit == 1 else text[:-1]) * unit
