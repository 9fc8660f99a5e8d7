"""The artifact: one folder of six files that holds a fitted model and nothing executable.

==========================  ===========================================================================
``model.safetensors``       the weights
``config.json``             ``format_version``, the components by name, the estimator's parameters, the SHA-256 of
                            the other files and of itself
``preprocessor_config.json``  the front end in the words of ``transformers``' ``WhisperFeatureExtractor``
``labels.json``             the classes and their type
``metrics.json``            how training went
``README.md``               the model card
==========================  ===========================================================================

What is read may be somebody else's: nothing in the files names code, each is read only up to a limit, and the weights
only once they are known to be those of the network that ``config.json`` describes. The card, which people edit, is
not read at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from skastw._atomic import replacement
from skastw._files import parse_json, read_inside
from skastw.errors import ArtifactError
from skastw.weights import StoredWeights, open_weights

__all__ = [
    "FILES",
    "FORMAT_VERSION",
    "MAX_JSON_BYTES",
    "Artifact",
    "StoredArtifact",
    "held_out_from_json",
    "labels_from_json",
    "labels_to_json",
    "read_artifact",
    "seal",
    "training_from_json",
    "write_artifact",
]

FORMAT_VERSION = 2
#: Largest JSON file that is read, and so that is written; the labels of a million classes fit.
MAX_JSON_BYTES = 32 * 2**20
WEIGHTS, CONFIG, PREPROCESSOR, LABELS, METRICS, CARD = FILES = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "labels.json",
    "metrics.json",
    "README.md",
)
_JSON = (CONFIG, PREPROCESSOR, LABELS, METRICS)
_SEALED = (WEIGHTS, PREPROCESSOR, LABELS, METRICS)
_MAX_LABEL_BYTES = 2**28
#: Numbers of each class, and of a test as a whole.
_CLASS_SCORES = ("precision", "recall", "f1", "support")
_TEST_SCORES = ("n_clips", "accuracy", "macro_f1", "uar")
_NO_TEST = "The scores of clips held out for testing (test) are expected as evaluate(...).to_dict() gives them"
_DTYPE = re.compile(r"[<>|=]?[biufU]\d{1,9}")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    """What the six files hold.

    Attributes
    ----------
    weights : dict of str to Tensor
    config, preprocessor, labels, metrics : dict
        JSON values.
    card : str
        Markdown.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    labels: dict[str, Any]
    metrics: dict[str, Any]
    card: str


@dataclass(frozen=True)
class StoredArtifact:
    """What a folder holds, with weights that are read when they are known to fit.

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


def write_artifact(folder: str | os.PathLike[str], artifact: Artifact) -> Path:
    """Write the six files into a new folder, then put it in the place of the target at once.

    Parameters
    ----------
    folder : path
        The target. If it exists its six files are replaced and anything else in it is kept.
    artifact : Artifact
        Its ``config`` gets ``format_version`` and ``sha256``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ArtifactError
        If the folder cannot be written; what was there before stays.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ArtifactError(f"Cannot save to {str(target)!r}: it is a file, expected a folder or a new name.")
    try:
        with replacement(target, FILES) as new:
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in artifact.weights.items()}
            save_file(weights, new / WEIGHTS, metadata={"format": "pt"})
            _write_json(new / PREPROCESSOR, artifact.preprocessor)
            _write_json(new / LABELS, artifact.labels)
            _write_json(new / METRICS, artifact.metrics)
            (new / CARD).write_text(artifact.card, encoding="utf-8", newline="\n")
            _write_json(new / CONFIG, seal({"format_version": FORMAT_VERSION, **artifact.config}, new))
    except (OSError, SafetensorError, ValueError) as error:  # ValueError: a number that JSON has not
        raise ArtifactError(f"Cannot save to {str(target)!r}: {error}.") from error
    return target


def seal(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return ``config`` with the SHA-256 of the folder's other files, but for the card, and of itself."""
    hashes = {name: _sha256((folder / name).read_bytes()) for name in _SEALED}
    config = {**config, "sha256": hashes}
    return {**config, "sha256": {**hashes, CONFIG: _canonical_sha256(config)}}


def read_artifact(folder: str | os.PathLike[str]) -> StoredArtifact:
    """Read a folder's files, however they came about.

    Parameters
    ----------
    folder : path

    Returns
    -------
    StoredArtifact

    Raises
    ------
    ArtifactError
        If a file is missing, damaged or too large, or ``format_version`` is not known to this release.
    """
    source = Path(folder)
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        inside = next((str(found.parent) for found in sorted(source.glob(f"*/{CONFIG}"))), None)
        hint = f" There is one in {inside!r}." if inside else ""
        raise ArtifactError(f"{str(source)!r} is not a complete model folder: {', '.join(missing)} missing.{hint}")
    contents = {name: read_inside(source, name, max_bytes=MAX_JSON_BYTES) for name in _JSON}
    documents = {name: parse_json(content, repr(str(source / name))) for name, content in contents.items()}
    config = _current(documents[CONFIG], source)
    hashes = _hashes(config, source) if documents[CONFIG]["format_version"] > 1 else {}
    for name in (PREPROCESSOR, LABELS, METRICS) if hashes else ():
        if _sha256(contents[name]) != hashes[name]:
            raise ArtifactError(
                f"{str(source / name)!r} is not the file that was saved: its SHA-256 is not the one in {CONFIG}. "
                "It was damaged or edited (or its line endings changed); fetch or save the model again."
            )
    weights = open_weights(source, WEIGHTS, sha256=hashes.get(WEIGHTS))
    return StoredArtifact(weights, config, documents[LABELS], documents[METRICS])


def _current(config: dict[str, Any], source: Path) -> dict[str, Any]:
    """Return a config as this release would have written it."""
    version = config.get("format_version")
    if type(version) is not int or not (version == FORMAT_VERSION or version in _MIGRATIONS):
        raise ArtifactError(
            f"{str(source / CONFIG)!r} has format_version {str(version)[:50]!r}, expected 1 to {FORMAT_VERSION}; "
            "a newer model needs a newer skastw: pip install --upgrade skastw."
        )
    for step in range(version, FORMAT_VERSION):
        config = {**_MIGRATIONS[step](config), "format_version": step + 1}
    return config


def _from_1_to_2(config: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew no hashes and, at first, no normalization."""
    if "sha256" in config:
        raise ArtifactError(f"{CONFIG} has format_version 1 and sha256, which came later; it was changed.")
    return {"normalization": {"name": "none", "params": {}}, **config}


#: What brings a config to the next version, by its version.
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1_to_2}


def _hashes(config: dict[str, Any], source: Path) -> dict[str, str]:
    """Return the SHA-256 of each file, once that of the config itself is found right."""
    hashes: Any = config.get("sha256")
    valid = isinstance(hashes, dict) and hashes.keys() == {*_SEALED, CONFIG}
    if not valid or not all(isinstance(value, str) and _SHA256.fullmatch(value) for value in hashes.values()):
        raise ArtifactError(f"{str(source / CONFIG)!r} does not give the SHA-256 of each file.")
    others = {name: str(hashes[name]) for name in _SEALED}
    if _canonical_sha256({**config, "sha256": others}) != hashes[CONFIG]:
        raise ArtifactError(
            f"{str(source / CONFIG)!r} was changed after it was saved: its content does not give its SHA-256. "
            "Fetch or save the model again; from_pretrained(...).set_params(...) changes a parameter."
        )
    return others


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _canonical_sha256(value: dict[str, Any]) -> str:
    """Return the SHA-256 of a JSON value, whatever its white space and the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=os.fspath)
    return _sha256(text.encode())


def labels_to_json(classes: np.ndarray) -> dict[str, Any]:
    """Return the JSON form of an array of classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.artifact import labels_to_json
    >>> labels_to_json(np.array(["cat", "dog"]))
    {'dtype': '<U3', 'labels': ['cat', 'dog']}
    """
    values = classes.tolist()
    if classes.dtype.kind not in "biufU" and not all(isinstance(value, str) for value in values):
        raise ArtifactError(
            f"Cannot save classes of dtype {classes.dtype} ({values[:3]}), expected strings, integers, booleans or "
            "floats."
        )
    return {"dtype": classes.dtype.str if classes.dtype.kind in "biufU" else "object", "labels": values}


def labels_from_json(labels: dict[str, Any]) -> np.ndarray:
    """Return the classes that :func:`labels_to_json` described.

    Raises
    ------
    ArtifactError
        If the form is not valid.
    """
    try:
        name, values = labels["dtype"], labels["labels"]
        if name != "object" and not _DTYPE.fullmatch(name):  # numpy reads more into a string than a type
            raise TypeError(f"dtype {name[:50]!r}")
        if not isinstance(values, list) or not all(isinstance(value, str | int | float) for value in values):
            raise TypeError("the labels are not a list of strings or numbers")
        dtype = np.dtype(name)
        if len(values) * dtype.itemsize > _MAX_LABEL_BYTES:
            raise ValueError(f"{len(values)} labels of dtype {dtype} take more than {_MAX_LABEL_BYTES} bytes")
        classes = np.array(values, dtype=dtype)
        if not len(classes) or len(np.unique(classes)) < len(classes) or classes.tolist() != values:
            raise ValueError("no labels, one that is there twice, or one that its dtype cannot hold")
        return classes
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{LABELS} is not valid: {repr(error)[:300]}.") from error


def training_from_json(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what ``metrics.json`` says of training, as the attributes of a fitted estimator.

    Raises
    ------
    ArtifactError
        If the form is not valid.
    """
    history, best = metrics.get("history"), metrics.get("best_epoch")
    rows = history if isinstance(history, list) else []
    if not rows or not all(isinstance(row, dict) and all(_is_number(v) for v in row.values()) for row in rows):
        raise ArtifactError(f"{METRICS} is not valid: its history is not a list of rows of numbers.")
    if type(best) is not int or not 1 <= best <= len(rows) or metrics.get("n_epochs") != len(rows):
        raise ArtifactError(f"{METRICS} is not valid: best_epoch or n_epochs do not fit {len(rows)} epochs.")
    summary = {name: metrics.get(name) for name in ("n_train", "n_validation", "split", "data_sha256", "clips_sha256")}
    if not all(isinstance(summary[name], int | str) for name in ("n_train", "n_validation", "split")):
        raise ArtifactError(f"{METRICS} is not valid: n_train, n_validation or split are missing.")
    if not isinstance(summary["data_sha256"], str | None):
        raise ArtifactError(f"{METRICS} is not valid: data_sha256 is no text.")
    clips = summary["clips_sha256"] or []  # earlier releases did not write them
    if not isinstance(clips, list) or not all(isinstance(sha256, str) for sha256 in clips):
        raise ArtifactError(f"{METRICS} is not valid: clips_sha256 is no list of texts.")
    versions = metrics.get("versions", {})  # earlier releases did not write them
    if not isinstance(versions, dict) or not all(isinstance(version, str) for version in versions.values()):
        raise ArtifactError(f"{METRICS} is not valid: versions is no table of texts.")
    most, interrupted = metrics.get("max_epochs"), metrics.get("interrupted", False)  # nor these
    if not isinstance(interrupted, bool) or not (most is None or (type(most) is int and most >= 1)):
        raise ArtifactError(f"{METRICS} is not valid: max_epochs or interrupted have other types.")
    for name in ("seed", "batch_size"):  # nor these
        if metrics.get(name) is not None and type(metrics[name]) is not int:
            raise ArtifactError(f"{METRICS} is not valid: {name} is no integer.")
    return {
        "history_": rows,
        "best_epoch_": best,
        "n_epochs_": len(rows),
        "interrupted_": interrupted,
        "_max_epochs": most,
        "_test": held_out_from_json(metrics.get("test")),
        "_data_summary": {**summary, "versions": versions},
        "_class_scores": _class_scores(metrics.get("per_class")),
    }


def held_out_from_json(test: Any) -> dict[str, Any] | None:
    """Return what is kept of the scores on clips that were held out for testing, or None where there are none.

    Parameters
    ----------
    test : dict or None
        ``n_clips``, ``accuracy``, ``macro_f1`` and ``uar``; and, where known, ``split`` (which clips they were),
        ``intervals`` and ``per_class``, as :meth:`skastw.evaluation.Evaluation.to_dict` gives them.

    Raises
    ------
    ArtifactError
        If the form is not valid.
    """
    if test is None:
        return None
    try:
        kept = {
            "split": test.get("split", ""),
            **{name: test[name] for name in _TEST_SCORES},
            "intervals": {name: [low, high] for name, (low, high) in test.get("intervals", {}).items()},
            "per_class": [{name: row[name] for name in ("label", *_CLASS_SCORES)} for row in test.get("per_class", [])],
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{_NO_TEST}, and not {repr(test)[:100]} ({repr(error)[:100]}).") from error
    numbers = [kept[name] for name in _TEST_SCORES] + [end for pair in kept["intervals"].values() for end in pair]
    numbers += [row[name] for row in kept["per_class"] for name in _CLASS_SCORES]
    labels = [kept["split"], *(row["label"] for row in kept["per_class"])]
    finite = all(_is_number(value) and abs(value) < 2**63 for value in numbers)  # neither NaN nor infinite
    if not finite or not all(isinstance(label, str | int | float) for label in labels):
        raise ArtifactError(f"{_NO_TEST}; it has scores that are no finite numbers, or labels that are none.")
    return kept


def _class_scores(rows: Any) -> list[dict[str, float]] | None:
    """Return the scores of each class without its label, which ``labels.json`` has; earlier releases saved none."""
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and all(_is_number(row.get(name)) for name in _CLASS_SCORES) for row in rows
    ):
        raise ArtifactError(f"{METRICS} is not valid: per_class is not a list of rows of scores.")
    return [{name: row[name] for name in _CLASS_SCORES} for row in rows]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    # Parameters of components may be paths.
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=os.fspath) + "\n"
    content = text.encode("utf-8")
    if len(content) > MAX_JSON_BYTES:
        raise ArtifactError(f"{path.name} would have {len(content)} bytes, expected at most {MAX_JSON_BYTES}.")
    path.write_bytes(content)
