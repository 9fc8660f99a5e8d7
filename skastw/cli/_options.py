"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

__all__ = ["as_json", "clip_options", "data_options", "device", "model_option", "revision", "split_options"]

Command = Callable[..., Any]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
device = click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, ...")
revision = click.option("--revision", metavar="REV", help="Branch, tag or commit hash of the repository.")
model_option = click.option(
    "--model", "-m", required=True, metavar="DIR_OR_REPO", help="A saved folder, or a repository of the Hub."
)

_DATA = (
    click.option("--data", metavar="DATA", help="A folder of class folders, a table, or the name of a set."),
    click.option("--data-home", metavar="DIR", help="Where the set is, or is downloaded to."),
    click.option("--groups", metavar="HOW", help="What clips of a folder have in common: parent, or a pattern."),
    click.option("--audio-column", metavar="NAME", help="Column of a table with the files, by default audio."),
    click.option("--label-column", metavar="NAME", help="Column of a table with the labels, by default label."),
    click.option("--group-column", metavar="NAME", help="Column of a table with speakers or recordings."),
)
_SPLIT = (
    click.option("--test-fold", metavar="FOLD", help="Hold out a fold of the set's own."),
    click.option("--test-groups", metavar="A,B,...", help="Hold out these speakers or recordings."),
    click.option("--test-size", type=float, metavar="SHARE", help="Hold out a share, of whole groups if any."),
    click.option("--folds", metavar="N", help="Cross-validate in N folds, or in the set's own."),
    click.option("--seed", type=click.IntRange(0), help="Of --test-size and --folds."),
)


def data_options(command: Command) -> Command:
    """Give a command ``data``, which says where labelled clips are, or None."""

    @functools.wraps(command)
    def wrapped(*, data: str | None, **options: Any) -> Any:
        from skastw.runs import source_of

        given = {name: options.pop(name) for name in _names(_DATA) if name != "data"}
        return command(data=None if data is None else source_of(data, **given), **options)

    return _with(_DATA, wrapped)


def split_options(command: Command) -> Command:
    """Give a command ``split``, which says what is held out, or None."""

    @functools.wraps(command)
    def wrapped(*, seed: int | None, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _names(_SPLIT) if name != "seed"} | {"random_state": seed}
        split = {name: value for name, value in given.items() if value is not None}
        if "test_groups" in split:
            split["test_groups"] = split["test_groups"].split(",")
        if split.get("folds", "").isdecimal():
            split["folds"] = int(split["folds"])
        return command(split=split or None, **options)

    return _with(_SPLIT, wrapped)


def clip_options(command: Command) -> Command:
    """Give a command ``clips``, from files or labelled clips, and a ``classifier`` that leaves out unreadable ones."""

    @functools.wraps(command)
    def wrapped(
        *, files: tuple[str, ...], data: Any, model: str, revision: str | None, device: str, **rest: Any
    ) -> Any:
        from skastw import ASTWClassifier
        from skastw.cli._output import verbosity
        from skastw.runs import find_clips, load_clips

        if (data is None) == (not files):
            raise click.UsageError("Expected FILE... or --data, and not both.")
        classifier = ASTWClassifier.from_pretrained(model, revision=revision, device=device)
        classifier.set_params(on_error="ignore", verbose=verbosity())
        return command(clips=find_clips(files) if files else load_clips(data).X, classifier=classifier, **rest)

    files = click.argument("files", nargs=-1, metavar="[FILE...]")
    return files(_with((model_option, revision, device), data_options(wrapped)))


def _with(options: tuple[Callable[[Command], Command], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _names(options: tuple[Callable[[Command], Command], ...]) -> list[str]:
    """Return the names of the parameters that options give."""

    def taker() -> None:
        pass

    return [option.name for option in reversed(_with(options, taker).__click_params__)]  # type: ignore[attr-defined]
