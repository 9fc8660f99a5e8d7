"""Random generators of a training run, which other code of the process does not influence.

The components of this package draw from the generators of their run. Other modules (layers of torch, encoders of users)
can only draw from torch's global generators. For their forward passes the global generators get the state of the run,
under a lock that all threads share. For libraries that draw from the global generators of Python and NumPy, these get a
seed of the run in the same way.
"""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

#: Held while global generators have a state of a training run.
_GLOBAL = threading.RLock()
#: Generators for the current forward pass of this thread.
_CURRENT: ContextVar[Sequence[torch.Generator]] = ContextVar("generators", default=())


def seeded_generators(seed: int, device: torch.device) -> list[torch.Generator]:
    """Return the generators of a training run: one for the CPU and, for another device, one for that device.

    Parameters
    ----------
    seed : int
    device : torch.device
        Device that the network is trained on.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.generators import seeded_generators
    >>> [generator.device.type for generator in seeded_generators(0, torch.device("cpu"))]
    ['cpu']
    """
    devices = [torch.device("cpu")] if device.type == "cpu" else [torch.device("cpu"), device]
    return [torch.Generator(name).manual_seed(seed) for name in devices]


def generator_on(device: torch.device, generators: Sequence[torch.Generator] | None = None) -> torch.Generator | None:
    """Return the generator for tensors on ``device``, or None for torch's global generator.

    Parameters
    ----------
    device : torch.device
    generators : sequence of Generators, optional
        Generators to choose from; by default the generators of the current forward pass.
    """
    available = _CURRENT.get() if generators is None else generators
    return next((generator for generator in available if generator.device.type == device.type), None)


@contextmanager
def drawing_from(generators: Sequence[torch.Generator], *, borrow: bool) -> Iterator[None]:
    """Use ``generators`` for the random numbers of a forward pass in this thread.

    Parameters
    ----------
    generators : sequence of Generators
        Generators of the training run, one for each type of device.
    borrow : bool
        Whether the network also draws from torch's global generators. They then have the states of ``generators`` until
        the block ends, and other training runs wait for them.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.generators import drawing_from, seeded_generators
    >>> run = seeded_generators(0, torch.device("cpu"))
    >>> with drawing_from(run, borrow=True):
    ...     first = torch.rand(3)
    >>> torch.equal(first, torch.rand(3, generator=torch.Generator().manual_seed(0)))
    True
    """
    if borrow:  # all draws then come from the global generators, the only ones that torch.utils.checkpoint restores
        with _borrowed(generators):
            yield
        return

    token = _CURRENT.set(generators)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def _borrowed(generators: Sequence[torch.Generator]) -> Iterator[None]:
    with _GLOBAL:
        before = [_global_state(generator.device) for generator in generators]
        for generator in generators:
            _set_global_state(generator.device, generator.get_state())

        try:
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(_global_state(generator.device))
                _set_global_state(generator.device, state)


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and NumPy in a block, and restore their states after it.

    Other training runs wait until the block ends.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1.

    Examples
    --------
    >>> import random
    >>> from skastw.core.generators import seeded_globally
    >>> with seeded_globally(3):
    ...     first = random.random()
    >>> first == random.Random(3).random()
    True
    """
    with _GLOBAL:
        of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002

        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002


def _global_state(device: torch.device) -> Tensor:
    return _module(device).get_rng_state(*_which(device))


def _set_global_state(device: torch.device, state: Tensor) -> None:
    _module(device).set_rng_state(state, *_which(device))


def _module(device: torch.device) -> Any:
    """Return the module with the functions for the global generator of a device."""
    return torch if device.type == "cpu" else torch.get_device_module(device)


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """Return the device as an argument of these functions, which take none for the CPU and for MPS."""
    return () if device.type in ("cpu", "mps") else (device,)


class OwnDraws(TorchDispatchMode):
    """Make all operations of this thread draw from ``generators`` instead of torch's global ones.

    The global generators keep their states, so other threads may draw from them meanwhile. Each operation is dispatched
    in Python. This is too slow for training, but fast enough to initialise the weights of a network.

    Parameters
    ----------
    generators : sequence of Generators
        Generators of the training run, one for each type of device.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.generators import OwnDraws, seeded_generators
    >>> with OwnDraws(seeded_generators(0, torch.device("cpu"))):
    ...     first = torch.nn.Linear(2, 3).weight
    >>> with OwnDraws(seeded_generators(0, torch.device("cpu"))):
    ...     torch.equal(first, torch.nn.Linear(2, 3).weight)
    True
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.generators = generators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, with a generator if it is random."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)

        # only another overload of torch.rand and similar operations takes a generator
        if not any(argument.name == "generator" for argument in func._schema.arguments):
            with _borrowed(self.generators):
                return func(*args, **kwargs)

        first = args[0] if args else None
        device = first.device if isinstance(first, Tensor) else torch.device(kwargs.get("device") or "cpu")
        return func(*args, **{**kwargs, "generator": generator_on(device, self.generators)})


def draws_globally(model: nn.Module) -> bool:
    """Return whether ``model`` may draw from torch's global generators in training.

    Layers of this package do not, and layers of torch do if they have dropout. Any other layer may do so.

    Parameters
    ----------
    model : nn.Module

    Examples
    --------
    >>> from torch import nn
    >>> from skastw.core.generators import draws_globally
    >>> draws_globally(nn.GRU(2, 3, num_layers=2)), draws_globally(nn.GRU(2, 3, num_layers=2, dropout=0.5))
    (False, True)
    """
    return any(_draws_globally(module) for module in model.modules())


def _draws_globally(module: nn.Module) -> bool:
    package = type(module).__module__.partition(".")[0]
    if package == "skastw":
        return False
    if package != "torch" or isinstance(module, torch.jit.ScriptModule):
        return True
    drawing = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
    return isinstance(module, drawing) or bool(getattr(module, "p", 0) or getattr(module, "dropout", 0))
