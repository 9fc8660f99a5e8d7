"""Generated tones: a data set in memory, for tests and examples."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def make_tones(
    n_clips: int = 60,
    *,
    n_classes: int = 3,
    duration: tuple[float, float] = (0.2, 0.5),
    sample_rate: int = 16000,
    noise: float = 0.01,
    random_state: Any = None,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Generate clips of pure tones, one pitch region a class.

    Class k is a sine near ``300 * 2**k`` Hz (within a semitone) of random phase and level, in white noise.

    Parameters
    ----------
    n_clips : int, default=60
    n_classes : int, default=3
        At most as many as octaves fit below half the sample rate.
    duration : (float, float), default=(0.2, 0.5)
        Shortest and longest clip (s).
    sample_rate : int, default=16000
        Hz.
    noise : float, default=0.01
        Standard deviation of the noise; the tone's amplitude is between 0.1 and 0.9.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    clips : list of n_clips ndarrays of shape (n_samples,), float32
    y : ndarray of shape (n_clips,), int64
        Classes, as equally frequent as ``n_clips`` allows.

    Raises
    ------
    ValueError
        If the highest class would pass half the sample rate.

    Examples
    --------
    >>> from skastw.datasets import make_tones
    >>> clips, y = make_tones(n_clips=6, n_classes=2, random_state=0)
    >>> len(clips), y.tolist()
    (6, [0, 1, 0, 1, 0, 1])
    """
    if 300 * 2 ** (n_classes - 1) * 1.06 >= sample_rate / 2:
        raise ValueError(
            f"Got n_classes={n_classes} at sample_rate={sample_rate}, expected the highest tone, "
            f"{300 * 2 ** (n_classes - 1)} Hz, to stay below half the sample rate."
        )

    rng = check_random_state(random_state)
    y = np.arange(n_clips) % n_classes

    clips = []
    for label in y:
        n_samples = max(1, round(rng.uniform(*duration) * sample_rate))
        time = np.arange(n_samples) / sample_rate
        frequency = 300 * 2.0**label * 2 ** (rng.uniform(-1, 1) / 12)
        tone = rng.uniform(0.1, 0.9) * np.sin(2 * np.pi * (frequency * time + rng.uniform()))
        clips.append((tone + noise * rng.standard_normal(n_samples)).astype(np.float32))
    return clips, y
