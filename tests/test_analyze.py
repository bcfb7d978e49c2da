"""analyze: its figures are those of the cost model, and it says what it does not know."""

import json

import keras
import numpy as np
import pytest
from models import conv_model, dense_model, int8

from scalpel_tf import cli
from scalpel_tf.core import cost
from scalpel_tf.core.targets import TARGETS, find_target
from scalpel_tf.deploy import lower, tflite
from scalpel_tf.deploy.analyze import RATIOS, analyze

M4 = find_target("cortex-m4")


def test_a_sparse_layer_is_as_dense_as_it_was_made_and_costs_what_export_says():
    data = int8(dense_model, (64, 10), 128, 0.25)
    first, last = analyze(data).operators
    layers = lower.lower(tflite.read(data), M4)
    network = tflite.read(data)
    weights = network.tensors[network.operators[0].inputs[1]].data
    groups = (weights.reshape(64, 32, 4) != 0).any(2)
    assert first.density["element"] == np.mean(weights != 0)
    assert first.density["group 4"] == np.mean(groups)
    assert first.density["group 8"] == np.mean(groups.reshape(64, 16, 2).any(2))
    assert first.density["filter"] == 1.0
    assert (first.name, first.macs, first.bytes) == ("fc1", 64 * 128, layers[0].bytes)
    kept = int(groups.sum())
    assert first.cycles == cost.fully_connected("gcsr_fc4", 64, 128, kept, M4).cycles
    assert first.cycles_dense == cost.fully_connected("fc", 64, 128, 0, M4).cycles
    assert first.roofline == 64 * 128 / 2
    assert last.ram < first.ram


@pytest.mark.parametrize("ratio", RATIOS)
def test_pruning_is_foretold_as_it_then_comes(ratio):
    before = analyze(int8(dense_model, (64, 10), 128, 1.0)).operators[0]
    kept = 64 * 32 - int(ratio * 64 * 32)
    assert before.pruned[ratio] == cost.fully_connected("gcsr_fc4", 64, 128, kept, M4).cycles
    assert before.cycles == before.cycles_dense


def test_a_convolution_gains_and_the_rest_is_said_to_be_unknown():
    analysis = analyze(int8(conv_model))
    operators = {o.name: o for o in analysis.operators}
    conv = operators["conv"]
    assert conv.macs == 5 * 4 * 6 * 27
    assert (
        conv.pruned[0.95] < conv.pruned[0.8] < conv.pruned[0.5] < conv.cycles == conv.cycles_dense
    )
    assert operators["depthwise"].cycles is None and operators["depthwise"].macs == 5 * 4 * 12 * 9
    assert all(o.ram > 0 for o in analysis.operators) and analysis.arena >= conv.ram
    assert "DEPTHWISE_CONV_2D" in analysis.notes[0]
    assert "conv" in str(analysis) and "modelled" in str(analysis)


@pytest.mark.parametrize("target", [t.name for t in TARGETS.values() if t.is_microcontroller])
def test_every_microcontroller_has_a_roofline_below_its_kernels(target):
    for operator in analyze(int8(dense_model, (64, 10), 128, 1.0), target=target).operators:
        assert 0 < operator.roofline < operator.cycles


def test_a_board_that_is_too_small_names_the_operator(tmp_path):
    boards = analyze(int8(dense_model, (600, 600), 600, 1.0)).boards
    assert boards["nRF52840"] is None
    assert "fc" in boards["STM32F401CC"] and "flash" in boards["STM32F401CC"]
    image = keras.Input((120, 120, 1))
    model = keras.Model(image, keras.layers.Conv2D(8, 3, name="wide")(image))
    analysis = analyze(model)
    assert "RAM: wide (CONV_2D) needs" in analysis.boards["STM32F401CC"]
    assert "random inputs" in analysis.notes[0]


def test_what_cannot_be_analysed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`analyze` models a microcontroller .*got 'gpu'"):
        analyze(int8(dense_model), target="gpu")
    with pytest.raises(ValueError, match="nothing.tflite is not a file"):
        analyze(tmp_path / "nothing.tflite")
    with pytest.raises(ValueError, match="not a .tflite file"):
        analyze(b"garbage" * 10)


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    (tmp_path / "model.tflite").write_bytes(int8(dense_model))
    arguments = ["analyze", tmp_path / "model.tflite", "--json", tmp_path / "a.json"]
    assert cli._main(cli.parse(["scalpel-tf", *map(str, arguments)])) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "a.json").read_text())
    assert result["source"] == "modelled" and result["target"] == "cortex-m4"
    assert [o["name"] for o in result["operators"]] == ["fc1", "fc2"]
    assert f"{result['operators'][0]['cycles']:,}" in printed and "fits: STM32F401CC" in printed


def test_an_untrained_network_of_many_layers_keeps_its_signal():
    x = image = keras.Input((8, 8, 4))
    for _ in range(30):
        x = keras.layers.Conv2D(4, 1, kernel_initializer=keras.initializers.RandomNormal(0, 0.05))(
            x
        )
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(image, x)
    before = [array.copy() for array in model.get_weights()]
    analysis = analyze(model)
    assert analysis.arena is not None and "random inputs" in analysis.notes[0]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
