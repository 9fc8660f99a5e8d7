"""Random numbers of one training run, which do not depend on what else draws in the process.

Our own components draw from the generators of their run. What only knows torch's global generators (layers of torch,
encoders of users) borrows them for a forward pass, under one lock for the whole process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["OwnDraws", "drawing_from", "draws_globally", "generator_on", "seeded_generators"]

#: Held while torch's global generators have the state of a run.
_GLOBAL = threading.RLock()
#: The generators of the run that is in its forward pass in this thread.
_CURRENT: ContextVar[Sequence[torch.Generator]] = ContextVar("generators", default=())


def seeded_generators(seed: int, device: torch.device) -> list[torch.Generator]:
    """Return the generators of a training run: one for the CPU and, if it computes elsewhere, one for that device.

    Parameters
    ----------
    seed : int
    device : torch.device

    Examples
    --------
    >>> import torch
    >>> from skastw.core.generators import seeded_generators
    >>> [generator.device.type for generator in seeded_generators(0, torch.device("cpu"))]
    ['cpu']
    """
    devices = [torch.device("cpu")] if device.type == "cpu" else [torch.device("cpu"), device]
    return [torch.Generator(place).manual_seed(seed) for place in devices]


def generator_on(device: torch.device, generators: Sequence[torch.Generator] | None = None) -> torch.Generator | None:
    """Return the generator for tensors on ``device``, or None, which stands for torch's global one.

    Parameters
    ----------
    device : torch.device
    generators : sequence of Generators, optional
        To choose from; by default those of the current forward pass.
    """
    available = _CURRENT.get() if generators is None else generators
    return next((generator for generator in available if generator.device.type == device.type), None)


@contextmanager
def drawing_from(generators: Sequence[torch.Generator], *, borrow: bool) -> Iterator[None]:
    """Let a forward pass in this thread draw from ``generators``.

    Parameters
    ----------
    generators : sequence of Generators
        Of the run, one for each type of device.
    borrow : bool
        Also for what draws from torch's global generators: these get the states of ``generators`` meanwhile, and no
        other run draws from them.

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
    if borrow:  # all draws come from the global generators then: torch.utils.checkpoint repeats only these
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


def _global_state(device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.get_rng_state()
    return torch.get_device_module(device).get_rng_state(*_which(device))


def _set_global_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, *_which(device))


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """Return the argument that tells one device from others of its type; there is only one MPS device."""
    return () if device.type == "mps" else (device,)


class OwnDraws(TorchDispatchMode):
    """Let all operations of this thread draw from ``generators`` instead of torch's global ones.

    The global generators are not touched, so that other threads may draw meanwhile. Each operation passes through
    Python, which is too slow for training but not for building a network.

    Parameters
    ----------
    generators : sequence of Generators
        One for each type of device.

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
        """Run an operation, with a generator if it draws."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)

        # torch.rand and its like take a generator only under another name of the operation
        if not any(argument.name == "generator" for argument in func._schema.arguments):
            with _borrowed(self.generators):
                return func(*args, **kwargs)

        first = args[0] if args else None
        device = first.device if isinstance(first, Tensor) else torch.device(kwargs.get("device") or "cpu")
        return func(*args, **{**kwargs, "generator": generator_on(device, self.generators)})


def draws_globally(model: nn.Module) -> bool:
    """Say whether ``model`` may draw from torch's global generators in training.

    Our own layers do not. Torch's do if they have a dropout, and of others nothing is known.

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
