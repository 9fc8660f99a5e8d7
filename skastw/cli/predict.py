"""``skastw predict``, ``windows`` and ``embed``: what a saved model says of clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from skastw.cli._options import as_json, clip_options
from skastw.cli._output import print_failures, print_json, print_line, print_table

__all__ = ["embed", "predict", "windows"]


def _ends_in(*suffixes: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return what checks the name of an output before anything is computed."""

    def check(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
        if name is not None and not name.lower().endswith(suffixes):
            raise click.BadParameter(f"{name!r}, expected a name that ends in {', '.join(suffixes)}.")
        return name

    return check


_OUTPUT = click.option(
    "--output",
    "-o",
    type=click.Path(),
    metavar="FILE",
    callback=_ends_in(".csv", ".parquet"),
    help="Write a table: .csv or .parquet.",
)


@click.command()
@clip_options
@click.option(
    "--top-k", "-k", type=click.IntRange(1), default=3, show_default=True, help="Classes to show for each clip."
)
@_OUTPUT
@as_json
def predict(
    *,
    clips: list[Any],
    classifier: Any,
    top_k: int,
    output: str | None,
    as_json: bool,
) -> None:
    """Print the most probable classes of audio files.

    With --output, the probabilities of all classes are written, a row a file. A folder stands for the audio files in
    it. Files that cannot be read are told on standard error, and the exit status is then 1.

    \b
    skastw predict dog.wav cat.flac --model exports/animals --top-k 3
    skastw predict recordings/ --model exports/animals --output predictions.csv
    skastw predict *.wav --model user/animals --json
    """
    from skastw.analysis.tables import clip_names, prediction_table, write_table

    if output is not None:
        print_line(write_table(prediction_table(classifier, clips), output))
        print_failures(clips, classifier.failed_)
        return
    predictions = classifier.predict_top_k(clips, k=top_k)
    failed = {clip.index for clip in classifier.failed_}
    named = zip(clip_names(clips), predictions, strict=True)
    heard = [(name, top) for i, (name, top) in enumerate(named) if i not in failed]
    if as_json:
        for name, top in heard:
            ranked = [{"label": label, "probability": probability} for label, probability in top]
            print_json({"clip": name, "predictions": ranked})
    elif heard:
        rows = [("clip", "predicted", "probability")]
        for name, top in heard:
            rows += [(str(name) if i == 0 else "", str(label), f"{p:.4f}") for i, (label, p) in enumerate(top)]
        print_table(rows, "<<>")
    print_failures(clips, classifier.failed_)


@click.command()
@clip_options
@click.option("--window", "-w", type=float, required=True, metavar="SECONDS", help="Length of a window.")
@click.option("--hop", type=float, metavar="SECONDS", help="From one window to the next; by default half a window.")
@click.option("--aggregate", type=click.Choice(["mean", "max", "vote"]), help="Print a row a clip, not one a window.")
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Leave out what is less probable.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(),
    metavar="FILE",
    callback=_ends_in(".csv", ".parquet", ".txt"),
    help="Write a table, .csv or .parquet, or Audacity's labels, .txt.",
)
@as_json
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
    """Tell what is heard where in long recordings.

    Labels for Audacity join windows of one label that touch or overlap. Windows overlap by half unless --hop says
    otherwise, and so do labels that differ; with the hop as long as the window they follow one another.

    \b
    skastw windows night.flac --model exports/owls --window 3
    skastw windows night.flac --model exports/owls --window 3 --min-probability 0.8 --output night.txt
    """
    from skastw.analysis.tables import check_label_track, label_track, labelled_windows, write_table
    from skastw.storage.outputs import write_file

    as_labels = output is not None and output.lower().endswith(".txt")
    if as_labels:
        check_label_track(len(clips))
    found = classifier.predict_windows(clips, window=window, hop=hop, aggregate=aggregate)
    table = labelled_windows(found, min_probability=min_probability)
    if output is not None and as_labels:
        write_file(output, label_track(found, min_probability=min_probability))
        print_line(output)
    elif output is not None:
        print_line(write_table(table, output))
    elif as_json:
        for row in table.dropna().to_dict(orient="records"):
            print_json(row)
    else:
        rows = table.dropna().iloc[:, :5].itertuples(index=False)
        print_table([("clip", "start", "end", "predicted", "probability"), *map(_in_words, rows)], "<>><>")
    print_failures(clips, classifier.failed_)


@click.command()
@clip_options
@_OUTPUT
@as_json
def embed(
    *,
    clips: list[Any],
    classifier: Any,
    output: str | None,
    as_json: bool,
) -> None:
    """Write the embeddings of clips, a row a clip.

    Without --output, they are CSV on standard output.

    \b
    skastw embed *.wav --model exports/animals --output embeddings.parquet
    """
    from skastw.analysis.tables import embedding_table, write_table

    table = embedding_table(classifier, clips)
    if output is not None:
        print_line(write_table(table, output))
    elif as_json:
        for row in table.dropna().to_dict(orient="records"):
            print_json(row)
    else:
        click.echo(table.dropna().to_csv(index=False), nl=False)
    print_failures(clips, classifier.failed_)


def _in_words(row: tuple[Any, ...]) -> tuple[str, ...]:
    clip, start, end, label, probability = row
    return str(clip), f"{start:.2f}", f"{end:.2f}", str(label), f"{probability:.4f}"
