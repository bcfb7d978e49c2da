"""benchmarks/mlperf_tiny: the clips, what is stored, and the arithmetic of its tables."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS / part) for part in ("mlperf_tiny", "paper", "")]

import cmsis_nn  # noqa: E402
import cortex_m  # noqa: E402
import features  # noqa: E402
import report  # noqa: E402
import runs  # noqa: E402
import speech  # noqa: E402

from scalpel_tf.core.targets import find_target  # noqa: E402
from scalpel_tf.deploy import convert, tflite  # noqa: E402
from scalpel_tf.deploy.lower import lower  # noqa: E402

VOICES = ["+Andy", "+AnxiousAndy", "+Lee", "+anika", "+steph", "+steph2", "+steph3", "kal16", "slt"]


def tones(seed=0):
    """Takes of every word: notes of a tenth to half of a second."""
    rng, takes = np.random.default_rng(seed), {}
    for pitch, word in enumerate((*speech.KEYWORDS, *speech.OTHERS), 10):
        time = np.arange(rng.integers(1_600, 8_000)) / features.RATE
        takes[word] = [np.sin(2 * np.pi * 20 * pitch * time).astype(np.float32)]
    return takes


@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_is_in_two_splits(seed):
    found = speech.speakers_of(VOICES, np.random.default_rng(seed))
    assert sorted(name for split in found.values() for name in split) == sorted(VOICES)
    assert all(found[split] for split in speech.CLIPS)
    for together in (("+Andy", "+AnxiousAndy"), ("+steph", "+steph2", "+steph3")):
        assert len({split for split in found for name in together if name in found[split]}) == 1


def test_clips_are_the_same_for_the_same_seed_and_classes_have_equal_shares():
    first, again, other = (
        speech.make_split(tones(), 24, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first[0].shape == (24, 49, 10) and np.isfinite(first[0]).all()
    np.testing.assert_array_equal(np.bincount(first[1]), [2] * 12)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.allclose(first[0], other[0])


@pytest.mark.parametrize("seed", range(8))
def test_a_clip_is_a_word_in_noise_and_silence_is_noise(seed):
    word = tones()["yes"][0]
    babble = tones(1)["cat"]
    spectra = []
    for said in (word, None):
        sound = speech.clip(said, babble, np.random.default_rng(seed))
        assert sound.shape == (features.RATE,) and 0.09 < np.abs(sound).max() <= 1
        spectrum = np.abs(np.fft.rfft(sound))
        spectra.append(spectrum[195:206].max() / np.sqrt(np.sum(spectrum**2)))
    assert spectra[0] > 0.05 and spectra[0] > 2 * spectra[1], f"seed {seed}: {spectra}"


def test_a_louder_clip_moves_the_first_coefficient_only():
    clips = np.random.default_rng(0).normal(0, 0.1, (1, features.RATE)).astype(np.float32)
    difference = features.mfcc(2 * clips) - features.mfcc(clips)
    expected = np.zeros((1, 49, 10))
    expected[..., 0] = np.sqrt(2 * features.BANDS) * np.log(2)
    np.testing.assert_allclose(difference, expected, atol=1e-3)  # 1e-6 beside the loudness


def test_another_rate_is_the_same_tone():
    time = np.arange(22_050) / 22_050
    sound = speech.resample(np.sin(2 * np.pi * 100 * time).astype(np.float32), 22_050)
    expected = np.sin(2 * np.pi * 100 * np.arange(features.RATE) / features.RATE)
    np.testing.assert_allclose(sound, expected, atol=1e-4)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="Debian's espeak-ng is not there")
def test_a_word_is_said(tmp_path):
    takes = [
        speech.speak("yes", voice, np.random.default_rng(0), tmp_path)
        for voice in ("+f2", "+f2", "+m3")
    ]
    np.testing.assert_array_equal(takes[0], takes[1])
    assert 0.1 * features.RATE < len(takes[0]) <= features.RATE
    assert np.abs(takes[0]).max() == 1 and len(takes[2]) != len(takes[0])


def test_what_is_missing_says_what_makes_it(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"speech.npz is missing: make it with python .*speech.py"):
        speech.read(tmp_path)
    with pytest.raises(SystemExit, match=r"ds_cnn_w4_s0.npz is missing in .*runs.py"):
        runs.load(runs.stored(tmp_path, "ds_cnn", "w4", 0), "ds_cnn")
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(SystemExit, match="install Debian's package espeak-ng"):
        speech.make(tmp_path / "speech.npz")
    assert not list(tmp_path.iterdir())


def test_the_estimate_of_cmsis_nn_leaves_out_fused_poolings():
    rates = cmsis_nn.per_product()
    assert 2.0 < rates["CONV_2D"] < 2.2 and 2.3 < rates["FULLY_CONNECTED"] < 2.5
    layers = [("CONV_2D + AVERAGE_POOL_2D", 1_000, 9_999), ("DEPTHWISE_CONV_2D", 10, 54)]
    assert cmsis_nn.estimate(layers) == 1_000 * rates["CONV_2D"] + 54


def test_every_pruned_layer_of_the_stored_network_runs_in_groups():
    model, about = runs.load(runs.stored(runs.FOLDER, "ds_cnn", "w4", 0), "ds_cnn")
    x = np.random.default_rng(0).normal(0, 1, (20, *model.input_shape[1:])).astype(np.float32)
    network = tflite.read(convert.convert(model, x))
    target = find_target(cortex_m.TARGET)
    sparse, dense = (
        lower(network, target, formats=formats, conv_formats=conv_formats)
        for formats, conv_formats in (report.FORMATS["w4"], report.FORMATS["dense"])
    )
    kept = {layer.name: layer.density for layer in sparse if layer.kernel.startswith("gcsr_conv")}
    assert kept.keys() == about["recipe"]["density"].keys()
    for name, density in about["recipe"]["density"].items():
        assert kept[name] <= density + 0.01
    assert sum(layer.bytes for layer in sparse) < 0.8 * sum(layer.bytes for layer in dense)
