"""How deep the stack of a function can become, read from the instructions of a program.

Every instruction of a function that lowers the stack pointer counts, whether or not it runs, and of
the functions that it calls the deepest one: an upper bound, for C and assembly alike.  A call
through a pointer may reach every function whose address is anywhere in the program.
"""

from __future__ import annotations

import re

import numpy as np

from scalpel_tf.deploy.elf import Program
from scalpel_tf.deploy.timing import decode

CONDITIONS = "eq|ne|hs|cs|lo|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"
VECTORS = 16
CALLS = re.compile(rf"blx?({CONDITIONS})?(\.[nw])?")
BRANCHES = re.compile(rf"bl?({CONDITIONS})?(\.[nw])?")


def worst_stack(program: Program, name: str) -> int:
    """Bytes of stack that a call of the function can take at most.

    ValueError where the program has no bound that is seen this way: recursion, or a stack pointer
    that is lowered by a register.
    """
    starts = {}
    for function, addresses in program.functions.items():
        starts.setdefault(addresses.start, (function, addresses))
    code = {start: list(_instructions(program, a)) for start, (_, a) in starts.items()}
    pointed = _words(program) | {word for found in code.values() for word in _built(found)}
    pointed = {word - 1 for word in pointed if word % 2} & starts.keys()
    known: dict[int, int] = {}

    def depth(start, callers):
        function, addresses = starts[start]
        if start in callers:
            raise ValueError(f"{function} calls itself; its stack has no bound.")
        if start not in known:
            own, called = 0, set()
            for instruction in code[start]:
                own += _lowered(instruction, function)
                targets = _targets(instruction, pointed)
                is_call = CALLS.fullmatch(instruction.mnemonic)
                called |= targets if is_call else targets - {*addresses}
            unknown = called - starts.keys()
            if unknown:
                raise ValueError(f"{function} branches {program.where(min(unknown))}.")
            inner = (depth(target, {*callers, start}) for target in called)
            known[start] = own + max(inner, default=0)
        return known[start]

    return depth(program.functions[name].start, frozenset())


def _words(program):
    """Every aligned word that is loaded, but those of the vector table."""
    words = set()
    for start, contents in program.segments:
        whole = np.frombuffer(contents[: len(contents) // 4 * 4], "<u4")
        words |= set(whole[VECTORS if start == 0 else 0 :].tolist())
    return words


def _built(instructions):
    """The words that pairs of MOVW and MOVT make."""
    low = {}
    for instruction in instructions:
        parts = re.fullmatch(r"(\w+), #(0x[0-9a-f]+|\d+)", instruction.op_str)
        name = instruction.mnemonic.split(".")[0]
        if parts and name == "movw":
            low[parts[1]] = int(parts[2], 0)
        if parts and name == "movt" and parts[1] in low:
            yield int(parts[2], 0) << 16 | low[parts[1]]


def _instructions(program, addresses):
    """The instructions of a function, without the literals between them."""
    for start, contents in program.segments:
        if addresses.start in range(start, start + len(contents)):
            first = addresses.start
            inside = [data for data in program.literals if data.start in addresses]
            for data in [*sorted(inside, key=lambda data: data.start), range(addresses.stop, 0)]:
                code = contents[first - start : data.start - start]
                yield from filter(None, decode(code, first))
                first = data.stop
            return
    raise ValueError(f"The program has no code {program.where(addresses.start)}.")


def _lowered(instruction, function):
    """Bytes by which one instruction lowers the stack pointer, 0 where it does not."""
    name, operands = instruction.mnemonic.split(".")[0], instruction.op_str
    if name == "push":
        return 4 * _registers(operands)
    if name == "vpush":
        return (8 if "d" in operands else 4) * _registers(operands)
    if name in ("stmdb", "stmfd") and operands.startswith("sp!"):
        return 4 * _registers(operands)
    written_back = re.search(r"\[sp, #-(0x[0-9a-f]+|\d+)\]!", operands)
    if written_back:
        return int(written_back[1], 0)
    if re.match(r"(sub|subw|subs|add|mov)$", name) and re.match(r"sp\b", operands):
        lowered = re.fullmatch(r"sp, (?:sp, )?#(-?(?:0x[0-9a-f]+|\d+))", operands)
        if lowered is None:
            raise ValueError(f"{function} sets its stack pointer by `{name} {operands}`.")
        number = int(lowered[1], 0)
        return max(number if name.startswith("sub") else -number, 0)
    return 0


def _registers(operands):
    inside = operands[operands.index("{") + 1 : operands.index("}")]
    count = 0
    for part in inside.split(","):
        first, _, last = part.strip().partition("-")
        count += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return count


def _targets(instruction, pointed):
    """The addresses that an instruction may branch to, if it is a call or a branch."""
    name, operands = instruction.mnemonic, instruction.op_str
    if name in ("blx", "bx") and not operands.startswith("#"):
        return set() if operands == "lr" else pointed
    address = re.search(r"#(0x[0-9a-f]+|\d+)$", operands)
    return {int(address[1], 0)} if BRANCHES.fullmatch(name) and address else set()
