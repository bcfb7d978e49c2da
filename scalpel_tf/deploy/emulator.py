"""A Cortex-M program in Unicorn: its memory, calls of its C functions, its faults, its counts.

The memory is that of firmware/board.ld: writing to flash, running code from RAM and leaving the
stack downwards are faults.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scalpel_tf.deploy import toolchain
from scalpel_tf.deploy.elf import Program

FLASH, FLASH_SIZE = 0x00000000, 4 << 20
RAM, RAM_SIZE = 0x20000000, 4 << 20
ARENA, ARENA_SIZE = 0x21000000, 16 << 20
SYSTEM, SYSTEM_SIZE = 0xE000E000, 4 << 10
PAINT = 0xA5

# Unicorn has neither an M0+, whose instructions are those of an M0, nor an M55.
PROCESSORS = {
    "cortex-m0plus": "UC_CPU_ARM_CORTEX_M0",
    "cortex-m3": "UC_CPU_ARM_CORTEX_M3",
    "cortex-m4": "UC_CPU_ARM_CORTEX_M4",
    "cortex-m7": "UC_CPU_ARM_CORTEX_M7",
    "cortex-m33": "UC_CPU_ARM_CORTEX_M33",
    "cortex-m55": "UC_CPU_ARM_CORTEX_M33",
}

KEEP_LAYER = 0xFFFF
CAPACITY = 1 << 16
COUNT = np.dtype(
    [("address", "u4"), ("size", "u4"), ("layer", "u4"), ("extra", "u4"), ("runs", "u8")]
)


class _Board(ctypes.Structure):
    """The struct `board` of board_hook.c."""

    _fields_ = [
        ("counts", ctypes.c_void_p),
        ("layer_at", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("read_register", ctypes.c_void_p),
        ("capacity", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("code_size", ctypes.c_uint64),
        ("budget", ctypes.c_int64),
        ("counting", ctypes.c_uint32),
        ("layer", ctypes.c_uint32),
        ("end", ctypes.c_uint32),
        ("program_counter", ctypes.c_int32),
    ]


class Machine:
    """One program, started up and ready for calls of its functions.

    processor: a key of PROCESSORS.  budget: instructions that one call may execute; an instruction
    of four bytes counts as two.  RuntimeError for every fault, with what the program did and where.
    """

    def __init__(self, program: Program, processor: str, *, budget: int):
        self._unicorn = unicorn = _unicorn()
        self._program = program
        self._budget = budget
        self._bottom = program.symbols["board_stack_bottom"]
        self._top = program.symbols["board_stack_top"]
        self._fault: tuple[int, int] | None = None
        self._engine = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        )
        self._engine.ctl_set_cpu_model(getattr(unicorn.arm_const, PROCESSORS[processor]))
        data = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        self._engine.mem_map(FLASH, FLASH_SIZE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        for address, size in ((RAM, RAM_SIZE), (ARENA, ARENA_SIZE), (SYSTEM, SYSTEM_SIZE)):
            self._engine.mem_map(address, size, data)
        for address, content in program.segments:
            self._engine.mem_write(address, content)

        self._counts = np.zeros(CAPACITY, COUNT)
        self._layer_at = np.full(FLASH_SIZE // 2, KEEP_LAYER, np.uint16)
        self._uclib = unicorn.unicorn_py3.unicorn.uclib
        self._board = _Board(
            counts=self._counts.ctypes.data,
            layer_at=self._layer_at.ctypes.data,
            stop=ctypes.cast(self._uclib.uc_emu_stop, ctypes.c_void_p),
            read_register=ctypes.cast(self._uclib.uc_reg_read, ctypes.c_void_p),
            capacity=CAPACITY,
            code_size=FLASH_SIZE,
            program_counter=unicorn.arm_const.UC_ARM_REG_PC,
        )
        self._add_hook(unicorn.UC_HOOK_BLOCK, _hook_library().board_block)
        self._engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_fault)
        self._run(program.symbols["board_reset"])

    def read(self, address: int, size: int) -> bytes:
        """The bytes at an address."""
        return bytes(self._engine.mem_read(address, size))

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at an address, flash included."""
        self._engine.mem_write(address, data)

    def call(self, function: str, *arguments: int) -> int:
        """Call a C function with up to four words; returns r0."""
        arm = self._unicorn.arm_const
        for number, value in enumerate(arguments):
            self._engine.reg_write(arm.UC_ARM_REG_R0 + number, value)
        self._engine.reg_write(arm.UC_ARM_REG_LR, self._program.symbols["main"] | 1)
        self._run(self._program.symbols[function])
        return self._engine.reg_read(arm.UC_ARM_REG_R0)

    def call_counted(
        self, function: str, *arguments: int, layer_at: Mapping[int, int], outside: int
    ) -> tuple[np.ndarray, int]:
        """Call a C function and count it: (counts, bytes of stack that it used).

        layer_at: the layer that a block at this address enters.  outside: the layer it starts in.
        counts is COUNT records: blocks by layer and by whether they were jumped to.
        """
        board = self._board
        self._layer_at[:] = KEEP_LAYER
        self._layer_at[[address // 2 for address in layer_at]] = list(layer_at.values())
        self._counts[:] = 0
        board.layer, board.end, board.used = outside, self._program.symbols[function], 0
        self.write(self._bottom, bytes([PAINT]) * (self._top - self._bottom))
        board.counting = 1
        try:
            self.call(function, *arguments)
        finally:
            board.counting = 0
        if board.used == CAPACITY:
            raise RuntimeError(f"The program has more than {CAPACITY} different blocks to count.")
        stack = np.frombuffer(self.read(self._bottom, self._top - self._bottom), np.uint8)
        touched = np.flatnonzero(stack != PAINT)
        depth = len(stack) - int(touched[0]) if len(touched) else 0
        return self._counts[self._counts["runs"] > 0].copy(), depth

    def call_accesses(self, function: str, *arguments: int, outside: int) -> np.ndarray:
        """Call again what `call_counted` counted: COUNT records of size 0, its unaligned accesses.

        By instruction, layer and wait states. Unicorn's hook of memory accesses disturbs loads and
        stores that an IT instruction makes conditional (as newlib's memcpy has them): nothing that
        this call computes may be used, and where it goes astray, what it did so far is returned.
        """
        board = self._board
        self._counts[:] = 0
        board.layer, board.used = outside, 0
        access = self._unicorn.UC_HOOK_MEM_READ | self._unicorn.UC_HOOK_MEM_WRITE
        hook = self._add_hook(access, _hook_library().board_access)
        self._engine.ctl_flush_tb()  # code translated without the hook does not call it
        board.counting = 1
        try:
            self.call(function, *arguments)
        except RuntimeError:
            pass
        finally:
            board.counting = 0
            self._uclib.uc_hook_del(self._engine._uch, hook)
            self._engine.ctl_flush_tb()  # code translated with the hook stays slow
        used = (self._counts["runs"] > 0) & (self._counts["size"] == 0)
        return self._counts[used].copy()

    def _add_hook(self, kind: int, function: Any) -> ctypes.c_size_t:
        """Let Unicorn call a C function without Python in between."""
        handle = ctypes.c_size_t()
        status = self._uclib.uc_hook_add(
            self._engine._uch,
            ctypes.byref(handle),
            kind,
            ctypes.cast(function, ctypes.c_void_p),
            ctypes.addressof(self._board),
            1,  # from 1 to 0: at every address
            0,
        )
        if status:
            raise self._unicorn.UcError(status)
        return handle

    def _on_fault(self, engine, access, address, size, value, user) -> bool:
        self._fault = (access, address)
        return False

    def _run(self, address: int) -> None:
        """Run from an address with an empty stack until main is reached."""
        arm, main = self._unicorn.arm_const, self._program.symbols["main"]
        self._engine.reg_write(arm.UC_ARM_REG_SP, self._top)
        self._board.budget = 2 * self._budget
        self._fault = None
        try:
            self._engine.emu_start(address | 1, main)
        except self._unicorn.UcError as error:
            raise RuntimeError(self._explain(error)) from None
        at = self._engine.reg_read(arm.UC_ARM_REG_PC)
        if self._board.budget < 0:
            raise RuntimeError(
                f"The program ran {self._budget} instructions without an end, "
                f"last {self._program.where(at)}."
            )
        if at != main and self._board.used < CAPACITY:
            raise RuntimeError(f"The program went to sleep {self._program.where(at)}.")

    def _explain(self, error: Any) -> str:
        unicorn = self._unicorn
        where = self._program.where(self._engine.reg_read(unicorn.arm_const.UC_ARM_REG_PC))
        stack = self._engine.reg_read(unicorn.arm_const.UC_ARM_REG_SP)
        access, address = self._fault or (None, 0)
        size = self._top - self._bottom
        if stack < self._bottom or self._bottom - size <= address < self._bottom:
            return f"The program used more than {size} bytes of stack {where}."
        if access in (unicorn.UC_MEM_FETCH_UNMAPPED, unicorn.UC_MEM_FETCH_PROT):
            return f"The program jumped to address {address:#010x}, where no code can be."
        if access in (unicorn.UC_MEM_READ_UNMAPPED, unicorn.UC_MEM_READ_PROT):
            return f"The program read from address {address:#010x} {where}."
        if access in (unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT):
            return f"The program wrote to address {address:#010x} {where}."
        return f"The program stopped {where}: {error}."


def _unicorn() -> Any:
    try:
        import unicorn
        import unicorn.arm_const
    except ImportError:
        raise RuntimeError(
            'The virtual board needs unicorn: `pip install "scalpel_tf[board]"`.'
        ) from None
    return unicorn


@lru_cache
def _hook_library() -> ctypes.CDLL:
    """board_hook.c, compiled for this machine once and kept in the user's cache directory."""
    source = Path(__file__).with_name("board_hook.c")
    machine = f"{platform.system()} {platform.machine()}"
    digest = hashlib.sha256(source.read_bytes() + machine.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scalpel_tf"
    library = cache / f"board_hook-{digest}.so"
    if library.exists():
        return ctypes.CDLL(str(library))
    arguments = ["-O2", "-shared", "-fPIC", source]
    try:
        return ctypes.CDLL(str(toolchain.compile_c(toolchain.host(), arguments, library)))
    except OSError:  # a cache that cannot be written
        with tempfile.TemporaryDirectory() as scratch:
            library = Path(scratch) / library.name
            return ctypes.CDLL(str(toolchain.compile_c(toolchain.host(), arguments, library)))
