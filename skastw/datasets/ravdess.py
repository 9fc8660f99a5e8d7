"""RAVDESS: eight emotions spoken by 24 actors, in six folds of four whole actors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from sklearn.model_selection import PredefinedSplit

from skastw.datasets._fetch import Archive, Request, as_bunch, audio_files, check_names, check_whole, fetch_frame

__all__ = ["fetch_ravdess"]

_ARCHIVE = Archive(
    "https://zenodo.org/record/1188976/files/Audio_Speech_Actors_01-24.zip",
    checksum="md5:bc696df654c87fed845eb13823edef8a",
)
#: Third field of a name, in order from 01.
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_INTENSITIES = ("normal", "strong")
_STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
_REPETITIONS = (1, 2)
#: The authors give no folds; these are those of this project's benchmarks.
_FOLDS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
_DESCR = """\
RAVDESS, speech
---------------

1440 clips of about 4 seconds, 48 kHz: two sentences, spoken twice by each of 24 actors in eight emotions, all but
neutral in two intensities. Male actors have odd numbers. The set has no official folds; ``cv`` has six of four whole
actors, and ``groups`` are the actors.

Licence: CC BY-NC-SA 4.0.

Cite: S. R. Livingstone, F. A. Russo. The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS): A
dynamic, multimodal set of facial and vocal expressions in North American English. PLoS ONE 13(5): e0196391, 2018.
https://doi.org/10.1371/journal.pone.0196391
"""


def fetch_ravdess(
    *,
    emotions: Iterable[str] | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load the speech of RAVDESS, emotions of actors, downloading it where needed.

    =================  ==========================================
    Classes            8
    Actors             24, the groups
    Clips              1440, about 4 seconds
    Sample rate        48 kHz
    Folds              6 of four whole actors; none are official
    =================  ==========================================

    Parameters
    ----------
    emotions : iterable of str, default=None
        The classes to load, of "neutral", "calm", "happy", "sad", "angry", "fearful", "disgust" and "surprised". None
        is all of them.
    data_home : path, default=None
        A folder that holds the set (``Actor_01`` to ``Actor_24``, as WAV, FLAC or OGG), itself or in a folder below, or
        where to put it. None is scikit-learn's own: ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``.
    download_if_missing : bool, default=True
        With False, raise an error if the set is not there.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target``, ``actor``, ``gender``, ``intensity``, ``statement``, ``repetition`` and ``fold``.
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
        ``target_names`` : list of the classes, in the order of the authors;
        ``groups`` : ndarray of int, the actors, 1 to 24;
        ``cv`` : PredefinedSplit, six folds;
        ``frame`` : DataFrame, with ``as_frame=True``;
        ``DESCR`` : description, licence and citation.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    DataError
        If there is no such emotion, or ``emotions`` is no list.
    FetchError
        If the set cannot be downloaded or written, or only some of the clips are there.

    Examples
    --------
    >>> from skastw.datasets import fetch_ravdess
    >>> clips = fetch_ravdess(emotions=["neutral", "calm", "angry", "surprised"])  # doctest: +SKIP
    >>> fetch_ravdess(emotions=["bored"])
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got emotions='bored', expected one of 'neutral', 'calm', 'happy', ...
    """
    wanted = check_names("emotions", emotions, _EMOTIONS)
    request = Request(data_home, download_if_missing, return_X_y, as_frame, n_retries, delay, verbose)
    frame = fetch_frame("ravdess", partial(_read, wanted), _ARCHIVE, request, read_all=partial(_read, _EMOTIONS))
    return as_bunch(
        frame,
        request,
        target_names=wanted,
        groups="actor",
        cv=PredefinedSplit(frame["fold"]),
        description=_DESCR,
    )


def _read(emotions: Iterable[str], folder: Path) -> Any:
    """Return the table of some emotions, or None if the folder is not RAVDESS."""
    import pandas as pd

    files = audio_files(folder, [f"Actor_{actor:02d}" for actor in range(1, 25)])
    if not any("/03-01-" in name for name in files):
        return None
    names = {name: row for name, row in _names().items() if row["target"] in emotions}
    check_whole(f"RAVDESS ({', '.join(emotions)})", folder, [name for name in names if name in files], names)
    return pd.DataFrame([{"audio": files[name], **row} for name, row in names.items()])


def _names() -> dict[str, dict[str, Any]]:
    """Return what the name of each clip says: modality, channel, emotion, intensity, statement, repetition, actor."""
    fold_of = {actor: fold for fold, actors in enumerate(_FOLDS) for actor in actors}
    names = {}
    for actor, (e, emotion), (i, intensity), (s, statement), repetition in product(
        sorted(fold_of), enumerate(_EMOTIONS, 1), enumerate(_INTENSITIES, 1), enumerate(_STATEMENTS, 1), _REPETITIONS
    ):
        if (emotion, intensity) != ("neutral", "strong"):
            names[f"Actor_{actor:02d}/03-01-{e:02d}-{i:02d}-{s:02d}-{repetition:02d}-{actor:02d}"] = {
                "target": emotion,
                "actor": actor,
                "gender": "male" if actor % 2 else "female",
                "intensity": intensity,
                "statement": statement,
                "repetition": repetition,
                "fold": fold_of[actor],
            }
    return names
