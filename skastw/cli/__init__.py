"""The ``skastw`` command: it parses arguments, calls the library and prints the results."""

import sys
import warnings
from typing import Any

import click

from skastw.cli._output import INTERRUPTED, in_one_line, print_warning
from skastw.cli.compare import compare
from skastw.cli.completion import completion
from skastw.cli.models import demo, export, info, push
from skastw.cli.predict import embed, predict, windows
from skastw.cli.pretrained import pretrained
from skastw.cli.recipes import bench, recipes
from skastw.cli.train import describe, evaluate, train
from skastw.core.version import __version__
from skastw.errors import SkastwError

__all__ = ["main"]


class _Commands(click.Group):
    """Commands that print the errors and warnings of the library in one line each, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print_warning(str(message))
            try:
                return super().invoke(ctx)
            except (SkastwError, ValueError, OSError) as error:
                sys.exit(f"skastw: {in_one_line(error)}")


@click.group(
    cls=_Commands,
    commands=[
        train,
        evaluate,
        compare,
        predict,
        windows,
        embed,
        describe,
        recipes,
        pretrained,
        info,
        export,
        push,
        demo,
        bench,
        completion,
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="skastw")
def cli() -> None:
    """Train compact audio classifiers from scratch and use them."""


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
