"""The library of the C++ ops is found, refused or built, and products work without it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scalpel_tf import cli
from scalpel_tf.deploy import kernels, op_library

PACKAGE = Path(op_library.__file__).resolve().parent.parent

PRODUCT = """
import warnings
import numpy as np
{prepare}
from scalpel_tf.deploy import ops
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        y = ops.grouped_csr_matmul(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32),
                                   np.uint16([0]), np.uint32([0, 1]))
        z = ops.grouped_csr_conv2d(np.ones((1, 1, 2, 1), np.float32), np.ones((1, 2), np.float32),
                                   np.uint16([0]), np.uint32([0, 1]), kernel_size=(1, 2))
assert y.numpy().tolist() == [[2.0]] and z.numpy().tolist() == [[[[2.0]]]]
print(len(caught), *(f"{{w.category.__name__}}: {{w.message}}" for w in caught))
print(ops.why_not())
"""


def copy_of_the_package(folder):
    """The package as a wheel would bring it, nothing built."""
    shutil.copytree(PACKAGE, folder / "scalpel_tf", ignore=shutil.ignore_patterns("lib", "__py*"))
    if not (folder / "scalpel_tf" / "custom_ops").exists():
        shutil.copytree(kernels.sources(), folder / "scalpel_tf" / "custom_ops")
    return folder


def run(folder, code, **environment):
    """The printed lines of a fresh process that uses the package in `folder`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), **environment}
    environment["PYTHONPATH"] = str(folder)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_without_a_library_one_warning_says_why(tmp_path):
    code = PRODUCT.format(prepare="")
    warned, reason = run(copy_of_the_package(tmp_path), code)
    assert reason == "The C++ ops of scalpel_tf are not built; run `scalpel-tf build`."
    assert warned.startswith(f"1 RuntimeWarning: {reason} Until then products run in plain")


def test_with_a_damaged_library_one_warning_says_why(tmp_path):
    folder = copy_of_the_package(tmp_path)
    find = "from scalpel_tf.deploy import op_library; print(op_library.paths()[0])"
    library = Path(run(folder, find)[0])
    assert library.is_relative_to(folder / "scalpel_tf")
    library.parent.mkdir()
    library.write_text("no library")
    warned, reason = run(folder, PRODUCT.format(prepare=""))
    assert str(library) in reason and reason.endswith("run `scalpel-tf build`.")
    assert "file too short" in reason or "invalid ELF header" in reason
    assert warned.startswith(f"1 RuntimeWarning: {reason}")


def test_plain_tensorflow_can_be_asked_for(tmp_path):
    code = PRODUCT.format(prepare="")
    warned, reason = run(copy_of_the_package(tmp_path), code, SCALPEL_TF_PY_OPS="1")
    assert warned == "0"
    assert reason == "SCALPEL_TF_PY_OPS=1 asks for products in plain TensorFlow."


def test_a_process_uses_what_it_has_just_built(tmp_path):
    prepare = "from scalpel_tf.deploy import ops; print(ops.why_not()); print(ops.build())"
    folder = copy_of_the_package(tmp_path)
    for file in (folder / "scalpel_tf" / "custom_ops").glob("gcsr_avx*.cc"):
        file.unlink()  # an instruction set less is a shorter test
    lines = run(folder, PRODUCT.format(prepare=prepare))
    assert "not built" in lines[0]
    assert Path(lines[1]).is_relative_to(tmp_path / "scalpel_tf" / "lib")
    assert lines[2:] == ["0", "None"]


def test_the_users_cache_serves_where_the_package_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(op_library, "PACKAGE", tmp_path / "missing" / "scalpel_tf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = []
    monkeypatch.setattr(op_library.toolchain, "link_cxx", lambda *a: built.append(a[-1]))
    op_library.build()
    assert built == [op_library.paths()[1]]
    assert built[0].parent == tmp_path / "cache" / "scalpel_tf"


@pytest.mark.parametrize(
    "name, counts",
    [("tf_ops.cc", True), ("scalpel_kernels.h", True), ("kernels_test.cc", False)],
)
def test_changed_sources_ask_for_another_library(tmp_path, monkeypatch, name, counts):
    before = op_library.paths()
    shutil.copytree(kernels.sources(), tmp_path / "custom_ops")
    monkeypatch.setattr(kernels, "sources", lambda: tmp_path / "custom_ops")
    assert op_library.paths() == before
    with open(tmp_path / "custom_ops" / name, "a") as file:
        file.write("\n")
    assert (op_library.paths() != before) == counts


@pytest.mark.usefixtures("library")
def test_the_command_names_the_library_and_its_kernels(tmp_path, monkeypatch):
    built = next(filter(Path.exists, op_library.paths()))
    monkeypatch.setattr(op_library, "build", lambda: built)
    arguments = ["scalpel-tf", "build", "--json", str(tmp_path / "build.json")]
    assert cli._main(cli.parse(arguments)) == 0
    result = json.loads((tmp_path / "build.json").read_text())
    assert result["library"] == str(built) and "scalar" in result["isas"]


def test_the_command_fails_where_no_compiler_works(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(op_library, "PACKAGE", tmp_path)
    monkeypatch.setenv("CXX", "false")
    assert cli._main(cli.parse(["scalpel-tf", "build"])) == 1
    assert "could not build api.cc.o" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.so"))
