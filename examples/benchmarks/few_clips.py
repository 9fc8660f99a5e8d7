"""Train models on 2, 5, 10, 20 and 50 clips a class, and report the UAR on the whole test part of a fold.

    python examples/benchmarks/few_clips.py run --protocol r4-21 --model tiny statistics --data-dir path/to/data
    python examples/benchmarks/few_clips.py report --picture few_clips.svg

The training clips are drawn from the training part of the first fold of a protocol, for each class by itself: one clip
of each group (speaker or source) in a random order, then a second one of each group, and so on. So they come from as
many groups as possible, and the clips of a smaller number are among those of a larger one. Sizes that a class does not
have are skipped. The draw and the seed of the model decide everything that is random.

A run appends a JSON line for each model, size and draw to ``--output``, and skips those that the file contains. Models
are recipes, classical pipelines such as ``descriptors-svm``, ``default`` for ``ASTWClassifier()``, and ``auto`` for
``ASTWAutoClassifier`` with ``--budget`` seconds. The recipes ``frozen`` and ``finetune`` need ``--weights``, the folder
of a pretrained encoder. Protocols are described in ``accuracy.py``; the test clips choose nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from accuracy import read_rows, scores
from models import NEED_WEIGHTS, append_row, fit, make_model, model_names
from protocols import PROTOCOLS, Protocol, load_protocol

#: Training clips a class.
SIZES = (2, 5, 10, 20, 50)
#: Looks of the curves; people with any colour vision can tell the colours apart (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
#: Columns that name a row.
KEY = ("protocol", "fold", "model", "clips", "draw", "seed")


def main() -> None:
    """Train and test, or report the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run_parser = commands.add_parser("run", help="train and test")
    run_parser.add_argument("--protocol", nargs="+", choices=sorted(PROTOCOLS), required=True)
    run_parser.add_argument("--model", nargs="+", choices=model_names(), required=True)
    run_parser.add_argument("--clips", nargs="+", type=int, default=SIZES, metavar="K", help="training clips a class")
    run_parser.add_argument("--draws", type=int, default=3, help="draws 0, 1, ... of training clips")
    run_parser.add_argument("--seeds", type=int, default=1, help="seeds of the model for each draw")
    run_parser.add_argument("--weights", type=Path, help="folder of a pretrained encoder")
    run_parser.add_argument("--budget", type=float, default=60.0, help="seconds of a fit of 'auto'")
    run_parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder that contains the sets")
    run_parser.add_argument("--cache-dir", type=Path, help="folder that keeps the frames of clips")
    run_parser.set_defaults(command=run)

    report_parser = commands.add_parser("report", help="print means over draws and seeds")
    report_parser.add_argument("--picture", type=Path, help="file for a picture of the same figures")
    report_parser.add_argument("--model", nargs="+", help="only these models, in this order")
    report_parser.set_defaults(command=report)

    for subparser in (run_parser, report_parser):
        subparser.add_argument("--output", type=Path, default=Path("exports/few_clips.jsonl"))
    options = parser.parse_args()
    options.command(options)


# ------------------------------------------------------------------ running


def run(options: argparse.Namespace) -> None:
    """Train and test the models, sizes and draws that the output does not contain yet."""
    done = {tuple(row[name] for name in KEY) for row in read_rows(options.output)}
    for name in options.protocol:
        protocol = load_protocol(name, options.data_dir)
        fold, (train, _) = next(iter(protocol.folds.items()))
        smallest = np.unique(protocol.labels[train], return_counts=True)[1].min()
        sizes = [size for size in options.clips if size <= smallest]

        # a draw is complete before the next one begins
        for model, draw, seed, size in product(options.model, range(options.draws), range(options.seeds), sizes):
            shown = f"{model} {options.weights.name}" if model in NEED_WEIGHTS and options.weights else model
            key = dict(zip(KEY, (name, fold, shown, size, draw, seed), strict=True))
            if tuple(key.values()) not in done:
                append_row(options.output, key | run_draw(options, protocol, fold, model, size, draw, seed))


def run_draw(
    options: argparse.Namespace, protocol: Protocol, fold: str, name: str, size: int, draw: int, seed: int
) -> dict[str, Any]:
    """Train on ``size`` clips a class, and return the scores on the test clips."""
    train, test = protocol.folds[fold]
    drawn = train[draw_clips(protocol.labels[train], protocol.groups[train], size, draw)]
    model = make_model(
        name,
        seed=1000 * seed + draw,
        cache_dir=options.cache_dir,
        weights=options.weights,
        budget=options.budget,
        cv=min(3, size),
    )

    began = time.perf_counter()
    fit(model, protocol.audio[drawn], protocol.labels[drawn], protocol.groups[drawn])
    seconds = time.perf_counter() - began

    predictions = np.asarray(model.predict(protocol.audio[test].tolist())).tolist()
    return {
        **{score: round(value, 4) for score, value in scores(protocol.labels[test], predictions).items()},
        "n_train": len(drawn),
        "n_groups": len(np.unique(protocol.groups[drawn])),
        "seconds": round(seconds, 2),
        "hash": hashlib.sha256("\n".join(predictions).encode()).hexdigest()[:16],
    }


def draw_clips(labels: np.ndarray, groups: np.ndarray, size: int, draw: int) -> np.ndarray:
    """Return the sorted positions of ``size`` clips of each class, from as many groups as possible.

    Parameters
    ----------
    labels, groups : ndarray of shape (n,)
    size : int
        Number of clips of each class.
    draw : int
        Seed of the draw.

    Returns
    -------
    ndarray of shape (size * n_classes,)
        The positions for a smaller ``size`` with the same ``draw`` are among them.
    """
    rng = np.random.default_rng(draw)
    drawn = []
    for label in np.unique(labels):
        clips = pd.Series(rng.permutation(np.flatnonzero(labels == label)))
        turn = clips.groupby(groups[clips]).cumcount()  # 0 for the first clip of each group, 1 for the second
        drawn.append(clips[turn.argsort(kind="stable")][:size])
    return np.sort(np.concatenate(drawn))


# ------------------------------------------------------------------ reporting


def report(options: argparse.Namespace) -> None:
    """Print the UAR of each protocol, model and size: mean (spread) over draws and seeds."""
    rows = pd.DataFrame(read_rows(options.output))
    if rows.empty:
        raise SystemExit(f"{str(options.output)!r} contains no rows: `run` writes them.")
    summary = summarized(rows, options.model or rows["model"].unique())
    spread = summary["spread"].map(" ({:.3f})".format).where(summary["runs"] > 1, "")
    text = summary["mean"].map("{:.3f}".format) + spread
    print(text.unstack("clips", sort=False).fillna("").to_string())
    print(f"\nruns of a cell: {summary['runs'].min()} to {summary['runs'].max()}")

    if options.picture is not None:
        draw_picture(summary, options.picture)
        print(options.picture)


def summarized(rows: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Return the mean, the spread (standard deviation) and the number of runs of each protocol, model and size."""
    scored = rows.groupby(["protocol", "model", "clips"], sort=False)["uar"]
    summary = pd.DataFrame({"mean": scored.mean(), "spread": scored.std(ddof=0), "runs": scored.size()})
    tables = [summary.loc[[protocol]].reindex(models, level="model") for protocol in rows["protocol"].unique()]
    return pd.concat(tables)


def draw_picture(summary: pd.DataFrame, path: Path) -> None:
    """Draw the UAR against the clips a class, with a panel for each protocol and bars for the spread."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    protocols, models = (summary.index.get_level_values(level).unique() for level in ("protocol", "model"))
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
    lines = {}
    for ax, protocol in zip(axes, protocols, strict=True):
        for i, model in enumerate(models):
            if (protocol, model) not in summary.index.droplevel("clips"):
                continue
            curve = summary.loc[protocol].loc[model].sort_index()
            places = curve.index * (
                1 + 0.025 * (i - (len(models) - 1) / 2)
            )  # side by side, so that bars do not overlap
            look = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 5}
            lines[model] = ax.errorbar(places, curve["mean"], curve["spread"], capsize=2, linewidth=1.5, **look)

        sizes = sorted(summary.loc[protocol].index.get_level_values("clips").unique())
        ax.set_xscale("log")
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set_xticks([], minor=True)
        ax.set(title=protocol, xlabel="training clips a class")
        ax.grid(color="0.92")

    axes[0].set_ylabel("UAR on the test clips")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(len(lines), 6), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)

    # without a date and random names, the same rows give the same file
    with rc_context({"svg.hashsalt": "few clips", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
