"""Public data sets by name: one table of them, and one function that finds any on the disk, or downloads it as a whole.

A set is prepared in ``.name.tmp``, next to its final place, checked, and renamed, by one process at a time. So a folder
of our own is complete unless somebody removed files, and then it is fetched again. A folder of somebody else is read
as it is and never changed.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sklearn.datasets import get_data_home

from skastw.datasets._download import download_and_unpack
from skastw.datasets._public_set import PublicSet, as_bunch, check_name
from skastw.datasets.emodb import EMODB
from skastw.datasets.esc50 import ESC50
from skastw.datasets.fsdd import FSDD
from skastw.datasets.minds14 import MINDS14
from skastw.datasets.ravdess import RAVDESS
from skastw.datasets.speech_commands import SPEECH_COMMANDS
from skastw.datasets.spoken_digits import SPOKEN_DIGITS
from skastw.datasets.urbansound8k import URBANSOUND8K
from skastw.errors import DataError, FetchError, plain

#: Marks a folder that was made here, and may be replaced.
_MARK = ".fetched_by_skastw"
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

    if public.archive is None:
        frame = public.read()
    else:
        with _disk_errors(data_home):
            home = Path(get_data_home(data_home))
        own = home / (f"{public.name}-{part}" if public.part.separate else public.name)
        with _disk_errors(own):
            frame = _find(public, part, own, download_if_missing)
            if frame is None:
                frame = _fetch(public, part, own, n_retries=n_retries, delay=delay, verbose=verbose)
            _tidy(own)
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


# ------------------------------------------------------------------ on the disk


def _find(public: PublicSet, part: Any, own: Path, download_if_missing: bool) -> Any:
    """Return the table from the first folder that contains the part; None if it must be downloaded."""
    home, problems = own.parent, {}
    others = (path for path in sorted(home.iterdir()) if path.is_dir() and path.name[0] != "." and path != own)
    for folder in (home, own, *others):
        try:
            if (frame := public.find(folder, part)) is not None:
                return frame
        except FetchError as error:
            problems[folder] = error
        except OSError:  # no access, or another process is replacing it
            pass

    # A damaged copy of our own is replaced; any other incomplete copy is an error.
    damaged = problems.pop(own, None) if download_if_missing and (own / _MARK).exists() else None
    for problem in problems.values():
        raise problem

    if not download_if_missing:
        raise FetchError(
            f"{own.name} is neither in {str(own)!r} nor in another folder of {str(home)!r}, and got "
            "download_if_missing=False. Pass its folder as data_home=, or True."
        )
    if damaged is None and own.exists() and any(own.iterdir()):
        raise FetchError(
            f"Cannot put {own.name} in {str(own)!r}, where something else is. Move that, or pass data_home=."
        )
    return None


def _fetch(public: PublicSet, part: Any, own: Path, *, verbose: bool, **how: Any) -> Any:
    """Download a set to its own folder, unless another process does so, and return the table of the part."""
    with _alone(own, verbose):
        frame = _find(public, part, own, True)  # another process may have brought it meanwhile
        if frame is None:
            _bring(public, part, own, verbose=verbose, **how)
            frame = public.find(own, part)
        return frame


def _bring(public: PublicSet, part: Any, own: Path, **how: Any) -> None:
    """Download a set to a new folder, check it, and move it to its place."""
    assert public.archive is not None
    whole = part if public.part.separate else public.part.choose()
    work = _work(own)
    new, old = work / "new", work / "old"
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed

    try:
        download_and_unpack(public.archive, new, part, **how)

        try:
            if public.find(new, whole) is None:
                raise FetchError("they do not look like it")
        except FetchError as error:
            shutil.rmtree(work)
            raise FetchError(f"The files that were downloaded are not {own.name}: {error}") from error

        (new / _MARK).touch()
        if own.exists():
            own.rename(old)
        new.rename(own)
        shutil.rmtree(work, ignore_errors=True)

    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):  # a partial download stays for the next call
            work.rmdir()


def _work(own: Path) -> Path:
    """Return the folder in which a set is prepared; only the owner of the lock may use it."""
    return own.with_name(f".{own.name}.tmp")


def _lock(own: Path) -> FileLock:
    """Return the lock of a set; the system releases it if its process is killed."""
    return FileLock(own.with_name(f".{own.name}.lock"))


@contextlib.contextmanager
def _alone(own: Path, verbose: bool) -> Iterator[None]:
    """Wait until no other process fetches this set, and keep others waiting."""
    lock = _lock(own)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        if verbose:
            print(f"Waiting for another process, which fetches {own.name}.", file=sys.stderr)
        held = lock.acquire()

    with held:
        yield


def _tidy(own: Path) -> None:
    """Remove the work folder of a process that was killed just before its end."""
    if _work(own).exists():
        with contextlib.suppress(OSError, Timeout), _lock(own).acquire(timeout=0):
            shutil.rmtree(_work(own), ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(path: Any) -> Iterator[None]:
    """Turn the errors of the system, such as a full disk, into one that says what to do."""
    try:
        yield
    except FetchError:  # an OSError itself
        raise
    except OSError as error:
        raise FetchError(
            f"Cannot use {str(path)!r}: {error.strerror or error}. Make room or give access, or choose another "
            "data_home=. An interrupted download goes on with the next call."
        ) from error
