"""What the estimators share on disk: one folder out, one folder in, the Hub on top."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import torch
from sklearn.utils.validation import check_is_fitted
from torch.overrides import TorchFunctionMode

from skastw.artifact.card import model_card
from skastw.artifact.folder import (
    FETCHED,
    Artifact,
    StoredArtifact,
    held_out_from_json,
    read_artifact,
    read_files,
    training_from_json,
    write_artifact,
)
from skastw.artifact.onnx import write_onnx
from skastw.augment import Augment
from skastw.core.component import component_from_config, component_to_config
from skastw.core.text import readable
from skastw.core.version import __version__
from skastw.encoders import Encoder
from skastw.errors import ArtifactError, plain
from skastw.estimators.base import RUN_PARAMS, AudioEstimator
from skastw.estimators.inputs import MAX_AUGMENTATIONS, Components
from skastw.features import Features
from skastw.network.model import count_parameters, frames_in_chunk
from skastw.normalization import Normalization
from skastw.pooling import Pooling
from skastw.storage import hub
from skastw.storage.outputs import scratch_folder

__all__ = ["PretrainedEstimator"]

E = TypeVar("E", bound="PretrainedEstimator")

_KINDS = {"features": Features, "normalization": Normalization, "encoder": Encoder, "pooling": Pooling}
#: Parameters that say how to run on one machine; they do not travel with a saved model.
_MACHINE_PARAMS = ("device", "cache", "n_jobs", "verbose", "warm_start", "init_from", "checkpoint_dir")


class _Shapes(TorchFunctionMode):
    """Make tensors that have a shape and no memory, and no more of them than a file holds weights.

    What a config describes then costs nothing before it is known to be what the file holds.
    """

    _MAKE = (torch.empty, torch.zeros, torch.ones, torch.randn)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in self._MAKE:
            self.left -= 1
            if self.left < 0:
                raise ArtifactError("config.json describes a network with more weights than model.safetensors holds.")
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


class PretrainedEstimator(AudioEstimator):
    """Estimators that are saved as a folder and loaded from one."""

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        featurizer: Any = None,
        title: str | None = None,
        test: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> str:
        """Save the fitted estimator as a folder of six files, ready for the Hugging Face Hub.

        Parameters
        ----------
        folder : path
            Made if missing. The six files of a model that was saved there before are replaced in one step; other
            files and sub-folders stay as they are.
        featurizer : ASTWFeaturizer, optional
            What computed the frames, needed with ``features="precomputed"``; the saved model then takes clips.
        title : str, optional
            What the model card calls the model, by default the name of the folder.
        test : mapping, optional
            Scores on clips that the model was not trained on, for the model card and ``metrics.json``:
            ``evaluate(...).to_dict()``, and under ``split`` a sentence that says which clips they are.
        overwrite : bool, default=False
            Replace also files of these names that do not belong to a saved model, such as the README.md of a project,
            and a model card that was edited after it was saved. Otherwise they are an error.

        Returns
        -------
        str
            The folder.

        Raises
        ------
        ArtifactError
            If the folder cannot be written or holds files that are not replaced unasked, the weights are NaN or
            infinite in places, precomputed frames come without their featurizer, or ``test`` holds something else.
            The folder then holds the model that it held before.
        sklearn.exceptions.NotFittedError
            Before ``fit``.

        Warns
        -----
        UserWarning
            If the model is saved, but another program keeps one of the old files from being replaced. The model can
            be loaded, and the next save completes the replacement.
        """
        check_is_fitted(self, "model_")
        self._check_run_params()
        scores = getattr(self, "_test", None) if test is None else held_out_from_json(test)
        called = readable(" ".join((title or os.path.basename(os.path.realpath(folder))).split()))
        artifact = self._to_artifact(called, scores, self._with_front_end(featurizer))
        return str(write_artifact(folder, artifact, overwrite=overwrite))

    def export_onnx(self, path: str | os.PathLike[str], *, featurizer: Any = None) -> str:
        """Save the fitted estimator as one ONNX file that takes waveforms and runs without torch.

        Its input ``waveform``, float32 of shape (batch, n_samples), holds mono clips of one length, whatever that is,
        at the estimator's ``sample_rate``. Its outputs are ``probabilities`` and ``logits`` of shape (batch, n_classes)
        or, of a regressor, ``values`` of shape (batch, n_targets). Its metadata hold ``labels``, as JSON, ``task``,
        ``sample_rate``, ``chunk_length``, ``library`` and ``library_version``. Needs the extra ``onnx``.

        Parameters
        ----------
        path : path
            The file; its name ends in ``.onnx``. An existing one is replaced in one step, when all is computed.
        featurizer : ASTWFeaturizer, optional
            What computed the frames, needed with ``features="precomputed"``; the file then takes waveforms.

        Returns
        -------
        str
            The file.

        Raises
        ------
        OutputError
            If the file cannot be written; a place that cannot be is told before anything is computed.
        ExportError
            If a component has no form in ONNX; the message names it.
        ArtifactError
            If precomputed frames come without their featurizer.
        MissingDependencyError
            Without the extra ``onnx``.
        sklearn.exceptions.NotFittedError
            Before ``fit``.

        Notes
        -----
        The file predicts in float32, and from the clip alone: ``precision`` and ``tta`` stay behind.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import onnxruntime
        >>> from skastw import ASTWClassifier
        >>> from skastw.datasets import make_tones
        >>> from skastw.encoders import ASTWEncoder
        >>> clips, y = make_tones(n_clips=12, n_classes=2, random_state=0)
        >>> clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=1).fit(clips, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     session = onnxruntime.InferenceSession(clf.export_onnx(Path(folder) / "tones.onnx"))
        >>> probabilities, logits = session.run(None, {"waveform": clips[0][None]})
        >>> bool(np.allclose(probabilities, clf.predict_proba(clips[:1]), atol=1e-5))
        True
        """
        check_is_fitted(self, "model_")
        components = self._with_front_end(featurizer)
        metadata = {
            "library": "skastw",
            "library_version": __version__,
            "sample_rate": int(components.sample_rate),
            "chunk_length": float(components.chunk_length),
        }
        return str(
            write_onnx(
                path,
                self.model_,
                components.features.build(components.sample_rate),
                labels=self._labels_to_json(),
                metadata=metadata,
                names={kind: getattr(components, kind).name for kind in _KINDS},
            )
        )

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Save the fitted estimator to a repository of the Hugging Face Hub.

        Parameters
        ----------
        repo_id : str
            ``"user/name"``; made if missing.
        private : bool, optional
            Visibility of a new repository; with True, one that exists and is public is refused.
        token : str, optional
            Access token; by default ``HF_TOKEN``, or the one that ``hf auth login`` stored. It is not kept.

        Returns
        -------
        str
            Address of the commit, which ends in the hash that ``from_pretrained(..., revision=...)`` takes.

        Raises
        ------
        HubError
            If the repository cannot be written.
        """
        with scratch_folder(Path(tempfile.gettempdir())) as parent:
            folder = self.save_pretrained(parent / repo_id.rpartition("/")[2])
            return hub.push(read_files(folder), repo_id, private=private, token=token)

    @classmethod
    def from_pretrained(
        cls: type[E],
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
    ) -> E:
        """Load an estimator from a folder or from the Hugging Face Hub.

        Parameters
        ----------
        model : path or str
            A folder that ``save_pretrained`` wrote, or a repository ``"user/name"``.
        revision : str, optional
            Branch, tag or, to get the same bytes for ever, full commit hash of the repository.
        token : str, optional
            Access token for a private repository; by default ``HF_TOKEN``, or the one that ``hf auth login`` stored.
        cache_dir : path, optional
            Where downloads are kept, and found again without the network; by default the Hub's own cache.
        device : str, default="auto"
            Where to predict.

        Returns
        -------
        estimator
            Fitted.

        Raises
        ------
        ArtifactError
            If the folder is incomplete, inconsistent or holds another kind of estimator.
        HubError
            If the repository cannot be read.

        Warns
        -----
        UserWarning
            Once for a revision that may change (a branch or a tag), with the commit to pin.
        """
        return hub.read(
            model,
            FETCHED,
            lambda folder: cls._from_folder(folder, os.fspath(model), device),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
        )

    @classmethod
    def _from_folder(cls: type[E], folder: Path, name: str, device: str) -> E:
        try:
            return cls._from_artifact(read_artifact(folder), device)
        except ArtifactError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{name!r} is not a consistent {cls.__name__}: {reason[:500]}") from error

    def _with_front_end(self, featurizer: Any) -> Components:
        """Return the components of a model that takes clips."""
        components = self._fitted.components
        if not components.precomputed:
            return components
        if featurizer is None or getattr(featurizer, "output", None) != "frames":
            raise ArtifactError(
                "A classifier of precomputed frames cannot be saved alone, because it does not know how they were "
                "computed: pass featurizer=, the ASTWFeaturizer(output='frames') of the pipeline."
            )
        features, sample_rate = featurizer.resolve_features(), featurizer.sample_rate
        n_features, expected = features.build(sample_rate).n_features, self.model_.features.n_features
        if n_features != expected:
            raise ArtifactError(
                f"The featurizer gives {n_features} values in a frame, expected {expected} as in fit: pass the one "
                "that computed the frames."
            )

        # the network counts in frames, and the featurizer may give more or fewer of them a second
        chunk_length, max_frames = components.chunk_length, self.model_.max_frames
        if frames_in_chunk(features, sample_rate, chunk_length) != max_frames:
            chunk_length = max_frames / features.frames_per_second(sample_rate)
        return replace(components, features=features, sample_rate=sample_rate, chunk_length=chunk_length)

    def _to_artifact(self, title: str, test: dict[str, Any] | None, components: Components) -> Artifact:
        sample_rate, fitted_with = int(components.sample_rate), self._fitted.params
        run_params = {name: getattr(self, name) for name in RUN_PARAMS}
        shape = {"sample_rate": sample_rate, "chunk_length": components.chunk_length}
        params = self._params_to_json({**fitted_with, **run_params, **shape})
        n_parameters = count_parameters(self.model_)
        config = {
            "library": "skastw",
            "library_version": __version__,
            "estimator": type(self).__name__,
            **{kind: component_to_config(getattr(components, kind)) for kind in _KINDS},
            "augment": [component_to_config(item) for item in components.augment],
            "params": params,
            "n_parameters": n_parameters,
        }
        best = self.history_[self.best_epoch_ - 1]
        validation = {name.removeprefix("val_"): best[name] for name in best if name.startswith("val_")}
        labels = self._labels_to_json()
        class_scores = getattr(self, "_class_scores", None) or []
        per_class = [{"label": label, **row} for label, row in zip(labels["labels"], class_scores, strict=False)]
        recalls = [row["recall"] for row in per_class if row["support"]]
        if recalls and labels["task"] == "classification":
            validation["uar"] = sum(recalls) / len(recalls)
        metrics = {
            **self._data_summary,
            "seed": self.seed_,
            "batch_size": int(fitted_with["batch_size"]),
            "n_epochs": self.n_epochs_,
            "max_epochs": self._max_epochs,
            "interrupted": self.interrupted_,
            "best_epoch": self.best_epoch_,
            "validation": validation or None,
            "per_class": per_class or None,
            "test": test,
            "history": self.history_,
        }
        card = model_card(
            title=title,
            module="skastw",
            estimator=type(self).__name__,
            version=__version__,
            task=labels["task"],
            labels=labels["labels"],
            sample_rate=sample_rate,
            n_parameters=n_parameters,
            components={**{k: repr(getattr(components, k)) for k in _KINDS}, "augment": repr(list(components.augment))},
            params=params,
            metrics=metrics,
        )
        preprocessor = components.features.to_preprocessor(sample_rate, components.chunk_length)
        return Artifact(self.model_.state_dict(), config, preprocessor, labels, metrics, card)

    @classmethod
    def _from_artifact(cls: type[E], artifact: StoredArtifact, device: str) -> E:
        config = artifact.config
        if config["estimator"] != cls.__name__:
            raise ArtifactError(f"The folder holds a model of {config['estimator']!r}, expected {cls.__name__!r}.")
        estimator = cls(
            **{kind: component_from_config(base, config[kind]) for kind, base in _KINDS.items()},
            augment=[component_from_config(Augment, item) for item in _augmentations(config["augment"])],
            device=device,
            **cls._params_from_json(config["params"]),
        )
        estimator._validate_params()
        estimator._labels_from_json(artifact.labels)

        # precision may have been changed after fit, and the weights not
        head = artifact.weights.specs.get("head.weight")
        dtype = torch.float64 if head is not None and head.dtype == torch.float64 else torch.float32
        components = replace(estimator._resolve_components(), dtype=dtype)

        front_end = components.features.build(components.sample_rate)
        with _Shapes(most=2 * len(artifact.weights.specs)):  # twice: some encoders make a tensor from another
            model = estimator._build(components, estimator._n_outputs(), front_end.n_features)
        model.features = front_end
        model.to(components.dtype)
        artifact.weights.check(model.state_dict())
        model.load_state_dict(artifact.weights.read(), assign=True)
        for name, value in training_from_json(artifact.metrics).items():
            setattr(estimator, name, value)
        fitted = estimator._keep_params(components, artifact.metrics.get("seed"))
        batch_size = artifact.metrics.get("batch_size", estimator.batch_size)
        estimator._fitted = replace(fitted, params={**fitted.params, "batch_size": batch_size})
        estimator.model_ = model.eval()
        estimator._optimizers = None
        estimator._n_features_out = model.head.in_features
        return estimator

    @classmethod
    def _params_to_json(cls, params: dict[str, Any]) -> dict[str, Any]:
        params = {name: value for name, value in params.items() if name in cls._saved_params()}
        seed = params["random_state"]
        params["random_state"] = int(seed) if isinstance(seed, Integral) else None  # no state of a RandomState
        if isinstance(params.get("class_weight"), dict):
            params["class_weight"] = [[k, v] for k, v in params["class_weight"].items()]
        return {name: plain(value) for name, value in params.items()}  # searches draw numbers of numpy

    @classmethod
    def _params_from_json(cls, params: Any) -> dict[str, Any]:
        unknown = sorted(set(params) - cls._saved_params()) if isinstance(params, dict) else ["no object"]
        if unknown:
            raise ArtifactError(f"config.json has the parameters {unknown[:5]}, which {cls.__name__} does not save.")
        if isinstance(params.get("class_weight"), list):
            return {**params, "class_weight": dict(params["class_weight"])}
        return params

    @classmethod
    def _saved_params(cls) -> set[str]:
        return set(cls._get_param_names()) - {*cls._components, *_MACHINE_PARAMS}


def _augmentations(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ArtifactError(f"config.json has a {type(value).__name__} for augment, expected a list.")
    if len(value) > MAX_AUGMENTATIONS:
        raise ArtifactError(f"config.json has {len(value)} augmentations, expected at most {MAX_AUGMENTATIONS}.")
    return value
