"""Ten spoken digits by twenty synthetic voices, carried in the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

__all__ = ["load_spoken_digits"]

_FOLDER = Path(__file__).parent / "data" / "spoken_digits"
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DESCR = """\
Spoken digits
-------------

400 clips: the English digits zero to nine, by twenty synthetic voices, two takes each (the second slower and
higher). Mono, 16 kHz, OGG Vorbis, 0.3 to 1.2 seconds long.

The voices are espeak-ng's formant synthesis with different accents, timbres, pitches and speeds; nobody was
recorded. examples/spoken_digits/synthesize.py regenerates the files. They are part of skastw and under its
licence (MIT).

Split by voice (``groups``): a classifier that hears a voice in training knows it in the test.
"""


def load_spoken_digits(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load the spoken digits: real audio files, no download.

    =================  ==========
    Classes            10
    Voices             20
    Clips              400
    Sample rate        16 kHz
    =================  ==========

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the
        columns ``audio``, ``target`` and ``voice``.

    Returns
    -------
    Bunch
        ``data`` : list of 400 paths, or DataFrame;
        ``target`` : ndarray of shape (400,) of str ("zero" to "nine"), or Series;
        ``target_names`` : list of the ten classes, in numerical order;
        ``groups`` : ndarray of shape (400,) of str, the voices;
        ``frame`` : DataFrame, with ``as_frame=True``;
        ``DESCR`` : description and licence.
    (data, target) : tuple
        With ``return_X_y=True``.

    Examples
    --------
    >>> from skastw.datasets import load_spoken_digits
    >>> clips = load_spoken_digits()
    >>> len(clips.data), len(set(clips.groups)), clips.target_names[:3]
    (400, 20, ['zero', 'one', 'two'])
    """
    paths = sorted(_FOLDER.glob("*.ogg"))
    parts = [path.stem.split("_") for path in paths]
    data: Any = [str(path) for path in paths]
    target: Any = np.array([_DIGITS[int(digit)] for digit, _, _ in parts])
    groups = np.array([voice for _, voice, _ in parts])
    frame = None
    if as_frame:
        import pandas as pd

        frame = pd.DataFrame({"audio": data, "target": target, "voice": groups})
        data, target = frame[["audio"]], frame["target"]
    if return_X_y:
        return data, target
    return Bunch(data=data, target=target, target_names=list(_DIGITS), groups=groups, frame=frame, DESCR=_DESCR)
