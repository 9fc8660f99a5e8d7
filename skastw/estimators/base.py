"""Base of the estimators that train a network: ``fit``, embeddings, saving and the interface of scikit-learn."""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from msgspec import structs
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skastw.analysis.windows import embedding_window_table
from skastw.artifact.pretrained import Loaded, load, push, save, with_front_end
from skastw.artifact.weight_storage import WeightStorage
from skastw.core.component import SLOTS, ComponentParams
from skastw.core.device import resolve_device
from skastw.core.parameters import Layers, check_params, param, param_names, parameters, take_params
from skastw.core.sklearn_private import (
    CallbackSupportMixin,
    FitCallbacks,
    InvalidParameterError,
    check_sample_weight,
)
from skastw.core.text import did_you_mean
from skastw.core.version import __version__
from skastw.core.warn import warn_user
from skastw.data.dataset import CACHES, CacheParams, Data, Labelled, hold_out, make_frame_set
from skastw.data.extraction import check_clips, read_with_side
from skastw.data.failures import FailedClip, FailedClips
from skastw.data.frames import FrameSet
from skastw.data.split import SplitParams
from skastw.errors import ArtifactError, DataError, RecipeError, SkastwError, plain
from skastw.estimators.arguments import ExplainedArguments, Replaced
from skastw.estimators.attempt import Attempt
from skastw.network.components import Components, ModelParams, named_components, resolve_components
from skastw.network.inference import InferenceParams, embed
from skastw.network.trained import Trained, held_out_scores
from skastw.recipes import load_recipe
from skastw.targets import Targets
from skastw.targets.checks import check_complete, group_array, numpy_targets
from skastw.training import TrainingParams, TrainingSettings, load_state
from skastw.training.checkpoint import CheckpointParams
from skastw.training.run import Loss
from skastw.training.transfer import Start, check_front_end

#: Parameters that may be a dict. JSON stores them as pairs, because the keys may be numbers.
_MAPPINGS = ("class_weight",)

T = TypeVar("T")


@parameters
class StartParams:
    """Parameters of the initial weights."""

    warm_start: bool = param(
        default=False,
        valid=["boolean"],
        doc="Start ``fit`` from the weights of the previous ``fit``. The head is initialised again if the labels "
        "differ.",
        saved=False,
    )
    init_from: str | os.PathLike[str] | None = param(
        default=None,
        valid=[str, os.PathLike, None],
        doc="Start training from the weights of a saved model: a folder, or the name of a repository on the Hugging "
        "Face Hub. The head is initialised again if the labels differ.",
        saved=False,
    )
    init_train: str = param(
        default="all",
        valid=[Layers()],
        doc='Which weights from ``init_from`` are trained: ``"all"``, ``"none"`` (only the head), or the head, the '
        'pooling and the last layers of the encoder, for example ``"top-4"``.',
        saved=False,
    )
    random_state: int | np.random.RandomState | None = param(
        default=42,
        valid=["random_state"],
        doc="Seed of the initial weights, the validation split, the order of the clips, dropout and the "
        "augmentations. Runs with the same seed on the same machine give the same weights, bit for bit, also if they "
        "run in several threads. They do not change the state of torch's global random generator. A saved model keeps "
        "an integer seed.",
    )


@parameters
class AudioEstimator(
    ExplainedArguments,
    TransformerMixin,
    CallbackSupportMixin,
    ComponentParams,
    CheckpointParams,
    CacheParams,
    StartParams,
    InferenceParams,
    SplitParams,
    TrainingParams,
    ModelParams,
):
    """Base of the estimators that train a network."""

    # attributes of fitted estimators, not parameters
    trained_: Trained = field(init=False)
    failed_: list[FailedClip] = field(init=False)
    _momenta: tuple[Trained, dict[str, Any]] | None = field(init=False)  # of the last partial_fit

    _learns: ClassVar[str]  # the attribute estimator of the kinds of targets that fit accepts

    # Fitted attributes under scikit-learn's naming convention.
    model_ = property(lambda self: self.trained_.model)
    task_ = property(lambda self: self.trained_.targets.name)
    history_ = property(lambda self: list(map(dict, self.trained_.record.history)))
    best_epoch_ = property(lambda self: self.trained_.record.best_epoch)
    n_epochs_ = property(lambda self: self.trained_.record.n_epochs)
    interrupted_ = property(lambda self: self.trained_.record.interrupted)
    seed_ = property(lambda self: self.trained_.record.seed)
    features_ = property(lambda self: self.trained_.components.features)
    augment_ = property(lambda self: list(self.trained_.components.augment))
    sample_rate_ = property(lambda self: self.trained_.components.sample_rate)
    chunk_length_ = property(lambda self: self.trained_.components.chunk_length)

    save = Replaced("save_pretrained(folder)")
    load = Replaced("from_pretrained(folder)")

    @classmethod
    def from_recipe(cls, recipe: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None) -> Self:
        """Return an estimator with the parameters of a recipe; ``set_params`` can change them.

        Parameters
        ----------
        recipe : str or path
            A name in :func:`skastw.recipes.recipe_names`, or a YAML file; see :func:`skastw.recipes.load_recipe`.
        weights : str or path, optional
            Checkpoint for the encoder of recipes such as ``"frozen"`` and ``"finetune"``.

        Returns
        -------
        estimator
            New estimator, not fitted.

        Raises
        ------
        RecipeError
            If the recipe is unknown, sets a parameter that this estimator does not have, or takes no ``weights``.

        Examples
        --------
        >>> from skastw import ASTWClassifier
        >>> ASTWClassifier.from_recipe("small").set_params(epochs=10).epochs
        10
        """
        params = load_recipe(recipe, weights=weights).params
        estimator = cls()
        unknown = sorted(set(params) - set(estimator.get_params(deep=False)))
        if unknown:
            known = sorted(estimator.get_params(deep=False))
            meant = did_you_mean(unknown[0], known) or f": {known}."
            raise RecipeError(
                f"The recipe {os.fspath(recipe)!r} has {unknown}, expected parameters of {cls.__name__}{meant}"
            )

        estimator.set_params(**params)
        try:
            estimator._validate_params()
        except InvalidParameterError as error:
            raise RecipeError(f"The recipe {os.fspath(recipe)!r} has a parameter that is not valid: {error}") from None
        return estimator

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64" if self.precision == "float64" else "float32"]
        return tags

    # ------------------------------------------------------------------ fit

    def _fit(
        self,
        X: Any,
        y: Any,
        learn: Callable[[Attempt, Sequence[Any]], tuple[Targets, Labelled, Labelled | None]],
        metadata: Mapping[str, Any],
    ) -> Self:
        """Train a network, and set the attributes at the end.

        ``learn`` takes the clips, and returns the targets, the training clips and the validation clips that the caller
        gave. ``metadata`` are the other arguments of ``fit``, for callbacks.
        """
        with self._attempt() as attempt:
            attempt.start = self._starting_point(attempt.components)
            clips = attempt.check_clips(self, X, reset=True)
            targets, labelled, validation = learn(attempt, clips)

            data = attempt.data = self._make_data(attempt, labelled, validation, targets)
            settings = self._settings(attempt.seed).lasting(
                len(data.train),
                held_out=data.together is not None,
                data_hungry=attempt.components.encoder.data_hungry,
            )
            run = attempt.run = attempt.start_run(targets, settings, loss=self._loss(targets))
            checkpoint = self._checkpoint(attempt, data)
            if checkpoint is not None and (state := load_state(checkpoint)) is not None:
                run.load_state_dict(state)

            callbacks = FitCallbacks(
                self,
                X,
                y,
                metadata={name: value for name, value in metadata.items() if value is not None},
                max_epochs=settings.n_epochs + settings.n_refit,
                reconstruct=attempt.copy,
            )
            attempt.train(run, data, monitor=callbacks, checkpoint=checkpoint)
            callbacks.end_fit(run)
        return self

    @contextmanager
    def _attempt(self, before: Trained | None = None) -> Iterator[Attempt]:
        """Yield the state of a call that fits a model or trains ``before`` further; at its end, set the attributes.

        An exception does not change the estimator. It gets the attributes ``failed`` and ``trained``.
        """
        world_size = os.environ.get("WORLD_SIZE", "")
        if before is None and world_size.isdecimal() and int(world_size) > 1:
            warn_user(
                f"The environment has WORLD_SIZE={world_size}, as if torchrun had started {world_size} processes. Each "
                "process trains its own model on all clips; training is not distributed. Start one process, or let "
                "each process train another configuration or fold."
            )

        attempt: Attempt | None = None
        try:
            dtype = torch.float64 if self.precision == "float64" else torch.float32
            components = before.components if before else resolve_components(self, dtype)
            seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
            attempt = Attempt(components, int(seed), self._params_to_save(), before)
            yield attempt
        except BaseException as error:
            failed = error.failed if isinstance(error, SkastwError) else ()
            with suppress(AttributeError):  # an exception of the user may have a read-only property of this name
                error.failed = FailedClips(failed) or (attempt.failed if attempt else [])  # type: ignore[attr-defined]
                error.trained = attempt.trained() if attempt else None  # type: ignore[attr-defined]
            raise

        # remove the attributes of an earlier fit, such as n_features_in_ if X is now a list of paths;
        # use a single assignment, because another thread may predict at the same time
        others = {name: value for name, value in vars(self).items() if not name.endswith("_")}
        self.__dict__ = {**others, **attempt.learned()}

    # ---------------------------------------------------------- steps of fit

    def _starting_point(self, components: Components) -> Start:
        """Return where the weights come from: ``warm_start``, ``init_from``, a checkpoint, or random numbers."""
        fitted: Trained | None = vars(self).get("trained_")
        if self.warm_start and fitted is not None:
            return self._further(fitted)
        if self.init_from is None:
            return Start(fitted=fitted)
        start = load(self.init_from, lambda loaded: loaded.trained)
        check_front_end(start, components.features)
        return Start(start, self.init_train)

    def _further(self, fitted: Trained) -> Start:
        """Return the start from a fitted model; weights from ``init_from`` that were not trained stay as they are."""
        return Start(fitted, "all" if self.init_from is None else self.init_train)

    def _labelled(
        self, clips: Sequence[Any], targets: Targets, y: Any, sample_weight: Any, groups: Any = None
    ) -> Labelled:
        """Return clips with their encoded targets and weights, checked."""
        check_complete(y, "y")
        encoded = targets.encode(y)
        check_consistent_length(clips, encoded, groups)
        weights = clip_weights(sample_weight, encoded, "sample_weight") * self._target_weights(targets, encoded)
        return Labelled(clips, encoded, weights, group_array(groups))

    def _target_weights(self, targets: Targets, encoded: np.ndarray) -> np.ndarray:
        """Return a weight for each clip that depends on its target, shape (n,)."""
        return np.ones(len(encoded))

    def _loss(self, targets: Targets) -> Loss:
        """Return the training loss."""
        return targets.loss

    def _make_data(self, attempt: Attempt, labelled: Labelled, validation: Labelled | None, targets: Targets) -> Data:
        """Compute the frames of all clips, and split off validation clips if none are given."""
        train_set, attempt.failed = self._frame_set(attempt, labelled, labelled.used)
        lost = targets.lost(labelled.targets[labelled.used], labelled.targets[train_set.positions])
        if lost is not None:
            raise DataError(f"No clip of {lost} can be used; error.failed lists the clips.")

        if validation is None:
            return hold_out(labelled, train_set, targets, self, attempt.seed)
        everything, width = np.arange(len(validation.clips)), train_set.frames[0].shape[1]
        valid_set, failed = self._frame_set(attempt, validation, everything, width)
        attempt.failed += [replace(clip, reason=f"in X_val: {clip.reason}") for clip in failed]
        return Data(train_set, valid_set, "validation clips given by the caller")

    def _frame_set(
        self, attempt: Attempt, labelled: Labelled, index: np.ndarray, n_features: int | None = None
    ) -> tuple[FrameSet, list[FailedClip]]:
        """Return the data set of the usable clips at ``index``, and a list of the other clips."""
        components = attempt.components
        outcomes = read_with_side(
            labelled.clips,
            index,
            components.stored,
            components.side,
            components.sample_rate,
            self,
            front_end=None if components.in_step else attempt.front_end,
            n_features=n_features,
        )
        limit = None if components.precomputed else CACHES[self.cache]  # precomputed frames are in memory already
        return make_frame_set(
            labelled, outcomes, len(index), limit=limit, on_error=self.on_error, dtype=components.dtype
        )

    def _settings(self, seed: int) -> TrainingSettings:
        return take_params(
            TrainingSettings,
            self,
            batch_size=int(self.batch_size),
            device=resolve_device(self.device),
            precision=self.precision,
            seed=seed,
            verbose=int(self.verbose),
        )

    def _checkpoint(self, attempt: Attempt, data: Data) -> Path | None:
        """Return the checkpoint file of this run. Its name is a hash of the data, parameters and initial weights."""
        if self.checkpoint_dir is None:
            return None
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                f"Got random_state={self.random_state!r} with checkpoint_dir, expected an integer: otherwise a run "
                "that is started again has another seed."
            )

        settings = [
            type(self).__name__,
            __version__,
            attempt.components.to_config(),
            attempt.params,
            attempt.start.train,
        ]
        run = hashlib.sha256(json.dumps([*settings, data.fingerprint], default=repr).encode())
        start = attempt.start.trained
        for tensor in () if start is None else start.model.state_dict().values():
            run.update(tensor.contiguous().numpy().data)
        return Path(self.checkpoint_dir) / f"{run.hexdigest()[:16]}.safetensors"

    # ------------------------------------------------------------ inference

    def transform(self, X: Any) -> np.ndarray:
        """Return the embedding of each clip: the pooled vector that the linear head takes.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips, n_embedding), float32
        """
        return self._run(embed, X)[1].numpy()

    def transform_windows(self, X: Any, *, window: float, hop: float | None = None) -> pd.DataFrame:
        """Return the embeddings of windows along each clip, to search, map or cluster the parts of long recordings.

        Parameters
        ----------
        X : as in :meth:`transform`
            Files are decoded in pieces, so that the use of memory does not depend on their length.
        window : float
            Length of a window (s).
        hop : float, optional
            Time between the starts of consecutive windows (s); by default half a window. The last window ends where
            the clip ends. A clip that is shorter than a window is one window.

        Returns
        -------
        DataFrame
            Columns ``clip`` (file, with the times of a part of it, or position in X), ``start`` and ``end`` (s), and
            ``embedding_0``, ``embedding_1``, ... :meth:`transform` returns the same embedding for a window that is
            passed as a clip.

        Raises
        ------
        ValueError
            If ``window`` or ``hop`` is shorter than one sample or not a number.
        ClipError
            If a clip cannot be read and ``on_error="raise"``. Otherwise it gets one row of NaN.

        Examples
        --------
        >>> from skastw import ASTWClassifier
        >>> from skastw.datasets import make_tones
        >>> X, y = make_tones(n_clips=8, n_classes=2, random_state=0)
        >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(X, y)
        >>> table = clf.transform_windows(X[:1], window=0.2)
        >>> table.columns[:4].tolist()
        ['clip', 'start', 'end', 'embedding_0']
        """
        return self._run(partial(embedding_window_table, window=window, hop=hop), X)[1]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the values of an embedding: ``embedding_0``, ``embedding_1``, ...

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (n_embedding,) of str
        """
        check_is_fitted(self)
        return np.array([f"embedding_{i}" for i in range(self.model_.n_embedding)], dtype=object)

    def _run(self, function: Callable[..., tuple[T, list[FailedClip]]], X: Any) -> tuple[Any, T]:
        """Return the targets of the fitted model and the result of a function of it; note clips that it left out.

        Another thread may end ``fit`` meanwhile, so both are taken from one model.
        """
        check_is_fitted(self)
        trained, params = self.trained_, self._inference()
        result, failed = function(trained, check_clips(self, X, reset=False), params)
        if self.on_error != "raise":
            self.failed_ = failed
        return trained.targets, result

    def _inference(self) -> InferenceParams:
        """Return the parameters of inference, checked because ``set_params`` may have changed them since ``fit``."""
        params = take_params(InferenceParams, self)
        check_params(params, type(self).__name__)
        return params

    # ---------------------------------------------------------------- disk

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        featurizer: Any = None,
        title: str | None = None,
        test: Mapping[str, Any] | None = None,
        weights_dtype: str | None = None,
        frozen: str = "stored",
        overwrite: bool = False,
    ) -> str:
        """Save the fitted estimator as a folder of six files, ready for the Hugging Face Hub.

        Parameters
        ----------
        folder : path
            Created if missing. If it contains a saved model, its six files are replaced in one step. Other files and
            sub-folders do not change.
        featurizer : ASTWFeaturizer, optional
            The featurizer that computed the frames; required with ``features="precomputed"``. The saved model then
            takes clips.
        title : str, optional
            Name of the model in its model card; by default the name of the folder.
        test : mapping, optional
            Scores on held-out clips, for the model card and ``metrics.json``: the dict ``evaluate(...).to_dict()``,
            to which the key ``split`` may add a sentence that says which clips were held out.
        weights_dtype : {None, "float16"}, default=None
            Number format in which weights are stored. ``"float16"`` halves the size of the folder; the loaded model
            computes in float32 again, with rounded weights.
        frozen : {"stored", "reference"}, default="stored"
            Whether the weights of a frozen encoder are stored. With ``"reference"``, the folder has only the name,
            commit and SHA-256 of the repository from which they came, and loading fetches them from there.
        overwrite : bool, default=False
            Whether to replace files of these names that do not belong to a saved model, such as the README.md of a
            project, and a model card that was edited after it was saved. By default they raise an error.

        Returns
        -------
        str
            The folder.

        Raises
        ------
        ArtifactError
            If the folder cannot be written or contains files that only ``overwrite=True`` replaces, a weight is NaN or
            infinite, ``featurizer`` is missing for precomputed frames, or ``test`` is not valid. The folder then does
            not change.
        sklearn.exceptions.NotFittedError
            Before ``fit``.

        Warns
        -----
        UserWarning
            If another program prevents the replacement of an old file. The model is saved and can be loaded, and the
            next save replaces the old file.
        """
        check_is_fitted(self)
        trained = with_front_end(self.trained_, featurizer)
        if test is not None:
            trained = replace(trained, record=structs.replace(trained.record, test=held_out_scores(test)))
        storage = WeightStorage(weights_dtype, frozen)
        return save(trained, folder, title=title, overwrite=overwrite, storage=storage, **self._saved_as(trained))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        weights_dtype: str | None = None,
        frozen: str = "stored",
    ) -> str:
        """Save the fitted estimator to a repository of the Hugging Face Hub.

        Parameters
        ----------
        repo_id : str
            ``"user/name"``; the repository is created if missing.
        private : bool, optional
            Visibility of a new repository. With True, an existing public repository is an error.
        token : str, optional
            Access token; by default the environment variable ``HF_TOKEN``, or the token that ``hf auth login`` stored.
            The estimator does not keep it.
        weights_dtype, frozen
            See :meth:`save_pretrained`.

        Returns
        -------
        str
            URL of the commit. It ends with the commit hash, which ``from_pretrained(..., revision=...)`` takes.

        Raises
        ------
        HubError
            If the repository cannot be written.

        Warns
        -----
        UserWarning
            If pretrained weights in the model have a licence that forbids commercial use.
        """
        check_is_fitted(self)
        trained, storage = with_front_end(self.trained_, None), WeightStorage(weights_dtype, frozen)
        return push(trained, repo_id, private=private, token=token, storage=storage, **self._saved_as(trained))

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
    ) -> Self:
        """Load an estimator from a folder or from the Hugging Face Hub.

        Parameters
        ----------
        model : path or str
            A folder that ``save_pretrained`` wrote, or a repository ``"user/name"``.
        revision : str, optional
            Branch, tag or full commit hash of the repository. Only a commit hash always gives the same model.
        token : str, optional
            Access token for a private repository; by default the environment variable ``HF_TOKEN``, or the token that
            ``hf auth login`` stored.
        cache_dir : path, optional
            Folder of the downloads, which are used again without network access; by default the cache of the Hub.
        device : str, default="auto"
            Device for predictions.

        Returns
        -------
        estimator
            Fitted estimator.

        Raises
        ------
        ArtifactError
            If the folder is incomplete or inconsistent, or contains another kind of estimator. If there is no folder
            ``"user/name"`` but a folder ``"user"``, and ``revision`` is None.
        HubError
            If the repository cannot be read.

        Warns
        -----
        UserWarning
            If the revision is a branch or a tag, which may change. The warning names the commit to pin, and appears
            once for each revision.
        """
        return load(
            model, partial(cls._from_loaded, device=device), revision=revision, token=token, cache_dir=cache_dir
        )

    @classmethod
    def _from_loaded(cls, loaded: Loaded, device: str) -> Self:
        """Return the fitted estimator of a model that was read from a folder."""
        if loaded.estimator != cls.__name__:
            raise ArtifactError(f"The folder contains a model of {loaded.estimator!r}, expected {cls.__name__!r}.")
        unknown = sorted(set(loaded.params) - {*SLOTS, *cls._saved_params()})
        if unknown:
            raise ArtifactError(f"config.json has the parameters {unknown[:5]}, which {cls.__name__} does not save.")

        if loaded.trained.targets.estimator != cls._learns:
            raise ArtifactError(
                f"labels.json has task={loaded.trained.targets.name!r}, which {cls.__name__} does not learn."
            )
        params = {name: value for name, value in loaded.params.items() if name in cls._get_param_names()}
        mappings = {name: dict(params[name]) for name in _MAPPINGS if isinstance(params.get(name), list)}
        estimator = cls(**{**params, **mappings})
        estimator.device = device
        estimator._check_fixed(loaded)
        estimator._validate_params()
        estimator.trained_ = loaded.trained
        return estimator

    def _check_fixed(self, loaded: Loaded) -> None:
        """Raise ArtifactError if a parameter that ``__init__`` of a subclass does not accept has another saved value.

        Such a subclass passes values of its own to the ``__init__`` of its base.
        """
        ours = {**self._params_to_save(), **named_components(self).without_folders().to_config()}
        theirs = {**loaded.params, **loaded.trained.components.to_config()}
        for name in sorted(loaded.params.keys() - set(self._get_param_names())):
            if ours[name] != theirs[name]:
                raise ArtifactError(
                    f"The model was saved with {name}={theirs[name]!r}, but {type(self).__name__} sets {ours[name]!r} "
                    f"and has no parameter {name}; add it to its __init__, or set the same value there."
                )

    def _saved_as(self, trained: Trained) -> dict[str, Any]:
        """Return the name of the class and the parameters to save, with the current parameters of inference."""
        self._inference()
        runs, now = param_names(InferenceParams, saved=True), self._params_to_save()
        shape = {name: getattr(trained.components, name) for name in ("sample_rate", "chunk_length", "n_models")}
        params = {**trained.params, **{name: now[name] for name in runs}, **shape}
        return {"estimator": type(self).__name__, "params": {name: plain(value) for name, value in params.items()}}

    @classmethod
    def _saved_params(cls) -> list[str]:
        """Return the names of the parameters that are saved, without the components.

        A subclass may have further parameters in its ``__init__``. They are saved too, and must be JSON values.
        """
        added = [name for name in cls._get_param_names() if name not in param_names(cls)]
        return [name for name in param_names(cls, saved=True) if name not in SLOTS] + added

    def _params_to_save(self) -> dict[str, Any]:
        """Return the parameters that are saved with a model as JSON values, without the components."""
        params = {name: copy.deepcopy(getattr(self, name)) for name in self._saved_params()}
        seed = params["random_state"]
        params["random_state"] = int(seed) if isinstance(seed, Integral) else None  # a RandomState is not saved
        return {
            name: list(map(list, value.items())) if isinstance(value, dict) else plain(value)
            for name, value in params.items()
        }


def clip_weights(sample_weight: Any, targets: np.ndarray, name: str) -> np.ndarray:
    """Return the weight of each clip, checked.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), or None
        None stands for ones.
    targets : ndarray of shape (n,) or (n, K)
        Encoded targets.
    name : str
        Name of the argument, for errors.

    Returns
    -------
    ndarray of shape (n,)
    """
    check_complete(sample_weight, name)
    return check_sample_weight(numpy_targets(sample_weight), targets, ensure_non_negative=True)
