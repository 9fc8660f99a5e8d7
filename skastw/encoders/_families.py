"""The networks of transformers that are known: their settings, and the names of their weights.

A network is described by plain JSON. Of a ``config.json``, only the settings that define the network are kept. They are
checked, and the number of weights is compared with the checkpoint, before a network is built. Nothing that a file names
is imported.
"""

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta
from torch import Tensor, nn

from skastw.core.optional import import_optional
from skastw.core.text import did_you_mean
from skastw.errors import ComponentError
from skastw.storage.schema import Finite, check

#: Largest size in a description of a network, and sizes that decide about tensors which are computed, not stored.
_MAX_SIZE = 65536
_LIMITS = {"max_source_positions": 8192, "d_model": 8192, "window_size": 64}
_Size = Annotated[int, Meta(ge=0, le=_MAX_SIZE, description=f"an integer of 0 to {_MAX_SIZE}")]
_Word = Annotated[str, Meta(max_length=64, description="a short text")]
_Sizes = Annotated[list[_Size], Meta(max_length=64, description="a short list of integers")]
_Setting = bool | _Size | Finite | _Word | _Sizes | None
#: Types of the settings of a front end, by the types of their defaults.
_INPUTS: dict[type, Any] = {
    bool: bool,
    int: Annotated[int, Meta(ge=1, le=2**20, description=f"an integer of 1 to {2**20}")],
    float: Annotated[float, Meta(ge=-1e6, le=1e6, description="a number of -1e6 to 1e6")],
    str: _Word,
}


@dataclass(frozen=True)
class Family:
    """A kind of network.

    Attributes
    ----------
    name : str
        ``model_type`` in ``config.json``.
    config, model : str
        Classes of the library.
    front_end : str
        What the network takes: ``"samples"``, ``"kaldi"``, ``"whisper"``, ``"ast"`` or ``"clap"``. For networks of
        images, what they process: ``"maps"`` or ``"tokens"``.
    settings : tuple of str
        Settings that define the network. The others have their default, or the value in ``fixed``.
    fixed : mapping
        Settings that are the same for all networks, such as no masking of the input in training.
    inputs : mapping
        Settings of the front end that are kept, and their defaults, whose types they must have.
    prefixes : tuple of str
        Beginnings of the names of weights in checkpoints that have more than this network. Others are dropped.
    blocks, norm : str
        Place of the blocks and of the norm behind them; ``""`` without such a norm. It is the first norm of networks
        with ``do_stable_layer_norm=False``.
    layers : str
        Setting with the number of blocks; ``""`` if they have different widths.
    unused : str
        Pattern of names of weights that are only used in pretraining.
    renamed : tuple of pairs of str
        Patterns of names in recent releases of the library, and replacements that give the names in checkpoints.
    """

    name: str
    config: str
    model: str
    front_end: str
    settings: tuple[str, ...]
    inputs: Mapping[str, Any]
    prefixes: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    blocks: str = "encoder.layers"
    norm: str = "encoder.layer_norm"
    layers: str = "num_hidden_layers"
    unused: str = "masked_spec_embed"
    renamed: tuple[tuple[str, str], ...] = ()


_TRANSFORMER = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
_NO_MASKING = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "add_adapter": False,
}
_SAMPLES = (
    *_TRANSFORMER,
    "hidden_dropout",
    "activation_dropout",
    "attention_dropout",
    "feat_proj_dropout",
    "layer_norm_eps",
    "feat_extract_activation",
    "conv_dim",
    "conv_stride",
    "conv_kernel",
    "conv_bias",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
)
_NORMS = ("feat_extract_norm", "do_stable_layer_norm")


def _of_samples(name: str, stem: str, *settings: str, prefix: str = "", norm: str = "encoder.layer_norm") -> Family:
    """Return a family whose networks take samples, such as wav2vec 2.0."""
    return Family(
        name,
        f"{stem}Config",
        f"{stem}Model",
        "samples",
        (*_SAMPLES, *settings),
        {"sampling_rate": 16000, "do_normalize": True},
        (f"{prefix or name}.",),
        _NO_MASKING,
        norm=norm,
    )


def attention_names(place: str) -> tuple[tuple[str, str], ...]:
    """Return ``renamed`` for blocks whose queries, keys and values are in ``place`` of the attention in checkpoints."""
    return (
        (r"\.attention\.q_proj\.", f".attention.{place}.query."),
        (r"\.attention\.k_proj\.", f".attention.{place}.key."),
        (r"\.attention\.v_proj\.", f".attention.{place}.value."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    )


_ALL = (
    _of_samples("wav2vec2", "Wav2Vec2", *_NORMS, "adapter_attn_dim"),
    _of_samples("hubert", "Hubert", *_NORMS, "adapter_attn_dim", "feat_proj_layer_norm", "conv_pos_batch_norm"),
    _of_samples("wavlm", "WavLM", *_NORMS, "num_buckets", "max_bucket_distance"),
    _of_samples("unispeech-sat", "UniSpeechSat", *_NORMS, prefix="unispeech_sat"),
    _of_samples("data2vec-audio", "Data2VecAudio", "conv_pos_kernel_size", prefix="data2vec_audio", norm=""),
    Family(
        "wav2vec2-bert",
        "Wav2Vec2BertConfig",
        "Wav2Vec2BertModel",
        "kaldi",
        (
            *_TRANSFORMER,
            "feature_projection_input_dim",
            "hidden_dropout",
            "activation_dropout",
            "attention_dropout",
            "feat_proj_dropout",
            "layer_norm_eps",
            "position_embeddings_type",
            "left_max_position_embeddings",
            "right_max_position_embeddings",
            "conv_depthwise_kernel_size",
            "conformer_conv_dropout",
        ),
        {"sampling_rate": 16000, "num_mel_bins": 80, "stride": 2},
        ("wav2vec2_bert.",),
        {**_NO_MASKING, "use_intermediate_ffn_before_adapter": False},
        norm="",
    ),
    Family(
        "whisper",
        "WhisperConfig",
        "models.whisper.modeling_whisper.WhisperEncoder",
        "whisper",
        (
            "d_model",
            "encoder_layers",
            "encoder_attention_heads",
            "encoder_ffn_dim",
            "activation_function",
            "dropout",
            "attention_dropout",
            "activation_dropout",
            "scale_embedding",
            "num_mel_bins",
            "max_source_positions",
        ),
        {"sampling_rate": 16000, "n_fft": 400, "hop_length": 160},
        ("model.encoder.", "encoder."),
        {"encoder_layerdrop": 0.0},
        blocks="layers",
        norm="layer_norm",
        layers="encoder_layers",
    ),
    Family(
        "audio-spectrogram-transformer",
        "ASTConfig",
        "ASTModel",
        "ast",
        (
            *_TRANSFORMER,
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "layer_norm_eps",
            "qkv_bias",
            "patch_size",
            "frequency_stride",
            "time_stride",
            "max_length",
            "num_mel_bins",
        ),
        {"sampling_rate": 16000, "do_normalize": True, "mean": -4.2677393, "std": 4.5689974},
        ("audio_spectrogram_transformer.",),
        blocks="encoder.layer",
        norm="layernorm",
        renamed=((r"^layers\.", "encoder.layer."), *attention_names("attention")),
    ),
    Family(
        "clap_audio_model",
        "ClapAudioConfig",
        "ClapAudioModel",
        "clap",
        (
            "window_size",
            "num_mel_bins",
            "spec_size",
            "hidden_act",
            "patch_size",
            "patch_stride",
            "hidden_size",
            "depths",
            "num_attention_heads",
            "hidden_dropout_prob",
            "patch_embed_input_channels",
            "flatten_patch_embeds",
            "patch_embeds_hidden_size",
            "enable_patch_layer_norm",
            "drop_path_rate",
            "attention_probs_dropout_prob",
            "qkv_bias",
            "mlp_ratio",
            "layer_norm_eps",
        ),
        {
            "sampling_rate": 48000,
            "hop_length": 480,
            "max_length_s": 10.0,
            "fft_window_size": 1024,
            "frequency_min": 0.0,
            "frequency_max": 14000.0,
            "truncation": "fusion",
            "padding": "repeatpad",
        },
        ("audio_model.",),
        {"enable_fusion": False, "fusion_type": None},
        blocks="audio_encoder.layers",
        norm="audio_encoder.norm",
        layers="",
        unused=r"audio_encoder\.patch_embed\.(fusion_model|mel_conv2d)\..*",
    ),
)
FAMILIES = {family.name: family for family in _ALL}


def transformers_class(name: str) -> Any:
    """Return a class of transformers by its name, which may include its module."""
    place, _, name = name.rpartition(".")
    module = ".".join(filter(None, ("transformers", place)))
    return getattr(import_optional(module, extra="pretrained", purpose="A network of transformers"), name)


def read_config(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a ``config.json`` that define the network, with ``model_type``, as plain JSON.

    Parameters
    ----------
    document : mapping
        A ``config.json`` of transformers, or a result of this function.

    Raises
    ------
    ComponentError
        If the network is unknown, or a setting is not valid.
    """
    if document.get("model_type") == "clap":
        inner = document.get("audio_config")
        document = {**(inner if isinstance(inner, dict) else {}), "model_type": "clap_audio_model"}
    name = document.get("model_type")
    if name not in FAMILIES:
        known = sorted([*FAMILIES, "clap"])
        meant = did_you_mean(name, known) if isinstance(name, str) else ""
        raise ComponentError(
            f"Got config with model_type={name!r:.100}, expected one of {', '.join(known)}{meant or '.'}"
        )

    return read_settings(FAMILIES[name], document)


def read_settings(family: Family, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that define a network, with ``model_type``; see :func:`read_config`.

    Parameters
    ----------
    family : Family
    document : mapping
        A ``config.json`` of transformers. A missing setting has the default of transformers.
    """
    known = _checked(document, family.settings, "config")
    config = network_config(family, known)
    settings = {key: getattr(config, key) for key in family.settings if hasattr(config, key)}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    if plain.get("position_embeddings_type", "relative_key") not in ("relative_key", None):
        raise ComponentError(
            f"Got config with position_embeddings_type={plain['position_embeddings_type']!r}, expected 'relative_key' "
            "or None."
        )
    return {"model_type": family.name, **_checked(plain, family.settings, "config")}


def read_inputs(family: Family, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a network of ``family`` needs, as plain JSON.

    Parameters
    ----------
    family : Family
    document : mapping
        A ``preprocessor_config.json`` of transformers, or a result of this function. A missing setting has the default
        of transformers.

    Raises
    ------
    ComponentError
        If a setting is not valid.
    """
    inputs = dict(family.inputs)
    for name, default in family.inputs.items():
        if name in document:
            inputs[name] = check(document[name], _INPUTS[type(default)], "preprocessor", ComponentError, place=name)
    if inputs.get("std", 1.0) <= 0:
        raise ComponentError(f"Got preprocessor with std={inputs['std']}, expected a positive number.")
    return inputs


def _checked(document: Mapping[str, Any], names: Iterable[str], what: str) -> dict[str, Any]:
    """Return the settings ``names`` of a document."""
    chosen = {name: document[name] for name in names if name in document}
    checked = check(chosen, dict[str, _Setting], what, ComponentError)
    for name, limit in _LIMITS.items():
        if name in chosen and not (type(chosen[name]) is int and chosen[name] <= limit):
            raise ComponentError(
                f"Got {what} with {name}={chosen[name]!r:.100}, expected an integer of at most {limit}."
            )
    return checked


def network_config(family: Family, settings: Mapping[str, Any]) -> Any:
    """Return the config object of the library with ``settings`` for a network of ``family``."""
    make = transformers_class(family.config)
    try:
        return make(**{name: settings[name] for name in family.settings if name in settings}, **family.fixed)
    except Exception as error:  # of a type of the library
        raise _impossible(family, error) from error


def build_network(family: Family, settings: Mapping[str, Any]) -> nn.Module:
    """Return a network of ``family`` with ``settings``, with weights drawn from torch's random generator."""
    config, make = network_config(family, settings), transformers_class(family.model)
    try:
        return make(config)
    except (ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _impossible(family, error) from error


def _impossible(family: Family, error: Exception) -> ComponentError:
    reason = " ".join(str(error).split())[:300]
    return ComponentError(f"Got config of a {family.name} network that cannot be built: {reason}")


# ------------------------------------------------------------------ names of weights


def checkpoint_name(family: Family, name: str) -> str:
    """Return the name in checkpoints of a weight of a network of ``family``; ``name`` depends on the release."""
    for pattern, replacement in family.renamed:
        name = re.sub(pattern, replacement, name)
    return name


def keep_checkpoint_names(module: Any) -> None:
    """Give the weights of ``module.network`` the names of ``module.family`` in checkpoints when they are saved.

    The names are then the same in all releases of the library.
    """
    if module.family.renamed:
        module.register_state_dict_post_hook(_rename)
        module.register_load_state_dict_pre_hook(_rename_back)


def _rename(module: Any, state: MutableMapping[str, Tensor], prefix: str, _: Any) -> None:
    start = f"{prefix}network."
    for name in [name for name in state if name.startswith(start)]:
        state[start + checkpoint_name(module.family, name.removeprefix(start))] = state.pop(name)


def _rename_back(module: Any, state: MutableMapping[str, Tensor], prefix: str, *_: Any) -> None:
    start = f"{prefix}network."
    for name, _ in [*module.network.named_parameters(), *module.network.named_buffers()]:
        stored = start + checkpoint_name(module.family, name)
        if stored in state:
            state[start + name] = state.pop(stored)


def names_of_network(family: Family, names: Iterable[str]) -> dict[str, str]:
    """Return the weights of a checkpoint that belong to the network, with their names in it.

    Heads, decoders, other networks in the checkpoint and weights that are only used in pretraining are left out. Weight
    norm has had two pairs of names.

    Parameters
    ----------
    family : Family
    names : iterable of str
        All names in the checkpoint.

    Returns
    -------
    dict of str to str
        Name in the network, as in :func:`checkpoint_name`, to name in the checkpoint.
    """
    names = list(names)
    prefix = next((item for item in family.prefixes if any(name.startswith(item) for name in names)), "")
    inner = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    used = {key: name for key, name in inner.items() if not re.fullmatch(family.unused, key)}
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        used = {key.replace(f".parametrizations.weight.{new}", f".{old}"): name for key, name in used.items()}
    return used
