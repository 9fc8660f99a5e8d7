"""Evaluate the saved model on the held-out actors; write metrics.json and confusion_matrix.png.

python examples/speech_emotion/1_test.py --data-dir path/to/ravdess
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from ravdess import find_clips
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    accuracy_score,
    balanced_accuracy_score,
    classification_report,
    f1_score,
)

from skastw import ASTWClassifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds Actor_01, Actor_02, ...")
    parser.add_argument("--model", default="exports/speech_emotion", help="saved folder, or repository of the Hub")
    parser.add_argument("--output-dir", type=Path, default=Path("exports/speech_emotion_test"))
    parser.add_argument("--test-actors", type=int, nargs="+", default=[21, 22, 23, 24])
    args = parser.parse_args()

    clips = find_clips(args.data_dir)
    test = clips[clips.actor.isin(args.test_actors)]
    clf = ASTWClassifier.from_pretrained(args.model)
    predicted = clf.predict(test.audio)

    metrics = {
        "test_actors": args.test_actors,
        "n_clips": len(test),
        "accuracy": accuracy_score(test.emotion, predicted),
        "macro_f1": f1_score(test.emotion, predicted, average="macro"),
        "uar": balanced_accuracy_score(test.emotion, predicted),
        "report": classification_report(test.emotion, predicted, output_dict=True, zero_division=0.0),
    }
    args.output_dir.mkdir(parents=True, exist_ok=True)
    (args.output_dir / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")

    ConfusionMatrixDisplay.from_predictions(test.emotion, predicted, cmap="Blues", colorbar=False)
    plt.title(f"RAVDESS, actors {', '.join(map(str, args.test_actors))} unheard in training")
    plt.tight_layout()
    plt.savefig(args.output_dir / "confusion_matrix.png", dpi=150)

    print(classification_report(test.emotion, predicted, zero_division=0.0))
    print(f"accuracy {metrics['accuracy']:.3f}, macro-F1 {metrics['macro_f1']:.3f}, UAR {metrics['uar']:.3f}")
    print(f"wrote {args.output_dir / 'metrics.json'} and {args.output_dir / 'confusion_matrix.png'}")


if __name__ == "__main__":
    main()
