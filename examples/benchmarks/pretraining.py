"""Compare training from random weights with pretraining on the same clips, on folds of a protocol.

    python examples/benchmarks/pretraining.py run --protocol choice --folds 5-8 9-12 --data-dir path/to/data
    python examples/benchmarks/pretraining.py report

Five ways to use the training clips of a fold:

=========  ==========================================================================================================
``none``    train on the labels for ``--epochs`` epochs
``longer``  the same for as many more epochs as the pretraining has
``train``   pretrain on the training clips for ``--pretraining-epochs``, then train all weights on the labels
``more``    pretrain also on clips of other classes by the speakers of the training clips (RAVDESS only), then train
``probe``   pretrain as in ``train``, then train the head alone
=========  ==========================================================================================================

A run appends a JSON line for each fold, seed and way to ``--output``. Lines that the file contains already are skipped,
so a run can be resumed. ``--set`` changes parameters of both estimators, ``--set-pretrainer`` only of the pretrainer.
Nothing is trained on test clips or on other clips of the test speakers, with labels or without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import yaml

from skastw import ASTWClassifier, ASTWPretrainer

sys.path.insert(0, str(Path(__file__).parent))
from accuracy import read_rows, scores
from protocols import PROTOCOLS, Protocol, load_protocol

WAYS = ("none", "longer", "train", "more", "probe")
#: Protocols on some classes of a data set, and the protocol on all its classes.
WHOLE = {"choice": "r8", "r4": "r8", "r4-21": "r8"}
#: A network that trains in minutes on one core.
SMALL = {"encoder__d_model": 128, "encoder__num_heads": 2, "encoder__num_layers": 3}


def main() -> None:
    """Run folds, or report their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run_parser = commands.add_parser("run", help="train and test")
    run_parser.add_argument("--protocol", choices=sorted(PROTOCOLS), required=True)
    run_parser.add_argument("--folds", nargs="*", help="only these folds")
    run_parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    run_parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ...")
    run_parser.add_argument("--epochs", type=int, default=30, help="epochs on labels")
    run_parser.add_argument("--pretraining-epochs", type=int, default=30)
    run_parser.add_argument("--set", nargs="*", default=[], metavar="PARAM=VALUE", help="changes, values as in YAML")
    run_parser.add_argument("--set-pretrainer", nargs="*", default=[], metavar="PARAM=VALUE")
    run_parser.add_argument("--data-dir", type=Path, default=Path("data"))
    run_parser.set_defaults(command=run)

    report_parser = commands.add_parser("report", help="print the scores of each way")
    report_parser.set_defaults(command=report)

    for subparser in (run_parser, report_parser):
        subparser.add_argument("--output", type=Path, default=Path("exports/pretraining.jsonl"))
    options = parser.parse_args()
    options.command(options)


def run(options: argparse.Namespace) -> None:
    """Train and test what the output does not contain yet."""
    protocol = load_protocol(options.protocol, options.data_dir)
    whole = load_protocol(WHOLE[options.protocol], options.data_dir) if options.protocol in WHOLE else None
    ways = [way for way in options.ways if way != "more" or whole is not None]
    common = {"val_split": None, "keep": "last", "teacher": None, **SMALL, **_changes(options.set)}
    of_pretrainer = _changes(options.set_pretrainer)
    epochs = {"epochs": options.epochs, "pretraining_epochs": options.pretraining_epochs}

    options.output.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for fold in options.folds or protocol.folds:
            train, _ = protocol.folds[fold]
            clips = {"train": protocol.audio[train].tolist()}
            if whole is not None:
                clips["more"] = clips["train"] + _other_classes(whole, protocol, train)

            with TemporaryDirectory() as folder:

                @cache
                def pretrained(name: str, folder: str = folder, clips: Any = clips, seed: int = seed) -> Any:
                    params = {**common, **of_pretrainer, "epochs": options.pretraining_epochs, "random_state": seed}
                    return _pretrained(clips[name], params, Path(folder, name))

                for way in ways:
                    key = {"protocol": options.protocol, "way": way, **epochs, "changes": common}
                    key |= {"pretrainer": of_pretrainer, "fold": fold, "seed": seed}
                    rows = read_rows(options.output)
                    if any(all(row.get(name) == value for name, value in key.items()) for row in rows):
                        continue
                    start = pretrained("more" if way == "more" else "train") if way in WAYS[2:] else {}
                    row = {**key, **_trained(way, start, protocol, fold, {**common, "random_state": seed}, options)}
                    with open(options.output, "a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)


def _changes(items: list[str]) -> dict[str, Any]:
    return {name: yaml.safe_load(value) for name, value in (item.split("=", 1) for item in items)}


def _other_classes(whole: Protocol, protocol: Protocol, train: np.ndarray) -> list[str]:
    """Return the clips of other classes by the speakers of the training clips."""
    is_heard = np.isin(whole.groups, protocol.groups[train])
    return whole.audio[is_heard & ~np.isin(whole.audio, protocol.audio)].tolist()


def _pretrained(clips: list[str], params: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Pretrain; return the folder of the model, its last loss and the seconds."""
    began = time.perf_counter()
    pretrainer = ASTWPretrainer().set_params(**params).fit(clips)
    seconds = time.perf_counter() - began
    return {
        "init_from": pretrainer.save_pretrained(folder),
        "n_pretraining": len(clips),
        "pretraining_loss": pretrainer.history_[-1]["loss"],
        "pretraining_seconds": round(seconds, 1),
    }


def _trained(
    way: str, start: dict[str, Any], protocol: Protocol, fold: str, params: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Train on the labels of a fold; return the scores on its test clips, and the cost."""
    train, test = protocol.folds[fold]
    epochs = options.epochs + (options.pretraining_epochs if way == "longer" else 0)
    clf = ASTWClassifier().set_params(**params, epochs=epochs, init_from=start.get("init_from"))
    clf.set_params(init_train="none" if way == "probe" else "all")

    began = time.perf_counter()
    clf.fit(protocol.audio[train].tolist(), protocol.labels[train], groups=protocol.groups[train])
    seconds = time.perf_counter() - began
    predictions = clf.predict(protocol.audio[test].tolist()).tolist()
    return {
        **scores(protocol.labels[test], predictions),
        "loss": clf.history_[-1]["loss"],
        "n_train": len(train),
        "n_test": len(test),
        "seconds": round(seconds, 1),
        **{name: value for name, value in start.items() if name != "init_from"},
        "hash": hashlib.sha256("\n".join(predictions).encode()).hexdigest()[:16],
    }


def report(options: argparse.Namespace) -> None:
    """Print the mean accuracy and UAR over the folds and seeds of each way."""
    table = pd.DataFrame(read_rows(options.output))
    table["changes"] = table["changes"].map(json.dumps) + table["pretrainer"].map(json.dumps)
    by = ["changes", "epochs", "pretraining_epochs", "protocol", "way"]
    columns = {"accuracy": ("accuracy", "mean"), "uar": ("uar", "mean"), "seconds": ("seconds", "mean")}
    summary = table.groupby(by, sort=False).agg(**columns, runs=("fold", "size"))
    for changes, part in summary.groupby(level="changes", sort=False):
        print(changes, part.droplevel("changes").round(3).to_string(), "", sep="\n")


if __name__ == "__main__":
    main()
