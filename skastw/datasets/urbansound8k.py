"""UrbanSound8K: ten classes of sounds of the city, with its ten official folds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.model_selection import PredefinedSplit

from skastw.datasets._fetch import Archive, Request, as_bunch, audio_files, check_whole, fetch_frame
from skastw.errors import FetchError

__all__ = ["fetch_urbansound8k"]

_ARCHIVE = Archive(
    "https://zenodo.org/record/1203745/files/UrbanSound8K.tar.gz",
    checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
    strip=1,
    max_bytes=2**34,
)
_N_CLIPS = 8732
#: Classes, in the order of the authors' numbers.
_CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
_DESCR = """\
UrbanSound8K
------------

8732 clips of at most 4 seconds, in ten classes of sounds of the city, cut from recordings of freesound.org, with the
sample rate and the channels of each. The clips of one recording (``groups``) are all in one of the ten official folds
(``cv``). The authors ask to use these folds, to train on nine and test on the tenth, and to report the mean
accuracy over the ten: clips of one recording on both sides of another split would make it too high.

Licence: CC BY-NC 3.0.

Cite: J. Salamon, C. Jacoby, J. P. Bello. A Dataset and Taxonomy for Urban Sound Research. Proceedings of the 22nd ACM
International Conference on Multimedia, 1041-1044, 2014. https://doi.org/10.1145/2647868.2655045
"""


def fetch_urbansound8k(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load UrbanSound8K, sounds of the city, downloading it where needed.

    =================  ==========================================
    Classes            10
    Recordings         the groups; each is in one fold
    Clips              8732, at most 4 seconds
    Sample rate        8 to 192 kHz, as recorded
    Official folds     10
    =================  ==========================================

    Parameters
    ----------
    data_home : path, default=None
        A folder that holds the set (``metadata/UrbanSound8K.csv`` and ``audio/fold1`` to ``fold10``, as WAV, FLAC or
        OGG), itself or in a folder below, or where to put it. None is scikit-learn's own: ``~/scikit_learn_data``, or
        ``SCIKIT_LEARN_DATA``.
    download_if_missing : bool, default=True
        With False, raise an error if the set is not there.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target``, ``fold``, ``source``, ``start``, ``end`` (s, in the recording) and ``salience`` (1
        foreground, 2 background).
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
        ``groups`` : ndarray of int, the recording (its number at freesound.org) that a clip was cut from;
        ``cv`` : PredefinedSplit, the official folds;
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
    >>> from skastw.datasets import fetch_urbansound8k
    >>> clips = fetch_urbansound8k()  # doctest: +SKIP
    >>> cross_validate(clf, clips.data, clips.target, cv=clips.cv)  # doctest: +SKIP
    """
    request = Request(data_home, download_if_missing, return_X_y, as_frame, n_retries, delay, verbose)
    frame = fetch_frame("urbansound8k", _read, _ARCHIVE, request)
    return as_bunch(
        frame,
        request,
        target_names=_CLASSES,
        groups="source",
        cv=PredefinedSplit(frame["fold"]),
        description=_DESCR,
    )


def _read(folder: Path) -> Any:
    """Return the table, or None if the folder is not UrbanSound8K."""
    if not (folder / "metadata" / "UrbanSound8K.csv").is_file():
        return None
    table = _read_csv(folder / "metadata" / "UrbanSound8K.csv")
    files = audio_files(folder, [f"audio/fold{fold}" for fold in range(1, 11)])
    found = [name for name in table.index if name in files]
    check_whole("UrbanSound8K", folder, found, table.index)
    check_whole("UrbanSound8K", folder, found, _N_CLIPS)
    table.insert(0, "audio", [files[name] for name in found])
    return table.reset_index(drop=True)


def _read_csv(path: Path) -> Any:
    """Return the table of the authors, with the name of each clip as its index, if it agrees with the names."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={"slice_file_name": str, "class": str}, encoding="utf-8")
        stem = table["slice_file_name"].str.rsplit(".", n=1).str[0]
        said = table["fsID"].astype(str) + "-" + table["classID"].astype(str)
        right = (stem.str.rsplit("-", n=2).str[0] == said) & (table["class"] == [_CLASSES[i] for i in table["classID"]])
        other = table["slice_file_name"][~right].tolist()
        name = "audio/fold" + table["fold"].astype(str) + "/" + stem
        table = table[["class", "fold", "fsID", "start", "end", "salience"]].set_axis(name).sort_index()
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise FetchError(f"{str(path)!r} is not the table of UrbanSound8K ({error}). Fetch it again.") from error
    if other:
        raise FetchError(f"{str(path)!r} contradicts the name of the clip {other[0]!r}. Fetch it again.")
    return table.rename(columns={"class": "target", "fsID": "source"})
