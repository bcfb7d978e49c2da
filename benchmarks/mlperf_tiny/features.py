"""The ten coefficients that MLPerf Tiny's keyword spotting hears, 50 times a second.

Windows of 40 ms every 20 ms, a power of 2 for the transform, 40 mel bands from 20 to 4,000 Hz
(Banbury et al., 2021, and the benchmark's reference implementation).
"""

import numpy as np
import tensorflow as tf

RATE = 16_000  # samples a second
WINDOW, STEP = 640, 320  # samples
BANDS, LOWEST, HIGHEST = 40, 20.0, 4_000.0  # Hz
COEFFICIENTS = 10


def mfcc(clips: np.ndarray) -> np.ndarray:
    """float32 (n, frames, 10) of clips (n, samples); a second has 49 frames."""
    spectrum = tf.abs(tf.signal.stft(clips, WINDOW, STEP))
    mel = tf.signal.linear_to_mel_weight_matrix(BANDS, spectrum.shape[-1], RATE, LOWEST, HIGHEST)
    loudness = tf.math.log(tf.matmul(spectrum, mel) + 1e-6)
    return tf.signal.mfccs_from_log_mel_spectrograms(loudness)[..., :COEFFICIENTS].numpy()
