"""MINDS-14: what callers want of their bank, in fourteen languages, from the Hugging Face Hub."""

from __future__ import annotations

import io
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from skastw.core.optional import import_optional
from skastw.datasets._fetch import Request, as_bunch, audio_files, check_name, check_whole, fetch_frame
from skastw.errors import FetchError

__all__ = ["fetch_minds14"]

_REPOSITORY, _REVISION = "PolyAI/minds14", "40ce77cb32a384e4d50a568e1ec39ac804019d33"
#: Where the Hub is; None leaves it to huggingface_hub.
_ENDPOINT: str | None = None
#: Seconds after which the Hub is not asked again: recent releases of huggingface_hub repeat what fails by themselves.
_PATIENCE = 10.0
_LANGUAGES = (
    *("cs-CZ", "de-DE", "en-AU", "en-GB", "en-US", "es-ES", "fr-FR"),
    *("it-IT", "ko-KR", "nl-NL", "pl-PL", "pt-PT", "ru-RU", "zh-CN"),
)
#: Classes, in the order of the authors' numbers.
_INTENTS = (
    *("abroad", "address", "app_error", "atm_limit", "balance", "business_loan", "card_issues", "cash_deposit"),
    *("direct_debit", "freeze", "high_value_payment", "joint_account", "latest_transactions", "pay_bill"),
)
_TABLE = "minds14-{}.csv"
_DESCR = """\
MINDS-14, {language}
--------------

Calls to a bank in fourteen languages, 8 kHz, mono: callers say what they want, one of fourteen intents. Each
language is a set of its own. There are no official folds, and nothing tells which calls are of one speaker, so there
are no ``groups``: scores of any split may be of speakers heard in training.

Licence: CC BY 4.0.

Cite: D. Gerz, P.-H. Su, R. Kusztos, A. Mondal, M. Lis, E. Singhal, N. Mrksic, T.-H. Wen, I. Vulic. Multilingual and
Cross-Lingual Intent Detection from Spoken Data. EMNLP 2021. https://arxiv.org/abs/2104.08524
"""


def fetch_minds14(
    *,
    language: str = "en-US",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Load MINDS-14, intents of callers in one of fourteen languages, from the Hugging Face Hub where needed.

    The Hub has a table with the recordings in it, from a fixed commit; here each becomes a file. Reading that table
    needs the extra ``parquet``.

    =================  ==========================================
    Classes            14
    Speakers           not told
    Clips              563 in "en-US", several hundred in others
    Sample rate        8 kHz
    Official folds     none
    =================  ==========================================

    Parameters
    ----------
    language : str, default="en-US"
        One of "cs-CZ", "de-DE", "en-AU", "en-GB", "en-US", "es-ES", "fr-FR", "it-IT", "ko-KR", "nl-NL", "pl-PL",
        "pt-PT", "ru-RU" and "zh-CN".
    data_home : path, default=None
        A folder that holds the set as this function wrote it, itself or in a folder below, or where to put it. None is
        scikit-learn's own: ``~/scikit_learn_data``, or ``SCIKIT_LEARN_DATA``.
    download_if_missing : bool, default=True
        With False, raise an error if the set is not there.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series, and add ``frame`` with the columns
        ``audio``, ``target``, ``transcription`` and ``english_transcription``.
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
        ``target_names`` : list of the intents, in alphabetical order;
        ``groups`` : None;
        ``cv`` : None, which scikit-learn takes for five stratified folds;
        ``frame`` : DataFrame, with ``as_frame=True``;
        ``DESCR`` : description, licence and citation.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    DataError
        If there is no such language.
    FetchError
        If the set cannot be downloaded or written, or only some of the clips are there.
    MissingDependencyError
        If the set is to be downloaded and the extra ``parquet`` is not installed.

    Examples
    --------
    >>> from skastw.datasets import fetch_minds14
    >>> clips = fetch_minds14(language="de-DE")  # doctest: +SKIP
    >>> fetch_minds14(language="German")
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got language='German', expected one of 'cs-CZ', 'de-DE', 'en-AU', ...
    """
    check_name("language", language, _LANGUAGES)
    request = Request(data_home, download_if_missing, return_X_y, as_frame, n_retries, delay, verbose)
    frame = fetch_frame(f"minds14-{language}", partial(_read, language), partial(_get, language), request)
    return as_bunch(
        frame,
        request,
        target_names=_INTENTS,
        groups=None,
        cv=None,
        description=_DESCR.format(language=language),
    )


def _read(language: str, folder: Path) -> Any:
    """Return the table, or None if the folder does not hold that language."""
    import pandas as pd

    if not (folder / _TABLE.format(language)).is_file():
        return None
    frame = pd.read_csv(folder / _TABLE.format(language), dtype=str, keep_default_na=False, encoding="utf-8")
    files = audio_files(folder, ["audio"])
    check_whole(f"MINDS-14 ({language})", folder, [name for name in frame["audio"] if name in files], frame["audio"])
    return frame.assign(audio=frame["audio"].map(files))


def _get(language: str, request: Request, folder: Path) -> None:
    """Download the table of the Hub, write its recordings as files, and a table of them."""
    import_optional("pyarrow", extra="parquet", purpose="Reading MINDS-14")
    path = _download(f"{language}/train-00000-of-00001.parquet", folder.parent, request)
    _convert(path, language, folder)


def _download(file: str, folder: Path, request: Request) -> Path:
    """Return a file of the repository; huggingface_hub goes on with what an earlier call left."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown, began, attempts = not are_progress_bars_disabled(), time.monotonic(), 0
    if not request.verbose:
        disable_progress_bars()
    try:
        while True:
            attempts += 1
            try:
                found = hf_hub_download(
                    _REPOSITORY,
                    file,
                    repo_type="dataset",
                    revision=_REVISION,
                    local_dir=folder,
                    token=False,  # the set is public
                    endpoint=_ENDPOINT,
                )
                return Path(found)
            except Exception as error:  # of whichever HTTP library the installed release is built on
                if attempts > request.n_retries or time.monotonic() - began > _PATIENCE:
                    raise _hub_error(error, file, attempts) from error
            time.sleep(request.delay)
    finally:
        if shown:
            enable_progress_bars()


def _hub_error(error: BaseException, file: str, attempts: int) -> FetchError:
    while error.__cause__ is not None:  # the first says what happened, the last that the cache has nothing either
        error = error.__cause__
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
    return FetchError(
        f"Cannot fetch {file} of {_REPOSITORY} from the Hugging Face Hub (attempts: {attempts}): {said}. Check the "
        "network (and HF_ENDPOINT and HF_HUB_OFFLINE where they are set), and try again."
    )


def _convert(path: Path, language: str, folder: Path) -> None:
    import pandas as pd

    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
        recordings = [bytes(audio["bytes"]) for audio in table["audio"]]
        targets = [_INTENTS[number] for number in table["intent_class"]]
        texts = {column: table[column].astype(str).tolist() for column in ("transcription", "english_transcription")}
    except Exception as error:
        path.unlink()
        raise FetchError(f"{path.name} of {_REPOSITORY} is not the table of MINDS-14 ({error}). Try again.") from error
    names = [f"audio/{number:04d}" for number in range(len(recordings))]  # not those of the table: a stranger's
    (folder / "audio").mkdir()
    for name, recording in zip(names, recordings, strict=True):
        (folder / f"{name}.wav").write_bytes(recording)
    frame = pd.DataFrame({"audio": names, "target": targets, **texts})
    frame.to_csv(folder / _TABLE.format(language), index=False, encoding="utf-8")
