"""What commands print: tables for people, JSON for machines, one line for what went wrong."""

from __future__ import annotations

import functools
import json
import re
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import click

__all__ = [
    "INTERRUPTED",
    "check_output",
    "in_options",
    "print_failures",
    "print_json",
    "print_line",
    "print_pairs",
    "print_scores",
    "print_table",
    "print_warning",
    "verbosity",
    "with_plain_words",
]

#: Exit status after Ctrl-C.
INTERRUPTED = 130
#: An argument as messages of the library write it, ``name=value``, and whether they say to set it.
_ARGUMENT = re.compile(r"(?<![^\s(])(set )?([a-z][a-z_]*)=('[^']*'|\"[^\"]*\"|\.\.\.|\w(?:[\w.+-]*\w)?)")
#: Options that are not called as the argument is.
_OTHER_NAMES = {"seed": "random_state", "top_k": "k", "data": "name"}
#: Values of Python as YAML writes them.
_IN_YAML = {"None": "null", "True": "true", "False": "false"}


def with_plain_words(command: click.Command) -> click.Command:
    """Let a command tell the errors and warnings of the library in one line each, in the words of the shell."""
    callback = command.callback
    assert callback is not None

    @functools.wraps(callback)
    def wrapped(*args: Any, **options: Any) -> Any:
        from skastw.errors import SkastwError

        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print_warning(str(message))
            try:
                return callback(*args, **options)
            except (SkastwError, ValueError, OSError) as error:
                sys.exit(f"skastw: {in_options(' '.join(str(error).split()))}")

    command.callback = wrapped
    return command


def in_options(text: str) -> str:
    """Return a message of the library with its arguments as options: those of the command, or of ``train --param``.

    >>> in_options("Mend the clips, or set on_error='warn'.")
    'Mend the clips, or give --param on_error=warn.'
    """
    context = click.get_current_context(silent=True)
    parameters = [] if context is None else context.command.params
    flags = {max(p.opts, key=len) for p in parameters if isinstance(p, click.Option) and p.is_flag}
    options = {_OTHER_NAMES.get(p.name or "", p.name): max(p.opts, key=len) for p in parameters if p.opts[0][0] == "-"}

    def worded(argument: re.Match[str]) -> str:
        advice, name, value = argument.groups()
        given = shlex.quote(_IN_YAML.get(value, value.strip("'\"")))
        if name in options:
            option = options[name]
            return f"{'give ' if advice else ''}{option if option in flags else f'{option} {given}'}"
        return f"give --param {name}={given}" if advice else argument[0]

    return _ARGUMENT.sub(worded, text)


def check_output(output: str | None, inputs: Sequence[Any]) -> None:
    """Raise unless a file can be written that a command was given, and is none of the clips and files it reads."""
    from skastw.analysis.tables import TABLE_SUFFIXES, check_table
    from skastw.audio import clip_path
    from skastw.storage.outputs import check_file

    if output is not None:
        check = check_table if output.lower().endswith(TABLE_SUFFIXES) else check_file
        check(output, inputs=[path for path in map(clip_path, inputs) if path is not None])


def print_warning(text: str) -> None:
    """Tell of what may be wrong, in one line on standard error."""
    click.echo(f"warning: {in_options(' '.join(text.split()))}", err=True)


def print_table(rows: Sequence[tuple[str, ...]], alignment: str) -> None:
    """Print rows in columns, each aligned to the left (<) or to the right (>)."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row, alignment, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def print_pairs(values: Mapping[str, Any]) -> None:
    """Print names with their values."""
    print_table([(name, str(value)) for name, value in values.items()], "<<")


def print_line(text: str, *, err: bool = False) -> None:
    """Print a line, with escapes for names of files that are not Unicode."""
    from skastw.core.text import readable

    click.echo(readable(text), err=err)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    from skastw.core.text import readable_values

    click.echo(json.dumps(readable_values(value), ensure_ascii=False, default=str))


def print_scores(evaluation: Any) -> None:
    """Print the scores of an evaluation with their intervals, what to know of them, and those of each class."""
    rows: list[tuple[str, ...]] = [("score", "value", "95 % from", "to")]
    for name in ("accuracy", "macro_f1", "uar"):
        interval = (f"{end:.3f}" for end in evaluation.intervals.get(name, ()))
        rows.append((name, f"{getattr(evaluation, name):.3f}", *interval))
    print_table([row[: len(rows[-1])] for row in rows], "<>>>"[: len(rows[-1])])
    drawn = f"; intervals from resampling {evaluation.resampled}" if evaluation.intervals else ""
    click.echo(f"{evaluation.n_clips} clips{drawn}")
    for note in evaluation.notes:
        click.echo(f"* {note}")
    header = ("class", "precision", "recall", "f1", "clips")
    tested = evaluation.per_class[evaluation.per_class["support"] > 0]
    scores = tested[["precision", "recall", "f1"]].to_numpy()
    classes = [
        (str(label), *(f"{score:.3f}" for score in own), str(support))
        for label, own, support in zip(tested.index, scores, tested["support"], strict=True)
    ]
    click.echo()
    print_table([header, *classes], "<>>>>")


def print_failures(clips: Sequence[Any], failed: Sequence[Any]) -> None:
    """Tell of clips that could not be read; exit with status 1 if there are any."""
    from skastw.analysis.tables import clip_names

    names = clip_names(clips)
    for clip in failed:
        click.echo(f"skastw: {names[clip.index]}: {in_options(clip.reason)}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def verbosity() -> int:
    """Return 1, for progress bars, where somebody is looking."""
    return int(sys.stderr.isatty())
