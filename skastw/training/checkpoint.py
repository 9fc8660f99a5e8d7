"""Checkpoints: files with the state of a training run, from which a run that was killed continues."""

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from skastw.core.parameters import param, parameters
from skastw.errors import OutputError, TrainingError
from skastw.storage.outputs import new_file


@parameters
class CheckpointParams:
    """Parameters of checkpoints."""

    checkpoint_dir: str | os.PathLike[str] | None = param(
        default=None,
        valid=[str, os.PathLike, None],
        doc="Folder in which ``fit`` saves its state after each epoch, in one file for each run. If ``fit`` was "
        "killed and is called again with the same clips and parameters, it continues after the last saved epoch and "
        "ends with the same weights, bit for bit. Requires an integer ``random_state``.",
        saved=False,
    )


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state to a file. If the process is killed before the end, the old file remains.

    Parameters
    ----------
    path : Path
        The file. Its folder is created if missing.
    state : dict
        Nested dicts of Tensors and of values that JSON can represent.

    Raises
    ------
    TrainingError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from skastw.training import load_state, save_state
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "run.safetensors"
    ...     before = load_state(path)
    ...     save_state(path, {"epoch": 3, "model": {"weight": torch.ones(2)}})
    ...     before, load_state(path)["epoch"]
    (None, 3)
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    values = _without_tensors(state, "", tensors)

    try:
        with new_file(path) as file:
            file.write(save(tensors, metadata={"values": json.dumps(values)}))
    except (OutputError, SafetensorError) as error:
        raise TrainingError(f"Cannot write the checkpoint {str(path)!r}: {str(error).removesuffix('.')}.") from error


def load_state(path: Path) -> dict[str, Any] | None:
    """Return the state that was last written to ``path``, or None if the file does not exist.

    Raises
    ------
    TrainingError
        If the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _with_tensors(json.loads(file.metadata()["values"]), tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"The checkpoint {str(path)!r} cannot be read ({error}); remove it to train from the beginning."
        ) from error


def _without_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return the state with each tensor replaced by its name, and add the tensors to ``tensors``."""
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().contiguous()
        return {"tensor": place}
    if isinstance(value, dict):
        return {key: _without_tensors(item, f"{place}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_tensors(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the state from which :func:`_without_tensors` took the tensors."""
    if isinstance(value, dict):
        named = value.keys() == {"tensor"}
        return tensors[value["tensor"]] if named else {key: _with_tensors(item, tensors) for key, item in value.items()}
    return [_with_tensors(item, tensors) for item in value] if isinstance(value, list) else value
