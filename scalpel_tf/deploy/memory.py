"""A static memory plan: where in one arena every activation and every scratch buffer lies."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scalpel_tf.deploy.int8 import ALIASES
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.placement import Block as Block
from scalpel_tf.deploy.placement import align as align
from scalpel_tf.deploy.placement import alive, place
from scalpel_tf.deploy.tflite import Model, Tensor


@dataclass(frozen=True)
class MemoryPlan:
    """Byte offsets in the arena: of every activation by tensor index, of every layer's scratch.

    alive: bytes in use while each layer runs, an output over its input counted once; the arena is
    at least the largest of them.
    """

    tensors: dict[int, int]
    scratch: list[int]
    arena: int
    alive: list[int]


def plan_memory(model: Model, layers: list[Layer], alignment: int = 1) -> MemoryPlan:
    """The arena of a lowered model: activations and scratch, each only while it is in use.

    A layer that may run in place writes over its first input where that is not needed any more.
    alignment: bytes that every block begins at a multiple of, where the default is too few.
    """

    def rounded(size):
        return -(-size // alignment) * alignment

    alias = aliases(model)
    first = {alias(index): 0 for index in model.inputs}
    last = dict(first)
    for step, layer in enumerate(layers):
        first.setdefault(alias(layer.y), step)
        last.update({alias(index): step for index in (*layer.inputs, layer.y)})
    last.update({alias(index): len(layers) for index in model.outputs})
    tensors = list(first)
    blocks = [
        Block(
            rounded(tensor_bytes(model.tensors[i])),
            first[i],
            last[i],
            _under(i, tensors, layers, alias, last),
        )
        for i in tensors
    ]
    blocks += [Block(rounded(layer.scratch), step, step) for step, layer in enumerate(layers)]
    offsets, arena = place(blocks)
    places = dict(zip(tensors, offsets, strict=False))
    everywhere = {i: places[alias(i)] for i in range(len(model.tensors)) if alias(i) in places}
    return MemoryPlan(
        tensors=everywhere,
        scratch=offsets[len(tensors) :],
        arena=arena,
        alive=alive(blocks)[: len(layers)],
    )


def rooms(model: Model) -> list[int]:
    """For every operator: bytes that are free beside the activations that live on through it.

    The limit is what the activations alone take where most of them live, every operator's output
    apart from its inputs: no runtime without fusion needs less. The operator's own output is not
    counted yet.
    """
    alias = aliases(model)
    first = {alias(index): -1 for index in model.inputs}
    last = {}
    for step, operator in enumerate(model.operators):
        for index in operator.outputs:
            first.setdefault(alias(index), step)
        last.update({alias(i): step for i in (*operator.inputs, *operator.outputs) if i >= 0})
    last.update({alias(index): len(model.operators) for index in model.outputs})
    blocks = [Block(tensor_bytes(model.tensors[i]), first[i], last[i]) for i in first]
    total = alive([replace(block, first=max(block.first, 0)) for block in blocks])
    return [
        max(total) - total[step] + sum(align(b.size) for b in blocks if b.first == step)
        for step in range(len(model.operators))
    ]


def operator_peaks(layers: list[Layer], plan: MemoryPlan) -> list[tuple[str, int]]:
    """(layer, bytes in use while it runs): its inputs and output, its scratch, what lives on."""
    return [(layer.name, size) for layer, size in zip(layers, plan.alive, strict=True)]


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of an activation."""
    return int(np.prod(tensor.shape)) * tensor.dtype.itemsize


def _under(index, tensors, layers, alias, last):
    """Which tensor's place `index` may take: the first input of a layer that runs in place."""
    for step, layer in enumerate(layers):
        if alias(layer.y) == index and layer.in_place:
            source = alias(layer.inputs[0])
            if last[source] == step and source != index:
                return tensors.index(source)
    return None


def aliases(model: Model) -> Callable[[int], int]:
    """tensor -> the tensor whose bytes it shares: what a RESHAPE makes is what it was given."""
    source = {op.outputs[0]: op.inputs[0] for op in model.operators if op.name in ALIASES}

    def alias(index):
        while index in source:
            index = source[index]
        return index

    return alias
