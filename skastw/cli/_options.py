"""Options that several commands have."""

import functools
from collections.abc import Callable
from typing import Any

import click

from skastw.cli.completion import complete_data, complete_recipe

Command = Callable[..., Any]
#: The options of a command, by the names of their parameters.
Options = dict[str, Callable[[Command], Command]]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
device = click.option("--device", default="auto", show_default=True, help="Device to compute on: auto, cpu, cuda, ...")
cache_dir = click.option(
    "--cache-dir", type=click.Path(), metavar="DIR", help="Folder that keeps the frames of clips for later commands."
)
overwrite = click.option(
    "--overwrite", is_flag=True, help="Replace earlier results in the output folder; other files are kept."
)
revision = click.option("--revision", metavar="REV", help="Branch, tag or commit hash of the repository.")
model_option = click.option(
    "--model",
    "-m",
    required=True,
    type=click.Path(),
    metavar="DIR_OR_REPO",
    help="Folder of a saved model, or repository on the Hub.",
)
recipe_option = functools.partial(
    click.option,
    "--recipe",
    shell_complete=complete_recipe,
    metavar="RECIPE",
    help="Name of a recipe (see skastw recipes), or YAML file.",
)

_CLIPS: Options = {
    "data": click.option(
        "--data",
        metavar="DATA",
        shell_complete=complete_data,
        help="Folder, table, or name of a data set.",
    ),
    "data_home": click.option("--data-home", type=click.Path(), metavar="DIR", help="Folder of downloaded data sets."),
    "audio_column": click.option(
        "--audio-column", metavar="NAME", help="Column of the files in a table; by default audio."
    ),
}
_LABELS: Options = {
    "groups": click.option("--groups", metavar="HOW", help="Groups in a folder: parent, or a regular expression."),
    "label_column": click.option(
        "--label-column", metavar="NAME", help="Column of the labels in a table; by default label."
    ),
    "group_column": click.option("--group-column", metavar="NAME", help="Column of speakers or recordings in a table."),
}
_SPLIT: Options = {
    "test_fold": click.option("--test-fold", metavar="FOLD", help="Hold out an official fold of the data set."),
    "test_groups": click.option("--test-groups", metavar="A,B,...", help="Hold out these speakers or recordings."),
    "test_size": click.option(
        "--test-size", type=float, metavar="SHARE", help="Hold out a share of the clips, or of the groups."
    ),
    "random_state": click.option(
        "--seed", "random_state", type=click.IntRange(0), help="Seed of a random split; by default 0."
    ),
}
_FOLDS: Options = {
    "folds": click.option("--folds", metavar="N", help="Cross-validate in N folds, or in the official folds (own).")
}

#: The words for the options of a run in errors.
_WORDS = {name: f"--{name.replace('_', '-')}" for name in _CLIPS | _LABELS | _SPLIT | _FOLDS}
_WORDS |= {"random_state": "--seed", "set": "a data set", "folder": "a folder", "table": "a table"}


def clip_options(command: Command) -> Command:
    """Give a command the arguments ``clips``, ``classifier`` and ``output``.

    The clips need no labels. The classifier leaves out unreadable clips. The output, a file or None, is checked: it can
    be written, and is not one of the clips.
    """
    return _clip_options(command, model_option)


def embedding_clip_options(command: Command) -> Command:
    """Do the same as :func:`clip_options`, also with weights of a pretrained network in the place of the classifier."""
    either = click.option(
        "--model",
        "-m",
        type=click.Path(),
        metavar="DIR_OR_REPO",
        help="Folder of a saved model, or repository on the Hub.",
    )
    weights = click.option(
        "--weights",
        metavar="DIR_OR_REPO",
        help="Pretrained network of transformers, instead of a model; see skastw pretrained.",
    )
    return _clip_options(command, lambda wrapped: either(weights(wrapped)))


def _clip_options(command: Command, which: Callable[[Command], Command]) -> Command:

    @functools.wraps(command)
    def wrapped(
        *,
        files: tuple[str, ...],
        data: Any,
        model: str | None,
        revision: str | None,
        device: str,
        output: str | None,
        weights: str | None = None,
        **rest: Any,
    ) -> Any:
        from skastw import ASTWClassifier, ASTWFeaturizer
        from skastw.cli._output import check_output, verbosity
        from skastw.runs import find_clips, table_of, unlabelled_clips

        if (data is None) == (not files):
            raise click.UsageError("Expected FILE... or --data, and not both.")
        if (model is None) == (weights is None):
            raise click.UsageError("Expected --model or --weights, and not both.")
        check_output(output, files if files else table_of(data))

        classifier: Any
        if model is not None:
            classifier = ASTWClassifier.from_pretrained(model, revision=revision, device=device)
        else:
            classifier = ASTWFeaturizer.from_weights(str(weights), revision=revision, device=device)
        classifier.set_params(on_error="ignore", verbose=verbosity())

        clips = find_clips(files) if files else unlabelled_clips(data)
        check_output(output, clips)
        if weights is not None:
            classifier.fit(clips)
        return command(clips=clips, classifier=classifier, output=output, **rest)

    files = click.argument("files", nargs=-1, type=click.Path(), metavar="[FILE...]")
    return files(which(revision(device(_source_options(_CLIPS, wrapped)))))


def _source_options(options: Options, command: Command) -> Command:
    """Give a command options, and pass their values as the argument ``data``."""

    @functools.wraps(command)
    def wrapped(*, data: str | None, **rest: Any) -> Any:
        from skastw.runs import check_options, source_of

        values = {name: rest.pop(name) for name in options if name != "data"}
        if data is None:
            for name in (name for name, value in values.items() if value is not None):
                raise click.UsageError(f"Got {_WORDS[name]}, expected --data with it.")
            return command(data=None, **rest)
        source = source_of(data, **values)
        check_options("data", source, _WORDS)
        return command(data=source, **rest)

    return _with(options, wrapped)


def _split_options(options: Options, command: Command) -> Command:
    """Give a command options, and pass their values as the argument ``split``."""

    @functools.wraps(command)
    def wrapped(**rest: Any) -> Any:
        from skastw.runs import check_options

        values = {name: rest.pop(name) for name in options}
        split = {name: value for name, value in values.items() if value is not None}
        if "test_groups" in split:
            split["test_groups"] = split["test_groups"].split(",")
        if split.get("folds", "").isdecimal():
            split["folds"] = int(split["folds"])
        check_options("split", split, {name: _WORDS[name] for name in options})
        return command(split=split or None, **rest)

    return _with(options, wrapped)


def _with(options: Options, command: Command) -> Command:
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options.values()), command)


#: Decorators that give a command an argument from several options: ``data``, the source of labelled clips, and
#: ``split``, one test set or several folds, or one test set only. The argument is None without these options.
data_options = functools.partial(_source_options, _CLIPS | _LABELS)
split_options = functools.partial(_split_options, _SPLIT | _FOLDS)
part_options = functools.partial(_split_options, _SPLIT)
