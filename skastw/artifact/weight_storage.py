"""How the weights of a model are stored in its folder: their number format, and whether frozen ones are included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skastw.core.text import unknown_value
from skastw.errors import ArtifactError, plain
from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.network.trained import Trained

#: Number formats in which weights can be stored; None keeps the format that they have.
DTYPES = {None: None, "float16": torch.float16}
#: Whether weights that were not trained are in the folder, or only the names of their repository, commit and SHA-256.
FROZEN = ("stored", "reference")
_PREFIX = "features."
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class WeightStorage:
    """How weights are stored.

    Attributes
    ----------
    dtype : {None, "float16"}
        Number format of the weights. Buffers, such as the statistics of norms, keep their format.
    frozen : {"stored", "reference"}
        With ``"reference"``, the weights of a frozen encoder are not stored, and loading fetches them from the
        repository from which they came.

    Raises
    ------
    ValueError
        If an attribute has another value.

    Examples
    --------
    >>> from skastw.artifact.weight_storage import WeightStorage
    >>> WeightStorage("float16").to_config()
    {'weights_dtype': 'float16'}
    """

    dtype: str | None = None
    frozen: str = "stored"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(unknown_value("weights_dtype", self.dtype, list(DTYPES)))
        if self.frozen not in FROZEN:
            raise ValueError(unknown_value("frozen", self.frozen, FROZEN))

    def to_config(self) -> dict[str, Any]:
        """Return the entries of ``config.json``: the attributes that are not the default."""
        entries = {"weights_dtype": self.dtype, "frozen": self.frozen}
        return {name: value for name, value in entries.items() if value not in (None, "stored")}

    def stored(self, trained: Trained) -> dict[str, Tensor]:
        """Return the tensors that are stored, by name.

        Raises
        ------
        ArtifactError
            If a weight is beyond the range of float16, or frozen weights do not come from a commit of a repository.
        """
        if self.frozen == "reference":
            _check_commits(trained.components)
        tensors = self._own(trained.model)
        if self.dtype is None:
            return tensors

        weights = _weights(trained.model)
        for name in weights & tensors.keys():
            if not bool((tensors[name].abs() <= torch.finfo(torch.float16).max).all()):
                raise ArtifactError(
                    f"The weights {name!r} hold values beyond the range of float16; save with weights_dtype=None."
                )
        return {name: value.half() if name in weights else value for name, value in tensors.items()}

    def expected(self, model: AudioModel) -> dict[str, Tensor]:
        """Return tensors with the names, shapes and formats that the file of ``model`` must have."""
        weights = _weights(model) if self.dtype else set()
        return {name: value.half() if name in weights else value for name, value in self._own(model).items()}

    def restored(self, model: AudioModel, stored: Mapping[str, Tensor], components: Components) -> dict[str, Tensor]:
        """Return all tensors of ``model``: stored ones in the format of the network, the others from their repository.

        Raises
        ------
        WeightsError
            If the repository cannot be read, or its weights have changed.
        """
        formats = {name: value.dtype for name, value in model.state_dict().items()}
        tensors = dict(stored)
        if self.frozen == "reference":
            _check_commits(components)
            tensors |= {_PREFIX + name: value for name, value in components.features.initial_weights().items()}
        return {name: value.to(formats.get(name, value.dtype)) for name, value in tensors.items()}

    def _own(self, model: AudioModel) -> dict[str, Tensor]:
        """Return the tensors of ``model`` that are stored, in their format."""
        tensors = model.state_dict()
        if self.frozen == "stored":
            return tensors
        return {name: value for name, value in tensors.items() if not name.startswith(_PREFIX)}


def _weights(model: AudioModel) -> set[str]:
    """Return the names of the tensors in ``state_dict`` that are weights; parameters may have other names there."""
    return set(model.state_dict()) - {name for name, _ in model.named_buffers()}


def storage_from_config(config: Mapping[str, Any]) -> WeightStorage:
    """Return the storage of a saved model from its ``config.json``.

    Raises
    ------
    ArtifactError
        If an entry is not valid.
    """
    try:
        return WeightStorage(config.get("weights_dtype"), config.get("frozen", "stored"))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"config.json is not valid: {error}") from None


def _check_commits(components: Components) -> None:
    """Raise ArtifactError unless the front end has weights, and all of them come from a commit of a repository."""
    sources = components.features.sources()
    pinned = [bool(_COMMIT.fullmatch(source.get("commit", ""))) and "sha256" in source for source in sources]
    missing = next((source for source, is_pinned in zip(sources, pinned, strict=True) if not is_pinned), None)
    if not sources or missing is not None:
        found = f"weights from {plain(missing['weights'])!r}" if missing else "a front end without pretrained weights"
        raise ArtifactError(
            f"Got frozen='reference' with {found}, expected frozen weights from a repository of the Hugging Face Hub; "
            "save with frozen='stored'."
        )
