"""What a float32 product with a (rows, cols) matrix costs on a CPU: modelled seconds.

Straight lines through what one thread needs, good enough to choose between a dense kernel and
grouped CSR, never to be quoted. `benchmarks/cpu_cost.py` fits them again.
"""

from dataclasses import dataclass

from scalpel_tf.core.targets import Target

VALUE_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
NANOSECOND = 1e-9
NARROW = 8  # columns up to which the kernels do not pack x


@dataclass(frozen=True)
class CpuCost:
    """Rates of one thread, in nanoseconds and bytes.

    bandwidth: bytes per ns out of memory.
    dense_macs: multiply-accumulates per ns of a dense library, everything included.
    dense_call, sparse_call: ns that a call of the TensorFlow op takes, whatever its size.
    narrow_group, narrow_vector: ns per stored group and column of x where few columns share a pass
        over the weights, and per SIMD vector of weights on top of it.
    wide_macs: multiply-accumulates per ns of the sparse kernel where many columns do.
    wide_group: ns per stored group and SIMD vector of columns on top of them.
    wide_input, wide_output: ns to pack an element of x and to store one of y.
    unpack: value type -> factor on the narrow figures, for values that become float32 first.
    """

    bandwidth: float
    dense_macs: float
    dense_call: float
    sparse_call: float
    narrow_group: float
    narrow_vector: float
    wide_macs: float
    wide_group: float
    wide_input: float
    wide_output: float
    unpack: dict[str, float]


UNPACK = {"float32": 1.0, "bfloat16": 1.15, "int8": 1.25}
# x86-64: fitted by benchmarks/cpu_cost.py to layers of real networks on one AMD EPYC with AVX-512,
# where AVX2 is about as fast; the narrow rates are from cpu_kernels.py.  aarch64: guessed.
COSTS = {
    "x86-64-avx2": CpuCost(22, 50, 3000, 4000, 0.2, 0.15, 34, 0, 0.11, 0.23, UNPACK),
    "x86-64-avx512": CpuCost(22, 50, 3000, 4000, 0.2, 0.15, 36, 0, 0.11, 0.23, UNPACK),
    "aarch64-neon": CpuCost(10, 20, 3000, 4000, 0.6, 0.25, 15, 0.02, 0.35, 0.4, UNPACK),
}


def dense_seconds(rows: int, cols: int, n: int, *, target: Target) -> float:
    """A dense float32 (rows, cols) matrix times n columns; `n` counts pixels times images."""
    cost = _cost(target)
    memory = 4 * rows * cols / cost.bandwidth
    return NANOSECOND * (cost.dense_call + max(memory, rows * cols * n / cost.dense_macs))


def sparse_seconds(
    rows: int, cols: int, n: int, *, groups: int, width: int, value_type: str, target: Target
) -> float:
    """The same product with `groups` stored groups of `width` weights.

    Up to NARROW columns are multiplied one by one; from there on x is packed, and a group's weights
    are used for a SIMD vector of columns. Raises ValueError for a target without such kernels.
    """
    cost = _cost(target)
    lanes = target.simd_width["float32"]
    index_bytes = 2 if cols <= 1 << 16 else 4
    memory = groups * (width * VALUE_BYTES[value_type] + index_bytes) / cost.bandwidth
    if n <= NARROW:
        vectors = -(-width // lanes)
        per_column = cost.narrow_group + vectors * cost.narrow_vector
        compute = groups * n * per_column * cost.unpack[value_type]
    else:
        per_vector = width * lanes / cost.wide_macs + cost.wide_group
        compute = groups * -(-n // lanes) * per_vector
        compute += n * (cols * cost.wide_input + rows * cost.wide_output)
    return NANOSECOND * (cost.sparse_call + max(memory, compute))


def _cost(target):
    if target.name not in COSTS:
        raise ValueError(
            f"The CPU cost model knows {', '.join(COSTS)}; {target.name!r} is none of them."
        )
    return COSTS[target.name]
