"""
The baseline: statistics of the spectrum and an SVM
===================================================

``ASTWFeaturizer(output="statistics")`` makes a table with one row a clip, so any classical model can follow. It trains
in seconds, and a network has to beat it.

The second half shows why the way of splitting decides what the number means.
"""

# %%
# An SVM in a pipeline
# --------------------

import matplotlib.pyplot as plt
import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skastw import ASTWFeaturizer
from skastw.datasets import load_spoken_digits

clips = load_spoken_digits()
table = ASTWFeaturizer(output="statistics").set_output(transform="pandas").fit_transform(clips.data)
table.iloc[:3, :4].round(2)

# %%
# The statistics of a clip depend on no other clip, so they may be computed once, before the splits. What learns from
# the clips, the scaler and the SVM, is inside the pipeline.

model = make_pipeline(StandardScaler(), SVC(C=10))

# %%
# Who says it, or what is said?
# -----------------------------
# The same model learns two things: the digit, and the voice. Splits by voice are only possible for the digit.

by_clip = StratifiedKFold(4, shuffle=True, random_state=0)
by_voice = StratifiedGroupKFold(4, shuffle=True, random_state=0)
scores = {
    "digit, guessing": cross_val_score(DummyClassifier(), table, clips.target, cv=by_clip),
    "digit, unheard voices": cross_val_score(model, table, clips.target, groups=clips.groups, cv=by_voice),
    "digit, split by clip": cross_val_score(model, table, clips.target, cv=by_clip),
    "voice, split by clip": cross_val_score(model, table, clips.groups, cv=by_clip),
}

# %%
# The table knows the voices well, and a split by clip lets the model use that: its score for the digit is that of
# voices which it has heard. On new voices it does worse, and that is the score to report.

figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
means = [np.mean(values) for values in scores.values()]
bars = axes.barh(list(scores), means, color=["0.75", "#1f4e79", "#9ec5e8", "#e8c49e"])
axes.bar_label(bars, fmt="%.2f", padding=3)
axes.set(xlim=(0, 1.1), xlabel="accuracy, mean over four folds")
plt.show()
