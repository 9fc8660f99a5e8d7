"""
Train, and test on unheard voices
=================================

A classifier of spoken digits should work for people who are not in its training clips. Therefore this example holds out
whole voices for the test, and ``fit`` holds out further voices to choose the best epoch.
"""

# %%
# The recordings are part of the library: ten digits, twenty voices, two takes each.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import ConfusionMatrixDisplay, balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold

from skastw import ASTWClassifier
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder

clips = load_spoken_digits()
X, y, voices = np.array(clips.data), clips.target, clips.groups

folds = StratifiedGroupKFold(4, shuffle=True, random_state=0)
train, test = next(folds.split(X, y, voices))
print(f"{len(train)} training clips, {len(test)} test clips; test voices: {', '.join(np.unique(voices[test]))}")

# %%
# ``groups`` tells ``fit`` which clips belong together. The small encoder trains in seconds.

clf = ASTWClassifier(encoder=ASTWEncoder(d_model=32, num_heads=2, num_layers=1), epochs=15)
clf.fit(X[train], y[train], groups=voices[train])

# %%
# ``history_`` has a row for each epoch. The model keeps the weights of the best epoch.

history = pd.DataFrame(clf.history_)
axes = history.plot(x="epoch", y=["loss", "val_loss"], ylabel="cross-entropy", figsize=(6, 3.2))
axes.axvline(clf.best_epoch_, color="0.6", linestyle="--", label="best epoch")
axes.legend(["training", "validation voices", "best epoch"])
plt.tight_layout()

# %%
# The confusion matrix of the test voices:

# sphinx_gallery_thumbnail_number = 2

predicted = clf.predict(X[test])
uar = balanced_accuracy_score(y[test], predicted)
figure, axes = plt.subplots(figsize=(6, 5.5), layout="constrained")
ConfusionMatrixDisplay.from_predictions(
    y[test], predicted, labels=clips.target_names, cmap="Blues", colorbar=False, xticks_rotation=45, ax=axes
)
axes.set_title(f"Unheard voices: UAR {uar:.2f}")
plt.show()
