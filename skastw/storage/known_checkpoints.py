"""Well-known checkpoints: names for them, and the facts in ``known_checkpoints.yaml``."""

import difflib
import functools
import os
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Literal

from msgspec import Meta, Struct

from skastw.core.text import unknown_value
from skastw.errors import WeightsError
from skastw.storage.files import parse_yaml
from skastw.storage.schema import Text, check

_Hash = Annotated[str, Meta(pattern="^[0-9a-f]+$", description="a hash in hexadecimal digits")]
_Positive = Annotated[float, Meta(gt=0, description="a number above 0")]


class KnownCheckpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts about a checkpoint, each of them from one of the pages in ``source``.

    Attributes
    ----------
    title : str
    task : {"speech", "speaker", "emotion", "sounds", "images"}
        What the network was trained for.
    encoder, model_type : str
        Class that loads the weights, and kind of the network.
    parameters, bytes : int
        Number of values, and size of the file.
    sample_rate : int or None
        Sampling rate of the waveforms (Hz); None for images.
    chunk_length : float or None
        Longest clip of a network with a limit (s).
    license, citation : str
    repository, revision : str or None
        Repository on the Hugging Face Hub, and a commit of it.
    url : str or None
        Address of a file that is not on the Hub.
    file : str
    sha256 : str or None
        SHA-256 of the file.
    source : list of str
    features : str
        Front end, as Python code.
    imports : list of str
        Lines that ``features`` needs.
    """

    title: Text
    task: Literal["speech", "speaker", "emotion", "sounds", "images"]
    encoder: Text
    model_type: Text
    parameters: Annotated[int, Meta(ge=1)]
    license: Text
    citation: Text
    source: Annotated[list[Text], Meta(min_length=1)]
    sample_rate: Annotated[int, Meta(ge=1000)] | None = None
    repository: str | None = None
    revision: _Hash | None = None
    url: str | None = None
    file: str = "model.safetensors"
    bytes: int | None = None
    sha256: _Hash | None = None
    chunk_length: _Positive | None = None
    features: str = '"waveform"'
    imports: list[str] = []

    @property
    def is_folder(self) -> bool:
        """Whether ``weights`` takes the repository, and not one file of it."""
        return self.repository is not None and self.file in ("model.safetensors", "pytorch_model.bin")


@functools.cache
def known_checkpoints() -> Mapping[str, KnownCheckpoint]:
    """Return the well-known checkpoints by name.

    Examples
    --------
    >>> from skastw.storage.known_checkpoints import known_checkpoints
    >>> known_checkpoints()["wavlm-base-plus"].repository
    'microsoft/wavlm-base-plus'
    """
    text = resources.files(__package__).joinpath("known_checkpoints.yaml").read_text(encoding="utf-8")
    name = "known_checkpoints.yaml"
    values = parse_yaml(text, name, WeightsError, expected="a mapping of names to facts")
    return MappingProxyType(check(values, dict[str, KnownCheckpoint], name, WeightsError))


def known_checkpoint(name: str) -> KnownCheckpoint:
    """Return a well-known checkpoint.

    Parameters
    ----------
    name : str

    Raises
    ------
    WeightsError
        If there is none of that name. The message suggests a similar one.
    """
    known = known_checkpoints()
    if name not in known:
        raise WeightsError(unknown_value("name", name, known))
    return known[name]


def license_and_citation(weights: str, sha256: str) -> dict[str, str]:
    """Return ``license`` and ``citation`` of weights by their repository or their hash; nothing if they are not known.

    Parameters
    ----------
    weights : str
        Name of a repository on the Hub.
    sha256 : str
        SHA-256 of the file.

    Examples
    --------
    >>> from skastw.storage.known_checkpoints import license_and_citation
    >>> license_and_citation("microsoft/wavlm-large", "")["license"]
    'cc-by-sa-3.0'
    """
    for known in known_checkpoints().values():
        if known.repository == weights or known.sha256 == sha256:
            return {"license": known.license, "citation": known.citation}
    return {}


def suggested_weights(weights: str | os.PathLike[str]) -> str:
    """Return a sentence that says how to write the known checkpoint that was meant; nothing if none is similar.

    Parameters
    ----------
    weights : path or str
        Weights that cannot be found.

    Examples
    --------
    >>> from skastw.storage.known_checkpoints import suggested_weights
    >>> suggested_weights("wavlm_base_plus")
    " Did you mean weights='microsoft/wavlm-base-plus'? See skastw pretrained info wavlm-base-plus."
    """
    repositories = {known.repository: name for name, known in known_checkpoints().items() if known.repository}
    names = {name: name for name in known_checkpoints()} | repositories
    near = difflib.get_close_matches(os.fspath(weights), names, n=1, cutoff=0.8)
    if not near:
        return ""
    name = names[near[0]]
    known = known_checkpoints()[name]
    meant = f"weights={known.repository!r}" if known.is_folder else f"{known.file!r} of {known.url or known.repository}"
    return f" Did you mean {meant}? See skastw pretrained info {name}."
