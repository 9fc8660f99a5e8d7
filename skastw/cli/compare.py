"""``skastw compare``: train and test several models on the same splits."""

from pathlib import Path
from typing import Any

import click

from skastw.cli._options import as_json, cache_dir, data_options, device, overwrite, split_options
from skastw.cli._output import print_json, print_line, verbosity
from skastw.cli.completion import complete_model


@click.command()
@click.argument("models", nargs=-1, required=True, shell_complete=complete_model, metavar="MODEL...")
@data_options
@split_options
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Number of seeds for each model.")
@click.option(
    "--score",
    type=click.Choice(["accuracy", "macro_f1", "uar"]),
    default="uar",
    show_default=True,
    help="Score that ranks the models, and whose differences are tested.",
)
@click.option("--reference", metavar="MODEL", help="Model that the others are tested against; by default the best.")
@click.option("--jobs", type=int, metavar="N", help="Number of folds at the same time; -1 for all processors.")
@device
@cache_dir
@click.option(
    "--output", "-o", type=click.Path(), metavar="DIR", help="Folder for the folds, tables, plots and a page."
)
@overwrite
@click.option("--quiet", "-q", is_flag=True, help="Do not show progress.")
@as_json
def compare(
    *,
    models: tuple[str, ...],
    data: dict[str, Any] | None,
    split: dict[str, Any] | None,
    seeds: int,
    score: str,
    reference: str | None,
    jobs: int | None,
    device: str,
    cache_dir: str | None,
    output: str | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train and test recipes and classical baselines on the same splits, and test their differences.

    A MODEL is the name of a recipe (see skastw recipes), a YAML file, or the name of a baseline: statistics-svm,
    descriptors-svm, descriptors-logistic, egemaps-svm or compare-svm.

    By default, five folds test every clip once; groups stay together. With --output, each complete fold is kept: the
    same command continues after an interruption. A model that fails in a fold is listed on standard error, the others
    go on, and the exit status is then 1.

    \b
    skastw compare tiny small statistics-svm --data sounds/ --output exports/comparison
    skastw compare tiny mine.yaml --data clips.csv --group-column speaker --folds 5 --seeds 3 -o exports/comparison
    """
    if data is None:
        raise click.UsageError("Expected --data with a folder, a table or the name of a public data set.")
    from skastw.analysis.comparison import with_params
    from skastw.evaluation import compare as run_comparison
    from skastw.evaluation.compare import named_models
    from skastw.evaluation.comparison_page import FILES
    from skastw.evaluation.pages import check_results
    from skastw.runs import check_outside, load_clips, make_folds, table_of

    if output is not None:
        check_outside(output, data)
        check_results(output, FILES, overwrite=overwrite, inputs=[*table_of(data), *models])
    settings = {"device": device, **({} if cache_dir is None else {"cache_dir": cache_dir})}
    named = {name: with_params(model, **settings) for name, model in named_models(models).items()}
    clips = load_clips(data)
    split = split or {"folds": 5}
    comparison = run_comparison(
        named,
        clips.X,
        clips.y,
        clips.groups,
        {fold.name: (fold.train, fold.test) for fold in make_folds(clips.y, clips.groups, clips.folds, split)},
        seeds=seeds,
        score=score,
        reference=reference,
        n_jobs=jobs,
        folder=output,
        on_error="warn",
        verbose=0 if quiet else verbosity() or 2,
    )

    if as_json:
        print_json(comparison.to_dict())
    else:
        print_line(repr(comparison))
    if output is not None:
        about = {"data": data, "split": split, "models": list(models)}
        comparison.save(output, title=f"Models on {next(iter(data.values()))}", about=about)
        print_line(f"wrote {Path(output) / FILES[1]}", err=as_json)
    for name, seed, fold, error in comparison.failures.itertuples(index=False):
        print_line(f"skastw: {name}, seed {seed}, split {fold}: {error}", err=True)
    if len(comparison.failures):
        raise click.exceptions.Exit(1)
