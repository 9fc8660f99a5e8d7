"""
Search for parameters, voice by voice
=====================================

``GridSearchCV`` sets parameters of the components by name, and ``StratifiedGroupKFold`` keeps every voice on one side
of each split.
"""

# %%
# To save time, this example uses three of the digits and ten of the voices.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from skastw import ASTWClassifier
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder

clips = load_spoken_digits()
chosen = np.isin(clips.target, ["one", "five", "nine"]) & np.isin(clips.groups, np.unique(clips.groups)[:10])
X, y, voices = np.array(clips.data)[chosen], clips.target[chosen], clips.groups[chosen]

# %%
# ``encoder__d_model`` is a parameter of the encoder, and ``pooling`` a whole component.

clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=8, val_split=None)
grid = {"encoder__d_model": [8, 32], "pooling": ["mean", "attentive_stats"]}
search = GridSearchCV(clf, grid, cv=StratifiedGroupKFold(2), scoring="balanced_accuracy", refit=False)
search.fit(X, y, groups=voices)
print(search.best_params_)

# %%
# Each point is a fold. If the folds differ as much as the candidates, the search does not show which one is better.
# The best score of a search is slightly optimistic, because the search selects the highest one.

results = pd.DataFrame(search.cv_results_).sort_values("mean_test_score")
names = [f"{p['pooling']}, d_model {p['encoder__d_model']}" for p in results["params"]]

figure, axes = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
axes.barh(names, results["mean_test_score"], color="#9ec5e8", label="mean")
for fold in range(search.n_splits_):
    axes.plot(results[f"split{fold}_test_score"], names, "o", color="#1f4e79", label="a fold" if fold == 0 else None)
axes.axvline(1 / 3, color="0.5", linestyle="--", label="guessing")
axes.set(xlim=(0, 1.02), xlabel="UAR on unheard voices")
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()
