"""Shared by the examples of ESC-50: train on four of the five folds, and test on the other one."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from skastw import ASTWClassifier
from skastw.evaluation import evaluate
from skastw.recipes import recipe_names
from skastw.runs import load_clips


def train(description: str | None, *, subset: str, epochs: int) -> None:
    """Train on some of the classes; the arguments are the defaults of the command line."""
    parser = _parser(description, subset, fold="test fold")
    parser.add_argument("--output-dir", default=f"exports/esc50_{subset}", help="folder for the model")
    parser.add_argument("--recipe", choices=recipe_names(), default="astw", help="recipe that the options change")
    parser.add_argument("--epochs", type=int, default=epochs, help="passes over the clips")
    parser.add_argument("--batch-size", type=int, default=8, help="clips per step")
    parser.add_argument("--pooling", default="mean", help="mean, max or attentive_stats")
    parser.add_argument("--device", default="auto", help="where to train")
    parser.add_argument("--random-state", type=int, default=42, help="seed")
    args = parser.parse_args()

    clips = load_clips({"set": f"esc50:{args.subset}", "data_home": args.data_dir})
    known, _ = clips.split({"test_fold": args.test_fold})
    print(f"{len(known.y)} training clips of {len(set(known.groups))} recordings")

    clf = ASTWClassifier.from_recipe(args.recipe).set_params(
        epochs=args.epochs,
        min_steps=0,
        batch_size=args.batch_size,
        pooling=args.pooling,
        device=args.device,
        random_state=args.random_state,
        n_jobs=2,
        verbose=1,
    )
    began = time.perf_counter()
    clf.fit(known.X, known.y, groups=known.groups)
    seconds = time.perf_counter() - began
    print(f"{clf.n_epochs_} epochs in {seconds:.0f} s; the weights are from epoch {clf.best_epoch_}")
    print(f"saved {clf.save_pretrained(args.output_dir)}")


def test(description: str | None, *, subset: str, output_dir: Path) -> None:
    """Test a saved model, and write a report with scores and plots; the arguments are defaults, as in ``train``."""
    parser = _parser(description, subset, fold="test fold, as in 0_train.py")
    parser.add_argument("--model", default=f"exports/esc50_{subset}", help="saved folder, or repository of the Hub")
    parser.add_argument("--output-dir", type=Path, default=output_dir, help="folder for the report")
    args = parser.parse_args()

    clips = load_clips({"set": f"esc50:{args.subset}", "data_home": args.data_dir})
    _, unheard = clips.split({"test_fold": args.test_fold})
    clf = ASTWClassifier.from_pretrained(args.model)
    result = evaluate(clf, unheard.X, unheard.y, groups=unheard.groups)

    title = f"ESC-50 ({args.subset}), tested on fold {args.test_fold}"
    result.save(args.output_dir, title=title, about={"model": args.model, "test fold": args.test_fold})
    print(result.per_class.round(3).to_string())
    print(result)
    print(f"wrote {args.output_dir}/report.html, metrics.json and the plots")


def _parser(description: str | None, subset: str, *, fold: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that both scripts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder of ESC-50; downloaded if missing")
    parser.add_argument("--subset", choices=["animals", "transport", "esc10"], default=subset, help="classes")
    parser.add_argument("--test-fold", type=int, choices=range(1, 6), default=1, help=fold)
    return parser
