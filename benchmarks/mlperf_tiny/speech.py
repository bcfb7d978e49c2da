"""Makes spoken words for keyword spotting. The speech is synthesised: it is not Speech Commands.

    python benchmarks/mlperf_tiny/speech.py --out out/speech          # minutes

Needs the synthesisers of Debian's espeak-ng and flite. The clips of one second at 16 kHz are those
that Speech Commands (Warden, 2018) would have: ten keywords, other words ("unknown") and noise
alone ("silence"). A word lies anywhere in its second, as loud as it happens to be, in white, pink
or brown noise, a hum or the babble of other words; whose errors a network makes on it say nothing
about recorded speech.

A speaker is a voice of a synthesiser, at several accents, pitches and rates. Each is in one split
only, and so is what babbles; voices whose names differ by a number count as one speaker.

One .npz file, made whole or not at all and the same for the same seed and synthesisers:
"x_train" float32 (n, 49, 10)   features.py's, less their mean in training, over their deviation
"y_train" int64   (n,)          indices into LABELS; the same of "valid" and "test"
"about"                         JSON: seed, clips, speakers, versions
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import keras
import numpy as np
from features import RATE, mfcc

from scalpel_tf.zoo.datasets import Dataset

COMMAND = "python benchmarks/mlperf_tiny/speech.py"
FILE = "speech.npz"
KEYWORDS = "yes no up down left right on off stop go".split()
OTHERS = (
    "bed bird cat dog happy house marvin sheila tree wow backward forward follow learn visual "
    "zero one two three four five six seven eight nine"
).split()
LABELS = [*KEYWORDS, "silence", "unknown"]
CLIPS = {"train": 24_000, "valid": 4_800, "test": 4_800}
SHARE = {"valid": 0.2, "test": 0.2}  # of the speakers
ACCENTS = "en-gb en-us en-gb-scotland en-gb-x-gbclan en-gb-x-rp en-gb-x-gbcwmd en-029 en-us-nyc"
SAME = {"+anikarobot": "+anika", "+anxiousandy": "+andy"}
FLITE = ("kal16", "awb", "rms", "slt")
TAKES = 3  # of each word by each voice
SNR = (0.0, 25.0)  # decibels
LOUDNESS = (-20.0, 0.0)  # decibels


def check_synthesisers():
    """SystemExit with what to install."""
    for program in ("espeak-ng", "flite"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not there: install Debian's package {program}.")


def voices() -> list[str]:
    """Of espeak-ng its variants, "+name"; of flite those in FLITE."""
    lines = answer("espeak-ng", "--voices=variant").decode().splitlines()[1:]
    names = {re.search(r"!v/(.*?)(\s{2,}|\s*\(|$)", line)[1].strip() for line in lines}
    return [*sorted("+" + name for name in names), *FLITE]


def speakers_of(names: list[str], rng) -> dict[str, list[str]]:
    """The voices of each split."""
    families = sorted({family(name) for name in names})
    families = [families[index] for index in rng.permutation(len(families))]
    found, start = {}, 0
    for split, share in SHARE.items():
        end = start + round(share * len(families))
        found[split] = families[start:end]
        start = end
    found["train"] = families[start:]
    return {split: [name for name in names if family(name) in own] for split, own in found.items()}


def family(voice: str) -> str:
    """The speaker whose voice it is."""
    name = voice.rstrip("0123456789").lower()
    return SAME.get(name, name)


def speak(word: str, voice: str, rng, scratch: Path) -> np.ndarray:
    """One take of a word, float32 at 16 kHz and at most a second, its peak at 1."""
    if voice.startswith("+"):
        accent = rng.choice(ACCENTS.split())
        pitch, speed = rng.integers(25, 80), rng.integers(110, 230)
        sound = answer(
            *("espeak-ng", "--stdout", "-v", accent + voice, "-p", str(pitch), "-s", str(speed)),
            word,
        )
        sound, rate = np.frombuffer(sound[44 : len(sound) // 2 * 2], np.int16), 22_050
    else:
        file = scratch / "take.wav"
        tone, stretch = rng.uniform(80, 240), rng.uniform(0.75, 1.4)
        settings = [f"int_f0_target_mean={tone:.0f}", f"duration_stretch={stretch:.2f}"]
        flags = [part for setting in settings for part in ("--setf", setting)]
        answer("flite", "-voice", voice, *flags, "-t", word, "-o", str(file))
        with wave.open(str(file)) as recorded:
            rate = recorded.getframerate()
            sound = np.frombuffer(recorded.readframes(recorded.getnframes()), np.int16)
    sound = trim(resample(sound.astype(np.float32), rate))
    return sound / max(1.0, np.abs(sound).max())


def answer(*command: str) -> bytes:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def resample(sound: np.ndarray, rate: int) -> np.ndarray:
    """The sound at RATE, by its spectrum."""
    if rate == RATE:
        return sound
    count = round(len(sound) * RATE / rate)
    spectrum = np.fft.rfft(sound)[: count // 2 + 1]
    return np.fft.irfft(spectrum, count).astype(np.float32) * np.float32(count / len(sound))


def trim(sound: np.ndarray) -> np.ndarray:
    """Without the silence around it; at most a second."""
    loud = np.flatnonzero(np.abs(sound) > 0.02 * np.abs(sound).max(initial=0.0))
    return sound[loud[0] : loud[-1] + 1][:RATE] if len(loud) else sound[:1]


def place(sound: np.ndarray, rng) -> np.ndarray:
    """The sound somewhere in a second."""
    clip = np.zeros(RATE, np.float32)
    start = rng.integers(0, RATE - len(sound) + 1)
    clip[start : start + len(sound)] = sound
    return clip


def noise(takes: list[np.ndarray], rng) -> np.ndarray:
    """A second of one of five kinds of noise, its power 1."""
    kind = rng.integers(5)
    if kind == 4:
        chosen = rng.integers(len(takes), size=rng.integers(3, 9))
        sound = sum(rng.uniform(0.3, 1) * place(takes[index], rng) for index in chosen)
    elif kind == 3:
        tone, time = rng.uniform(40, 400), np.arange(RATE) / RATE
        waves = [np.sin(2 * np.pi * tone * n * time + rng.uniform(0, 7)) / n for n in range(1, 9)]
        sound = sum(waves) + 0.1 * rng.standard_normal(RATE)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(RATE))
        spectrum *= np.maximum(np.arange(len(spectrum)), 20.0) ** (-kind / 2)
        sound = np.fft.irfft(spectrum, RATE)
    return (sound / np.sqrt(np.mean(sound**2) + 1e-12)).astype(np.float32)


def clip(word: np.ndarray | None, takes: list[np.ndarray], rng) -> np.ndarray:
    """A second of a word in noise, or of noise alone."""
    sound = noise(takes, rng)
    if word is not None:
        power = np.mean(word**2) + 1e-12
        sound = place(word, rng) + sound * np.sqrt(power / 10 ** (rng.uniform(*SNR) / 10))
    sound = sound / (np.abs(sound).max() + 1e-12)
    return sound * np.float32(10 ** (rng.uniform(*LOUDNESS) / 20))


def make_split(takes: dict[str, list[np.ndarray]], count: int, rng):
    """(features, labels) of `count` clips, the classes in equal shares.

    takes: of each word, by the speakers of this split.
    """
    labels = np.arange(count) % len(LABELS)
    babble = [take for word in OTHERS for take in takes[word]]
    clips = []
    for label in labels:
        word = LABELS[label]
        if word == "unknown":
            word = OTHERS[rng.integers(len(OTHERS))]
        said = None if word == "silence" else takes[word][rng.integers(len(takes[word]))]
        clips.append(clip(said, babble, rng))
    features = [mfcc(np.stack(clips[at : at + 256])) for at in range(0, count, 256)]
    return np.concatenate(features), labels


def make(path: Path, seed: int = 0):
    """Writes the file, whole or not at all."""
    check_synthesisers()
    names, arrays = voices(), {}
    speakers = speakers_of(names, np.random.default_rng(seed))
    progress = keras.utils.Progbar(len(names), unit_name="voice")
    for index, (split, count) in enumerate(CLIPS.items()):
        rng = np.random.default_rng([seed, index])
        takes = {word: [] for word in (*KEYWORDS, *OTHERS)}
        with tempfile.TemporaryDirectory() as scratch:
            for voice in speakers[split]:
                for word, said in takes.items():
                    said += [speak(word, voice, rng, Path(scratch)) for _ in range(TAKES)]
                progress.add(1)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = make_split(takes, count, rng)
    mean, deviation = (f(arrays["x_train"], axis=(0, 1)) for f in (np.mean, np.std))
    for split in CLIPS:
        arrays[f"x_{split}"] = (arrays[f"x_{split}"] - mean) / deviation
    about = {"seed": seed, "speakers": speakers, "clips": CLIPS, "snr": SNR, "takes": TAKES}
    about["espeak-ng"] = answer("espeak-ng", "--version").decode().split("Data")[0].strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez(file, about=json.dumps(about), **arrays)
    os.replace(temporary, path)


def read(folder: Path) -> Dataset:
    """The clips of `folder`; SystemExit with what makes them."""
    path = folder / FILE
    if not path.is_file():
        raise SystemExit(f"{path} is missing: make it with {COMMAND} --out {folder}.")
    with np.load(path, allow_pickle=False) as file:
        arrays = [file[f"{kind}_{split}"] for split in CLIPS for kind in "xy"]
    return Dataset(
        *((array[..., None] if array.ndim > 1 else array) for array in arrays), str(path)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/speech"), help="the folder")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    make(flags.out / FILE, flags.seed)


if __name__ == "__main__":
    main()
