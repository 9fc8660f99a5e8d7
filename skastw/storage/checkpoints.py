"""Checkpoints: weights that were trained elsewhere, in a folder, a file or a repository of the Hugging Face Hub.

Only safetensors and plain JSON are read, and nothing is executed. A file of ``torch.save`` is converted first; see
:mod:`skastw.storage.torch_files`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from skastw.core.text import looked_in
from skastw.errors import ArtifactError, HubError, WeightsError
from skastw.storage import hub
from skastw.storage.files import parse_json, read_limited
from skastw.storage.torch_files import CONFIG, SUFFIXES, WEIGHTS, converted_folder
from skastw.storage.weights import open_weights

#: The JSON file beside ``config.json``, with the settings of the front end.
PREPROCESSOR = "preprocessor_config.json"
#: Largest JSON file that is read (bytes).
_MAX_JSON_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on the disk.

    Attributes
    ----------
    name : str
        Its name in errors: as the user wrote it.
    weights : Path
        The safetensors file.
    documents : mapping of str to dict
        Content of the JSON files beside it, by file name.
    source : dict
        ``weights`` (name without folders), ``commit`` (of a repository), and ``sha256`` of the file that the user
        named.
    converted : bool
        Whether that is another file, from which the safetensors file was written.
    """

    name: str
    weights: Path
    documents: Mapping[str, dict[str, Any]]
    source: dict[str, Any]
    converted: bool = False


def open_checkpoint(
    weights: str | os.PathLike[str], revision: str | None = None, *, sha256: str | None = None
) -> Checkpoint:
    """Return a checkpoint, which is downloaded if necessary.

    Parameters
    ----------
    weights : path or str
        A safetensors file, a file of ``torch.save``, a folder that contains ``model.safetensors``, or a repository
        ``user/name`` of the Hub.
    revision : str, optional
        Branch, tag or full commit hash of the repository.
    sha256 : str, optional
        Expected SHA-256 of the file.

    Raises
    ------
    WeightsError
        If the checkpoint is missing, cannot be downloaded, or is not the expected one.
    """
    name, path = os.fspath(weights), Path(weights)
    commit = None
    if path.is_file():
        file, folder = path, None
    else:
        try:
            folder = hub.fetch(name, [CONFIG, WEIGHTS], revision=revision)
        except (ArtifactError, HubError) as error:
            raise WeightsError(f"The weights {name!r} cannot be read: {error}") from error
        file = folder / WEIGHTS
        commit = None if path.is_dir() else folder.name

    if not file.is_file():
        raise WeightsError(f"There is no file {str(file)!r}{looked_in(file)}.")
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if sha256 is not None and digest != sha256:
        raise WeightsError(f"The weights {name!r} have the SHA-256 {digest}, expected {sha256}: they were changed.")
    source = {"weights": path.name if path.exists() else name, "commit": commit, "sha256": digest}
    source = {key: value for key, value in source.items() if value is not None}

    converted = file.suffix.lower() in SUFFIXES
    if converted:
        folder = converted_folder(file, digest)
        file = folder / WEIGHTS
    return Checkpoint(name, file, {} if folder is None else _documents(folder), source, converted)


def read_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name.

    Raises
    ------
    WeightsError
        If the file is damaged, or holds NaN or infinite values.
    """
    sha256 = None if checkpoint.converted else checkpoint.source["sha256"]
    try:
        with open(checkpoint.weights, "rb") as file:
            return open_weights(file, checkpoint.weights, sha256=sha256).read()
    except (ArtifactError, OSError) as error:
        raise WeightsError(f"The weights {checkpoint.name!r} cannot be read: {error}") from error


def tensor_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a checkpoint by name, without their values.

    Raises
    ------
    WeightsError
        If the file is damaged.
    """
    try:
        with open(checkpoint.weights, "rb") as file:
            specs = open_weights(file, checkpoint.weights).specs
    except (ArtifactError, OSError) as error:
        raise WeightsError(f"The weights {checkpoint.name!r} cannot be read: {error}") from error
    return {name: tuple(spec.shape) for name, spec in specs.items()}


def _documents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the content of the JSON files in a folder."""
    documents = {}
    for name in (CONFIG, PREPROCESSOR):
        if (folder / name).is_file():
            with open(folder / name, "rb") as file:
                content = read_limited(file, name, max_bytes=_MAX_JSON_BYTES)
            documents[name] = parse_json(content, repr(str(folder / name)))
    return documents
