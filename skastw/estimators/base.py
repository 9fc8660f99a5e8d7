"""What the estimators share: parameters, fitting a network, batched inference."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skastw.artifact.transfer import Start, start_from, transfer_weights
from skastw.augment import Augment
from skastw.core.compiler import import_compiler
from skastw.core.device import PRECISIONS, on_device, resolve_device, retained_heap
from skastw.core.generators import OwnDraws, seeded_generators
from skastw.core.sklearn_private import (
    CallbackSupportMixin,
    FitCallbacks,
    Interval,
    InvalidParameterError,
    StrOptions,
    fit_context,
    validate_parameter_constraints,
)
from skastw.core.version import __version__
from skastw.core.warn import warn_user
from skastw.data.extraction import ahead, check_clips
from skastw.data.failures import POLICIES, FailedClip, Failures
from skastw.data.frames import FrameSet, FrameStore, blocks, clip_digests, clips_sha256
from skastw.encoders import Encoder
from skastw.errors import RecipeError, SkastwError
from skastw.estimators.inputs import CACHES, AudioInputs, Components, Data, Fitted, Labelled
from skastw.features import Features
from skastw.network.inference import check_outputs, embed_clips, varied
from skastw.network.model import AudioModel, build_model
from skastw.normalization import Normalization
from skastw.pooling import Pooling
from skastw.recipes import load_recipe
from skastw.training import TASKS, Checkpoint, Monitor, TrainingConfig, train

if TYPE_CHECKING:
    from typing import Self

__all__ = ["RUN_PARAMS", "AudioEstimator"]

E = TypeVar("E", bound="AudioEstimator")

#: Parameters that say how a fitted estimator runs; changes of others act at the next ``fit``.
RUN_PARAMS = ("batch_size", "device", "n_jobs", "on_error", "precision", "tta", "verbose")
#: Parameters that may differ when a run goes on from its checkpoint.
_ELSEWHERE = ("cache", "checkpoint_dir", "device", "n_jobs", "verbose")
#: Bytes of frames that are in memory at once in prediction.
_BLOCK = 64 * 2**20


class AudioEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, CallbackSupportMixin, AudioInputs):
    """Base of the estimators that train a network.

    A subclass says what its targets are: ``_encode_target``, ``_labels_to_json``, ``_n_outputs``, ``_strata``, and
    the attribute ``task_``, which names a row of :data:`skastw.training.TASKS`.
    """

    task_: str
    model_: AudioModel
    failed_: list[FailedClip]
    history_: list[dict[str, Any]]
    best_epoch_: int
    n_epochs_: int
    _fitted: Fitted
    _optimizers: list[torch.optim.Optimizer] | None

    # With metadata routing switched on, these reach ``fit`` unless the user says otherwise.
    __metadata_request__fit: ClassVar = {"groups": True, "X_val": True, "y_val": True, "sample_weight_val": True}

    _components: ClassVar = {
        "features": Features,
        "augment": Augment,
        "normalization": Normalization,
        "encoder": Encoder,
        "pooling": Pooling,
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "sample_rate": [Interval(Integral, 1000, 1_000_000, closed="both")],
        "chunk_length": [Interval(Real, 0, 3600, closed="right")],
        "features": [str, Features],
        "augment": [str, Augment, "array-like", None],
        "normalization": [str, Normalization],
        "encoder": [str, Encoder],
        "pooling": [str, Pooling],
        "n_models": [Interval(Integral, 1, 64, closed="both")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "min_steps": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "muon_lr": [Interval(Real, 0, None, closed="left"), None],
        "adam_lr": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_ratio": [Interval(Real, 0, 1, closed="left")],
        "ema_decay": [Interval(Real, 0, 1, closed="neither"), None],
        "keep": [StrOptions({"best", "last"})],
        "tta": [Interval(Integral, 1, 1000, closed="both")],
        "val_split": [Interval(Real, 0, 1, closed="neither"), None],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "warm_start": ["boolean"],
        "init_from": [str, os.PathLike, None],
        "device": [str, torch.device],
        "precision": [StrOptions(set(PRECISIONS))],
        "cache": [StrOptions(set(CACHES))],
        "n_jobs": [Integral, None],
        "on_error": [StrOptions(set(POLICIES))],
        "checkpoint_dir": [str, os.PathLike, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @classmethod
    def from_recipe(cls: type[E], recipe: str | os.PathLike[str]) -> E:
        """Return an estimator with the parameters of a recipe; ``set_params`` changes single ones.

        Parameters
        ----------
        recipe : str or path
            One of :func:`skastw.recipes.recipe_names`, or a YAML file; see :func:`skastw.recipes.load_recipe`.

        Returns
        -------
        estimator
            Not fitted.

        Raises
        ------
        RecipeError
            If there is no such recipe, or it has parameters that this estimator has not.

        Examples
        --------
        >>> from skastw import ASTWClassifier
        >>> ASTWClassifier.from_recipe("small").set_params(epochs=10).epochs
        10
        """
        found = load_recipe(recipe)
        estimator = cls()
        unknown = sorted(set(found.params) - set(estimator.get_params(deep=False)))
        if unknown:
            raise RecipeError(
                f"The recipe {os.fspath(recipe)!r} has {unknown}, expected parameters of {cls.__name__}: "
                f"{sorted(estimator.get_params(deep=False))}."
            )
        estimator.set_params(**found.params)
        try:
            estimator._validate_params()
        except InvalidParameterError as error:
            raise RecipeError(f"The recipe {os.fspath(recipe)!r} does not hold valid parameters: {error}") from None
        return estimator

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64" if self.precision == "float64" else "float32"]
        return tags

    # ------------------------------------------------------------------ fit

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        groups: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ):
        """Train on clips and their targets.

        Parameters
        ----------
        X : sequence of clips, or ndarray of shape (n_clips, n_samples)
            With ``features="precomputed"``, frames of shape (n_frames, n_features) for each clip.
        y : array-like of shape (n_clips,) or (n_clips, n_targets)
            Labels or values; see the class.
        sample_weight : array-like of shape (n_clips,), optional
            Weight of each clip in the loss; clips of weight 0 are left out.
        groups : array-like of shape (n_clips,), optional
            Speaker or recording of each clip: the internal validation split keeps groups whole.
        X_val, y_val : clips and targets, optional
            Choose the best epoch on these; then nothing is split off X.
        sample_weight_val : array-like, optional
            Weight of each validation clip.

        Returns
        -------
        self

        Raises
        ------
        ClipError
            If a clip cannot be used, naming its index and path, before training starts.
        DataError
            If labels, groups or weights are missing, or labels of a type that cannot be saved; or if, with another
            ``on_error``, more than a fifth of the clips cannot be used, or none of a class.
        ValueError, TypeError
            If a parameter or an argument is not valid.
        TrainingError
            If the loss is no longer finite, memory runs out, or the checkpoint cannot be read or written.

        Warns
        -----
        UserWarning
            If the user interrupts (Ctrl-C) after an epoch: training ends, the best weights so far are kept, and
            ``interrupted_`` is True. If the channels of clips cancel each other in their mean. If the process is one of
            several that ``torchrun`` started: each trains on all clips.

        Notes
        -----
        If an exception ends ``fit``, the estimator stays as it was before the call. The exception has the attributes
        ``failed``, a list of the clips that could not be used, and ``trained``: a fitted copy of the estimator with the
        best weights that were reached, or None if no epoch had ended.
        """
        _warn_of_many_processes()
        with self._attempt() as attempt:
            components = attempt._resolve_components()
            start = attempt._starting_point(components)
            training = attempt._check_training(X, y, sample_weight)
            validation = attempt._check_validation(X_val, y_val, sample_weight_val)
            seed = attempt._seed()
            attempt._fitted = attempt._keep_params(components, seed)

            data = attempt._data_sets(training, validation, groups, components, seed)
            config = attempt._config(seed).lasting(len(data.train), self.min_steps)
            checkpoint = attempt._checkpoint(data, start)

            # the callbacks see this estimator, and copies that are fitted as far as the attempt is
            metadata = {"sample_weight": sample_weight, "groups": groups, "X_val": X_val, "y_val": y_val}
            callbacks = FitCallbacks(
                self,
                X,
                y,
                metadata={name: value for name, value in metadata.items() if value is not None},
                max_epochs=config.epochs,
                reconstruct=attempt._learned_so_far,
            )
            attempt._train(data, config, start=start, fresh=True, monitor=callbacks, checkpoint=checkpoint)
            callbacks.end_fit(attempt.model_)
        return self

    def _partial_fit(self, X: Any, targets: np.ndarray, sample_weight: Any, *, fresh: bool) -> None:
        """Train one epoch at constant learning rates, going on from the last instalment."""
        components = self._resolve_components() if fresh else self._fitted.components
        start = self._starting_point(components) if fresh else None
        if fresh:
            _warn_of_many_processes()
        training = Labelled(check_clips(self, X, reset=fresh), targets, self._loss_weights(targets, sample_weight))
        seed = self._seed() if fresh else (self._seed() + self.n_epochs_) % 2**31
        self._fitted = self._keep_params(components, seed if fresh else self._fitted.seed)
        if not fresh:  # what training changes belongs to the estimator that this one is a copy of
            self.model_, self._optimizers = copy.deepcopy((self.model_, self._optimizers))
            self.history_ = list(self.history_)
        config = replace(self._config(seed), epochs=1, constant_lr=True, patience=None, ema_decay=None)

        n_features = None if fresh else self.model_.features.n_features
        train_set, self.failed_ = self._frame_set(training, training.used(), components, n_features)
        data = Data(train_set, None, "trained in instalments")
        self._optimizers = self._train(data, config, start=start, fresh=fresh)

    @contextmanager
    def _attempt(self) -> Iterator[Self]:
        """Yield a copy to be fitted, and take over at the end what it learned.

        An exception leaves this estimator as it was, and gets the attributes ``failed`` and ``trained``.
        """
        attempt = copy.copy(self)
        attempt.best_epoch_, attempt.failed_ = 0, []
        try:
            yield attempt
        except BaseException as error:
            failed = error.failed if isinstance(error, SkastwError) else ()
            with suppress(AttributeError):  # the user's own exception may have such a property
                error.failed = list(failed) or attempt.failed_  # type: ignore[attr-defined]
                error.trained = attempt if attempt.best_epoch_ else None  # type: ignore[attr-defined]
            raise

        # what an earlier fit learned and this one did not is dropped, such as n_features_in_ if X was a list of paths;
        # all in one assignment, since another thread may predict meanwhile
        learned = attempt._learned()
        others = {name: value for name, value in vars(self).items() if name in learned or not name.endswith("_")}
        self.__dict__ = {**others, **learned}

    def _learned(self) -> dict[str, Any]:
        """Return all attributes but the parameters."""
        return {name: value for name, value in vars(self).items() if name not in self._get_param_names()}

    def _keep_params(self, components: Components, seed: int | None) -> Fitted:
        """Return the components and, as they are now, the parameters that do not shape the network."""
        params = {name: value for name, value in self.get_params(deep=False).items() if name not in self._components}
        params |= {name: getattr(components, name) for name in ("sample_rate", "chunk_length", "n_models")}
        return Fitted(components, copy.deepcopy(params), seed)

    def _train(
        self,
        data: Data,
        config: TrainingConfig,
        *,
        start: Start | None,
        fresh: bool,
        monitor: Monitor | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> list[torch.optim.Optimizer]:
        """Train a fresh network or the present one, and set what ``fit`` sets."""
        components = self._fitted.components
        generators = seeded_generators(config.seed, config.device)
        if fresh:
            import_compiler()  # or the first operation under OwnDraws would
            with OwnDraws(generators):
                model = self._new_model(start, data.train)
            self.model_ = model.to(config.device, components.dtype)
            self.history_, self._optimizers = [], None

        # what is known before training, so that a callback can save the model
        self.interrupted_, self._class_scores, self._test = False, None, None
        self._max_epochs = None if config.constant_lr else config.epochs  # instalments have no end
        self._n_features_out = self.model_.head.in_features
        self._data_summary = data.summary()

        read = partial(self._frames_of_files, components=components)
        with retained_heap():
            result = train(
                self.model_,
                data.train,
                data.valid,
                TASKS[self.task_],
                config,
                [augmentation.prepare(read) for augmentation in components.augment],
                history=self.history_,
                optimizers=self._optimizers,
                generators=generators,
                monitor=monitor,
                checkpoint=checkpoint,
            )

        self.best_epoch_ = result.best_epoch
        self.n_epochs_ = len(self.history_)
        self._class_scores = result.class_scores
        self.interrupted_ = isinstance(result.stopped, KeyboardInterrupt) and result.best_epoch > 0
        if self.interrupted_:
            epoch = min(self.n_epochs_ + 1, config.epochs)
            at = f"Training was interrupted in epoch {epoch} of {config.epochs}"
            warn_user(f"{at}; the weights of epoch {self.best_epoch_} are kept.")
        elif result.stopped is not None:
            raise result.stopped
        return result.optimizers

    # ------------------------------------------------- what fit is made of

    def _labels_to_json(self) -> dict[str, Any]:
        """Return what was learned of the targets, for the artifact."""
        raise AttributeError("a subclass says what its labels are")

    def _starting_point(self, components: Components) -> Start | None:
        """Return the weights that ``warm_start`` or ``init_from`` ask to start from."""
        if self.warm_start and hasattr(self, "model_"):
            return Start(copy.deepcopy(self.model_.state_dict()), self._labels_to_json())
        return None if self.init_from is None else start_from(self.init_from, components.features)

    def _new_model(self, start: Start | None, train_set: FrameSet) -> AudioModel:
        model = self._build(self._fitted.components, self._n_outputs(), train_set.frames[0].shape[1])
        if start is None:
            model.normalization.learn(train_set.frames)
        else:
            transfer_weights(start, model, self._labels_to_json())
        return model

    def _n_outputs(self) -> int:
        raise AttributeError("a subclass says how many outputs it has")

    def _build(self, components: Components, n_outputs: int, n_features: int) -> AudioModel:
        return build_model(
            *components.parts,
            n_outputs=n_outputs,
            sample_rate=components.sample_rate,
            chunk_length=components.chunk_length,
            n_features=n_features,
            n_models=components.n_models,
        )

    def _checkpoint(self, data: Data, start: Start | None) -> Checkpoint | None:
        """Return where this very run is written: the name says what it was given."""
        if self.checkpoint_dir is None:
            return None
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                f"Got random_state={self.random_state!r} with checkpoint_dir, expected an integer: only then is a run "
                "that is started again the same run."
            )
        given = {name: repr(value) for name, value in self.get_params().items() if name not in _ELSEWHERE}
        run = hashlib.sha256(json.dumps([type(self).__name__, __version__, data.fingerprint, given]).encode())
        for tensor in () if start is None else start.weights.values():
            run.update(tensor.contiguous().cpu().numpy().data)
        return Checkpoint(Path(self.checkpoint_dir) / f"{run.hexdigest()[:16]}.safetensors")

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _config(self, seed: int) -> TrainingConfig:
        names = ("epochs", "batch_size", "muon_lr", "adam_lr", "weight_decay", "warmup_ratio", "patience", "precision")
        settings = {name: getattr(self, name) for name in (*names, "ema_decay", "keep")}
        smoothing = getattr(self, "label_smoothing", 0.0)
        return TrainingConfig(
            **settings,
            label_smoothing=smoothing,
            device=resolve_device(self.device),
            seed=seed,
            verbose=int(self.verbose),
        )

    def _learned_so_far(self, model: AudioModel) -> dict[str, Any]:
        """Return the attributes that make another estimator fitted with ``model``, in the middle of training."""
        return {
            **self._learned(),
            "model_": copy.deepcopy(model).eval(),
            "history_": list(self.history_),
            "n_epochs_": len(self.history_),
            "best_epoch_": self.best_epoch_ or len(self.history_),
        }

    def __copy__(self) -> Self:
        """Return an estimator that shares everything, also the network where it is (pickling would move it)."""
        twin: Self = type(self).__new__(type(self))
        twin.__dict__ = dict(vars(self))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Leave the GPU before being pickled, so that the copy loads on any machine."""
        state = super().__getstate__()
        if "model_" in state and state["model_"].head.weight.device.type != "cpu":
            state = {**state, "model_": copy.deepcopy(state["model_"]).cpu(), "_optimizers": None}
        return state

    # ------------------------------------------------- what was fitted

    @property
    def features_(self) -> Features:
        """The front end that the model was fitted with."""
        return self._fitted.components.features

    @property
    def augment_(self) -> list[Augment]:
        """The augmentations that the model was fitted with."""
        return list(self._fitted.components.augment)

    @property
    def sample_rate_(self) -> int:
        """The sample rate that the model was fitted with (Hz)."""
        return self._fitted.components.sample_rate

    @property
    def chunk_length_(self) -> float:
        """The length of a chunk that the model was fitted with (s)."""
        return self._fitted.components.chunk_length

    @property
    def seed_(self) -> int | None:
        """The seed that ``random_state`` gave; None for a model that an earlier release saved."""
        return self._fitted.seed

    def _check_run_params(self) -> None:
        """Check the parameters that may be changed after ``fit``."""
        constraints = {name: self._parameter_constraints[name] for name in RUN_PARAMS}
        values = {name: getattr(self, name) for name in RUN_PARAMS}
        validate_parameter_constraints(constraints, values, caller_name=type(self).__name__)

    # ------------------------------------------------------------ inference

    def transform(self, X: Any) -> np.ndarray:
        """Return the embedding of each clip: the pooled vector that the linear head works on.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips, n_embedding), float32
        """
        return self._embed(X).numpy()

    def _embed(self, X: Any) -> Tensor:
        """Return the embedding of each clip, shape (n_clips, D)."""
        check_is_fitted(self, "model_")
        self._check_run_params()
        clips = check_clips(self, X, reset=False)
        components = self._fitted.components
        device = resolve_device(self.device)
        model = on_device(self.model_, device)
        precision = "float32" if self.precision == "auto" else self.precision
        failures, everything = Failures(self.on_error), np.arange(len(clips))
        frames = self._frames(clips, everything, components, failures, model.features.n_features)
        settings = {"batch_size": self.batch_size, "device": device, "precision": precision}
        transforms = [augmentation.apply for augmentation in components.augment if augmentation.test_time]
        embeddings = []
        in_blocks = blocks(frames, _BLOCK)
        for block in ahead(in_blocks) if len(clips) > 1 else in_blocks:
            versions = [FrameStore(varied(block, transforms, seed)) for seed in range(1, self.tta if transforms else 1)]
            embedded = [embed_clips(model, version, **settings) for version in (block, *versions)]
            embeddings.append(torch.stack(embedded).mean(dim=0))
        if self.on_error != "raise":
            self.failed_ = failures.clips
        if not failures.clips:
            return check_outputs(torch.cat(embeddings), everything)
        failures.tell(len(clips))
        head = model.head
        all_embeddings = torch.full((len(clips), head.in_features), torch.nan, dtype=head.weight.dtype)
        usable = failures.without(everything)
        all_embeddings[usable] = check_outputs(torch.cat([all_embeddings[:0], *embeddings]), usable)
        return all_embeddings

    def _was_fitted_on(self, X: Any, index: np.ndarray) -> bool:
        """Return whether the clips at ``index`` are those of ``fit``, or all that trained, or all that validated.

        Frames are computed for it only where there are as many clips.
        """
        summary = getattr(self, "_data_summary", {})
        counts = [summary.get(name, 0) for name in ("n_train", "n_validation")]
        known = summary.get("clips_sha256")
        if not known or len(index) not in (*counts, sum(counts)):
            return False
        clips, components = check_clips(self, X, reset=False), self._fitted.components
        quiet = copy.copy(self).set_params(verbose=0)
        frames = quiet._frames(clips, index, components, Failures("raise"), self.model_.features.n_features)
        return clips_sha256(clip_digests(frames)) in known

    def _outputs(self, X: Any) -> Tensor:
        """Return the outputs of the head for each clip, shape (n_clips, n_outputs)."""
        embeddings = self._embed(X)
        head = self.model_.head
        with torch.inference_mode():
            outputs = head(embeddings.to(head.weight.device)).cpu()
        usable = np.flatnonzero(embeddings.isfinite().all(dim=1))  # the others were left out
        check_outputs(outputs[usable], usable)
        return outputs


def _warn_of_many_processes() -> None:
    """Warn if this process is one of several that ``torchrun`` or a similar launcher started."""
    world_size = os.environ.get("WORLD_SIZE", "")
    if world_size.isdecimal() and int(world_size) > 1:
        warn_user(
            f"The environment has WORLD_SIZE={world_size}, as if torchrun had started {world_size} processes. Each of "
            "them trains on all clips, and none shares its work with the others. Start one process, or let each train "
            "another configuration or fold."
        )
