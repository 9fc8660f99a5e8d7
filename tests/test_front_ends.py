"""Front ends against physics and independent implementations."""

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor

from helpers import white_noise
from skastw.core.batching import pad
from skastw.features import Waveform


def batch_of(*clips):
    """Return clips as a zero-padded batch of waveforms with their lengths."""
    return pad([torch.as_tensor(np.asarray(clip, dtype=np.float32)) for clip in clips])


# ------------------------------------------------------------------ waveform


def test_a_waveform_is_its_own_frames_even_beside_sounds_beyond_its_end():
    waveform, lengths = batch_of(white_noise(900), white_noise(400, seed=1))
    frames, n_frames = Waveform().build(16000)(waveform + 0.5, lengths)
    assert n_frames.tolist() == [900, 400]
    assert torch.equal(frames[0, :, 0], waveform[0] + 0.5)
    assert torch.equal(frames[1, :400, 0], waveform[1, :400] + 0.5)
    assert not frames[1, 400:].any()


def test_the_extractor_of_wav2vec2_reads_the_settings_of_the_waveform():
    settings = Waveform().to_preprocessor(8000, 30.0)
    assert settings.pop("feature_extractor_type") == "Wav2Vec2FeatureExtractor"
    extractor = Wav2Vec2FeatureExtractor(**settings)
    clips = [white_noise(900), white_noise(400, seed=1)]
    expected = extractor(clips, sampling_rate=8000, padding=True, return_tensors="np")["input_values"]
    frames, _ = Waveform().build(8000)(*batch_of(*clips))
    np.testing.assert_array_equal(frames[:, :, 0], expected)
