"""An ELF file that `board.build` made, as plain data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalpel_tf.deploy.project import SYMBOL

WRITE, ALLOCATE = 1, 2  # section flags


@dataclass(frozen=True)
class Program:
    """What is loaded where, and where things are.

    segments: (address, bytes).  symbols: name -> address, without the Thumb bit.
    functions: name -> its addresses.  sizes: bytes of "text", "data" and "bss".
    information: the description of the project it was built from.
    literals: addresses of data that stand between instructions.
    """

    segments: tuple[tuple[int, bytes], ...]
    symbols: dict[str, int]
    functions: dict[str, range]
    sizes: dict[str, int]
    information: dict[str, Any]
    literals: tuple[range, ...] = ()

    def where(self, address: int) -> str:
        """`at 0x00000124 (model_layer_0 + 4)`."""
        for name, addresses in self.functions.items():
            if address in addresses:
                return f"at {address:#010x} ({name} + {address - addresses.start})"
        return f"at {address:#010x}"


def load(path: Path | str) -> Program:
    """Read an ELF file; ValueError where it is none, or not of `board.build`."""
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise RuntimeError(
            'Reading a program needs pyelftools: `pip install "scalpel_tf[board]"`.'
        ) from None
    with open(path, "rb") as stream:
        try:
            elf = ELFFile(stream)
        except ELFError:
            raise ValueError(f"{path} is not an ELF file.") from None
        embedded = elf.get_section_by_name(f".{SYMBOL}")
        table = elf.get_section_by_name(".symtab")
        if embedded is None or table is None:
            raise ValueError(f"{path} was not made by `board.build`.")
        entries = [(symbol.name, symbol.entry) for symbol in table.iter_symbols()]
        return Program(
            segments=tuple(
                (segment["p_paddr"], segment.data())
                for segment in elf.iter_segments()
                if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]
            ),
            symbols={name: entry["st_value"] & ~1 for name, entry in entries},
            functions={
                name: range(entry["st_value"] & ~1, (entry["st_value"] & ~1) + entry["st_size"])
                for name, entry in entries
                if entry["st_info"]["type"] == "STT_FUNC"
            },
            sizes=_sizes(elf),
            information=json.loads(embedded.data().rstrip(b"\0")),
            literals=_literals(entries),
        )


def _literals(entries: list[tuple[str, Any]]) -> tuple[range, ...]:
    """What the mapping symbols $d to $t enclose (Arm, ELF for the Arm Architecture, 5.5.5)."""
    marks = sorted(
        (entry["st_value"] & ~1, name[:2]) for name, entry in entries if name[:2] in ("$d", "$t")
    )
    return tuple(
        range(start, end)
        for (start, kind), (end, _) in zip(marks, marks[1:], strict=False)
        if kind == "$d"
    )


def _sizes(elf: Any) -> dict[str, int]:
    sizes = {"text": 0, "data": 0, "bss": 0}
    for section in elf.iter_sections():
        if section["sh_flags"] & ALLOCATE:
            empty, writable = section["sh_type"] == "SHT_NOBITS", section["sh_flags"] & WRITE
            sizes["bss" if empty else "data" if writable else "text"] += section["sh_size"]
    return sizes
