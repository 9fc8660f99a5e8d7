"""What commands print: tables for people, JSON for machines, one line for what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

__all__ = ["print_failures", "print_json", "print_pairs", "print_scores", "print_table", "verbosity"]


def print_table(rows: Sequence[tuple[str, ...]], alignment: str) -> None:
    """Print rows in columns, each aligned to the left (<) or to the right (>)."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row, alignment, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def print_pairs(values: Mapping[str, Any]) -> None:
    """Print names with their values."""
    print_table([(name, str(value)) for name, value in values.items()], "<<")


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))


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


def print_failures(names: Sequence[Any], failed: Iterable[Any]) -> None:
    """Tell of clips that could not be read; exit with status 1 if there are any."""
    found = False
    for clip in failed:
        found = True
        click.echo(f"skastw: {names[clip.index]}: {clip.reason}", err=True)
    if found:
        raise click.exceptions.Exit(1)


def verbosity() -> int:
    """Return 1, for progress bars, where somebody is looking."""
    return int(sys.stderr.isatty())
