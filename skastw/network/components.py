"""The components of a model: the parameters that define a network, and the frozen value that is built from them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from skastw.augment import AUTO, Augment, listed_augmentations
from skastw.core.component import (
    SLOTS,
    Component,
    component_base,
    component_from_config,
    component_names,
    component_to_config,
    resolve_component,
)
from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.text import without_folders
from skastw.encoders import Encoder, IdentityEncoder
from skastw.errors import ArtifactError, ComponentError, plain
from skastw.features import Features, FeaturesModule, Frozen, Precomputed, Waveform, WholeClipFeatures
from skastw.network.model import AudioModel, build_model
from skastw.normalization import Normalization
from skastw.pooling import Pooling

C = TypeVar("C", bound=Component)

#: Largest number of augmentations. A folder from an untrusted source may list any number.
MAX_AUGMENTATIONS = 64


def _names(kind: str) -> str:
    """Return the names of a kind of component, for the documentation of its parameter."""
    return ", ".join(f'``"{name}"``' for name in component_names(kind))


@parameters
class ModelParams:
    """Parameters that define a network."""

    sample_rate: int = param(
        default=16000,
        valid=[integers(1000, 1_000_000)],
        doc="Sampling rate of the waveforms that the model takes (Hz). Clips are resampled to it. An array without a "
        "sampling rate must have it already.",
    )
    chunk_length: float = param(
        default=30.0,
        valid=[reals(0, 3600, closed="right")],
        doc="Longest part of a clip that the encoder processes at once (s). In training, each epoch draws a random "
        "chunk of a longer clip. Predictions average over consecutive chunks that cover the whole clip.",
    )
    features: str | Features = param(
        default="log_mel",
        valid=[str, Features],
        doc=f"Front end, which computes frames from a waveform: {_names('features')}. With "
        '``"precomputed"``, X contains frames instead of clips, for example from :class:`ASTWFeaturizer`.',
    )
    augment: str | Augment | list[Any] | None = param(
        default="auto",
        valid=[str, Augment, "array-like", None],
        doc="Augmentation of the training batches, or a list of augmentations, which are applied in this order, first "
        f"to waveforms, then to frames: {_names('augment')}. None switches augmentation off. "
        f'``"auto"`` stands for {", ".join(AUTO[True])} with log-mel frames, spec_augment with others, and '
        "nothing with a single frame for each clip.",
    )
    normalization: str | Normalization = param(
        default="per_bin",
        valid=[str, Normalization],
        doc='Normalization of the frames before the encoder: ``"per_bin"`` standardises each bin by its mean and '
        'standard deviation in the training clips, ``"per_clip"`` each clip by its own, ``"relaxed"`` averages the two '
        'for each bin, ``"level"`` subtracts the mean of each clip, and ``"none"`` changes nothing.',
    )
    encoder: str | Encoder = param(
        default="astw",
        valid=[str, Encoder],
        doc=f"Network that turns frames into a sequence of vectors: {_names('encoder')}. Its parameters can be set "
        "through the estimator, for example as ``encoder__d_model``.",
    )
    pooling: str | Pooling = param(
        default="mean",
        valid=[str, Pooling],
        doc=f"Pooling of the vectors of a clip into one embedding: {_names('pooling')}.",
    )
    side: str | Features | None = param(
        default=None,
        valid=[str, Features, None],
        doc='Front end that gives one vector for each clip, such as ``"descriptors"`` or ``"statistics"``. A linear '
        "layer on this side vector is fitted to the training clips, and its outputs are averaged with those of the "
        "network; see ``side_share``. None has no side vector.",
    )
    n_models: int = param(
        default=1,
        valid=[integers(1, 64)],
        doc="Number of networks that are trained side by side from different initial weights. Predictions average "
        "their outputs. Time and model size grow with this number.",
    )


@dataclass(frozen=True)
class Components:
    """The checked components of a model, and the other values that define its network.

    Attributes
    ----------
    features, normalization, encoder, pooling : component
    augment : tuple of Augment
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    chunk_length : float
        Longest part of a clip that the encoder processes at once (s).
    side : Features or None
        Front end of the side vector.
    n_models : int
        Number of networks that are trained side by side.
    dtype : torch.dtype
        Number format of the weights.
    """

    features: Features
    augment: tuple[Augment, ...]
    normalization: Normalization
    encoder: Encoder
    pooling: Pooling
    side: Features | None
    sample_rate: int
    chunk_length: float
    n_models: int
    dtype: torch.dtype

    @property
    def parts(self) -> dict[str, Component]:
        """The components of the network by the parameter that holds each, in the order in which a clip passes them."""
        parts = {slot: getattr(self, slot) for slot in SLOTS if slot != "augment"}
        return {slot: part for slot, part in parts.items() if part is not None}

    @property
    def precomputed(self) -> bool:
        """Whether X contains frames instead of clips."""
        return isinstance(self.features, Precomputed)

    @property
    def in_step(self) -> bool:
        """Whether the front end runs in each training step: it is trained, or an augmentation changes waveforms."""
        return self.features.trainable or any(augmentation.stage == "waveform" for augmentation in self.augment)

    @property
    def stored(self) -> Features:
        """The front end whose frames ``fit`` computes once and keeps: the model's own, or ``waveform``."""
        return Waveform() if self.in_step else self.features

    def build(
        self,
        n_outputs: int,
        front_end: FeaturesModule | None = None,
        n_features: int | None = None,
        *,
        with_side: bool = True,
        side_front_end: FeaturesModule | None = None,
    ) -> AudioModel:
        """Return a new network, whose weights are drawn from torch's random generator.

        Parameters
        ----------
        n_outputs : int
        front_end : FeaturesModule, optional
            The built front end; by default a new one.
        n_features : int, optional
            Number of values in a frame, for precomputed frames.
        with_side : bool, default=True
            Whether to add the linear layer on the side vector, which is fitted separately.
        side_front_end : FeaturesModule, optional
            The built front end of the side vector; by default a new one.
        """
        return build_model(
            self.features,
            self.normalization,
            self.encoder,
            self.pooling,
            n_outputs=n_outputs,
            sample_rate=self.sample_rate,
            chunk_length=self.chunk_length,
            front_end=front_end,
            n_features=n_features,
            n_models=self.n_models,
            side=self.side if with_side else None,
            side_front_end=side_front_end,
        )

    @property
    def sources(self) -> list[dict[str, str]]:
        """Where the pretrained weights come from; see :meth:`skastw.core.component.Component.sources`."""
        return [source for part in self.parts.values() for source in part.sources()]

    def without_folders(self) -> Components:
        """Return components with the parameters that a saved model keeps; absolute paths are file names in them.

        Saved models are published.
        """
        parts: dict[str, Any] = {slot: _published(part) for slot, part in self.parts.items()}
        return replace(self, **parts, augment=tuple(map(_published, self.augment)))

    def to_config(self) -> dict[str, Any]:
        """Return the components as JSON values, by the parameter that holds each."""
        augment = [component_to_config(item) for item in self.augment]
        return {**{slot: component_to_config(part) for slot, part in self.parts.items()}, "augment": augment}


def _published(component: C) -> C:
    """Return a component with its saved parameters, without the folders of absolute paths."""
    params = without_folders(component.saved_params())
    return type(component)(**{name: _published_value(value) for name, value in params.items()})


def _published_value(value: Any) -> Any:
    """Return a parameter without the folders of absolute paths; it may contain components."""
    if isinstance(value, Component):
        return _published(value)
    return [_published_value(item) for item in value] if isinstance(value, list) else value


def components_from_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return components from the JSON values of :meth:`Components.to_config`, as parameters of an estimator.

    Raises
    ------
    ArtifactError, ComponentError
        If a component is not valid.
    """
    listed = config["augment"]
    if not isinstance(listed, list):
        raise ArtifactError(f"config.json has augment: {listed!r:.80}, expected a list.")
    if len(listed) > MAX_AUGMENTATIONS:
        raise ArtifactError(f"config.json has {len(listed)} augmentations, expected at most {MAX_AUGMENTATIONS}.")
    slots = {slot: kind for slot, kind in SLOTS.items() if slot in config or slot != "side"}
    parts = {
        slot: component_from_config(component_base(kind), config[slot])
        for slot, kind in slots.items()
        if slot != "augment"
    }
    return {**parts, "augment": [component_from_config(Augment, item) for item in listed]}


def resolve_components(params: ModelParams, dtype: torch.dtype = torch.float32) -> Components:
    """Return the components as ``fit`` uses them; they do not change if the parameters are changed later.

    The settings of checkpoints are read. An encoder that is frozen becomes a part of the front end.

    Parameters
    ----------
    params : ModelParams
        Parameters, or an estimator that has them.
    dtype : torch.dtype, default=torch.float32
        Number format of the weights.

    Returns
    -------
    Components

    Raises
    ------
    ComponentError
        If a component is unknown, has a parameter that is not valid, or cannot be combined with another one.
    WeightsError
        If a checkpoint cannot be read.

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.network.components import resolve_components
    >>> resolve_components(ASTWClassifier(encoder="rnn")).encoder
    RNNEncoder()
    """
    components = named_components(params, dtype)
    if components.encoder.frozen:  # its outputs never change, so they are computed once, like other frames
        frozen = Frozen(encoder=components.encoder, features=components.features, chunk_length=components.chunk_length)
        augment = tuple(_listed(params.augment, frozen))
        components = replace(components, features=frozen, encoder=IdentityEncoder(), augment=augment)

    rate, chunk_length = components.sample_rate, components.chunk_length
    parts: dict[str, Any] = {slot: part.resolved(rate, chunk_length) for slot, part in components.parts.items()}
    return _checked(replace(components, **parts))


def named_components(params: ModelParams, dtype: torch.dtype = torch.float32) -> Components:
    """Return the components that the parameters are or name. No file is read.

    Parameters
    ----------
    params : ModelParams
        Parameters, or an estimator that has them.
    dtype : torch.dtype, default=torch.float32
        Number format of the weights.

    Raises
    ------
    ComponentError
        If a component is unknown or has a parameter that is not valid.
    """
    listed = _listed(params.augment, resolve_component(Features, params.features))
    if len(listed) > MAX_AUGMENTATIONS:
        raise ComponentError(
            f"Got {len(listed)} augmentations, expected at most {MAX_AUGMENTATIONS}: remove repeated ones."
        )

    named = {slot: getattr(params, slot) for slot in SLOTS if slot != "augment"}
    parts: dict[str, Any] = {
        slot: None
        if value is None and slot == "side"
        else resolve_component(component_base(SLOTS[slot]), value, parameter=slot)
        for slot, value in named.items()
    }
    components = Components(
        **parts,
        augment=tuple(listed),
        sample_rate=plain(params.sample_rate),
        chunk_length=plain(params.chunk_length),
        n_models=plain(params.n_models),
        dtype=dtype,
    )
    for component in (*components.parts.values(), *components.augment):
        component.check_params()
    return copy.deepcopy(components)


def _listed(augment: Any, features: Features) -> list[Augment]:
    """Return the augmentations for frames of ``features``; by default none for a single frame that sums up the clip."""
    if isinstance(features, WholeClipFeatures) and isinstance(augment, str) and augment == "auto":
        return []
    return listed_augmentations(augment, log_mel=features.log_mel)


def _checked(components: Components) -> Components:
    """Return the components if they can be combined."""
    if components.precomputed and components.in_step:
        raise ComponentError(
            "Got an augmentation of waveforms with features='precomputed', expected a front end, because the frames in "
            "X cannot be computed again; remove the augmentation."
        )
    if components.side is not None and (
        components.precomputed or components.side.frames_per_second(components.sample_rate) > 0
    ):
        got = f"side={components.side.name!r} with features={components.features.name!r}"
        raise ComponentError(
            f"Got {got}, expected a side front end with one frame for each clip, such as 'descriptors', beside a front "
            "end that takes clips."
        )
    for augmentation in components.augment:
        if augmentation.log_mel and not components.features.log_mel:
            raise ComponentError(
                f"Got augment={augmentation.name!r} with features={components.features.name!r}, expected "
                "features='log_mel', because this augmentation changes log-mel bands or levels; set features='log_mel' "
                "or remove the augmentation."
            )
    return components
