"""Data sets by name, for commands and settings files."""

from __future__ import annotations

import os
from typing import Any

from skastw.datasets._fetch import check_name
from skastw.datasets.emodb import fetch_emodb
from skastw.datasets.esc50 import fetch_esc50
from skastw.datasets.fsdd import fetch_fsdd
from skastw.datasets.minds14 import fetch_minds14
from skastw.datasets.ravdess import fetch_ravdess
from skastw.datasets.speech_commands import fetch_speech_commands
from skastw.datasets.spoken_digits import load_spoken_digits
from skastw.datasets.urbansound8k import fetch_urbansound8k
from skastw.errors import DataError

__all__ = ["load_named"]

_FETCHED = {
    "emodb": fetch_emodb,
    "esc50": fetch_esc50,
    "fsdd": fetch_fsdd,
    "minds14": fetch_minds14,
    "ravdess": fetch_ravdess,
    "speech_commands": fetch_speech_commands,
    "urbansound8k": fetch_urbansound8k,
}
#: The parameter that the word after the colon sets.
_PARTS = {"esc50": "subset", "minds14": "language", "ravdess": "emotions", "speech_commands": "subset"}


def load_named(spec: str, data_home: str | os.PathLike[str] | None = None) -> Any:
    """Load a data set by its name, or a part of it by ``"name:part"``.

    ===================  ====================================================================
    ``spec``             What is loaded
    ===================  ====================================================================
    ``spoken_digits``    :func:`~skastw.datasets.load_spoken_digits`, which needs no download
    ``emodb``            :func:`~skastw.datasets.fetch_emodb`
    ``esc50``            :func:`~skastw.datasets.fetch_esc50`; ``esc50:animals`` a subset
    ``fsdd``             :func:`~skastw.datasets.fetch_fsdd`
    ``minds14``          :func:`~skastw.datasets.fetch_minds14`; ``minds14:de-DE`` a language
    ``ravdess``          :func:`~skastw.datasets.fetch_ravdess`; ``ravdess:calm,angry`` some emotions
    ``speech_commands``  :func:`~skastw.datasets.fetch_speech_commands`; ``speech_commands:test`` a part
    ``urbansound8k``     :func:`~skastw.datasets.fetch_urbansound8k`
    ===================  ====================================================================

    Parameters
    ----------
    spec : str
    data_home : path, default=None
        Where the set is, or is to be put, as for the function that loads it.

    Returns
    -------
    Bunch
        With ``data``, ``target``, ``target_names``, ``groups`` and ``DESCR``; all that are fetched have ``cv``.

    Raises
    ------
    DataError
        If there is no such set, or no such part of it.
    FetchError
        If the set cannot be had.

    Examples
    --------
    >>> from skastw.datasets import load_named
    >>> len(load_named("spoken_digits").data)
    400
    >>> load_named("digits")
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got name='digits', expected one of 'emodb', 'esc50', 'fsdd', ...
    """
    name, colon, part = spec.partition(":")
    check_name("name", name, sorted([*_FETCHED, "spoken_digits"]))
    if colon and name not in _PARTS:
        raise DataError(f"Got {spec!r}, and {name!r} has no parts that can be named, expected {name!r}.")
    if name == "spoken_digits":
        return load_spoken_digits()
    wanted: dict[str, Any] = (
        {_PARTS[name]: [word.strip() for word in part.split(",")] if name == "ravdess" else part} if colon else {}
    )
    return _FETCHED[name](data_home=data_home, **wanted)
