"""Sparse products on this machine's processor, beside every library that its user could pick.

    python benchmarks/cpu_kernels.py --json k.json --plots docs

spmv-4096x4096 and spmm-128x1200x729 are the paper's figures 13 and 14 (Yu et al., Scalpel, ISCA
2017): random groups at exact densities, warm caches, one thread. Every result is held against
float64 before it is timed. All alternatives take turns in one process, loops are in C where the
library is C, and a figure is the median of the rounds. `--quick` runs a few densities only.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import cpu_goals
import cpu_libraries
import cpu_ours
import cpu_plots
import cpu_rivals
import numpy as np
import paired
from cpu_ours import Product, convolve, multiply, narrow, random_matrix, widen

from scalpel_tf.core import gcsr
from scalpel_tf.report import save_json, table

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
QUICK = (0.1, 0.5, 1.0)
SMALL = (0.06, 0.1, 0.3, 0.5, 1.0)
BATCHES, BATCH_DENSITIES = (2, 4, 8, 16), (0.1, 0.3, 0.5)
THREAD_DENSITY = 0.3
CASES = ("spmv", "spmm", "batches", "lenet", "threads")
IN_C = (*cpu_rivals.DENSE[:3], cpu_rivals.mkl_sparse)  # those without an interpreter's overhead


def compare(kernels, product: Product, density, width, dtypes, rivals, *, budget, **facts):
    """Rows of one product, ours in every dtype, and the reasons of the rivals that are absent."""
    sparse = gcsr.encode(product.matrix, width)
    alternatives, reasons = cpu_rivals.present(rivals, product, 1)
    paired.check(alternatives, *product.expected())
    own = {dtype: narrow(sparse, dtype) for dtype in dtypes}
    sizes = {
        dtype: matrix.size_bytes + (0 if scales is None else scales.nbytes)
        for dtype, (matrix, scales) in own.items()
    }
    for dtype, (matrix, scales) in own.items():
        ours = multiply(kernels, matrix, scales, product, threads=1, name=dtype)
        expected = Product(widen(matrix, scales), product.x, product.kind).expected()
        paired.check([ours], *expected)
        alternatives += [ours, paired.read(sizes[dtype], f"read {dtype}")]
    dense_bytes = product.matrix.nbytes
    alternatives.append(paired.read(dense_bytes, "read dense"))
    names = [each.name for each in alternatives]
    times = paired.fastest(names, paired.measure(alternatives, budget=budget))
    theirs = {name: times[name] for name in names if name not in dtypes and "read" not in name}
    rows = []
    for dtype in dtypes:
        dense = min(
            (name for name in theirs if name in cpu_rivals.DENSE_NAMES),
            key=lambda name: paired.median(theirs[name]),
        )
        rows.append(
            paired.row(
                ours=times[dtype],
                rivals=theirs,
                target=f"x86-64-{kernels.isa}",
                kernel="sparse",
                density=density,
                dtype=dtype,
                width=width,
                threads=1,
                batch=product.n,
                bytes=sizes[dtype],
                size_ratio=sizes[dtype] / dense_bytes,
                roofline=paired.median(times[f"read {dtype}"]) * 1e6,
                dense_roofline=paired.median(times["read dense"]) * 1e6,
                dense=dense,
                relative=paired.median(times[dtype] / theirs[dense]),
                **facts,
            )
        )
    return rows, reasons


def spmv(kernels, width, quick, rng):
    for density in QUICK if quick else DENSITIES:
        matrix = random_matrix(4096, 4096, density, width, rng)
        product = Product(matrix, rng.random((1, 4096), np.float32), "rows")
        dtypes, rivals = ("float32", "bfloat16", "int8"), cpu_rivals.DENSE + cpu_rivals.SPARSE
        facts = {"case": "spmv-4096x4096", "budget": 3.0}
        yield compare(kernels, product, density, width, dtypes, rivals, **facts)


def spmm(kernels, width, quick, rng):
    for density in QUICK if quick else DENSITIES:
        matrix = random_matrix(128, 1200, density, width, rng)
        product = Product(matrix, rng.random((1200, 729), np.float32), "columns")
        dtypes, rivals = ("float32", "bfloat16", "int8"), cpu_rivals.DENSE + cpu_rivals.SPARSE
        facts = {"case": "spmm-128x1200x729", "budget": 3.0}
        yield compare(kernels, product, density, width, dtypes, rivals, **facts)


def batches(kernels, width, quick, rng):
    for density in BATCH_DENSITIES[:1] if quick else BATCH_DENSITIES:
        matrix = random_matrix(4096, 4096, density, width, rng)
        for batch in BATCHES:
            product = Product(matrix, rng.random((batch, 4096), np.float32), "rows")
            dtypes, rivals = ("float32",), cpu_rivals.DENSE + cpu_rivals.SPARSE
            facts = {"case": "batch-4096x4096", "budget": 2.0}
            yield compare(kernels, product, density, width, dtypes, rivals, **facts)


def lenet(kernels, width, quick, rng):
    for density in QUICK if quick else SMALL:
        matrix = random_matrix(300, 784, density, width, rng)
        product = Product(matrix, rng.random((1, 784), np.float32), "rows")
        dtypes = ("float32", "bfloat16", "int8")
        facts = {"case": "LeNet-300x784", "budget": 1.0}
        yield compare(kernels, product, density, width, dtypes, IN_C, **facts)


def threads(kernels, width, quick, rng):
    """One thread against two, ours alone: AlexNet's fc6, and one group of its conv2."""
    fc6 = gcsr.encode(random_matrix(4096, 9216, THREAD_DENSITY, width, rng), width)
    x = Product(gcsr.decode(fc6), rng.random((1, 9216), np.float32), "rows")
    conv2 = gcsr.encode(random_matrix(128, 1200, THREAD_DENSITY, width, rng), width)
    image, bias = rng.random((1, 27, 27, 48), np.float32), rng.random(128, np.float32)
    geometry = {"kernel_size": (5, 5), "padding": "same"}
    layers = {
        "AlexNet fc6": (fc6, partial(multiply, kernels, fc6, None, x)),
        "AlexNet conv2": (conv2, partial(convolve, kernels, conv2, image, bias, **geometry)),
    }
    for layer, (sparse, create) in layers.items():
        pair = [create(threads=count, name=str(count)) for count in (1, 2)]
        paired.check(pair[1:], pair[0].result().copy(), np.float32(0))  # the very same bits
        one, two = paired.measure(pair, budget=4.0)
        row = paired.row(
            *("two threads", two, {"one thread": one}),
            layer=layer,
            target=f"x86-64-{kernels.isa}",
            kernel="sparse",
            density=THREAD_DENSITY,
            dtype="float32",
            width=width,
            threads=2,
            batch=1,
            size_ratio=sparse.size_bytes / (4 * sparse.shape[0] * sparse.shape[1]),
        )
        yield [{**row, "scaling": row["ratio"]}], {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append", help="default: all of them")
    parser.add_argument("--width", type=int, choices=(4, 8, 16), default=8, help="weights a group")
    parser.add_argument("--library", type=Path, help="built kernels; default: builds them")
    parser.add_argument("--isa", help="one of the kernels' instruction sets; default: the best")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, help="a folder for the figures")
    options = parser.parse_args()
    paired.restart_clean(cpu_libraries.best_mkl_setting)
    kernels = cpu_ours.load(options.library, options.isa)
    rows, absent = [], {}
    for case in options.case or CASES:
        for more, reasons in globals()[case](
            kernels, options.width, options.quick, np.random.default_rng(0)
        ):
            rows += more
            absent.setdefault(more[0]["case"], {}).update(reasons)
            print("\n".join(line(row) for row in more), flush=True)
    machine = paired.machine()
    goals = judge(rows, max(machine["caches"].values(), default=0))
    print(summary(goals))
    versions = cpu_libraries.versions()
    result = {"machine": machine, "versions": versions, "absent": absent, "goals": goals}
    if options.json:
        save_json(options.json, {**result, "rows": rows})
    if options.plots:
        cpu_plots.figures(rows, options.plots)


def judge(rows: list[dict], cache: int) -> list[dict]:
    """Every goal that these rows decide."""

    def of(case):
        return [row for row in rows if row["case"] == case]

    return [
        *cpu_goals.spmv_goals(of("spmv-4096x4096"), cache),
        *cpu_goals.spmm_goals(of("spmm-128x1200x729")),
        *cpu_goals.thread_goals(of("two threads")),
    ]


def line(row: dict) -> str:
    """One row for people, while the benchmark runs."""
    rivals = "  ".join(f"{name} {us:,.1f}" for name, us in sorted(row["rivals"].items()))
    return (
        f"{row['case']:18} {row.get('layer', ''):14}{row['density']:>5.0%} {row['dtype']:9}"
        f"batch {row['batch']:<4} ours {row['ours']:>10,.1f} us  {row['ratio']:6.2f}x "
        f"+-{row['spread']:.2f} over {row['rival']}  ({rivals})"
    )


def summary(goals: list[dict]) -> str:
    """The goals as a table."""
    head = ["goal", "measured", "", "limit", ""]
    return table(
        [
            head,
            *(
                [
                    each["goal"],
                    f"{each['value']:,.2f}",
                    each["bound"],
                    f"{each['limit']:,.2f}",
                    "met" if each["met"] else "MISSED",
                ]
                for each in goals
            ),
        ]
    )


if __name__ == "__main__":
    main()
