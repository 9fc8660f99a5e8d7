"""The weights from which training starts: random ones, those of a checkpoint, or those of another model."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from skastw.core.compiler import import_compiler
from skastw.core.component import Component, component_to_config
from skastw.core.generators import OwnDraws, seeded_generators
from skastw.core.warn import warn_user
from skastw.encoders import PretrainedEncoder
from skastw.errors import ArtifactError, WeightsError
from skastw.features import Features, FeaturesModule, Precomputed
from skastw.network.components import Components
from skastw.network.model import AudioModel, load_weights
from skastw.network.trained import Trained
from skastw.targets import Targets


@dataclass(frozen=True)
class Start:
    """Where the weights of a network come from before training.

    Attributes
    ----------
    trained : Trained, optional
        Fitted model, whose weights the network gets.
    train : str
        Which layers of ``trained`` are trained further: ``"all"``, ``"none"`` (only the head) or, for example,
        ``"top-4"``.
    fitted : Trained, optional
        The present fitted model of the estimator. Its weights replace those of a checkpoint that cannot be read.
    """

    trained: Trained | None = None
    train: str = "all"
    fitted: Trained | None = None

    def build_front_end(self, components: Components, seed: int) -> FeaturesModule:
        """Return the front end of a network with its weights; random weights are drawn with ``seed``."""
        features = components.features
        if self.trained is not None and not components.precomputed:
            return _further(self.trained, features, components.sample_rate, seed)

        same = self.fitted is not None and _is_same(features, self.fitted.components.features)
        fitted = self.fitted.model.features if self.fitted and same else None
        return build_front_end(features, components.sample_rate, seed=seed, fitted=fitted)

    def give(self, model: AudioModel, components: Components, targets: Targets) -> dict[Tensor, float]:
        """Give a new network its weights, and exclude those from training that the parameters name.

        Returns
        -------
        dict of Tensor to float
            The weights that come from a checkpoint, with the factors of their learning rates.
        """
        encoder, modules = components.encoder, _encoders(model)
        if self.trained is not None:
            transfer_weights(self.trained, model, targets)
        else:
            same = self.fitted is not None and _is_same(encoder, self.fitted.components.encoder)
            fitted = _encoders(self.fitted.model) if self.fitted and same else [None] * len(modules)
            for module, earlier in zip(modules, cycle(fitted), strict=False):  # their number may have changed
                load_weights(module, starting_weights(encoder, earlier), encoder)

        factors: dict[Tensor, float] = {}
        if isinstance(encoder, PretrainedEncoder) and encoder.weights is not None:
            for module in modules:
                train_top(module.parts_in_order(), encoder.train)
                factors |= factors_by_depth(module.parts_in_order(), encoder.layer_decay)
        if self.trained is not None:
            for module in modules:
                train_top(module.parts_in_order(), self.train)
        if self.trained is not None and self.train == "none":
            for part in (model.features, model.encoder, model.pooling):
                part.requires_grad_(False)
        return factors


def build_front_end(
    features: Features, sample_rate: int, *, seed: int = 0, fitted: nn.Module | None = None
) -> FeaturesModule:
    """Return a front end with its weights.

    Parameters
    ----------
    features : Features
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    seed : int, default=0
        Seed of random weights.
    fitted : Module, optional
        See :func:`starting_weights`.

    Raises
    ------
    WeightsError
        If a checkpoint cannot be read.
    """
    module = _built(features, sample_rate, seed)
    load_weights(module, starting_weights(features, fitted), features)
    return module


def _built(features: Features, sample_rate: int, seed: int) -> FeaturesModule:
    import_compiler()  # otherwise the first operation under OwnDraws imports it
    with OwnDraws(seeded_generators(seed, torch.device("cpu"))):
        return features.build(sample_rate)


def _further(start: Trained, features: Features, sample_rate: int, seed: int) -> FeaturesModule:
    """Return a front end with the weights of ``start``, whose front end or sample rate may be another one."""
    theirs = start.components
    if not features.trainable and theirs.sample_rate == sample_rate and _is_same(features, theirs.features):
        return copy.deepcopy(start.model.features)  # quicker than to build a large encoder again
    module = _built(features, sample_rate, seed)
    load_weights(module, start.model.features.state_dict(), features)
    return module


def _is_same(component: Component, other: Component) -> bool:
    return component_to_config(component) == component_to_config(other)


def _encoders(model: AudioModel) -> list[Any]:
    return [model.encoder] if model.n_models == 1 else list(model.encoder)


def check_front_end(start: Trained, features: Features) -> None:
    """Raise ArtifactError unless the model to start from has the front end ``features`` of the new model."""
    theirs, ours = component_to_config(start.components.features), component_to_config(features)
    if theirs != ours and not isinstance(features, Precomputed):
        raise ArtifactError(f"The model of init_from has the front end {theirs}, expected {ours}.")


def starting_weights(component: Component, fitted: nn.Module | None) -> Mapping[str, Tensor]:
    """Return the weights that a component starts from, by name; none if they are random.

    Parameters
    ----------
    component : Component
    fitted : Module, optional
        Module of the same component in a model that was fitted before. Its weights are used if the checkpoint cannot be
        read.

    Raises
    ------
    WeightsError
        If the checkpoint cannot be read, and ``fitted`` is None.
    """
    try:
        return component.initial_weights()
    except WeightsError as error:
        if fitted is None:
            raise
        warn_user(f"{str(error).removesuffix('.')}. Training starts from the weights of the fitted model instead.")
        return fitted.state_dict()


def train_top(layers: Sequence[nn.Module], train: str) -> None:
    """Exclude all but the last ``layers`` from training: ``train`` is "none", "all" or, for example, "top-4".

    Examples
    --------
    >>> from torch import nn
    >>> from skastw.training.transfer import train_top
    >>> layers = [nn.Linear(1, 1), nn.Linear(1, 1)]
    >>> train_top(layers, "top-1")
    >>> [layer.weight.requires_grad for layer in layers]
    [False, True]
    """
    n_trained = {"none": 0, "all": len(layers)}.get(train)
    n_trained = int(train.removeprefix("top-")) if n_trained is None else n_trained
    for layer in layers[: max(0, len(layers) - n_trained)]:
        layer.requires_grad_(False)


def factors_by_depth(layers: Sequence[nn.Module], decay: float) -> dict[Tensor, float]:
    """Return the factor of the learning rate of each weight: 1 in the last of the ``layers``, ``decay`` before it, ...

    Examples
    --------
    >>> from torch import nn
    >>> from skastw.training.transfer import factors_by_depth
    >>> list(factors_by_depth([nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)], 0.5).values())
    [0.5, 1.0]
    """
    last = len(layers) - 1
    return {weight: decay ** (last - i) for i, layer in enumerate(layers) for weight in layer.parameters()}


def transfer_weights(start: Trained, model: AudioModel, targets: Targets) -> None:
    """Copy the weights of ``start`` to a new model, except the head if the labels differ.

    Parameters
    ----------
    start : Trained
        Fitted model.
    model : AudioModel
        New network, which gets the weights.
    targets : Targets
        Targets of the new model.

    Raises
    ------
    ArtifactError
        If the networks do not match. The message names the first weight that differs.
    """
    own = model.state_dict()  # the side vector is fitted again
    weights = {name: value for name, value in start.model.state_dict().items() if not name.startswith("side.")}
    transferred = own.keys() | {name for name in weights if name in own or not name.startswith("features.")}
    if (start.targets.name, start.targets.to_json()) != (targets.name, targets.to_json()):
        transferred -= {name for name in transferred if name.startswith("head.")}

    for name in sorted(transferred):
        theirs, ours = (tuple(tensors[name].shape) if name in tensors else None for tensors in (weights, own))
        if theirs != ours:
            raise ArtifactError(
                f"The weights to start from have {name} of shape {theirs}, expected {ours}: set encoder, pooling, "
                "features, sample_rate and chunk_length of the estimator as in the model that it starts from."
            )
    model.load_state_dict({name: weights[name] for name in transferred}, strict=False)
