"""The files of a plain project -> the folder that a build system expects.

plain     as c_source.py emits it: a CMake library, and its test on this machine
cmake     start-up, linker script and toolchain file: boots in QEMU and on the device
arduino   a library folder with an example
zephyr    a module with a sample application

Every one keeps model.json at its root, so that `run` builds it for the virtual board.  The
templates are the files of skeletons/, in which @NAME@ is replaced.
"""

import re
from pathlib import Path

from scalpel_tf.core.targets import KIB, MIB, Board, Target
from scalpel_tf.deploy import toolchain

SKELETONS = Path(__file__).parent / "skeletons"
STACK_MARGIN = 512  # bytes, for what calls the network

# (QEMU's machine, (flash at, bytes, RAM at, bytes)): boards whose processor runs the target's code.
MACHINES = {
    **dict.fromkeys(
        ("cortex-m0plus", "cortex-m3", "cortex-m4"),
        ("mps2-an386", (0, 4 * MIB, 0x20000000, 4 * MIB)),
    ),
    "cortex-m7": ("mps2-an500", (0, 4 * MIB, 0x20000000, 4 * MIB)),
    "cortex-m33": ("mps2-an505", (0x10000000, 4 * MIB, 0x38000000, 2 * MIB)),
    "cortex-m55": ("mps3-an547", (0, 512 * KIB, 0x20000000, 512 * KIB)),
}


def arrange(files: dict[str, bytes], layout: str, description: dict, board: Board, target: Target):
    """Relative path -> contents of a project of `c_source.emit` in another layout.

    layout: a key of LAYOUTS.  description: of model.json, with "stack_bytes" and each layer's
    "ram".  board: what the linker script is for.
    """
    return LAYOUTS[layout](files, _words(description, board, target))


def _plain(files, words):
    return files


def _cmake(files, words):
    names = ("CMakeLists.txt", "arm-none-eabi.cmake", "board.c", "board.h", "board.ld.in")
    return {
        **_model_files(files),
        **{name: files[name] for name in ("main.c", "test_vectors.h")},
        **{name: _fill("cmake", name, words) for name in (*names, "sizes.cmake", "README.md")},
    }


def _arduino(files, words):
    example = "examples/test_vectors"
    model = _model_files(files)
    return {
        "model.json": model.pop("model.json"),
        **{f"src/{name}": contents for name, contents in model.items()},
        "src/scalpel_model.h": _fill("arduino", "scalpel_model.h", words),
        "library.properties": _fill("arduino", "library.properties", words),
        f"{example}/test_vectors.ino": _fill("arduino", "test_vectors.ino", words),
        f"{example}/test_vectors.h": files["test_vectors.h"],
    }


def _zephyr(files, words):
    return {
        **_model_files(files),
        **{
            f"zephyr/{name}": _fill("zephyr", name, words)
            for name in ("module.yml", "Kconfig", "CMakeLists.txt")
        },
        "sample/CMakeLists.txt": _fill("zephyr", "sample_CMakeLists.txt", words),
        "sample/prj.conf": _fill("zephyr", "prj.conf", words),
        "sample/src/main.c": _fill("zephyr", "main.c", words),
        "sample/src/test_vectors.h": files["test_vectors.h"],
    }


def _model_files(files):
    """What every program compiles, and model.json."""
    return {
        name: contents
        for name, contents in files.items()
        if name in ("model.c", "model.h", "model.json") or name.startswith("runtime/")
    }


def _words(description, board, target):
    machine, memory = MACHINES[target.name]
    device = (board.flash_origin, board.flash, board.ram_origin, board.ram_bank or board.ram)
    flags = [f"-mcpu={target.name}", "-mthumb"]
    if toolchain.ARM_TARGETS[target.name][0].endswith("hf"):
        flags.append("-mfloat-abi=hard")
    layers = description["layers"]
    return {
        "TARGET": target.name,
        "MACHINE": machine,
        "MACHINE_MAP": _memory_map(memory),
        "DEVICE": board.name,
        "DEVICE_MAP": _memory_map(device),
        "BOOT": f" {board.boot}" if board.boot else "",
        "FLASH_AT": f"{device[0]:#010x}",
        "RAM_AT": f"{device[2]:#010x}",
        "CPU_FLAGS": " ".join(flags),
        "STACK": str(-(-(description["stack_bytes"] + STACK_MARGIN) // 256) * 256),
        "NAMES": "\n  ".join(re.sub(r"[^\w./-]", "_", layer["name"])[:24] for layer in layers),
        "PEAKS": " ".join(str(layer["ram"]) for layer in layers),
        "FLASH": str(description["constant_bytes"]),
        "ARENA": str(description["arena_bytes"]),
        "FPU": "CONFIG_FPU=y" if "fpu" in target.features else "",
    }


def _memory_map(numbers):
    return " ".join(f"{number:#010x}" for number in numbers)


def _fill(folder, name, words):
    """The template with every @NAME@ that `words` has; others are CMake's own."""
    text = (SKELETONS / folder / name).read_text()
    return re.sub(r"@(\w+)@", lambda match: words.get(match[1], match[0]), text).encode()


LAYOUTS = {"plain": _plain, "cmake": _cmake, "arduino": _arduino, "zephyr": _zephyr}
