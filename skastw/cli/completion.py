"""``skastw completion``."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what a shell needs to complete with the tab key.

    \b
    eval "$(skastw completion bash)"           # in ~/.bashrc
    eval "$(skastw completion zsh)"            # in ~/.zshrc
    skastw completion fish | source            # in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "skastw", "_SKASTW_COMPLETE").source())
