import ctypes
import shutil

import pytest

from scalpel_tf.deploy import toolchain


@pytest.fixture
def bare_machine(monkeypatch):
    """A machine on which no compiler is found, neither a program nor the wheel."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(toolchain, "_has_zig", lambda: False)
    toolchain._has_newlib.cache_clear()
    yield
    toolchain._has_newlib.cache_clear()


def program(path, text):
    """A program at path that prints the text."""
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "name, version, description",
    [
        ("cc", "cc (Debian 12.2.0-14+deb12u1) 12.2.0", "cc 12.2.0"),
        ("gcc", "gcc (15:12.2.rel1-1) 12.2.1 20221205", "gcc 12.2.1"),
        ("gcc", "gcc (GNU 13.2.rel1 (Build arm-13.7)) 13.2.1 20231009", "gcc 13.2.1"),
        ("cc", "Apple clang version 15.0.0 (clang-1500.3.9.4)", "clang 15.0.0"),
        ("tcc", "no number", "tcc"),
    ],
)
def test_host_is_cc_with_its_version(monkeypatch, tmp_path, name, version, description):
    path = program(tmp_path / name, version)
    monkeypatch.setenv("CC", f"{path} -m64")
    assert toolchain.host() == toolchain.Compiler((str(path), "-m64"), description)


def test_host_refuses_a_cc_that_is_not_there(monkeypatch):
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.raises(RuntimeError, match=r"\$CC is '/nowhere/cc', which is not a program"):
        toolchain.host()


def test_host_takes_the_wheel_last(bare_machine, monkeypatch):
    monkeypatch.setattr(toolchain, "_has_zig", lambda: True)
    assert toolchain.host().command[1:] == ("-m", "ziglang", "cc")


def test_without_a_compiler_the_error_says_what_to_install(bare_machine):
    with pytest.raises(RuntimeError, match=r'install gcc or clang, or `pip install "scalpel_tf'):
        toolchain.host()
    with pytest.raises(RuntimeError, match=r"install gcc-arm-none-eabi and libnewlib.*, or `pip"):
        toolchain.arm("cortex-m4")


def test_arm_takes_the_wheel_where_gcc_is_missing(bare_machine, monkeypatch):
    monkeypatch.setattr(toolchain, "_has_zig", lambda: True)
    command = toolchain.arm("cortex-m4").command
    assert "ziglang" in command and "-mcpu=cortex_m4+vfp4d16sp" in command
    with pytest.raises(RuntimeError, match="no compiler for Cortex-M"):
        toolchain.arm("cortex-m4", "gcc")


def test_arm_without_a_c_library_is_missing(monkeypatch, tmp_path):
    program(tmp_path / "arm-none-eabi-gcc", "libc.a")  # what gcc prints for a file it has not
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    toolchain._has_newlib.cache_clear()
    assert not toolchain._has_newlib()
    toolchain._has_newlib.cache_clear()


@pytest.mark.parametrize("target", toolchain.ARM_TARGETS)
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_arm_selects_the_target(monkeypatch, target, compiler):
    monkeypatch.setattr(toolchain, "_has_newlib", lambda: True)
    monkeypatch.setattr(toolchain, "_has_zig", lambda: True)
    monkeypatch.setattr(toolchain, "_describe", lambda command: "a compiler")
    monkeypatch.setattr(toolchain, "_describe_zig", lambda: "a compiler")
    command = " ".join(toolchain.arm(target, compiler).command)
    hard = target not in ("cortex-m0plus", "cortex-m3")
    if compiler == "gcc":
        assert f"-mcpu={target}" in command and ("-mfloat-abi=hard" in command) == hard
    else:
        assert f"-mcpu={target.replace('-', '_')}" in command and ("eabihf" in command) == hard


@pytest.mark.parametrize(
    "target, compiler, message",
    [
        ("cortex-m5", None, "`target` is one of cortex-m0plus, .*; got 'cortex-m5'"),
        ("cortex-m4", "icc", '`compiler` is "gcc", "zig" or None; got \'icc\''),
    ],
)
def test_arm_refuses_other_names(target, compiler, message):
    with pytest.raises(ValueError, match=message):
        toolchain.arm(target, compiler)


def test_compile_c_writes_the_product_only(tmp_path):
    source = tmp_path / "a.c"
    source.write_text("int one(void) { return 1; }\n")
    out = toolchain.compile_c(toolchain.host(), ["-c", source], tmp_path / "new" / "a.o")
    assert out.stat().st_size > 0 and list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(
    "text, message",
    [
        ("int one(void) { return x; }\n", r"a\.c:1.*error.*x"),
        ("int one(void) { int x; return 1; }\n", r"unused variable.*x"),  # a warning
        ("int one(void) { return 1 // not C90\n; } int f(int a) { a; }\n", r"error"),
    ],
)
def test_compile_c_fails_with_the_first_errors_and_keeps_the_old(tmp_path, text, message):
    source, out = tmp_path / "a.c", tmp_path / "out" / "a.o"
    source.write_text(text)
    out.parent.mkdir()
    out.write_text("old")
    with pytest.raises(RuntimeError, match=rf"could not build a.o:\n(.*\n)*.*{message}"):
        toolchain.compile_c(toolchain.host(), ["-c", source], out)
    assert out.read_text() == "old" and list(out.parent.iterdir()) == [out]


def test_compile_c_keeps_nothing_of_a_compiler_that_stops_half_way(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nfor last; do :; done\necho half > "$last"\nexit 3\n')
    compiler.chmod(0o755)
    out = tmp_path / "out" / "a.o"
    with pytest.raises(RuntimeError, match="cc 1 could not build a.o:\nexit code 3"):
        toolchain.compile_c(toolchain.Compiler((str(compiler),), "cc 1"), [], out)
    assert list(out.parent.iterdir()) == []


def test_link_cxx_writes_the_product_only(tmp_path):
    """Its files may share a name."""
    files = [tmp_path / folder / "a.cc" for folder in ("one", "two")]
    for file in files:
        file.parent.mkdir()
        file.write_text(f"int {file.parent.name}() {{ return RESULT; }}\n")
    compiler, out = toolchain.host_cxx(), tmp_path / "out" / "both.so"
    toolchain.link_cxx(compiler, ["-fPIC", "-DRESULT=7"], files, ["-shared"], out)
    library = ctypes.CDLL(str(out))
    assert (library._Z3onev(), library._Z3twov()) == (7, 7)
    assert list(out.parent.iterdir()) == [out]
    with pytest.raises(RuntimeError, match=r"could not build a.cc.o:\n(.*\n)*.*RESULT"):
        toolchain.link_cxx(compiler, ["-fPIC"], files, ["-shared"], tmp_path / "not" / "both.so")
    assert list((tmp_path / "not").iterdir()) == []


def test_host_cxx_takes_the_compiler_of_the_environment(monkeypatch):
    monkeypatch.setenv("CXX", "missing-c++")
    with pytest.raises(RuntimeError, match=r"\$CXX is 'missing-c\+\+', which is not a program"):
        toolchain.host_cxx()
