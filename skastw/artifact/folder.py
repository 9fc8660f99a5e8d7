"""The artifact: a folder of six files with a fitted model and no executable code.

==========================  ===========================================================================
``model.safetensors``       the weights
``config.json``             ``format_version``, the components by name, the estimator's parameters, the SHA-256 of
                            the other files and of ``config.json`` itself
``preprocessor_config.json``  the front end in the format of ``transformers``' ``WhisperFeatureExtractor``
``labels.json``             the classes and their type
``metrics.json``            data, scores and history of training
``README.md``               the model card
==========================  ===========================================================================

A folder may come from an untrusted source. Therefore the files never refer to code, there is a limit to the size that
is read, and the weights are read only if they match the network in ``config.json``. The model card may be edited:
loading does not read it, and saving replaces an edited card, which has another SHA-256, only with ``overwrite=True``.

All files are written in one step; see :mod:`skastw.storage.commit`.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from torch import Tensor

from skastw.core.component import SLOTS
from skastw.core.optional import how_to_install
from skastw.core.text import looked_in
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError
from skastw.storage.commit import is_snapshot, open_files, replace_files, settled
from skastw.storage.files import open_inside, parse_json, read_limited
from skastw.storage.weights import MAX_WEIGHT_BYTES, StoredWeights, open_weights, weights_to_bytes

FORMAT_VERSION = 3
#: Largest JSON file that is read or written (bytes), enough for the labels of a million classes.
MAX_JSON_BYTES = 32 * 2**20
WEIGHTS, CONFIG, PREPROCESSOR, LABELS, METRICS, CARD = FILES = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "labels.json",
    "metrics.json",
    "README.md",
)
#: The files in the order in which they are fetched from the Hub. The first file, which is small, fixes the commit.
FETCHED = (CONFIG, *(name for name in FILES if name != CONFIG))
_JSON = (CONFIG, PREPROCESSOR, LABELS, METRICS)
_SEALED = (WEIGHTS, PREPROCESSOR, LABELS, METRICS)
_TRAINING = ("best_epoch", "n_epochs", "interrupted", "seed", "split", "validation", "test", "versions")
_FRONT_MATTER = re.compile(rb"---\r?\n(.*?\n)---\r?\n", re.DOTALL)
_LIBRARY_NAME = re.compile(rb"^library_name:[ \t]*[\"']?skastw[\"']?[ \t]*\r?$", re.MULTILINE)


@dataclass(frozen=True)
class Artifact:
    """Content of the six files, before it is written.

    Attributes
    ----------
    weights : dict of str to Tensor
    config, preprocessor, labels, metrics : dict
        JSON values.
    card : str
        Text of the model card (Markdown).
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    labels: dict[str, Any]
    metrics: dict[str, Any]
    card: str


@dataclass(frozen=True)
class StoredArtifact:
    """Content of a folder, with weights that are not read yet.

    Attributes
    ----------
    weights : StoredWeights
    config, labels, metrics : dict
        JSON values.
    """

    weights: StoredWeights
    config: dict[str, Any]
    labels: dict[str, Any]
    metrics: dict[str, Any]


def write_artifact(folder: str | os.PathLike[str], artifact: Artifact, *, overwrite: bool = False) -> Path:
    """Write the six files into a folder, in one step.

    Parameters
    ----------
    folder : path
        The folder, which is created if missing. Other files in it do not change.
    artifact : Artifact
        Content of the files. ``format_version`` and ``sha256`` are added to its ``config``.
    overwrite : bool, default=False
        Whether to replace files of these names that do not belong to a saved model, and an edited model card.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ArtifactError
        If the folder cannot be written, or contains files that only ``overwrite=True`` replaces, or if a weight is NaN
        or infinite. The folder then does not change.

    Warns
    -----
    UserWarning
        If a file cannot be replaced. The model is saved, but the new file still has a temporary name.
    """
    with _saving_to(folder) as real:
        contents = _to_contents(artifact)
        unfinished = replace_files(
            real, contents, check=lambda: _check_files(real, overwrite=overwrite), editable=(CARD,)
        )
    if unfinished:
        warn_user(
            f"The model is saved in {str(Path(folder))!r} and can be loaded, but some files could not be replaced: "
            f"{', '.join(unfinished)}. Their new content is in files whose names end in .tmp, which the next save "
            "moves. Close any program that has these files open, and do not copy single files until then."
        )
    return Path(folder)


def check_target(folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise an error early, for example before training, if :func:`write_artifact` would refuse a folder.

    If an earlier save to the folder was interrupted, it is completed. Nothing else is written.

    Parameters
    ----------
    folder : path
    overwrite : bool, default=False
        See :func:`write_artifact`.

    Raises
    ------
    ArtifactError
        If the folder would be refused. The message names the file and the remedy.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.artifact.folder import check_target
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_target(folder)
    ...     _ = Path(folder, "README.md").write_text("# My project")
    ...     try:
    ...         check_target(folder)
    ...     except ValueError as error:
    ...         print(str(error).partition(": ")[2].partition(";")[0])
    its README.md is not a model card of skastw. Move it away, or save to another folder
    """
    with _saving_to(folder) as real:
        if real.is_dir():
            with settled(real, FILES):
                _check_files(real, overwrite=overwrite)


@contextlib.contextmanager
def _saving_to(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a folder without links, if a model can be saved to it; name the folder in errors."""
    target = Path(folder)
    try:
        if not os.fspath(folder):
            raise ArtifactError("the path is empty, expected a folder; '.' is the working folder.")
        if target.exists() and not target.is_dir():
            raise ArtifactError("it is a file, expected a folder or a new name.")
        if is_snapshot(target):
            raise ArtifactError("it is a download in the cache of the Hugging Face Hub. Save to another folder.")
        yield Path(os.path.realpath(target))
    except (OSError, ValueError) as error:  # ValueError: also a number that JSON cannot represent
        raise ArtifactError(f"Cannot save to {str(target)!r}: {str(error).removesuffix('.')}.") from error


def _check_files(folder: Path, *, overwrite: bool) -> None:
    """Raise ArtifactError if one of the six files exists and must not, or cannot, be replaced."""
    existing = [name for name in FILES if os.path.lexists(folder / name)]
    for name in existing:
        if not stat.S_ISREG(os.lstat(folder / name).st_mode):
            raise ArtifactError(
                f"{name} in it is a link, a folder or a device, which is never replaced. Move it away, or save to "
                "another folder."
            )
        if os.path.ismount(folder / name):
            raise ArtifactError(
                f"{name} in it is a mount point, as in a container, and cannot be replaced. Mount the folder "
                "instead, or save to another folder."
            )
        if not _is_replaceable(folder, name):
            raise ArtifactError(
                f"this user has no permission to replace {name} in it. Change its owner or permissions, or "
                "save to another folder."
            )

    problem = None if overwrite else _foreign_file(folder, existing)
    if problem is not None:
        raise ArtifactError(
            f"{problem}. Move it away, or save to another folder; save_pretrained(..., overwrite=True) replaces it."
        )


def _foreign_file(folder: Path, existing: Sequence[str]) -> str | None:
    """Return the problem with an existing file that is not part of a saved model or was edited, or None."""
    config = _own_config(folder)
    if CONFIG in existing and config is None:
        return f"its {CONFIG} is not that of a skastw model"
    for name in existing:
        if name != CARD and config is None:
            return f"it contains {name} without the {CONFIG} of a skastw model"
    return _card_problem(folder, config or {}) if CARD in existing else None


def _card_problem(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the problem with an existing README.md that is not the card of a saved model or was edited, or None."""
    card = b""
    with contextlib.suppress(ArtifactError):  # an unreadable file is not a card either
        card = _read(folder, CARD)
    header = _FRONT_MATTER.match(card)
    if header is None or not _LIBRARY_NAME.search(header[1]):
        return f"its {CARD} is not a model card of skastw"

    hashes = config.get("sha256")
    unedited = isinstance(hashes, dict) and hashes.get(CARD) == _sha256(card)
    without_hash = config.get("format_version") in (1, 2)
    return None if unedited or without_hash else f"its {CARD} was edited after it was saved"


def _is_replaceable(folder: Path, name: str) -> bool:
    """Return whether this user has permission to replace a file in a writable folder."""
    if sys.platform == "win32":
        return os.access(folder / name, os.W_OK)
    shared = os.stat(folder)
    owners = {shared.st_uid, os.lstat(folder / name).st_uid}
    # in a folder with the sticky bit, such as /tmp, only the owner may remove a file
    return not shared.st_mode & stat.S_ISVTX or os.geteuid() in {0, *owners}


def _own_config(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``config.json`` if skastw, of any version, saved it; None otherwise."""
    with contextlib.suppress(ArtifactError):
        config = parse_json(_read(folder, CONFIG), CONFIG)
        return config if config.get("library") == "skastw" else None
    return None


def _read(folder: Path, name: str) -> bytes:
    """Return the content of a regular file; raise ArtifactError if it is larger than a saved file can be."""
    with open_inside(folder, name) as file:
        return read_limited(file, name, max_bytes=MAX_JSON_BYTES)


def _to_contents(artifact: Artifact) -> dict[str, bytes]:
    """Return the content of each file, with the checks that reading makes."""
    contents = {
        WEIGHTS: weights_to_bytes(artifact.weights),
        PREPROCESSOR: _to_json(artifact.preprocessor, PREPROCESSOR),
        LABELS: _to_json(artifact.labels, LABELS),
        METRICS: _to_json(artifact.metrics, METRICS),
        CARD: artifact.card.encode("utf-8"),
    }
    config = _sealed({"format_version": FORMAT_VERSION, **artifact.config}, contents)
    return {**contents, CONFIG: _to_json(config, CONFIG)}


def seal(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return ``config`` with the SHA-256 of itself and of the other files in the folder."""
    return _sealed(config, {name: (folder / name).read_bytes() for name in (*_SEALED, CARD)})


def _sealed(config: dict[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
    hashes = {name: _sha256(contents[name]) for name in (*_SEALED, CARD)}
    config = {**config, "sha256": hashes}
    return {**config, "sha256": {**hashes, CONFIG: _canonical_sha256(config)}}


def read_artifact(folder: str | os.PathLike[str]) -> StoredArtifact:
    """Read the files of a folder. The weights are only opened, and the model card is not read.

    Parameters
    ----------
    folder : path

    Returns
    -------
    StoredArtifact

    Raises
    ------
    ArtifactError
        If a file is missing, damaged or too large, or this release does not know the ``format_version``.
    """
    source = Path(folder)
    with _open_version(source, unread=(CARD,)) as files:
        contents = {name: read_limited(files[name], str(source / name), max_bytes=MAX_JSON_BYTES) for name in _JSON}
        documents = {name: parse_json(content, repr(str(source / name))) for name, content in contents.items()}
        config = _current(documents[CONFIG], source)

        hashes = _hashes(documents[CONFIG], source) if documents[CONFIG]["format_version"] > 1 else {}
        for name in (PREPROCESSOR, LABELS, METRICS) if hashes else ():
            if _sha256(contents[name]) != hashes[name]:
                raise ArtifactError(
                    f"{str(source / name)!r} is not the file that was saved: its SHA-256 is not the one in {CONFIG}. "
                    "It was damaged or edited, or its line endings changed; fetch or save the model again."
                )
        weights = open_weights(files[WEIGHTS], source / WEIGHTS, sha256=hashes.get(WEIGHTS))
    return StoredArtifact(weights, config, documents[LABELS], documents[METRICS])


def describe_model(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a description of a saved model. Only the header of the weights is read.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of JSON values
        ``estimator``, ``version`` (of skastw when the model was saved), ``format_version``, ``task``, ``labels``,
        ``sample_rate``, ``components`` (each with its parameters), ``augment``, ``params``, ``n_parameters`` (the
        result of :func:`skastw.network.model.count_parameters`; None for a model of an earlier release), ``weights``
        (number of tensors and bytes, including tensors that are not trained), ``best_epoch``, ``n_epochs``,
        ``interrupted``, ``seed`` (None if unknown), ``split``, ``validation`` and ``test`` (scores, or None) and
        ``versions`` (of the libraries during training).

    Raises
    ------
    ArtifactError
        If a file is missing, damaged or too large.

    Examples
    --------
    >>> import tempfile
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.artifact.folder import describe_model
    >>> clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf = ASTWClassifier(epochs=1, encoder="rnn", val_split=None).fit(clips, y)
    ...     describe_model(clf.save_pretrained(folder))["labels"]
    [0, 1]
    """
    stored = read_artifact(folder)
    config, metrics = stored.config, stored.metrics
    params = config.get("params", {})

    return {
        "estimator": config.get("estimator"),
        "version": config.get("library_version"),
        "format_version": config.get("format_version"),
        "task": stored.labels.get("task"),
        "labels": stored.labels.get("labels"),
        "sample_rate": params.get("sample_rate"),
        "components": {slot: config[slot] for slot in SLOTS if slot != "augment" and slot in config},
        "augment": config.get("augment"),
        "params": params,
        "n_parameters": config.get("n_parameters"),
        "weights": {"tensors": len(stored.weights.specs), "bytes": stored.weights.size},
        **{name: metrics.get(name) for name in _TRAINING},
    }


def read_files(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return the content of the six files, all from the same save, even if another process is saving.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of str to bytes
        Content by file name, which is not checked.

    Raises
    ------
    ArtifactError
        If a file is missing or too large, or cannot be read.
    """
    source = Path(folder)
    with _open_version(source) as files:
        limits = {name: MAX_WEIGHT_BYTES if name == WEIGHTS else MAX_JSON_BYTES for name in FILES}
        return {name: read_limited(files[name], str(source / name), max_bytes=limits[name]) for name in FILES}


@contextlib.contextmanager
def _open_version(source: Path, unread: tuple[str, ...] = ()) -> Iterator[dict[str, BufferedReader]]:
    """Open the six files, all from the same save. Files in ``unread`` must exist but are not opened."""
    try:
        files = open_files(source, FILES, unread=unread)
    except FileNotFoundError as error:
        if not source.exists():
            raise ArtifactError(f"There is no model folder {str(source)!r}{looked_in(source)}.") from None
        inside = next((str(path.parent) for path in sorted(source.glob(f"*/{CONFIG}"))), None)
        hint = f" {inside!r} contains a model." if inside else ""
        raise ArtifactError(f"{str(source)!r} is not a complete model folder: {error}.{hint}") from None
    except OSError as error:
        raise ArtifactError(f"{str(source)!r} cannot be read: {error}.") from error
    with contextlib.ExitStack() as stack:
        for file in files.values():
            stack.enter_context(file)
        yield files


def _current(config: dict[str, Any], source: Path) -> dict[str, Any]:
    """Return a config converted to the format of this release."""
    version = config.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise ArtifactError(
            f"{str(source / CONFIG)!r} has format_version {str(version)[:50]!r}, expected 1 to {FORMAT_VERSION}; "
            f"a newer model requires a newer skastw: {how_to_install()}."
        )
    if version == 1:  # without hashes, and sometimes without a normalization
        if "sha256" in config:
            raise ArtifactError(
                f"{CONFIG} has format_version 1 but also sha256, which version 1 does not have; it was changed."
            )
        config = {"normalization": {"name": "none", "params": {}}, **config}
    return {**config, "format_version": FORMAT_VERSION}  # version 2 has no hash of the card, which is not read


def _hashes(config: dict[str, Any], source: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, after a check of the SHA-256 of the config itself."""
    hashes: Any = config.get("sha256")
    names = {*_SEALED, CONFIG} if config["format_version"] == 2 else {*_SEALED, CARD, CONFIG}
    valid = isinstance(hashes, dict) and hashes.keys() == names
    if not valid or not all(isinstance(value, str) for value in hashes.values()):
        raise ArtifactError(
            f"{str(source / CONFIG)!r} does not contain the SHA-256 of each file; save the model again."
        )

    others = {name: value for name, value in hashes.items() if name != CONFIG}
    if _canonical_sha256({**config, "sha256": others}) != hashes[CONFIG]:
        raise ArtifactError(
            f"{str(source / CONFIG)!r} was changed after it was saved: its SHA-256 differs from the saved one. "
            "Fetch or save the model again. To change a parameter, call set_params on the loaded model."
        )
    return others


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical_sha256(value: dict[str, Any]) -> str:
    """Return the SHA-256 of a JSON value, which does not depend on white space and the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=os.fspath)
    return _sha256(text.encode())


def _to_json(value: dict[str, Any], name: str) -> bytes:
    """Return the content of a JSON file; raise ArtifactError if it is too large to be read again."""
    # parameters of components may be paths
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=os.fspath) + "\n"
    content = text.encode("utf-8")
    if len(content) > MAX_JSON_BYTES:
        raise ArtifactError(f"{name} would have {len(content)} bytes, expected at most {MAX_JSON_BYTES}.")
    return content
