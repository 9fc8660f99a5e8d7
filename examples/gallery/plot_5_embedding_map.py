"""
A map of embeddings
===================

``transform`` returns what the last layer classifies: one vector a clip. Two principal components of it make a map, here
of voices that the model never heard.
"""

# %%
# Five digits keep this short. Five of the voices are set aside.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier

from skastw import ASTWClassifier
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder

clips = load_spoken_digits()
digits = clips.target_names[:5]
chosen = np.isin(clips.target, digits)
X, y, voices = np.array(clips.data)[chosen], clips.target[chosen], clips.groups[chosen]
train, test = next(StratifiedGroupKFold(4, shuffle=True, random_state=0).split(X, y, voices))

clf = ASTWClassifier(encoder=ASTWEncoder(d_model=32, num_heads=2, num_layers=1), epochs=15)
clf.fit(X[train], y[train], groups=voices[train])

# %%
# The components are those of the training clips; the unheard voices are only projected.

known, unheard = clf.transform(X[train]), clf.transform(X[test])
pca = PCA(n_components=2).fit(known)
points = pca.transform(unheard)

figure, axes = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
for digit in digits:
    axes.scatter(*points[y[test] == digit].T, label=digit, s=30, alpha=0.8)
axes.set(
    xlabel=f"first component ({pca.explained_variance_ratio_[0]:.0%} of the variance)",
    ylabel=f"second component ({pca.explained_variance_ratio_[1]:.0%})",
    title="Spoken digits by unheard voices",
)
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)

# %%
# A map of two dimensions hides the others. In all of them, the nearest clip of a known voice mostly says the same:

neighbour = KNeighborsClassifier(1).fit(known, y[train])
same_digit = neighbour.score(unheard, y[test])
print(f"{same_digit:.0%} of the nearest neighbours say the same digit")
plt.show()
