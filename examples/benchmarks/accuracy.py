"""Train a recipe on each fold of a protocol with each seed, and report scores on the test clips.

    python examples/benchmarks/accuracy.py run --protocol r4-21 --recipe small --seeds 3 --data-dir path/to/data
    python examples/benchmarks/accuracy.py report

A run appends a JSON line for each fold to ``--output``: scores, seconds, parameters, the predictions and their hash.
Folds that the file contains already are skipped, so a run can be resumed. ``--set`` changes single parameters;
``--ablations`` runs every entry of a file such as ``ablations.yaml`` beside this script. The test clips choose neither
epochs nor parameters.

Protocols for reporting: ``r4-21``, ``r4`` and ``r8`` (RAVDESS speech, four and eight emotions, whole actors), ``esc10``
and ``esc50`` (five folds), ``nemo`` (nEMO, five actors, one at a time), ``keywords`` (Arabic Speech Commands, unheard
speakers) and ``digits`` (the synthetic voices of the library). Protocols for choosing: ``choice`` (the other four
emotions of RAVDESS, actors 1 to 20), ``choice-channels`` (the same, each actor through a fixed filter and noise),
``nemo-choice`` (the other four actors), ``keywords-val`` and ``esc50-choice``.

The recipe ``default`` stands for ``ASTWClassifier()``, and ``auto`` for ``ASTWAutoClassifier``; ``--set`` then sets its
parameters.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from joblib import Parallel, delayed, parallel_config
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss

from skastw import ASTWAutoClassifier, ASTWClassifier
from skastw.network.model import count_parameters
from skastw.recipes import resolve_params

sys.path.insert(0, str(Path(__file__).parent))
from protocols import PROTOCOLS, Protocol, load_protocol


def main() -> None:
    """Run folds, or report their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run_parser = commands.add_parser("run", help="train and test")
    run_parser.add_argument("--protocol", choices=sorted(PROTOCOLS), required=True)
    run_parser.add_argument("--recipe", default="small", help="name of a recipe, or a YAML file")
    run_parser.add_argument("--set", nargs="*", default=[], metavar="PARAM=VALUE", help="changes, values as in YAML")
    run_parser.add_argument("--ablations", type=Path, help="YAML mapping from names to changes; each is run")
    run_parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ...")
    run_parser.add_argument("--folds", nargs="*", help="only these folds")
    run_parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="folder that contains ravdess and esc10"
    )
    run_parser.add_argument("--jobs", type=int, default=1, help="folds to run at the same time; they share the cores")
    run_parser.set_defaults(command=run)

    report_parser = commands.add_parser("report", help="print means over folds and seeds")
    report_parser.set_defaults(command=report)

    for subparser in (run_parser, report_parser):
        subparser.add_argument("--output", type=Path, default=Path("exports/accuracy.jsonl"))
    options = parser.parse_args()
    options.command(options)


# ------------------------------------------------------------------ running


def run(options: argparse.Namespace) -> None:
    """Train and test each fold with each seed, for one set of changes or for many."""
    protocol = load_protocol(options.protocol, options.data_dir)
    common = {name: yaml.safe_load(value) for name, value in (item.split("=", 1) for item in options.set)}
    ablations = {"": {}} if options.ablations is None else yaml.safe_load(options.ablations.read_text(encoding="utf-8"))
    for name, changes in ablations.items():
        run_changes(options, protocol, name, {**common, **(changes or {})})


def run_changes(options: argparse.Namespace, protocol: Protocol, name: str, changes: dict[str, Any]) -> None:
    """Train and test the folds and seeds that the output does not contain yet."""
    if options.recipe == "auto":
        recipe: Any = ASTWAutoClassifier().set_params(**changes)
    elif options.recipe == "default":
        recipe = ASTWClassifier().set_params(**resolve_params(changes, name or "--set"))
    else:
        recipe = ASTWClassifier.from_recipe(options.recipe).set_params(**resolve_params(changes, name or "--set"))
    key = {"protocol": options.protocol, "recipe": Path(options.recipe).stem, "ablation": name, "changes": changes}
    key["params"] = hashlib.sha256(repr(sorted(recipe.get_params().items())).encode()).hexdigest()[:12]
    done = {json.dumps([row[k] for k in (*key, "fold", "seed")]) for row in read_rows(options.output)}
    todo = [
        (fold, seed)
        for seed in range(options.seeds)
        for fold in options.folds or protocol.folds
        if json.dumps([*key.values(), fold, seed]) not in done
    ]

    # append each row at once, so that an interrupted run can be resumed
    options.output.parent.mkdir(parents=True, exist_ok=True)
    tasks = (delayed(run_fold)(recipe, protocol, fold, seed) for fold, seed in todo)
    with parallel_config("loky", n_jobs=options.jobs):
        for row in Parallel(return_as="generator_unordered")(tasks):
            line = json.dumps({**key, **row})
            with open(options.output, "a", encoding="utf-8") as file:
                file.write(line + "\n")
            print(
                {**key, **{name: value for name, value in row.items() if not isinstance(value, list)}},
                flush=True,
            )


def run_fold(recipe: Any, protocol: Protocol, fold: str, seed: int) -> dict[str, Any]:
    """Train and test on a fold; return a row with its scores and predictions."""
    train, test = protocol.folds[fold]
    clf = recipe.set_params(random_state=seed)
    began = time.perf_counter()
    clf.fit(protocol.audio[train].tolist(), protocol.labels[train], groups=protocol.groups[train])
    trained = time.perf_counter()

    probabilities = clf.predict_proba(protocol.audio[test].tolist())
    predictions = clf.classes_[probabilities.argmax(axis=1)].tolist()
    model = clf if isinstance(clf, ASTWClassifier) else clf.best_estimator_
    selected = {} if model is clf else {"selected": clf.table_.loc[clf.table_["selected"], "model"].item()}
    seconds = {"train": trained - began, "predict_one": (time.perf_counter() - trained) / len(test)}

    return {
        "fold": fold,
        "seed": seed,
        **scores(protocol.labels[test], predictions),
        "log_loss": log_loss(protocol.labels[test], probabilities, labels=clf.classes_),
        "n_train": len(train),
        "n_test": len(test),
        "epochs": model.n_epochs_,
        **selected,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "n_parameters": count_parameters(model.model_),
        "hash": hashlib.sha256("\n".join(predictions).encode()).hexdigest()[:16],
        "labels": protocol.labels[test].tolist(),
        "predictions": predictions,
        "classes": clf.classes_.tolist(),
        "probabilities": probabilities.astype(float).round(3).tolist(),
    }


def scores(labels: Any, predictions: Any) -> dict[str, float]:
    """Return accuracy, UAR (balanced accuracy) and macro-F1."""
    return {
        "accuracy": accuracy_score(labels, predictions),
        "uar": balanced_accuracy_score(labels, predictions),
        "macro_f1": f1_score(labels, predictions, average="macro"),
    }


# ------------------------------------------------------------------ reporting


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows that were written so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report(options: argparse.Namespace) -> None:
    """Print a line for each protocol, recipe and change: scores of the pooled predictions, mean (spread) over seeds."""
    rows = pd.DataFrame(read_rows(options.output))
    if rows.empty:
        raise SystemExit(f"{str(options.output)!r} contains no rows: `run` writes them.")

    # an ablation is listed by its name, and other changes by their values
    named = rows["ablation"].astype(bool)
    rows["changes"] = rows["ablation"].where(named, rows["changes"].map(lambda c: json.dumps(c) if c else ""))
    lines = []
    for (protocol, recipe, changes, _), group in rows.groupby(["protocol", "recipe", "changes", "params"], sort=False):
        by_seed = pd.DataFrame([pooled(seed) for _, seed in group.groupby("seed")])
        line = {"protocol": protocol, "recipe": recipe, "changes": changes}
        line |= {"seeds": len(by_seed), "folds": group["fold"].nunique()}
        line |= {name: f"{column.mean():.3f} ({column.std(ddof=0):.3f})" for name, column in by_seed.items()}
        line["uar of the seeds' mean"] = f"{pooled(over_seeds(group))['uar']:.3f}"
        line["seconds"] = f"{np.median([s['train'] for s in group['seconds']]):.0f}"
        line["parameters"] = group["n_parameters"].iloc[0]
        lines.append(line)
    print(pd.DataFrame(lines).to_string(index=False))


def pooled(rows: pd.DataFrame) -> dict[str, float]:
    """Return the scores of the folds of a seed: of all predictions together, and as means over folds."""
    together = scores(np.concatenate([*rows["labels"]]), np.concatenate([*rows["predictions"]]))
    return together | {"fold_accuracy": rows["accuracy"].mean(), "log_loss": rows["log_loss"].mean()}


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a model that averages the probabilities of all seeds."""
    averaged = []
    for _, fold in rows.groupby("fold"):
        row = fold.iloc[0].copy()
        probabilities = np.mean([*fold["probabilities"]], axis=0)
        row["predictions"] = np.array(row["classes"])[probabilities.argmax(axis=1)].tolist()
        averaged.append(row)
    return pd.DataFrame(averaged)


if __name__ == "__main__":
    main()
