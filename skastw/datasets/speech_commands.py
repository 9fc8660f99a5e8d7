"""Speech Commands: 35 words of thousands of speakers, with the official lists of validation and test clips."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skastw.datasets._fetch import Archive, Request, as_bunch, audio_files, check_name, check_whole, fetch_frame

__all__ = ["fetch_speech_commands"]

_ARCHIVE = Archive(
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    max_bytes=2**33,
)
#: Clips of each part of the official split.
_N_CLIPS = {"train": 84843, "validation": 9981, "test": 11005}
_WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy"),
    *("house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop"),
    *("three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
)
_NAME = re.compile(r"(\w+)/([0-9a-f]+)_nohash_(\d+)")
_DESCR = """\
Speech Commands, version 0.02
-----------------------------

105829 clips of at most 1 second, 16 kHz, mono: 35 English words, recorded by volunteers at their own devices. The
official split is train (84843 clips), validation (9981) and test (11005); no speaker (``groups``) is in two of them.
``background`` are six recordings of noise, of a minute or more, to mix in or to cut silence from; they are no class.

Licence: CC BY 4.0.

Cite: P. Warden. Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition. arXiv:1804.03209, 2018.
https://arxiv.org/abs/1804.03209
"""


def fetch_speech_commands(
    *,
    subset: str = "all",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load Speech Commands 0.02, single words, downloading it where needed.

    =================  ==========================================
    Classes            35
    Speakers           the groups; each is in one part
    Clips              105829, at most 1 second
    Sample rate        16 kHz
    Official split     84843 train, 9981 validation, 11005 test
    =================  ==========================================

    Parameters
    ----------
    subset : {"all", "train", "validation", "test"}, default="all"
        A part of the official split.
    data_home : path, default=None
        A folder that holds the set (``testing_list.txt``, ``validation_list.txt`` and a folder for each word, as WAV,
        FLAC or OGG), itself or in a folder below, or where to put it. None is scikit-learn's own:
        ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``.
    download_if_missing : bool, default=True
        With False, raise an error if the set is not there.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target``, ``speaker``, ``take`` and ``split``.
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
        ``target_names`` : list of the words, in alphabetical order;
        ``groups`` : ndarray of str, the speakers;
        ``split`` : ndarray of str, "train", "validation" or "test";
        ``cv`` : for "all" a list of one pair, the positions to train and to test on (those of "validation" are in
        neither), for a part None;
        ``background`` : list of paths, noise;
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
    >>> from skastw.datasets import fetch_speech_commands
    >>> clips = fetch_speech_commands(subset="test")  # doctest: +SKIP
    >>> fetch_speech_commands(subset="dev")
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got subset='dev', expected one of 'all', 'train', 'validation', 'test'.
    """
    check_name("subset", subset, ["all", *_N_CLIPS])
    request = Request(data_home, download_if_missing, return_X_y, as_frame, n_retries, delay, verbose)
    frame = fetch_frame("speech_commands", partial(_read, subset), _ARCHIVE, request, read_all=partial(_read, "all"))
    split = frame["split"].to_numpy(dtype=str)
    clips = as_bunch(
        frame,
        request,
        target_names=_WORDS,
        groups="speaker",
        cv=[(np.flatnonzero(split == "train"), np.flatnonzero(split == "test"))] if subset == "all" else None,
        description=_DESCR,
    )
    if not return_X_y:
        folder = Path(frame["audio"].iloc[0]).parent.parent
        clips.update(split=split, background=list(audio_files(folder, ["_background_noise_"]).values()))
    return clips


def _read(subset: str, folder: Path) -> Any:
    """Return the table of a part, or None if the folder is not Speech Commands."""
    import pandas as pd

    lists = {"validation": folder / "validation_list.txt", "test": folder / "testing_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return None
    listed = {part: {line.rpartition(".")[0] for line in path.read_text().split()} for part, path in lists.items()}
    part_of = {name: part for part, names in listed.items() for name in names}
    rows: list[dict[str, Any]] = []
    found: dict[str, list[str]] = {part: [] for part in (_N_CLIPS if subset == "all" else [subset])}
    for name, path in audio_files(folder, _WORDS).items():
        parts, part = _NAME.fullmatch(name), part_of.get(name, "train")
        if parts and part in found:
            found[part].append(name)
            rows.append({"audio": path, "target": parts[1], "speaker": parts[2], "take": int(parts[3]), "split": part})
    for part, names in found.items():
        check_whole(f"Speech Commands ({part})", folder, names, listed.get(part, names))
        check_whole(f"Speech Commands ({part})", folder, names, _N_CLIPS[part])
    return pd.DataFrame(rows)
