"""Search 20 candidates in 5 folds without ``cache_dir``, with an empty folder, and with the folder of an earlier run.

Counts the decoded clips, compares the processor times, on which other programs have little effect, and checks that the
scores are the same. The network is small and trains for a few epochs, as in a first search over many candidates.

    python examples/benchmarks/cache.py --protocol esc10 --clips 40 --data-dir path/to/data
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from protocols import PROTOCOLS, load_protocol
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from skastw import ASTWClassifier
from skastw.audio import isolation
from skastw.encoders import RNNEncoder

FOLDS = 5
GRID = {"adam_lr": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], "label_smoothing": [0.0, 0.1], "weight_decay": [0.0, 0.01]}


def main() -> None:
    """Run the three searches, print a line for each, and exit with status 1 if a score differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="digits")
    parser.add_argument("--clips", type=int, default=40, help="number of clips, some of each class")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of recordings; not for digits")
    options = parser.parse_args()

    protocol = load_protocol(options.protocol, options.data_dir)
    everything = np.arange(len(protocol.audio))
    chosen, _ = train_test_split(everything, train_size=options.clips, stratify=protocol.labels, random_state=0)
    X, y = protocol.audio[chosen], protocol.labels[chosen]

    with tempfile.TemporaryDirectory() as folder:
        searches = {"without cache_dir": None, "an empty folder": folder, "the folder of an earlier run": folder}
        results = {name: search(X, y, options.epochs, cache_dir) for name, cache_dir in searches.items()}
        megabytes = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6

    [plain, *others] = results.values()
    print(f"{'cache_dir':<30} {'decodes':>8} {'seconds':>8} {'ratio':>6}")
    for name, (_, n_decodes, seconds) in results.items():
        print(f"{name:<30} {n_decodes:>8} {seconds:>8.1f} {plain[2] / seconds:>6.2f}")

    same = all(np.array_equal(scores, plain[0]) for scores, _, _ in others)
    print(f"{len(X)} clips, {megabytes:.1f} MB in the folder; scores: {'the same' if same else 'DIFFERENT'}")
    sys.exit(0 if same else 1)


def search(X: np.ndarray, y: np.ndarray, epochs: int, cache_dir: str | None) -> tuple[np.ndarray, int, float]:
    """Return the score of each candidate in each fold, the number of decoded clips, and the processor time (s)."""
    clf = ASTWClassifier(
        encoder=RNNEncoder(hidden=32), epochs=epochs, val_split=None, device="cpu", cache_dir=cache_dir
    )
    cv = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    n_decodes, decode = 0, isolation.decode

    def counted(*args, **options):
        nonlocal n_decodes
        n_decodes += 1
        return decode(*args, **options)

    isolation.decode = counted
    began = time.process_time()
    try:
        results = GridSearchCV(clf, GRID, cv=cv, refit=False, error_score="raise").fit(X, y).cv_results_
    finally:
        isolation.decode = decode
    seconds = time.process_time() - began
    return np.array([results[f"split{fold}_test_score"] for fold in range(FOLDS)]), n_decodes, seconds


if __name__ == "__main__":
    main()
