"""The rules between the rooms, read from the source with `ast`."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "scalpel_tf").rglob("*.py"))

# What a room may import of the package, beside its __init__.py from the room itself.
# Rooms that are not named here may import everything.
ROOMS = {
    "core": {"core"},
    "models": set(),
    "train": {"core", "models", "train"},
    "methods": {"core", "models", "train"},
    "deploy": {"core", "models", "deploy"},
    "zoo": {"core", "zoo"},
}
CORE_MAY = {*sys.stdlib_module_names, "numpy", "scalpel_tf"}
# Optional, slow or, in tfmot's case, able to turn the process to Keras 2.
INSIDE_FUNCTIONS = {
    *("tensorflow_model_optimization", "tf_keras", "tflite_micro", "mlxtend", "matplotlib"),
    "tensorboard",
    *("unicorn", "capstone", "elftools", "ziglang"),
}


def imports(module, source, is_package=False):
    """(absolute name, runs when the module is imported) of every import in `source`."""
    package = module.split(".") if is_package else module.split(".")[:-1]

    def walk(node, at_import):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{name}.{alias.name}", at_import) for alias in node.names)
        runs_later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_import and not runs_later)

    return list(walk(ast.parse(source), True))


def violations(module, source, is_package=False):
    """One sentence for every import of `module` that DESIGN.md forbids."""
    room = module.split(".")[1] if module.count(".") else None
    found = []
    for name, at_import in imports(module, source, is_package):
        parts = name.split(".")
        if parts[0] == "scalpel_tf" and room in ROOMS:
            allowed = ROOMS[room] | ({room} if is_package else set())
            if len(parts) < 2 or parts[1] not in allowed:
                found.append(f"{module} imports {name}: {room} may not.")
        if room == "core" and parts[0] not in CORE_MAY:
            found.append(f"{module} imports {name}: core has numpy and the standard library only.")
        if at_import and parts[0] in INSIDE_FUNCTIONS:
            found.append(f"{module} imports {name} at import time.")
        if parts[:2] == ["tensorflow", "python"]:
            found.append(f"{module} imports {name}: private TensorFlow.")
    return found


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_sources_are_found():
    assert {"scalpel_tf.core.gcsr", "scalpel_tf.zoo"} <= {module_name(path) for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_rooms(path):
    is_package = path.name == "__init__.py"
    assert violations(module_name(path), path.read_text("utf-8"), is_package) == []


@pytest.mark.parametrize(
    "module, source, wrong",
    [
        ("scalpel_tf.core.cost", "import numpy, math", 0),
        ("scalpel_tf.core.cost", "from scalpel_tf.core import gcsr\nfrom .gcsr import encode", 0),
        ("scalpel_tf.core.cost", "import keras", 1),
        ("scalpel_tf.core.cost", "def f():\n    import tensorflow.python", 2),
        ("scalpel_tf.core.cost", "from ..train import wrap", 1),
        ("scalpel_tf.core.cost", "from scalpel_tf import train", 1),
        ("scalpel_tf.core.cost", "import scalpel_tf", 1),
        ("scalpel_tf.train.wrap", "import keras\nfrom scalpel_tf.core import layout", 0),
        ("scalpel_tf.train.wrap", "def f():\n    from scalpel_tf.deploy import tflite", 1),
        ("scalpel_tf.deploy.tflite", "from scalpel_tf.train.wrap import strip", 1),
        ("scalpel_tf.models", "from scalpel_tf.core import gcsr", 1),
        ("scalpel_tf.deploy.sparsify", "from scalpel_tf.models import walk", 0),
        ("scalpel_tf.methods.han", "from scalpel_tf.train import wrap", 0),
        ("scalpel_tf.methods.han", "from scalpel_tf.methods.scalpel import prune", 1),
        ("scalpel_tf.methods.han", "from . import scalpel", 1),
        ("scalpel_tf.cli", "from scalpel_tf.deploy import board\nfrom .train import wrap", 0),
        ("scalpel_tf.cli", "class A:\n    if 1:\n        import unicorn.arm_const", 1),
        ("scalpel_tf.cli", "try:\n    import tensorflow_model_optimization\nexcept E: pass", 1),
        ("scalpel_tf.cli", "def f():\n    import tensorflow_model_optimization", 0),
    ],
)
def test_violations_sees_what_is_wrong(module, source, wrong):
    assert len(violations(module, source)) == wrong


def test_relative_imports_of_a_package():
    assert imports("scalpel_tf.zoo", "from .networks import lenet_5", is_package=True) == [
        ("scalpel_tf.zoo.networks.lenet_5", True)
    ]
    assert len(violations("scalpel_tf.core", "from ..train import wrap", is_package=True)) == 1
    assert violations("scalpel_tf.methods", "from .scalpel import prune", is_package=True) == []


PROBE = """
import json, os, sys
import keras, tensorflow
before, loaded = dict(os.environ), set(sys.modules)
import scalpel_tf
after = dict(os.environ)
changed = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
print(json.dumps({"changed": changed, "modules": sorted({*sys.modules} - loaded)}))
"""


def test_importing_the_package_has_no_side_effects():
    run = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout.splitlines()[-1])
    assert seen["changed"] == []
    assert "scalpel_tf" in seen["modules"]
    assert INSIDE_FUNCTIONS.isdisjoint(name.split(".")[0] for name in seen["modules"])
