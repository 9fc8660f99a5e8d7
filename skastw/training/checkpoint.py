"""The state of a training run in a file, from which a run that was killed goes on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from skastw.errors import TrainingError
from skastw.storage.outputs import scratch_folder

__all__ = ["Checkpoint", "Snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """Everything that the epochs to come depend on.

    Attributes
    ----------
    tensors : dict of str to Tensor
    values : dict
        JSON values.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """One file, a safetensors file with the values in its metadata, which is replaced at once.

    Attributes
    ----------
    path : Path
        Its folder is made where missing.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from skastw.training import Checkpoint, Snapshot
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "run.safetensors")
    ...     first = checkpoint.load()
    ...     checkpoint.save(Snapshot({"weight": torch.ones(2)}, {"epoch": 3}))
    ...     first, checkpoint.load().values
    (None, {'epoch': 3})
    """

    path: Path

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot; a process that is killed meanwhile leaves the one before.

        Raises
        ------
        TrainingError
            If the file cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(self.path.parent) as scratch:
                new = scratch / "new"
                save_file(tensors, new, metadata={"values": json.dumps(snapshot.values)})
                with open(new, "rb+") as file:
                    os.fsync(file.fileno())
                new.replace(self.path)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"Cannot write the checkpoint {str(self.path)!r}: {error}.") from error

    def load(self) -> Snapshot | None:
        """Return the last snapshot, or None where there is none.

        Raises
        ------
        TrainingError
            If the file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return Snapshot(tensors, json.loads(file.metadata()["values"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"The checkpoint {str(self.path)!r} cannot be read ({error}); remove it to train from the beginning."
            ) from error
