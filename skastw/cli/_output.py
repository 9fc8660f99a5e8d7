"""Output of the commands: tables for people, JSON for machines, and one line for an error or a warning."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

#: Suffixes of tables and label tracks.
FILE_SUFFIXES = (".csv", ".parquet", ".txt")
#: Exit status after Ctrl-C.
INTERRUPTED = 130


def in_one_line(message: object) -> str:
    """Return a message with single spaces for its line breaks."""
    return " ".join(str(message).split())


def is_folder(output: str) -> bool:
    """Return whether an output is the name of a folder: it has no suffix, ends in a slash, or exists as a folder."""
    suffix = os.path.splitext(output)[1].lower()
    return not suffix or (suffix not in FILE_SUFFIXES and os.path.isdir(output))


def check_output(output: str | None, inputs: Sequence[Any]) -> None:
    """Raise if the output of a command cannot be written, or is one of the clips and files that it reads."""
    from skastw.analysis.tables import TABLE_SUFFIXES, check_table
    from skastw.audio import clip_path
    from skastw.storage.outputs import check_file, check_folder

    if output is None:
        return
    if is_folder(output):
        check_folder(output)
    else:
        check = check_table if output.lower().endswith(TABLE_SUFFIXES) else check_file
        check(output, inputs=[path for path in map(clip_path, inputs) if path is not None])


def print_warning(text: str) -> None:
    """Print a warning in one line on standard error."""
    click.echo(f"warning: {in_one_line(text)}", err=True)


def print_table(rows: Sequence[tuple[str, ...]], alignment: str) -> None:
    """Print rows in columns, each aligned to the left (<) or to the right (>)."""
    from skastw.core.text import aligned

    click.echo("\n".join(aligned(rows, alignment)))


def print_pairs(values: Mapping[str, Any]) -> None:
    """Print names with their values."""
    print_table([(name, str(value)) for name, value in values.items()], "<<")


def print_line(text: str, *, err: bool = False) -> None:
    """Print a line, with escapes for file names that are not Unicode."""
    from skastw.core.text import readable

    click.echo(readable(text), err=err)


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    from skastw.core.text import readable_values

    click.echo(json.dumps(readable_values(value), ensure_ascii=False, default=str))


def print_scores(evaluation: Any) -> None:
    """Print the scores of an evaluation with their intervals, notes on them, and the scores of each class."""
    intervals = evaluation.intervals
    header = ("score", "value", "95 % from", "to")[: 4 if intervals else 2]
    rows = [
        (name, *(f"{score:.3f}" for score in (getattr(evaluation, name), *intervals.get(name, ()))))
        for name in ("accuracy", "macro_f1", "uar")
    ]
    print_table([header, *rows], "<>>>"[: len(header)])
    resampled = f"; intervals from resampling {evaluation.resampled}" if intervals else ""
    click.echo(f"{evaluation.n_clips} clips{resampled}")
    for note in evaluation.notes:
        click.echo(f"* {note}")

    classes = [
        (str(label), *(f"{score:.3f}" for score in scores), str(support))
        for label, *scores, support in evaluation.tested.itertuples()
    ]
    click.echo()
    print_table([("class", "precision", "recall", "f1", "clips"), *classes], "<>>>>")


def print_failures(clips: Sequence[Any], failed: Sequence[Any]) -> None:
    """Print the clips that could not be read; exit with status 1 if there are any."""
    from skastw.analysis.tables import clip_names

    names = clip_names(clips)
    for clip in failed:
        click.echo(f"skastw: {names[clip.index]}: {in_one_line(clip.reason)}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def verbosity() -> int:
    """Return 1, for progress bars, if standard error is a terminal, and 0 if not."""
    return int(sys.stderr.isatty())


@contextlib.contextmanager
def progress(n_clips: int, desc: str, *, quiet: bool) -> Iterator[Callable[[int, bool], None]]:
    """Show the progress of a run in parts on standard error: a bar on a terminal, else lines.

    Yields the function that :func:`skastw.analysis.write_parts` takes as ``progress``. If the run is stopped, one line
    says that it can continue.
    """
    from skastw.core.progress import ProgressBar, ProgressLines

    show = ProgressBar if verbosity() and not quiet else ProgressLines
    bar = show(total=n_clips, desc=desc, unit="clip", disable=quiet)

    def advance(n: int, computed: bool) -> None:
        bar.initial += 0 if computed else n  # earlier parts do not count for the speed
        bar.update(n)

    try:
        with bar:
            yield advance
    except BaseException:
        if bar.n:
            print_line(f"skastw: {bar.n} of {n_clips} clips are complete; the same command continues", err=True)
        raise
