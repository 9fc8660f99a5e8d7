"""Saving and loading of fitted models, as folders or as repositories on the Hugging Face Hub."""

import copy
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from msgspec import to_builtins

from skastw.artifact.card import model_card
from skastw.artifact.folder import FETCHED, Artifact, StoredArtifact, read_artifact, read_files, write_artifact
from skastw.artifact.weight_storage import WeightStorage, storage_from_config
from skastw.core.parameters import check_params
from skastw.core.shapes import ShapesOnly
from skastw.core.text import readable
from skastw.core.version import __version__
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError, WeightsError
from skastw.network.components import Components, ModelParams, components_from_config, named_components
from skastw.network.model import AudioModel, convert, count_parameters, frames_in_chunk
from skastw.network.trained import Trained, TrainingRecord
from skastw.storage import hub
from skastw.storage.outputs import scratch_folder
from skastw.storage.schema import check
from skastw.targets import targets_from_json

T = TypeVar("T")

#: ``model_type`` in ``config.json``, which other tools read.
_MODEL_TYPE = "skastw"
#: Largest number of labels that are repeated in ``config.json``.
_MAX_NAMED_LABELS = 10_000
#: Largest number of tensors in a front end whose weights are not stored.
_MAX_REFERENCED = 20_000


@dataclass(frozen=True)
class Loaded:
    """A model that was read from a folder.

    Attributes
    ----------
    trained : Trained
    estimator : str
        Name of the class that saved the model.
    params : dict
        Saved parameters of the estimator, with components as objects.
    """

    trained: Trained
    estimator: str
    params: dict[str, Any]


def save(
    trained: Trained,
    folder: str | os.PathLike[str],
    *,
    estimator: str,
    params: Mapping[str, Any],
    title: str | None = None,
    overwrite: bool = False,
    storage: WeightStorage | None = None,
) -> str:
    """Save a model to a folder, and return the folder.

    Parameters
    ----------
    trained : Trained
        Fitted model with a front end.
    folder : path
    estimator : str
        Name of the class that loads the model.
    params : mapping
        Parameters of the estimator to save, as JSON values.
    title : str, optional
        Name of the model in its model card; by default the name of the folder.
    overwrite : bool, default=False
        See :func:`skastw.artifact.folder.write_artifact`.
    storage : WeightStorage, optional
        How the weights are stored.
    """
    title = readable(" ".join((title or os.path.basename(os.path.realpath(folder))).split()))
    documents = to_documents(trained, title=title, estimator=estimator, params=params, storage=storage)
    return str(write_artifact(folder, documents, overwrite=overwrite))


def load(
    model: str | os.PathLike[str],
    build: Callable[[Loaded], T],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> T:
    """Load a model from a folder or from the Hub.

    Parameters
    ----------
    model : path or str
        A folder, or a repository ``"user/name"``.
    build : callable
        Function that takes the loaded model and returns the result, such as an estimator.
    revision, token, cache_dir : optional
        See :func:`skastw.storage.hub.fetch`.

    Raises
    ------
    ArtifactError
        If the folder is incomplete or inconsistent.
    HubError
        If the repository cannot be read.
    WeightsError
        If frozen weights that are not in the folder cannot be read.
    """

    def read(folder: Path) -> T:
        try:
            return build(from_documents(read_artifact(folder)))
        except (ArtifactError, WeightsError):
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{os.fspath(model)!r} is not a consistent model: {reason[:500]}") from error

    return hub.read(model, FETCHED, read, revision=revision, token=token, cache_dir=cache_dir)


def push(
    trained: Trained,
    repo_id: str,
    *,
    estimator: str,
    params: Mapping[str, Any],
    private: bool | None = None,
    token: str | None = None,
    storage: WeightStorage | None = None,
) -> str:
    """Save a model to a repository on the Hub, and return the URL of the commit.

    Parameters
    ----------
    trained, estimator, params
        See :func:`save`.
    repo_id : str
        ``"user/name"``; the repository is created if missing.
    private, token : optional
        See :func:`skastw.storage.hub.push`.
    storage : WeightStorage, optional
        How the weights are stored.
    """
    for source in trained.components.sources:
        if re.search(r"\bnc\b", licence := source.get("license", ""), re.IGNORECASE):
            warn_user(
                f"The weights {source['weights']!r} have the licence {licence!r}, which forbids commercial use. "
                f"It also applies to {repo_id!r}."
            )
    with scratch_folder(Path(tempfile.gettempdir())) as parent:
        target = parent / repo_id.rpartition("/")[2]
        folder = save(trained, target, estimator=estimator, params=params, storage=storage)
        return hub.push(read_files(folder), repo_id, private=private, token=token)


# ------------------------------------------------------------------ the content of the six files


def to_documents(
    trained: Trained, *, title: str, estimator: str, params: Mapping[str, Any], storage: WeightStorage | None = None
) -> Artifact:
    """Return the content of the six files.

    Parameters
    ----------
    trained : Trained
        Fitted model with a front end.
    title : str
        Name of the model in its model card.
    estimator : str
        Name of the class that loads the model.
    params : mapping
        Parameters to save, as JSON values.
    storage : WeightStorage, optional
        How the weights are stored.

    Returns
    -------
    Artifact
    """
    storage = storage or WeightStorage()
    weights = storage.stored(trained)
    trained = replace(trained, components=trained.components.without_folders())
    components, record, labels = trained.components, trained.record, list(map(str, trained.targets.labels))
    scores = to_builtins(record.test or record.validation or {})

    config = {
        "library": "skastw",
        "library_version": __version__,
        "model_type": _MODEL_TYPE,
        "estimator": estimator,
        "task": trained.targets.name,
        **_label_names(labels),
        **components.to_config(),
        "params": params,
        **({"sources": components.sources} if components.sources else {}),
        "seed": record.seed,
        "metrics": {
            name: score for name, score in scores.items() if isinstance(score, int | float) and name != "n_clips"
        },
        "n_parameters": count_parameters(trained.model),
        **storage.to_config(),
    }

    return Artifact(
        weights=weights,
        config=config,
        preprocessor=components.features.to_preprocessor(components.sample_rate, components.chunk_length),
        labels={"task": trained.targets.name, **trained.targets.to_json()},
        metrics=to_builtins(record),
        card=model_card(trained, title=title, estimator=estimator),
    )


def from_documents(stored: StoredArtifact) -> Loaded:
    """Return the model that is stored in the files of a folder.

    Raises
    ------
    ArtifactError, ComponentError, ValueError
        If a file is not valid, or the weights do not fit the network.
    """
    config = stored.config
    record = check(stored.metrics, TrainingRecord, "metrics.json", ArtifactError)
    targets = targets_from_json(stored.labels)
    params = check(config["params"], dict[str, Any], "config.json", ArtifactError, place="params")
    parts = components_from_config(config)
    if repeated := sorted(parts.keys() & params.keys()):
        raise ArtifactError(f"config.json has the parameters {repeated}, which {config['estimator']} does not save.")
    shape = ModelParams(
        **parts, **{name: params[name] for name in ("sample_rate", "chunk_length", "n_models") if name in params}
    )
    check_params(shape, config["estimator"])

    # the weights decide: the parameter precision may have been changed after fit
    head = stored.weights.specs.get("head.weight")
    dtype = torch.float64 if head is not None and head.dtype == "F64" else torch.float32
    components = named_components(shape, dtype)
    storage = storage_from_config(config)
    model = _load_model(stored, components, targets.n_outputs, storage)
    fitted_with = {**params, "batch_size": record.batch_size or params.get("batch_size")}
    trained = Trained(components, model, targets, record, fitted_with)
    return Loaded(trained, config["estimator"], {**params, **parts})


def _load_model(stored: StoredArtifact, components: Components, n_outputs: int, storage: WeightStorage) -> AudioModel:
    """Return the network with the stored weights, which are read only if they match the network."""
    # twice, because some encoders create one tensor from another
    n_others = _MAX_REFERENCED if storage.frozen == "reference" else 0
    rate, features, side = components.sample_rate, components.features, components.side
    # front ends that summarise whole clips have constants, which need values, and no weights
    front_end = None if features.frames_per_second(rate) else features.build(rate)
    side_front_end = None if side is None else side.build(rate)
    with ShapesOnly(most=2 * len(stored.weights.specs) + n_others):
        model = components.build(n_outputs, front_end, side_front_end=side_front_end)
    if not model.features.state_dict():  # a front end without weights computes its constants, which are not stored
        model.features = components.features.build(components.sample_rate)
    convert(model, components.dtype)
    stored.weights.check(storage.expected(model))
    tensors = storage.restored(model, stored.weights.read(), components)
    try:
        model.load_state_dict(tensors, assign=True)
    except WeightsError as error:  # a component refuses what the folder holds
        raise ArtifactError(f"The weights of the folder cannot be used: {error}") from error
    return model.eval()


def with_front_end(trained: Trained, featurizer: Any) -> Trained:
    """Return a model that takes clips. If it was fitted with precomputed frames, it gets their front end.

    Parameters
    ----------
    trained : Trained
    featurizer : ASTWFeaturizer or None

    Raises
    ------
    ArtifactError
        If the model was fitted with precomputed frames, and the featurizer is missing or does not match.
    """
    components = trained.components
    if not components.precomputed:
        return trained
    if featurizer is None or getattr(featurizer, "output", None) != "frames":
        raise ArtifactError(
            "A model that was fitted with precomputed frames cannot be saved alone, because it does not know how the "
            "frames were computed: pass featurizer=, the ASTWFeaturizer(output='frames') of the pipeline."
        )

    (features, module), sample_rate = featurizer.front_end(), featurizer.sample_rate
    expected = trained.model.features.n_features
    if module.n_features != expected:
        raise ArtifactError(
            f"The featurizer gives {module.n_features} values per frame, expected {expected} as in fit: pass the "
            "featurizer that computed the frames."
        )

    # keep the number of frames in a chunk: the featurizer may give more or fewer frames per second
    chunk_length, max_frames = components.chunk_length, trained.model.max_frames
    if frames_in_chunk(features, sample_rate, chunk_length) != max_frames:
        chunk_length = max_frames / features.frames_per_second(sample_rate)
    changed = replace(components, features=features, sample_rate=int(sample_rate), chunk_length=chunk_length)
    model = copy.copy(trained.model)
    model._modules = {**model._modules, "features": module}
    return replace(trained, components=changed, model=model)


def _label_names(labels: list[str]) -> dict[str, Any]:
    """Return the labels under the names that other tools read, unless there are too many."""
    if len(labels) > _MAX_NAMED_LABELS:
        return {}
    id2label = {str(i): label for i, label in enumerate(labels)}
    return {"labels": labels, "id2label": id2label, "label2id": {label: i for i, label in enumerate(labels)}}
