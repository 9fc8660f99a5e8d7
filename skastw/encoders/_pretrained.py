"""Base of the encoders that may start from a checkpoint."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from sklearn.base import clone
from torch import Tensor

from skastw.core.parameters import Layers, param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.core.text import looked_in
from skastw.encoders._base import Encoder
from skastw.errors import WeightsError
from skastw.storage.checkpoints import Checkpoint, open_checkpoint, read_tensors


@parameters
class PretrainedEncoder(Encoder):
    """Base of the encoders that may start from a checkpoint, a set of weights that was trained elsewhere."""

    weights: str | os.PathLike[str] | None = param(
        default=None,
        valid=[str, os.PathLike, None],
        doc="Checkpoint to start from: a folder, a file, or a repository ``user/name`` of the Hugging Face Hub. None "
        "starts from random weights. A file that ``torch.save`` wrote (``.pt``, ``.pth``, ``.ckpt``, ``.bin``) is "
        "converted to safetensors once, in the user's cache or in the folder that ``SKASTW_CACHE`` names; it must "
        "contain nothing but tensors and plain values.",
    )
    revision: str | None = param(
        default=None,
        valid=[str, None],
        doc="Branch, tag or full commit hash of the repository. Only a commit hash always gives the same weights.",
    )
    train: str = param(
        default="none",
        valid=[Layers()],
        doc='Which of the weights of a checkpoint are trained: ``"none"``, ``"all"``, or the last layers, for example '
        '``"top-4"``. With ``"none"``, the outputs of the encoder are computed once for each clip. Random weights are '
        "always trained.",
    )
    layer_decay: float = param(
        default=0.75,
        valid=[reals(0, 1, closed="right")],
        doc="Factor between the learning rates of a layer and of the layer above it, if weights of a checkpoint are "
        "trained.",
    )
    source: dict[str, Any] | None = param(
        default=None,
        valid=[dict, None],
        doc="Repository, commit, SHA-256 and licence of ``weights``, which ``fit`` adds to the fitted model.",
    )

    @property
    def frozen(self) -> bool:
        """Whether the encoder has weights of a checkpoint, none of which are trained."""
        return self.weights is not None and self.train == "none"

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint, downloaded if necessary; raise WeightsError if it cannot be read."""
        assert self.weights is not None
        known = self.source or {}
        if known and "commit" not in known and not Path(self.weights).exists():  # it never was on the Hub
            raise WeightsError(f"The weights {os.fspath(self.weights)!r} do not exist{looked_in(Path(self.weights))}.")
        return open_checkpoint(self.weights, known.get("commit", self.revision), sha256=known.get("sha256"))

    def resolved(self, sample_rate: int, chunk_length: float) -> Self:
        """Return the encoder with the source of its weights; see :class:`~skastw.core.component.Component`."""
        if self.weights is None or self.source is not None:
            return self
        checkpoint = self.checkpoint()
        resolved = clone(self).set_params(**self.defined_by(checkpoint, sample_rate), source=checkpoint.source)
        resolved.check_params()
        return resolved

    def defined_by(self, checkpoint: Checkpoint, sample_rate: int) -> dict[str, Any]:
        """Return the parameters that a checkpoint defines, such as the sizes of the network; by default none.

        Raises
        ------
        ComponentError
            If the network was trained at another ``sample_rate``.
        WeightsError
            If the checkpoint belongs to another network.
        """
        return {}

    def sources(self) -> list[dict[str, str]]:
        """Return where the weights come from; see :class:`~skastw.core.component.Component`."""
        return [] if self.weights is None or self.source is None else [self.source]

    def initial_weights(self) -> Mapping[str, Tensor]:
        """Return the weights of the checkpoint by the names of the module; none if the weights are random."""
        return {} if self.weights is None else self.converted(read_tensors(self.checkpoint()))

    @abstractmethod
    def converted(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors of a checkpoint by the names that they have in the module of this encoder.

        Tensors that the module does not have, such as another head, are left out. Unknown names stay as they are, so
        that they are refused.
        """


@parameters
class RoundedEncoder(PretrainedEncoder):
    """Base of the encoders whose windows over time may stick out at the end of a clip."""

    rounding: str | None = param(
        default=None,
        valid=[StrOptions({"ceil", "floor"}), None],
        doc='How the number of windows is rounded. With ``"ceil"``, all frames are used. With ``"floor"``, frames at '
        "the end are left out if they do not fill a window, as in the published networks, but one window always "
        'remains. None is ``"floor"`` with ``weights``, and ``"ceil"`` without.',
    )

    @property
    def rounds_down(self) -> bool:
        """Whether frames at the end that do not fill a window are left out."""
        return (self.rounding or ("ceil" if self.weights is None else "floor")) == "floor"
