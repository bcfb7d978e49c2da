"""The virtual board: its outputs, its counts against sums made by hand, and QEMU's counts."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny

from scalpel_tf.deploy import board, toolchain

COMPILERS = ["gcc", "zig"]
QEMU_MAIN = Path(__file__).parent / "data" / "qemu_main.c"
HEAD = "  int32_t sum;\n  float y;\n"  # the head of model_layer_2


@pytest.fixture(params=COMPILERS)
def compiler(request):
    try:
        toolchain.arm("cortex-m4", request.param)
    except RuntimeError:
        pytest.skip(f"{request.param} for Cortex-M is not installed")
    return request.param


def assert_outputs(run, arrays):
    for output, expected in zip(run.outputs, tiny.expected(arrays), strict=True):
        assert output.dtype == expected.dtype
        np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("target", toolchain.ARM_TARGETS)
def test_every_target_computes_the_same(tmp_path, target):
    arrays = tiny.inputs(5)
    run = board.run(board.build(tiny.PROJECT, tmp_path, target), arrays)
    assert_outputs(run, arrays)
    assert [layer.name for layer in run.layers] == ["dot", "relu", "scale"]
    modelled = target == "cortex-m4"
    assert all((layer.cycles is not None) == modelled for layer in (*run.layers, run))
    assert ("for cortex-m33" in run.compiler) == (target == "cortex-m55")


def test_every_compiler_computes_the_same(tmp_path, compiler):
    arrays = tiny.inputs(5)
    run = board.run(board.build(tiny.PROJECT, tmp_path, "cortex-m4", compiler=compiler), arrays)
    assert_outputs(run, arrays)
    assert compiler in run.compiler and run.source == "modelled"
    assert 0 < sum(layer.instructions for layer in run.layers) < run.instructions
    assert 0 < sum(layer.cycles for layer in run.layers) < run.cycles


# Blocks, with cycles and, where control jumped to them, + 2:
COUNTED = """
    .syntax unified
    .thumb
    .text
    .macro function name
    .global \\name
    .type \\name, %function
    .thumb_func
\\name:
    .endm
function model_invoke
    push {r4, lr}               // 3 + 1 + 1, not jumped to
    mov r4, r0
    bl model_layer_0
    mov r0, r4                  // 1 + 1 + 2
    bl model_layer_1
    pop {r4, pc}                // 5 + 2
    .size model_invoke, . - model_invoke
function model_layer_0
    ldr r1, [r0]                // 2 + 1 + 1 + 1 + 1 + 2
    ldr r2, [r0, #4]
    adds r1, r1, r2
    str r1, [r0]
    bx lr
    .size model_layer_0, . - model_layer_0
function model_layer_1
BODY
    bx lr
    .size model_layer_1, . - model_layer_1
"""
UNALIGNED = """
    movs r1, #3                 // 1 + 5 of the first turn + 2
1:  ldr.w r2, [r0, #1]          // 2 + 1 + 1 + 1 + 2 of two more turns; + 2 each turn, an odd byte
    ldrh.w r3, [r0, #5]         // + 1 each turn
    subs r1, r1, #1
    bne 1b
    push {r1, r2, r3, r4}       // 5 + 5 + 1 with the BX
    pop {r1, r2, r3, r4}"""


@pytest.fixture
def counted(tmp_path):
    """A project all in assembly, so that no compiler has a say in its counts."""
    project = tmp_path / "counted"
    shutil.copytree(tiny.PROJECT, project)
    shutil.rmtree(project / "runtime")
    (project / "runtime").mkdir()
    text = (project / "model.c").read_text()
    functions = text[text.index("void *model_input") : text.index("void model_invoke")]
    (project / "model.c").write_text('#include "model.h"\n' + functions)
    (project / "runtime" / "counted.S").write_text(COUNTED.replace("BODY", UNALIGNED))
    information = json.loads((project / "model.json").read_text())
    information["layers"] = [{"name": "aligned"}, {"name": "unaligned"}]
    (project / "model.json").write_text(json.dumps(information))
    return project


def test_counts_are_those_worked_out_by_hand(counted, compiler, tmp_path):
    elf = board.build(counted, tmp_path, "cortex-m4", compiler=compiler)
    run = board.run(elf, tiny.inputs(2))
    aligned, unaligned = run.layers
    assert (aligned.instructions, aligned.cycles) == (5, 8)
    assert (unaligned.instructions, unaligned.cycles) == (1 + 3 * 4 + 3, 8 + 2 * 7 + 3 * 3 + 11)
    outside = run.instructions - aligned.instructions - unaligned.instructions
    assert outside == 6
    assert run.cycles - aligned.cycles - unaligned.cycles == 5 + 4 + 7
    assert run.stack_bytes == 8 + 16


def test_only_the_first_sample_is_counted(tmp_path):
    longer = "  for (volatile int n = 0; n < arena[16]; ++n) {\n  }\n"
    project = tiny.changed(tmp_path / "longer", HEAD, longer + HEAD)
    elf = board.build(project, tmp_path, "cortex-m4")
    x = np.array([[1] * 9, [-1] * 9], np.int8)  # the first sum is 0, then 4
    zero = np.zeros(2, np.float32)
    short, long = (board.run(elf, [x[i : i + 1], zero[:1]]).instructions for i in range(2))
    assert board.run(elf, [x, zero]).instructions == short < long


def test_counts_repeat(tmp_path):
    elf, arrays = board.build(tiny.PROJECT, tmp_path, "cortex-m4"), tiny.inputs(1)
    first, second = board.run(elf, arrays), board.run(elf, arrays)
    assert first.layers == second.layers and first.cycles == second.cycles


@pytest.mark.parametrize(
    "bug, message",
    [
        ("arena[0] = *(volatile uint8_t*)0x30000001;", "read from address 0x30000001 at .*layer_2"),
        ("*(volatile int*)0x30000000 = 1;", "wrote to address 0x30000000 at .*layer_2"),
        ("*(volatile uint8_t*)(uintptr_t)model_input = 1;", "wrote to address 0x0.* at .*layer_2"),
        ("((void (*)(void))0x30000001)();", "jumped to address 0x30000000, where no code"),
        ("((void (*)(void))0x20020001)();", "jumped to address 0x20020000, where no code"),
        ('__asm volatile("udf #0");', "stopped at .*layer_2.*Invalid instruction"),
        ('__asm volatile("bkpt #0");', "stopped at .*layer_2.*exception"),
        ('__asm volatile("wfi");', "went to sleep at .*layer_2"),
        ("for (;;) *(volatile uint8_t*)arena = 0;", "ran 100000 instructions without an end"),
        (
            "volatile char deep[70000];\n  for (int i = 0; i < 70000; ++i) deep[i] = 1;\n"
            "  arena[0] = deep[9];",
            "65536 bytes of stack",
        ),
    ],
)
def test_a_fault_is_one_sentence(tmp_path, bug, message):
    project = tiny.changed(tmp_path / "bug", HEAD, f"  {bug}\n{HEAD}")
    elf = board.build(project, tmp_path, "cortex-m4")
    with pytest.raises(RuntimeError, match=f"^The program .*{message}[^\n]*$"):
        board.run(elf, tiny.inputs(1), budget=100_000)


def test_a_fault_of_a_later_sample_is_found_too(tmp_path):
    bug = "if (arena[16]) *(volatile int*)0x30000000 = 1;"
    project = tiny.changed(tmp_path / "bug", HEAD, f"  {bug}\n{HEAD}")
    elf = board.build(project, tmp_path, "cortex-m4")
    x = np.array([[1] * 9, [-1] * 9], np.int8)  # the first sum is 0, then 4
    with pytest.raises(RuntimeError, match="wrote to address 0x30000000"):
        board.run(elf, [x, np.zeros(2, np.float32)])


@pytest.mark.parametrize(
    "target, access, name",
    [
        ("cortex-m4", "adds r0, r0, #1\n ldrd r2, r3, [r0]", "LDRD"),
        ("cortex-m4", "adds r0, r0, #2\n ldm r0, {r2, r3}", "LDM"),
        ("cortex-m4", "adds r0, r0, #1\n vldr s0, [r0]", "VLDR"),
        ("cortex-m0plus", "adds r0, r0, #1\n ldr r2, [r0]", "LDR"),
    ],
)
def test_an_unaligned_access_that_the_processor_refuses(counted, tmp_path, target, access, name):
    (counted / "runtime" / "counted.S").write_text(COUNTED.replace("BODY", access))
    elf = board.build(counted, tmp_path, target)
    with pytest.raises(RuntimeError, match=f"unaligned access by {name} at .*fault on a {target}"):
        board.run(elf, tiny.inputs(1))


def test_sizes_are_those_of_the_size_command(tmp_path, compiler):
    elf = board.build(tiny.PROJECT, tmp_path, "cortex-m4", compiler=compiler)
    sizes = board.sizes(elf)
    assert sizes["bss"] == 48 and sizes["data"] == 0 and 300 < sizes["text"] < 1500
    if shutil.which("arm-none-eabi-size"):
        row = subprocess.run(["arm-none-eabi-size", elf], capture_output=True, text=True).stdout
        assert row.splitlines()[1].split()[:3] == [str(n) for n in sizes.values()]


def test_initialised_data_arrives(tmp_path):
    project = tiny.changed(
        tmp_path / "data",
        HEAD,
        "  static volatile uint8_t variable = 9;\n  arena[20] = variable++;\n" + HEAD,
    )
    elf = board.build(project, tmp_path, "cortex-m4")
    outputs = board.run(elf, tiny.inputs(2)).outputs
    assert (outputs[0][:, 1] & 255).tolist() == [9, 10] and board.sizes(elf)["data"] == 8


def test_a_program_without_its_layers_is_refused(tmp_path):
    project = tmp_path / "layers"
    shutil.copytree(tiny.PROJECT, project)
    information = json.loads((project / "model.json").read_text())
    information["layers"].append({"name": "one more"})
    (project / "model.json").write_text(json.dumps(information))
    elf = board.build(project, tmp_path, "cortex-m4")
    with pytest.raises(ValueError, match="lacks model_layer_3"):
        board.run(elf, tiny.inputs(1))


def test_run_checks_its_inputs(tmp_path):
    elf = board.build(tiny.PROJECT, tmp_path, "cortex-m4")
    x, y = tiny.inputs(2)
    with pytest.raises(ValueError, match=r"'x' is int8 of shape \(samples, 9\); got int8"):
        board.run(elf, [x[:, :8], y])


def test_build_leaves_nothing_behind_on_failure(tmp_path):
    with pytest.raises(ValueError, match="holds no model.json"):
        board.build(tmp_path, tmp_path / "out", "cortex-m4")
    project = tiny.changed(tmp_path / "bug", HEAD, "nonsense;\n" + HEAD)
    with pytest.raises(RuntimeError, match=r"could not build board-cortex-m4.elf:\n.*model.c"):
        board.build(project, tmp_path / "out", "cortex-m4")
    with pytest.raises(ValueError, match="`target` is one of"):
        board.build(tiny.PROJECT, tmp_path / "out", "cortex-m5")
    assert not list(tmp_path.glob("out/*"))


def test_a_program_beyond_the_memory_of_the_board(tmp_path):
    project = tiny.changed(
        tmp_path / "big", HEAD, "  static const volatile char rom[5 << 20] = {1};\n" + HEAD
    )
    model = project / "model.c"
    model.write_text(model.read_text().replace("y = y * ", "y = (float)rom[sum] * "))
    with pytest.raises(RuntimeError, match="FLASH.*overflowed|overflowed.*FLASH"):
        board.build(project, tmp_path / "out", "cortex-m4")


@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
def test_instructions_equal_qemu(tmp_path, compiler):
    """On the same ELF. A tick of the timer is 40 ns, an instruction 2^10 ns: 25.6 ticks."""
    elf = board.build(tiny.PROJECT, tmp_path, "cortex-m4", compiler=compiler, main=QEMU_MAIN)
    x = (37 * np.arange(9) + 11).astype(np.uint8).view(np.int8)
    run = board.run(elf, [x[None], np.zeros(1, np.float32)])

    machine = ["-M", "mps2-an386", "-icount", "shift=10", "-display", "none", "-monitor", "none"]
    host = ["-serial", "none", "-semihosting-config", "enable=on,target=native"]
    result = subprocess.run(
        ["qemu-system-arm", *machine, *host, "-kernel", elf],
        capture_output=True,
        text=True,
        timeout=60,
    )
    ticks, empty_ticks, checksum = (int(word, 16) for word in result.stderr.split())
    instructions = (ticks - empty_ticks) * 40 / 2**10 + 1
    assert abs(instructions - run.instructions) <= 2 * 40 / 2**10  # a tick more or less at each end
    expected = 0
    for byte in run.outputs[0].tobytes():
        expected = (expected * 31 + byte) % 2**32
    assert checksum == expected
