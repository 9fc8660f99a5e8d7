"""FSDD: the Free Spoken Digit Dataset, ten digits of six speakers, with its official test clips."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import PredefinedSplit

from skastw.datasets._fetch import Archive, Request, as_bunch, audio_files, check_whole, fetch_frame

__all__ = ["fetch_fsdd"]

# Version 1.0.10. Its host packs the archive on demand, so there is no checksum: the clips are counted.
_ARCHIVE = Archive(
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/d6938f9bf1545aa66d8489fc9f1385a7abd64282.zip",
    strip=1,
)
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Accent of each speaker; all are men.
_SPEAKERS = {
    "george": "Greek",
    "jackson": "American",
    "lucas": "German",
    "nicolas": "Belgian French",
    "theo": "American",
    "yweweler": "German",
}
_N_TAKES = 50
#: The first takes of each digit and speaker are the official test.
_N_TEST_TAKES = 5
_DESCR = """\
Free Spoken Digit Dataset, version 1.0.10
-----------------------------------------

3000 clips of about half a second, 8 kHz, mono: the English digits zero to nine, fifty takes each by six speakers with
four accents, all men. The official test (``cv``) is takes 0 to 4 of each digit and speaker, so every speaker of the
test is heard in training; for scores on speakers never heard, split by ``groups``, the speakers.

Licence: CC BY-SA 4.0.

Cite: Z. Jackson and others. Free Spoken Digit Dataset, v1.0.10.
https://github.com/Jakobovski/free-spoken-digit-dataset
"""


def fetch_fsdd(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load the Free Spoken Digit Dataset, downloading it where needed.

    =================  ==========================================
    Classes            10
    Speakers           6, the groups
    Clips              3000, about half a second
    Sample rate        8 kHz
    Official split     2700 train, 300 test, of the same speakers
    =================  ==========================================

    Parameters
    ----------
    data_home : path, default=None
        A folder that holds the set (``recordings``, with WAV, FLAC or OGG), itself or in a folder below, or where to
        put it. None is scikit-learn's own: ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``.
    download_if_missing : bool, default=True
        With False, raise an error if the set is not there.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target``, ``speaker``, ``accent`` and ``take``.
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
        ``target`` : ndarray of str ("zero" to "nine"), or Series;
        ``target_names`` : list of the classes, in numerical order;
        ``groups`` : ndarray of str, the speakers;
        ``cv`` : PredefinedSplit, the official split, which does not keep speakers apart;
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
    >>> from skastw.datasets import fetch_fsdd
    >>> clips = fetch_fsdd()  # doctest: +SKIP
    >>> clf.fit(clips.data, clips.target, groups=clips.groups)  # doctest: +SKIP
    """
    request = Request(data_home, download_if_missing, return_X_y, as_frame, n_retries, delay, verbose)
    frame = fetch_frame("fsdd", _read, _ARCHIVE, request)
    return as_bunch(
        frame,
        request,
        target_names=_DIGITS,
        groups="speaker",
        cv=PredefinedSplit(np.where(frame["take"] < _N_TEST_TAKES, 0, -1)),
        description=_DESCR,
    )


def _read(folder: Path) -> Any:
    """Return the table, or None if the folder is not FSDD."""
    import pandas as pd

    files = audio_files(folder, ["recordings"])
    rows = [
        {"digit": digit, "target": word, "speaker": speaker, "accent": accent, "take": take}
        for (digit, word), (speaker, accent), take in product(enumerate(_DIGITS), _SPEAKERS.items(), range(_N_TAKES))
    ]
    names = [f"recordings/{row.pop('digit')}_{row['speaker']}_{row['take']}" for row in rows]
    found = [name for name in names if name in files]
    if not found:
        return None
    check_whole("the Free Spoken Digit Dataset", folder, found, names)
    return pd.DataFrame([{"audio": files[name], **row} for name, row in zip(names, rows, strict=True)])
