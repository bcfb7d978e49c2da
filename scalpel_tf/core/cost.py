"""What a layer in a format costs on a target: modelled cycles, bytes of flash, bytes of RAM.

The cycle figures are straight lines through what the kernels of deploy/runtime need on the virtual
board (`python benchmarks/cortex_m.py` measures them again): exact to a few per cent, good enough to
choose between formats, never to be quoted.
"""

from dataclasses import dataclass

from scalpel_tf.core.targets import Target

ROW_BYTES = 12


@dataclass(frozen=True)
class LayerCost:
    """cycles: modelled.  flash: bytes of constants.  ram: bytes of scratch."""

    cycles: int
    flash: int
    ram: int


@dataclass(frozen=True)
class KernelCost:
    """Cycles per call, per input, per row and per stored group of `width` weights."""

    width: int
    index_bytes: int
    call: float
    per_input: float
    per_row: float
    per_group: float


DSP = {
    "fc": KernelCost(4, 0, 90, 1.45, 28.5, 6.75),
    "gcsr_fc4": KernelCost(4, 1, 70, 1.45, 31, 8.75),
    "gcsr_fc4_delta": KernelCost(4, 1, 70, 1.45, 31.5, 10.25),
    "gcsr_fc8": KernelCost(8, 1, 70, 1.45, 27, 18.4),
}
PLAIN = {  # instructions of a Cortex-M3 stand in for cycles
    "fc": KernelCost(4, 0, 60, 0, 45, 19),
    "gcsr_fc4": KernelCost(4, 1, 60, 0, 55, 23),
    "gcsr_fc4_delta": KernelCost(4, 1, 60, 0, 55, 24),
    "gcsr_fc8": KernelCost(8, 1, 60, 0, 55, 46.5),
}


def fully_connected(kernel: str, out: int, cols: int, groups: int, target: Target) -> LayerCost:
    """The cost of an int8 (out, cols) layer in the format of `kernel`.

    groups: stored groups, or for "fc" any number: dense rows store all.
    """
    dsp = "dsp" in target.features
    cost = (DSP if dsp else PLAIN)[kernel]
    if kernel == "fc":
        groups = out * -(-cols // cost.width)
    cycles = cost.call + cost.per_input * cols + cost.per_row * out + cost.per_group * groups
    return LayerCost(
        cycles=round(cycles),
        flash=groups * (cost.width + cost.index_bytes) + ROW_BYTES * out,
        ram=2 * (-(-cols // 8) * 8) if dsp else 0,
    )
