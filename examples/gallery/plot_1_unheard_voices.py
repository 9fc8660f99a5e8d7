"""
Train, and test on voices never heard
=====================================

A classifier of spoken digits is worth what it does for people whom it has not heard. So whole voices are set aside for
the test, and ``fit`` chooses its best epoch on further voices that it does not train on.
"""

# %%
# The recordings come with the library: ten digits, twenty voices, two takes each.

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
print(f"{len(train)} clips train, {len(test)} test; never heard: {', '.join(np.unique(voices[test]))}")

# %%
# ``groups`` tells ``fit`` which clips belong together. The encoder is a small one, which trains in seconds.

clf = ASTWClassifier(encoder=ASTWEncoder(d_model=32, num_heads=2, num_layers=1), epochs=15)
clf.fit(X[train], y[train], groups=voices[train])

# %%
# ``history_`` has a row for each epoch. The weights of the best one were kept.

history = pd.DataFrame(clf.history_)
axes = history.plot(x="epoch", y=["loss", "val_loss"], ylabel="cross-entropy", figsize=(6, 3.2))
axes.axvline(clf.best_epoch_, color="0.6", linestyle="--", label="best epoch")
axes.legend(["training", "validation voices", "best epoch"])
plt.tight_layout()

# %%
# The confusion matrix of the voices that were never heard:

# sphinx_gallery_thumbnail_number = 2

predicted = clf.predict(X[test])
uar = balanced_accuracy_score(y[test], predicted)
figure, axes = plt.subplots(figsize=(6, 5.5), layout="constrained")
ConfusionMatrixDisplay.from_predictions(
    y[test], predicted, labels=clips.target_names, cmap="Blues", colorbar=False, xticks_rotation=45, ax=axes
)
axes.set_title(f"Unheard voices: UAR {uar:.2f}")
plt.show()
