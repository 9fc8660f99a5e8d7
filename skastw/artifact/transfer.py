"""Starting from weights that were trained before, by the user and on other clips."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from skastw.artifact.folder import FETCHED, StoredArtifact, read_artifact
from skastw.core.component import component_to_config
from skastw.errors import ArtifactError
from skastw.features import Features, Precomputed
from skastw.network.model import AudioModel
from skastw.storage import hub

__all__ = ["Start", "start_from", "transfer_weights"]


@dataclass(frozen=True)
class Start:
    """Weights to start from, and the labels that they were trained for.

    Attributes
    ----------
    weights : dict of str to Tensor
    labels : dict
        As in ``labels.json``.
    """

    weights: dict[str, Tensor]
    labels: dict[str, Any]


def start_from(model: str | os.PathLike[str], features: Features) -> Start:
    """Read the weights of a saved model.

    Parameters
    ----------
    model : path or str
        A folder, or a repository of the Hub.
    features : Features
        The front end of the new model, which must be that of the saved one.

    Returns
    -------
    Start

    Raises
    ------
    ArtifactError
        If the model cannot be read, or hears with another front end.
    HubError
        If the repository cannot be read.
    """
    artifact, weights = hub.read(model, FETCHED, _with_weights)
    theirs, ours = artifact.config.get("features"), component_to_config(features)
    if theirs != ours and not isinstance(features, Precomputed):
        raise ArtifactError(f"init_from={str(model)!r} has the front end {theirs}, expected {ours}.")
    return Start(weights, artifact.labels)


def _with_weights(folder: Path) -> tuple[StoredArtifact, dict[str, Tensor]]:
    artifact = read_artifact(folder)
    return artifact, artifact.weights.read()


def transfer_weights(start: Start, model: AudioModel, labels: dict[str, Any]) -> None:
    """Give a fresh model the weights of ``start``; its head stays fresh when the labels differ.

    Parameters
    ----------
    start : Start
    model : AudioModel
    labels : dict
        Those of the new model, as in ``labels.json``.

    Raises
    ------
    ArtifactError
        If the networks do not match, naming the first weight that differs.
    """
    own = model.state_dict()
    transferred = own.keys() | start.weights.keys()
    if start.labels != labels:
        transferred -= {name for name in transferred if name.startswith("head.")}
    for name in sorted(transferred):
        found = tuple(start.weights[name].shape) if name in start.weights else None
        expected = tuple(own[name].shape) if name in own else None
        if found != expected:
            raise ArtifactError(
                f"The weights to start from have {name} of shape {found}, expected {expected}: give the estimator the "
                "encoder, pooling, features, sample_rate and chunk_length of the model that it starts from."
            )
    model.load_state_dict({name: start.weights[name] for name in transferred}, strict=False)
