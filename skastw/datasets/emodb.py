"""EMO-DB: seven emotions in German, spoken by ten actors, leaving one speaker out at a time."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sklearn.model_selection import PredefinedSplit

from skastw.datasets._fetch import Archive, Request, as_bunch, audio_files, check_whole, fetch_frame

__all__ = ["fetch_emodb"]

# Its authors publish no checksum, and no address with TLS: the clips are counted by emotion and speaker.
_ARCHIVE = Archive("http://emodb.bilderbar.info/download/download.zip")
#: Letter of the name, and how many clips there are.
_EMOTIONS = {
    "W": ("anger", 127),
    "L": ("boredom", 81),
    "E": ("disgust", 46),
    "A": ("fear", 69),
    "F": ("happiness", 71),
    "N": ("neutral", 79),
    "T": ("sadness", 62),
}
#: Gender and age of each speaker.
_SPEAKERS = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
_NAME = re.compile(r"wav/(\d\d)([ab]\d\d)([A-Z])([a-z])")
_DESCR = """\
EMO-DB (Berlin Database of Emotional Speech)
--------------------------------------------

535 clips of about 3 seconds, 16 kHz, mono: ten German sentences by ten actors, five women and five men, in seven
emotions; those that listeners found natural and recognised. ``groups`` are the speakers, and ``cv`` leaves out one
of them at a time.

Licence: none is given with the files; the authors ask for the citation.

Cite: F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss. A Database of German Emotional Speech. Interspeech
2005, 1517-1520. https://doi.org/10.21437/Interspeech.2005-446
"""


def fetch_emodb(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load EMO-DB, emotions in German speech, downloading it where needed.

    The authors' server offers neither an encrypted connection nor a checksum. What arrives is unpacked with care, and
    the clips are counted by emotion.

    =================  ==========================================
    Classes            7
    Speakers           10, the groups
    Clips              535, about 3 seconds
    Sample rate        16 kHz
    Folds              10, one speaker each
    =================  ==========================================

    Parameters
    ----------
    data_home : path, default=None
        A folder that holds the set (``wav``, with WAV, FLAC or OGG), itself or in a folder below, or where to put it.
        None is scikit-learn's own: ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``.
    download_if_missing : bool, default=True
        With False, raise an error if the set is not there.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target``, ``speaker``, ``gender``, ``age``, ``text`` (code of the sentence) and ``version``.
    n_retries : int, default=3
        How often to ask again where the network or the server fails.
    delay : float, default=1.0
        Seconds between two attempts.
    verbose : bool, default=True
        Show a bar while downloading.

    Returns
    -------
    Bunch
        ``data`` : list of paths, or DataFrame;
        ``target`` : ndarray of str, or Series;
        ``target_names`` : list of the classes, in alphabetical order;
        ``groups`` : ndarray of str, the speakers, "03" to "16";
        ``cv`` : PredefinedSplit, one speaker a fold;
        ``frame`` : DataFrame, with ``as_frame=True``;
        ``DESCR`` : description, licence and citation.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    FetchError
        If the set cannot be downloaded or written, or only some of the clips are there.

    Examples
    --------
    >>> from skastw.datasets import fetch_emodb
    >>> clips = fetch_emodb()  # doctest: +SKIP
    >>> cross_validate(clf, clips.data, clips.target, cv=clips.cv)  # doctest: +SKIP
    """
    request = Request(data_home, download_if_missing, return_X_y, as_frame, n_retries, delay, verbose)
    frame = fetch_frame("emodb", _read, _ARCHIVE, request)
    return as_bunch(
        frame,
        request,
        target_names=[emotion for emotion, _ in _EMOTIONS.values()],
        groups="speaker",
        cv=PredefinedSplit(frame["speaker"].map(list(_SPEAKERS).index)),
        description=_DESCR,
    )


def _read(folder: Path) -> Any:
    """Return the table, or None if the folder is not EMO-DB."""
    import pandas as pd

    rows = []
    for name, path in audio_files(folder, ["wav"]).items():
        parts = _NAME.fullmatch(name)
        if parts and parts[1] in _SPEAKERS and parts[3] in _EMOTIONS:
            gender, age = _SPEAKERS[parts[1]]
            rows.append(
                {
                    "audio": path,
                    "target": _EMOTIONS[parts[3]][0],
                    "speaker": parts[1],
                    "gender": gender,
                    "age": age,
                    "text": parts[2],
                    "version": parts[4],
                }
            )
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    for emotion, expected in _EMOTIONS.values():
        check_whole(f"EMO-DB ({emotion})", folder, frame["audio"][frame["target"] == emotion], expected)
    return frame
