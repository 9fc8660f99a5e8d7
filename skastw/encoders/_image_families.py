"""The networks of transformers for images that are known: their settings, and those of well-known networks."""

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any

from msgspec import Meta

from skastw.encoders._families import Family, attention_names
from skastw.errors import ComponentError
from skastw.storage.schema import Finite, check

#: Largest number of frames for each output.
_MAX_STRIDE = 1024
_Values = Annotated[list[Finite], Meta(min_length=1, max_length=64, description="a list of numbers")]
_INPUTS = {"image_mean": [0.5], "image_std": [0.5]}
_PATCHES = (
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
    "qkv_bias",
)


def _family(name: str, stem: str, *settings: str, unused: str, renamed: tuple[tuple[str, str], ...] = ()) -> Family:
    """Return the description of a kind of network."""
    return Family(
        name,
        f"{stem}Config",
        f"{stem}Model",
        "tokens" if renamed else "maps",
        settings,
        _INPUTS,
        (f"{name}.",),
        blocks="",
        norm="",
        layers="",
        unused=f"(classifier|pooler|decoder)\\..*|{unused}",
        renamed=renamed,
    )


_ALL = (
    _family(
        "resnet",
        "ResNet",
        "num_channels",
        "embedding_size",
        "hidden_sizes",
        "depths",
        "layer_type",
        "hidden_act",
        "downsample_in_first_stage",
        "downsample_in_bottleneck",
        unused="",
    ),
    _family(
        "convnext",
        "ConvNext",
        "num_channels",
        "patch_size",
        "num_stages",
        "hidden_sizes",
        "depths",
        "hidden_act",
        "layer_scale_init_value",
        "drop_path_rate",
        unused=r"layernorm\..*",
    ),
    _family(
        "efficientnet",
        "EfficientNet",
        "num_channels",
        "width_coefficient",
        "depth_coefficient",
        "depth_divisor",
        "kernel_sizes",
        "in_channels",
        "out_channels",
        "depthwise_padding",
        "strides",
        "num_block_repeats",
        "expand_ratios",
        "squeeze_expansion_ratio",
        "hidden_act",
        "hidden_dim",
        "batch_norm_eps",
        "drop_connect_rate",
        unused="",
    ),
    _family(
        "vit",
        "ViT",
        *_PATCHES,
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        unused=r"embeddings\.mask_token",
        renamed=((r"^layers\.", "encoder.layer."), *attention_names("attention")),
    ),
    _family(
        "swin",
        "Swin",
        *_PATCHES,
        "embed_dim",
        "depths",
        "num_heads",
        "window_size",
        "mlp_ratio",
        "drop_path_rate",
        unused=r"embeddings\.mask_token|.*\.relative_position_index",
        renamed=((r"\.attention\.relative_position_bias\.", ".attention.self."), *attention_names("self")),
    ),
)
IMAGE_FAMILIES = {family.name: family for family in _ALL}


def _resnet(depths: list[int], width: int = 64, layer_type: str = "basic") -> dict[str, Any]:
    sizes = {"hidden_sizes": [width * 2**stage for stage in range(len(depths))], "depths": depths}
    return {"model_type": "resnet", "num_channels": 1, "layer_type": layer_type, **sizes}


def _convnext(depths: list[int], width: int) -> dict[str, Any]:
    sizes = {"hidden_sizes": [width * 2**stage for stage in range(len(depths))], "depths": depths}
    return {"model_type": "convnext", "num_channels": 1, **sizes}


def _efficientnet(width: float, depth: float) -> dict[str, Any]:
    sizes = {"width_coefficient": width, "depth_coefficient": depth, "hidden_dim": 1280}
    return {"model_type": "efficientnet", "num_channels": 1, **sizes}


def _vit(width: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    return {"model_type": "vit", "num_channels": 1, **sizes}


#: Settings of well-known networks, for pictures with one channel.
ARCHITECTURES = {
    "resnet-10": _resnet([1, 1, 1, 1]),
    "resnet-18": _resnet([2, 2, 2, 2]),
    "resnet-34": _resnet([3, 4, 6, 3]),
    "resnet-50": _resnet([3, 4, 6, 3], 256, "bottleneck"),
    "convnext-atto": _convnext([2, 2, 6, 2], 40),
    "convnext-nano": _convnext([2, 2, 8, 2], 80),
    "convnext-tiny": _convnext([3, 3, 9, 3], 96),
    "efficientnet-b0": _efficientnet(1.0, 1.0),
    "efficientnet-b1": _efficientnet(1.0, 1.1),
    "vit-tiny": _vit(192),
    "vit-small": _vit(384),
    "vit-base": _vit(768),
    "swin-tiny": {"model_type": "swin", "num_channels": 1},
}


def read_image_inputs(document: Mapping[str, Any] | None) -> dict[str, list[float]]:
    """Return the mean and the deviation of images, as plain JSON.

    Parameters
    ----------
    document : mapping, optional
        A ``preprocessor_config.json`` of transformers. A missing setting is 0.5.

    Examples
    --------
    >>> from skastw.encoders._image_families import read_image_inputs
    >>> read_image_inputs({"image_mean": [0.5, 0.4, 0.4], "size": 224})
    {'image_mean': [0.5, 0.4, 0.4], 'image_std': [0.5]}
    """
    document = document or {}
    if document.get("do_normalize") is False:
        document = {"image_mean": [0.0], "image_std": [1.0]}
    chosen = {name: document.get(name, default) for name, default in _INPUTS.items()}
    checked = check(chosen, dict[str, _Values], "preprocessor", ComponentError)
    if min(checked["image_std"]) <= 0:
        raise ComponentError(f"Got preprocessor with image_std={checked['image_std']}, expected positive numbers.")
    return checked


def image_stride(config: Mapping[str, Any]) -> int:
    """Return the number of frames, and of frequency bins, for each position of the last map of a network.

    Parameters
    ----------
    config : mapping
        Settings of the network, with ``model_type``.
    """
    name, patch = config["model_type"], config.get("patch_size")
    for key in ("hidden_sizes", "depths", "strides"):
        if not isinstance(config.get(key, []), list):
            raise ComponentError(f"Got config with {key}={config[key]!r}, expected a list of integers.")

    if name == "resnet":
        stride = 2 ** (1 + len(config["hidden_sizes"]) + bool(config["downsample_in_first_stage"]))
    elif name == "efficientnet":
        stride = 2 * prod(config["strides"])
    elif not isinstance(patch, int) or not isinstance(config.get("image_size", 0), int):
        raise ComponentError(
            f"Got config with patch_size={patch!r} and image_size={config.get('image_size')!r}, expected integers."
        )
    else:
        n_stages = {"vit": 1, "swin": len(config.get("depths", [])), "convnext": config.get("num_stages", 0)}[name]
        stride = patch * 2 ** (n_stages - 1)
    if not 1 <= stride <= _MAX_STRIDE:
        raise ComponentError(
            f"Got config of a {name} network with {stride} frames for each output, expected 1 to {_MAX_STRIDE}."
        )
    return stride
