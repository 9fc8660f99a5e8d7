"""Pretrained networks of Hugging Face's transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from sklearn.base import clone
from torch import Tensor

from skastw.core.parameters import integers, param, parameters
from skastw.core.shapes import ShapesOnly
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._families import FAMILIES, Family, names_of_network, read_config, read_inputs
from skastw.encoders._pretrained import PretrainedEncoder
from skastw.encoders._waveform_networks import WaveformNetwork, build_waveform_network
from skastw.errors import ArtifactError, ComponentError, WeightsError
from skastw.storage.checkpoints import CONFIG, PREPROCESSOR, PROCESSOR, Checkpoint


@parameters
class TransformersEncoder(PretrainedEncoder):
    """A network of Hugging Face's transformers on waveforms, usually with the weights of a checkpoint.

    It needs ``features="waveform"``, and computes the input of the network itself, with the settings of the checkpoint.
    Each clip has the outputs that the network gives for it alone: padding does not change them.

    ==============================  =============================  ====================================================
    ``model_type`` of a checkpoint  networks                       output frames
    ==============================  =============================  ====================================================
    ``wav2vec2``, ``hubert``,       wav2vec 2.0, HuBERT, WavLM,    50 each second
    ``wavlm``, ``unispeech-sat``,   UniSpeech-SAT, data2vec-audio
    ``data2vec-audio``
    ``wav2vec2-bert``               w2v-BERT 2.0                   50 each second
    ``whisper``                     the encoder of Whisper         50 each second; takes clips of up to 30 s
    ``audio-spectrogram-            AST                            10 each second: the mean of the patches, and that of
    transformer``                                                  the class tokens; takes clips of up to 10.24 s
    ``clap``, ``clap_audio_model``  the audio network of CLAP      3.2 each second; takes clips of up to 10 s at 48 kHz
    ==============================  =============================  ====================================================

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
        doc='Output: ``"last"`` is the output of the network. A number is that of a hidden state: 0 for the input of the '
        "first layer, n for the output of the n-th layer, before the norm that some networks have behind all layers. "
        '``"weighted"`` is the sum of all hidden states, with weights that are learned.',
    )
    config: dict[str, Any] | None = param(
        default=None,
        valid=[dict, None],
        doc="Settings of the network, with the names of ``config.json``; by default those of the checkpoint.",
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
        return self._shapes().stride

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
        encoder = clone(self)
        if self.weights is not None and (self.source is None or self.config is None or self.preprocessor is None):
            encoder = self._with_checkpoint(self.checkpoint())
        family, config, inputs = encoder._settings()
        encoder.set_params(config=config, preprocessor=inputs)

        if sample_rate != inputs["sampling_rate"]:
            raise ComponentError(
                f"Got sample_rate={sample_rate}, but {self._what(family)} takes waveforms at "
                f"{inputs['sampling_rate']} Hz: set sample_rate={inputs['sampling_rate']}."
            )
        encoder._check_length(encoder._shapes(), round(chunk_length * sample_rate))
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
        encoder = clone(self) if self.weights is None else self._with_checkpoint(self.checkpoint())
        _, _, inputs = encoder._settings()
        return encoder, inputs["sampling_rate"], _longest(encoder._shapes(), inputs["sampling_rate"])

    def build(self, n_features: int, max_frames: int) -> WaveformNetwork:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        if n_features != 1:
            raise ComponentError(
                f"Got frames of {n_features} values, but encoder='transformers' takes samples: set features='waveform'."
            )
        _, config, inputs = self._settings()
        module = build_waveform_network(config, inputs, self.layer)
        self._check_length(module, max_frames)
        return module

    def converted(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of a checkpoint by the names that they have in the module; half precision is converted."""
        module = self._shapes()
        converted = {
            name: tensors[stored].float() if tensors[stored].is_floating_point() else tensors[stored]
            for name, stored in self._names(module, tensors).items()
        }
        if module.layer_weights is not None:
            converted["layer_weights"] = torch.zeros(module.layer_weights.shape)
        return converted

    def check_params(self) -> None:
        """Raise ComponentError if a parameter is not valid; see :class:`~skastw.core.component.Component`."""
        super().check_params()
        known = [*FAMILIES, "clap"]
        if self.config is not None and self.config.get("model_type") not in known:
            raise ComponentError(f"Got config={self.config!r:.200}, expected 'model_type' in it, one of {known}.")

    def _with_checkpoint(self, checkpoint: Checkpoint) -> Self:
        """Return the encoder with the settings and the source of a checkpoint, whose weights fit the network."""
        documents = checkpoint.documents
        nested = [documents.get(PROCESSOR, {}).get(name) for name in ("feature_extractor", "audio_processor")]
        found = [item for item in (documents.get(PREPROCESSOR), *nested) if isinstance(item, dict)]
        config = self.config if self.config is not None else documents.get(CONFIG)
        preprocessor = self.preprocessor if self.preprocessor is not None else next(iter(found), None)
        for name, value, file in (("config", config, CONFIG), ("preprocessor", preprocessor, PREPROCESSOR)):
            if value is None:
                raise WeightsError(
                    f"There is no {file} beside the weights {checkpoint.name!r}: pass its content as {name}=, or the "
                    "folder or repository that contains it."
                )

        encoder = clone(self).set_params(config=config, preprocessor=preprocessor, source=checkpoint.source)
        try:
            module, specs = encoder._shapes(most=2 * len(checkpoint.specs) + 64), checkpoint.specs
        except (ArtifactError, ComponentError) as error:
            raise WeightsError(f"The weights {checkpoint.name!r} cannot be used: {error}") from error
        own = module.state_dict()
        for name, stored in encoder._names(module, specs).items():
            if list(own[name].shape) != specs[stored].shape:
                raise WeightsError(
                    f"The weights {checkpoint.name!r} have {stored[:200]} of shape {specs[stored].shape}, expected "
                    f"{list(own[name].shape)}: they do not fit the settings in {CONFIG}."
                )
        return encoder

    def _names(self, module: WaveformNetwork, stored: Iterable[str]) -> dict[str, str]:
        """Return the names in the module of the weights in a checkpoint, with their names there.

        Raises
        ------
        WeightsError
            If weights are missing, or left over.
        """
        found = {f"network.{name}": key for name, key in names_of_network(module.family, stored).items()}
        found = {name: key for name, key in found.items() if not module.is_above(name.removeprefix("network."))}
        expected = {name for name in module.state_dict() if name != "layer_weights"}
        for names, problem in ((expected - found.keys(), "lack"), (found.keys() - expected, "have the unknown")):
            if names:
                listed = ", ".join(name.removeprefix("network.")[:200] for name in sorted(names)[:3])
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise WeightsError(
                    f"The weights {str(self.weights)!r} {problem} {listed}{more}, so they do not belong to "
                    f"{self._what(module.family)}, or are incomplete."
                )
        return found

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

    def _check_length(self, module: WaveformNetwork, n_samples: int) -> None:
        if module.max_samples is not None and n_samples > module.max_samples:
            rate = read_inputs(module.family, self.preprocessor or {})["sampling_rate"]
            longest = _longest(module, rate)
            raise ComponentError(
                f"Got chunks of {n_samples / rate:g} s, but {self._what(module.family)} takes at most {longest:g} s: "
                f"set chunk_length={longest:g}."
            )

    def _what(self, family: Family) -> str:
        return f"the {family.name} network" + (f" {str(self.weights)!r}" if self.weights else "")


def _longest(module: WaveformNetwork, sample_rate: int) -> float:
    """Return the length of the longest clip that a network takes (s), in hundredths of a second."""
    return math.inf if module.max_samples is None else int(100 * module.max_samples / sample_rate) / 100
