"""The featurizer: the front end as a scikit-learn transformer."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skastw.analysis.windows import table_of_windows
from skastw.core.component import ComponentParams, component_names, component_to_config, resolve_component
from skastw.core.parameters import integers, param, parameters, take_params
from skastw.core.sklearn_private import StrOptions, fit_context
from skastw.data.cache import FrameCacheParams
from skastw.data.extraction import ReadParams, check_clips, read_frames
from skastw.data.failures import POLICIES, FailedClip, FailedClips, report_failures
from skastw.encoders import TransformersEncoder
from skastw.errors import ComponentError, plain
from skastw.estimators.arguments import ExplainedArguments, Replaced
from skastw.features import Features, FeaturesModule, Frozen, LogMel, Precomputed
from skastw.features.statistics import frame_statistics, statistic_names
from skastw.pooling import Pooling, PoolingModule
from skastw.training.transfer import build_front_end

#: Outputs that are the single frame of each clip which the front end of the same name gives.
_ROWS = ("descriptors", "egemaps", "compare")
#: Outputs with a row for each clip.
_TABLES = ("statistics", "embedding", *_ROWS)
#: Names of front ends, for the documentation.
_FRONT_ENDS = ", ".join(f'``"{name}"``' for name in component_names("features") if name != Precomputed.name)


def _makes_a_table(featurizer: ASTWFeaturizer) -> bool:
    if featurizer.output in _TABLES:
        return True
    raise AttributeError(
        f"Got output={plain(featurizer.output)!r}, expected one of {', '.join(map(repr, _TABLES))}, because only "
        "tables have named columns."
    )


@parameters
class ASTWFeaturizer(ExplainedArguments, TransformerMixin, ComponentParams, FrameCacheParams):
    """Turn clips into frames for a network, or into a table of descriptors or embeddings for other models.

    ``make_pipeline(ASTWFeaturizer(), ASTWClassifier(features="precomputed"))`` trains the same network as the
    classifier alone. ``make_pipeline(ASTWFeaturizer(output="statistics"), StandardScaler(), SVC())`` is a classical
    baseline that trains in seconds. With a frozen encoder as front end, ``output="embedding"`` gives a vector for each
    clip, for an SVM, a search of similar sounds, or clustering.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    n_bands_ : int
        Number of values in a frame, for the parameters at ``fit``. Nothing else is learned: ``transform`` uses the
        current parameters.
    failed_ : list of FailedClip
        Index, path and reason of each clip that could not be read in the last ``transform``, unless
        ``on_error="raise"``.
    n_features_in_ : int
        Number of columns of X, if X was a 2-D array.

    Examples
    --------
    >>> from skastw import ASTWFeaturizer
    >>> from skastw.datasets import make_tones
    >>> clips, y = make_tones(n_clips=4, random_state=0)
    >>> ASTWFeaturizer(output="statistics").fit_transform(clips).shape
    (4, 300)
    >>> ASTWFeaturizer().fit_transform(clips)[0].shape[1]
    80
    """

    sample_rate: int = param(
        default=16000,
        valid=[integers(1000, 1_000_000)],
        doc="Sampling rate of the waveforms that the front end takes (Hz). Clips are resampled to it. An array without "
        "a sampling rate must have it already.",
    )
    features: str | Features = param(
        default="log_mel",
        valid=[str, Features],
        doc=f"Front end, which computes frames from a waveform: {_FRONT_ENDS}.",
    )
    output: str = param(
        default="frames",
        valid=[StrOptions({"frames", *_TABLES})],
        doc='``"frames"`` returns an array of shape (n_frames, n_features) for each clip. The others return a row per '
        'clip. ``"statistics"``: for each band and for 20 cepstral coefficients, the mean, the standard deviation and '
        'the standard deviation of the change from frame to frame. ``"embedding"``: the frames, pooled. '
        '``"descriptors"``: pitch, level, timbre and rhythm; pass '
        ":class:`~skastw.features.Descriptors` as ``features`` to choose families of them. "
        '``"egemaps"`` and ``"compare"``: the feature sets of openSMILE, with the extra ``opensmile``, whose licence '
        "is for research only.",
    )
    pooling: str | Pooling = param(
        default="mean",
        valid=[str, Pooling],
        doc='Pooling of the frames for ``output="embedding"``: ``"mean"``, ``"max"``, ``"first"`` or ``"last"``.',
    )
    device: str | torch.device = param(
        default="auto",
        valid=[str, torch.device],
        doc='Device of the front end. ``"auto"`` uses the GPU if the machine has one, and else the CPU.',
    )
    n_jobs: int | None = param(
        default=None,
        valid=[Integral, None],
        doc="Number of threads that decode clips, counted as in joblib.",
    )
    on_error: str = param(
        default="raise",
        valid=[StrOptions(set(POLICIES))],
        doc="What ``transform`` does with clips that cannot be read: raise an error, or return an empty array or NaN "
        "statistics for them, with or without a warning. ``failed_`` then lists these clips.",
    )
    verbose: int = param(default=0, valid=["verbose"], doc="1 shows a progress bar.")

    save = Replaced("clf.save_pretrained(folder, featurizer=...) of the classifier that takes its frames, or pickle it")

    @classmethod
    def from_weights(cls, weights: str | os.PathLike[str], *, revision: str | None = None, **params: Any) -> Self:
        """Return a featurizer that gives the embeddings of a pretrained network of transformers, without training.

        Parameters
        ----------
        weights, revision
            See :class:`~skastw.encoders.TransformersEncoder`.
        **params
            Other parameters of the featurizer, such as ``pooling`` and ``device``.

        Returns
        -------
        ASTWFeaturizer
            With the sampling rate of the network, and chunks of at most 30 s.

        Raises
        ------
        WeightsError
            If the weights cannot be read.

        Examples
        --------
        >>> from skastw import ASTWFeaturizer
        >>> featurizer = ASTWFeaturizer.from_weights("user/net", revision="main")  # doctest: +SKIP
        >>> featurizer.fit_transform(["dog.wav", "cat.wav"]).shape  # doctest: +SKIP
        (2, 768)
        """
        encoder, sample_rate, longest = TransformersEncoder(weights=weights, revision=revision).with_settings()
        features = Frozen(encoder=encoder, chunk_length=min(longest, 30.0))
        return cls(**{"features": features, "sample_rate": sample_rate, "output": "embedding", **params})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> ASTWFeaturizer:
        """Check the parameters and X; no statistics are learned.

        Parameters
        ----------
        X : sequence of clips, or ndarray of shape (n_clips, n_samples)
        y : ignored

        Returns
        -------
        self
        """
        check_clips(self, X, reset=True)
        self.__dict__.pop("_built", None)  # a checkpoint may have changed
        settings = self._settings(self.resolve_features())
        self._built = settings, self.front_end()
        self.n_bands_ = self._built[1][1].n_features
        return self

    def transform(self, X: Any) -> Any:
        """Return the frames or the row of each clip.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of n_clips items of shape (n_frames, n_features), float32
            With ``output="frames"``. If all clips have the same number of frames, the shape is
            (n_clips, n_frames, n_features); otherwise it is (n_clips,) with dtype object.
        ndarray of shape (n_clips, n_columns), float32
            With the other outputs.

        Raises
        ------
        ClipError
            If a clip cannot be used and ``on_error="raise"``. The message names its index and path.
        """
        check_is_fitted(self, "n_bands_")
        clips = check_clips(self, X, reset=False)

        features, module = self.front_end()
        row = self._row(module.n_features)
        outcomes = read_frames(
            clips, range(len(clips)), features, self.sample_rate, take_params(ReadParams, self), front_end=module
        )

        items, failed = [], FailedClips()
        for outcome in outcomes:
            if isinstance(outcome.result, FailedClip):
                failed.append(outcome.result)
                items.append(row.missing)
            else:
                items.append(row.of(outcome.result).numpy())

        if self.on_error != "raise":
            self.failed_ = failed
        report_failures(failed, len(clips), self.on_error)
        return _as_array(items) if self.output == "frames" else np.stack(items)

    @available_if(_makes_a_table)
    def transform_windows(self, X: Any, *, window: float, hop: float | None = None) -> pd.DataFrame:
        """Return the rows of windows along each clip, for every output except ``"frames"``.

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
            the names of :meth:`get_feature_names_out`. A clip that cannot be read gets one row of NaN, unless
            ``on_error="raise"``.

        Raises
        ------
        ValueError
            If ``window`` or ``hop`` is shorter than one sample or not a number.
        ClipError
            If a clip cannot be used and ``on_error="raise"``.

        Examples
        --------
        >>> from skastw import ASTWFeaturizer
        >>> from skastw.datasets import make_tones
        >>> clips, y = make_tones(n_clips=4, random_state=0)
        >>> featurizer = ASTWFeaturizer(output="embedding").fit(clips)
        >>> featurizer.transform_windows(clips[:1], window=0.2).columns[:4].tolist()
        ['clip', 'start', 'end', 'embedding_0']
        """
        check_is_fitted(self, "n_bands_")
        clips = check_clips(self, X, reset=False)
        _, module = self.front_end()
        # overlapping windows would fill cache_dir with many copies of the same frames
        reading = copy.copy(self).set_params(on_error="raise", cache_dir=None, verbose=0)

        names = self._row(module.n_features).names
        table, failed = table_of_windows(
            clips, reading.transform, names, self.sample_rate, window=window, hop=hop, on_error=self.on_error
        )
        if self.on_error != "raise":
            self.failed_ = failed
        return table.reset_index(drop=True)

    @available_if(_makes_a_table)
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the column names of the table that every output except ``"frames"`` gives.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (n_columns,) of str
        """
        check_is_fitted(self, "n_bands_")
        _, module = self.front_end()
        return np.asarray(self._row(module.n_features).names, dtype=object)

    def front_end(self) -> tuple[Features, FeaturesModule]:
        """Return the front end as a component and as the built module, with its weights.

        Raises
        ------
        ComponentError
            See :meth:`resolve_features`.
        WeightsError
            If the weights of a checkpoint cannot be read.
        """
        features = self.resolve_features()
        settings, built = vars(self).get("_built", (None, None))
        if built is not None and settings == self._settings(features):
            return built
        features = features.resolved(self.sample_rate, 0.0)  # a frozen encoder has a chunk length of its own
        return features, build_front_end(features, self.sample_rate)

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything that the output depends on: parameters and weights of the front end."""
        features, module = self.front_end()
        settings = [component_to_config(features), self.sample_rate, self.output, repr(self.pooling)]
        digest = hashlib.sha256(json.dumps(settings, default=repr).encode())
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def _row(self, n_features: int) -> _Row:
        """Return how frames of ``n_features`` values become one item of the output."""
        if self.output == "frames":
            return _Row([], lambda frames: frames, np.empty((0, n_features), dtype=np.float32))
        if self.output == "statistics":
            names, of = statistic_names(n_features), frame_statistics
        elif self.output in _ROWS:
            names, of = self.resolve_features().value_names(self.sample_rate) or [], _only_frame
        else:
            pooling = resolve_component(Pooling, self.pooling)
            pooling.check_params()
            module = pooling.build(n_features)
            if list(module.parameters()):
                raise ComponentError(
                    f"Got pooling={pooling.name!r} with output='embedding', expected a pooling without weights, such "
                    "as 'mean', because a featurizer does not train."
                )
            names, of = [f"embedding_{i}" for i in range(module.n_outputs)], partial(_pooled, module)
        return _Row(names, of, np.full(len(names), np.nan, dtype=np.float32))

    def _settings(self, features: Features) -> tuple[Any, int]:
        """Return the values that the built front end depends on."""
        return component_to_config(features), self.sample_rate

    def resolve_features(self) -> Features:
        """Return the front end as a checked component.

        Returns
        -------
        Features

        Raises
        ------
        ComponentError
            If the front end is unknown, has a parameter that is not valid, is ``"precomputed"``, or does not support
            the output.
        """
        features = resolve_component(Features, self.features)
        if self.output in _ROWS and features.name != self.output:
            if self.features != LogMel.name:
                raise ComponentError(
                    f"Got output={self.output!r} with features={features.name!r}, expected the front end "
                    f"{self.output!r}: leave features out, or set it to {self.output!r} or an object of its class."
                )
            features = resolve_component(Features, self.output)
        features.check_params()
        if isinstance(features, Precomputed):
            raise ComponentError("Got features='precomputed', expected a front end that takes clips.")
        if self.output == "statistics" and not features.log_mel:
            raise ComponentError(
                f"Got output='statistics' with features={features.name!r}, expected a log-mel front end, because the "
                "statistics describe log-mel bands and their cepstra; set features='log_mel' or output='frames'."
            )
        return features


@dataclass(frozen=True)
class _Row:
    """How the frames of a clip become one item of the output.

    Attributes
    ----------
    names : list of str
        Names of the columns of a table.
    of : callable
        Function of the frames (T, F).
    missing : ndarray
        Item for a clip that cannot be read.
    """

    names: list[str]
    of: Callable[[Tensor], Tensor]
    missing: np.ndarray


def _only_frame(frames: Tensor) -> Tensor:
    return frames[0]


def _pooled(pooling: PoolingModule, frames: Tensor) -> Tensor:
    return pooling(frames[None], torch.tensor([len(frames)]))[0]


def _as_array(items: list[np.ndarray]) -> np.ndarray:
    """Return the items as one array if they have the same shape, and otherwise as an object array."""
    if len({item.shape for item in items}) == 1:
        return np.stack(items)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
