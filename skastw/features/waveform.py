"""The samples of a waveform as frames."""

from typing import Any

from torch import Tensor

from skastw.core.batching import trim
from skastw.core.parameters import parameters
from skastw.features._base import Features, FeaturesModule


@parameters
class Waveform(Features):
    """No front end: a frame is one sample, and the frame rate is the sample rate.

    Use it with an encoder that starts with convolutions over samples, or that computes its own spectrogram.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import Waveform
    >>> module = Waveform().build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 16000, 1), [16000, 8000])
    """

    name = "waveform"

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _WaveformModule()

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz), which is the sample rate."""
        return float(sample_rate)

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the settings by the names of ``Wav2Vec2FeatureExtractor`` in ``transformers``."""
        return {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": sample_rate,
            "chunk_length": chunk_length,
            "padding_side": "right",
            "padding_value": 0.0,
            "do_normalize": False,
            "return_attention_mask": True,
        }


class _WaveformModule(FeaturesModule):
    n_features = 1

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return trim(waveform[:, :, None], lengths), lengths
