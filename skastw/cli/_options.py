"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from skastw.cli.completion import complete_data, complete_recipe

__all__ = [
    "as_json",
    "clip_options",
    "data_options",
    "device",
    "model_option",
    "overwrite",
    "part_options",
    "recipe_option",
    "revision",
    "split_options",
]

Command = Callable[..., Any]
Options = tuple[Callable[[Command], Command], ...]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
device = click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, ...")
overwrite = click.option(
    "--overwrite", is_flag=True, help="Replace results that the output folder holds; other files in it stay."
)
revision = click.option("--revision", metavar="REV", help="Branch, tag or commit hash of the repository.")
model_option = click.option(
    "--model",
    "-m",
    required=True,
    type=click.Path(),
    metavar="DIR_OR_REPO",
    help="A saved folder, or a repository of the Hub.",
)
recipe_option = functools.partial(
    click.option,
    "--recipe",
    shell_complete=complete_recipe,
    metavar="RECIPE",
    help="A name (see skastw recipes), or a file of your own.",
)

_CLIPS = (
    click.option(
        "--data",
        metavar="DATA",
        shell_complete=complete_data,
        help="A folder, a table, or the name of a set.",
    ),
    click.option("--data-home", type=click.Path(), metavar="DIR", help="Where the set is, or is downloaded to."),
    click.option("--audio-column", metavar="NAME", help="Column of a table with the files, by default audio."),
)
_LABELS = (
    click.option("--groups", metavar="HOW", help="What clips of a folder have in common: parent, or a pattern."),
    click.option("--label-column", metavar="NAME", help="Column of a table with the labels, by default label."),
    click.option("--group-column", metavar="NAME", help="Column of a table with speakers or recordings."),
)
_SPLIT = (
    click.option("--test-fold", metavar="FOLD", help="Hold out a fold of the set's own."),
    click.option("--test-groups", metavar="A,B,...", help="Hold out these speakers or recordings."),
    click.option("--test-size", type=float, metavar="SHARE", help="Hold out a share, of whole groups if any."),
    click.option("--seed", type=click.IntRange(0), help="What draws the clips that are held out; by default 0."),
)
_FOLDS = (click.option("--folds", metavar="N", help="Cross-validate in N folds, or in the set's own."),)


def data_options(command: Command) -> Command:
    """Give a command ``data``, which says where labelled clips are, or None."""
    return _source_options((*_CLIPS, *_LABELS), command)


def split_options(command: Command) -> Command:
    """Give a command ``split``, which says what is held out, once or in folds, or None."""
    return _split_options((*_SPLIT, *_FOLDS), command)


def part_options(command: Command) -> Command:
    """Give a command ``split``, which says what one part is held out, or None."""
    return _split_options(_SPLIT, command)


def clip_options(command: Command) -> Command:
    """Give a command ``clips``, which need no labels, and a ``classifier`` that leaves out unreadable ones.

    Its ``output``, a file or None, can be written, and is none of the clips.
    """

    @functools.wraps(command)
    def wrapped(
        *,
        files: tuple[str, ...],
        data: Any,
        model: str,
        revision: str | None,
        device: str,
        output: str | None,
        **rest: Any,
    ) -> Any:
        from skastw import ASTWClassifier
        from skastw.cli._output import check_output, verbosity
        from skastw.runs import find_clips, table_of, unlabelled_clips

        if (data is None) == (not files):
            raise click.UsageError("Expected FILE... or --data, and not both.")
        check_output(output, files if files else table_of(data))
        classifier = ASTWClassifier.from_pretrained(model, revision=revision, device=device)
        classifier.set_params(on_error="ignore", verbose=verbosity())

        clips = find_clips(files) if files else unlabelled_clips(data)
        check_output(output, clips)
        return command(clips=clips, classifier=classifier, output=output, **rest)

    files = click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE...]")
    return files(_with((model_option, revision, device), _source_options(_CLIPS, wrapped)))


def _source_options(options: Options, command: Command) -> Command:
    @functools.wraps(command)
    def wrapped(*, data: str | None, **rest: Any) -> Any:
        from skastw.runs import source_of

        given = {name: rest.pop(name) for name in _names(options) if name != "data"}
        return command(data=None if data is None else source_of(data, **given), **rest)

    return _with(options, wrapped)


def _split_options(options: Options, command: Command) -> Command:
    @functools.wraps(command)
    def wrapped(**rest: Any) -> Any:
        given = {name: rest.pop(name) for name in _names(options)}
        split = {"random_state" if name == "seed" else name: v for name, v in given.items() if v is not None}
        if "test_groups" in split:
            split["test_groups"] = split["test_groups"].split(",")
        if split.get("folds", "").isdecimal():
            split["folds"] = int(split["folds"])
        return command(split=split or None, **rest)

    return _with(options, wrapped)


def _with(options: Options, command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _names(options: Options) -> list[str]:
    """Return the names of the parameters that options give."""

    def taker() -> None:
        pass

    return [option.name for option in reversed(_with(options, taker).__click_params__)]  # type: ignore[attr-defined]
