"""Networks that have shapes but no memory, to compare a description of a network with weights before they are read."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from skastw.errors import ArtifactError


class ShapesOnly(TorchFunctionMode):
    """Context in which new tensors have a shape but no memory, and their number is limited.

    A config from an untrusted source can then not allocate memory for a network that does not match the weights.

    Parameters
    ----------
    most : int
        Largest number of tensors that may be created.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.shapes import ShapesOnly
    >>> with ShapesOnly(most=2):
    ...     torch.nn.Linear(2**40, 1).weight.shape
    torch.Size([1, 1099511627776])
    """

    _MAKE = (torch.empty, torch.zeros, torch.ones, torch.randn)

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch; a new tensor has no memory."""
        kwargs = kwargs or {}
        if function in self._MAKE:
            self.left -= 1
            if self.left < 0:
                raise ArtifactError("config.json describes a network with more weights than model.safetensors holds.")
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)
