"""Search for hyper-parameters on RAVDESS with folds of whole actors: an SVM on statistics, and a small network.

    python examples/speech_emotion/2_grid_search.py --data-dir path/to/ravdess

The best score of a search is slightly optimistic, because the search selects the highest score. Nested cross-validation
avoids this; see the page "With scikit-learn" of the documentation.
"""

from __future__ import annotations

import argparse
import tempfile
import time

from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.encoders import ASTWEncoder
from skastw.runs import load_clips


def statistics_and_svm(cache: str) -> tuple[Pipeline, dict]:
    """Return the classical baseline and its grid; ``cache`` is a folder for the statistics of each fold."""
    steps = [("statistics", ASTWFeaturizer(output="statistics")), ("scale", StandardScaler()), ("svm", SVC())]
    return Pipeline(steps, memory=cache), {"svm__C": [0.3, 1.0, 3.0, 10.0], "svm__gamma": ["scale", 0.001]}


def small_network(cache: str, epochs: int) -> tuple[Pipeline, dict]:
    """Return the network after a featurizer, and its grid; ``cache`` is a folder for the frames of each fold."""
    encoder = ASTWEncoder(d_model=96, num_heads=4, num_layers=2)
    network = ASTWClassifier(features="precomputed", encoder=encoder, epochs=epochs)
    grid = {"network__encoder__d_model": [64, 96]}
    return Pipeline([("frames", ASTWFeaturizer()), ("network", network)], memory=cache), grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", help="folder that contains Actor_01, Actor_02, ...; downloaded if missing")
    parser.add_argument("--folds", type=int, default=3, help="folds of whole actors")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the network")
    parser.add_argument("--n-jobs", type=int, default=2)
    args = parser.parse_args()

    clips = load_clips({"set": "ravdess:neutral,calm,angry,surprised", "data_home": args.data_dir})
    folds = StratifiedGroupKFold(args.folds, shuffle=True, random_state=0)
    print(f"{len(clips.y)} clips of {len(set(clips.groups))} actors, {args.folds} folds of whole actors")
    with tempfile.TemporaryDirectory() as cache:
        searches = {"statistics + SVM": statistics_and_svm(cache), "small network": small_network(cache, args.epochs)}
        for name, (model, grid) in searches.items():
            search = GridSearchCV(model, grid, cv=folds, scoring="balanced_accuracy", n_jobs=args.n_jobs)
            began = time.perf_counter()
            search.fit(clips.X, clips.y, groups=clips.groups)
            seconds = time.perf_counter() - began
            spread = search.cv_results_["std_test_score"][search.best_index_]
            print(
                f"{name}: UAR {search.best_score_:.3f} (spread over folds {spread:.3f}) in {seconds:.0f} s", flush=True
            )
            print(f"    best of {len(search.cv_results_['params'])} candidates: {search.best_params_}", flush=True)


if __name__ == "__main__":
    main()
