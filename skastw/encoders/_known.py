"""Well-known checkpoints: a table of them, their download, and the code that uses them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from skastw.core.text import unknown_value
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError, HubError, WeightsError
from skastw.storage import hub
from skastw.storage.checkpoints import CONFIG, Checkpoint, open_checkpoint
from skastw.storage.known_checkpoints import KnownCheckpoint, known_checkpoint, known_checkpoints
from skastw.storage.torch_files import cache_folder

if TYPE_CHECKING:
    from pandas import DataFrame

#: Columns of the table, in their order.
_COLUMNS = [
    *("task", "encoder", "model_type", "parameters", "sample_rate", "license", "repository", "revision"),
    *("file", "bytes", "sha256", "url", "title", "citation", "source"),
]


def list_pretrained(
    *,
    task: str | None = None,
    license: str | None = None,  # noqa: A002  the word of the Hub
    max_parameters: float | None = None,
) -> DataFrame:
    """Return a table of well-known checkpoints. Nothing is downloaded.

    Parameters
    ----------
    task : {"speech", "speaker", "emotion", "sounds", "images"}, optional
        Only checkpoints that were trained for this task.
    license : str, optional
        Only checkpoints with this licence, for example ``"apache-2.0"``.
    max_parameters : float, optional
        Only checkpoints with at most so many parameters.

    Returns
    -------
    DataFrame
        A row for each checkpoint, with its name as index: ``task``, ``encoder`` (the class that loads it),
        ``model_type``, ``parameters``, ``sample_rate`` (Hz), ``license``, ``repository`` and ``revision`` on the Hub,
        ``file``, ``bytes``, ``sha256``, ``url`` of a file that is not on the Hub, ``title``, ``citation``, and
        ``source``, the pages with these facts. Facts that are not published are missing.

    Raises
    ------
    WeightsError
        If the task is unknown.

    Examples
    --------
    >>> from skastw.encoders import list_pretrained
    >>> table = list_pretrained(task="sounds", max_parameters=100e6)
    >>> table["parameters"]["ast-audioset"].item(), table["license"]["ast-audioset"]
    (86600000, 'bsd-3-clause')
    """
    import pandas as pd

    tasks = sorted({known.task for known in known_checkpoints().values()})
    if task is not None and task not in tasks:
        raise WeightsError(unknown_value("task", task, tasks))

    chosen = {
        name: structs.asdict(known)
        for name, known in known_checkpoints().items()
        if task in (None, known.task)
        and license in (None, known.license)
        and (max_parameters is None or known.parameters <= max_parameters)
    }
    table = pd.DataFrame.from_dict(chosen, orient="index").reindex(columns=_COLUMNS)
    return table.astype({"bytes": "Int64", "sample_rate": "Int64"}).rename_axis("name")


def fetch_pretrained(name: str) -> str:
    """Download a well-known checkpoint, unless it is on this machine, and check its SHA-256.

    Parameters
    ----------
    name : str
        A name in the table of :func:`list_pretrained`.

    Returns
    -------
    str
        A folder or file for ``weights`` of the encoder. A repository is in the cache of the Hub, so that
        ``weights="user/name"`` with the same ``revision`` also works without a network afterwards.

    Raises
    ------
    WeightsError
        If the name is unknown, or the checkpoint cannot be downloaded or is not the published one.

    Warns
    -----
    UserWarning
        If no SHA-256 is published, with the one of the download.

    Examples
    --------
    >>> from skastw.encoders import fetch_pretrained
    >>> fetch_pretrained("wavlm-basis")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    skastw.errors.WeightsError: Got name='wavlm-basis', expected one of ...; did you mean 'wavlm-base'?
    """
    known = known_checkpoint(name)
    path, checkpoint = _fetched(known) if known.is_folder else _file(name, known)
    if known.sha256 is None:
        warn_user(f"No SHA-256 of {name!r} is published. This download has {checkpoint.source['sha256']}.")
    return str(path)


def code_of(name: str) -> str:
    """Return Python code that uses a well-known checkpoint.

    Parameters
    ----------
    name : str
        A name in the table of :func:`list_pretrained`.

    Examples
    --------
    >>> from skastw.encoders._known import code_of
    >>> print(code_of("whisper-tiny"))
    from skastw import ASTWClassifier
    from skastw.encoders import TransformersEncoder
    <BLANKLINE>
    encoder = TransformersEncoder(weights="openai/whisper-tiny", revision="169d4a4341b33bc18d8881c4b69c2e104e1cc0af")
    clf = ASTWClassifier(features="waveform", encoder=encoder, sample_rate=16000, chunk_length=30.0)
    """
    known = known_checkpoint(name)
    names, weights = known.encoder, f'fetch_pretrained("{name}")'
    if known.is_folder:
        weights = f'"{known.repository}"' + (f', revision="{known.revision}"' if known.revision else "")
    else:
        names += ", fetch_pretrained"

    rate = f", sample_rate={known.sample_rate}" if known.sample_rate else ""
    length = f", chunk_length={known.chunk_length}" if known.chunk_length else ""
    front_end = [] if known.imports == [] else [f"front_end = {known.features}"]
    features = "front_end" if front_end else known.features
    lines = [
        "from skastw import ASTWClassifier",
        f"from skastw.encoders import {names}",
        *known.imports,
        "",
        *front_end,
        f"encoder = {known.encoder}(weights={weights})",
        f"clf = ASTWClassifier(features={features}, encoder=encoder{rate}{length})",
    ]
    return "\n".join(lines)


def _fetched(known: KnownCheckpoint) -> tuple[Path, Checkpoint]:
    """Return the folder of a repository in the cache of the Hub, and the checkpoint in it."""
    repository = str(known.repository)
    checkpoint = open_checkpoint(repository, known.revision or "main", sha256=known.sha256)
    return hub.fetch(repository, [CONFIG], revision=checkpoint.source["commit"]), checkpoint


def _file(name: str, known: KnownCheckpoint) -> tuple[Path, Checkpoint]:
    """Return a file, from the cache of the Hub or of the user, and the checkpoint in it."""
    if known.repository is None:
        path = _downloaded(name, known)
    else:
        try:
            path = hub.fetch(known.repository, [known.file], revision=known.revision or "main") / known.file
        except (ArtifactError, HubError) as error:
            raise WeightsError(f"The weights {name!r} cannot be read: {error}") from error
    return path, open_checkpoint(path, sha256=known.sha256)


def _downloaded(name: str, known: KnownCheckpoint) -> Path:
    """Return a file that is not on the Hub, from the user's cache."""
    import pooch

    folder = cache_folder() / "downloads" / name
    digest = None if known.sha256 is None else f"sha256:{known.sha256}"
    try:
        return Path(pooch.retrieve(known.url, known_hash=digest, fname=known.file, path=folder))
    except Exception as error:  # of types of the HTTP library
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"The weights {name!r} cannot be downloaded from {known.url}: {reason} Download them with a browser, and "
            f"copy them to {str(folder / known.file)!r}."
        ) from error
