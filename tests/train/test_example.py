"""examples/resnet_cifar10.py from end to end, on a tiny network and made-up images."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import resnet_cifar10  # noqa: E402


@pytest.mark.slow
def test_the_example_runs_and_is_resumed(tmp_path):
    rows = resnet_cifar10.main(["--smoke", "--out", str(tmp_path)])
    names, parameters, macs, accuracies = zip(*rows, strict=True)
    assert names == ("dense", "masked", "shrunk", "recalibrated", "fine-tuned", "int8")
    small = keras.models.load_model(tmp_path / "small.keras")
    assert small.count_params() == parameters[-1] < parameters[0]
    assert macs[-1] < macs[0]
    assert accuracies[1] == accuracies[2]  # surgery changes no prediction
    assert (tmp_path / "small.tflite").stat().st_size < (tmp_path / "small.keras").stat().st_size

    (tmp_path / "small.keras").unlink()
    earlier = {
        name: (tmp_path / name).stat().st_mtime_ns for name in ("dense.keras", "masked.keras")
    }
    again = resnet_cifar10.main(["--smoke", "--out", str(tmp_path)])
    assert (tmp_path / "small.keras").exists()
    assert earlier == {name: (tmp_path / name).stat().st_mtime_ns for name in earlier}
    np.testing.assert_array_equal([row[1:3] for row in again], [row[1:3] for row in rows])
