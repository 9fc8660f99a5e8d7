"""Train in bfloat16 and in float32 on the same recordings, and compare the scores on unheard speakers.

RAVDESS with four emotions: actors 21 to 24 are the test, and four of the other actors choose the epoch. Each seed draws
its own weights, split, order and augmentations, the same for both formats.

    python examples/benchmarks/precision.py --data-dir path/to/data --epochs 8 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.datasets import fetch_dataset


def main() -> None:
    """Train each format with each seed; print a line for each run, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of RAVDESS; downloaded if missing")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precisions", nargs="+", default=["auto", "float32"])
    options = parser.parse_args()

    clips = fetch_dataset("ravdess", emotions=["neutral", "calm", "angry", "surprised"], data_home=options.data_dir)
    frames = np.empty(len(clips.data), dtype=object)
    frames[:] = ASTWFeaturizer().fit_transform(clips.data)
    test = clips.groups > 20

    scores: dict[str, list[list[float]]] = {precision: [] for precision in options.precisions}
    for seed in options.seeds:
        for precision in options.precisions:
            clf = ASTWClassifier(features="precomputed", epochs=options.epochs, precision=precision, random_state=seed)
            clf.fit(frames[~test], clips.target[~test], groups=clips.groups[~test])
            truth, predicted = clips.target[test], clf.predict(frames[test])
            run = {
                "accuracy": accuracy_score(truth, predicted),
                "macro_f1": f1_score(truth, predicted, average="macro"),
                "uar": balanced_accuracy_score(truth, predicted),
                "seconds": float(np.median([row["seconds"] for row in clf.history_])),
            }
            scores[precision].append(list(run.values()))
            print(json.dumps({"precision": precision, "seed": seed, **run}), flush=True)

    print(f"{'precision':<10} {'accuracy':>16} {'macro-F1':>16} {'UAR':>16} {'s per epoch':>16}")
    for precision, runs in scores.items():
        values = np.array(runs)
        columns = (f"{m:.3f} ({s:.3f})" for m, s in zip(values.mean(axis=0), values.std(axis=0), strict=True))
        print(f"{precision:<10} " + " ".join(f"{column:>16}" for column in columns))


if __name__ == "__main__":
    main()
