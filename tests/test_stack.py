"""The bound of the stack: hand-made programs whose depth is known, and the board's measurement."""

import re

import pytest
from models import conv_model, int8

from scalpel_tf.deploy import toolchain
from scalpel_tf.deploy.elf import Program
from scalpel_tf.deploy.export import export
from scalpel_tf.deploy.stack import worst_stack

HEAD = ".syntax unified\n.thumb\n"


def program(tmp_path, **functions):
    """Assembles functions into a Program."""
    from elftools.elf.elffile import ELFFile

    text = HEAD
    for name, body in functions.items():
        text += f".global {name}\n.thumb_func\n.type {name}, %function\n{name}:\n{body}\n"
        text += f".size {name}, . - {name}\n"
    (tmp_path / "f.S").write_text(text)
    compiler = toolchain.arm("cortex-m4", None)
    arguments = ["-nostdlib", "-Wl,-Ttext=0x100", "-Wl,-e,f", tmp_path / "f.S"]
    path = toolchain.compile_c(compiler, arguments, tmp_path / "f.elf")
    with open(path, "rb") as stream:
        elf = ELFFile(stream)
        code = elf.get_section_by_name(".text")
        ranges = {}
        for symbol in elf.get_section_by_name(".symtab").iter_symbols():
            if symbol.name in functions:
                start = symbol["st_value"] & ~1
                ranges[symbol.name] = range(start, start + symbol["st_size"])
        return Program(((code["sh_addr"], code.data()),), {}, ranges, {}, {})


@pytest.mark.parametrize(
    "functions, depth",
    [
        ({"f": "bx lr"}, 0),
        ({"f": "push {r4-r6, lr}\npop {r4-r6, pc}"}, 16),
        ({"f": "push {r4, lr}\nsub sp, #24\nadd sp, #24\npop {r4, pc}"}, 32),
        ({"f": "sub.w sp, sp, #1024\nadd.w sp, sp, #1024\nbx lr"}, 1024),
        ({"f": "str lr, [sp, #-4]!\nvpush {d8-d11}\nvpop {d8-d11}\nldr pc, [sp], #4"}, 36),
        ({"f": "stmdb sp!, {r4, r8-r11}\nldmia sp!, {r4, r8-r11}\nbx lr"}, 20),
        ({"f": "push {lr}\nbl g\npop {pc}", "g": "push {r4-r7}\npop {r4-r7}\nbx lr"}, 20),
        # a call through a pointer: a word in memory, or the halves of one in the code
        ({"f": "push {lr}\nldr r3, =g\nblx r3\npop {pc}", "g": "push {r4-r9}\nbx lr"}, 28),
        (
            {
                "f": "push {lr}\nmovw r3, #:lower16:g\nmovt r3, #:upper16:g\nblx r3\npop {pc}",
                "g": "push {r4-r9}\nbx lr",
            },
            28,
        ),
        (
            {
                "f": "cmp r0, #0\nbne g\nb h",
                "g": "push {r0}\nb g + 2",
                "h": "bic r0, r0, #1\nbx lr",
            },
            4,
        ),
    ],
)
def test_depth(functions, depth, tmp_path):
    assert worst_stack(program(tmp_path, **functions), "f") == depth


@pytest.mark.parametrize(
    "functions, message",
    [
        ({"f": "push {lr}\nbl g\npop {pc}", "g": "push {lr}\nbl f\npop {pc}"}, "f calls itself"),
        ({"f": "sub sp, sp, r0\nbx lr"}, "f sets its stack pointer by `sub"),
        ({"f": "push {lr}\nldr r3, =f\nblx r3\npop {pc}"}, "f calls itself"),
    ],
)
def test_what_has_no_bound_is_said(functions, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        worst_stack(program(tmp_path, **functions), "f")


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_the_bound_is_not_below_what_the_board_measured(target, tmp_path):
    report = export(int8(conv_model), out=tmp_path / "out", target=target)
    assert 0 < report.stack_measured <= report.stack <= report.stack_measured + 128
    assert f"at most {report.stack:,} bytes" in str(report)
