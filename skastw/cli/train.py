"""``skastw train`` and ``evaluate``."""

from __future__ import annotations

from typing import Any

import click

from skastw.cli._options import as_json, data_options, device, model_option, revision, split_options
from skastw.cli._output import print_failures, print_json, print_scores, verbosity

__all__ = ["evaluate", "train"]


@click.command()
@click.argument("run_file", required=False, metavar="[RUN.yaml]")
@data_options
@split_options
@click.option("--recipe", metavar="RECIPE", help="A name (see skastw recipes), or a file of your own.")
@click.option("--param", "-p", "params", multiple=True, metavar="NAME=VALUE", help="Change a parameter of the recipe.")
@click.option("--output", "-o", metavar="DIR", help="Folder of the model and the reports.")
@as_json
def train(
    *,
    run_file: str | None,
    data: dict[str, Any] | None,
    split: dict[str, Any] | None,
    recipe: str | None,
    params: tuple[str, ...],
    output: str | None,
    as_json: bool,
) -> None:
    """Train a model and test it on held-out clips.

    The model is saved, with a report on clips that it was not trained on. A run file says everything in YAML; options
    replace what it says.

    \b
    skastw train run.yaml
    skastw train --data sounds/ --recipe small --param epochs=20 --output exports/sounds
    skastw train --data esc50:animals --test-fold 1 --output exports/animals
    """
    if run_file is None and (data is None or output is None):
        raise click.UsageError("Expected a run file, or --data and --output.")
    from skastw.runs import plan_run, run

    plan = plan_run(run_file, data=data, split=split, recipe=recipe, params=params, output=output)
    result = run(plan, verbose=verbosity())
    for warning in result.description.warnings:
        click.echo(f"skastw: {warning}", err=True)
    if as_json:
        print_json({"folder": result.folder, **result.evaluation.to_dict()})
        return
    print_scores(result.evaluation)
    click.echo(f"wrote {result.folder}")


@click.command()
@model_option
@revision
@device
@data_options
@split_options
@click.option("--output", "-o", metavar="DIR", help="Write metrics, predictions, pictures and a page there.")
@as_json
def evaluate(
    *,
    model: str,
    revision: str | None,
    device: str,
    data: dict[str, Any] | None,
    split: dict[str, Any] | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Score a saved model on labelled clips.

    All of them are scored, or those that a split holds out. Clips that cannot be read are told on standard error, and
    the exit status is then 1.

    \b
    skastw evaluate --model exports/animals/model --data esc50:animals --test-fold 1
    skastw evaluate --model exports/sounds/model --data other_sounds/ --output exports/other
    """
    if data is None:
        raise click.UsageError("Expected --data.")
    from skastw import ASTWClassifier
    from skastw.evaluation import evaluate as score
    from skastw.runs import load_clips

    classifier = ASTWClassifier.from_pretrained(model, revision=revision, device=device)
    classifier.set_params(on_error="ignore", verbose=verbosity())
    clips = load_clips(data)
    if split is not None:
        _, clips = clips.split(split)
    evaluation = score(classifier, clips.X, clips.y, groups=clips.groups)
    if as_json:
        print_json(evaluation.to_dict())
    else:
        print_scores(evaluation)
    if output is not None:
        evaluation.save(output, title=f"{model} on {next(iter(data.values()))}", about={"model": model, "data": data})
        click.echo(f"wrote {output}", err=as_json)
    print_failures(clips.X, evaluation.failed)
