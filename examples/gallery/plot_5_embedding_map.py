"""
A map of embeddings
===================

``transform`` returns the embedding of each clip, the vector that the last layer classifies. The first two principal
components of the embeddings are a map of the clips, here of unheard voices.
"""

# %%
# To save time, this example uses five of the digits. Five of the voices are held out.

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
# The principal components are computed from the training clips; the unheard voices are projected on them.

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
# A map of two dimensions hides the other dimensions. In all dimensions, the nearest training clip mostly contains the
# same digit:

neighbour = KNeighborsClassifier(1).fit(known, y[train])
same_digit = neighbour.score(unheard, y[test])
print(f"{same_digit:.0%} of the nearest neighbours say the same digit")
plt.show()
