"""Shows that one library of the C++ ops serves several TensorFlows; `make tf_versions`.

usage: tf_versions.py --venvs FOLDER PYTHON=VERSION [PYTHON=VERSION ...]

Each TensorFlow gets a virtual environment of its own. The first builds the library; under each, the
same file passes the tests of the ops. Exit code 0 only if all of them do.
"""

import argparse
import hashlib
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/test_ops.py", "tests/test_tf_kernels.py")
FIND = """
import platform, keras, numpy, tensorflow
from scalpel_tf.deploy import op_library, ops
print(next(path for path in op_library.paths() if path.exists()))
print(f"TensorFlow {tensorflow.__version__}, Keras {keras.__version__}, numpy {numpy.__version__}, "
      f"Python {platform.python_version()}: {ops.why_not() or 'loaded'}")
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venvs", type=Path, required=True, help="where the environments are made")
    parser.add_argument("versions", nargs="+", metavar="PYTHON=VERSION")
    options = parser.parse_args()
    environments = []
    for version in options.versions:
        python, _, tensorflow = version.partition("=")
        environments.append(environment(options.venvs.absolute() / tensorflow, python, tensorflow))

    run(environments[0], "-m", "scalpel_tf.cli", "build")
    libraries = set()
    for python in environments:
        library, description = run(python, "-c", FIND)[-2:]
        tests = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)[-1]
        libraries.add(hashlib.sha256(Path(library).read_bytes()).hexdigest())
        print(f"{description}; {tests}", flush=True)
    if len(libraries) != 1:
        raise SystemExit("The library was built again on the way.")
    print(f"{Path(library).name}, sha256 {libraries.pop()}")


def environment(folder, python, tensorflow):
    """The Python of a virtual environment with this package, its tests and one TensorFlow."""
    executable = folder / "bin" / "python"
    if not executable.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
        packages = ["--editable", ROOT, f"tensorflow=={tensorflow}", "pytest", "pytest-timeout"]
        subprocess.run([executable, "-m", "pip", "install", "--quiet", *packages], check=True)
    return executable


def run(*command):
    """The printed lines of a command; stops here where it fails."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **quiet, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{result.stdout}\n{result.stderr}\n{command[0]} failed.")
    return result.stdout.splitlines()


if __name__ == "__main__":
    main()
