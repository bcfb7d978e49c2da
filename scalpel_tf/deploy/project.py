"""The C project that `export` writes: what its model.json says, its sources, the arrays it takes.

Every binary built from a project carries its description as JSON in the symbol
`model_information`, so that a binary alone is enough to run it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

KEYS = ("arena_bytes", "inputs", "outputs", "layers")
SYMBOL = "model_information"


def read(project: Path | str) -> dict[str, Any]:
    """The contents of the project's model.json; ValueError where it is missing or incomplete."""
    path = Path(project) / "model.json"
    if not path.is_file():
        raise ValueError(f"{project} holds no model.json; give a folder written by `export`.")
    try:
        information = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from None
    missing = [key for key in KEYS if key not in information]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(map(repr, missing))}; export the model again.")
    return information


def source_folder(project: Path | str) -> Path:
    """The folder of model.c, which in an Arduino library is src; ValueError where it is missing."""
    for folder in (Path(project), Path(project) / "src"):
        if (folder / "model.c").is_file():
            return folder
    raise ValueError(f"{project} holds no model.c; give a folder written by `export`.")


def sources(project: Path | str) -> list[Path]:
    """The files to compile for any target: model.c and the runtime; ValueError without model.c."""
    folder = source_folder(project)
    runtime = folder / "runtime"
    return [folder / "model.c", *sorted(runtime.glob("*.c")), *sorted(runtime.glob("*.S"))]


def information_source(information: dict[str, Any]) -> str:
    """C source of the symbol `model_information`: the description as zero-terminated JSON."""
    text = json.dumps(information).encode("ascii") + b"\0"
    return f"const unsigned char {SYMBOL}[] = {{{', '.join(map(str, text))}}};\n"


def check_inputs(information: dict[str, Any], inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The inputs as contiguous arrays, one per model input, first axis samples.

    ValueError for a wrong number of arrays, a wrong dtype or shape, no samples, or input arrays
    that differ in their number of samples.
    """
    expected = information["inputs"]
    if isinstance(inputs, np.ndarray) or len(inputs) != len(expected):
        got = "one bare array" if isinstance(inputs, np.ndarray) else f"{len(inputs)} arrays"
        raise ValueError(f"`inputs` is a list of {len(expected)} arrays, one each; got {got}.")
    arrays = [np.ascontiguousarray(array) for array in inputs]
    for array, entry in zip(arrays, expected, strict=True):
        shape = tuple(entry["shape"][1:])
        if array.dtype != entry["dtype"] or array.shape[1:] != shape:
            wanted = ", ".join(map(str, ("samples", *shape)))
            raise ValueError(
                f"Input {entry['name']!r} is {entry['dtype']} of shape ({wanted}); "
                f"got {array.dtype} of shape {array.shape}."
            )
    samples = {len(array) for array in arrays}
    if len(samples) != 1 or samples == {0}:
        raise ValueError(f"Inputs need one number of samples, at least 1; got {sorted(samples)}.")
    return arrays


def empty_outputs(information: dict[str, Any], samples: int) -> list[np.ndarray]:
    """Uninitialised arrays for that many samples of every model output."""
    return [
        np.empty((samples, *entry["shape"][1:]), entry["dtype"]) for entry in information["outputs"]
    ]
