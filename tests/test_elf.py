import sys

import pytest
import tiny

from scalpel_tf.deploy import board, elf, host


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return elf.load(board.build(tiny.PROJECT, tmp_path_factory.mktemp("elf"), "cortex-m4"))


def test_load_finds_the_layers(program):
    first, second = program.functions["model_layer_0"], program.functions["model_layer_1"]
    assert program.symbols["model_layer_0"] == first.start
    assert first.start % 2 == 0 and len(first) > 0 and not set(first) & set(second)


def test_where_names_the_function(program):
    start = program.symbols["model_layer_1"]
    assert program.where(start + 2) == f"at {start + 2:#010x} (model_layer_1 + 2)"
    assert program.where(0x12345678) == "at 0x12345678"


def test_load_brings_the_vectors_and_the_description(program):
    vectors = next(data for address, data in program.segments if address == 0)
    assert int.from_bytes(vectors[:4], "little") == program.symbols["board_stack_top"]
    assert int.from_bytes(vectors[4:8], "little") == program.symbols["board_reset"] | 1
    assert program.information["target"] == "cortex-m4"
    assert program.information["arena_bytes"] == program.sizes["bss"] == 48


def test_load_refuses_other_files(tmp_path):
    (tmp_path / "text").write_text("text")
    with pytest.raises(ValueError, match="text is not an ELF file"):
        elf.load(tmp_path / "text")


@pytest.mark.skipif(sys.platform != "linux", reason="a host library is no ELF file here")
def test_load_refuses_other_elf_files(tmp_path):
    with pytest.raises(ValueError, match="was not made by `board.build`"):
        elf.load(host.build(tiny.PROJECT, tmp_path))


def test_without_pyelftools_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "elftools.common.exceptions", None)
    with pytest.raises(RuntimeError, match=r'pip install "scalpel_tf\[board\]"'):
        elf.load(tmp_path / "any")
