"""Pretrained networks of Hugging Face's transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from sklearn.base import clone
from torch import Tensor

from skastw.core.parameters import integers, param, parameters
from skastw.core.shapes import ShapesOnly
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._families import FAMILIES, Family, read_config, read_inputs
from skastw.encoders._library import LibraryEncoder
from skastw.encoders._waveform_networks import NETWORKS, WaveformNetwork, build_waveform_network
from skastw.errors import ComponentError


@parameters
class TransformersEncoder(LibraryEncoder):
    """A network of Hugging Face's transformers on waveforms, usually with the weights of a checkpoint.

    It needs ``features="waveform"``, and computes the input of the network itself, with the settings of the checkpoint.
    Each clip has the outputs that the network gives for it alone: padding does not change them.

    ===================================  ==============================  ==============================================
    ``model_type`` of a checkpoint       networks                        output frames
    ===================================  ==============================  ==============================================
    ``wav2vec2``, ``hubert``,            wav2vec 2.0, HuBERT, WavLM,     50 each second
    ``wavlm``, ``unispeech-sat``,        UniSpeech-SAT, data2vec-audio
    ``data2vec-audio``
    ``wav2vec2-bert``                    w2v-BERT 2.0                    50 each second
    ``whisper``                          the encoder of Whisper          50 each second; takes clips of up to 30 s
    ``audio-spectrogram-transformer``    AST                             10 each second: the mean of the patches, and
                                                                         that of the class tokens; takes clips of up to
                                                                         10.24 s
    ``clap``, ``clap_audio_model``       the audio network of CLAP       3.2 each second; takes clips of up to 10 s at
                                                                         48 kHz
    ===================================  ==============================  ==============================================

    Only safetensors and JSON are read. Code and pickles in a repository are never used. ``fit`` adds ``config``,
    ``preprocessor`` and ``source`` to the encoder of the fitted model. A saved folder contains the weights, so it loads
    without the checkpoint.

    With ``layer="weighted"``, the weights of the sum are trained, so the outputs are not cached, even if
    ``train="none"``. The other weights then stay as they are. Heads, decoders, and layers above ``layer`` are not read.
    Layers of which no weight is trained have no dropout, and batch norms always use their stored statistics.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", 2020.
    Gong et al., "AST: Audio Spectrogram Transformer", 2021.
    Wu et al., "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
    Augmentation", 2023.

    Examples
    --------
    A network of the kind of wav2vec 2.0 with random weights:

    >>> import torch
    >>> from skastw.encoders import TransformersEncoder
    >>> small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    >>> encoder = TransformersEncoder(config={"model_type": "wav2vec2", **small})
    >>> module = encoder.build(n_features=1, max_frames=16000)
    >>> frames, lengths = module(torch.randn(2, 16000, 1), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 49, 32), [49, 24])
    """

    name = "transformers"

    layer: int | str = param(
        default="last",
        valid=[integers(0, 1000), StrOptions({"last", "weighted"})],
        doc='Output: ``"last"`` is the output of the network. A number is that of a hidden state: 0 for the input of '
        "the first layer, n for the output of the n-th layer, before the norm that some networks have behind all "
        'layers. ``"weighted"`` is the sum of all hidden states, with weights that are learned.',
    )
    preprocessor: dict[str, Any] | None = param(
        default=None,
        valid=[dict, None],
        doc="Settings of the front end, with the names of ``preprocessor_config.json``; by default those of the "
        "checkpoint, or without a checkpoint those with which transformers trains such networks.",
    )

    @property
    def frozen(self) -> bool:
        """Whether the outputs never change; see :class:`~skastw.encoders.Encoder`."""
        return super().frozen and self.layer != "weighted"

    @property
    def stride(self) -> float:
        """Number of samples for each output frame."""
        return self._sizes()[0]

    def resolved(self, sample_rate: int, chunk_length: float) -> Self:
        """Return the encoder with the settings of the checkpoint; see :class:`~skastw.core.component.Component`.

        Raises
        ------
        WeightsError
            If the checkpoint cannot be read, its network is unknown, or weights are missing, left over or of another
            shape.
        ComponentError
            If the network takes another sample rate, or shorter clips.
        """
        encoder = super().resolved(sample_rate, chunk_length)
        family, config, inputs = encoder._settings()
        encoder = clone(encoder).set_params(config=config, preprocessor=inputs)

        if sample_rate != inputs["sampling_rate"]:
            raise ComponentError(
                f"Got sample_rate={sample_rate}, but {self._what(family)} takes waveforms at "
                f"{inputs['sampling_rate']} Hz: set sample_rate={inputs['sampling_rate']}."
            )
        encoder._check_length(round(chunk_length * sample_rate))
        return encoder

    def with_settings(self) -> tuple[Self, int, float]:
        """Return the encoder with the settings of its checkpoint, and what waveforms its network takes.

        Returns
        -------
        encoder : TransformersEncoder
        sample_rate : int
            Sampling rate (Hz).
        longest : float
            Longest clip (s); infinite without a limit.

        Raises
        ------
        WeightsError, ComponentError
            See :meth:`resolved`.
        """
        encoder = super().resolved(0, 0.0)  # without the checks of these numbers
        _, _, inputs = encoder._settings()
        return encoder, inputs["sampling_rate"], encoder._longest(inputs["sampling_rate"])

    def build(self, n_features: int, max_frames: int) -> WaveformNetwork:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        if n_features != 1:
            raise ComponentError(
                f"Got frames of {n_features} values, but encoder='transformers' takes samples: set features='waveform'."
            )
        _, config, inputs = self._settings()
        self._check_length(max_frames)
        return build_waveform_network(config, inputs, self.layer)

    def converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint by the names that they have in the module; half precision is converted."""
        module, converted = self._shapes(), super().converted(tensors)
        if module.layer_weights is not None:
            converted["layer_weights"] = torch.zeros(module.layer_weights.shape)
        return converted

    def check_params(self) -> None:
        """Raise ComponentError if a parameter is not valid; see :class:`~skastw.core.component.Component`."""
        super().check_params()
        known = [*FAMILIES, "clap"]
        if self.config is not None and self.config.get("model_type") not in known:
            raise ComponentError(f"Got config={self.config!r:.200}, expected 'model_type' in it, one of {known}.")

    def _settings(self) -> tuple[Family, dict[str, Any], dict[str, Any]]:
        """Return the kind of the network, its settings, and those of its front end."""
        if self.config is None:
            raise ComponentError(
                "Got TransformersEncoder(config=None), expected weights=, whose settings fit reads, or config= with "
                "the content of a config.json."
            )
        config = read_config(self.config)
        family = FAMILIES[config["model_type"]]
        return family, config, read_inputs(family, self.preprocessor or {})

    def _shapes(self, most: int = 100_000) -> WaveformNetwork:
        """Return the module without memory for its weights, of which there may be ``most``."""
        _, config, inputs = self._settings()
        with ShapesOnly(most):
            return build_waveform_network(config, inputs, self.layer)

    def _sizes(self) -> tuple[float, int | None]:
        """Return the samples for each output frame, and the longest clip (samples)."""
        family, config, inputs = self._settings()
        return NETWORKS[family.front_end].sizes(config, inputs)

    def _check_length(self, n_samples: int) -> None:
        family, _, inputs = self._settings()
        _, max_samples = self._sizes()
        if max_samples is not None and n_samples > max_samples:
            rate = inputs["sampling_rate"]
            longest = self._longest(rate)
            raise ComponentError(
                f"Got chunks of {n_samples / rate:g} s, but {self._what(family)} takes at most {longest:g} s: set "
                f"chunk_length={longest:g}."
            )

    def _longest(self, sample_rate: int) -> float:
        """Return the length of the longest clip that the network takes (s), in hundredths of a second."""
        _, max_samples = self._sizes()
        return math.inf if max_samples is None else int(100 * max_samples / sample_rate) / 100
