"""``skastw completion``, and the values that the tab key completes."""

from collections.abc import Sequence
from glob import escape, glob
from importlib import resources

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

#: The names for :func:`skastw.datasets.fetch_dataset`, which takes too long to import for the tab key.
SETS = ("emodb", "esc50", "fsdd", "minds14", "ravdess", "speech_commands", "spoken_digits", "urbansound8k")
#: The names for :func:`skastw.estimators.baselines.make_baseline`.
BASELINES = ("statistics-svm", "descriptors-svm", "descriptors-logistic", "egemaps-svm", "compare-svm")
_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


def complete_recipe(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of recipes and YAML files that begin with ``incomplete``."""
    files = resources.files("skastw").joinpath("recipes").iterdir()
    names = sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
    own = sorted(glob(f"{escape(incomplete)}*.yaml"))
    return _names_or_files([*names, *own], incomplete)


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of recipes, baselines and YAML files that begin with ``incomplete``."""
    return [*complete_recipe(context, parameter, incomplete), *_named(BASELINES, incomplete)]


def complete_data(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of data sets that begin with ``incomplete``, and let the shell add files and folders."""
    return _names_or_files(SETS, incomplete)


def _names_or_files(names: Sequence[str], incomplete: str) -> list[CompletionItem]:
    # in the other order, bash ignores the names
    return [CompletionItem(incomplete, type="file"), *_named(names, incomplete)]


def _named(names: Sequence[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands with the tab key.

    \b
    eval "$(skastw completion bash)"           # in ~/.bashrc
    eval "$(skastw completion zsh)"            # in ~/.zshrc
    skastw completion fish | source            # in ~/.config/fish/config.fish
    """
    click.echo(_SHELLS[shell](context.find_root().command, {}, "skastw", "_SKASTW_COMPLETE").source())
