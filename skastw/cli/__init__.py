"""The ``skastw`` command: it parses arguments, calls the library and prints the results."""

from __future__ import annotations

import sys

import click

from skastw.cli._output import INTERRUPTED, with_short_errors
from skastw.cli.bench import bench
from skastw.cli.completion import completion
from skastw.cli.demo import demo
from skastw.cli.describe import describe
from skastw.cli.models import export, info, push
from skastw.cli.predict import embed, predict, windows
from skastw.cli.recipes import recipes
from skastw.cli.train import evaluate, train
from skastw.core.version import __version__

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="skastw")
def cli() -> None:
    """Train compact audio classifiers from scratch and use them."""


for command in (
    train,
    evaluate,
    predict,
    windows,
    embed,
    describe,
    recipes,
    info,
    export,
    push,
    demo,
    bench,
    completion,
):
    cli.add_command(with_short_errors(command))


def main() -> None:
    """Run the command. An error is one line on standard error, and sets the exit status."""
    try:
        sys.exit(cli.main(prog_name="skastw", standalone_mode=False))
    except click.exceptions.Abort:
        click.echo("skastw: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
