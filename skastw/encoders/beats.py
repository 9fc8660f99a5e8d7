"""BEATs: a transformer on patches of the spectrogram, with gated relative positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import frame_mask, is_padded, padding_mask
from skastw.core.functional import Dropout
from skastw.core.parameters import integers, param, parameters
from skastw.encoders._base import EncoderModule
from skastw.encoders._pretrained import RoundedEncoder
from skastw.encoders._transformer import TransformerEncoder
from skastw.errors import ComponentError, WeightsError
from skastw.storage.checkpoints import CONFIG, Checkpoint
from skastw.storage.weights import TensorSpec

#: Sample rate (Hz) and number of bins for which the published networks were trained.
_SAMPLE_RATE, _N_BINS = 16000, 128
#: Settings of a checkpoint that the module cannot change, and the values that they must have.
_FIXED = {
    "activation_fn": "gelu",
    "conv_bias": False,
    "gru_rel_pos": True,
    "layer_norm_first": False,
    "relative_position_embedding": True,
}
#: Settings of a checkpoint that are parameters, with the values that a checkpoint without them has.
_SETTINGS = {"deep_norm": False, "max_distance": 1280}
#: Parts of a checkpoint that the module does not have.
_LEFT_OUT = ("predictor.", "patch_embedding_pad.", "raw2fbank_pad.", "layer_weights")
_PATCHES, _CONV = "patch_embedding.weight", "encoder.pos_conv.0"
#: Names of the weights of the convolution in files of newer releases of torch.
_RENAMED = {
    "weight_g": f"{_CONV}.parametrizations.weight.original0",
    "weight_v": f"{_CONV}.parametrizations.weight.original1",
}
#: Width of the layer that computes the two gates of a head, each of them the sum of half of it.
_GATE_WIDTH = 8


@parameters
class BEATsEncoder(RoundedEncoder, TransformerEncoder):
    """BEATs: transformer blocks over square patches of the spectrogram, then the mean over frequency.

    ==========  ==============================================================  ====================
    layer       operation                                                       output
    ==========  ==============================================================  ====================
    patches     ``patch_frames`` x ``patch_bins`` values, Linear without bias   (T/16, F/16, 512)
    norm        LayerNorm; Linear, if the width changes                         (T F/256, d_model)
    positions   convolution with weight norm, GELU, added; LayerNorm            (T F/256, d_model)
    block x L   norm(a x + attention(x)); norm(a x + feed-forward(x)), GELU     (T F/256, d_model)
    mean        over frequency                                                  (T/16, d_model)
    ==========  ==============================================================  ====================

    All patches of a clip attend to each other. Their order is that of time, and of frequency within one time. A score
    of attention gets the value that a head has learned for the distance of the two patches, times a gate, which depends
    on the query. ``a`` is (2 L)^(1/4). Padding a clip does not change its outputs. With the defaults and 128 features,
    the encoder has 90.3 million parameters.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    ``weights`` may be a file of BEATs, such as ``BEATs_iter3_plus_AS2M.pt``, or of OpenBEATs. The sizes then come from
    the file. The front end must be that of the training, ``FBank(n_mels=128, mean=15.41663, std=2 * 6.55582)``, at
    16 kHz::

        front_end = FBank(n_mels=128, mean=15.41663, std=2 * 6.55582)
        encoder = BEATsEncoder(weights="BEATs_iter3_plus_AS2M.pt")
        ASTWClassifier(features=front_end, encoder=encoder)

    For a clip of whole patches, and with ``rounding="floor"`` for every clip, the mean over time is the mean over the
    patches of the published network. The classes that a network was fine-tuned for are left out, and so is the bias of
    the keys, because a softmax does not depend on it. Attention weights are not dropped in training.

    References
    ----------
    Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers", 2023; Bharadwaj et al., "OpenBEATs: A Fully
    Open-Source General-Purpose Audio Encoder", 2025; Chi et al., "XLM-E: Cross-lingual Language Model Pre-training via
    ELECTRA", 2022 (gated relative positions); Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers", 2022.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import BEATsEncoder
    >>> encoder = BEATsEncoder(d_model=32, num_heads=2, num_layers=1, embedding=16)
    >>> module = encoder.build(n_features=128, max_frames=100)
    >>> frames, lengths = module(torch.zeros(2, 90, 128), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 6, 32), [6, 3])
    """

    name = "beats"

    d_model: int = param(
        default=768, valid=[integers(1, 8192)], doc="Width of the transformer; a multiple of ``num_heads``."
    )
    num_heads: int = param(default=12, valid=[integers(1, 256)], doc="Number of attention heads.")
    num_layers: int = param(default=12, valid=[integers(1, 128)], doc="Number of transformer blocks L.")
    embedding: int = param(default=512, valid=[integers(1, 8192)], doc="Width of the first layer, before its norm.")
    patch_frames: int = param(default=16, valid=[integers(1, 1024)], doc="Length of a patch in frames.")
    patch_bins: int = param(
        default=16, valid=[integers(1, 1024)], doc="Height of a patch in bins, limited to the number of bins."
    )
    conv_width: int = param(
        default=128, valid=[integers(1, 8192)], doc="Number of patches that the convolution of the positions spans."
    )
    conv_groups: int = param(
        default=16,
        valid=[integers(1, 1024)],
        doc="Number of groups of channels of this convolution; ``d_model`` is a multiple of it.",
    )
    num_buckets: int = param(
        default=320,
        valid=[integers(4, 8192)],
        doc="Number of values that a head learns for the distances between patches. The first half of those of each "
        "sign are for one distance each, the others for ranges of distances.",
    )
    max_distance: int = param(
        default=800, valid=[integers(2, 100_000)], doc="Distance beyond which all distances have the same value."
    )
    deep_norm: bool = param(
        default=True, valid=["boolean"], doc="Whether ``a`` is (2 L)^(1/4), as in BEATs, and not 1."
    )

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return float(self.patch_frames)

    def defined_by(self, checkpoint: Checkpoint, sample_rate: int) -> dict[str, Any]:
        """Return the sizes of a checkpoint; see :class:`~skastw.encoders.PretrainedEncoder`."""
        if sample_rate != _SAMPLE_RATE:
            raise ComponentError(
                f"Got sample_rate={sample_rate} for the weights {checkpoint.name!r}, expected {_SAMPLE_RATE}."
            )
        sizes = _sizes(_inside(checkpoint.specs), checkpoint.name)
        document = checkpoint.documents.get(CONFIG, {})
        settings = document.get("cfg", document if "encoder_layers" in document else None)
        if not isinstance(settings, dict):
            return sizes

        for name, expected in _FIXED.items():
            if settings.get(name, expected) != expected:
                raise WeightsError(
                    f"The weights {checkpoint.name!r} have {name}={settings[name]!r}, expected {expected!r}."
                )
        return sizes | {name: settings.get(name, default) for name, default in _SETTINGS.items()}

    def converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of BEATs; see :class:`~skastw.encoders.PretrainedEncoder`."""
        kept = {name: tensor for name, tensor in _inside(tensors).items() if not name.startswith(_LEFT_OUT)}
        for own, other in _RENAMED.items():
            if other in kept:
                kept[f"{_CONV}.{own}"] = kept.pop(other)

        # all layers share the values for distances, which a file contains once for each layer
        shared = "self_attn.relative_attention_bias.weight"
        return {
            name: tensor
            for name, tensor in kept.items()
            if not name.endswith("self_attn.k_proj.bias")
            and (not name.endswith(shared) or name == f"encoder.layers.0.{shared}")
        }

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        if self.weights is not None and n_features != _N_BINS:
            raise ComponentError(
                f"Got {n_features} values per frame for encoder='beats' with weights, expected {_N_BINS}: set "
                "features=FBank(n_mels=128, mean=15.41663, std=2 * 6.55582)."
            )
        for name in ("num_heads", "conv_groups"):
            if self.d_model % getattr(self, name):
                raise ComponentError(
                    f"Got d_model={self.d_model}, expected a multiple of {name}={getattr(self, name)}."
                )
        if self.max_distance <= self.num_buckets // 4:
            raise ComponentError(
                f"Got max_distance={self.max_distance}, expected more than a quarter of num_buckets={self.num_buckets}."
            )
        return _BEATsModule(self, n_features)


def _inside(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint that belongs to BEATs, if it is part of a larger network."""
    prefix = next((name.removesuffix(_PATCHES) for name in tensors if name.endswith(_PATCHES)), "")
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _sizes(specs: Mapping[str, TensorSpec], name: str) -> dict[str, int]:
    """Return the parameters that follow from the shapes of the tensors of a checkpoint."""
    layer, shapes = "encoder.layers.0", {key: spec.shape for key, spec in specs.items()}
    try:
        embedding, _, patch_frames, patch_bins = shapes[_PATCHES]
        d_ff, d_model = shapes[f"{layer}.fc1.weight"]
        num_buckets, num_heads = shapes[f"{layer}.self_attn.relative_attention_bias.weight"]
        _, group_width, conv_width = shapes.get(f"{_CONV}.weight_v") or shapes[_RENAMED["weight_v"]]
        ff_mult, conv_groups = d_ff // d_model, d_model // group_width
    except (KeyError, ValueError, ZeroDivisionError):
        raise WeightsError(
            f"The weights {name!r} are not those of BEATs: {_PATCHES} or weights of the first layer are missing, or "
            "have another shape."
        ) from None
    return {
        "embedding": embedding,
        "patch_frames": patch_frames,
        "patch_bins": patch_bins,
        "d_model": d_model,
        "ff_mult": ff_mult,
        "num_heads": num_heads,
        "num_buckets": num_buckets,
        "num_layers": sum(key.endswith(".fc1.weight") for key in shapes),
        "conv_groups": conv_groups,
        "conv_width": conv_width,
    }


# ------------------------------------------------------------------ the module, with the names of the published one


class _BEATsModule(EncoderModule):
    def __init__(self, params: BEATsEncoder, n_features: int) -> None:
        super().__init__()
        self.patch = (params.patch_frames, min(params.patch_bins, n_features))
        self.floor = params.rounds_down
        self.patch_embedding = nn.Conv2d(1, params.embedding, self.patch, stride=self.patch, bias=False)
        self.layer_norm = nn.LayerNorm(params.embedding)
        same = params.embedding == params.d_model
        self.post_extract_proj = nn.Identity() if same else nn.Linear(params.embedding, params.d_model)
        self.encoder = _Transformer(params)
        self.n_outputs = params.d_model

        nn.init.xavier_normal_(self.patch_embedding.weight)
        if isinstance(self.post_extract_proj, nn.Linear):
            nn.init.xavier_normal_(self.post_extract_proj.weight)
            nn.init.zeros_(self.post_extract_proj.bias)

    def parts_in_order(self) -> list[nn.Module]:
        """Return the layers before the blocks as one part, then the blocks."""
        stem = [self.patch_embedding, self.layer_norm, self.post_extract_proj]
        return [nn.ModuleList([*stem, self.encoder.pos_conv, self.encoder.layer_norm]), *self.encoder.layers]

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        patches, lengths = self._patches(frames, lengths)
        n_bins = patches.shape[2]
        x = F.linear(patches.flatten(1, 2), self.patch_embedding.weight.flatten(1))
        x = self.encoder(self.post_extract_proj(self.layer_norm(x)), lengths * n_bins)
        return x.unflatten(1, (-1, n_bins)).mean(dim=2), lengths

    def _patches(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches (B, T', F', n_values) of ``frames`` (B, T, F), and the number of them over time."""
        length, height = self.patch
        extra = 0 if self.floor else length - 1
        n_patches = torch.sym_max((frames.shape[1] + extra) // length, 1)
        missing = n_patches * length - frames.shape[1]  # frames are cut off if it is negative
        frames = F.pad(frames, (0, -frames.shape[2] % height, 0, missing))

        cut = frames.unflatten(2, (-1, height)).unflatten(1, (-1, length))
        return cut.transpose(2, 3).flatten(3), ((lengths + extra) // length).clamp(min=1)


class _Transformer(nn.Module):
    """Positions and blocks."""

    def __init__(self, params: BEATsEncoder) -> None:
        super().__init__()
        self.pos_conv = nn.Sequential(_WeightNormConv(params.d_model, params.conv_width, params.conv_groups), nn.GELU())
        self.layer_norm = nn.LayerNorm(params.d_model)
        self.drop = Dropout(params.dropout)
        self.layers = nn.ModuleList(_Block(params) for _ in range(params.num_layers))
        first: Any = self.layers[0]
        first.self_attn.relative_attention_bias = _Distances(params)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the sequence (B, N, d_model) of the patches of clips with ``lengths`` patches."""
        if is_padded(x, lengths):  # the convolution must see the zeros that it sees at the end of a clip
            x = x * frame_mask(x, lengths)
        x = self.drop(self.layer_norm(x + self.pos_conv(x.transpose(1, 2)).transpose(1, 2)))

        first: Any = self.layers[0]
        positions, mask = first.self_attn.relative_attention_bias(x.shape[1]), padding_mask(x, lengths)
        for block in self.layers:
            x = block(x, positions, mask)
        return x


class _WeightNormConv(nn.Module):
    """Convolution over time (B, C, N) that keeps the length; its weights are a direction and a length per time step.

    It is not a layer of torch, whose weight would be computed and not learned, so that no optimiser could change it.
    """

    def __init__(self, channels: int, width: int, groups: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(channels, channels // groups, width))
        self.weight_g = nn.Parameter(torch.empty(1, 1, width))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.groups = groups

        nn.init.normal_(self.weight_v, std=2 * (width * channels) ** -0.5)
        with torch.no_grad():
            self.weight_g.copy_(self._lengths())

    def forward(self, x: Tensor) -> Tensor:
        """Return the sequence; an even width sees one step more before than after each step."""
        width = self.weight_v.shape[2]
        weight = self.weight_v * (self.weight_g / self._lengths())
        x = F.pad(x, (width // 2, (width - 1) // 2))
        return F.conv1d(x, weight, self.bias, groups=self.groups)

    def _lengths(self) -> Tensor:
        return self.weight_v.norm(dim=(0, 1), keepdim=True)


class _Distances(nn.Module):
    """Values that the heads have learned for the distances between patches, in buckets."""

    def __init__(self, params: BEATsEncoder) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(params.num_buckets, params.num_heads))
        self.max_distance = params.max_distance
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, size: int) -> Tensor:
        """Return the value (heads, N, N) of each pair of ``size`` patches, by query and key."""
        steps = torch.arange(size, device=self.weight.device)
        distances = torch.arange(1 - size, size, device=self.weight.device)
        values = F.embedding(self._buckets(distances), self.weight)  # (2 N - 1, heads)
        return values.T[:, steps - steps[:, None] + size - 1]

    def _buckets(self, distances: Tensor) -> Tensor:
        """Return the bucket of each distance from query to key: half of them are for keys after the query."""
        half = len(self.weight) // 2
        n_exact = half // 2
        size = distances.abs()
        share = (size.clamp(min=1) / n_exact).log() / math.log(self.max_distance / n_exact)
        ranges = (n_exact + (share * (half - n_exact)).long()).clamp(max=half - 1)
        return torch.where(size < n_exact, size, ranges) + half * (distances > 0)


class _Block(nn.Module):
    """Post-norm transformer block."""

    def __init__(self, params: BEATsEncoder) -> None:
        super().__init__()
        d_model, d_ff = params.d_model, params.ff_mult * params.d_model
        self.alpha = (2 * params.num_layers) ** 0.25 if params.deep_norm else 1.0
        self.self_attn = _Attention(d_model, params.num_heads)
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = nn.Linear(d_model, d_ff)
        self.fc2 = nn.Linear(d_ff, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)
        self.drop = Dropout(params.dropout)
        self._draw((8 * params.num_layers) ** -0.25 if params.deep_norm else 1.0)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Return the sequence (B, N, d_model); ``mask`` (B, N) is True for real patches, None without padding."""
        x = self.self_attn_layer_norm(self.alpha * x + self.drop(self.self_attn(x, positions, mask)))
        x = self.final_layer_norm(self.alpha * x + self.drop(self.fc2(F.gelu(self.fc1(x)))))
        return x

    def _draw(self, gain: float) -> None:
        """Draw the weights; with many layers, a small ``gain`` keeps the first steps of training stable."""
        attention = self.self_attn
        for layer in (attention.q_proj, attention.k_proj):
            nn.init.xavier_normal_(layer.weight)
        for layer in (attention.v_proj, attention.out_proj, self.fc1, self.fc2):
            nn.init.xavier_normal_(layer.weight, gain=gain)
        for layer in (attention.q_proj, attention.v_proj, attention.out_proj, self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)


class _Attention(nn.Module):
    """Attention whose scores contain the value of the distance times a gate that depends on the query."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model)
        self.q_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)
        self.grep_linear = nn.Linear(d_model // num_heads, _GATE_WIDTH)
        self.grep_a = nn.Parameter(torch.ones(1, num_heads, 1, 1))
        nn.init.normal_(self.grep_linear.weight, std=0.02)
        nn.init.zeros_(self.grep_linear.bias)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attended sequence (B, N, d_model)."""
        query, key, value = (
            layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        offsets = self._gates(query) * positions
        if mask is not None:
            offsets = offsets.masked_fill(~mask[:, None, None], -torch.inf)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=offsets.to(query.dtype))
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _gates(self, query: Tensor) -> Tensor:
        """Return the factors (B, heads, N, 1) of the values of distances, between 1 and 2 if ``grep_a`` is 1."""
        first, second = self.grep_linear(query).unflatten(3, (2, -1)).sum(dim=4).sigmoid().split(1, dim=3)
        return first * (second * self.grep_a - 1) + 2
