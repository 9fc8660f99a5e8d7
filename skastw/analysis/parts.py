"""Tables that are written in parts, so that a run that was stopped continues with the missing parts."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from filelock import FileLock, Timeout
from msgspec import Meta, Struct, structs
from pandas import DataFrame

from skastw.analysis.tables import (
    BLOCK,
    check_table,
    clips_sha256,
    embedding_tables,
    prediction_tables,
    write_rows,
)
from skastw.analysis.windows import n_samples
from skastw.audio import as_clips
from skastw.core.checks import check_positive
from skastw.core.optional import import_optional
from skastw.core.parameters import take_params
from skastw.core.text import unknown_value
from skastw.errors import OutputError, plain
from skastw.network.inference import InferenceParams, number_format
from skastw.network.trained import fingerprint
from skastw.storage.outputs import check_folder, new_file, scratch_folder, write_file
from skastw.storage.schema import Count, check

#: Description of a run in its folder. Readers of data sets skip names that begin with an underscore.
MANIFEST = "_manifest.json"
#: Folder of the records of complete parts, and of the locks.
_RECORDS = "_done"
#: Function that is told the number of clips of each part, and whether the part was computed in this call.
Progress = Callable[[int, bool], None]

_Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="a SHA-256 in hexadecimal digits")]
_Positive = Annotated[int, Meta(ge=1, description="an integer of at least 1")]


class _Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the parts of a folder have in common."""

    version: Literal[1] = 1
    content: Literal["predictions", "embeddings"]
    columns: list[str]
    model: _Sha256
    precision: str
    tta: _Positive
    clips: _Positive
    clips_sha256: _Sha256
    block: _Positive
    format: Literal["csv", "parquet"]
    window: float | None = None
    hop: float | None = None


class _Record(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A complete part: the hash of its file, and the number of its clips and of the clips with an error."""

    sha256: _Sha256
    clips: Count
    failed: Count


@dataclass(frozen=True)
class Written:
    """Result of a run that writes a table in parts.

    Attributes
    ----------
    path : str
        The folder of the parts, or the file.
    clips : int
        Number of clips, including earlier calls; with ``shard``, of this shard only.
    failed : int
        Number of clips with a text in the column ``error``.
    """

    path: str
    clips: int
    failed: int


def write_parts(
    estimator: Any,
    X: Any,
    folder: str | os.PathLike[str],
    *,
    content: str = "predictions",
    form: str = "csv",
    block: int = BLOCK,
    shard: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
    window: float | None = None,
    hop: float | None = None,
) -> Written:
    """Write a table of clips as a folder of parts, and continue an earlier run into the same folder.

    The parts ``part-00000.csv``, ``part-00001.csv``, ... have the rows of consecutive blocks of clips. Each of them is
    written in one step. A call with the same clips, model and settings computes only the parts that are missing or
    damaged. All parts together are the table, whichever calls and shards wrote them.

    Parameters
    ----------
    estimator : fitted ASTWClassifier, ASTWRegressor, or ASTWFeaturizer that gives a table
        It does not change. Clips that cannot be used get a row for any value of ``on_error``.
    X : sequence of clips, or one path
        A list of clips, not a 2-D array.
    folder : path
        A new or empty folder, or the folder of an earlier call.
    content : {"predictions", "embeddings"}, default="predictions"
        Which table to write: :func:`~skastw.analysis.prediction_tables` or
        :func:`~skastw.analysis.embedding_tables`.
    form : {"csv", "parquet"}, default="csv"
        Format of the parts. Parquet needs the extra ``parquet``.
    block : int, default=256
        Number of clips in a part.
    shard : (int, int), default=(1, 1)
        With ``(3, 64)``, write the third part of each 64, beginning with ``part-00002``. The 64 shards have different
        parts and may be written at the same time, by several machines into one folder.
    progress : callable, optional
        Function that is called after each part with the number of its clips and a bool, which is False if an earlier
        call computed the part.
    window, hop : float, optional
        Only with embeddings: length of windows along each clip, and step from a window to the next (s), by default half
        a window. The table then has a row for each window.

    Returns
    -------
    Written

    Raises
    ------
    OutputError
        If the folder cannot be written, has other files or the parts of another run, or another process writes the same
        shard. Complete parts are kept.
    ValueError
        If an argument is not valid.

    Notes
    -----
    ``_manifest.json`` describes the run; ``_done/`` has a hash of each complete part. The clips of a run are recognised
    by their paths: a change of a file between two calls is not noticed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw import ASTWClassifier
    >>> from skastw.analysis import write_parts
    >>> from skastw.datasets import make_tones
    >>> clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(clips, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = write_parts(clf, clips, folder, block=5)
    ...     sorted(path.name for path in Path(folder).glob("part-*"))
    ['part-00000.csv', 'part-00001.csv']
    >>> written.clips, written.failed
    (8, 0)
    """
    clips = as_clips(X)
    manifest = _manifest_of(estimator, clips, content, form, block, window, hop)
    check_table(check_folder(folder) / _part(manifest, 0))
    with _opened(Path(folder), manifest, shard):
        return _write_missing(estimator, clips, Path(folder), manifest, shard, progress)


def write_in_parts(
    estimator: Any,
    X: Any,
    path: str | os.PathLike[str],
    *,
    content: str = "predictions",
    block: int = BLOCK,
    progress: Progress | None = None,
    window: float | None = None,
    hop: float | None = None,
) -> Written:
    """Write a table of clips as one file, and continue an earlier run that was stopped.

    Until all parts are complete, they are in a folder with the name of the file and the suffix ``.parts``. The file is
    then written in one step, and the folder is removed.

    Parameters
    ----------
    estimator, X, content, block, progress, window, hop
        See :func:`write_parts`.
    path : path
        File name that ends in ``.csv`` or ``.parquet``. An existing file is replaced at the end.

    Returns
    -------
    Written

    Raises
    ------
    OutputError, ValueError
        See :func:`write_parts`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw import ASTWClassifier
    >>> from skastw.analysis import write_in_parts
    >>> from skastw.datasets import make_tones
    >>> clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(clips, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_in_parts(clf, clips, Path(folder) / "tones.csv", block=5)
    ...     [path.name for path in Path(folder).iterdir()]
    ['tones.csv']
    """
    check_table(path)
    clips = as_clips(X)
    form = Path(path).suffix.lower().removeprefix(".")
    manifest = _manifest_of(estimator, clips, content, form, block, window, hop)
    folder = check_folder(f"{os.fspath(path)}.parts")

    with _opened(folder, manifest, (1, 1)):
        written = _write_missing(estimator, clips, folder, manifest, (1, 1), progress)
        parts = [folder / _part(manifest, number) for number in _blocks(manifest)]
        with new_file(path) as file:
            _JOIN[manifest.format](parts, manifest.columns, file)

    # renamed first, so that no half of a folder is left if the process is killed; Windows renames no locked folder
    with scratch_folder(folder.parent) as scratch:
        os.replace(folder, scratch / "parts")
    return Written(str(Path(path)), written.clips, written.failed)


def clips_in_shard(n_clips: int, block: int = BLOCK, shard: tuple[int, int] = (1, 1)) -> int:
    """Return the number of clips of a shard.

    Parameters
    ----------
    n_clips : int
        Number of clips of all shards.
    block, shard
        See :func:`write_parts`.

    Examples
    --------
    >>> from skastw.analysis.parts import clips_in_shard
    >>> [clips_in_shard(11, block=3, shard=(i, 3)) for i in (1, 2, 3)]
    [5, 3, 3]
    """
    starts = range(0, n_clips, block)[shard[0] - 1 :: shard[1]]
    return sum(min(block, n_clips - start) for start in starts)


def _manifest_of(
    estimator: Any,
    clips: Sequence[Any],
    content: str,
    form: str,
    block: int,
    window: float | None,
    hop: float | None,
) -> _Manifest:
    if not clips:
        raise ValueError("Got no clips, expected at least one.")
    for name, value, known in (("content", content, _CONTENTS), ("form", form, _JOIN)):
        if value not in known:
            raise ValueError(unknown_value(name, value, known))
    check_positive(block=block)
    if hop is not None and window is None:
        raise ValueError(f"Got hop={plain(hop)!r} with window=None, expected window with it.")
    if window is not None and content != "embeddings":
        raise ValueError(f"Got window={plain(window)!r} with content={content!r}, expected content='embeddings'.")

    sample_rate = estimator.sample_rate_ if hasattr(estimator, "trained_") else estimator.sample_rate
    windows = {name: seconds for name, seconds in (("window", window), ("hop", hop)) if seconds is not None}
    for name, seconds in windows.items():
        n_samples(name, seconds, sample_rate)

    clip, *columns = _CONTENTS[content][1](estimator)
    manifest = {
        "content": content,
        "columns": [clip, *columns] if window is None else [clip, "start", "end", *columns],
        **_model_of(estimator),
        **{name: float(seconds) for name, seconds in windows.items()},
        "clips": len(clips),
        "clips_sha256": clips_sha256(clips),
        "block": block,
        "format": form,
    }
    return check(manifest, _Manifest, "manifest", OutputError)


def _model_of(estimator: Any) -> dict[str, Any]:
    """Return the part of the manifest that describes the model and how it computes."""
    if not hasattr(estimator, "trained_"):
        return {"model": estimator.fingerprint(), "precision": "float32", "tta": 1}
    params = take_params(InferenceParams, estimator)
    return {"model": fingerprint(estimator.trained_), "precision": number_format(params), "tta": params.tta}


def _prediction_columns(classifier: Any) -> list[str]:
    ranked = ["predicted", "probability"] if classifier.trained_.targets.exclusive else []
    return ["clip", *ranked, *(f"p({label})" for label in classifier.classes_.tolist()), "error"]


def _embedding_columns(estimator: Any) -> list[str]:
    return ["clip", *map(str, estimator.get_feature_names_out()), "error"]


_CONTENTS: dict[str, tuple[Callable[..., Iterator[DataFrame]], Callable[[Any], list[str]]]] = {
    "predictions": (prediction_tables, _prediction_columns),
    "embeddings": (embedding_tables, _embedding_columns),
}

# ------------------------------------------------------------------ the folder


@contextlib.contextmanager
def _opened(folder: Path, manifest: _Manifest, shard: tuple[int, int]) -> Iterator[None]:
    """Create the folder of a run or check that it belongs to this run, and lock a shard of it."""
    number, n_shards = shard
    if not 1 <= number <= n_shards:
        raise ValueError(f"Got shard={shard!r}, expected (i, n) with i from 1 to n.")

    _check_run(folder, manifest)
    try:
        (folder / _RECORDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write {str(folder)!r}: {error.strerror}.") from error

    with _locked(folder / _RECORDS / "manifest.lock", timeout=-1):
        if not _check_run(folder, manifest):
            write_file(folder / MANIFEST, json.dumps(structs.asdict(manifest), indent=2) + "\n")
    with _locked(folder / _RECORDS / f"shard-{number}-of-{n_shards}.lock", timeout=0):
        yield


def _check_run(folder: Path, manifest: _Manifest) -> bool:
    """Return whether a folder has the manifest; raise OutputError if it has another one, or files without one."""
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        others = [entry.name for entry in folder.glob("[!._]*")]
        if others:
            raise OutputError(
                f"Got output {str(folder)!r}, which has other files, such as {min(others)!r}, expected a new or an "
                "empty folder, or a folder with parts of this run; give another folder."
            ) from None
        return False

    try:
        earlier = check(json.loads(text), _Manifest, str(path), OutputError)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise OutputError(f"{str(path)!r} is damaged ({error}); remove its folder, or give another output.") from error
    words = {"model": "another model", "clips_sha256": "other clips", "columns": "other columns"}
    before, now = structs.asdict(earlier), structs.asdict(manifest)
    differences = [
        words.get(name, f"{name}: {before[name]} before, {now[name]} now") for name in now if before[name] != now[name]
    ]
    if differences:
        raise OutputError(
            f"{str(folder)!r} has parts of another run ({'; '.join(differences)}), expected parts of this run; give "
            "another output, or remove this folder."
        )
    return True


@contextlib.contextmanager
def _locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold a lock, which the system releases if this process is killed; do without it if the disk has no locks."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise OutputError(
            f"Another process writes the same parts into {str(path.parent.parent)!r}; wait until it ends, or give "
            "another output."
        ) from None
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()


# ------------------------------------------------------------------ the parts


def _write_missing(
    estimator: Any,
    clips: Sequence[Any],
    folder: Path,
    manifest: _Manifest,
    shard: tuple[int, int],
    progress: Progress | None,
) -> Written:
    """Compute the parts of a shard that are not complete, and count the rows of all its parts."""
    records: list[_Record] = []

    def note(record: _Record, computed: bool) -> None:
        records.append(record)
        if progress is not None:
            progress(record.clips, computed)

    def missing() -> Iterator[int]:
        # each part is looked up when its turn comes: a process with another shard may have written it meanwhile
        for number in _blocks(manifest)[shard[0] - 1 :: shard[1]]:
            if (record := _read_record(folder, _part(manifest, number))) is None:
                yield number
            else:
                note(record, False)

    tables, _ = _CONTENTS[manifest.content]
    windows = {} if manifest.window is None else {"window": manifest.window, "hop": manifest.hop}
    for table in tables(estimator, clips, block=manifest.block, blocks=missing(), **windows):
        name = _part(manifest, table.index[0] // manifest.block)
        note(_write_part(folder, name, table), True)
    return Written(str(folder), sum(record.clips for record in records), sum(record.failed for record in records))


def _blocks(manifest: _Manifest) -> range:
    return range(-(-manifest.clips // manifest.block))


def _part(manifest: _Manifest, number: int) -> str:
    return f"part-{number:05}.{manifest.format}"


def _write_part(folder: Path, name: str, table: DataFrame) -> _Record:
    """Write a part, then its record; each of them in one step."""
    content = io.BytesIO()
    write_rows(table, content, Path(name).suffix)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    record = _Record(sha256=digest, clips=table.index.nunique(), failed=int(table["error"].notna().sum()))

    write_file(folder / name, content.getvalue())
    write_file(folder / _RECORDS / f"{name}.json", json.dumps(structs.asdict(record)))
    return record


def _read_record(folder: Path, name: str) -> _Record | None:
    """Return the record of a complete part, or None if the part or its record is missing or damaged."""
    try:
        record = check(json.loads((folder / _RECORDS / f"{name}.json").read_bytes()), _Record, name, OutputError)
        with open(folder / name, "rb") as part:
            digest = hashlib.file_digest(part, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
    return record if record.sha256 == digest else None


def _join_csv(parts: Sequence[Path], columns: list[str], file: BinaryIO) -> None:
    """Write the rows of all parts below one header."""
    header = io.BytesIO()
    write_rows(DataFrame(columns=columns), header, ".csv")
    file.write(header.getvalue())
    for part in parts:
        with open(part, "rb") as rows:
            rows.seek(len(header.getvalue()))
            shutil.copyfileobj(rows, file)


def _join_parquet(parts: Sequence[Path], columns: list[str], file: BinaryIO) -> None:
    """Write each part as a row group."""
    parquet = import_optional("pyarrow.parquet", extra="parquet", purpose="Writing Parquet")
    with parquet.ParquetWriter(file, parquet.read_schema(parts[0])) as writer:
        for part in parts:
            writer.write_table(parquet.ParquetFile(part).read())


_JOIN = {"csv": _join_csv, "parquet": _join_parquet}
