"""Train on spoken digits, test on held-out voices, save the model, and draw the confusion matrix.

python examples/quickstart.py --output-dir exports/quickstart
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, classification_report
from sklearn.model_selection import StratifiedGroupKFold

from skastw import ASTWClassifier
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output-dir", type=Path, default=Path("exports/quickstart"))
    folder = parser.parse_args().output_dir

    clips = load_spoken_digits()
    X, y, voices = np.array(clips.data), clips.target, clips.groups
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
    train, test = next(folds.split(X, y, voices))
    print(f"{len(train)} training clips; test voices: {', '.join(sorted(set(voices[test])))}")

    clf = ASTWClassifier(encoder=ASTWEncoder(d_model=128, num_heads=4, num_layers=3), epochs=30, verbose=1)
    began = time.perf_counter()
    clf.fit(X[train], y[train], groups=voices[train])
    print(f"trained in {time.perf_counter() - began:.0f} s; the best epoch is {clf.best_epoch_}")

    predicted = clf.predict(X[test])
    print(classification_report(y[test], predicted, digits=3))

    clf.save_pretrained(folder)
    labels = clips.target_names
    ConfusionMatrixDisplay.from_predictions(y[test], predicted, labels=labels, cmap="Blues", colorbar=False)
    plt.xticks(rotation=45)
    plt.title("Spoken digits, unheard voices")
    plt.tight_layout()
    picture = folder.with_name("confusion_matrix.png")
    plt.savefig(picture, dpi=150)
    print(f"wrote {folder}/ and {picture}")


if __name__ == "__main__":
    main()
