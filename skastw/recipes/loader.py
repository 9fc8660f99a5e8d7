"""Reading recipes: YAML files that hold the parameters of an estimator, and nothing else."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from skastw.augment import Augment
from skastw.core.component import Component, component_from_config, resolve_component
from skastw.encoders import Encoder
from skastw.errors import RecipeError
from skastw.features import Features
from skastw.normalization import Normalization
from skastw.pooling import Pooling
from skastw.storage.yaml_file import parse_yaml, read_page

__all__ = ["Recipe", "load_recipe", "plain_params", "recipe_names", "recipe_text", "resolve_params"]

_KINDS: dict[str, type[Component]] = {
    "features": Features,
    "normalization": Normalization,
    "encoder": Encoder,
    "pooling": Pooling,
}


@dataclass(frozen=True)
class Recipe:
    """A named set of parameters.

    Attributes
    ----------
    name : str
    description : str
        What it is for, in a sentence.
    params : dict
        Parameters of an estimator; components are objects.
    """

    name: str
    description: str
    params: dict[str, Any]


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the library, sorted.

    Examples
    --------
    >>> from skastw.recipes import recipe_names
    >>> "small" in recipe_names()
    True
    """
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_recipe(recipe: str | os.PathLike[str]) -> Recipe:
    """Read a recipe.

    A recipe is a YAML mapping with a ``description`` and ``params``. A component is its name, or a mapping
    from its name to its parameters; ``augment`` is a list of these.

    Parameters
    ----------
    recipe : str or path
        A name from :func:`recipe_names`, or the path of a file of one's own.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        If there is no such recipe, or the file is not one.
    ComponentError
        If a component or one of its parameters is not known.

    Examples
    --------
    >>> from skastw.recipes import load_recipe
    >>> load_recipe("tiny").params["encoder"].name
    'resnet'
    """
    name = os.fspath(recipe)
    content = _parse(recipe_text(recipe), name)
    return Recipe(Path(name).stem, str(content.get("description", "")), resolve_params(content["params"], name))


def recipe_text(recipe: str | os.PathLike[str]) -> str:
    """Return a recipe as it is written, to start one's own from.

    Parameters
    ----------
    recipe : str or path
        As for :func:`load_recipe`.

    Returns
    -------
    str
        YAML.

    Raises
    ------
    RecipeError
        If there is no such recipe, or the file is not a page of text.

    Examples
    --------
    >>> from skastw.recipes import recipe_text
    >>> print(recipe_text("astw"), end="")
    description: The ASTW model and its training as announced; the defaults of the estimators.
    params: {}
    """
    name = os.fspath(recipe)
    if name in recipe_names():
        return resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return _read(Path(name))


def _read(path: Path) -> str:
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        known = ", ".join(map(repr, recipe_names()))
        raise RecipeError(f"Got recipe={str(path)!r}, expected one of {known}, or the path of a .yaml file.")
    return read_page(path, RecipeError)


def _parse(text: str, name: str) -> dict[str, Any]:
    content = parse_yaml(text, name, RecipeError, expected="a mapping with 'description' and 'params'")
    if (
        not isinstance(content, dict)
        or not set(content) <= {"description", "params"}
        or not isinstance(content.get("params"), dict)
        or not all(isinstance(param, str) for param in content["params"])
    ):
        raise RecipeError(
            f"{name!r} is not a recipe: expected a mapping with 'description' and 'params', a mapping too."
        )
    return content


def resolve_params(given: dict[str, Any], name: str) -> dict[str, Any]:
    """Return parameters with objects in place of the names and mappings that stand for components.

    Parameters
    ----------
    given : dict
        As under ``params`` in a recipe.
    name : str
        Where they are from, for errors.

    Returns
    -------
    dict

    Raises
    ------
    RecipeError, ComponentError
        If a component is not known or not valid.

    Examples
    --------
    >>> from skastw.recipes import resolve_params
    >>> resolve_params({"encoder": {"resnet": {"width": 8}}}, "mine")["encoder"].width
    8
    """
    params = dict(given)
    for kind, base in _KINDS.items():
        if kind in params:
            params[kind] = _component(base, params[kind], name)
    if params.get("augment") is not None:
        if not isinstance(params["augment"], list):
            raise RecipeError(f"{name!r} has augment: {params['augment']!r}, expected a list.")
        params["augment"] = [_component(Augment, item, name) for item in params["augment"]]
    return params


def _component(base: type[Component], given: Any, name: str) -> Component:
    """Return the component that a name, or a mapping from a name to parameters, stands for."""
    if isinstance(given, str):
        given = {given: None}
    if not isinstance(given, dict) or len(given) != 1:
        raise RecipeError(f"{name!r} has {base.kind}: {given!r}, expected a name, or one name with its parameters.")
    [(component, params)] = given.items()
    return component_from_config(base, {"name": component, "params": {} if params is None else params})


def plain_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as a recipe writes them, what :func:`resolve_params` undoes.

    Parameters
    ----------
    params : dict
        Of an estimator; a component is an object or its name.

    Returns
    -------
    dict
        Values of YAML: a component is a mapping from its name to all its parameters.

    Examples
    --------
    >>> from skastw.encoders import RNNEncoder
    >>> from skastw.recipes import plain_params
    >>> plain_params({"encoder": RNNEncoder(hidden=8), "epochs": 3})["encoder"]["rnn"]["hidden"]
    8
    """
    plain = dict(params)
    for kind, base in _KINDS.items():
        if kind in plain:
            plain[kind] = _as_mapping(resolve_component(base, plain[kind]))
    if plain.get("augment") is not None:
        given = plain["augment"] if isinstance(plain["augment"], list | tuple) else [plain["augment"]]
        plain["augment"] = [_as_mapping(resolve_component(Augment, item)) for item in given if item is not None]
    return json.loads(json.dumps(plain, default=_as_yaml))  # tuples become lists


def _as_yaml(value: Any) -> Any:
    """Return a path as text, and a number or array of numpy as one of Python."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else os.fspath(value)


def _as_mapping(component: Component) -> dict[str, Any]:
    return {component.name: component.get_params(deep=False)}
