"""The facts of the targets agree with each other."""

import pytest

from scalpel_tf.core.targets import KIB, TARGETS, find_target


def test_the_promised_targets_are_there():
    assert set(TARGETS) == {
        *("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"),
        *("x86-64-avx2", "x86-64-avx512", "aarch64-neon", "gpu"),
    }


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target_is_complete(target):
    assert target.parallelism in ("low", "moderate", "high")
    assert target.source
    assert (target.group_width is None) == (target.parallelism == "high")
    assert (len(target.boards) >= 2) == target.is_microcontroller
    assert list(target.boards) == sorted(target.boards, key=lambda board: board.flash)
    for board in target.boards:
        assert board.source and board.flash >= board.ram // 8 and board.ram >= 8 * KIB


def test_register_widths_in_bytes_are_the_same_for_every_type():
    sizes = {"int8": 1, "int16": 2, "float32": 4}
    for target in TARGETS.values():
        assert len({sizes[kind] * lanes for kind, lanes in target.simd_width.items()}) <= 1


def test_find_target_names_the_ones_that_exist():
    assert find_target("cortex-m4").group_width == 4
    with pytest.raises(ValueError, match="Unknown target 'cortex-m99'.*cortex-m4"):
        find_target("cortex-m99")
