"""What the page shows of a clip, as numbers whose amount does not grow with the clip."""

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

#: Columns of the picture of a spectrogram, and windows along a clip, at most.
_COLUMNS, _WINDOWS = 512, 400
#: Frames of log-mel span at most this much, 80 dB; where all is quieter than -60 dB, the picture stays dark.
_RANGE, _QUIET = 2.0, -0.5


@dataclass(frozen=True)
class Listener:
    """A classifier, and how its predictions are shown.

    Parameters
    ----------
    classifier : ASTWClassifier
        Fitted, and of clips.
    top_k : int
        Classes to show.
    window : float or None
        Seconds of a window; None suits it to the clip.

    Raises
    ------
    TypeError
        If the classifier is none, or takes precomputed frames.
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
    >>> found = Listener(clf, top_k=2, window=None).hear(X[0])
    >>> sorted(found), len(found["top"])
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
        """Return what the page says of the model before it hears a clip."""
        return {
            "classes": len(self.classifier.classes_),
            "multilabel": not self.classifier.trained_.targets.exclusive,
            "sample_rate": self.classifier.sample_rate_,
        }

    def hear(self, waveform: np.ndarray) -> dict[str, Any]:
        """Return what the model hears in a waveform (n_samples,) at its sample rate, ready for JSON."""
        classifier = self.classifier
        (top,) = classifier.predict_top_k([waveform], k=self.top_k)
        return {
            "seconds": len(waveform) / classifier.sample_rate_,
            "top": [{"label": str(label), "probability": probability} for label, probability in top],
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
        ``rows`` and ``columns``; ``levels``, base64 of a byte a point, the highest band first, 255 for the loudest and
        0 for 80 dB below it; ``frequencies``, the middle of each band from the lowest (Hz).

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
    if bands.shape[1] > _COLUMNS:
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
        Seconds; None is a fifth of the clip, within half a second and five seconds.
    n_rows : int
        Classes to follow: those that are the most probable in any window.

    Returns
    -------
    dict
        ``size`` (s) of a window; ``starts`` and ``ends`` (s); ``rows``, a label and its probability in each window;
        ``best``, the most probable label of each window with its probability.
    """
    seconds = len(waveform) / classifier.sample_rate_
    if window is None:
        window = max(min(seconds / 5, 5.0, classifier.chunk_length_), 0.5, 2 / classifier.sample_rate_)
    hop = max(window / 2, (seconds - window) / (_WINDOWS - 2))
    table = classifier.predict_windows([waveform], window=window, hop=hop)
    probabilities = table.iloc[:, 3:].to_numpy(dtype=np.float64)
    labels = [str(label) for label in classifier.classes_.tolist()]
    followed = np.argsort(-probabilities.max(axis=0), kind="stable")[:n_rows]
    best = probabilities.argmax(axis=1)
    return {
        "size": min(window, seconds),
        "starts": table["start"].tolist(),
        "ends": table["end"].tolist(),
        "rows": [{"label": labels[i], "probabilities": probabilities[:, i].round(4).tolist()} for i in followed],
        "best": [
            {"label": labels[i], "probability": round(p, 4)}
            for i, p in zip(best, probabilities.max(axis=1), strict=True)
        ],
    }


def _log_mel_like(classifier: ASTWClassifier) -> LogMel:
    """Return the log-mel front end with the resolution of the classifier's own."""
    features = classifier.features_
    shared = {name: getattr(features, name) for name in LogMel().get_params() if hasattr(features, name)}
    return LogMel(**shared)
