"""What a layer in a format costs on a target: modelled cycles, bytes of flash, bytes of RAM.

The cycle figures are straight lines through what the kernels of deploy/runtime need on the virtual
board (`python benchmarks/cortex_m.py` measures them again): exact to a few per cent, good enough to
choose between formats, never to be quoted.  Those for Helium are estimates, proved on no board:
what a loop takes by LLVM's scheduling model of the Cortex-M55 (ARMScheduleM55.td: a load or gather
keeps its pipe for two cycles, a gather wants its offsets four cycles early, a multiplication runs
beside a load), and the instructions around it, counted in QEMU.
"""

from dataclasses import dataclass

from scalpel_tf.core.targets import Target

ROW_BYTES = 12
CONV_ROW_BYTES, PLANE_BYTES = 16, 6


@dataclass(frozen=True)
class LayerCost:
    """cycles: modelled.  flash: bytes of constants.  ram: bytes of scratch."""

    cycles: int
    flash: int
    ram: int


@dataclass(frozen=True)
class KernelCost:
    """Cycles per call, per input, per row and per stored group of `width` weights.

    index_bytes: of a group.  copies: whether inputs are widened to int16 by the DSP extension.
    """

    width: int
    index_bytes: int
    call: float
    per_input: float
    per_row: float
    per_group: float
    copies: bool = True


DSP = {
    "fc": KernelCost(4, 0, 90, 1.45, 28.5, 6.75),
    "gcsr_fc4": KernelCost(4, 1, 70, 1.45, 31, 8.75),
    "gcsr_fc4_delta": KernelCost(4, 1, 70, 1.45, 31.5, 10.25),
    "gcsr_fc8": KernelCost(8, 1, 70, 1.45, 27, 18.4),
    "csr_fc": KernelCost(4, 4, 40, 0, 27, 16.4, copies=False),
    "csr_fc_wide": KernelCost(4, 8, 40, 0, 27, 16.4, copies=False),
}
HELIUM = {  # loops of 10 cycles for 64 inputs, 8, 20 for four groups, 9 for two, 11 for CSR
    "fc": KernelCost(4, 0, 120, 0, 42, 0.625),
    "gcsr_fc4": KernelCost(4, 1, 60, 0, 36, 2.0),
    "gcsr_fc4_delta": KernelCost(4, 1, 60, 0, 45, 5.0),
    "gcsr_fc8": KernelCost(8, 1, 60, 0, 36, 4.5),
    "csr_fc": KernelCost(4, 4, 60, 0, 50, 2.75, copies=False),
    "csr_fc_wide": KernelCost(4, 8, 60, 0, 50, 5.5, copies=False),
}
PLAIN = {  # instructions of a Cortex-M3 stand in for cycles
    "fc": KernelCost(4, 0, 60, 0, 45, 19),
    "gcsr_fc4": KernelCost(4, 1, 60, 0, 55, 23),
    "gcsr_fc4_delta": KernelCost(4, 1, 60, 0, 55, 24),
    "gcsr_fc8": KernelCost(8, 1, 60, 0, 55, 46.5),
    "csr_fc": KernelCost(4, 4, 60, 0, 60, 21, copies=False),
    "csr_fc_wide": KernelCost(4, 8, 60, 0, 60, 21, copies=False),
}


def fully_connected(kernel: str, out: int, cols: int, groups: int, target: Target) -> LayerCost:
    """The cost of an int8 (out, cols) layer in the format of `kernel`.

    groups: stored groups, or for "fc" any number: dense rows store all.
    """
    dsp = "dsp" in target.features
    cost = (HELIUM if "mve" in target.features else DSP if dsp else PLAIN)[kernel]
    if kernel == "fc":
        groups = out * -(-cols // cost.width)
    cycles = cost.call + cost.per_input * cols + cost.per_row * out + cost.per_group * groups
    return LayerCost(
        cycles=round(cycles),
        flash=groups * (cost.width + cost.index_bytes) + ROW_BYTES * out,
        ram=2 * (-(-cols // 8) * 8) if dsp and cost.copies else 0,
    )


@dataclass(frozen=True)
class ConvCost:
    """Cycles per block of four columns, per filter and per group in a block; per entry of a widened
    row, and per widened row; per filter and per byte of steps in a band.  The `pooled` ones are for
    a block of two rows."""

    block: float
    row: float
    pooled_row: float
    group: float
    entry: float
    widened_row: float
    band_row: float = 0
    band_step: float = 0


CONV_HELIUM = ConvCost(0, 49, 75, 3.5, 4, 300, 35, 3)
CONV_DSP = ConvCost(130, 68, 106, 24.3, 10.5, 300)
CONV_PLAIN = ConvCost(90, 120, 210, 105, 30, 200)  # instructions of a Cortex-M3


def conv(
    *,
    rows: int,
    groups: int,
    steps: int,
    blocks: int,
    bands: int,
    pool: int,
    planes: int,
    entries: int,
    lines: int,
    ram: int,
    target: Target,
) -> LayerCost:
    """The cost of a convolution by scalpel_gcsr_conv_s8.

    rows: filters.  groups: stored groups of 4, of `steps` bytes of steps.  blocks: of four output
    columns, and of `pool` rows.  bands: rows of a tile of such blocks.  lines: rows of the input
    that are widened, each to `entries` entries in each of the `planes`.  ram: bytes of scratch.
    """
    dsp = CONV_DSP if "dsp" in target.features else CONV_PLAIN
    cost = CONV_HELIUM if "mve" in target.features else dsp
    per_row = cost.row if pool == 1 else cost.pooled_row
    block = cost.block + per_row * rows + cost.group * pool * groups
    band = cost.band_row * rows + cost.band_step * steps
    line = cost.widened_row + cost.entry * planes * entries
    return LayerCost(
        cycles=round(blocks * block + bands * band + lines * line),
        flash=4 * groups + steps + CONV_ROW_BYTES * rows + PLANE_BYTES * planes,
        ram=ram,
    )


@dataclass(frozen=True)
class CsrConvCost:
    """Cycles per block of four places, per filter and per group of four weights in a block, per row
    of the window and per input that is laid beside those of the other places.  The `pooled` one is
    for a block that makes one output."""

    block: float
    row: float
    pooled_row: float
    group: float
    run: float
    input: float


CSR_CONV_DSP = CsrConvCost(350, 61, 40, 34.8, 125, 8.5)
CSR_CONV_PLAIN = CsrConvCost(270, 109, 56, 67.5, 32, 11)  # instructions of a Cortex-M3


def csr_conv(
    *,
    rows: int,
    groups: int,
    blocks: int,
    pool: int,
    runs: int,
    inputs: int,
    index_bytes: int,
    ram: int,
    target: Target,
) -> LayerCost:
    """The cost of a convolution by scalpel_csr_conv_s8.

    rows: filters.  groups: of four kept weights, each with a column of `index_bytes`.  blocks: of
    four places, which are `pool` x `pool` of one output where they are pooled.  runs: rows of a
    filter.  inputs: its weights.  ram: bytes of scratch.
    """
    dsp = "dsp" in target.features and "mve" not in target.features
    cost = CSR_CONV_DSP if dsp else CSR_CONV_PLAIN
    per_row = cost.row if pool == 1 else cost.pooled_row
    block = cost.block + cost.run * runs + cost.input * inputs + per_row * rows
    block += cost.group * groups
    return LayerCost(
        cycles=round(blocks * block),
        flash=4 * groups * (1 + index_bytes) + CONV_ROW_BYTES * rows,
        ram=ram,
    )
