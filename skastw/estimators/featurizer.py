"""The featurizer: the front end as a scikit-learn transformer."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skastw.core.component import ComponentParams, component_names, resolve_component
from skastw.core.parameters import integers, param, parameters
from skastw.core.sklearn_private import StrOptions, fit_context
from skastw.data.cache import FrameCacheParams, open_cache
from skastw.data.extraction import check_clips, extract_frames
from skastw.data.failures import POLICIES, FailedClip, FailedClips, report_failures
from skastw.errors import ComponentError, plain
from skastw.estimators.arguments import ExplainedArguments, Replaced
from skastw.features import Features, Precomputed
from skastw.features.statistics import frame_statistics, statistic_names

#: Names of front ends, for the documentation.
_FRONT_ENDS = ", ".join(f'``"{name}"``' for name in component_names("features") if name != Precomputed.name)


def _makes_a_table(featurizer: ASTWFeaturizer) -> bool:
    if featurizer.output == "statistics":
        return True
    raise AttributeError(f"Got output={plain(featurizer.output)!r}: only output='statistics' has named columns.")


@parameters
class ASTWFeaturizer(ExplainedArguments, TransformerMixin, ComponentParams, FrameCacheParams):
    """Turn clips into frames for a network, or into a table of statistics for classical models.

    ``make_pipeline(ASTWFeaturizer(), ASTWClassifier(features="precomputed"))`` trains the same network as the
    classifier alone. ``make_pipeline(ASTWFeaturizer(output="statistics"), StandardScaler(), SVC())`` is a classical
    baseline that trains in seconds.

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
        valid=[StrOptions({"frames", "statistics"})],
        doc='``"frames"`` returns an array of shape (n_frames, n_features) for each clip. ``"statistics"`` returns one '
        "row per clip: for each band and for 20 cepstral coefficients, the mean, the standard deviation and the "
        "standard deviation of the change from frame to frame.",
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
        self.n_bands_ = self.resolve_features().build(self.sample_rate).n_features
        return self

    def transform(self, X: Any) -> Any:
        """Return the frames or the statistics of each clip.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of n_clips items of shape (n_frames, n_features), float32
            With ``output="frames"``. If all clips have the same number of frames, the shape is
            (n_clips, n_frames, n_features); otherwise it is (n_clips,) with dtype object.
        ndarray of shape (n_clips, n_statistics), float32
            With ``output="statistics"``.

        Raises
        ------
        ClipError
            If a clip cannot be used and ``on_error="raise"``. The message names its index and path.
        """
        check_is_fitted(self, "n_bands_")
        clips = check_clips(self, X, reset=False)

        features = self.resolve_features()
        front_end = features.build(self.sample_rate)
        outcomes = extract_frames(
            clips,
            front_end,
            sample_rate=self.sample_rate,
            cache=open_cache(self, features, front_end, self.sample_rate, "cpu"),
            n_jobs=self.n_jobs,
            verbose=int(self.verbose),
        )

        table = self.output == "statistics"
        empty = (
            np.full(len(statistic_names(front_end.n_features)), np.nan, dtype=np.float32)
            if table
            else np.empty((0, front_end.n_features), dtype=np.float32)
        )

        items, failed = [], FailedClips()
        for outcome in outcomes:
            if isinstance(outcome.result, FailedClip):
                outcome.result.check(self.on_error)
                failed.append(outcome.result)
                items.append(empty)
            else:
                items.append((frame_statistics(outcome.result) if table else outcome.result).numpy())

        if self.on_error != "raise":
            self.failed_ = failed
        report_failures(failed, len(clips), self.on_error)
        return np.stack(items) if table else _as_array(items)

    @available_if(_makes_a_table)
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the column names of the table that ``output="statistics"`` gives.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (n_statistics,) of str
        """
        check_is_fitted(self, "n_bands_")
        n_bands = self.resolve_features().build(self.sample_rate).n_features
        return np.asarray(statistic_names(n_bands), dtype=object)

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
        features.check_params()
        if isinstance(features, Precomputed):
            raise ComponentError("Got features='precomputed', expected a front end that takes clips.")
        if self.output == "statistics" and not features.log_mel:
            raise ComponentError(
                f"Got output='statistics' with features={features.name!r}, expected a log-mel front end, because the "
                "statistics describe log-mel bands and their cepstra; set features='log_mel' or output='frames'."
            )
        return features


def _as_array(items: list[np.ndarray]) -> np.ndarray:
    """Return the items as one array if they have the same shape, and otherwise as an object array."""
    if len({item.shape for item in items}) == 1:
        return np.stack(items)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
