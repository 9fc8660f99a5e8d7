"""Networks of transformers for images, as encoders of spectrograms.

.. code-block:: text

    frames (B, T, F)
       |  each clip scaled, repeated for each channel, zero up to the next multiple of the stride
    pictures (B, C, T, F)
       |  the network of transformers
    maps (B, T', F', D)
       |  mean over frequency
    frames (B, T', D), zero beyond each clip

Transformers knows no padded pictures. Convolutional networks get a mask in each layer that looks beyond a position, so
that they see the same zeros as at the end of an unpadded picture. Networks with attention process the clips of each
length separately.
"""

import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import frame_mask, is_padded, trim
from skastw.encoders._base import EncoderModule
from skastw.encoders._conv2d import BatchNorm, Mask, apply_mask, time_mask
from skastw.encoders._families import build_network, keep_checkpoint_names
from skastw.encoders._image_families import IMAGE_FAMILIES, image_stride
from skastw.errors import ComponentError

#: Smallest range or deviation of a clip; silence has less.
_MIN_SCALE = 1e-5
_BLOCKS = r"(encoder\.)?(stages\.\d+\.layers|layers\.\d+\.blocks|blocks|layers?)\.\d+"


# ------------------------------------------------------------------ masks


@dataclass
class _Pass:
    """Lengths of the clips of a padded batch, for the layers of a network."""

    lengths: Tensor  #: frames of the last map (B,)
    size: int  #: the longest of them
    masks: dict[int, Mask | None] = field(default_factory=dict)

    def mask(self, x: Tensor) -> Mask | None:
        """Return the mask of a map (B, C, T, F). A map before the last has a multiple of its frames."""
        n_frames = x.shape[2]
        if n_frames % self.size:  # the map of a whole clip, or one to which a layer has added zeros
            return None
        if n_frames not in self.masks:
            self.masks[n_frames] = time_mask(x, self.lengths * (n_frames // self.size))
        return self.masks[n_frames]


#: The layers of transformers pass on no lengths. A context variable is separate for each thread.
_PASS: ContextVar[_Pass | None] = ContextVar("image pass", default=None)


class _MaskedBatchNorm(BatchNorm):
    """Batch norm whose statistics are those of the real frames."""

    def forward(self, input: Tensor, mask: Mask | None = None) -> Tensor:  # noqa: A002
        current = _PASS.get()
        return super().forward(input, None if current is None else current.mask(input))


def _looks_around(layer: nn.Conv2d) -> bool:
    """Return whether a convolution pads its input, and its outputs depend on values beyond their own positions."""
    return layer.padding != "valid" and layer.kernel_size != layer.stride


def _mask_input(module: nn.Module, args: Any) -> Any:
    current = _PASS.get()
    return None if current is None else (apply_mask(args[0], current.mask(args[0])),)


def _mask_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    current = _PASS.get()
    return output if current is None else apply_mask(output, current.mask(output))


def _lower_input(module: nn.Module, args: Any) -> Any:
    """Make the padding of a map lower than any value, before a maximum is taken."""
    current = _PASS.get()
    mask = None if current is None else current.mask(args[0])
    return None if mask is None else (args[0].masked_fill(mask.values == 0, torch.finfo(args[0].dtype).min),)


def _mean_of_real(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Return the mean over the real frames of a map whose padding is zero."""
    current = _PASS.get()
    mask = None if current is None else current.mask(args[0])
    return output if mask is None else output / mask.values.mean(dim=2, keepdim=True)


def _keep_window(input_resolution: tuple[int, int]) -> None:
    """Replace a method that changes the windows of a Swin layer for all later calls."""


# ------------------------------------------------------------------ the module


class ImageNetwork(EncoderModule):
    """A network for images, as an encoder of frames.

    Parameters
    ----------
    config, inputs : mapping
        Settings of the network, and the mean and the deviation of the images that it was trained on.
    scaling : str
        See :class:`~skastw.encoders.ImageEncoder`.
    n_features : int
        Number of frequency bins.
    keeps_statistics : bool
        Whether batch norms always use their stored statistics.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: Mapping[str, Any],
        inputs: Mapping[str, Any],
        *,
        scaling: str = "range",
        n_features: int = 1,
        keeps_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.family = family = IMAGE_FAMILIES[config["model_type"]]
        self.scaling, self.keeps_statistics = scaling, keeps_statistics
        self.stride, self.n_channels = image_stride(config), config["num_channels"]
        for name, values in inputs.items():
            if len(values) not in (1, self.n_channels):
                raise ComponentError(
                    f"Got preprocessor with {name}={values}, expected 1 or num_channels={self.n_channels} values."
                )
            self.register_buffer(name.removeprefix("image_"), torch.tensor(values).view(-1, 1, 1), persistent=False)

        network: Any = build_network(family, config)
        if family.name == "efficientnet" and network.encoder.top_conv.out_channels != config["hidden_dim"]:
            raise ComponentError(
                f"Got config with hidden_dim={config['hidden_dim']}, expected {network.encoder.top_conv.out_channels}, "
                "which is 1280 times width_coefficient, rounded to a multiple of depth_divisor."
            )
        self.network = network
        keep_checkpoint_names(self)
        if family.front_end == "maps":
            self.n_outputs = config["hidden_dim"] if family.name == "efficientnet" else config["hidden_sizes"][-1]
            self._add_masks()
        else:
            network.pooler = None
            self.n_outputs = network.layernorm.normalized_shape[0]
        if family.name == "swin":
            self._fix_windows(self._n_bands(n_features) * self.stride // config["patch_size"])

    def _add_masks(self) -> None:
        """Give the layers that look beyond a position the masks of the present batch."""
        network = self.network
        for name, layer in list(network.named_modules()):
            if isinstance(layer, nn.BatchNorm2d):  # with factors of 1, which EfficientNet needs to learn from scratch
                network.set_submodule(name, _MaskedBatchNorm(layer.num_features, eps=layer.eps))
            elif isinstance(layer, nn.ZeroPad2d) or (isinstance(layer, nn.Conv2d) and _looks_around(layer)):
                layer.register_forward_pre_hook(_mask_input)
            elif isinstance(layer, nn.MaxPool2d):
                layer.register_forward_pre_hook(_lower_input)
                layer.register_forward_hook(_mask_output)
            elif isinstance(layer, nn.AdaptiveAvgPool2d):
                layer.register_forward_pre_hook(_mask_input)
                layer.register_forward_hook(_mean_of_real)
        if self.family.name == "convnext":
            network.layernorm = nn.Identity()  # of the mean over the picture

    def _fix_windows(self, n_bins: int) -> None:
        """Keep the windows of all layers; those that cover all of the ``n_bins`` positions in frequency never shift."""
        network: Any = self.network
        for index, stage in enumerate(network.encoder.layers):
            for block in stage.blocks:
                if n_bins // 2**index <= block.window_size:
                    block.shift_size = 0
                block.set_shift_and_window_size = _keep_window
        layer: Any
        for layer in network.modules():  # a constant, which some releases store
            if "relative_position_index" in dict(layer.named_buffers(recurse=False)):
                layer.register_buffer("relative_position_index", layer.relative_position_index, persistent=False)

    def is_above(self, name: str) -> bool:
        """Return whether a weight, by its name in checkpoints, is above the output: none is."""
        return False

    def parts_in_order(self) -> list[nn.Module]:
        """Return what lies below the blocks, then each block; what lies between blocks belongs to the next one."""
        parts: list[list[nn.Module]] = [[]]
        below: list[nn.Module] = []
        for is_block, module in self._walk(self.network, ""):
            if is_block:
                parts.append([*below, module])
                below = []
            else:
                (below if len(parts) > 1 else parts[0]).append(module)
        parts[-1] += below
        return [part for part in map(nn.ModuleList, parts) if next(part.parameters(), None) is not None]

    def _walk(self, module: nn.Module, place: str) -> Iterator[tuple[bool, nn.Module]]:
        """Yield the blocks, and the modules between them."""
        for name, child in module.named_children():
            inner = f"{place}{name}"
            if re.fullmatch(_BLOCKS, inner) and not self._holds_blocks(child, inner):
                yield True, child
            elif self._holds_blocks(child, inner):
                yield from self._walk(child, f"{inner}.")
            else:
                yield False, child

    def _holds_blocks(self, module: nn.Module, place: str) -> bool:
        return any(name and re.fullmatch(_BLOCKS, f"{place}.{name}") for name, _ in module.named_modules())

    def train(self, mode: bool = True) -> "ImageNetwork":
        """Set the mode; parts that are not trained, and batch norms of a checkpoint, stay in evaluation mode."""
        super().train(mode)
        for part in self.parts_in_order():
            if not any(weight.requires_grad for weight in part.parameters()):
                part.train(False)
        for layer in self.modules() if self.keeps_statistics else ():
            if isinstance(layer, BatchNorm):
                layer.train(False)
        return self

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = trim(frames, lengths)
        pictures, lengths = self.pictures(frames, lengths), (lengths + self.stride - 1) // self.stride
        n_frames = pictures.shape[2] // self.stride
        if not is_padded(frames[:, :: self.stride], lengths):
            return self.maps(pictures).mean(dim=2), lengths

        if self.family.front_end == "maps":
            token = _PASS.set(_Pass(lengths, n_frames))
            try:
                encoded = self.maps(pictures).mean(dim=2)
            finally:
                _PASS.reset(token)
            return trim(encoded, lengths), lengths

        rows, parts = [], []
        for length in lengths.unique().tolist():
            rows.append((lengths == length).nonzero()[:, 0])
            encoded = self.maps(pictures[rows[-1].to(pictures.device), :, : length * self.stride]).mean(dim=2)
            parts.append(F.pad(encoded, (0, 0, 0, n_frames - length)))
        return torch.cat(parts)[torch.cat(rows).argsort().to(pictures.device)], lengths

    def pictures(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Turn frames (B, T, F), zero beyond their lengths (B,), into the input (B, C, T', F') of the network."""
        mask = frame_mask(frames, lengths) if is_padded(frames, lengths) else None
        x = scaled(frames, mask, self.scaling)[:, None]
        if self.scaling != "standard":
            x = (x - self.mean) / self.std
        if mask is not None:
            x = x * mask[:, None]
        n_frames, n_bins = frames.shape[1:]
        missing = self._n_bands(n_bins) * self.stride - n_bins
        return F.pad(x.expand(-1, self.n_channels, -1, -1), (0, missing, 0, -n_frames % self.stride))

    def _n_bands(self, n_bins: int) -> int:
        """Return the positions of the last map in frequency.

        There are at least two: oneDNN's strided bfloat16 convolution leaves values unset if the output has one bin.
        """
        return max(2, -(-n_bins // self.stride))

    def maps(self, pictures: Tensor) -> Tensor:
        """Return the last maps (B, T', F', D) of the network for unpadded pictures (B, C, T, F)."""
        network: Any = self.network
        if self.family.front_end == "maps":
            stem = network.embedder if self.family.name == "resnet" else network.embeddings
            return network.encoder(stem(pictures)).last_hidden_state.permute(0, 2, 3, 1)
        if self.family.name == "vit":
            tokens = network(pictures, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        else:
            tokens = network(pictures).last_hidden_state
        return tokens.unflatten(1, (pictures.shape[2] // self.stride, -1))


def scaled(frames: Tensor, mask: Tensor | None, scaling: str) -> Tensor:
    """Return frames (B, T, F), scaled by the extremes or by the mean and the deviation of each clip.

    Parameters
    ----------
    frames : Tensor of shape (B, T, F)
    mask : Tensor of shape (B, T, 1), optional
        True for the real frames; without a mask, all are real.
    scaling : {"range", "standard", "none"}

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders._image_networks import scaled
    >>> frames = torch.tensor([[[1.0, 3.0], [5.0, 3.0]]])
    >>> scaled(frames, None, "range").tolist()
    [[[0.0, 0.5], [1.0, 0.5]]]
    """
    if scaling == "none":
        return frames
    if scaling == "range":
        low = frames if mask is None else frames.masked_fill(~mask, torch.inf)
        high = frames if mask is None else frames.masked_fill(~mask, -torch.inf)
        low, high = low.amin(dim=(1, 2), keepdim=True), high.amax(dim=(1, 2), keepdim=True)
        return (frames - low) / (high - low).clamp(min=_MIN_SCALE)

    real = torch.ones_like(frames[:, :, :1]) if mask is None else mask.to(frames)
    n_values = real.sum(dim=(1, 2), keepdim=True) * frames.shape[2]
    centred = (frames - (frames * real).sum(dim=(1, 2), keepdim=True) / n_values) * real
    variance = centred.square().sum(dim=(1, 2), keepdim=True) / n_values
    return centred / (variance + _MIN_SCALE**2).sqrt()
