"""
Similar sounds in a folder
==========================

Embeddings find similar sounds and sort a folder into groups, also for sounds of classes that the model was not trained
on. Here, a network learns five digits, and then searches and clusters recordings of the other five.
"""

# %%
# The network is trained on the digits from zero to four. Any model with ``transform`` serves as well, for example
# ``ASTWFeaturizer.from_weights("user/net")``, which gives the embeddings of a pretrained network without training.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from skastw import ASTWClassifier
from skastw.analysis import embedding_table
from skastw.datasets import load_spoken_digits

clips = load_spoken_digits()
files, digits = np.array(clips.data), clips.target
learned = np.isin(digits, ["zero", "one", "two", "three", "four"])

clf = ASTWClassifier.from_recipe("tiny").set_params(encoder__width=8, epochs=10, min_steps=150)
clf.fit(files[learned], digits[learned])

# %%
# The table of embeddings has a row for each file. In a shell, ``skastw embed folder/ --model DIR --output table.csv``
# writes it. Embeddings are compared by the cosine of their angle, so they are scaled to length 1.

folder, names, voices = files[~learned], digits[~learned], clips.groups[~learned]
table = embedding_table(clf, list(folder))
embeddings = normalize(table.filter(like="embedding_").to_numpy())

# %%
# The cosine of two embeddings of length 1 is their scalar product. A search for a file lists the files with the largest
# cosines. Other recordings of the same voice would be easy to find, so they are left out.

cosines = embeddings @ embeddings.T
cosines[voices[:, None] == voices] = -1
nearest = cosines.argsort(axis=1)[:, ::-1]
print(f"{names[0]} by {voices[0]} is similar to")
for found in nearest[0, :3]:
    print(f"  {names[found]} by {voices[found]}, cosine {cosines[0, found]:.3f}")

same_digit = np.mean(names[nearest[:, 0]] == names)
print(f"{same_digit:.0%} of the nearest files contain the same digit, which the network has never heard")

# %%
# Clustering sorts the folder into groups without any labels. The adjusted Rand index compares the groups with the
# digits: it is 1 for the same partition, and 0 on average for random groups.

groups = KMeans(5, n_init=10, random_state=0).fit_predict(embeddings)
agreement = adjusted_rand_score(names, groups)
print(f"adjusted Rand index: {agreement:.2f}")

# %%
# The map shows the first two principal components: each digit as a marker, each group as a colour. With umap-learn
# installed, ``umap.UMAP(metric="cosine").fit_transform(embeddings)`` gives a map that keeps neighbours together.

points = PCA(n_components=2).fit_transform(embeddings)
figure, axes = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
for digit, marker in zip(np.unique(names), "os^Dv", strict=True):
    chosen = names == digit
    colours = plt.get_cmap("tab10")(groups[chosen])
    axes.scatter(*points[chosen].T, c=colours, marker=marker, s=30, alpha=0.8, label=digit)
axes.set(xlabel="first component", ylabel="second component", title="Digits that the network was not trained on")
legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
for handle in legend.legend_handles:
    handle.set_color("0.4")
plt.show()
