"""The artifact: one folder of six files that holds a fitted model and nothing executable.

==========================  ===========================================================================
``model.safetensors``       the weights
``config.json``             ``format_version``, the components by name, the estimator's parameters
``preprocessor_config.json``  the front end in the words of ``transformers``' ``WhisperFeatureExtractor``
``labels.json``             the classes and their type
``metrics.json``            how training went
``README.md``               the model card
==========================  ===========================================================================
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from skastw.errors import ArtifactError

__all__ = [
    "FILES",
    "FORMAT_VERSION",
    "Artifact",
    "labels_from_json",
    "labels_to_json",
    "read_artifact",
    "write_artifact",
]

FORMAT_VERSION = 1
WEIGHTS, CONFIG, PREPROCESSOR, LABELS, METRICS, CARD = FILES = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "labels.json",
    "metrics.json",
    "README.md",
)


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


def write_artifact(folder: str | os.PathLike[str], artifact: Artifact) -> Path:
    """Write the six files to a temporary folder beside the target, then rename it into place.

    Parameters
    ----------
    folder : path
        The target. If it exists its six files are replaced and anything else in it is kept.
    artifact : Artifact

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ArtifactError
        If the folder cannot be written; what was there before stays.
    """
    from safetensors.torch import save_file

    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise ArtifactError(f"Cannot save to {str(target)!r}: it is a file, expected a folder or a new name.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder_beside(target) as temporary:
            weights = {name: tensor.detach().cpu().contiguous() for name, tensor in artifact.weights.items()}
            save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
            _write_json(temporary / CONFIG, artifact.config)
            _write_json(temporary / PREPROCESSOR, artifact.preprocessor)
            _write_json(temporary / LABELS, artifact.labels)
            _write_json(temporary / METRICS, artifact.metrics)
            (temporary / CARD).write_text(artifact.card, encoding="utf-8")
            _move_into_place(temporary, target)
    except OSError as error:
        raise ArtifactError(f"Cannot save to {str(target)!r}: {error}.") from error
    return target


def read_artifact(folder: str | os.PathLike[str]) -> Artifact:
    """Read the six files.

    Parameters
    ----------
    folder : path

    Returns
    -------
    Artifact

    Raises
    ------
    ArtifactError
        If a file is missing or damaged, or ``format_version`` is not known to this release.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    source = Path(folder)
    missing = [name for name in FILES if not (source / name).is_file()]
    if missing:
        raise ArtifactError(f"{str(source)!r} is not a complete model folder: {', '.join(missing)} missing.")
    config = _read_json(source / CONFIG)
    version = config.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{str(source / CONFIG)!r} has format_version {version!r}, expected {FORMAT_VERSION}; "
            "a newer model needs a newer skastw: pip install --upgrade skastw."
        )
    try:
        weights = load_file(source / WEIGHTS)
        card = (source / CARD).read_text(encoding="utf-8")
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{str(source)!r} cannot be read: {error}.") from error
    preprocessor, labels, metrics = (_read_json(source / name) for name in (PREPROCESSOR, LABELS, METRICS))
    return Artifact(weights, config, preprocessor, labels, metrics, card)


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
        dtype = np.dtype("O" if labels["dtype"] == "object" else labels["dtype"])
        values = labels["labels"]
        if dtype.kind not in "biufUO" or not isinstance(values, list):
            raise TypeError(f"dtype {dtype}")
        if not all(isinstance(value, str | int | float) for value in values):
            raise TypeError("values")
        return np.array(values, dtype=dtype)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"{LABELS} is not valid: {error!r}.") from error


@contextlib.contextmanager
def _temporary_folder_beside(target: Path) -> Iterator[Path]:
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, target: Path) -> None:
    temporary.chmod(0o755)  # temporary folders and safetensors' files are private to their owner
    for name in FILES:
        (temporary / name).chmod(0o644)
    if not target.exists():
        temporary.rename(target)
        return
    for name in FILES:
        os.replace(temporary / name, target / name)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    # Parameters of components may be paths.
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=os.fspath)
    path.write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{str(path)!r} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{str(path)!r} holds a {type(value).__name__}, expected a JSON object.")
    return value
