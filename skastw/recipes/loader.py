"""Read recipes: YAML files with the parameters of an estimator."""

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from skastw.augment import Augment
from skastw.core.component import SLOTS, Component, component_base, component_from_config, resolve_component
from skastw.core.text import did_you_mean, looked_in
from skastw.errors import RecipeError, plain
from skastw.storage.files import parse_yaml, read_page
from skastw.storage.schema import check

_KINDS = {slot: component_base(kind) for slot, kind in SLOTS.items() if slot != "augment"}
_Spec = Annotated[
    str | Annotated[dict[str, Any], Meta(min_length=1, max_length=1)],
    Meta(description="a name, or one name with its parameters"),
]
#: The parameters that stand for components; the other parameters are checked by the estimator.
_COMPONENTS = msgspec.defstruct(
    "_COMPONENTS",
    [
        *((kind, _Spec, "") for kind in _KINDS if kind != "side"),
        ("side", _Spec | None, None),
        ("augment", list[_Spec] | Literal["auto"] | None, None),
    ],
)


class _Page(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a recipe file."""

    params: dict[str, Any]
    description: str = ""


@dataclass(frozen=True)
class Recipe:
    """A named set of parameters.

    Attributes
    ----------
    name : str
    description : str
        The purpose, in a sentence.
    params : dict
        Parameters of an estimator; components are objects.
    """

    name: str
    description: str
    params: dict[str, Any]


def recipe_names() -> list[str]:
    """Return the sorted names of the recipes of the library.

    Examples
    --------
    >>> from skastw.recipes import recipe_names
    >>> "small" in recipe_names()
    True
    """
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_recipe(recipe: str | os.PathLike[str], *, weights: str | os.PathLike[str] | None = None) -> Recipe:
    """Read a recipe.

    A recipe is a YAML mapping with ``params`` and an optional ``description``. A component is written as its name, or
    as a mapping from its name to its parameters; ``augment`` is a list of components. Components among the parameters
    of a component are written in the same way.

    Parameters
    ----------
    recipe : str or path
        A name from :func:`recipe_names`, or the path of a ``.yaml`` file.
    weights : str or path, optional
        Checkpoint for the encoder, which recipes such as ``"frozen"`` and ``"finetune"`` need.

    Returns
    -------
    Recipe

    Raises
    ------
    RecipeError
        If the recipe does not exist, the file is not a recipe, or its encoder does not take ``weights``.
    ComponentError
        If a component or one of its parameters is unknown.

    Examples
    --------
    >>> from skastw.recipes import load_recipe
    >>> load_recipe("tiny").params["encoder"].name
    'resnet'
    """
    name = os.fspath(recipe)
    content = parse_yaml(recipe_text(recipe), name, RecipeError, expected="a mapping with 'description' and 'params'")
    page = check(content, _Page, name, RecipeError)
    params = resolve_params(page.params, name)
    if weights is not None:
        encoder = params.get("encoder")
        if encoder is None or "weights" not in encoder.get_params(deep=False):
            raise RecipeError(
                f"Got weights={plain(weights)!r} with recipe={name!r}, whose encoder has no weights of a checkpoint, "
                "expected a recipe such as 'frozen' or 'finetune'."
            )
        encoder.set_params(weights=os.fspath(weights))
    return Recipe(Path(name).stem, page.description, params)


def recipe_text(recipe: str | os.PathLike[str]) -> str:
    """Return the text of a recipe, for example as a start for a new one.

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
        If the recipe does not exist, or the file is too large or not text.

    Examples
    --------
    >>> from skastw.recipes import recipe_text
    >>> recipe_text("astw").splitlines()[0]
    'description: The ASTW model and its training as announced, with nothing added.'
    """
    name, names = os.fspath(recipe), recipe_names()
    if name in names:
        return resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")

    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        if path.suffix in (".yaml", ".yml") and not path.exists():
            raise RecipeError(f"The recipe file {str(path)!r} does not exist{looked_in(path)}.")
        meant = did_you_mean(name, names) or "."
        known = ", ".join(map(repr, names))
        raise RecipeError(f"Got recipe={str(path)!r}, expected one of {known}, or the path of a .yaml file{meant}")
    return read_page(path, RecipeError)


def resolve_params(params: dict[str, Any], name: str) -> dict[str, Any]:
    """Return parameters of an estimator with objects for the components.

    Parameters
    ----------
    params : dict
        As under ``params`` in a recipe.
    name : str
        Source of the parameters, for errors.

    Returns
    -------
    dict

    Raises
    ------
    RecipeError, ComponentError
        If a component is unknown or not valid.

    Examples
    --------
    >>> from skastw.recipes import resolve_params
    >>> resolve_params({"encoder": {"resnet": {"width": 8}}}, "mine")["encoder"].width
    8
    """
    check(params, _COMPONENTS, name, RecipeError)
    kinds = {kind: base for kind, base in _KINDS.items() if params.get(kind) is not None}
    resolved = params | {kind: _component(base, params[kind], name) for kind, base in kinds.items()}
    if isinstance(params.get("augment"), list):
        resolved["augment"] = [_component(Augment, spec, name) for spec in params["augment"]]
    return resolved


def _component(base: type[Component], spec: str | dict[str, Any], source: str) -> Component:
    """Return the component for a name, or for a mapping from a name to parameters."""
    [(name, params)] = spec.items() if isinstance(spec, dict) else [(spec, None)]
    if isinstance(params, dict):
        params = {key: _nested(key, value, source, f"{name}.{key}") for key, value in params.items()}
    return component_from_config(base, {"name": name, "params": {} if params is None else params})


def _nested(key: Any, value: Any, source: str, place: str) -> Any:
    """Return the value of a parameter of a component, which may be a component or a list of augmentations."""
    if key == "augmentations":
        return [
            _component(Augment, spec, source) for spec in check(value, list[_Spec], source, RecipeError, place=place)
        ]
    if key in _KINDS and isinstance(value, dict):
        return resolve_params({key: value}, source)[key]
    return value


def plain_params(params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters of an estimator as a recipe writes them: the inverse of :func:`resolve_params`.

    Parameters
    ----------
    params : dict
        Parameters; a component is an object or its name.

    Returns
    -------
    dict
        Values that YAML can write. A component is a mapping from its name to all its parameters.

    Examples
    --------
    >>> from skastw.encoders import RNNEncoder
    >>> from skastw.recipes import plain_params
    >>> plain_params({"encoder": RNNEncoder(hidden=8), "epochs": 3})["encoder"]["rnn"]["hidden"]
    8
    """
    kinds = {kind: base for kind, base in _KINDS.items() if params.get(kind) is not None}
    plain = params | {kind: _as_mapping(resolve_component(base, params[kind])) for kind, base in kinds.items()}

    augment = params.get("augment")
    if augment is not None and augment != "auto":
        items = augment if isinstance(augment, list | tuple) else [augment]
        plain["augment"] = [_as_mapping(resolve_component(Augment, item)) for item in items if item is not None]
    return json.loads(json.dumps(plain, default=_as_yaml))  # tuples become lists


def _as_yaml(value: Any) -> Any:
    """Return a path as text, and a NumPy number or array as a Python object."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else os.fspath(value)


def _as_mapping(value: Any) -> Any:
    """Return a component, or a parameter that may contain components, as a recipe writes it."""
    if isinstance(value, Component):
        return {value.name: {key: _as_mapping(item) for key, item in value.saved_params().items()}}
    return [_as_mapping(item) for item in value] if isinstance(value, list | tuple) else value
