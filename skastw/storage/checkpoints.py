"""Checkpoints: weights that were trained elsewhere, in a folder, a file or a repository of the Hugging Face Hub.

Only safetensors and plain JSON are read, and nothing is executed. A file of ``torch.save`` is converted first; see
:mod:`skastw.storage.torch_files`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from msgspec import Meta
from torch import Tensor

from skastw.core.text import looked_in
from skastw.errors import ArtifactError, HubError, WeightsError
from skastw.storage import hub
from skastw.storage.files import parse_json, read_limited
from skastw.storage.known_checkpoints import license_and_citation, suggested_weights
from skastw.storage.schema import check
from skastw.storage.torch_files import SUFFIXES, converted_folder
from skastw.storage.weights import StoredWeights, TensorSpec, open_weights

#: The files of a checkpoint in a folder or repository. Processors store the settings of their front end in PROCESSOR.
CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
WEIGHTS, INDEX, CARD = "model.safetensors", "model.safetensors.index.json", "README.md"
#: File of ``torch.save`` that is converted if a folder or repository has no safetensors.
TORCH_WEIGHTS = "pytorch_model.bin"
#: Largest JSON file, and largest safetensors file, that is read (bytes).
_MAX_JSON_BYTES, _MAX_WEIGHT_BYTES = 4 * 2**20, 16 * 2**30
_FileName = Annotated[str, Meta(pattern=r"^\w[\w.-]*\.safetensors$", description="the name of a safetensors file")]
_TO_CONVERT = (
    "Files that torch.save wrote (.bin, .ckpt, .pt, .pth) are converted to safetensors if their path is given, "
    "weights='folder/weights.pt'. Many repositories also have a converted revision such as 'refs/pr/1'."
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint, of which the headers of the safetensors files are read and checked, but no values.

    Attributes
    ----------
    name : str
        Its name in errors: as the user wrote it.
    stored : tuple of StoredWeights
        The safetensors files; several if the weights are divided.
    documents : mapping of str to dict
        Content of the JSON files beside them, by file name.
    source : dict
        ``weights`` (name without folders), ``commit`` (of a repository), and ``sha256`` of the files; ``license``, if
        the model card names it or the checkpoint is well known, and ``citation``, if it is.
    """

    name: str
    stored: tuple[StoredWeights, ...]
    documents: Mapping[str, dict[str, Any]]
    source: dict[str, Any]

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """The types and shapes of the tensors by name."""
        return {name: spec for part in self.stored for name, spec in part.specs.items()}


def open_checkpoint(
    weights: str | os.PathLike[str], revision: str | None = None, *, sha256: str | None = None
) -> Checkpoint:
    """Return a checkpoint, which is downloaded if necessary. A damaged download is repaired.

    Parameters
    ----------
    weights : path or str
        A safetensors file, a file of ``torch.save``, a folder that contains ``model.safetensors``, its parts or
        ``pytorch_model.bin``, or a repository ``user/name`` of the Hub. Files of ``torch.save`` are converted.
    revision : str, optional
        Branch, tag or full commit hash of the repository.
    sha256 : str, optional
        Expected SHA-256 of the safetensors files, or of the file that is converted.

    Raises
    ------
    WeightsError
        If the checkpoint is missing, cannot be downloaded, is damaged, or is not the expected one.
    """
    name = os.fspath(weights)
    try:
        if Path(weights).is_file() and Path(weights).suffix.lower() in SUFFIXES:
            return _converted(name, Path(weights), sha256)
        if Path(weights).is_file():
            return _read(name, None, [Path(weights)], sha256)
        folder, names = _fetch(name, revision)
        try:
            return _read_folder(name, folder, sha256)
        except (ArtifactError, WeightsError) as error:
            if not hub.repair(folder, name, names, because=error):
                raise
        return _read_folder(name, folder, sha256)
    except (ArtifactError, HubError, OSError) as error:
        suggestion = "" if Path(weights).exists() else suggested_weights(name)
        raise WeightsError(f"The weights {name!r} cannot be read: {error}{suggestion}") from error


def read_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name.

    Raises
    ------
    WeightsError
        If a file is damaged, or holds NaN or infinite values.
    """
    try:
        return {name: tensor for part in checkpoint.stored for name, tensor in part.read().items()}
    except (ArtifactError, OSError) as error:
        raise WeightsError(f"The weights {checkpoint.name!r} cannot be read: {error}") from error


def _converted(name: str, path: Path, sha256: str | None) -> Checkpoint:
    """Return the checkpoint that a file of ``torch.save`` is converted to."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _check_digest(digest, sha256)
    folder = converted_folder(path, digest)
    checkpoint = _read(str(folder), folder, _parts(folder), None)
    source = {"weights": path.name, "sha256": digest, **license_and_citation(path.name, digest)}
    return replace(checkpoint, name=name, source=source)


def _check_digest(found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise ArtifactError(f"their SHA-256 is {found}, expected {expected}; they were changed.")


def _fetch(name: str, revision: str | None) -> tuple[Path, list[str]]:
    """Return the local folder of a checkpoint, downloaded if necessary, and the names of its files."""
    optional = [PREPROCESSOR, PROCESSOR, CARD, WEIGHTS]
    folder = hub.fetch(name, [CONFIG], optional=optional, revision=revision)
    names = [CONFIG, *(item for item in optional if (folder / item).is_file())]
    if folder != Path(name) and WEIGHTS not in names:
        hub.fetch(name, [CONFIG], optional=[INDEX], revision=folder.name)
        if (folder / INDEX).is_file():
            parts = [part.name for part in _parts(folder)]
            hub.fetch(name, [CONFIG, *parts], revision=folder.name)
            names += [INDEX, *parts]
        else:
            hub.fetch(name, [CONFIG], optional=[TORCH_WEIGHTS], revision=folder.name)
            names += [TORCH_WEIGHTS] * (folder / TORCH_WEIGHTS).is_file()
    return folder, names


def _read_folder(name: str, folder: Path, sha256: str | None) -> Checkpoint:
    """Return the checkpoint in a folder; a file of ``torch.save`` counts if there are no safetensors."""
    parts = _parts(folder)
    if parts[0].exists() or not (folder / TORCH_WEIGHTS).is_file():
        return _read(name, folder, parts, sha256)
    converted = _converted(name, folder / TORCH_WEIGHTS, sha256)
    source = _source(name, folder, converted.source["sha256"])
    return replace(converted, documents=_documents(folder), source=source)


def _parts(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint."""
    if (folder / WEIGHTS).exists() or not (folder / INDEX).exists():
        return [folder / WEIGHTS]
    index = check(_read_json(folder / INDEX), dict[str, Any], str(folder / INDEX), ArtifactError)
    places = check(
        index.get("weight_map"), dict[str, _FileName], str(folder / INDEX), ArtifactError, place="weight_map"
    )
    return [folder / part for part in sorted(set(places.values()))]


def _read(name: str, folder: Path | None, parts: list[Path], sha256: str | None) -> Checkpoint:
    """Return the checkpoint in safetensors files and the JSON files of a folder."""
    digest, stored = hashlib.sha256(), []
    for part in parts:
        if not part.is_file():
            raise ArtifactError(f"There is no file {str(part)!r}{looked_in(part)}. {_TO_CONVERT}")
        with open(part, "rb") as file:
            stored.append(_open(file, part))
            file.seek(0)
            while block := file.read(2**20):
                digest.update(block)

    if len({key for part in stored for key in part.specs}) < sum(len(part.specs) for part in stored):
        raise ArtifactError(f"The parts of {name!r} hold the same weights twice.")
    _check_digest(digest.hexdigest(), sha256)

    source = _source(name, folder, digest.hexdigest())
    return Checkpoint(name, tuple(stored), {} if folder is None else _documents(folder), source)


def _source(name: str, folder: Path | None, digest: str) -> dict[str, Any]:
    """Return where weights come from, as far as it is known."""
    path = Path(name)
    weights = path.name if path.exists() else name
    source = {
        "weights": weights,
        "commit": None if folder is None or folder == path else folder.name,
        "sha256": digest,
        "license": None if folder is None else _license(folder / CARD),
    }
    stated = {key: value for key, value in source.items() if value is not None}
    return license_and_citation(weights, digest) | stated


def _documents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the content of the JSON files of a checkpoint by name."""
    names = (CONFIG, PREPROCESSOR, PROCESSOR)
    return {name: _read_json(folder / name) for name in names if (folder / name).is_file()}


def _open(file: BinaryIO, path: Path) -> StoredWeights:
    try:
        return open_weights(file, path, max_bytes=_MAX_WEIGHT_BYTES)
    except ArtifactError:
        file.seek(0)
        if not file.read(4).startswith((b"PK\x03\x04", b"\x80")):
            raise
    raise ArtifactError(f"{str(path)!r} is a file of torch.save. {_TO_CONVERT}")


def _read_json(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return parse_json(read_limited(file, str(path), max_bytes=_MAX_JSON_BYTES), repr(str(path)))


def _license(card: Path) -> str | None:
    """Return the licence that the metadata of a model card names."""
    if not card.is_file():
        return None
    with open(card, "rb") as file:
        text = read_limited(file, str(card), max_bytes=_MAX_JSON_BYTES).decode("utf-8", errors="replace")
    metadata = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, flags=re.DOTALL)
    lines = metadata[1] if metadata else ""
    names = dict(re.findall(r"^(license|license_name):[ ]*['\"]?([\w. -]*\w)", lines, re.MULTILINE))
    license_, own = names.get("license"), names.get("license_name")
    return own if license_ in (None, "other") and own else license_
