"""The ``skastw`` command. Arguments in, library calls, text out; no logic of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from skastw._version import __version__

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="skastw")
def cli() -> None:
    """Train compact audio classifiers from scratch and use them."""


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", "-m", required=True, metavar="DIR_OR_REPO", help="A saved folder, or a repository of the Hub.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit hash of the repository.")
@click.option(
    "--top-k", "-k", type=click.IntRange(1), default=3, show_default=True, help="Classes to show for each clip."
)
@click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file, for machines.")
def predict(files: tuple[str, ...], model: str, revision: str | None, top_k: int, device: str, as_json: bool) -> None:
    """Print the most probable classes of audio files.

    Files that cannot be read are told on standard error, and the exit status is then 1.

    \b
    skastw predict dog.wav cat.flac --model exports/animals --top-k 3
    skastw predict *.wav --model user/animals --json
    """
    from skastw import ASTWClassifier

    classifier = ASTWClassifier.from_pretrained(model, revision=revision, device=device).set_params(on_error="ignore")
    predictions = classifier.predict_top_k(list(files), k=top_k)
    failed = {clip.index: clip.reason for clip in classifier.failed_}
    heard = [(file, top) for i, (file, top) in enumerate(zip(files, predictions, strict=True)) if i not in failed]
    if as_json:
        for file, top in heard:
            ranked = [{"label": label, "probability": probability} for label, probability in top]
            click.echo(json.dumps({"file": file, "predictions": ranked}, ensure_ascii=False))
    elif heard:
        rows = [("file", "label", "probability")]
        for file, top in heard:
            rows += [(file if i == 0 else "", str(label), f"{p:.4f}") for i, (label, p) in enumerate(top)]
        _print_table(rows, "<<>")
    for index, reason in failed.items():
        click.echo(f"skastw: {files[index]}: {reason}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


@cli.command()
@click.argument("model", metavar="DIR_OR_REPO")
@click.argument("output", metavar="OUT.onnx", type=click.Path(dir_okay=False))
@click.option("--revision", metavar="REV", help="Branch, tag or commit hash of the repository.")
def export(model: str, output: str, revision: str | None) -> None:
    """Write a saved classifier as one ONNX file, which runs without torch.

    \b
    skastw export exports/animals animals.onnx
    """
    from skastw import ASTWClassifier

    classifier = ASTWClassifier.from_pretrained(model, revision=revision, device="cpu")
    click.echo(classifier.export_onnx(output))


@cli.command()
@click.argument("recipe", required=False, metavar="[RECIPE]")
@click.option("--json", "as_json", is_flag=True, help="List as one JSON object for each recipe, for machines.")
def recipes(recipe: str | None, as_json: bool) -> None:
    """List the recipes, named sets of parameters; or print one as YAML, to start your own from.

    \b
    skastw recipes
    skastw recipes small > mine.yaml
    """
    from skastw.recipes import load_recipe, recipe_names, recipe_text

    if recipe is not None and not as_json:
        click.echo(recipe_text(recipe), nl=False)
        return
    found = [load_recipe(name) for name in (recipe_names() if recipe is None else [recipe])]
    if as_json:
        for item in found:
            click.echo(json.dumps({"name": item.name, "description": item.description}, ensure_ascii=False))
        return
    _print_table([("name", "description"), *((item.name, item.description) for item in found)], "<<")


def _print_table(rows: Sequence[tuple[str, ...]], alignment: str) -> None:
    """Print rows in columns, each aligned to the left (<) or to the right (>)."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row, alignment, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def main() -> None:
    """Run the command; turn the errors of skastw into one line and exit status 1."""
    from skastw.errors import SkastwError

    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        sys.exit("skastw: interrupted")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (SkastwError, ValueError, OSError) as error:
        sys.exit(f"skastw: {' '.join(str(error).split())}")
