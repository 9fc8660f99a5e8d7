"""Public data sets by name: one table of them, and one function that fetches any."""

import os
from collections.abc import Iterable
from typing import Any

from skastw.datasets._fetch import fetch_frame
from skastw.datasets._public_set import PublicSet, as_bunch, check_name
from skastw.datasets.emodb import EMODB
from skastw.datasets.esc50 import ESC50
from skastw.datasets.fsdd import FSDD
from skastw.datasets.minds14 import MINDS14
from skastw.datasets.ravdess import RAVDESS
from skastw.datasets.speech_commands import SPEECH_COMMANDS
from skastw.datasets.spoken_digits import SPOKEN_DIGITS
from skastw.datasets.urbansound8k import URBANSOUND8K
from skastw.errors import DataError, plain

_SETS = {
    public.name: public
    for public in (EMODB, ESC50, FSDD, MINDS14, RAVDESS, SPEECH_COMMANDS, SPOKEN_DIGITS, URBANSOUND8K)
}


def dataset_names() -> list[str]:
    """Return the names of the public data sets, sorted.

    Examples
    --------
    >>> from skastw.datasets import dataset_names
    >>> dataset_names()
    ['emodb', 'esc50', 'fsdd', 'minds14', 'ravdess', 'speech_commands', 'spoken_digits', 'urbansound8k']
    """
    return sorted(_SETS)


def fetch_dataset(
    name: str,
    *,
    subset: str | None = None,
    language: str | None = None,
    emotions: Iterable[str] | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load a public data set, and download it if necessary.

    ===================  =====================================  ======  ============  ===============================
    ``name``             Classes                                Clips   ``groups``    ``cv``
    ===================  =====================================  ======  ============  ===============================
    ``emodb``            7 emotions, in German                     535  10 speakers   one speaker per fold
    ``esc50``            50 environmental sounds                  2000  recordings    5 official folds
    ``fsdd``             10 digits                                3000  6 speakers    official test, same speakers
    ``minds14``          14 requests to a bank, 14 languages       563  None          None
    ``ravdess``          8 emotions                               1440  24 actors     6 folds of four actors (ours)
    ``speech_commands``  35 words                               105829  speakers      official test
    ``spoken_digits``    10 digits, synthetic voices               400  20 voices     None
    ``urbansound8k``     10 sounds of the city                    8732  recordings    10 official folds
    ===================  =====================================  ======  ============  ===============================

    No fold mixes groups, except the official test of ``fsdd``. ``minds14`` is one language at a time: 563 clips in
    "en-US", several hundred in others. Reading its files needs the extra ``parquet``. ``spoken_digits`` is part of
    the package.

    ===================  ============  =============  ===============================================================
    ``name``             Sample rate   Clip           Licence
    ===================  ============  =============  ===============================================================
    ``emodb``            16 kHz        about 3 s      none given
    ``esc50``            44.1 kHz      5 s            CC BY-NC 3.0; the part "esc10" CC BY 3.0
    ``fsdd``             8 kHz         about 0.5 s    CC BY-SA 4.0
    ``minds14``          8 kHz         a request      CC BY 4.0
    ``ravdess``          48 kHz        about 4 s      CC BY-NC-SA 4.0
    ``speech_commands``  16 kHz        at most 1 s    CC BY 4.0
    ``spoken_digits``    16 kHz        0.3 to 1.2 s   MIT
    ``urbansound8k``     8 to 192 kHz  at most 4 s    CC BY-NC 3.0
    ===================  ============  =============  ===============================================================

    ===================  ============================================  ==============================================
    ``name``             Files, as WAV, FLAC or OGG                    Columns with ``as_frame=True``
    ===================  ============================================  ==============================================
    ``emodb``            ``wav``                                       speaker, gender, age, text, version
    ``esc50``            ``meta/esc50.csv``, ``audio``                 fold, esc10, source, take
    ``fsdd``             ``recordings``                                speaker, accent, take
    ``minds14``          as written by this function                   transcription, english_transcription
    ``ravdess``          ``Actor_01`` to ``Actor_24``                  actor, gender, intensity, statement,
                                                                       repetition, fold
    ``speech_commands``  ``testing_list.txt``,                         speaker, take, split
                         ``validation_list.txt``, one folder per word
    ``spoken_digits``    in the package                                voice
    ``urbansound8k``     ``metadata/UrbanSound8K.csv``,                fold, source, start, end (s, in the
                         ``audio/fold1`` to ``audio/fold10``           recording), salience (1 foreground,
                                                                       2 background)
    ===================  ============================================  ==============================================

    Parameters
    ----------
    name : str
        A name from the tables. ``"esc50:animals"`` is the same as ``name="esc50", subset="animals"``, and
        ``"minds14:de-DE"``, ``"ravdess:calm,angry"`` and ``"speech_commands:test"`` work alike.
    subset : str, default=None
        For ``esc50`` a group of classes: "esc10", "animals" or "transport"; None is all classes. For
        ``speech_commands`` a part of the official split: "train", "validation" or "test"; None and "all" are all
        clips.
    language : str, default=None
        For ``minds14``: "cs-CZ", "de-DE", "en-AU", "en-GB", "en-US", "es-ES", "fr-FR", "it-IT", "ko-KR", "nl-NL",
        "pl-PL", "pt-PT", "ru-RU" or "zh-CN". None is "en-US".
    emotions : iterable of str, default=None
        For ``ravdess`` the classes: any of "neutral", "calm", "happy", "sad", "angry", "fearful", "disgust" and
        "surprised". None is all of them.
    data_home : path, default=None
        A folder that contains the files of the set, itself or in a folder below; otherwise the set is stored in it.
        None is the folder of scikit-learn: ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``. A folder that this
        function did not make is never changed.
    download_if_missing : bool, default=True
        If False, raise an error if the set is not in ``data_home``.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target`` and the columns from the table.
    n_retries : int, default=3
        How often to ask again if the network or the server fails.
    delay : float, default=1.0
        Seconds between two attempts.
    verbose : bool, default=True
        Show a progress bar during a download.

    Returns
    -------
    Bunch
        ``data`` : list of paths, or DataFrame;
        ``target`` : ndarray of str, or Series;
        ``target_names`` : list of the classes, in the order of the authors or in alphabetical order;
        ``groups`` : ndarray of str or int, the speakers or recordings that no split may mix, or None;
        ``cv`` : PredefinedSplit; or a list of one pair of positions, to train and to test on (``speech_commands``,
        without the clips of "validation"); or None, which scikit-learn takes for five stratified folds;
        ``frame`` : DataFrame with ``as_frame=True``, else None;
        ``DESCR`` : description, licence and citation.
        ``speech_commands`` also has ``split``, ndarray of str, and ``background``, list of paths of noises.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    DataError
        If the name or the part is not known, or the set has no such part.
    FetchError
        If the set cannot be downloaded or stored, or some clips are missing in ``data_home``.
    MissingDependencyError
        If ``minds14`` must be downloaded and the extra ``parquet`` is not installed.

    Notes
    -----
    A download that breaks off is resumed, by the same call or the next. The files are checked and unpacked in a
    temporary folder of ``data_home``, which is renamed when it is complete. If several processes fetch the same set,
    one downloads it and the others wait.

    Examples
    --------
    >>> from skastw.datasets import fetch_dataset
    >>> len(fetch_dataset("spoken_digits").data)
    400
    >>> clips = fetch_dataset("esc50", subset="animals")  # doctest: +SKIP
    >>> cross_validate(clf, clips.data, clips.target, cv=clips.cv)  # doctest: +SKIP
    >>> fetch_dataset("esc50:animal")
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got subset='animal', expected one of None, 'esc10', 'animals', 'transport'; did you ...
    """
    public, part = _chosen(name, {"subset": subset, "language": language, "emotions": emotions})

    if public.folder is not None:
        frame = public.read(public.folder, part)
    else:
        frame = fetch_frame(
            public,
            part,
            data_home=data_home,
            download_if_missing=download_if_missing,
            n_retries=n_retries,
            delay=delay,
            verbose=verbose,
        )
    return as_bunch(public, frame, part, return_X_y=return_X_y, as_frame=as_frame)


def _chosen(spec: str, options: dict[str, Any]) -> tuple[PublicSet, Any]:
    """Return the set that ``spec`` names, and its part, from the word after a colon or from a parameter."""
    name, colon, word = str(spec).partition(":")
    check_name("name", name, dataset_names())
    public = _SETS[name]

    parameter = public.part.parameter
    given = {option: value for option, value in options.items() if value is not None}
    if given.keys() - {parameter} or (colon and (given or not parameter)):
        told = "".join(f", {option}={plain(value)!r}" for option, value in given.items())
        expected = f"with {parameter}= or with a colon and a part" if parameter else "which has no parts"
        raise DataError(f"Got {plain(spec)!r}{told}, expected {name!r}, {expected}.")

    value = given.get(parameter)
    if colon:
        value = [choice.strip() for choice in word.split(",")] if public.part.several else word
    return public, public.part.choose(value)
