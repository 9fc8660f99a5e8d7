"""
The baseline: statistics of the spectrum and an SVM
===================================================

``ASTWFeaturizer(output="statistics")`` computes a table with a row for each clip, for any classical model. Such a model
trains in seconds and is the baseline for a network.

The second half shows why the meaning of a score depends on the split.
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
# The statistics of a clip do not depend on other clips, so they can be computed once, before the splits. The scaler and
# the SVM learn from the clips, so they are inside the pipeline.

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
# The statistics identify the voices well, and with a split by clip the model can use this: its score for the digits is
# for voices that it has heard. On unheard voices the score is lower, and this is the score to report.

figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
means = [np.mean(values) for values in scores.values()]
bars = axes.barh(list(scores), means, color=["0.75", "#1f4e79", "#9ec5e8", "#e8c49e"])
axes.bar_label(bars, fmt="%.2f", padding=3)
axes.set(xlim=(0, 1.1), xlabel="accuracy, mean over four folds")
plt.show()
