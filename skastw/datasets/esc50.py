"""ESC-50: fifty classes of environmental sounds, with its five official folds."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from sklearn.model_selection import PredefinedSplit

from skastw.datasets._fetch import Archive, Request, as_bunch, audio_files, check_name, check_whole, fetch_frame
from skastw.errors import FetchError

__all__ = ["fetch_esc50"]

# The host packs this archive on demand, so its MD5 may change one day while what is in it does not.
_ARCHIVE = Archive(
    "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
    checksum="md5:071b44018315e034b2c6e8064543d19c",
    strict=False,
    strip=1,
)
_CLIPS_PER_CLASS = 40
#: The parts that are lists of classes; "esc10" is a column of the table.
_CLASSES = {
    "animals": ("cat", "cow", "crow", "dog", "frog", "hen", "insects", "pig", "rooster", "sheep"),
    "transport": ("airplane", "car_horn", "engine", "helicopter", "train"),
}
#: How many classes there are in all, and in each part.
_N_CLASSES: dict[str | None, int] = {None: 50, "esc10": 10} | {part: len(classes) for part, classes in _CLASSES.items()}
_DESCR = """\
ESC-50
------

2000 clips of 5 seconds, 44.1 kHz, mono: 50 classes of environmental sounds with 40 clips each, cut from recordings of
freesound.org. The clips of one recording (``groups``) are all in one of the five official folds (``cv``); the mean
accuracy over the five is the figure to report.

Parts: "esc10", ten classes that are easy to tell apart; "animals"; "transport".

Licence: CC BY-NC 3.0; the clips of the part "esc10" CC BY 3.0. The authors of the recordings are named in the file
LICENSE of https://github.com/karolpiczak/ESC-50.

Cite: K. J. Piczak. ESC: Dataset for Environmental Sound Classification. Proceedings of the 23rd ACM International
Conference on Multimedia, 1015-1018, 2015. https://doi.org/10.1145/2733373.2806390
"""


def fetch_esc50(
    *,
    subset: str | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load ESC-50, environmental sounds, downloading it where needed.

    =================  ==========================================
    Classes            50 (a part: 10 or 5)
    Recordings         the groups; each is in one fold
    Clips              2000 (a part: 400 or 200), 5 seconds
    Sample rate        44.1 kHz
    Official folds     5
    =================  ==========================================

    Parameters
    ----------
    subset : {"esc10", "animals", "transport"} or None, default=None
        A part of the classes. None is all of them.
    data_home : path, default=None
        A folder that holds the set (``meta/esc50.csv`` and ``audio``, as WAV, FLAC or OGG), itself or in a folder
        below, or where to put it. None is scikit-learn's own: ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``.
    download_if_missing : bool, default=True
        With False, raise an error if the set is not there.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target``, ``fold``, ``esc10``, ``source`` and ``take``.
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
        ``groups`` : ndarray of str, the recording that a clip was cut from;
        ``cv`` : PredefinedSplit, the official folds;
        ``frame`` : DataFrame, with ``as_frame=True``;
        ``DESCR`` : description, licence and citation.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    DataError
        If there is no such part.
    FetchError
        If the set cannot be downloaded or written, or only some of the clips are there.

    Examples
    --------
    >>> from skastw.datasets import fetch_esc50
    >>> clips = fetch_esc50(subset="esc10")  # doctest: +SKIP
    >>> fetch_esc50(subset="birds")
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got subset='birds', expected one of None, 'esc10', 'animals', 'transport'.
    """
    check_name("subset", subset, _N_CLASSES)
    request = Request(data_home, download_if_missing, return_X_y, as_frame, n_retries, delay, verbose)
    frame = fetch_frame("esc50", partial(_read, subset), _ARCHIVE, request, read_all=partial(_read, None))
    return as_bunch(
        frame,
        request,
        target_names=sorted(set(frame["target"])),
        groups="source",
        cv=PredefinedSplit(frame["fold"]),
        description=_DESCR,
    )


def _read(subset: str | None, folder: Path) -> Any:
    """Return the table of a part, or None if the folder is not ESC-50."""
    if not (folder / "meta" / "esc50.csv").is_file():
        return None
    table = _read_csv(folder / "meta" / "esc50.csv")
    if subset == "esc10":
        table = table[table["esc10"]]
    elif subset is not None:
        table = table[table["target"].isin(_CLASSES[subset])]
    files = audio_files(folder, ["audio"])
    found = [name for name in table.index if name in files]
    title = "ESC-50" if subset is None else f"the part {subset!r} of ESC-50"
    hint = "If a part is what you want, name it with subset=. " if subset is None else ""
    check_whole(title, folder, found, table.index, hint)
    check_whole(title, folder, found, _CLIPS_PER_CLASS * _N_CLASSES[subset], hint)
    table.insert(0, "audio", [files[name] for name in found])
    return table.reset_index(drop=True)


def _read_csv(path: Path) -> Any:
    """Return the table of the authors, with the name of each clip as its index, if it agrees with the names."""
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={"src_file": str, "take": str, "category": str}, encoding="utf-8")
        stem = table["filename"].str.rsplit(".", n=1).str[0]
        said = (
            table["fold"].astype(str)
            + "-"
            + table["src_file"]
            + "-"
            + table["take"]
            + "-"
            + table["target"].astype(str)
        )
        other = table["filename"][said != stem].tolist()
        if table["esc10"].dtype != bool:
            raise ValueError("esc10 is not True or False")
        table = table[["category", "fold", "esc10", "src_file", "take"]].set_axis("audio/" + stem).sort_index()
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise FetchError(f"{str(path)!r} is not the table of ESC-50 ({error}). Fetch it again.") from error
    if other:
        raise FetchError(f"{str(path)!r} contradicts the name of the clip {other[0]!r}. Fetch it again.")
    return table.rename(columns={"category": "target", "src_file": "source"})
