"""Ten spoken digits by twenty synthetic voices, part of the package."""

from pathlib import Path
from typing import Any

from skastw.datasets._public_set import PublicSet, as_bunch

_FOLDER = Path(__file__).parent / "data" / "spoken_digits"
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _read() -> Any:
    import pandas as pd

    paths = sorted(_FOLDER.glob("*.ogg"))
    digits, voices, _ = zip(*(path.stem.split("_") for path in paths), strict=True)
    target = [_DIGITS[int(digit)] for digit in digits]
    return pd.DataFrame({"audio": list(map(str, paths)), "target": target, "voice": voices})


SPOKEN_DIGITS = PublicSet(
    name="spoken_digits",
    title="Spoken digits",
    read=_read,
    classes=_DIGITS,
    groups="voice",
    about="""
400 clips: the English digits zero to nine, by twenty synthetic voices, two takes each (the second slower and
higher). Mono, 16 kHz, OGG Vorbis, 0.3 to 1.2 seconds long.

The voices are formant synthesis by espeak-ng with different accents, timbres, pitches and speeds; nobody was
recorded. examples/spoken_digits/synthesize.py generates the files again.

Split by voice (``groups``): a classifier that hears a voice in training knows it in the test.
""",
    licence="MIT, as part of skastw.",
)


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
        Return ``(data, target)`` instead of a Bunch.
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
        ``cv`` : None, which scikit-learn takes for five stratified folds;
        ``frame`` : DataFrame with ``as_frame=True``, else None;
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
    return as_bunch(SPOKEN_DIGITS, _read(), return_X_y=return_X_y, as_frame=as_frame)
