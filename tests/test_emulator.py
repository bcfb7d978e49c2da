import ctypes
import sys

import pytest
import tiny

from scalpel_tf.deploy import board, elf, emulator, toolchain


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return elf.load(board.build(tiny.PROJECT, tmp_path_factory.mktemp("emulator"), "cortex-m4"))


@pytest.fixture
def machine(program):
    return emulator.Machine(program, "cortex-m4", budget=1000)


@pytest.fixture
def fresh_hook():
    emulator._hook_library.cache_clear()
    yield
    emulator._hook_library.cache_clear()


def test_call_passes_words_and_returns_one(machine):
    assert machine.call("model_input", 0x21000000, 0) == 0x21000000
    assert machine.call("model_output", 0x21000000, 0) == 0x21000010


def test_write_then_read(machine):
    machine.write(0x21000003, b"abc")
    assert machine.read(0x21000002, 5) == b"\0abc\0"


def test_call_counted_starts_anew(machine):
    arguments = ("model_input", 0x21000000, 0)
    first, _ = machine.call_counted(*arguments, layer_at={}, outside=7)
    second, stack = machine.call_counted(*arguments, layer_at={}, outside=7)
    assert first.tolist() == second.tolist() and len(first) > 0
    assert set(first["layer"]) == {7} and first["runs"].sum() == len(first) and stack == 0


def test_layers_change_where_they_are_entered(machine, program):
    entry = program.symbols["model_input"]
    counts, _ = machine.call_counted("model_input", 0x21000000, 0, layer_at={entry: 3}, outside=7)
    assert set(counts["layer"]) == {3}


def test_the_first_block_was_not_jumped_to(machine):
    counts, _ = machine.call_counted("model_input", 0x21000000, 0, layer_at={}, outside=0)
    assert counts["extra"][counts["address"].argmin()] == 0


def test_a_full_table_is_an_error(program, monkeypatch):
    monkeypatch.setattr(emulator, "CAPACITY", 2)
    machine = emulator.Machine(program, "cortex-m4", budget=1000)
    with pytest.raises(RuntimeError, match="more than 2 different blocks"):
        machine.call_counted("model_invoke", 0x21000000, layer_at={}, outside=0)


def test_the_structs_of_c_have_the_size_of_their_mirrors(tmp_path):
    source = tmp_path / "sizes.c"
    hook = emulator.Path(emulator.__file__).with_name("board_hook.c")
    source.write_text(
        f'#include "{hook}"\n'
        f"int a[sizeof(board_count) == {emulator.COUNT.itemsize} ? 1 : -1];\n"
        f"int b[sizeof(board) == {ctypes.sizeof(emulator._Board)} ? 1 : -1];\n"
    )
    toolchain.compile_c(toolchain.host(), ["-c", source], tmp_path / "sizes.o")


def test_the_hook_is_compiled_once(monkeypatch, tmp_path, fresh_hook):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    emulator._hook_library()
    (library,) = (tmp_path / "scalpel_tf").iterdir()
    assert library.name.startswith("board_hook-")
    emulator._hook_library.cache_clear()
    monkeypatch.setattr(toolchain, "compile_c", None)
    assert emulator._hook_library().board_block


def test_the_hook_works_without_a_cache(monkeypatch, tmp_path, fresh_hook):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "zig"))  # or zig has none either
    assert emulator._hook_library().board_block


def test_without_unicorn_the_error_names_the_extra(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with pytest.raises(RuntimeError, match=r'pip install "scalpel_tf\[board\]"'):
        emulator.Machine(program, "cortex-m4", budget=1)
