"""``skastw describe``."""

from __future__ import annotations

from typing import Any

import click

from skastw.cli._options import as_json, data_options, split_options
from skastw.cli._output import in_options, print_json, verbosity

__all__ = ["describe"]


@click.command()
@data_options
@split_options
@as_json
def describe(*, data: dict[str, Any] | None, split: dict[str, Any] | None, as_json: bool) -> None:
    """Look at labelled clips before training on them.

    How many there are, how long and how loud, what is wrong with them, and what a split would leak.

    \b
    skastw describe --data sounds/
    skastw describe --data clips.csv --group-column speaker --folds 5
    """
    if data is None:
        raise click.UsageError("Expected --data.")
    from skastw.runs import load_clips, make_folds

    clips = load_clips(data)
    folds = [] if split is None else make_folds(clips.y, clips.groups, clips.folds, split)
    found = clips.describe(folds, verbose=verbosity())
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(in_options(str(found)))
