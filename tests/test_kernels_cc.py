"""The C++ test programs of custom_ops under the sanitizers and on an emulated ARM processor, and a
program that holds the kernels.
"""

import os
import platform
import re
import shutil
import subprocess

import numpy as np
import pytest

from scalpel_tf.core.gcsr import encode
from scalpel_tf.deploy import host, kernels, toolchain

TIMEOUT = 280
SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
}
# AVX-512 takes long to build, and shares its threads with the others.
ISAS = {
    "address": ("scalar", "avx2", "avx512", "neon"),
    "thread": ("scalar", "avx2", "neon"),
}
ENVIRONMENT = {
    **os.environ,
    "ASAN_OPTIONS": "detect_leaks=0",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}

PROGRAM = r"""
#include <stdio.h>
#include "scalpel_kernels.h"

int inputs(void);

int main(void) {
  /* 1 2 0 0 0      the last group of a row of 5 starts at column 3
     0 0 0 0 5 */
  const float values[] = {1, 2, 0, 5};
  const uint16_t columns[] = {0, 3};
  const uint32_t offsets[] = {0, 1, 2};
  const float x[] = {1, 10, 100, 1000, 10000}, bias[] = {0.5f, -60000};
  const scalpel_gcsr w = {values, columns, offsets, NULL, 2, inputs(), SCALPEL_FLOAT32, 2, 2};
  char message[256] = "";
  float y[2];
  if (scalpel_gcsr_check(&w, 2, 3, message, sizeof message) != SCALPEL_OK ||
      scalpel_gcsr_matmul(&w, 1, x, bias, SCALPEL_RELU, y) != SCALPEL_OK) {
    fputs(message, stderr);
    return 1;
  }
  printf("%g %g\n", y[0], y[1]);
  return 0;
}
"""


def files(*isas):
    """The sources of the kernels for these instruction sets."""
    chosen = {f"gcsr_{isa}.cc" for isa in isas}
    return [
        file for file in kernels.files() if file.name in chosen or not file.name.startswith("gcsr_")
    ]


def run(*command):
    result = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr[:4000]
    return result.stdout


@pytest.fixture(scope="module", params=SANITIZERS)
def sanitized(request, tmp_path_factory):
    """(name of a sanitizer, a function that builds a test program with the kernels under it)."""
    folder = tmp_path_factory.mktemp(request.param)
    compiler, flags = toolchain.host_cxx(), ["-O1", "-g1", "-pthread", *SANITIZERS[request.param]]
    library = folder / "libkernels.so"
    include = f"-I{kernels.sources()}"
    toolchain.link_cxx(
        compiler, [*flags, include, "-fPIC"], files(*ISAS[request.param]), ["-shared"], library
    )

    def build(name):
        source = kernels.sources() / f"{name}.cc"
        return toolchain.compile_cxx(
            compiler, [*flags, include, source, library, f"-Wl,-rpath,{folder}"], folder / name
        )

    return request.param, build


def test_every_kernel_is_right_and_stays_within_its_arrays(sanitized):
    sanitizer, build = sanitized
    out = run(build("kernels_test"), 1, 300 if sanitizer == "address" else 60)
    assert re.fullmatch(r"\d+ seeds, each with( \w+)* scalar\n", out)


def test_what_the_checks_let_pass_is_valid_and_what_they_refuse_is_not(sanitized):
    sanitizer, build = sanitized
    out = run(build("check_test"), 1, 20000 if sanitizer == "address" else 2000)
    counts = [int(count) for count in re.findall(r"\d+", out)]
    assert counts[0] == sum(counts[1:])
    assert min(counts[1:]) > counts[0] / 40  # each outcome is well represented


def test_neon_kernels_are_right_on_an_emulated_processor(tmp_path):
    if platform.machine() == "aarch64":
        pytest.skip("This is an ARM machine: the tests above run the NEON kernels.")
    compiler, emulator = "aarch64-linux-gnu-g++", "qemu-aarch64"
    for program in (compiler, emulator):
        if not shutil.which(program) and not shutil.which(f"{program}-static"):
            pytest.skip(f"There is no {program} on this machine.")
    arm = toolchain.Compiler((compiler,), compiler)
    source = kernels.sources() / "kernels_test.cc"
    program = toolchain.link_cxx(
        arm,
        ["-O2", "-pthread", f"-I{kernels.sources()}"],
        [source, *kernels.files()],
        ["-static"],
        tmp_path / "kernels_test",
    )
    found = shutil.which(emulator) or shutil.which(f"{emulator}-static")
    assert run(found, program, 1, 100) == "100 seeds, each with neon scalar\n"


@pytest.fixture
def only_scalar(monkeypatch):
    scalar = files("scalar")
    monkeypatch.setattr(kernels, "files", lambda: scalar)


@pytest.mark.usefixtures("only_scalar")
def test_programs_of_this_machine_hold_the_kernels(tmp_path):
    """A C99 main and a function in C++, as `host` builds them."""
    main, source = tmp_path / "main.c", tmp_path / "inputs.cc"
    main.write_text('#pragma GCC diagnostic error "-Wpedantic"\n' + PROGRAM)
    source.write_text('extern "C" int inputs() { return 5; }\n')
    program = host.build_program([main, source], tmp_path / "built" / "program")
    assert run(program) == "21.5 0\n"
    assert list(program.parent.iterdir()) == [program]
    source.write_text("int inputs(void) { return five; }\n")
    with pytest.raises(RuntimeError, match="five"):
        host.build_program([main, source], tmp_path / "program")


@pytest.mark.usefixtures("only_scalar")
def test_a_library_of_the_kernels_alone(tmp_path):
    built = kernels.load(kernels.build(tmp_path))
    assert built.isas() == ["scalar"]
    sparse = encode(np.array([[1, 2, 0, 0], [0, 0, 3, 4]], np.float32), 2)
    y = built.matmul(sparse, np.array([[1, 10, 100, 1000]], np.float32))
    np.testing.assert_array_equal(y, [[21, 4300]])
