"""How deep the stack of a function can become, read from the instructions of a program.

Every instruction of a function that lowers the stack pointer counts, whether or not it runs, and of
the functions that it calls the deepest one: an upper bound, for C and assembly alike.
"""

from __future__ import annotations

import re

from scalpel_tf.deploy.elf import Program
from scalpel_tf.deploy.timing import decode

CONDITIONS = "eq|ne|hs|cs|lo|cc|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"
BRANCHES = re.compile(rf"(bl|blx|b|b({CONDITIONS})|bl({CONDITIONS}))(\.[nw])?")


def worst_stack(program: Program, name: str) -> int:
    """Bytes of stack that a call of the function can take at most.

    ValueError where the program has no bound that is seen this way: recursion, a stack pointer that
    is lowered by a register, a call through a pointer.
    """
    starts = {}
    for function, addresses in program.functions.items():
        starts.setdefault(addresses.start, (function, addresses))
    known: dict[int, int] = {}

    def depth(start, callers):
        function, addresses = starts[start]
        if start in callers:
            raise ValueError(f"{function} calls itself; its stack has no bound.")
        if start not in known:
            own, called = 0, set()
            for instruction in _instructions(program, addresses):
                own += _lowered(instruction, function)
                target = _target(instruction, function)
                if target is not None and target not in addresses:
                    called.add(target)
            unknown = called - starts.keys()
            if unknown:
                raise ValueError(f"{function} branches {program.where(min(unknown))}.")
            inner = (depth(target, {*callers, start}) for target in called)
            known[start] = own + max(inner, default=0)
        return known[start]

    return depth(program.functions[name].start, frozenset())


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


def _target(instruction, function):
    """The address that an instruction branches to, if it is a call or a branch."""
    name, operands = instruction.mnemonic, instruction.op_str
    if not BRANCHES.fullmatch(name):
        return None
    address = re.search(r"#(0x[0-9a-f]+|\d+)$", operands)
    if address is None:
        raise ValueError(f"{function} calls through {operands}.")
    return int(address[1], 0)
