"""``skastw describe``."""

from typing import Any

import click

from skastw.cli._options import as_json, data_options, split_options
from skastw.cli._output import print_json, verbosity


@click.command()
@data_options
@split_options
@as_json
def describe(*, data: dict[str, Any] | None, split: dict[str, Any] | None, as_json: bool) -> None:
    """Check labelled clips before training on them.

    Prints the number of clips, their lengths and levels, problems with them, and leakage between the parts of a split.

    \b
    skastw describe --data sounds/
    skastw describe --data clips.csv --group-column speaker --folds 5
    """
    if data is None:
        raise click.UsageError("Expected --data with a folder, a table or the name of a public data set.")
    from skastw.runs import load_clips, make_folds

    clips = load_clips(data)
    folds = [] if split is None else make_folds(clips.y, clips.groups, clips.folds, split)
    description = clips.describe(folds, verbose=verbosity())
    if as_json:
        print_json(description.to_dict())
    else:
        click.echo(str(description))
