"""``skastw demo``."""

import click

from skastw.cli._options import device, model_option, revision


@click.command()
@model_option
@revision
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="Port of the page; 0 for any free port.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; by default only for this machine."
)
@click.option(
    "--max-upload", metavar="SIZE", default="50MB", show_default=True, help="Size of the largest accepted file."
)
@click.option(
    "--window",
    metavar="SECONDS",
    type=float,
    help="Length of the windows along a clip; by default a fifth of the clip.",
)
@click.option("--top-k", "-k", type=click.IntRange(1), default=5, show_default=True, help="Number of classes to show.")
@device
@click.option("--no-browser", is_flag=True, help="Do not open the page in a browser.")
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
    """Serve a web page for trying a saved classifier.

    Record or upload a clip to see the predicted classes, for the whole clip and over time.

    \b
    skastw demo --model exports/animals
    """
    from skastw import ASTWClassifier
    from skastw.serving import model_name, parse_size, serve

    serve(
        ASTWClassifier.from_pretrained(model, revision=revision, device=device),
        title=model_name(model),
        host=host,
        port=port,
        top_k=top_k,
        window=window,
        max_upload=parse_size(max_upload),
        open_browser=not no_browser,
    )
