"""Compare how well labels are recognised within a speaker and across speakers.

    python examples/benchmarks/within_speaker.py --data-dir path/to/nemo

A large difference means that something other than the labels tells the labels of a speaker apart, such as the
microphone of the hour in which each label was recorded. The folder has a ``metadata.csv`` with the columns ``file``,
``label``, ``group`` (the speaker) and ``sentence``. The model is the classical pipeline ``descriptors-logistic``.
Within a speaker, it is tested on sentences that it was not trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_predict

from skastw import ASTWFeaturizer
from skastw.estimators.baselines import make_baseline


def main() -> None:
    """Print the UAR of each speaker, within and across."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()

    table = pd.read_csv(options.data_dir / "metadata.csv")
    labels, speakers, sentences = (table[name].to_numpy(str) for name in ("label", "group", "sentence"))
    vectors = ASTWFeaturizer(output="descriptors").fit_transform([options.data_dir / file for file in table["file"]])

    scaler_and_model = make_baseline("descriptors-logistic")[1:]  # the descriptors are computed once
    across = cross_val_predict(scaler_and_model, vectors, labels, cv=LeaveOneGroupOut(), groups=speakers)
    for speaker in np.unique(speakers):
        own = speakers == speaker
        within = cross_val_predict(scaler_and_model, vectors[own], labels[own], cv=GroupKFold(5), groups=sentences[own])
        scores = [balanced_accuracy_score(labels[own], found) for found in (within, across[own])]
        print(f"{speaker}: within {scores[0]:.3f}, across {scores[1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
