"""``skastw demo``."""

from __future__ import annotations

import os

import click

from skastw.cli._options import device, model_option, revision

__all__ = ["demo"]


@click.command()
@model_option
@revision
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; the default is for this machine only.")
@click.option("--max-upload", metavar="SIZE", default="50MB", show_default=True, help="Largest clip.")
@click.option("--window", metavar="SECONDS", type=float, help="Windows along a clip; by default a fifth of it.")
@click.option("--top-k", "-k", type=click.IntRange(1), default=5, show_default=True, help="Classes to show.")
@device
@click.option("--no-browser", is_flag=True, help="Do not open the page.")
def demo(
    model: str,
    revision: str | None,
    port: int,
    host: str,
    max_upload: str,
    window: float | None,
    top_k: int,
    device: str,
    no_browser: bool,
) -> None:
    """Serve a page to try a saved classifier on.

    Record or drop a clip, and see what the model hears in it, and when.

    \b
    skastw demo --model exports/animals
    """
    from skastw import ASTWClassifier
    from skastw.serving import parse_size, serve

    serve(
        ASTWClassifier.from_pretrained(model, revision=revision, device=device),
        title=os.path.basename(os.path.abspath(model)),
        host=host,
        port=port,
        top_k=top_k,
        window=window,
        max_upload=parse_size(max_upload),
        open_browser=not no_browser,
    )
