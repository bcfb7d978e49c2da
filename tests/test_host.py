import json
import shutil

import numpy as np
import pytest
import tiny

from scalpel_tf.deploy import host, toolchain

CLAMP = "if (sums[i] < 0) sums[i] = 0;"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return host.build(tiny.PROJECT, tmp_path_factory.mktemp("host"))


@pytest.fixture
def sanitizers():
    if "zig" in toolchain.host().description:
        pytest.skip("zig has no address sanitizer")


def test_invoke_runs_every_sample(library):
    arrays = tiny.inputs(50)
    for output, expected in zip(host.invoke(library, arrays), tiny.expected(arrays), strict=True):
        assert output.dtype == expected.dtype
        np.testing.assert_array_equal(output, expected)


def test_invoke_takes_the_library_that_was_built_last(tmp_path):
    arrays = tiny.inputs(1)
    before = host.invoke(host.build(tiny.PROJECT, tmp_path), arrays)
    project = tiny.changed(tmp_path / "other", "+ 0.5f", "+ 1.5f")
    after = host.invoke(host.build(project, tmp_path), arrays)
    assert after[1] - before[1] == 1


def test_invoke_gives_the_arena_its_alignment(tmp_path, monkeypatch):
    full = np.full
    monkeypatch.setattr(np, "full", lambda size, *rest: full(size + 1, *rest)[1:])
    project = tiny.changed(
        tmp_path / "aligned",
        "  model_layer_0(arena);",
        "  model_layer_0(arena);\n  if ((uintptr_t)arena % 16) arena[16] ^= 1;",
    )
    arrays = tiny.inputs(3)
    outputs = host.invoke(host.build(project, tmp_path / "out"), arrays)
    np.testing.assert_array_equal(outputs[0], tiny.expected(arrays)[0])


def test_invoke_checks_its_inputs(library):
    x, y = tiny.inputs(2)
    with pytest.raises(ValueError, match=r"'x' is int8 of shape \(samples, 9\); got float32"):
        host.invoke(library, [x.astype(np.float32), y])


def test_invoke_refuses_what_is_no_library(tmp_path):
    (tmp_path / "libmodel.so").write_text("text")
    with pytest.raises(ValueError, match="is not a library made by `host.build`"):
        host.invoke(tmp_path / "libmodel.so", tiny.inputs(1))


def test_build_refuses_what_is_no_project(tmp_path):
    with pytest.raises(ValueError, match="holds no model.json"):
        host.build(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sanitized_equals_plain(library, sanitizers, tmp_path):
    arrays = tiny.inputs(7)
    outputs = host.run_sanitized(host.build_sanitized(tiny.PROJECT, tmp_path), arrays)
    for output, expected in zip(outputs, host.invoke(library, arrays), strict=True):
        assert output.dtype == expected.dtype
        np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize(
    "bug, message",
    [
        ("sums[i] += arena[MODEL_ARENA_BYTES];", "heap-buffer-overflow"),
        ("arena[MODEL_ARENA_BYTES + i] = 0;", "heap-buffer-overflow"),
        ("sums[i] -= 0x7FFFFFFF;", "signed integer overflow"),
        ("sums[i] = sums[i + (uint32_t)arena[20] + 2];", "stack-buffer-overflow|out of bounds"),
        ("sums[i] = *(int32_t*)(arena + 17) + 1;", "misaligned address"),
    ],
)
def test_sanitized_reports_the_bug(sanitizers, tmp_path, bug, message):
    project = tiny.changed(tmp_path / "bug", CLAMP, bug)
    program = host.build_sanitized(project, tmp_path / "out")
    report = rf"The sanitized program failed:\n(.*\n)*.*({message})"
    with pytest.raises(RuntimeError, match=report):
        host.run_sanitized(program, [np.full((1, 9), 1, np.int8), np.zeros(1, np.float32)])


def test_build_sanitized_refuses_a_compiler_without(monkeypatch, tmp_path):
    """The flag is dropped, as zig does silently."""
    real, flag = toolchain.compile_c, "-fsanitize=address,undefined"
    monkeypatch.setattr(
        toolchain, "compile_c", lambda c, arguments, out: real(c, set(arguments) - {flag}, out)
    )
    with pytest.raises(RuntimeError, match="has no address sanitizer; install gcc or clang"):
        host.build_sanitized(tiny.PROJECT, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_library_carries_its_description(tmp_path):
    project = shutil.copytree(tiny.PROJECT, tmp_path / "gone")
    library = host.build(project, tmp_path / "out")
    shutil.rmtree(project)
    assert json.loads((tiny.PROJECT / "model.json").read_text())["arena_bytes"] == 48
    assert len(host.invoke(library, tiny.inputs(4))[0]) == 4
