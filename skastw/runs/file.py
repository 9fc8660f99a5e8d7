"""Run files: YAML files that describe the clips, the split, the training parameters and the output of a run."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import msgspec
from msgspec import Meta

from skastw.core.text import did_you_mean, looked_in
from skastw.errors import RunError
from skastw.storage.files import parse_yaml, read_page
from skastw.storage.schema import Count, Text, check

#: The keys of ``data`` that are paths.
_PATHS = ("folder", "table", "data_home")


def _record(required: Mapping[str, Any], **optional: Any) -> type[msgspec.Struct]:
    """Return the type of a mapping with the names and types of its values; other names are refused."""
    fields: list[Any] = [*required.items(), *((name, kind, None) for name, kind in optional.items())]
    return msgspec.defstruct("_".join(required), fields, forbid_unknown_fields=True)


_Option = str | None
_Share = Annotated[float, Meta(gt=0, lt=1, description="a share between 0 and 1")]
_FoldName = Annotated[int | str, Meta(description="the number or name of a fold")]
_Groups = Annotated[list[Any], Meta(min_length=1, description="a list of groups")]
_Folds = Annotated[Annotated[int, Meta(ge=2)] | Literal["own"], Meta(description="a number of at least 2, or 'own'")]

_RUN = _record(
    {"data": dict[str, Any], "output": Text},
    split=dict[str, Any],
    recipe=Text,
    params=dict[str, Any],
    description=str,
)
#: The kinds of ``data``, each with its options.
_DATA = {
    "set": _record({"set": Text}, data_home=_Option),
    "folder": _record({"folder": Text}, groups=_Option),
    "table": _record({"table": Text}, audio_column=_Option, label_column=_Option, group_column=_Option),
}
#: The kinds of ``split``, each with its options.
_SPLIT = {
    "test_fold": _record({"test_fold": _FoldName}),
    "test_groups": _record({"test_groups": _Groups}),
    "test_size": _record({"test_size": _Share}, random_state=Count),
    "folds": _record({"folds": _Folds}, random_state=Count),
}


@dataclass(frozen=True)
class Run:
    """The description of a run: which clips to train and test on, and how.

    Relative paths start from the current folder; in a run file, they start from the folder of the file.

    Attributes
    ----------
    data : dict
        The clips. One of ``set`` (a name for :func:`skastw.datasets.fetch_dataset`, with ``data_home``), ``folder``
        (with ``groups``, see :func:`skastw.datasets.load_audio_folder`) and ``table`` (with ``audio_column``,
        ``label_column`` and ``group_column``, see :func:`skastw.datasets.load_audio_table`).
    output : str
        Folder of the results.
    split : dict
        The clips to hold out. One of ``test_fold`` (the name of an official fold of the data set), ``test_groups`` (a
        list of speakers or recordings), ``test_size`` (a share of the clips, or of the groups if the clips have
        groups) and ``folds`` (the number of folds of a cross-validation, or ``own`` for the official folds).
        ``test_size`` and ``folds`` take a ``random_state``.
    recipe : str
        A name from :func:`skastw.recipes.recipe_names`, the path of a recipe file, or ``"auto"``, which selects one
        with :class:`skastw.ASTWAutoClassifier`; ``params`` are then its parameters.
    params : dict
        Parameters that replace the recipe's, in the same form as in a recipe; ``encoder__width`` sets a parameter of
        a component.
    description : str
        Title of the report and of the model card.
    source : str
        The file that the run was read from, for errors; not a part of the description.
    """

    data: dict[str, Any]
    output: str
    split: dict[str, Any] = field(default_factory=lambda: {"test_size": 0.2})
    recipe: str = "astw"
    params: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    source: str = field(default="", compare=False, repr=False)

    def relative_to(self, folder: str | os.PathLike[str]) -> Self:
        """Return the run with relative paths that start from ``folder``; absolute paths are not changed.

        Parameters
        ----------
        folder : path
        """
        return self._with_paths(lambda path: path if os.path.isabs(path) else _relative(path, folder))

    def below(self, folder: str | os.PathLike[str]) -> Self:
        """Return the run with relative paths that start from the current folder: the inverse of :meth:`relative_to`.

        Parameters
        ----------
        folder : path
            Folder that the relative paths of this run start from.
        """
        return self._with_paths(lambda path: os.path.normpath(os.path.join(folder, path)))

    def _with_paths(self, change: Callable[[str], str]) -> Self:
        def changed(path: str) -> str:
            return change(os.path.expanduser(path))

        data = {key: changed(value) if key in _PATHS and value else value for key, value in self.data.items()}
        recipe = changed(self.recipe) if self.recipe.endswith((".yaml", ".yml")) else self.recipe
        return replace(self, data=data, recipe=recipe, output=changed(self.output))


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
        With paths that start from the current folder.

    Raises
    ------
    RunError
        If the file does not exist or is not a run file. The message names the wrong part and the expected values.

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
    if not file.exists():
        raise RunError(f"The run file {str(file)!r} does not exist{looked_in(file)}.")
    if file.suffix not in (".yaml", ".yml") or not file.is_file():
        raise RunError(f"Got run file {str(file)!r}, expected the path of a .yaml file.")
    expected = "a mapping with 'data', 'split', 'recipe', 'params' and 'output'"
    content = parse_yaml(read_page(file, RunError), str(file), RunError, expected=expected)
    return replace(parse_run(content, str(file)).below(file.parent), source=repr(str(file)))


def parse_run(content: Any, name: str) -> Run:
    """Return a run from the content of a run file.

    Parameters
    ----------
    content : dict
        Plain values, as in a run file.
    name : str
        Source of the content, for errors, such as the path of a file.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If a value is missing, unknown or out of range. The message names it.

    Examples
    --------
    >>> from skastw.runs import parse_run
    >>> parse_run({"data": {"set": "spoken_digits"}, "output": "exports/digits"}, "mine").recipe
    'astw'
    """
    check(content, _RUN, name, RunError)
    run = Run(**content)

    _check_one_of(run.data, _DATA, "data", name)
    _check_one_of(run.split, _SPLIT, "split", name)
    return run


def _check_one_of(options: Mapping[str, Any], kinds: Mapping[str, Any], place: str, name: str) -> None:
    """Raise unless a mapping names one kind, and apart from it only options of that kind, with valid values."""
    named = [kind for kind in kinds if kind in options]
    if len(named) != 1:
        others = sorted(options)[:5]
        suggestion = did_you_mean(others[0], kinds) if others and not named else ""
        expected = f"expected exactly one of {list(kinds)}{suggestion or '.'}"
        raise RunError(f"{name!r} has {named or others} in {place}, {expected}")

    check(options, kinds[named[0]], name, RunError, place=place)


def check_options(place: str, options: Mapping[str, Any], words: Mapping[str, str]) -> None:
    """Raise unless typed options make a valid ``data`` or ``split``; the error names them as they were typed.

    Parameters
    ----------
    place : {"data", "split"}
    options : mapping
        As in :class:`Run`.
    words : mapping of str to str
        How the caller writes each option.

    Raises
    ------
    RunError
        If two options exclude each other, an option misses the one that it belongs to, or a value is not valid.

    Examples
    --------
    >>> from skastw.runs import check_options
    >>> words = {"test_fold": "--test-fold", "test_size": "--test-size", "folds": "--folds", "random_state": "--seed"}
    >>> check_options("split", {"test_fold": "1", "random_state": 3}, words)
    Traceback (most recent call last):
        ...
    skastw.errors.RunError: Got --seed with --test-fold ('1'), expected it with --test-size or --folds.
    """
    kinds = {"data": _DATA, "split": _SPLIT}[place]
    named = [kind for kind in kinds if kind in options]
    if len(named) > 1:
        raise RunError(f"Got {' and '.join(words[kind] for kind in named)}, expected only one of them.")

    types = get_type_hints(kinds[named[0]], include_extras=True) if named else {}
    for name, value in options.items():
        if name not in types:
            given = f" with {words[named[0]]} ({options[named[0]]!r})" if named else ""
            takers = " or ".join(
                words[kind] for kind in kinds if kind in words and name in kinds[kind].__struct_fields__
            )
            raise RunError(f"Got {words[name]}{given}, expected it with {takers}.")
        check(value, types[name], words[name], RunError)


def plan_run(
    run_file: str | os.PathLike[str] | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    params: Iterable[str] = (),
    output: str | None = None,
) -> Run:
    """Return a run from a file, from arguments, or from both.

    Parameters
    ----------
    run_file : path, optional
        See :func:`load_run`. The other arguments replace values of the file.
    data, split, recipe, output : optional
        See :class:`Run`.
    params : iterable of str, optional
        ``name=value``, with the value in YAML; each replaces one parameter.

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
    source = content.pop("source", "")
    arguments = {"data": data, "split": split, "recipe": recipe, "output": output}
    changes = {name: value for name, value in arguments.items() if value is not None}
    changes["params"] = {**content.get("params", {}), **dict(map(_assignment, params))}

    if source and content != {**content, **changes}:
        source += " with the options"
    return replace(parse_run({**content, **changes}, "the run"), source=source)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise RunError(f"Got the parameter {text!r}, expected NAME=VALUE, such as epochs=20.")
    return name, parse_yaml(value, text, RunError, expected="a value")
