"""Modelled Cortex-M4 cycles of a basic block (ARM 100166, Technical Reference Manual, 3.3).

Zero wait states; no pipelining across block edges, and the emulator ends a block at every 4 KB of
code too, so that moving a function can change its cycles by some tenths of a percent. Never checked
against silicon.

    data processing, MUL, MLA, SMLAD, SMULL, SMLAL, IT, a branch not taken   1
    LDR            2; 1 directly after an LDR of a register that its address does not use
    STR            1; with a register offset 2, or 1 directly after an independent LDR
    LDRD, STRD     3; LDRD directly after an independent LDR 2
    LDM, STM, PUSH, POP    1 + registers; + 2 where the program counter is among them
    LDR pc, TBB, TBH       4
    SDIV, UDIV     7
    VLDR, VSTR     2, of a double 3;  VMLA, VFMA and kin 3;  VDIV, VSQRT 14
    DSB, ISB, DMB  4
    an address register written by the data-processing instruction just before    + 1

To this the board adds, as it runs: BRANCH for every block that does not start where the last one
ended (a return through POP {pc} or LDR pc therefore pays twice), and for every unaligned access
1, or 2 for a word at an odd byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

BRANCH = 2
ADDRESS = 1

LOADS = {"ldr", "ldrb", "ldrh", "ldrsb", "ldrsh", "ldrt"}
STORES = {"str", "strb", "strh"}
MULTIPLE = {"ldm", "ldmia", "ldmdb", "stm", "stmia", "stmdb", "push", "pop"}
FLOAT_MULTIPLE = {"v" + name for name in MULTIPLE}
FIXED = {
    **dict.fromkeys(("sdiv", "udiv"), 7),
    **dict.fromkeys(("tbb", "tbh"), 2 + BRANCH),
    **dict.fromkeys(("vmla", "vfma", "vmls", "vfms", "vnmla"), 3),
    **dict.fromkeys(("vdiv", "vsqrt"), 14),
    **dict.fromkeys(("dsb", "isb", "dmb"), 4),
}
NONE: frozenset[int] = frozenset()


def block_cost(code: bytes, address: int = 0) -> tuple[int, int]:
    """Instructions and modelled Cortex-M4 cycles of one basic block, its last branch not taken.

    code: the bytes of the block, Thumb.  address: where it stands in memory.
    An instruction that capstone does not know counts as four bytes and one cycle.
    """
    instructions = cycles = 0
    loaded, computed = None, NONE
    for instruction in decode(code, address):
        instructions += 1
        if instruction is None:
            cost, loaded, computed = 1, None, NONE
        else:
            cost, loaded, computed = _cost(instruction, loaded, computed)
        cycles += cost
    return instructions, cycles


def decode(code: bytes, address: int = 0) -> Iterator[Any | None]:
    """The capstone instructions of a piece of Thumb code; None for four bytes it does not know."""
    position = 0
    while position < len(code):
        window = code[position : position + 4]
        for disassembler in _disassemblers():
            instruction = next(disassembler.disasm(window, address + position, 1), None)
            if instruction is not None:
                break
        position += instruction.size if instruction is not None else 4
        yield instruction


def _cost(
    instruction: Any, loaded: int | None, computed: frozenset[int]
) -> tuple[int, int | None, frozenset[int]]:
    """Cycles, the register that it loads, the registers that it computes.

    loaded, computed: the same two of the instruction just before.
    """
    from capstone import arm

    name = instruction.mnemonic.split(".")[0]
    registers = [o.reg for o in instruction.operands if o.type == arm.ARM_OP_REG]
    memory = [o.mem for o in instruction.operands if o.type == arm.ARM_OP_MEM]
    address = {r for m in memory for r in (m.base, m.index) if r}
    wait = ADDRESS if address & computed else 0
    pipelined = loaded is not None and loaded not in address

    if name in LOADS:
        if registers[0] == arm.ARM_REG_PC:
            return 2 + BRANCH, None, NONE
        return 2 - pipelined + wait, registers[0], NONE
    if name in STORES:
        offset = any(m.index for m in memory)
        return 1 + (offset and not pipelined) + wait, None, NONE
    if name in ("ldrd", "strd"):
        return 3 - (name == "ldrd" and pipelined) + wait, None, NONE
    if name in MULTIPLE:
        explicit_base = name not in ("push", "pop")
        wait = ADDRESS if explicit_base and registers[0] in computed else 0
        refill = BRANCH if name != "push" and arm.ARM_REG_PC in registers else 0
        return 1 + len(registers) - explicit_base + wait + refill, None, NONE
    if name in FLOAT_MULTIPLE:
        return 1 + len(registers) - (name not in ("vpush", "vpop")), None, NONE
    if name in ("vldr", "vstr"):
        double = instruction.reg_name(registers[0]).startswith("d")
        return 2 + double, None, NONE
    if name in FIXED:
        return FIXED[name], None, NONE
    return 1, None, frozenset(instruction.regs_access()[1]) - {arm.ARM_REG_CPSR}


@lru_cache
def _disassemblers() -> tuple[Any, ...]:
    try:
        import capstone
    except ImportError:
        raise RuntimeError(
            'Counting cycles needs capstone: `pip install "scalpel_tf[board]"`.'
        ) from None

    base = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS
    found = tuple(capstone.Cs(capstone.CS_ARCH_ARM, m) for m in (base, base | capstone.CS_MODE_V8))
    for disassembler in found:
        disassembler.detail = True
    return found
