"""Components: small parameter objects that build the parts of a model, and the registry of their names.

A component holds hyper-parameters and nothing else. It derives from scikit-learn's ``BaseEstimator``, so
``get_params``, ``set_params``, ``clone``, ``repr`` and grids over ``encoder__d_model`` work on it. Giving a
class a ``name`` registers it: the name then stands for the object with its defaults.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sklearn.base import BaseEstimator

from skastw.core.sklearn_private import InvalidParameterError, boxes_in_a_row, validate_parameter_constraints
from skastw.errors import ComponentError, plain

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "Component",
    "ComponentParams",
    "component_from_config",
    "component_names",
    "component_to_config",
    "export_components",
    "resolve_component",
]

_REGISTRY: dict[str, dict[str, type[Component]]] = {}

C = TypeVar("C", bound="Component")


class _Parameters(BaseEstimator):
    """An estimator that tells mistyped parameters, and whose class is asked once which there are.

    Each prediction checks them.
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
            If there is no such parameter.
        """
        _check_names(self, params)
        return super().set_params(**params)


class Component(_Parameters):
    """Base of every component.

    A kind of component is a direct subclass with a ``kind`` ("encoder", ...); a component is a subclass of
    that with a ``name`` ("astw", ...), a keyword-only ``__init__`` that assigns and nothing else, and
    ``_parameter_constraints`` in scikit-learn's style.

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
        if "name" in cls.__dict__:
            _REGISTRY.setdefault(cls.kind, {})[cls.name] = cls

    def check_params(self) -> None:
        """Raise :class:`~skastw.errors.ComponentError` unless every parameter has a valid type and range.

        Raises
        ------
        ComponentError
            Naming the parameter, its value and what was expected.
        """
        try:
            validate_parameter_constraints(
                self._parameter_constraints, self.get_params(deep=False), caller_name=type(self).__name__
            )
        except InvalidParameterError as error:
            raise ComponentError(str(error)) from None


class ComponentParams(_Parameters):
    """Base of estimators that have components among their parameters.

    A component may be given by name. Its parameters are then listed and set as if its object with default
    parameters had been given, so that grids over ``encoder__d_model`` need no ceremony.
    """

    _components: ClassVar[dict[str, type[Component]]] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with ``deep=True`` also those of components, named or not.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict of str to value
        """
        params = super().get_params(deep=deep)
        if deep:
            for param, base in self._components.items():
                named = _REGISTRY.get(base.kind, {}).get(params[param]) if isinstance(params[param], str) else None
                if named is not None:
                    params |= {f"{param}__{key}": value for key, value in named().get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, ``encoder__d_model`` also where ``encoder`` is a name.

        Parameters
        ----------
        **params : dict of str to value

        Returns
        -------
        self
        """
        for param, base in self._components.items():
            value = params.get(param, getattr(self, param))
            if isinstance(value, str) and any(key.startswith(f"{param}__") for key in params):
                params[param] = resolve_component(base, value)
        return super().set_params(**params)

    def _sk_visual_block_(self) -> Any:
        """Show the components as boxes in an HTML diagram, named or not."""
        objects = []
        for param, base in self._components.items():
            value = getattr(self, param)
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, base) or (isinstance(item, str) and item in _REGISTRY[base.kind]):
                    objects.append(resolve_component(base, item))
        return boxes_in_a_row(objects)


def _check_names(owner: BaseEstimator, names: Iterable[str]) -> None:
    """Raise where ``owner`` has no parameter of such a name, with the one that was probably meant."""
    known = sorted(owner.get_params(deep=False))
    for name in names:
        if name.partition("__")[0] in known:
            continue
        near = difflib.get_close_matches(name.replace("-", "_").replace(".", "__"), owner.get_params(), n=1)
        expected = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}."
        raise ValueError(f"{type(owner).__name__} has no parameter {name!r}; {expected}")


def component_names(kind: str) -> list[str]:
    """Return the registered names of a kind of component, sorted.

    Examples
    --------
    >>> import skastw.pooling
    >>> from skastw.core.component import component_names
    >>> component_names("pooling")
    ['attentive_stats', 'max', 'mean']
    """
    return sorted(_REGISTRY.get(kind, {}))


def resolve_component(base: type[C], value: object) -> C:
    """Return ``value`` if it is a component of the kind ``base``, or the one that it names.

    Parameters
    ----------
    base : type
        The kind: ``Encoder``, ``Pooling``, ...
    value : str or Component
        A registered name, or the object itself.

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
    if isinstance(value, str) and value in _REGISTRY.get(base.kind, {}):
        found = _REGISTRY[base.kind][value]
        assert issubclass(found, base)
        return found()
    known = ", ".join(repr(name) for name in component_names(base.kind))
    raise ComponentError(f"Got {base.kind}={value!r}, expected one of {known}, or a {base.__name__} object.")


def component_to_config(component: Component) -> dict[str, Any]:
    """Return the JSON form of a component: its registered name and its parameters."""
    params = component.get_params(deep=False)
    return {"name": component.name, "params": {name: plain(value) for name, value in params.items()}}


def component_from_config(base: type[C], config: object) -> C:
    """Rebuild a component from its JSON form; names are looked up in the registry, never imported.

    Raises
    ------
    ComponentError
        If the form, the name, a parameter's name or a parameter's value is not valid.
    """
    if not isinstance(config, dict) or set(config) != {"name", "params"} or not isinstance(config["params"], dict):
        raise ComponentError(f"Got {base.kind} config {config!r}, expected {{'name': ..., 'params': {{...}}}}.")
    component = resolve_component(base, config["name"])
    known = component.get_params(deep=False)
    unknown = sorted(set(map(str, config["params"])) - set(known))
    if unknown:
        got = f"Got unknown parameters {unknown} for {base.kind} {component.name!r}"
        raise ComponentError(f"{got}, expected some of {sorted(known)}.")
    component.set_params(**config["params"])
    component.check_params()
    return component


def export_components(package: str, path: Iterable[str], base: type[Component], namespace: dict[str, Any]) -> list[str]:
    """Import every module of a package and put the components found there in its namespace.

    A new component is then one new file: its package exports it, and the registry knows its name.

    Parameters
    ----------
    package : str
        Name of the package.
    path : iterable of str
        Its ``__path__``.
    base : type
        The kind of component that lives there.
    namespace : dict
        The package's ``globals()``.

    Returns
    -------
    list of str
        Names of the exported classes, sorted.
    """
    found = {}
    for module_info in pkgutil.iter_modules(path):
        module = importlib.import_module(f"{package}.{module_info.name}")
        for name, value in vars(module).items():
            if (
                isinstance(value, type)
                and issubclass(value, base)
                and value.__module__ == module.__name__
                and value.name
            ):
                found[name] = value
    namespace.update(found)
    return sorted(found)
