"""The TensorFlow that is installed with the Python of $PYTHON_BIN_PATH, or python3, as a library."""

# Finds the package without importing it, which would take seconds.
_FIND = """
import importlib.util
spec = importlib.util.find_spec("tensorflow")
print(spec.submodule_search_locations[0] if spec else "")
"""

_BUILD = """
load("@rules_cc//cc:defs.bzl", "cc_library")

cc_library(
    name = "c_api",
    srcs = ["{library}"],
    hdrs = glob(
        ["include/tensorflow/c/**/*.h", "include/tensorflow/core/**/*.h"] +
        ["include/xla/tsl/**/*.h", "include/tsl/**/*.h"],
        allow_empty = True,
    ),
    includes = ["include"],
    visibility = ["//visibility:public"],
)
"""

def _installed_tensorflow(repository_ctx):
    python = repository_ctx.os.environ.get("PYTHON_BIN_PATH", "python3")
    program = python if python.startswith("/") else repository_ctx.which(python)
    if not program:
        fail("There is no %s to find TensorFlow with; set PYTHON_BIN_PATH." % python)
    found = repository_ctx.execute([program, "-c", _FIND])
    folder = found.stdout.strip()
    if found.return_code or not folder:
        fail("%s has no TensorFlow; set PYTHON_BIN_PATH to one that has. %s" %
             (program, found.stderr))
    libraries = [
        path
        for path in repository_ctx.path(folder).readdir()
        if path.basename.startswith("libtensorflow_framework.")
    ]
    if not libraries:
        fail("The TensorFlow in %s has no libtensorflow_framework." % folder)
    repository_ctx.symlink(folder + "/include", "include")
    repository_ctx.symlink(libraries[0], libraries[0].basename)
    repository_ctx.file("BUILD", _BUILD.format(library = libraries[0].basename))

installed_tensorflow = repository_rule(
    implementation = _installed_tensorflow,
    environ = ["PYTHON_BIN_PATH", "PATH"],
    local = True,
)
