"""The run file: a page of YAML that says on what a model is trained, how, and on what it is tested."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from skastw.errors import RunError
from skastw.storage.yaml_file import parse_yaml, read_page

__all__ = ["Run", "load_run", "parse_run", "plan_run"]

#: Where clips may come from, and the options of each.
_DATA = {
    "set": ("data_home",),
    "folder": ("groups",),
    "table": ("audio_column", "label_column", "group_column"),
}
#: Those of them that are paths.
_PATHS = ("folder", "table", "data_home")
#: How clips may be held out, and the options of each.
_SPLIT = {
    "test_fold": (),
    "test_groups": (),
    "test_size": ("random_state",),
    "folds": ("random_state",),
}


@dataclass(frozen=True)
class Run:
    """What to train and to test.

    Relative paths start from the current folder; those in a run file start from the folder of the file.

    Attributes
    ----------
    data : dict
        One of ``set`` (a name of :func:`skastw.datasets.fetch_dataset`, with ``data_home``), ``folder`` (with
        ``groups``, see :func:`skastw.datasets.load_audio_folder`) and ``table`` (with ``audio_column``,
        ``label_column`` and ``group_column``, see :func:`skastw.datasets.load_audio_table`).
    output : str
        Folder of the results.
    split : dict
        One of ``test_fold`` (a fold of the set's own), ``test_groups`` (a list of speakers or recordings),
        ``test_size`` (a share of the clips; of whole groups, where there are groups) and ``folds`` (a number, for a
        cross-validation by groups, or ``own`` for the set's own folds); the last two with ``random_state``.
    recipe : str
        A name of :func:`skastw.recipes.recipe_names`, or the path of a recipe.
    params : dict
        Parameters that replace the recipe's, as a recipe writes them; ``encoder__width`` reaches into a component.
    description : str
        For people: the title of the report and of the model card.
    """

    data: dict[str, Any]
    output: str
    split: dict[str, Any] = field(default_factory=lambda: {"test_size": 0.2})
    recipe: str = "astw"
    params: dict[str, Any] = field(default_factory=dict)
    description: str = ""

    def relative_to(self, folder: str | os.PathLike[str]) -> Run:
        """Return the run as a file in ``folder`` writes it; absolute paths stay what they are.

        Parameters
        ----------
        folder : path
        """
        return self._with_paths(lambda path: path if os.path.isabs(path) else _relative(path, folder))

    def below(self, folder: str | os.PathLike[str]) -> Run:
        """Return the run that a file in ``folder`` writes: the reverse of :meth:`relative_to`.

        Parameters
        ----------
        folder : path
        """
        return self._with_paths(lambda path: os.path.normpath(os.path.join(folder, path)))

    def _with_paths(self, changed: Callable[[str], str]) -> Run:
        data = {
            key: changed(os.path.expanduser(value)) if key in _PATHS and value else value
            for key, value in self.data.items()
        }
        recipe = changed(os.path.expanduser(self.recipe)) if self.recipe.endswith((".yaml", ".yml")) else self.recipe
        return replace(self, data=data, recipe=recipe, output=changed(os.path.expanduser(self.output)))


def _relative(path: str, folder: str | os.PathLike[str]) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return os.path.abspath(path)


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a run file.

    Parameters
    ----------
    path : path
        A .yaml file.

    Returns
    -------
    Run
        With its paths as they are from the current folder.

    Raises
    ------
    RunError
        If there is no such file, or it is no run file; what is unknown is named, with what is known.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.runs import load_run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "owls.yaml"
    ...     _ = path.write_text("{data: {folder: owls}, split: {folds: 5}, recipe: small, output: exports/owls}")
    ...     load_run(path).split
    {'folds': 5}
    """
    file = Path(path)
    if file.suffix not in (".yaml", ".yml") or not file.is_file():
        raise RunError(f"Got run file {str(file)!r}, expected the path of a .yaml file.")
    expected = "a mapping with 'data', 'split', 'recipe', 'params' and 'output'"
    content = parse_yaml(read_page(file, RunError), str(file), RunError, expected=expected)
    return parse_run(content, str(file)).below(file.parent)


def parse_run(content: Any, name: str) -> Run:
    """Return the run that plain values describe.

    Parameters
    ----------
    content : dict
        As in a run file.
    name : str
        Where it is from, for errors.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        Naming what is missing, unknown or out of range.

    Examples
    --------
    >>> from skastw.runs import parse_run
    >>> parse_run({"data": {"set": "spoken_digits"}, "output": "exports/digits"}, "mine").recipe
    'astw'
    """
    _check_mapping(content, "the run", ("data", "output", "split", "recipe", "params", "description"), name)
    for needed in ("data", "output"):
        if needed not in content:
            raise RunError(f"{name!r} has no {needed!r}, expected {needed!r} and any of 'split', 'recipe', 'params'.")
    for text in ("output", "recipe", "description"):
        if not isinstance(content.get(text, ""), str):
            raise RunError(f"{name!r} has {text}: {content[text]!r}, expected text.")
    if not content["output"]:
        raise RunError(f"{name!r} has an empty output, expected a folder.")
    run = Run(**content)
    _check_mapping(run.params, "params", None, name)
    _check_one_of(run.data, "data", _DATA, name)
    if not all(isinstance(value, str | type(None)) for value in run.data.values()):
        raise RunError(f"{name!r} has data: {run.data!r}, expected text for each option.")
    _check_one_of(run.split, "split", _SPLIT, name)
    _check_split(run.split, name)
    return run


def plan_run(
    run_file: str | os.PathLike[str] | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    params: Iterable[str] = (),
    output: str | None = None,
) -> Run:
    """Return a run from a file, from values in its place, or from both.

    Parameters
    ----------
    run_file : path, optional
        See :func:`load_run`; what is given beside it replaces what it says.
    data, split, recipe, output : optional
        See :class:`Run`.
    params : iterable of str, optional
        ``name=value``, with the value in YAML; they replace single parameters.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        As :func:`load_run` and :func:`parse_run`.

    Examples
    --------
    >>> from skastw.runs import plan_run
    >>> plan_run(data={"folder": "owls"}, params=["epochs=3", "encoder={resnet: {width: 8}}"], output="out").params
    {'epochs': 3, 'encoder': {'resnet': {'width': 8}}}
    """
    content: dict[str, Any] = {} if run_file is None else asdict(load_run(run_file))
    given = {"data": data, "split": split, "recipe": recipe, "output": output}
    content |= {name: value for name, value in given.items() if value is not None}
    content["params"] = {**content.get("params", {}), **dict(map(_assignment, params))}
    return parse_run(content, "the run")


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise RunError(f"Got the parameter {text!r}, expected NAME=VALUE, such as epochs=20.")
    return name, parse_yaml(value, text, RunError, expected="a value")


def _check_mapping(value: Any, what: str, known: tuple[str, ...] | None, name: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise RunError(f"{name!r} has {what}: {value!r:.100}, expected a mapping of names to values.")
    unknown = [] if known is None else sorted(set(value) - set(known))
    if known is not None and unknown:
        raise RunError(f"{name!r} has {unknown[:5]} in {what}, expected some of {sorted(known)}.")


def _check_one_of(value: Any, what: str, kinds: Mapping[str, tuple[str, ...]], name: str) -> None:
    """Raise unless a mapping names one kind, and otherwise only options of that kind."""
    _check_mapping(value, what, tuple(dict.fromkeys([*kinds, *sum(kinds.values(), ())])), name)
    found = [kind for kind in kinds if kind in value]
    if len(found) != 1:
        raise RunError(f"{name!r} has {found} in {what}, expected exactly one of {list(kinds)}.")
    _check_mapping(value, what, (found[0], *kinds[found[0]]), name)


def _check_split(split: Mapping[str, Any], name: str) -> None:
    valid = {
        "test_fold": (lambda v: isinstance(v, int | str), "the number or name of a fold"),
        "test_groups": (lambda v: isinstance(v, list) and bool(v), "a list of groups"),
        "test_size": (lambda v: isinstance(v, int | float) and 0 < v < 1, "a share between 0 and 1"),
        "folds": (lambda v: v == "own" or (isinstance(v, int) and v > 1), "a number of at least 2, or 'own'"),
        "random_state": (lambda v: isinstance(v, int) and v >= 0, "an integer of at least 0"),
    }
    for key, value in split.items():
        check, expected = valid[key]
        if isinstance(value, bool) or not check(value):
            raise RunError(f"{name!r} has {key}: {value!r:.100} in split, expected {expected}.")
