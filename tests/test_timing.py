"""The cycle model, against sums worked out by hand from its table."""

import sys

import pytest

from scalpel_tf.deploy import timing

# fmt: off
BLOCKS = [  # assembly, its bytes, instructions, cycles
    ("", "", 0, 0),
    ("adds r0, r1, r2", "8818", 1, 1),
    ("mul r0, r1, r2; mla r0, r1, r2, r3", "01fb02f001fb0230", 2, 2),
    ("smlad r0, r1, r2, r3; smull r0, r1, r2, r3; smlal r0, r1, r2, r3",
     "21fb023082fb0301c2fb0301", 3, 3),
    ("it eq; moveq r0, r1", "08bf0846", 2, 2),
    ("ldr r0, [r1]", "0868", 1, 2),
    ("ldr r0, [r1]; ldr r2, [r3]", "08681a68", 2, 3),
    ("ldr r0, [r1]; ldrsb r2, [r3]; ldrh r4, [r3]", "086893f900201c88", 3, 4),
    ("ldr r0, [r1]; ldr r2, [r0]", "08680268", 2, 4),
    ("ldr r0, [r1]; ldr r2, [r3, r0]", "08681a58", 2, 4),
    ("ldr r0, [r1]; adds r4, r4, r5; ldr r2, [r3]", "086864191a68", 3, 5),
    ("str r0, [r1]", "0860", 1, 1),
    ("str r0, [r1, r2]", "8850", 1, 2),
    ("ldr r0, [r1]; str r2, [r3]", "08681a60", 2, 3),
    ("ldr r0, [r1]; str r2, [r3, r4]", "08681a51", 2, 3),
    ("ldr r0, [r1]; str r2, [r3, r0]", "08681a50", 2, 4),
    ("ldm r0, {r1, r2, r3}", "90e80e00", 1, 4),
    ("stmia r0!, {r1, r2}", "06c0", 1, 3),
    ("push {r4, lr}", "10b5", 1, 3),
    ("pop {r4, r5}", "30bc", 1, 3),
    ("pop {r4, pc}", "10bd", 1, 5),
    ("ldr pc, [r0]", "d0f800f0", 1, 4),
    ("ldrd r0, r1, [r2]", "d2e90001", 1, 3),
    ("strd r0, r1, [r2]", "c2e90001", 1, 3),
    ("ldr r3, [r4]; ldrd r0, r1, [r2]", "2368d2e90001", 2, 4),
    ("ldr r3, [r4]; strd r0, r1, [r2]", "2368c2e90001", 2, 5),
    ("ldr r2, [r4]; ldrd r0, r1, [r2]", "2268d2e90001", 2, 5),
    ("b .", "fee7", 1, 1),
    ("bl .", "fff7feff", 1, 1),
    ("bx lr", "7047", 1, 1),
    ("cbz r0, .+4", "00b1", 1, 1),
    ("tbb [pc, r0]", "dfe800f0", 1, 4),
    ("sdiv r0, r1, r2; udiv r0, r1, r2", "91fbf2f0b1fbf2f0", 2, 14),
    ("vldr s0, [r0]; vstr s0, [r0]", "90ed000a80ed000a", 2, 4),
    ("vldr d0, [r0]; vstr d0, [r0]", "90ed000b80ed000b", 2, 6),
    ("vmla.f32 s0, s1, s2; vfma.f32 s0, s1, s2", "00ee810aa0ee810a", 2, 6),
    ("vdiv.f32 s0, s1, s2; vsqrt.f32 s0, s1", "80ee810ab1eee00a", 2, 28),
    ("dsb; isb", "bff34f8fbff36f8f", 2, 8),
    ("adds r1, r1, r2; ldr r0, [r1]", "89180868", 2, 4),
    ("adds r1, r1, r2; str r0, [r1]", "89180860", 2, 3),
    ("adds r1, r1, r2; ldr r0, [r3, r1]", "89185858", 2, 4),
    ("adds r1, r1, r2; ldm r1, {r3, r4}", "891891e81800", 2, 5),
    ("adds r1, r1, r2; ldrd r3, r4, [r1]", "8918d1e90034", 2, 5),
    ("adds r1, r1, r2; movs r5, #0; ldr r0, [r1]", "891800250868", 3, 4),
    ("le lr, . (unknown to capstone); movs r0, #0", "0ff001c00020", 2, 2),
]
# fmt: on


@pytest.mark.parametrize("assembly, code, instructions, cycles", BLOCKS)
def test_block_cost_is_the_sum_over_the_table(assembly, code, instructions, cycles):
    assert timing.block_cost(bytes.fromhex(code), 0x100) == (instructions, cycles)


def test_blocks_do_not_pipeline_into_each_other():
    load = bytes.fromhex("0868")
    assert timing.block_cost(load + load)[1] == 3 != 2 * timing.block_cost(load)[1]


def test_decode_goes_on_after_what_it_does_not_know():
    found = list(timing.decode(bytes.fromhex("0ff001c00020")))
    assert found[0] is None and found[1].mnemonic == "movs" and found[1].address == 4


def test_without_capstone_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "capstone", None)
    timing._disassemblers.cache_clear()
    with pytest.raises(RuntimeError, match=r'pip install "scalpel_tf\[board\]"'):
        timing.block_cost(b"\x00\x00")
