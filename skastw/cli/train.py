"""``skastw train``, ``evaluate`` and ``describe``: the commands that take labelled clips."""

import json
import math
from typing import Any

import click

from skastw.cli._options import (
    as_json,
    cache_dir,
    data_options,
    device,
    model_option,
    overwrite,
    part_options,
    recipe_option,
    revision,
    split_options,
)
from skastw.cli._output import (
    INTERRUPTED,
    print_failures,
    print_json,
    print_line,
    print_scores,
    print_warning,
    verbosity,
)


@click.command()
@click.argument("run_file", required=False, type=click.Path(), metavar="[RUN.yaml]")
@data_options
@split_options
@recipe_option()
@click.option(
    "--weights",
    metavar="DIR_OR_REPO",
    help="Checkpoint for the recipes frozen and finetune; see skastw pretrained.",
)
@click.option(
    "--param", "-p", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter, in YAML; may be repeated."
)
@click.option("--budget", metavar="TIME", help="Time for the selection with --recipe auto, such as 90s, 10m or 2h.")
@click.option("--output", "-o", type=click.Path(), metavar="DIR", help="Folder for the model and the reports.")
@overwrite
@cache_dir
@click.option("--quiet", "-q", is_flag=True, help="Do not show progress.")
@as_json
def train(
    *,
    run_file: str | None,
    data: dict[str, Any] | None,
    split: dict[str, Any] | None,
    recipe: str | None,
    weights: str | None,
    params: tuple[str, ...],
    budget: str | None,
    output: str | None,
    overwrite: bool,
    cache_dir: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a model and test it on held-out clips.

    Writes the model and a report on the held-out clips to the output folder. A run file contains all settings in YAML;
    options replace settings of the file. Earlier results in the output folder are an error unless --overwrite is given.
    Ctrl-C ends the training: the best model until then is tested and saved, and the exit status is 130.

    \b
    skastw train run.yaml
    skastw train --data sounds/ --recipe small --param epochs=20 --output exports/sounds
    skastw train --data sounds/ --recipe auto --budget 10m --output exports/sounds
    skastw train --data esc50:animals --test-fold 1 --output exports/animals
    skastw train --data sounds/ --recipe frozen --weights openai/whisper-tiny --output exports/sounds
    """
    if run_file is None and (data is None or output is None):
        raise click.UsageError("Expected a run file, or --data and --output.")
    from skastw.runs import plan_run, run

    if cache_dir is not None:
        params += (f"cache_dir={json.dumps(cache_dir)}",)
    if budget is not None:
        params += (f"budget={_seconds(budget)}",)
    if weights is not None:
        params += (f"encoder__weights={json.dumps(weights)}",)
    plan = plan_run(run_file, data=data, split=split, recipe=recipe, params=params, output=output)
    result = run(plan, verbose=0 if quiet else verbosity() or 2, overwrite=overwrite)
    for warning in result.description.warnings:
        print_warning(warning)

    if as_json:
        print_json({"folder": result.folder, "interrupted": result.interrupted, **result.evaluation.to_dict()})
    else:
        print_scores(result.evaluation)
        print_line(f"wrote {result.folder}")
    if result.interrupted:
        click.echo("skastw: interrupted; the best model until then is tested and saved", err=True)
        raise click.exceptions.Exit(INTERRUPTED)


def _seconds(text: str) -> float:
    """Return a time such as 90s, 10m or 2h in seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise click.UsageError(f"Got --budget {text}, expected a time such as 90s, 10m or 2h.")
    return seconds


@click.command()
@model_option
@revision
@device
@cache_dir
@data_options
@part_options
@click.option(
    "--output", "-o", type=click.Path(), metavar="DIR", help="Folder for metrics, predictions, plots and a report."
)
@overwrite
@as_json
def evaluate(
    *,
    model: str,
    revision: str | None,
    device: str,
    cache_dir: str | None,
    data: dict[str, Any] | None,
    split: dict[str, Any] | None,
    output: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score a saved model on labelled clips.

    The options of a split select the held-out clips; by default, all clips are scored. Unreadable clips are listed on
    standard error, and the exit status is then 1.

    \b
    skastw evaluate --model exports/animals/model --data esc50:animals --test-fold 1
    skastw evaluate --model exports/sounds/model --data other_sounds/ --output exports/other
    """
    if data is None:
        raise click.UsageError("Expected --data with a folder, a table or the name of a public data set.")
    from skastw import ASTWClassifier
    from skastw.evaluation import evaluate as score
    from skastw.evaluation.pages import check_results
    from skastw.evaluation.report import FILES
    from skastw.runs import check_outside, load_clips, table_of

    if output is not None:
        check_outside(output, data)
        check_results(output, FILES, overwrite=overwrite, inputs=table_of(data))

    classifier = ASTWClassifier.from_pretrained(model, revision=revision, device=device)
    classifier.set_params(on_error="ignore", verbose=verbosity(), cache_dir=cache_dir)
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
        print_line(f"wrote {output}", err=as_json)
    print_failures(clips.X, evaluation.failed)


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
