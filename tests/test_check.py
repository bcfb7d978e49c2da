"""model_check: a flipped bit in any of the constants is found, and the CRC is the usual one."""

import ctypes
import re
import zlib

import numpy as np
import pytest
from models import conv_model, dense_model, int8

from scalpel_tf.deploy import board, c_source, toolchain
from scalpel_tf.deploy.elf import load
from scalpel_tf.deploy.emulator import Machine
from scalpel_tf.deploy.export import export


@pytest.mark.parametrize("size", [0, 1, 3, 4, 1021])
def test_crc32_is_that_of_zlib(size, tmp_path):
    source = c_source.RUNTIME / "scalpel_crc32.c"
    arguments = ["-Wconversion", "-shared", "-fPIC", source]
    library = toolchain.compile_c(toolchain.host(), arguments, tmp_path / f"crc{size}.so")
    function = ctypes.CDLL(str(library)).scalpel_crc32
    function.restype = ctypes.c_uint32
    data = np.random.default_rng(size).bytes(size)
    assert function(0, data, size) == zlib.crc32(data)
    assert function(zlib.crc32(b"before"), data, size) == zlib.crc32(b"before" + data)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    export(int8(conv_model), out=folder / "firmware", check=True)
    checked = re.findall(r"crc, &?(\w+), sizeof", (folder / "firmware" / "model.c").read_text())
    return load(board.build(folder / "firmware", folder, "cortex-m4")), checked


def test_a_flipped_bit_of_any_constant_is_found(program):
    program, checked = program
    machine = Machine(program, "cortex-m4", budget=10**8)
    assert machine.call("model_check") == 0 and len(checked) >= 6
    for name in checked:
        address = program.symbols[name] + 1
        (byte,) = machine.read(address, 1)
        machine.write(address, bytes([byte ^ 16]))
        assert machine.call("model_check") == 1, name
        machine.write(address, bytes([byte]))
    assert machine.call("model_check") == 0


def test_only_structs_with_addresses_are_left_out(program):
    program, checked = program
    constants = {name for name in program.symbols if re.fullmatch(r"layer_\d+(_\w+)?", name)}
    for name in constants - set(checked):
        assert re.fullmatch(r"layer_\d+", name)


def test_without_the_option_there_is_no_check(tmp_path):
    export(int8(dense_model), out=tmp_path / "firmware")
    assert "crc" not in (tmp_path / "firmware" / "model.c").read_text().lower()
