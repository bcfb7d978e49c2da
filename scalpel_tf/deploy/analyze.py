"""What every operator of a model costs on a target, and what pruning would gain before any is done.

Cycles are modelled (core/cost.py), of the kernels that `export` would choose. The roofline is what
the processor cannot go below: its peak of multiply-accumulates, or of bytes of weights loaded.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np

from scalpel_tf.core import criteria, selection
from scalpel_tf.core.granularity import ELEMENT, LAYER, NODE, Granularity, simd, unit_sum
from scalpel_tf.core.targets import TARGETS, Target, find_target
from scalpel_tf.deploy import conv, convert, lower, lower_conv, tflite
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.int8 import ALIASES, POOLS, require_int8
from scalpel_tf.deploy.layer import layer_name
from scalpel_tf.deploy.memory import plan_memory
from scalpel_tf.deploy.plain_ops import CHANNEL_BYTES, operands

RATIOS = (0.5, 0.8, 0.9, 0.95)
UNITS = {"element": ELEMENT, "group 4": simd(4), "group 8": simd(8), "filter": NODE}
RANDOM_SAMPLES = 16
GROUPED = Granularity(simd(4), LAYER)


@dataclass(frozen=True)
class OperatorCost:
    """One operator.

    bytes, bytes_dense: constants as `export` would store them, and dense.  density: fraction of the
    units that are not zero, by unit.  cycles_dense, cycles: now; pruned: ratio -> cycles with that
    fraction of the groups of 4 removed; None where there is no model of the kernel.
    roofline: cycles that no kernel for the dense weights goes below.
    ram: bytes of the arena in use while it runs; None where the model cannot be planned.
    """

    name: str
    op: str
    macs: int
    bytes: int
    bytes_dense: int
    density: dict[str, float] | None
    cycles_dense: int | None
    cycles: int | None
    pruned: dict[float, int] | None
    roofline: int
    ram: int | None


@dataclass(frozen=True)
class Analysis:
    """The operators of a model on a target, what the arena takes, and which boards it fits.

    boards: name -> None where it fits, else what breaks it.  notes: what a reader has to know.
    """

    target: str
    operators: tuple[OperatorCost, ...]
    arena: int | None
    boards: dict[str, str | None]
    notes: tuple[str, ...]
    source: str = "modelled"

    def __str__(self):
        fits = [name for name, reason in self.boards.items() if reason is None]
        lines = [
            _table(_what_it_is(self.operators)),
            "",
            _table(_what_it_costs(self.operators)),
            "",
            f"constants {sum(o.bytes for o in self.operators):,} bytes, "
            + ("" if self.arena is None else f"arena {self.arena:,} bytes, ")
            + f"cycles {self.source} for a {self.target}",
            f"fits: {', '.join(fits) or 'no board that is listed'}",
            *(f"does not fit {name}: {why}" for name, why in self.boards.items() if why),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def analyze(model, *, target: str = "cortex-m4", representative_data=None) -> Analysis:
    """An Analysis of a model; nothing is trained, built or run.

    model: the path of an int8 `.tflite` or of a `.keras` model, the bytes of the former, or a Keras
    model. representative_data: what sets the ranges of a Keras model, as in `export`; without it
    noise does, which changes no size and no cycle but where weights quantise to zero.
    Raises ValueError for another target than a microcontroller, and for a model that is not int8.
    """
    facts = find_target(target)
    if facts.peak is None:
        names = ", ".join(t.name for t in TARGETS.values() if t.peak)
        raise ValueError(f"`analyze` models a microcontroller ({names}); got {target!r}.")
    data, notes = _bytes_of(model, representative_data)
    network = tflite.read(data)
    require_int8(network)
    ram, arena, why = _memory(network, facts)
    notes += [f"no memory plan: {why}"] if why else []
    operators = tuple(
        _operator(network, index, facts, ram)
        for index, operator in enumerate(network.operators)
        if operator.name not in ALIASES
    )
    unmodelled = sorted({o.op for o in operators if o.cycles is None})
    if unmodelled:
        notes.append(f"no model of the cycles of {', '.join(unmodelled)}; totals leave them out")
    if any(o.op in POOLS for o in operators):
        notes.append("convolutions stand alone here; `export` may run a pooling inside of them")
    notes.append(f"roofline: {facts.peak.macs:g} MACs or {facts.peak.bytes:g} bytes a cycle")
    notes[-1] += f" ({facts.peak.source})"
    boards = {board.name: _breaks(board, operators, arena) for board in facts.boards}
    return Analysis(target, operators, arena, boards, tuple(notes))


def _bytes_of(model, representative_data):
    """(the bytes of the int8 model, notes)."""
    if isinstance(model, bytes):
        return model, []
    loaded = convert.load(model)
    if isinstance(loaded, bytes):
        return loaded, []
    if representative_data is not None:
        return convert.convert(loaded, representative_data), []
    rng = np.random.default_rng(0)
    noise = [
        rng.uniform(-1, 1, (RANDOM_SAMPLES, *tensor.shape[1:])).astype(np.float32)
        for tensor in loaded.inputs
    ]
    note = "quantised with random inputs, as no representative data was given"
    noise = noise if len(noise) > 1 else noise[0]
    return convert.convert(_normalising(loaded, noise), noise), [note]


def _normalising(model, noise):
    """The model, its batch normalisations fitted to the noise if it has any.

    In a network that was never trained the signal fades away from layer to layer, until no scale
    can be found for it.
    """
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        return model
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    copy(noise, training=True)
    return copy


def _memory(network, target):
    """(tensor -> bytes alive while it is made, bytes of the arena, why there is no plan)."""
    try:
        layers = lower.lower(network, target)
    except ValueError as error:
        return {}, None, str(error)
    plan = plan_memory(network, layers)
    alive = {layer.y: size for layer, size in zip(layers, plan.alive, strict=True)}
    for operator in reversed(network.operators):  # an operator in another's layer runs beside it
        if operator.inputs[0] not in network.inputs and operator.outputs[0] in alive:
            alive.setdefault(operator.inputs[0], alive[operator.outputs[0]])
    return alive, plan.arena, None


def _operator(network, index, target: Target, ram) -> OperatorCost:
    operator = network.operators[index]
    tensors = [network.tensors[i] for i in operator.inputs if i >= 0]
    weights = tensors[1] if len(tensors) > 1 and tensors[1].data is not None else None
    y = network.tensors[operator.outputs[0]]
    constants = sum(t.data.nbytes for t in tensors if t.data is not None)
    known = dict(macs=0, bytes=constants, bytes_dense=constants, density=None, roofline=0)
    known |= dict(cycles_dense=None, cycles=None, pruned=None)
    if operator.name in MATRICES:
        matrix, scale = _matrix(operator, weights)
        known["macs"] = math.prod(y.shape) * matrix.size // len(matrix)
        known["bytes"] = known["bytes_dense"] = matrix.size + CHANNEL_BYTES * len(matrix)
        known["roofline"] = math.ceil(target.peak.time(known["macs"], matrix.size))
        known["density"] = {name: _density(matrix, unit) for name, unit in UNITS.items()}
        cost_of = MATRICES[operator.name](network, operator, target)
        if cost_of is not None:
            known |= _costs(matrix, scale, cost_of)
    named = [tensor for tensor in (weights, y) if tensor is not None]
    name = layer_name(f"operator_{index}", *named)
    return OperatorCost(name=name, op=operator.name, ram=ram.get(y.index), **known)


def _costs(matrix, scale, cost_of):
    """The figures of a matrix in every state of pruning; cost_of: matrix -> (dense, best)."""
    dense, now = cost_of(matrix)
    pruned = {}
    for ratio in RATIOS:
        keep = selection.mask(matrix * scale, GROUPED, criteria.rms, ratio)
        pruned[ratio] = cost_of(np.where(keep, matrix, np.int8(0)))[1].cycles
    return {
        "bytes": now.flash,
        "bytes_dense": dense.flash,
        "cycles_dense": dense.cycles,
        "cycles": now.cycles,
        "pruned": pruned,
    }


def _fully_connected(network, operator, target):
    x, weights, *_ = operands(network, operator)
    batches = math.prod(x.shape) // weights.shape[1]

    def cost_of(matrix):
        best = lower.fastest(matrix, target, fc.candidates)[1]
        dense = lower.fastest(matrix, target, lambda m: [fc.pack_dense(m)])[1]
        return tuple(_times(cost, batches) for cost in (dense, best))

    return cost_of


def _convolution(network, operator, target):
    x, weights, bias, y = operands(network, operator)
    whole = weights.data.reshape(len(weights.data), -1)
    if weights.shape[3] != x.shape[3]:
        return None
    if lower_conv.rows_of(whole, bias, x, weights, y)[0] is None:
        return None
    shape = conv.shape_of(operator, x, y, weights.shape[1:3])
    if not conv.candidates(whole, shape):
        return None

    def cost_of(matrix):
        found = lower_conv.candidates(matrix, shape)
        dense = [packed for packed in conv.candidates(matrix, shape) if packed.density == 1]
        return tuple(
            min((packed.cost(target) for packed in some), key=lambda cost: cost.cycles)
            for some in (dense, found)
        )

    return cost_of


def _depthwise(network, operator, target):
    return None


MATRICES = {
    "FULLY_CONNECTED": _fully_connected,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
}


def _matrix(operator, weights):
    """(int8 weights with one row an output, the scale of each row)."""
    matrix = weights.data
    if operator.name == "DEPTHWISE_CONV_2D":
        matrix = np.moveaxis(matrix, -1, 0)
    matrix = matrix.reshape(len(matrix), -1)
    return matrix, np.broadcast_to(weights.scale, len(matrix))[:, None]


def _density(matrix, unit):
    return float(np.mean(unit_sum((matrix != 0).astype(np.int64), unit) > 0))


def _times(cost, count):
    return type(cost)(cost.cycles * count, cost.flash, cost.ram)


def _breaks(board, operators, arena):
    """Which operator a board is too small for; None where it is not."""
    flash = sum(o.bytes for o in operators)
    if flash > board.flash:
        most = max(operators, key=lambda o: o.bytes)
        return f"flash, of which {most.name} ({most.op}) alone takes {most.bytes:,} bytes"
    if arena is not None and arena > board.ram:
        most = max(operators, key=lambda o: o.ram or 0)
        return f"RAM: {most.name} ({most.op}) needs {most.ram:,} of {board.ram:,} bytes"
    return None


def _what_it_is(operators):
    yield ["operator", "", "MACs", "bytes", "dense", *UNITS, "RAM"]
    for o in operators:
        density = (
            [""] * len(UNITS) if o.density is None else [f"{d:.0%}" for d in o.density.values()]
        )
        yield [o.name, o.op, _number(o.macs), f"{o.bytes:,}", f"{o.bytes_dense:,}", *density,
               _number(o.ram)]  # fmt: skip


def _what_it_costs(operators):
    yield ["cycles", "dense", "now", *(f"-{ratio:.0%}" for ratio in RATIOS), "dense roofline"]
    modelled = [o for o in operators if o.cycles is not None]
    for o in modelled:
        yield [o.name, *map(_number, (o.cycles_dense, o.cycles, *o.pruned.values(), o.roofline))]
    totals = [sum(getattr(o, key) for o in modelled) for key in ("cycles_dense", "cycles")]
    totals += [sum(o.pruned[ratio] for o in modelled) for ratio in RATIOS]
    yield ["total", *map(_number, (*totals, sum(o.roofline for o in modelled)))]
    if modelled:
        yield ["times faster", "", *(f"{totals[0] / total:.2f}x" for total in totals[1:]), ""]


def _number(value):
    return f"{value:,}" if value else ""


def _table(rows):
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = [index for index in range(len(widths)) if index == 0 or rows[0][index] == ""]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
