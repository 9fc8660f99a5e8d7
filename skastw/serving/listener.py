"""Predictions and a spectrogram of a clip for the page, with a size that does not grow with the clip."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional as F

from skastw.estimators.classifier import ASTWClassifier
from skastw.features import LogMel

__all__ = ["Listener", "spectrogram_picture", "windows_of"]

#: Most columns of a spectrogram picture, and most windows along a clip.
_COLUMNS, _WINDOWS = 512, 400
#: Range of log-mel frames (80 dB), and the lowest maximum (-60 dB), so that silence stays dark.
_RANGE, _QUIET = 2.0, -0.5


@dataclass(frozen=True)
class Listener:
    """A classifier and the settings of its demo page.

    Parameters
    ----------
    classifier : ASTWClassifier
        Fitted on clips, not on precomputed frames.
    top_k : int
        Number of classes to show.
    window : float or None
        Length of a window (s); None for a length that depends on the clip.

    Raises
    ------
    TypeError
        If the model is not an ``ASTWClassifier``, or takes precomputed frames.
    ValueError
        If ``top_k`` or ``window`` is too small.
    sklearn.exceptions.NotFittedError
        Before ``fit``.

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.serving.listener import Listener
    >>> X, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(X, y)
    >>> result = Listener(clf, top_k=2, window=None).hear(X[0])
    >>> sorted(result), len(result["top"])
    (['seconds', 'spectrogram', 'top', 'windows'], 2)
    """

    classifier: ASTWClassifier
    top_k: int
    window: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.classifier, ASTWClassifier):
            got = type(self.classifier).__name__
            raise TypeError(f"Got a model of type {got}, expected a fitted ASTWClassifier: the page shows classes.")
        check_is_fitted(self.classifier)
        if self.classifier.features_.name == "precomputed":
            raise TypeError("Got features='precomputed', expected a classifier with a front end: the page takes clips.")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1:
            raise ValueError(f"Got top_k={self.top_k!r}, expected an integer of at least 1.")
        if self.window is not None and not 2 <= self.window * self.classifier.sample_rate_ < np.inf:
            raise ValueError(f"Got window={self.window!r}, expected seconds, and at least two samples.")

    def about(self) -> dict[str, Any]:
        """Return facts about the model for the page."""
        return {
            "classes": len(self.classifier.classes_),
            "multilabel": not self.classifier.trained_.targets.exclusive,
            "sample_rate": self.classifier.sample_rate_,
        }

    def hear(self, waveform: np.ndarray) -> dict[str, Any]:
        """Return predictions and the spectrogram of a waveform (n_samples,) at the model's rate, as JSON values."""
        classifier = self.classifier
        (top,) = classifier.predict_top_k([waveform], k=self.top_k)
        return {
            "seconds": len(waveform) / classifier.sample_rate_,
            "top": [_labelled(label, probability) for label, probability in top],
            "spectrogram": spectrogram_picture(waveform, _log_mel_like(classifier), classifier.sample_rate_),
            "windows": windows_of(classifier, waveform, window=self.window, n_rows=self.top_k),
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


def windows_of(
    classifier: ASTWClassifier, waveform: np.ndarray, *, window: float | None, n_rows: int
) -> dict[str, Any]:
    """Return the predictions of at most 400 windows along a waveform.

    Parameters
    ----------
    classifier : ASTWClassifier
    waveform : ndarray of shape (n_samples,), float32
    window : float or None
        Length of a window (s); None for a fifth of the clip, but from 0.5 to 5 seconds.
    n_rows : int
        Number of classes with probabilities for all windows: the classes with the highest probability in any window.

    Returns
    -------
    dict
        ``size`` of a window (s); ``starts`` and ``ends`` (s); ``rows``, each a label and its probability in all
        windows; ``best``, the most probable label of each window with its probability.
    """
    seconds = len(waveform) / classifier.sample_rate_
    if window is None:
        window = max(min(seconds / 5, 5.0, classifier.chunk_length_), 0.5, 2 / classifier.sample_rate_)
    hop = max(window / 2, (seconds - window) / (_WINDOWS - 2))
    table = classifier.predict_windows([waveform], window=window, hop=hop)

    probabilities = table.iloc[:, 3:].to_numpy(dtype=np.float64)
    labels = classifier.classes_.tolist()
    highest = np.argsort(-probabilities.max(axis=0), kind="stable")[:n_rows]
    best = zip(probabilities.argmax(axis=1), probabilities.max(axis=1).round(4).tolist(), strict=True)

    return {
        "size": min(window, seconds),
        "starts": table["start"].tolist(),
        "ends": table["end"].tolist(),
        "rows": [{"label": str(labels[i]), "probabilities": probabilities[:, i].round(4).tolist()} for i in highest],
        "best": [_labelled(labels[i], probability) for i, probability in best],
    }


def _labelled(label: Any, probability: float) -> dict[str, Any]:
    return {"label": str(label), "probability": probability}


def _log_mel_like(classifier: ASTWClassifier) -> LogMel:
    """Return a log-mel front end with the resolution of the classifier's front end."""
    features = classifier.features_
    shared = {name: getattr(features, name) for name in LogMel().get_params() if hasattr(features, name)}
    return LogMel(**shared)
