"""A static memory plan: where in one arena every activation and every scratch buffer lies."""

from dataclasses import dataclass

import numpy as np

from scalpel_tf.deploy.int8 import ALIASES
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.tflite import Model, Tensor

ALIGNMENT = 16


@dataclass(frozen=True)
class Block:
    """`size` bytes that are in use from operator `first` to operator `last`, both included."""

    size: int
    first: int
    last: int


def align(size: int) -> int:
    """`size` rounded up to the arena's alignment, in bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def place(blocks: list[Block]) -> tuple[list[int], int]:
    """(offset of every block, bytes of the arena): blocks in use at once never overlap.

    Largest first, each at the lowest place that is free for as long as the block lives
    (Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020, greedy by
    size).
    """
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for index in sorted(range(len(blocks)), key=lambda i: (-blocks[i].size, blocks[i].first, i)):
        block = blocks[index]
        neighbours = sorted(
            (offsets[other], offsets[other] + align(blocks[other].size))
            for other in placed
            if blocks[other].first <= block.last and block.first <= blocks[other].last
        )
        free = 0
        for start, end in neighbours:
            if free + block.size <= start:
                break
            free = max(free, end)
        offsets[index] = free
        placed.append(index)
    ends = [offset + align(block.size) for offset, block in zip(offsets, blocks, strict=True)]
    return offsets, max(ends, default=0)


@dataclass(frozen=True)
class MemoryPlan:
    """Byte offsets in the arena: of every activation by tensor index, of every layer's scratch."""

    tensors: dict[int, int]
    scratch: list[int]
    arena: int


def plan_memory(model: Model, layers: list[Layer]) -> MemoryPlan:
    """The arena of a lowered model: activations and scratch, each only while it is in use."""
    alias = _aliases(model)
    first = {alias(index): 0 for index in model.inputs}
    last = dict(first)
    for step, layer in enumerate(layers):
        first.setdefault(alias(layer.y), step)
        last.update({alias(index): step for index in (*layer.inputs, layer.y)})
    last.update({alias(index): len(layers) for index in model.outputs})
    blocks = [Block(tensor_bytes(model.tensors[i]), first[i], last[i]) for i in first]
    blocks += [Block(layer.scratch, step, step) for step, layer in enumerate(layers)]
    offsets, arena = place(blocks)
    places = dict(zip(first, offsets, strict=False))
    everywhere = {i: places[alias(i)] for i in range(len(model.tensors)) if alias(i) in places}
    return MemoryPlan(everywhere, offsets[len(first) :], arena)


def _aliases(model):
    """tensor -> the tensor whose bytes it shares: what a RESHAPE makes is what it was given."""
    source = {op.outputs[0]: op.inputs[0] for op in model.operators if op.name in ALIASES}

    def alias(index):
        while index in source:
            index = source[index]
        return index

    return alias


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of an activation."""
    return int(np.prod(tensor.shape)) * tensor.dtype.itemsize
