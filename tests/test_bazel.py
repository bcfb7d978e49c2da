"""BUILD names the files that the other build takes; `make bazel` runs Bazel itself."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_build_names_every_file_of_custom_ops():
    build = (ROOT / "BUILD").read_text()
    named = re.findall(r'"(custom_ops/[^"%]+)"', build)
    named += [f"custom_ops/{name}.cc" for name in re.findall(r'^ +"(\w+_test)",$', build, re.M)]
    files = [file for file in (ROOT / "custom_ops").rglob("*.[ch]*") if file.is_file()]
    assert sorted(set(named)) == sorted(str(file.relative_to(ROOT)) for file in files)
