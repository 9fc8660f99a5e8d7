"""Networks of transformers with the front ends that their checkpoints need, as encoders of samples.

.. code-block:: text

    samples (B, N, 1)
       |  standardisation, or a spectrogram
    inputs of the network
       |  the network of transformers, up to the chosen hidden state
    frames (B, T', D), zero beyond each clip

Transformers pads the clips of a batch with zeros. In some networks this changes the outputs of the shorter clips. Here,
the statistics and the convolutions of these networks only see the real frames.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import frame_mask, is_padded, padding_mask, trim
from skastw.core.kaldi import KaldiFilterBank
from skastw.core.mel import mel_filter_bank
from skastw.core.spectra import check_cost, in_slabs, power_spectrum, whisper_scale
from skastw.encoders._base import EncoderModule
from skastw.encoders._families import FAMILIES, Family, build_network, keep_checkpoint_names
from skastw.errors import ComponentError

#: Longest input of a network that pads all clips to the same length (samples).
_MAX_SAMPLES = 2**26
#: Step of Kaldi's filter banks in transformers (samples).
_KALDI_HOP = 160


@dataclass
class _Pass:
    """What the modified layers of a network need to know of the present batch, and the hidden states that they keep."""

    lengths: Tensor | None = None
    mask: Tensor | None = None
    states: list[Tensor] = field(default_factory=list)


#: Layers of transformers pass on no lengths. A context variable is separate for each thread.
_PASS: ContextVar[_Pass | None] = ContextVar("pass", default=None)


@contextmanager
def _passing(current: _Pass) -> Iterator[None]:
    token = _PASS.set(current)
    try:
        yield
    finally:
        _PASS.reset(token)


class _MaskedGroupNorm(nn.GroupNorm):
    """Group norm whose statistics are those of the real frames of each clip."""

    def forward(self, x: Tensor) -> Tensor:
        current = _PASS.get()
        if current is None or current.lengths is None:
            return super().forward(x)
        norm, size = super().forward, x.shape[2]
        items = [F.pad(norm(x[i : i + 1, :, :n]), (0, size - n)) for i, n in enumerate(current.lengths.tolist())]
        return torch.cat(items)


class _NormedConv(nn.Module):
    """Convolution with weight norm over all but the last axis, whose weights have the names of checkpoints.

    Parametrised modules of torch do the same, but cannot be pickled.

    Parameters
    ----------
    conv : Module
        Convolution of transformers, with weight norm as a parametrisation.
    """

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.padding, self.groups, self.bias = conv.padding, conv.groups, conv.bias
        self.weight_g, self.weight_v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1

    def forward(self, x: Tensor) -> Tensor:
        size = self.weight_v.flatten(0, 1).square().sum(dim=0).sqrt()  # three times as fast as vector_norm
        weight = self.weight_v * (self.weight_g / size)
        return F.conv1d(x, weight, self.bias, padding=self.padding, groups=self.groups)


def _mask_frames(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Set the output (B, D, T) of a layer to zero beyond each clip."""
    current = _PASS.get()
    return output if current is None or current.mask is None else output * current.mask[:, None]


def _keep_input(module: nn.Module, args: Any) -> None:
    """Keep the input of a block, which is a hidden state."""
    current = _PASS.get()
    if current is not None:
        current.states.append(args[0])


class WaveformNetwork(EncoderModule):
    """Base of the modules: a network of transformers up to a hidden state.

    Parameters
    ----------
    config, inputs : mapping
        Settings of the network and of its front end.
    layer : int or str
        Hidden state that is the output.

    Attributes
    ----------
    stride : float
        Samples for each output frame.
    max_samples : int or None
        Longest clip (samples); None if there is no limit.
    """

    def __init__(self, config: Mapping[str, Any], inputs: Mapping[str, Any], layer: int | str) -> None:
        super().__init__()
        self.family = family = FAMILIES[config["model_type"]]
        self.stride, self.max_samples = self.sizes(config, inputs)
        n_blocks = config[family.layers] if family.layers else 0
        if not family.layers and layer != "last":
            raise ComponentError(
                f"Got layer={layer!r} for a {family.name} network, whose layers have different widths; expected 'last'."
            )
        if isinstance(layer, int) and layer > n_blocks:
            raise ComponentError(
                f"Got layer={layer}, expected at most {n_blocks}, the number of layers of the network."
            )

        used = {family.layers: min(layer, n_blocks)} if isinstance(layer, int) else {}
        self.network = build_network(family, {**config, **used})
        if hasattr(self.network, "masked_spec_embed"):  # some networks have it, even if nothing is masked
            del self.network.masked_spec_embed
        self.n_blocks = used.get(family.layers, n_blocks)
        self.norm = family.norm if config.get("do_stable_layer_norm", True) else ""
        self.has_norm = layer == "last"
        if self.norm and not self.has_norm:
            self.network.set_submodule(self.norm, nn.Identity())

        self.layer_weights = nn.Parameter(torch.zeros(n_blocks + 1)) if layer == "weighted" else None
        if self.layer_weights is not None:
            for block in self.blocks:
                block.register_forward_pre_hook(_keep_input)
        keep_checkpoint_names(self)

    @staticmethod
    def sizes(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[float, int | None]:
        """Return the samples for each output frame, and the longest clip (samples); None if there is no limit.

        Raises
        ------
        ComponentError
            If a size is zero, or absurd.
        """
        raise NotImplementedError

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks of the network, whatever their place in this release of the library."""
        try:
            return self.network.get_submodule(self.family.blocks)  # type: ignore[return-value]
        except AttributeError:
            return self.network.get_submodule("layers")  # type: ignore[return-value]

    def is_above(self, name: str) -> bool:
        """Return whether a weight, by its name in checkpoints, is above the chosen hidden state."""
        index = name.removeprefix(f"{self.family.blocks}.").partition(".")[0]
        if name.startswith(f"{self.family.blocks}.") and index.isdecimal():
            return bool(self.family.layers) and int(index) >= self.n_blocks
        return bool(self.norm) and not self.has_norm and name.startswith(f"{self.norm}.")

    def parts_in_order(self) -> list[nn.Module]:
        """Return the layers below the blocks as one or two parts, then each block; the last has the norm behind it."""
        *blocks, last = self.blocks if self.blocks else [nn.ModuleList()]
        below = list(self._below(self.network))
        parts = [*self._groups(below), *blocks]
        if self.norm:
            last = nn.ModuleList([last, self.network.get_submodule(self.norm)])
        return [part for part in [*parts, last] if next(part.parameters(), None) is not None]

    def _below(self, module: nn.Module) -> Iterator[nn.Module]:
        """Yield the modules outside the blocks, except the norm behind them."""
        norm = self.network.get_submodule(self.norm) if self.norm else None
        for child in module.children():
            if any(inner is self.blocks for inner in child.modules()):
                yield from () if child is self.blocks else self._below(child)
            elif child is not norm:
                yield child

    def _groups(self, below: list[nn.Module]) -> list[nn.Module]:
        """Return the modules below the blocks as parts."""
        return [nn.ModuleList(below)]

    def train(self, mode: bool = True) -> "WaveformNetwork":
        """Set the mode; parts that are not trained and batch norms stay in evaluation mode."""
        super().train(mode)
        layers = self.parts_in_order()
        for part in layers:
            if not any(weight.requires_grad for weight in part.parameters()):
                part.train(False)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(False)
        if not any(weight.requires_grad for weight in layers[0].parameters()):  # functions of modules around the blocks
            for module in self.network.modules():
                if any(inner is self.blocks for inner in module.modules()) and module is not self.blocks:
                    module.training = False
        return self

    def run(self, current: _Pass, *args: Any, **kwargs: Any) -> Tensor:
        """Return the chosen hidden state of the network."""
        with _passing(current):
            last = self.network(*args, **kwargs).last_hidden_state
        if self.layer_weights is None:
            return last
        shares = self.layer_weights.softmax(dim=0)
        return sum((share * state for share, state in zip(shares, [*current.states, last], strict=True)), start=0)

    def encode(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turn waveforms (B, N), zero beyond their lengths (B,), into frames (B, T', D) and their lengths."""
        raise NotImplementedError

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        encoded, lengths = self.encode(trim(frames, lengths)[:, :, 0], lengths)
        return trim(encoded, lengths), lengths


# ------------------------------------------------------------------ networks that take samples


class _SampleNetwork(WaveformNetwork):
    """wav2vec 2.0 and its relatives: convolutions over samples, then a transformer."""

    def __init__(self, config: Mapping[str, Any], inputs: Mapping[str, Any], layer: int | str) -> None:
        super().__init__(config, inputs, layer)
        self.convs = list(zip(config["conv_kernel"], config["conv_stride"], strict=False))
        self.shortest = 1
        for kernel, stride in reversed(self.convs):
            self.shortest = (self.shortest - 1) * stride + kernel
        self.do_normalize = inputs["do_normalize"]
        self.n_outputs = config["hidden_size"]

        network: Any = self.network
        first = network.feature_extractor.conv_layers[0]
        if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            old = first.layer_norm
            first.layer_norm = _MaskedGroupNorm(old.num_groups, old.num_channels, eps=old.eps)
        positions = network.encoder.pos_conv_embed
        if hasattr(getattr(positions, "conv", None), "parametrizations"):
            positions.conv = _NormedConv(positions.conv)
        for layer_ in [*getattr(positions, "layers", ()), getattr(positions, "batch_norm", None)]:
            if layer_ is not None:  # the first fills the padding, and the next would see it
                layer_.register_forward_hook(_mask_frames)

    @staticmethod
    def sizes(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[float, int | None]:
        """Return the samples for each output frame; the length of a clip has no limit."""
        for name in ("conv_kernel", "conv_stride"):
            if not config[name] or min(config[name]) < 1:
                raise ComponentError(f"Got config with {name}={config[name]!r:.100}, expected integers of at least 1.")
        return float(prod(config["conv_stride"])), None

    def _groups(self, below: list[nn.Module]) -> list[nn.Module]:
        return [below[0], nn.ModuleList(below[1:])]  # the convolutions over samples are a part of their own

    def encode(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        values = _standardized(waveform, lengths) if self.do_normalize else waveform
        values = F.pad(values, (0, torch.sym_max(self.shortest - values.shape[1], 0)))
        lengths = lengths.clamp(min=self.shortest)
        counts = self._counts(lengths)
        if not is_padded(values, lengths):
            return self.run(_Pass(), values), counts[-1]

        mask = padding_mask(values, lengths)
        assert mask is not None
        n_frames = int(self._counts(torch.tensor([values.shape[1]]))[-1])
        frames = frame_mask(values[:, :n_frames, None], counts[-1])[:, :, 0]
        return self.run(_Pass(counts[0], frames), values, attention_mask=mask.long()), counts[-1]

    def _counts(self, lengths: Tensor) -> list[Tensor]:
        """Return the number of frames behind each convolution."""
        counts = []
        for kernel, stride in self.convs:
            lengths = (lengths - kernel) // stride + 1
            counts.append(lengths)
        return counts


def _standardized(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Return waveforms (B, N) with mean 0 and variance 1 over the real samples of each, and zero beyond them."""
    mask = padding_mask(waveform, lengths)
    n_samples = lengths.to(waveform)[:, None]
    centred = waveform - waveform.sum(dim=1, keepdim=True) / n_samples
    centred = centred if mask is None else centred * mask
    variance = centred.square().sum(dim=1, keepdim=True) / n_samples
    return centred / (variance + 1e-7).sqrt()


# ------------------------------------------------------------------ networks that take spectrograms


class _ConformerNetwork(WaveformNetwork):
    """w2v-BERT 2.0: Kaldi's filter bank, standardised over each clip, two frames at once, then a conformer."""

    def __init__(self, config: Mapping[str, Any], inputs: Mapping[str, Any], layer: int | str) -> None:
        super().__init__(config, inputs, layer)
        self.n_joined, n_mels = inputs["stride"], inputs["num_mel_bins"]
        if config["feature_projection_input_dim"] != self.n_joined * n_mels:
            raise ComponentError(
                f"Got preprocessor with stride={self.n_joined} and num_mel_bins={n_mels}, expected the product "
                f"feature_projection_input_dim={config['feature_projection_input_dim']} of config."
            )
        self.bank = KaldiFilterBank(inputs["sampling_rate"], n_mels=n_mels)
        self.n_outputs = config["hidden_size"]

    @staticmethod
    def sizes(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[float, int | None]:
        """Return the samples for each output frame; the length of a clip has no limit."""
        return float(_KALDI_HOP * inputs["stride"]), None

    def encode(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        # a standard deviation takes two frames, and an output of the network as many as are joined
        shortest = len(self.bank.window) + (max(2, self.n_joined) - 1) * self.bank.hop_length
        frames, lengths = self.bank(
            F.pad(waveform, (0, max(0, shortest - waveform.shape[1]))), lengths.clamp(min=shortest)
        )
        frames = _standardized_bins(frames, lengths)

        lengths = lengths // self.n_joined
        frames = frames[:, : frames.shape[1] // self.n_joined * self.n_joined].unflatten(1, (-1, self.n_joined))
        frames = frames.flatten(2)
        mask = padding_mask(frames, lengths)
        return self.run(_Pass(), frames, attention_mask=None if mask is None else mask.long()), lengths


def _standardized_bins(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return frames (B, T, F) with mean 0 and variance 1 in each bin, over the real frames of each clip."""
    mask = frame_mask(frames, lengths) if is_padded(frames, lengths) else None
    n_frames = lengths.to(frames)[:, None, None]
    centred = frames - frames.sum(dim=1, keepdim=True) / n_frames
    centred = centred if mask is None else centred * mask
    variance = centred.square().sum(dim=1, keepdim=True) / (n_frames - 1)
    return centred / (variance + 1e-7).sqrt()


class _WhisperNetwork(WaveformNetwork):
    """Whisper's encoder. Clips are padded with silence to 30 seconds, the only length that it takes."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: Mapping[str, Any], inputs: Mapping[str, Any], layer: int | str) -> None:
        super().__init__(config, inputs, layer)
        n_fft, self.hop_length, n_mels = inputs["n_fft"], inputs["hop_length"], config["num_mel_bins"]
        check_cost(n_fft, self.hop_length, n_mels)
        filters = mel_filter_bank(inputs["sampling_rate"], n_fft, n_mels, fmax=min(8000.0, inputs["sampling_rate"] / 2))
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)
        self.n_outputs = config["d_model"]

    @staticmethod
    def sizes(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[float, int | None]:
        """Return the samples for each output frame, and the length that the network takes."""
        step = 2 * inputs["hop_length"]
        return float(step), _checked_length(step * config["max_source_positions"], inputs["n_fft"])

    def encode(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(waveform, (0, (self.max_samples or 0) - waveform.shape[1]))
        mel = _mel_power(padded, self.window, self.hop_length, self.filters)[:, :-1]
        frames = whisper_scale(mel, torch.full_like(lengths, mel.shape[1]))
        step = 2 * self.hop_length
        return self.run(_Pass(), frames.transpose(1, 2)), (lengths + step - 1) // step


class _PatchNetwork(WaveformNetwork):
    """AST: Kaldi's filter bank of a fixed length, and a transformer on its patches.

    A frame is the mean of the patches at one time, followed by the mean of the two class tokens, the embedding that AST
    itself classifies.
    """

    def __init__(self, config: Mapping[str, Any], inputs: Mapping[str, Any], layer: int | str) -> None:
        super().__init__(config, inputs, layer)
        self.n_frames, self.time_stride = config["max_length"], config["time_stride"]
        self.mean = inputs["mean"] if inputs["do_normalize"] else 0.0
        self.std = 2 * inputs["std"] if inputs["do_normalize"] else 1.0
        self.bank = KaldiFilterBank(inputs["sampling_rate"], n_mels=config["num_mel_bins"], window="hanning", scale=1.0)
        self.n_times = (self.n_frames - config["patch_size"]) // self.time_stride + 1
        self.n_outputs = 2 * config["hidden_size"]

    @staticmethod
    def sizes(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[float, int | None]:
        """Return the samples for each output frame, and the length that the network takes."""
        return float(_KALDI_HOP * config["time_stride"]), _checked_length(_KALDI_HOP * config["max_length"], 1)

    def encode(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(waveform, (0, (self.max_samples or 0) - waveform.shape[1]))
        frames, n_frames = self.bank(padded, lengths)
        frames = F.pad(frames, (0, 0, 0, self.n_frames - frames.shape[1]))
        frames = frames * frame_mask(frames, n_frames)  # padding is silence, but extractors append zeros
        tokens = self.run(_Pass(), (frames - self.mean) / self.std)

        patches = tokens[:, 2:].unflatten(1, (-1, self.n_times)).mean(dim=1)
        pooled = tokens[:, :2].mean(dim=1, keepdim=True).expand_as(patches)
        lengths = ((n_frames + self.time_stride - 1) // self.time_stride).clamp(max=self.n_times)
        return torch.cat([patches, pooled], dim=2), lengths


class _ClapNetwork(WaveformNetwork):
    """The audio network of CLAP. Shorter clips are repeated to 10 seconds, the only length that it takes.

    A frame is the mean over the bands at one time. The mean of all frames of a clip of 10 seconds is the embedding that
    CLAP itself projects. Checkpoints with fusion treat all clips as not longer than 10 seconds, for which fusion is
    not defined.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: Mapping[str, Any], inputs: Mapping[str, Any], layer: int | str) -> None:
        super().__init__(config, inputs, layer)
        n_fft, self.hop_length, n_mels = inputs["fft_window_size"], inputs["hop_length"], config["num_mel_bins"]
        sample_rate, self.padding = inputs["sampling_rate"], inputs["padding"]
        check_cost(n_fft, self.hop_length, n_mels)

        scale, norm = ("htk", "none") if inputs["truncation"] == "fusion" else ("slaney", "slaney")
        edges = inputs["frequency_min"], inputs["frequency_max"]
        filters = mel_filter_bank(sample_rate, n_fft, n_mels, *edges, scale=scale, norm=norm)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)

        self.n_times = self._n_times(config)
        self.n_outputs = config["patch_embeds_hidden_size"] * 2 ** (len(config["depths"]) - 1)

    @staticmethod
    def _n_times(config: Mapping[str, Any]) -> int:
        """Return the number of output frames; each stage but the last halves it."""
        n_frames = config["spec_size"] * (config["spec_size"] // max(1, config["num_mel_bins"]))
        n_times = n_frames // max(1, _pair(config["patch_stride"])[1]) // 2 ** (len(config["depths"]) - 1)
        if not n_times:
            raise ComponentError(
                "Got config of a clap_audio_model network without output frames: spec_size is too small."
            )
        return n_times

    @staticmethod
    def sizes(config: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[float, int | None]:
        """Return the samples for each output frame, and the length that the network takes."""
        n_samples = _checked_length(int(inputs["max_length_s"] * inputs["sampling_rate"]), inputs["fft_window_size"])
        return n_samples / _ClapNetwork._n_times(config), n_samples

    def encode(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mel = _mel_power(self._filled(waveform, lengths), self.window, self.hop_length, self.filters)
        decibels = 10 * mel.clamp(min=1e-10).log10()
        maps = self.run(_Pass(), decibels[:, None])
        n_samples = self.max_samples or 1
        lengths = (lengths * self.n_times + n_samples - 1) // n_samples
        return maps.mean(dim=2).transpose(1, 2), lengths

    def _filled(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Return waveforms that are filled up to the length of the network, by repetition or with zeros."""
        size, n_samples = self.max_samples or 0, lengths.to(waveform.device)[:, None]
        position = torch.arange(size, device=waveform.device).expand(waveform.shape[0], size)
        whole = {"repeatpad": size // n_samples * n_samples, "repeat": torch.full_like(n_samples, size)}
        filled = whole.get(self.padding, n_samples)
        return waveform.gather(1, position % n_samples) * (position < filled)


def _mel_power(waveform: Tensor, window: Tensor, hop_length: int, filters: Tensor) -> Tensor:
    """Return mel powers around every ``hop_length``-th sample of waveforms (B, N), which are mirrored at both ends."""
    half = len(window) // 2
    mirrored = F.pad(waveform[:, None], (half, half), mode="reflect")[:, 0]
    return in_slabs(mirrored.unfold(1, len(window), hop_length), lambda part: power_spectrum(part, window) @ filters)


def _checked_length(n_samples: int, n_fft: int) -> int:
    """Return the length of the clips of a network, which is limited in both directions."""
    if not n_fft < n_samples <= _MAX_SAMPLES:
        raise ComponentError(
            f"Got settings of a network for clips of {n_samples} samples, expected more than n_fft={n_fft} and at most "
            f"{_MAX_SAMPLES}."
        )
    return n_samples


def _pair(value: Any) -> tuple[int, int]:
    """Return the sizes over frequency and time of ``patch_stride``, an integer or two."""
    sizes = value if isinstance(value, list) else [value, value]
    if len(sizes) != 2 or not all(isinstance(size, int) for size in sizes):
        raise ComponentError(f"Got config with patch_stride={value!r:.100}, expected an integer or two.")
    return sizes[0], sizes[1]


NETWORKS: dict[str, type[WaveformNetwork]] = {
    "samples": _SampleNetwork,
    "kaldi": _ConformerNetwork,
    "whisper": _WhisperNetwork,
    "ast": _PatchNetwork,
    "clap": _ClapNetwork,
}


def build_waveform_network(config: Mapping[str, Any], inputs: Mapping[str, Any], layer: int | str) -> WaveformNetwork:
    """Return a network with its front end, with weights drawn from torch's random generator.

    Parameters
    ----------
    config, inputs : mapping
        Settings of the network and of its front end, as :func:`~skastw.encoders._families.read_config` and
        :func:`~skastw.encoders._families.read_inputs` return them.
    layer : int or str
        Hidden state that is the output.
    """
    family: Family = FAMILIES[config["model_type"]]
    return NETWORKS[family.front_end](config, inputs, layer)
