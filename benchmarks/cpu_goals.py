"""What the CPU kernels have to reach, held against the rows of cpu_kernels.py."""

from __future__ import annotations

import numpy as np

INDEX_SHARE = 1.0625  # two bytes of column to 32 bytes of a float32 group of eight
SLACK = 1.15
SPMV_FASTER = {0.1: 9.0, 0.5: 1.6}  # density -> times faster than the fastest dense
NARROWER = {"bfloat16": 0.6, "int8": 0.35}  # of float32's time while float32 is out of cache
BREAK_EVEN = 0.85
TWO_THREADS = 1.7


def goal(name: str, value: float, limit: float, at_most: bool) -> dict:
    """One line of the list of goals."""
    met = value <= limit if at_most else value >= limit
    bound = "at most" if at_most else "at least"
    return {"goal": name, "value": value, "bound": bound, "limit": limit, "met": bool(met)}


def spmv_limit(density: float, dense_roofline: float, cached: float) -> float:
    """The longest that a sparse product may take, in the unit of both rooflines: reading the dense
    matrix from memory, and reading the sparse arrays from wherever they are warm."""
    return SLACK * max(density * INDEX_SHARE * dense_roofline, cached)


def spmm_limit(density: float) -> float:
    """The longest relative time of a matrix product."""
    return 0.08 + 1.0 * density


def break_even(densities, relative) -> float:
    """The density at which the relative time first reaches 1, between measured points; the last
    density where it never does."""
    for low, high in zip(range(len(densities)), range(1, len(densities)), strict=False):
        if relative[low] < 1 <= relative[high]:
            return float(
                np.interp(1, [relative[low], relative[high]], [densities[low], densities[high]])
            )
    return float(densities[-1] if relative[-1] < 1 else densities[0])


def spmv_goals(rows: list[dict], cache: int) -> list[dict]:
    """cache: bytes of the last level; float32's arrays that exceed it are out of cache."""
    own = {(row["dtype"], row["density"]): row for row in rows}
    goals = []
    for (dtype, density), row in sorted(own.items(), key=lambda item: item[0][1]):
        if dtype != "float32":
            continue
        limit = spmv_limit(density, row["dense_roofline"], row["roofline"])
        goals.append(goal(f"SpMV at {density:.0%}, us", row["ours"], limit, at_most=True))
        if density in SPMV_FASTER:
            faster = 1 / row["relative"]
            name = f"SpMV at {density:.0%}, times faster than dense"
            goals.append(goal(name, faster, SPMV_FASTER[density], at_most=False))
        if row["bytes"] > cache:
            for kind, limit in NARROWER.items():
                if (kind, density) in own:
                    share = own[kind, density]["ours"] / row["ours"]
                    name = f"SpMV at {density:.0%}, {kind} of float32's time"
                    goals.append(goal(name, share, limit, at_most=True))
    return goals


def spmm_goals(rows: list[dict]) -> list[dict]:
    rows = sorted((row for row in rows if row["dtype"] == "float32"), key=lambda r: r["density"])
    goals = [
        goal(
            f"SpMM at {row['density']:.0%}, of dense time",
            row["relative"],
            spmm_limit(row["density"]),
            at_most=True,
        )
        for row in rows
    ]
    if len(rows) > 1:
        even = break_even([r["density"] for r in rows], [r["relative"] for r in rows])
        goals.append(goal("SpMM break-even density", even, BREAK_EVEN, at_most=False))
    return goals


def thread_goals(rows: list[dict]) -> list[dict]:
    return [
        goal(f"two threads on {row['layer']}", row["scaling"], TWO_THREADS, at_most=False)
        for row in rows
    ]
