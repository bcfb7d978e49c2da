"""The static memory plan."""

import itertools
import random

import pytest

from scalpel_tf.deploy.memory import ALIGNMENT, Block, place


@pytest.mark.parametrize(
    "blocks, offsets, arena",
    [
        ([], [], 0),
        ([Block(10, 0, 0)], [0], 16),
        ([Block(16, 0, 0), Block(32, 0, 1), Block(16, 1, 2)], [32, 0, 32], 48),
        ([Block(64, 0, 0), Block(64, 1, 1)], [0, 0], 64),  # never alive together: one place
        ([Block(48, 0, 0), Block(32, 0, 1), Block(16, 1, 1)], [0, 48, 0], 80),  # a hole is filled
    ],
)
def test_place_puts_blocks_at_the_lowest_free_offset(blocks, offsets, arena):
    assert place(blocks) == (offsets, arena)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_in_use_at_once_never_overlap(seed):
    rng = random.Random(seed)
    blocks = []
    for _ in range(30):
        first = rng.randrange(12)
        blocks.append(Block(rng.randrange(1, 200), first, rng.randrange(first, 12)))
    offsets, arena = place(blocks)
    for (a, x), (b, y) in itertools.combinations(zip(blocks, offsets, strict=True), 2):
        together = a.first <= b.last and b.first <= a.last
        assert not together or x + a.size <= y or y + b.size <= x, (seed, a, b)
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert max(o + b.size for o, b in zip(offsets, blocks, strict=True)) <= arena
