"""Write the pages of the reference from every ``__all__``: a new public name needs no other edit.

Each group has a page with a table for each of its modules, and autosummary writes a page for each name from its
docstring. Public modules that no group contains are listed under "More".
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import click

import skastw
from skastw.cli import cli
from skastw.estimators.arguments import Replaced

#: Title of a page -> a sentence and the modules of the page. Modules that do not exist are skipped.
GROUPS: dict[str, tuple[str, list[str]]] = {
    "Estimators": (
        "They also have methods of scikit-learn's estimators, such as ``score`` and ``set_fit_request``.",
        ["skastw"],
    ),
    "Components": (
        "Objects of parameters, from which an estimator builds its parts. A name is shorthand for the "
        "object with its defaults: "
        '``encoder="astw"`` is ``encoder=ASTWEncoder()``.',
        ["skastw.features", "skastw.normalization", "skastw.encoders", "skastw.pooling", "skastw.augment"],
    ),
    "Data sets": ("", ["skastw.datasets"]),
    "Audio": ("", ["skastw.audio", "skastw.audio.clips"]),
    "Recipes": ("", ["skastw.recipes"]),
    "Evaluation": ("", ["skastw.evaluation", "skastw.runs", "skastw.analysis", "skastw.estimators.baselines"]),
    "Plots": ("", ["skastw.plots"]),
    "Demo": ("", ["skastw.serving"]),
    "Fitted models": ("", ["skastw.network", "skastw.targets"]),
    "Errors": ("", ["skastw.errors", "skastw.data.failures"]),
    "Building blocks": (
        "For authors of components: the data between the parts of a model, and the training loop.",
        [
            "skastw.core.component",
            "skastw.core.batching",
            "skastw.core.functional",
            "skastw.core.decibels",
            "skastw.network.model",
            "skastw.training",
        ],
    ),
}
#: Modules without pages: implementation details, and modules whose names ``skastw`` exports.
INSIDE = {"artifact", "cli", "core", "data", "estimators", "storage"}


def public_modules() -> list[str]:
    """Return skastw and its public modules and packages."""
    names = [info.name for info in pkgutil.iter_modules(skastw.__path__) if not info.name.startswith("_")]
    return ["skastw", *(f"skastw.{name}" for name in names if name not in INSIDE)]


def public_names(module: str) -> list[str]:
    """Return the names that a module exports, except the version."""
    return [name for name in importlib.import_module(module).__all__ if not name.startswith("_")]


def grouped() -> dict[str, tuple[str, dict[str, list[str]]]]:
    """Return title -> (sentence, module -> names) for every page; a name that two modules export occurs once."""
    public = public_modules()
    places = {name for _, modules in GROUPS.values() for name in modules}
    groups = GROUPS | {"More": ("", [module for module in public if module not in places])}
    pages: dict[str, tuple[str, dict[str, list[str]]]] = {}
    for title, (sentence, modules) in groups.items():
        names: dict[str, list[str]] = {}
        for module in modules:
            if module in public or module.count(".") > 1:
                named = {name for earlier in names.values() for name in earlier}
                names[module] = [name for name in public_names(module) if name not in named]
        if names:
            pages[title] = sentence, names
    return pages


def every_name() -> set[str]:
    """Return the dotted names that have a page."""
    tables = [modules for _, modules in grouped().values()]
    return {f"{module}.{name}" for modules in tables for module, names in modules.items() for name in names}


def write_pages(folder: Path) -> None:
    """Write ``index.rst``, a page for each group and a page for the commands, if they changed."""
    pages = {title.lower().replace(" ", "_"): group_page(title, *group) for title, group in grouped().items()}
    pages["commands"] = commands_page()
    toctree = "".join(f"   {name}\n" for name in pages)
    pages["index"] = f"{heading('Reference', '=')}.. toctree::\n   :maxdepth: 2\n\n{toctree}"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("**/*.rst"):
        if old.stem not in pages and old.stem not in every_name():
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def group_page(title: str, sentence: str, names: dict[str, list[str]]) -> str:
    """Return a page with the docstring of each module and a table of its names."""
    text = f"{heading(title, '=')}{sentence}\n\n"
    for module, exported in names.items():
        if len(names) > 1:
            text += heading(module.rpartition(".")[2].capitalize(), "-")
        text += f".. automodule:: {module}\n   :no-members:\n\n.. currentmodule:: {module}\n\n"
        if exported:
            rows = "".join(f"   {name}\n" for name in exported)
            text += f".. autosummary::\n   :toctree: names\n   :nosignatures:\n\n{rows}\n"
    return text


def commands_page() -> str:
    """Return a page with the output of ``skastw --help`` and the help of each command."""
    text = f"{heading('Command line', '=')}"
    with click.Context(cli, info_name="skastw") as context:
        text += literal(cli.get_help(context))
        for name, command in cli.commands.items():
            with click.Context(command, info_name=name, parent=context) as below:
                text += heading(f"skastw {name}", "-") + literal(command.get_help(below))
    return text


def heading(text: str, underline: str) -> str:
    """Return a heading in reStructuredText."""
    return f"{text}\n{underline * len(text)}\n\n"


def literal(text: str) -> str:
    """Return a block of literal text."""
    return ".. code-block:: text\n\n" + "".join(f"   {line}".rstrip() + "\n" for line in text.splitlines()) + "\n"


def methods() -> dict[str, list[str]]:
    """Return the public methods of each class with a page that skastw defines, for the template of classes."""
    result = {}
    for dotted in every_name():
        module, _, name = dotted.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        if inspect.isclass(value):
            members = inspect.getmembers(value, inspect.isroutine)
            result[dotted] = [key for key, method in members if key[0] != "_" and not is_left_out(method)]
    return result


def is_left_out(member: Any) -> bool:
    """Say whether a member of a class comes from scikit-learn, torch or Python, or only explains that it is missing."""
    foreign = not (getattr(member, "__module__", None) or "skastw").startswith("skastw")
    return foreign or isinstance(member, Replaced)


def skip_left_out(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Skip members that skastw inherits from scikit-learn or torch, or that only explain that they are missing."""
    return True if is_left_out(obj) else None


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("autodoc-skip-member", skip_left_out)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
