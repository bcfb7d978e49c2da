"""Projects for build systems: they compile without a warning, boot in QEMU and tell the truth."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from models import dense_model, int8

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import layouts, toolchain
from scalpel_tf.deploy.export import export

CMAKE = shutil.which("cmake") or str(Path(sys.executable).with_name("cmake"))
STRICT = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-c", "-o", "/dev/null")
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard")
needs_gcc = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-g++"), reason="there is no arm-none-eabi-g++ here"
)
needs_qemu = pytest.mark.skipif(
    not shutil.which("qemu-system-arm"), reason="there is no qemu-system-arm here"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """project -> the folder of an export with a check."""
    root = tmp_path_factory.mktemp("layouts")
    for project in ("cmake", "arduino", "zephyr"):
        options = {"project": project, "check": True, "device": "STM32F446RE"}
        export(int8(dense_model), out=root / project, **options)
    return {path.name: path for path in root.iterdir()}


def build(folder, out, *options):
    """What building the CMake project prints."""
    toolchain_file = f"-DCMAKE_TOOLCHAIN_FILE={folder / 'arm-none-eabi.cmake'}"
    configure = [CMAKE, "-S", folder, "-B", out, toolchain_file, *options]
    subprocess.run(configure, check=True, capture_output=True)
    result = subprocess.run([CMAKE, "--build", out], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def boot(machine, elf):
    """(exit code, what it printed) of a program in QEMU."""
    command = ["qemu-system-arm", "-M", machine, "-nographic", "-semihosting", "-kernel", elf]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return result.returncode, (result.stdout + result.stderr).strip()


@pytest.fixture(scope="module")
def built(folders, tmp_path_factory):
    """(the folder that the CMake project was built in, what that printed)."""
    out = tmp_path_factory.mktemp("built")
    return out, build(folders["cmake"], out)


@needs_gcc
@needs_qemu
def test_the_cmake_project_boots(built):
    assert boot("mps2-an386", built[0] / "firmware.elf") == (0, "0 of 8 test vectors differ")


@needs_gcc
@needs_qemu
def test_the_cmake_project_boots_on_the_memory_map_of_an_stm32f4(folders, tmp_path):
    build(folders["cmake"], tmp_path, "-DBOARD=device", "-DSEMIHOSTING=ON")
    elf = tmp_path / "firmware.elf"
    assert boot("netduinoplus2", elf) == (0, "0 of 8 test vectors differ")
    script = (tmp_path / "board.ld").read_text()
    assert "ORIGIN = 0x08000000, LENGTH = 0x00080000" in script
    assert "ORIGIN = 0x20000000, LENGTH = 0x00020000" in script


@needs_gcc
@needs_qemu
def test_a_wrong_constant_is_an_exit_code(folders, tmp_path):
    folder = shutil.copytree(folders["cmake"], tmp_path / "broken")
    model = (folder / "model.c").read_text()
    start = model.index("layer_1_rows[10] = {\n    {") + len("layer_1_rows[10] = {\n    {")
    (folder / "model.c").write_text(f"{model[:start]}999999 + {model[start:]}")
    build(folder, tmp_path / "b")
    assert boot("mps2-an386", tmp_path / "b" / "firmware.elf") == (255, "")
    main = (folder / "main.c").read_text()
    (folder / "main.c").write_text(main.replace("ifdef MODEL_CRC32", "if 0"))
    subprocess.run([CMAKE, "--build", tmp_path / "b"], check=True, capture_output=True)
    result = (7, "7 of 8 test vectors differ")
    assert boot("mps2-an386", tmp_path / "b" / "firmware.elf") == result


@needs_gcc
def test_the_build_ends_with_the_bytes_of_every_operator(built):
    folder, printed = built
    rows = dict(re.findall(r"^(fc\d|kernels \(shared\)) +(\d.*)$", printed, re.M))
    assert list(rows) == ["fc1", "fc2", "kernels (shared)"]
    code, constants, ram = map(int, rows["fc1"].split())
    # groups of 4 with an index and 20 rows of 12, and the struct of 6 words
    groups = (425 - 20 * 12) // 5
    assert constants == 5 * groups + 20 * 12 + 24 and 0 < code < 100
    assert ram == 48 + 32 + 80  # input, output, the input widened; each a multiple of 16
    elf = folder / "firmware.elf"
    sizes = subprocess.run(["arm-none-eabi-size", elf], capture_output=True, text=True).stdout
    text = int(sizes.splitlines()[1].split()[0])
    assert text == pytest.approx((folder / "firmware.bin").stat().st_size, abs=16)


@needs_gcc
def test_a_program_that_does_not_fit_the_device_does_not_link(folders, tmp_path):
    folder = shutil.copytree(folders["cmake"], tmp_path / "small")
    script = folder / "board.ld.in"
    script.write_text(script.read_text().replace("@RAM_BYTES@", "512"))
    with pytest.raises(AssertionError, match="region `RAM' overflowed"):
        build(folder, tmp_path / "b")


@needs_gcc
def test_the_arduino_library_compiles_as_arduino_does_it(folders, tmp_path):
    folder = folders["arduino"]
    properties = dict(
        line.split("=", 1) for line in (folder / "library.properties").read_text().splitlines()
    )
    assert properties["name"] == "scalpel_model" and properties["architectures"] == "*"
    assert (folder / "src" / properties["includes"]).is_file()
    sources = [path for path in (folder / "src").rglob("*") if path.suffix in (".c", ".S")]
    assert len(sources) >= 4
    for source in sources:  # src is the only include path
        compiler = ["arm-none-eabi-gcc", *(["-std=gnu11"] if source.suffix == ".c" else [])]
        subprocess.run([*compiler, *CORTEX_M4, *STRICT, f"-I{folder / 'src'}", source], check=True)
    stub = tmp_path / "Arduino.h"
    stub.write_text(
        "#include <stdint.h>\n#include <string.h>\n"
        "struct Port { void begin(long); template <class T> void print(T);"
        " template <class T> void println(T); };\nextern Port Serial;\n"
        'extern "C" unsigned long micros();\nextern "C" void delay(unsigned long);\n'
    )
    example = folder / "examples" / "test_vectors" / "test_vectors.ino"
    subprocess.run(
        ["arm-none-eabi-g++", "-std=gnu++17", *CORTEX_M4, *STRICT, "-include", stub, "-x", "c++",
         f"-I{folder / 'src'}", example],
        check=True,
    )  # fmt: skip


def test_the_zephyr_module_has_what_west_looks_for(folders):
    folder = folders["zephyr"]
    module = (folder / "zephyr" / "module.yml").read_text()
    assert re.findall(r"^(name|build):", module, re.M) == ["name", "build"]
    cmake, kconfig = re.findall(r"  (?:cmake|kconfig): (\S+)", module)
    assert "zephyr_library_sources" in (folder / cmake / "CMakeLists.txt").read_text()
    assert "config SCALPEL_MODEL" in (folder / kconfig).read_text()
    assert "CONFIG_SCALPEL_MODEL=y" in (folder / "sample" / "prj.conf").read_text()
    for name in ("CMakeLists.txt", "src/main.c", "src/test_vectors.h"):
        assert (folder / "sample" / name).is_file()


@pytest.mark.parametrize("project", ["cmake", "arduino", "zephyr"])
def test_every_template_is_filled(folders, project):
    for path in folders[project].rglob("*"):
        if path.is_file() and path.name not in ("CMakeLists.txt", "board.ld.in"):
            assert not re.search(r"@[A-Z_]+@", path.read_text()), path


def test_what_is_generated_is_clean_of_conversions(folders, tmp_path):
    """By zig; CMakeLists.txt has these flags for GCC, and the other tests build by it."""
    try:
        found = toolchain.arm("cortex-m4", "zig")
    except RuntimeError as error:
        pytest.skip(str(error))
    folder = folders["cmake"]
    for source in sorted(folder.rglob("*.c")):
        if source.name != "main.c":
            arguments = ["-Wconversion", "-O2", "-c", f"-I{folder}", source]
            toolchain.compile_c(found, arguments, tmp_path / "out.o")


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`project` is one of 'plain', 'cmake'.*got 'make'"):
        export(int8(dense_model), out=tmp_path / "out", project="make")


def test_the_readme_says_what_a_boot_rom_wants():
    target = find_target("cortex-m0plus")
    description = {"layers": [], "stack_bytes": 0, "constant_bytes": 0, "arena_bytes": 0}
    files = dict.fromkeys(("main.c", "test_vectors.h"), b"")
    readmes = {
        board.name: layouts.arrange(files, "cmake", description, board, target)["README.md"]
        for board in target.boards
    }
    assert b"second-stage loader" in readmes["Raspberry Pi Pico"]
    assert b"boot ROM" not in readmes["STM32G071RB"] and b"0x08000000" in readmes["STM32G071RB"]
