"""Components: objects that hold the hyper-parameters of one part of a model and build it, and their registry.

A component holds only hyper-parameters. It derives from scikit-learn's ``BaseEstimator``, so ``get_params``,
``set_params``, ``clone``, ``repr`` and grids over ``encoder__d_model`` work on it. A class attribute ``name`` registers
the class: the name is then shorthand for an object with default parameters.
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar, Self, TypeVar

from sklearn.base import BaseEstimator
from torch import Tensor

from skastw.core.parameters import check_values
from skastw.core.sklearn_private import InvalidParameterError, boxes_in_a_row
from skastw.core.text import did_you_mean
from skastw.errors import ComponentError, plain

__all__ = ["Component"]

#: Every kind of component, in the order of a clip's path through the model, and the module that defines it.
KINDS = {
    "features": "skastw.features",
    "augment": "skastw.augment",
    "normalization": "skastw.normalization",
    "encoder": "skastw.encoders",
    "pooling": "skastw.pooling",
}
#: The parameters of an estimator that hold components, and the kind of each.
SLOTS = {**{kind: kind for kind in KINDS}, "side": "features"}
#: Largest number of levels of components that are parameters of a component.
MAX_DEPTH = 3
#: The base class of each kind, and the components of each kind by name.
_BASES: dict[str, type["Component"]] = {}
_REGISTRY: dict[str, dict[str, Any]] = {}

C = TypeVar("C", bound="Component")


class _Parameters(BaseEstimator):
    """Base of estimators that suggests the right name for a mistyped parameter.

    The parameter names of a class are cached, because each prediction checks the parameters.
    """

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        return super()._get_param_names()

    def set_params(self, **params: Any) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params : dict of str to value

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the estimator does not have a parameter of that name.
        """
        known = sorted(self.get_params(deep=False))
        for name in params:
            if name.partition("__")[0] not in known:
                meant = (
                    did_you_mean(name.replace(".", "__"), self.get_params()) or f", expected one of {', '.join(known)}."
                )
                raise ValueError(f"{type(self).__name__} has no parameter {plain(name)!r}{meant}")
        return super().set_params(**params)

    def _validate_params(self) -> None:
        check_values(self._parameter_constraints, self.get_params(deep=False), type(self).__name__)


class Component(_Parameters):
    """Base of every component.

    A kind of component is a direct subclass with a ``kind`` ("encoder", ...). A component is a subclass of its kind.
    It has a ``name`` ("astw", ...), a keyword-only ``__init__`` that only assigns, and ``_parameter_constraints``
    in scikit-learn's style.

    Examples
    --------
    >>> from skastw.encoders import ASTWEncoder
    >>> ASTWEncoder(d_model=192).get_params()["d_model"]
    192
    """

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            _BASES[cls.kind] = cls
        if "name" in cls.__dict__:
            _REGISTRY.setdefault(cls.kind, {})[cls.name] = cls

    def check_params(self) -> None:
        """Raise :class:`~skastw.errors.ComponentError` if a parameter has a wrong type or is out of range.

        The parameters of components among the parameters are checked too.

        Raises
        ------
        ComponentError
            If a parameter is not valid. The message names the parameter, its value and the valid values.
        """
        try:
            self._validate_params()
        except InvalidParameterError as error:
            raise ComponentError(str(error)) from None
        for inner in self.inner_components():
            inner.check_params()

    def inner_components(self) -> list["Component"]:
        """Return the components among the parameters, also in lists."""
        values = chain.from_iterable(
            value if isinstance(value, list | tuple) else [value] for value in self.get_params(deep=False).values()
        )
        return [value for value in values if isinstance(value, Component)]

    def saved_params(self) -> dict[str, Any]:
        """Return the parameters that a saved model keeps: JSON values and components; by default all parameters."""
        return self.get_params(deep=False)

    def resolved(self, sample_rate: int, chunk_length: float) -> Self:
        """Return the component as ``fit`` uses it; by default itself.

        A component with pretrained weights adds the settings that its checkpoint defines, so that a saved model can be
        built again without the checkpoint.

        Parameters
        ----------
        sample_rate : int
            Sampling rate of the model (Hz).
        chunk_length : float
            Longest part of a clip that the model processes at once (s).

        Raises
        ------
        ComponentError
            If the component needs another sample rate or a shorter chunk.
        """
        return self

    def sources(self) -> list[dict[str, str]]:
        """Return where the pretrained weights of the component and of those among its parameters come from.

        Returns
        -------
        list of dict of str to str
            One dict for each set of weights. Possible keys are ``weights`` (a repository, or the name of a file),
            ``commit``, ``sha256``, ``license`` and ``citation``.
        """
        return [source for inner in self.inner_components() for source in inner.sources()]

    def initial_weights(self) -> Mapping[str, Tensor]:
        """Return the weights, by name, that the built module starts from; by default none.

        They are read when ``fit`` starts. A saved model contains its weights, so loading it does not read them.

        Raises
        ------
        WeightsError
            If the weights cannot be read. A model that was loaded from a folder then starts from its own weights.
        """
        return {}


class ComponentParams(_Parameters):
    """Base of estimators whose parameters include components, each under the name of its kind.

    A component may be given by name. Its parameters can then be listed and set as if an object with default
    parameters had been given: a grid over ``encoder__d_model`` works in both cases.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Include the parameters of components, whether these are given by name or as objects.

        Returns
        -------
        dict of str to value
        """
        params = super().get_params(deep=deep)
        for slot in SLOTS.keys() & params.keys() if deep else ():
            value, kind = params[slot], SLOTS[slot]
            if isinstance(value, str) and value in component_names(kind):
                named = resolve_component(component_base(kind), value)
                params |= {f"{slot}__{key}": setting for key, setting in named.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``encoder__d_model`` works also if ``encoder`` is a name.

        Parameters
        ----------
        **params : dict of str to value

        Returns
        -------
        self
        """
        for slot in SLOTS.keys() & set(self._get_param_names()):
            value = params.get(slot, getattr(self, slot))
            if isinstance(value, str) and any(key.startswith(f"{slot}__") for key in params):
                params[slot] = resolve_component(component_base(SLOTS[slot]), value)
        return super().set_params(**params)

    def _sk_visual_block_(self) -> Any:
        """Return the HTML diagram of the estimator: one box for each component."""
        objects = []
        for slot, kind in SLOTS.items():
            value = getattr(self, slot, None)
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, component_base(kind)) or item in component_names(kind):
                    objects.append(resolve_component(component_base(kind), item))
        return boxes_in_a_row(objects)


def component_base(kind: str) -> type[Component]:
    """Return the base class of a kind of component.

    Examples
    --------
    >>> from skastw.core.component import component_base
    >>> component_base("encoder").__name__
    'Encoder'
    """
    importlib.import_module(KINDS[kind])
    return _BASES[kind]


def component_names(kind: str) -> list[str]:
    """Return the registered names of a kind of component, sorted.

    Examples
    --------
    >>> from skastw.core.component import component_names
    >>> component_names("pooling")
    ['attentive_stats', 'first', 'last', 'max', 'mean']
    """
    component_base(kind)
    return sorted(_REGISTRY[kind])


def resolve_component(base: type[C], value: object, *, parameter: str = "") -> C:
    """Return the component that ``value`` is or names.

    Parameters
    ----------
    base : type
        Base class of the kind: ``Encoder``, ``Pooling``, ...
    value : str or Component
        A registered name, or a component.
    parameter : str, optional
        Name of the parameter in errors; by default the kind.

    Returns
    -------
    Component
        ``value`` itself, or a new object with default parameters.

    Raises
    ------
    ComponentError
        If the name is not registered, or the object is of another kind.
    """
    if isinstance(value, base):
        return value
    known = component_names(base.kind)
    if isinstance(value, str) and value in known:
        return _REGISTRY[base.kind][value]()

    suggestion = did_you_mean(value, known) if isinstance(value, str) else ""
    raise ComponentError(
        f"Got {parameter or base.kind}={plain(value)!r}, expected one of {', '.join(map(repr, known))}, or an object "
        f"of type {base.__name__}{suggestion or '.'}"
    )


def component_to_config(component: Component) -> dict[str, Any]:
    """Return the JSON form of a component: its registered name and its parameters.

    A component among the parameters has the additional entry ``kind``.
    """
    return {"name": component.name, "params": {k: _to_json(value) for k, value in component.saved_params().items()}}


def _to_json(value: Any) -> Any:
    """Return the JSON form of a parameter, which may be or contain a component."""
    if isinstance(value, Component):
        return {"kind": value.kind, **component_to_config(value)}
    return [_to_json(item) for item in value] if isinstance(value, list | tuple) else plain(value)


def _from_json(value: Any, depth: int) -> Any:
    """Return the parameter of a JSON form, in which components may be nested up to ``depth`` times."""
    if isinstance(value, list):
        return [_from_json(item, depth) for item in value]
    if not isinstance(value, dict) or value.keys() != {"kind", "name", "params"}:
        return value
    if value["kind"] not in KINDS or not depth:
        expected = f"one of {', '.join(KINDS)}, and components nested at most {MAX_DEPTH} times"
        raise ComponentError(f"Got a component of kind {plain(value['kind'])!r:.100}, expected {expected}.")
    config = {key: value[key] for key in ("name", "params")}
    return component_from_config(component_base(value["kind"]), config, depth=depth - 1)


def component_from_config(base: type[C], config: object, *, depth: int = MAX_DEPTH) -> C:
    """Rebuild a component from its JSON form. Its name is looked up in the registry and never imported.

    Parameters
    ----------
    base : type
        Base class of the kind.
    config : object
        JSON value of :func:`component_to_config`.
    depth : int
        Largest number of levels of components among its parameters.

    Raises
    ------
    ComponentError
        If the form, the name of the component, or the name or value of a parameter is not valid.
    """
    if not isinstance(config, dict) or set(config) != {"name", "params"} or not isinstance(config["params"], dict):
        raise ComponentError(f"Got {base.kind} config {plain(config)!r}, expected {{'name': ..., 'params': {{...}}}}.")
    component = resolve_component(base, config["name"])

    known = component.get_params(deep=False)
    unknown = sorted(set(map(str, config["params"])) - set(known))
    if unknown:
        got = f"Got unknown parameters {unknown} for {base.kind} {component.name!r}"
        raise ComponentError(f"{got}, expected names among {sorted(known)}{did_you_mean(unknown[0], known) or '.'}")

    params = {name: _from_json(value, depth) for name, value in config["params"].items()}
    tuples = {name for name, value in params.items() if isinstance(known[name], tuple) and isinstance(value, list)}
    component.set_params(**{name: tuple(value) if name in tuples else value for name, value in params.items()})
    component.check_params()
    return component


def export_named(package: str, path: Iterable[str], base: Any, namespace: dict[str, Any]) -> list[str]:
    """Import all modules of a package, and export their subclasses of ``base`` that have a ``name``.

    Adding a component therefore takes one new file: the package exports it, and the registry knows its name.

    Parameters
    ----------
    package : str
        Name of the package.
    path : iterable of str
        ``__path__`` of the package.
    base : type
        Base class, which has a class attribute ``name``.
    namespace : dict
        ``globals()`` of the package, to which the classes are added.

    Returns
    -------
    list of str
        Names of the exported classes, sorted.
    """
    named: dict[str, type] = {}
    for module_info in pkgutil.iter_modules(path):
        module = importlib.import_module(f"{package}.{module_info.name}")
        own = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
        classes: Iterable[Any] = (value for value in own if isinstance(value, type) and issubclass(value, base))
        named |= {value.__name__: value for value in classes if value.name}
    namespace.update(named)
    return sorted(named)
