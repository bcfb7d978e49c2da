"""LeNet-300-100 on the whole of MNIST, pruned in groups of 4 and of 8; three seeds each.

With --dataset fashion_mnist the same, no setting changed, on another task.

    python benchmarks/lenet_300_100.py --json out.json   # test errors of the committed weights
    python benchmarks/lenet_300_100.py --train           # makes the weights that are missing

Needs all of MNIST (SCALPEL_TF_DATA, --data_dir or a download). Training takes 3 to 6 minutes a
run on one core; a finished run is skipped and a killed one goes on from its last whole epoch. Every
choice in RECIPE was made on the validation split; weights are those of the last epoch; only the
evaluation reads the test split. The pruned networks are made as those of paper/weight_pruning.py,
of more groups; they train on from the dense ones for three times their epochs, with the same input
dropout; there is no dense control of that length.
"""

import argparse
import sys
import time
from pathlib import Path

import keras
import numpy as np

import scalpel_tf as sc
from scalpel_tf.core import gcsr
from scalpel_tf.report import save_json, table

sys.path.append(str(Path(__file__).parent / "paper"))
import checkpoints  # noqa: E402
import node_pruning  # noqa: E402
import small_networks  # noqa: E402
import weight_pruning  # noqa: E402

FOLDER = Path(__file__).parent / "checkpoints"
NETWORK, WIDTHS, SEEDS, LAYERS = "lenet_300_100", (4, 8), (0, 1, 2), ("fc1", "fc2", "fc3")
RECIPE = {
    "epochs": 120,
    "flat": 48,
    "rate": 0.1,
    "input_dropout": 0.2,
    "l2": 5e-5,
    "group_lasso": 5e-5,
    "without_lasso": ["fc3"],
    "prune_epochs": 40,
    "density": {"fc1": 0.065, "fc2": 0.12, "fc3": 0.60},
}
MAX_ERROR, MAX_LOSS, MIN_PRUNED = 1.75, 0.10, 0.92  # percent, points, fraction of all weights


def stored(folder, kind, seed):
    """The file of a run; `kind` is "dense", "w4" or "w8"."""
    return folder / f"{NETWORK}_{kind}_s{seed}.npz"


def load(folder, kind, seed):
    """(model, how it was made) of a stored run."""
    return small_networks.load(stored(folder, kind, seed), NETWORK)


def train(data, folder, seeds=SEEDS, dataset="mnist"):
    """Stores every run that `folder` lacks."""
    for seed in seeds:
        dense, _ = node_pruning.run(NETWORK, "dense", seed, data, folder)
        for width in WIDTHS:
            path = stored(folder, f"w{width}", seed)
            if path.exists():
                continue
            print(f"groups of {width}, seed {seed}", flush=True)
            started, backup = time.time(), folder / "unfinished" / path.stem
            keras.utils.set_random_seed(seed)
            recipe = RECIPE | {"width": width}
            model = weight_pruning.prune(dense, None, recipe, data, backup)
            about = {
                "seed": seed,
                "dataset": dataset,
                "recipe": recipe,
                "command": "python benchmarks/lenet_300_100.py --train",  # and --dataset
                "validation_error": small_networks.error(model, data.x_valid, data.y_valid),
                "seconds": round(time.time() - started),
            }
            small_networks.save(model, path, backup, **about)


def errors(model, data):
    """The test errors of a model: as it is, and as TFLite's reference kernels run it in int8."""
    images = data.x_test, data.y_test
    int8 = checkpoints.to_int8(model, data)
    return {
        "float32": small_networks.error(model, *images),
        "int8": checkpoints.int8_error(int8, *images),
    }


def densities(model, width):
    """{layer: fraction of its weights that grouped CSR stores}, and "total"."""
    kernels = {name: np.asarray(model.get_layer(name).kernel).T for name in LAYERS}
    kept = {name: gcsr.encode(kernel, width).values.size for name, kernel in kernels.items()}
    total = sum(kept.values()) / sum(kernel.size for kernel in kernels.values())
    return {**{name: kept[name] / kernels[name].size for name in LAYERS}, "total": total}


def evaluate(data, folder, seeds=SEEDS):
    """Two rows, float32 and int8, for each (width, seed), in the row format of the benchmarks."""
    rows, dense_errors = [], {}
    for seed in seeds:
        model, _ = load(folder, "dense", seed)
        dense_errors[seed] = errors(model, data)
    for width in WIDTHS:
        for seed in seeds:
            print(f"evaluating groups of {width}, seed {seed}", file=sys.stderr, flush=True)
            model, about = load(folder, f"w{width}", seed)
            density = densities(model, width)
            for dtype, ours in errors(model, data).items():
                rivals = {f"dense {kind}": value for kind, value in dense_errors[seed].items()}
                rows.append(
                    {
                        "case": "LeNet-300-100",
                        "kernel": "sparse",
                        "width": width,
                        "seed": seed,
                        "density": density["total"],
                        "densities": density,
                        "dtype": dtype,
                        "ours": ours,
                        "unit": "% test error",
                        "rivals": rivals,
                        "rival": min(rivals, key=rivals.get),
                        "ratio": min(rivals.values()) / ours,
                        "source": "measured",
                        "trained": about,
                    }
                )
    return rows


def dense_error(row):
    return row["rivals"]["dense float32"]


def summary(rows):
    """The table, and whether the mean of the seeds meets the requirement for every width."""
    lines = [["width", "seed", *LAYERS, "pruned", "dense", "pruned", "int8"]]
    met = True
    for width in WIDTHS:
        floats, ints = (
            [r for r in rows if r["width"] == width and r["dtype"] == dtype]
            for dtype in ("float32", "int8")
        )
        for before, after in zip(floats, ints, strict=True):
            lines.append(
                [str(width), str(before["seed"])]
                + [f"{before['densities'][name]:.1%}" for name in LAYERS]
                + [f"{1 - before['density']:.2%}"]
                + [f"{value:.2f}" for value in (dense_error(before), before["ours"], after["ours"])]
            )
        dense = np.array([dense_error(row) for row in floats])
        ours = np.array([[row["ours"] for row in group] for group in (floats, ints)])
        pruned = min(1 - row["density"] for row in floats)
        lines.append(
            [str(width), "mean", "", "", "", f"{pruned:.2%}"] + [spread(v) for v in (dense, *ours)]
        )
        mean = ours.mean(axis=1).max()
        met &= pruned >= MIN_PRUNED and mean <= min(MAX_ERROR, dense.mean() + MAX_LOSS) + 1e-9
    return table(lines), met


def spread(values):
    """Mean and, of several values, standard deviation."""
    deviation = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{deviation}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train the runs that are missing")
    parser.add_argument("--dataset", choices=("mnist", "fashion_mnist"), default="mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--folder", type=Path, help="where the weights are")
    parser.add_argument("--data_dir", help="a folder with mnist.npz")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    flags = parser.parse_args()
    data = getattr(sc.zoo.datasets, flags.dataset)(flags.data_dir)
    if len(data.y_test) != 10_000:
        raise SystemExit(f"All of {flags.dataset} is needed; got {data.source}.")
    own = FOLDER if flags.dataset == "mnist" else FOLDER / flags.dataset
    folder = flags.folder or own
    if flags.train:
        return train(data, folder, flags.seeds, flags.dataset)
    rows = [row | {"dataset": flags.dataset} for row in evaluate(data, folder, flags.seeds)]
    text, met = summary(rows)
    print(text)
    if flags.json:
        save_json(flags.json, {**small_networks.machine(), "rows": rows})
    if flags.dataset != "mnist":
        return print(f"test error in % on {data.source}; nothing is required")
    print(
        f"test error in %; required of the mean: at most dense + {MAX_LOSS:.2f} and {MAX_ERROR}, "
        f"with {MIN_PRUNED:.0%} pruned: {'met' if met else 'MISSED'}"
    )
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
