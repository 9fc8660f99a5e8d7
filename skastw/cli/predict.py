"""``skastw predict``, ``windows`` and ``embed``: apply a saved model to clips."""

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from skastw.cli._options import Command, cache_dir, clip_options, embedding_clip_options
from skastw.cli._output import (
    FILE_SUFFIXES,
    is_folder,
    print_failures,
    print_json,
    print_line,
    print_table,
    progress,
    verbosity,
)

#: Suffixes of tables: ``skastw.analysis.tables.TABLE_SUFFIXES``, which takes long to import.
_TABLES = (".csv", ".parquet")


def _check_name(suffixes: tuple[str, ...], _: click.Context, __: click.Parameter, name: str | None) -> str | None:
    """Refuse an output that is neither a file with one of the suffixes nor a folder."""
    if name is not None and not name.lower().endswith(suffixes) and not is_folder(name):
        raise click.BadParameter(
            f"{name!r}, expected a name that ends in {', '.join(suffixes)}, or a folder: a name without an ending, or "
            "with a slash at the end."
        )
    return name


def _check_use(
    fits: Callable[[str | None], bool], expected: str, ctx: click.Context, _: click.Parameter, value: Any
) -> Any:
    """Refuse an option that has no effect with this output, or without one."""
    if value and not fits(ctx.params.get("output")):
        raise click.BadParameter(f"expected {expected}.")
    return value


_for_output = functools.partial(_check_use, bool, "--output, which this option is about")
_for_folder = functools.partial(
    _check_use,
    lambda output: output is not None and is_folder(output),
    "--output with a folder: a name without an ending",
)
_for_printing = functools.partial(
    _check_use, lambda output: output is None, "no --output, because this option is about printed results"
)


def _as_shard(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int]:
    """Return (3, 64) for 3/64, and (1, 1) for None."""
    numbers = re.fullmatch(r"(\d+)/(\d+)", _for_folder(ctx, parameter, value) or "1/1")
    if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise click.BadParameter(f"{value!r}, expected I/N with I from 1 to N, such as 3/64.")
    return int(numbers[1]), int(numbers[2])


_as_json = click.option(
    "--json", "as_json", is_flag=True, callback=_for_printing, help="Print JSON, for programs; not with --output."
)


def _in_parts(content: str, command: Command) -> Command:
    """Let a command, which prints to standard output, write a table in parts too."""

    @click.option(
        "--output",
        "-o",
        type=click.Path(),
        metavar="FILE_OR_DIR",
        callback=functools.partial(_check_name, _TABLES),
        is_eager=True,
        help="Write a .csv or .parquet table, or a folder with the parts of a table.",
    )
    @click.option(
        "--format",
        "form",
        type=click.Choice([suffix.removeprefix(".") for suffix in _TABLES]),
        callback=_for_folder,
        help="Format of the parts in a folder; by default csv.",
    )
    @click.option(
        "--block",
        type=click.IntRange(1),
        metavar="N",
        callback=_for_output,
        help="Clips in a part of the output; by default 256.",
    )
    @click.option(
        "--shard", metavar="I/N", callback=_as_shard, help="Write each N-th part into the folder, from the I-th on."
    )
    @click.option("--jobs", type=int, metavar="N", help="Threads that decode files; -1 is one for each processor.")
    @cache_dir
    @click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Clips in a batch of the network.")
    @click.option("--quiet", "-q", is_flag=True, help="Do not show progress.")
    @functools.wraps(command)
    def wrapped(
        *,
        clips: list[Any],
        classifier: Any,
        output: str | None,
        form: str | None,
        block: int | None,
        shard: tuple[int, int],
        jobs: int | None,
        cache_dir: str | None,
        batch_size: int | None,
        quiet: bool,
        **rest: Any,
    ) -> None:
        from skastw.analysis.parts import clips_in_shard, write_in_parts, write_parts

        verbose = 0 if quiet or output is not None else verbosity()
        chosen = {"n_jobs": jobs, "cache_dir": cache_dir, "batch_size": batch_size, "verbose": verbose}
        if batch_size is not None and not hasattr(classifier, "batch_size"):
            raise click.UsageError("Got --batch-size with --weights, which computes each clip alone.")
        classifier.set_params(**{name: value for name, value in chosen.items() if value is not None})
        if output is None:
            command(clips=clips, classifier=classifier, **rest)
            return

        windows = {name: rest[name] for name in ("window", "hop") if rest.get(name) is not None}
        size = {} if block is None else {"block": block}
        write: Callable[..., Any] = write_in_parts
        if is_folder(output):
            write = functools.partial(write_parts, form=form or "csv", shard=shard)
        with progress(clips_in_shard(len(clips), shard=shard, **size), content, quiet=quiet) as advance:
            written = write(classifier, clips, output, content=content, progress=advance, **size, **windows)

        print_line(written.path)
        if written.failed:
            place = f"the column error of {written.path} has the reasons"
            print_line(f"skastw: {written.failed} of {written.clips} clips cannot be used; {place}", err=True)
            raise click.exceptions.Exit(1)

    return wrapped


@click.command()
@clip_options
@functools.partial(_in_parts, "predictions")
@click.option(
    "--top-k",
    "-k",
    type=click.IntRange(1),
    callback=_for_printing,
    help="Number of printed classes for each clip; by default 3. Not with --output.",
)
@_as_json
def predict(*, clips: list[Any], classifier: Any, top_k: int | None, as_json: bool) -> None:
    """Print the most probable classes of audio files.

    A folder is replaced by the audio files in it. --output writes the probabilities of all classes, one row for each
    file, in parts: if the command is stopped, the same command continues. If files are unreadable, the exit status is
    1, and they are listed on standard error or, with --output, in the column error.

    \b
    skastw predict dog.wav cat.flac --model exports/animals --top-k 3
    skastw predict recordings/ --model exports/animals --output predictions.csv
    skastw predict archive/ --model exports/animals --output predictions --shard 3/64
    skastw predict *.wav --model user/animals --json
    """
    from skastw.analysis.tables import clip_names

    predictions = classifier.predict_top_k(clips, k=top_k or 3)
    failed = {clip.index for clip in classifier.failed_}
    named = zip(clip_names(clips), predictions, strict=True)
    predicted = [(name, top) for i, (name, top) in enumerate(named) if i not in failed]

    if as_json:
        for name, top in predicted:
            ranked = [{"label": label, "probability": probability} for label, probability in top]
            print_json({"clip": name, "predictions": ranked})
    elif predicted:
        rows = [("clip", "predicted", "probability")]
        for name, top in predicted:
            rows += [(str(name) if i == 0 else "", str(label), f"{p:.4f}") for i, (label, p) in enumerate(top)]
        print_table(rows, "<<>")
    print_failures(clips, classifier.failed_)


@click.command()
@clip_options
@click.option("--window", "-w", type=float, required=True, metavar="SECONDS", help="Length of a window in seconds.")
@click.option(
    "--hop", type=float, metavar="SECONDS", help="Time from one window to the next; by default half a window."
)
@click.option(
    "--aggregate", type=click.Choice(["mean", "max", "vote"]), help="Combine the windows of a clip into one row."
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Leave out less probable windows.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(),
    metavar="FILE_OR_DIR",
    callback=functools.partial(_check_name, FILE_SUFFIXES),
    is_eager=True,
    help="Write a .csv or .parquet table, a .txt label track for Audacity, or a folder of label tracks.",
)
@_as_json
def windows(
    *,
    clips: list[Any],
    classifier: Any,
    window: float,
    hop: float | None,
    aggregate: str | None,
    min_probability: float,
    output: str | None,
    as_json: bool,
) -> None:
    """Print the most probable class of each window of long recordings.

    In a label track for Audacity, touching or overlapping windows of the same class become one label with the highest
    probability of its windows. Labels of different classes can overlap, because windows overlap: by half a window, or,
    if --hop equals --window, only at the end. If --output is a folder, night.flac gets the file night.txt in it, and
    recordings in several folders keep their folders.

    \b
    skastw windows night.flac --model exports/owls --window 3
    skastw windows night.flac --model exports/owls --window 3 --min-probability 0.8 --output night.txt
    skastw windows nights/ --model exports/owls --window 3 --min-probability 0.8 --output labels/
    """
    from skastw.analysis.tables import check_label_track, label_files, labelled_windows, write_table

    how = {"window": window, "hop": hop, "aggregate": aggregate}
    if output is not None and not output.lower().endswith(_TABLES):
        if not is_folder(output):
            check_label_track(len(clips))
        files = label_files(output, clips) if is_folder(output) else [output]
        _write_labels(files, clips, classifier, how, min_probability)
        return

    table = labelled_windows(classifier.predict_windows(clips, **how), min_probability=min_probability)
    if output is not None:
        print_line(write_table(table, output))
    elif as_json:
        _print_rows(table)
    else:
        rows = table.dropna().iloc[:, :5].itertuples(index=False)
        print_table([("clip", "start", "end", "predicted", "probability"), *map(_in_words, rows)], "<>><>")
    print_failures(clips, classifier.failed_)


def _write_labels(
    files: list[str], clips: list[Any], classifier: Any, how: dict[str, Any], min_probability: float
) -> None:
    """Predict the windows of each recording and write its label track, before the next one is predicted."""
    from skastw.analysis.tables import label_track
    from skastw.audio import clip_path
    from skastw.storage.outputs import check_file, write_file

    inputs = [path for path in map(clip_path, clips) if path is not None]
    for file in files:
        check_file(file, inputs=inputs)

    failed = []
    for index, (file, clip) in enumerate(zip(files, clips, strict=True)):
        probabilities = classifier.predict_windows([clip], **how)
        failed += [replace(one, index=index) for one in classifier.failed_]
        if not classifier.failed_:
            write_file(file, label_track(probabilities, min_probability=min_probability))
            print_line(file)
    print_failures(clips, failed)


@click.command()
@embedding_clip_options
@functools.partial(_in_parts, "embeddings")
@click.option("--window", "-w", type=float, metavar="SECONDS", help="Length of windows; by default whole clips.")
@click.option(
    "--hop", type=float, metavar="SECONDS", help="Time from one window to the next; by default half a window."
)
@_as_json
def embed(*, clips: list[Any], classifier: Any, window: float | None, hop: float | None, as_json: bool) -> None:
    """Write the embeddings of clips, one row for each clip or, with --window, for each window.

    Without --output, they are printed as CSV. With it, they are written in parts, as by predict. With --weights, they
    are those of a pretrained network, without a trained model.

    \b
    skastw embed *.wav --model exports/animals --output embeddings.parquet
    skastw embed nights/ --model exports/owls --window 3 --output embeddings/ --format parquet
    skastw embed *.wav --weights openai/whisper-tiny --revision main --output embeddings.csv
    """
    from skastw.analysis.tables import embedding_table

    if window is not None:
        table = classifier.transform_windows(clips, window=window, hop=hop)
    elif hop is not None:
        raise click.UsageError("Got --hop, expected --window with it.")
    else:
        table = embedding_table(classifier, clips)
    if as_json:
        _print_rows(table)
    else:
        click.echo(table.dropna().to_csv(index=False), nl=False)
    print_failures(clips, classifier.failed_)


def _print_rows(table: Any) -> None:
    """Print the complete rows of a table as lines of JSON."""
    from skastw.analysis.tables import short_floats

    for row in short_floats(table.dropna()).to_dict(orient="records"):
        print_json(row)


def _in_words(row: tuple[Any, ...]) -> tuple[str, ...]:
    clip, start, end, label, probability = row
    return str(clip), f"{start:.2f}", f"{end:.2f}", str(label), f"{probability:.4f}"
