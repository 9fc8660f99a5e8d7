"""Speed of a recipe on this machine, measured in a minute before hours of training."""

import io
import os
import time
from collections.abc import Callable
from typing import Any

from skastw.core.device import resolve_device
from skastw.datasets import make_tones
from skastw.estimators.classifier import ASTWClassifier
from skastw.estimators.featurizer import ASTWFeaturizer
from skastw.network.model import count_parameters


def measure_speed(
    recipe: str | os.PathLike[str] = "astw", *, n_clips: int = 32, duration: float = 5.0, device: str = "auto"
) -> dict[str, Any]:
    """Measure how many clips per second a recipe reads, trains on and predicts.

    Parameters
    ----------
    recipe : str or path, default="astw"
        See :func:`skastw.recipes.load_recipe`.
    n_clips : int, default=32
        Number of generated FLAC files, in memory; more give steadier results.
    duration : float, default=5.0
        Length of each clip (s).
    device : str, default="auto"
        Device of the computation.

    Returns
    -------
    dict
        ``recipe``, ``device``, ``n_clips``, ``duration``, ``n_parameters`` (of a model with two classes) and, in clips
        per second, ``features`` (decoding and front end, which training does once), ``training`` (one epoch with
        computed frames) and ``prediction`` (from the file to the probabilities).

    Raises
    ------
    RecipeError
        If the recipe is unknown.
    ValueError
        If ``n_clips`` is less than 2, or ``duration`` is not positive.

    Notes
    -----
    The result is the fastest of three equal rounds, or of two epochs. Other work on the machine makes it slower.

    Examples
    --------
    >>> from skastw.evaluation.bench import measure_speed
    >>> speed = measure_speed("tiny", n_clips=2, duration=0.5, device="cpu")
    >>> speed["prediction"] > 0
    True
    """
    if n_clips < 2 or duration <= 0:
        raise ValueError(f"Got n_clips={n_clips} and duration={duration}, expected at least 2 clips and some seconds.")

    classifier = ASTWClassifier.from_recipe(recipe).set_params(
        epochs=2, min_steps=0, val_split=None, ema_decay=None, device=device
    )
    featurizer = ASTWFeaturizer(sample_rate=classifier.sample_rate, features=classifier.features)
    clips, y = _flac_tones(n_clips, duration, classifier.sample_rate)

    feature_seconds = _seconds(lambda: featurizer.fit_transform(clips))
    classifier.fit(clips, y)
    prediction_seconds = _seconds(lambda: classifier.predict_proba(clips))

    return {
        "recipe": os.fspath(recipe),
        "device": str(resolve_device(device)),
        "n_clips": n_clips,
        "duration": duration,
        "n_parameters": count_parameters(classifier.model_),
        "features": n_clips / feature_seconds,
        "training": n_clips / min(row["seconds"] for row in classifier.history_),
        "prediction": n_clips / prediction_seconds,
    }


def _flac_tones(n_clips: int, duration: float, sample_rate: int) -> tuple[list[dict[str, bytes]], Any]:
    """Return FLAC files in memory, which leave nothing behind if the process is killed."""
    import soundfile

    waveforms, y = make_tones(
        n_clips, n_classes=2, duration=(duration, duration), sample_rate=sample_rate, random_state=0
    )
    clips = []
    for waveform in waveforms:
        content = io.BytesIO()
        soundfile.write(content, waveform, sample_rate, format="FLAC")
        clips.append({"bytes": content.getvalue()})
    return clips, y


def _seconds(work: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of three rounds."""
    rounds = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        rounds.append(time.perf_counter() - began)
    return min(rounds)
