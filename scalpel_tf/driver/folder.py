"""The folder of a run: its state and its models, each written whole, the state last.

state.json names the model file that belongs to it. A step therefore is in the folder with its
model or not at all, whenever the run is killed.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np

from scalpel_tf.report import save_json

STATE, DENSE, BEST = "state.json", "dense.keras", "best.keras"


class Folder:
    """state: the dict of state.json; None where there is no run yet."""

    def __init__(self, path):
        self.path = Path(path)
        self.state = None
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`out` is the folder of the run; {self.path} is a file.")
        state = self.path / STATE
        if state.is_file():
            self.state = _read(state)
        elif self.path.is_dir() and any(self.path.iterdir()) and not self._begun():
            raise ValueError(
                f"{self.path} holds other files than a run; choose a new folder for `out`."
            )

    def _begun(self):
        """Whether a run was killed here before its first state was written."""
        return {p.name for p in self.path.iterdir()} <= {DENSE, BEST, ".tmp.keras", ".lock"}

    def lock(self):
        """Holds the folder until the process ends; ValueError where another run holds it."""
        import fcntl

        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"Another run is at work in {self.path}; wait for it or choose another folder."
            ) from None

    def release(self):
        self._lock.close()

    def save(self):
        """Writes the state."""
        save_json(self.path / STATE, self.state)

    def save_model(self, model, name):
        """Writes a model, not compiled, to the file `name`."""
        temporary = self.path / ".tmp.keras"
        model.save(temporary)
        temporary.replace(self.path / name)

    def load_model(self, name):
        return keras.models.load_model(self.path / name, compile=False)

    def set_best(self, name):
        """best.keras becomes what `name` is."""
        temporary = self.path / ".tmp.keras"
        shutil.copyfile(self.path / name, temporary)
        os.replace(temporary, self.path / BEST)

    def forget(self, *but):
        """Deletes the models of earlier steps."""
        for old in self.path.glob("step_*.keras"):
            if old.name not in but:
                old.unlink()


def _read(path):
    try:
        state = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a run's state ({error}): give a new folder.") from None
    if not isinstance(state, dict) or state.get("version") != 1:
        raise ValueError(f"{path} is not a run's state of this version: give a new folder.")
    return state


def digest(model) -> str:
    """The SHA-256 of the weights of a model, in their order, with their shapes."""
    found = hashlib.sha256()
    for weight in model.get_weights():
        found.update(str(weight.shape).encode())
        found.update(np.ascontiguousarray(weight).tobytes())
    return found.hexdigest()


def digest_data(samples) -> str:
    """The SHA-256 of some inputs, which tells one data set from another."""
    found = hashlib.sha256()
    for array in samples:
        found.update(f"{array.shape}{array.dtype}".encode())
        found.update(np.ascontiguousarray(array[:32]).tobytes())
    return found.hexdigest()
