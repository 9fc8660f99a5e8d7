"""Predictions and a spectrogram of a clip for the page, with a size that does not grow with the clip."""

import base64
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional as F

from skastw.analysis.windows import window_table
from skastw.core.checks import check_positive
from skastw.core.parameters import take_params
from skastw.errors import plain
from skastw.estimators.classifier import ASTWClassifier
from skastw.features import Features, LogMel
from skastw.network.inference import InferenceParams, predict
from skastw.network.trained import Trained
from skastw.targets import ClassTargets

#: Most columns of a spectrogram picture, and most windows along a clip.
_COLUMNS, _WINDOWS = 512, 400
#: Range of log-mel frames (80 dB), and the lowest maximum (-60 dB), so that silence stays dark.
_RANGE, _QUIET = 2.0, -0.5


@dataclass(frozen=True)
class Listener:
    """A model of classes, and how its predictions are shown.

    Parameters
    ----------
    trained : Trained
    params : InferenceParams
    top_k : int
        Number of classes to show.
    window : float or None
        Length of a window (s); None chooses it by the length of the clip.

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.serving.listener import Listener
    >>> X, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(X, y)
    >>> answer = Listener.of(clf, top_k=2).hear(X[0])
    >>> sorted(answer), len(answer["top"])
    (['seconds', 'spectrogram', 'top', 'windows'], 2)
    """

    trained: Trained
    params: InferenceParams
    top_k: int
    window: float | None

    @classmethod
    def of(cls, classifier: ASTWClassifier, *, top_k: int, window: float | None = None) -> Self:
        """Return the listener of a fitted classifier.

        Raises
        ------
        TypeError
            If the estimator is not a classifier, or has no front end.
        ValueError
            If ``top_k`` or ``window`` is too small.
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        if not isinstance(classifier, ASTWClassifier):
            got = type(classifier).__name__
            raise TypeError(f"Got a model of type {got}, expected a fitted ASTWClassifier: the page shows classes.")
        check_is_fitted(classifier)
        trained = classifier.trained_
        if trained.components.precomputed:
            raise TypeError("Got features='precomputed', expected a classifier with a front end: the page takes clips.")
        check_positive(top_k=top_k)
        if window is not None and not 2 <= window * trained.components.sample_rate < np.inf:
            raise ValueError(f"Got window={plain(window)!r}, expected seconds, and at least two samples.")
        return cls(trained, take_params(InferenceParams, classifier), top_k, window)

    @property
    def targets(self) -> ClassTargets:
        """The classes."""
        assert isinstance(self.trained.targets, ClassTargets)
        return self.trained.targets

    @property
    def sample_rate(self) -> int:
        """Sample rate of the waveforms (Hz)."""
        return self.trained.components.sample_rate

    def about(self) -> dict[str, Any]:
        """Return facts about the model for the page."""
        return {
            "encoder": self.trained.components.encoder.name,
            "classes": self.targets.n_outputs,
            "multilabel": not self.targets.exclusive,
            "sample_rate": self.sample_rate,
        }

    def hear(self, waveform: np.ndarray) -> dict[str, Any]:
        """Return predictions and the spectrogram of a waveform (n_samples,) at the model's rate, as JSON values."""
        outputs, _ = predict(self.trained, [waveform], self.params)
        [top] = self.targets.top_k(outputs, self.top_k)
        log_mel = _log_mel_like(self.trained.components.features)
        return {
            "seconds": len(waveform) / self.sample_rate,
            "top": [_labelled(label, probability) for label, probability in top],
            "spectrogram": spectrogram_picture(waveform, log_mel, self.sample_rate),
            "windows": self.windows(waveform),
        }

    def windows(self, waveform: np.ndarray) -> dict[str, Any]:
        """Return the predictions of at most 400 windows along a waveform (n_samples,).

        Returns
        -------
        dict
            ``size`` of a window (s); ``starts`` and ``ends`` (s); ``rows``, each a label and its probability in all
            windows, of the classes with the highest probability in any window; ``best``, the most probable label of
            each window with its probability.
        """
        seconds, window = len(waveform) / self.sample_rate, self.window
        if window is None:
            chunk_length = self.trained.components.chunk_length
            window = max(min(seconds / 5, 5.0, chunk_length), 0.5, 2 / self.sample_rate)
        hop = max(window / 2, (seconds - window) / (_WINDOWS - 2))
        table, _ = window_table(self.trained, [waveform], self.params, window=window, hop=hop)

        labels = self.targets.labels
        probabilities = table.iloc[:, 3:].to_numpy(dtype=np.float64)
        highest = np.argsort(-probabilities.max(axis=0), kind="stable")[: self.top_k]
        best = zip(probabilities.argmax(axis=1), probabilities.max(axis=1).round(4).tolist(), strict=True)
        rows = [{"label": str(labels[i]), "probabilities": probabilities[:, i].round(4).tolist()} for i in highest]

        return {
            "size": min(window, seconds),
            "starts": table["start"].tolist(),
            "ends": table["end"].tolist(),
            "rows": rows,
            "best": [_labelled(labels[i], probability) for i, probability in best],
        }


def spectrogram_picture(waveform: np.ndarray, log_mel: LogMel, sample_rate: int) -> dict[str, Any]:
    """Return a log-mel spectrogram of at most 512 columns.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,), float32
    log_mel : LogMel
    sample_rate : int
        Hz.

    Returns
    -------
    dict
        ``rows`` and ``columns``; ``levels``, base64 of one byte per point, the highest band first, 255 for the loudest
        point and 0 for 80 dB below it; ``frequencies``, the centres of the bands in ascending order (Hz).

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.serving.listener import spectrogram_picture
    >>> from skastw.features import LogMel
    >>> picture = spectrogram_picture(np.zeros(160_000, dtype=np.float32), LogMel(), 16000)
    >>> picture["rows"], picture["columns"]
    (80, 512)
    """
    bands = log_mel.build(sample_rate).extract([torch.from_numpy(waveform)])[0].T
    if bands.shape[1] > _COLUMNS:  # the maximum, so that a click is not lost
        bands = F.adaptive_max_pool1d(bands, _COLUMNS)

    loudest = max(float(bands.max()), _QUIET)
    levels = ((bands - loudest + _RANGE) * (255 / _RANGE)).clamp(0, 255).round().to(torch.uint8)
    return {
        "rows": levels.shape[0],
        "columns": levels.shape[1],
        "levels": base64.b64encode(levels.flip(0).contiguous().numpy().tobytes()).decode("ascii"),
        "frequencies": log_mel.frequencies(sample_rate).round(1).tolist(),
    }


def _labelled(label: Any, probability: float) -> dict[str, Any]:
    return {"label": str(label), "probability": probability}


def _log_mel_like(features: Features) -> LogMel:
    """Return a log-mel front end with the resolution of another front end."""
    shared = {name: getattr(features, name) for name in LogMel().get_params() if hasattr(features, name)}
    return LogMel(**shared)
