"""Offsets in one arena for blocks that live for a while: blocks alive at once never overlap.

Finding the smallest arena is NP-hard (it is dynamic storage allocation). So several greedy orders
are tried, then seeded shuffles of the best, until an arena is as small as what is alive at once.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass

ALIGNMENT = 16
SHUFFLES = 200
PAIRS = 2_000_000  # of blocks that shuffles may look at, about a second


@dataclass(frozen=True)
class Block:
    """`size` bytes that are in use from operator `first` to operator `last`, both included.

    over: the block that ends at operator `first` and whose place this one may take, in whole, where
    the operator writes over its input; None elsewhere. It is at least as large.
    """

    size: int
    first: int
    last: int
    over: int | None = None


def align(size: int) -> int:
    """`size` rounded up to the arena's alignment, in bytes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def place(blocks: list[Block]) -> tuple[list[int], int]:
    """(offset of every block, bytes of the arena), the smallest arena that was found.

    Greedy by size, by breadth and by lifetime (Pisarchyk and Lee, Efficient Memory Management for
    Deep Neural Net Inference, 2020), then shuffles. The same blocks get the same offsets.
    """
    least = max(alive(blocks), default=0)
    best = None
    for order in _orders(blocks):
        offsets, arena = _first_fit(blocks, order)
        if best is None or arena < best[1]:
            best = offsets, arena
        if arena <= least:
            break
    return best


def alive(blocks: list[Block]) -> list[int]:
    """Bytes in use at each operator; a block that may lie over another counts only what is more.

    No arena is smaller than the largest of them.
    """
    total = [0] * (1 + max((block.last for block in blocks), default=-1))
    for block in blocks:
        for step in range(block.first, block.last + 1):
            total[step] += align(block.size)
        if block.over is not None:
            total[block.first] -= align(block.size)
    return total


def _orders(blocks: list[Block]) -> Iterable[list[int]]:
    """Orders to place the blocks in; best first is what comes first."""
    indices = range(len(blocks))
    breadth = alive(blocks)
    widest = [max(breadth[b.first : b.last + 1]) for b in blocks]
    by_size = sorted(indices, key=lambda i: (-blocks[i].size, blocks[i].first, i))
    yield by_size
    yield sorted(indices, key=lambda i: (-widest[i], -blocks[i].size, i))
    yield sorted(indices, key=lambda i: (blocks[i].first - blocks[i].last, -blocks[i].size, i))
    yield sorted(indices, key=lambda i: (blocks[i].first, -blocks[i].size, i))
    rng = random.Random(0)
    for _ in range(min(SHUFFLES, PAIRS // len(blocks) ** 2)):
        weights = [block.size * rng.uniform(0.3, 1) for block in blocks]
        yield sorted(indices, key=lambda i: (-weights[i], i))


def _first_fit(blocks, order):
    """Each block at the lowest place that is free for as long as it lives."""
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for index in order:
        block = blocks[index]
        taken = {
            other: (offsets[other], offsets[other] + align(blocks[other].size))
            for other in placed
            if blocks[other].first <= block.last and block.first <= blocks[other].last
        }
        free = [_lowest(block.size, sorted(taken.values()))]
        for partner in taken:
            start = offsets[partner]
            apart = [ends for other, ends in taken.items() if other != partner]
            if blocks[partner].over == index or block.over == partner:
                free += [] if _meets(start, block.size, apart) else [start]
        offsets[index] = min(free)
        placed.append(index)
    ends = [offset + align(block.size) for offset, block in zip(offsets, blocks, strict=True)]
    return offsets, max(ends, default=0)


def _lowest(size, taken):
    free = 0
    for start, end in taken:
        if free + size <= start:
            break
        free = max(free, end)
    return free


def _meets(start, size, taken):
    return any(start < end and first < start + size for first, end in taken)
