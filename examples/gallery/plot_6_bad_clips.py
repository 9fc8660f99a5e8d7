"""
Clips that cannot be read
=========================

Among thousands of files, some are missing, truncated or not audio. By default, the first such file is an error before
training starts. With ``on_error="warn"`` or ``"ignore"``, training continues without them, and ``failed_`` lists them.
"""

# %%
# Good clips, and three clips that cannot be read.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skastw import ASTWClassifier
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder
from skastw.errors import ClipError

clips = load_spoken_digits()
chosen = np.isin(clips.target, ["one", "two"])
X, y = list(np.array(clips.data)[chosen][::2]), list(clips.target[chosen][::2])

folder = Path(tempfile.mkdtemp())
(folder / "empty.wav").touch()
(folder / "notes.wav").write_text("remember to record the rest")
X += [str(folder / "empty.wav"), str(folder / "notes.wav"), str(folder / "lost.wav")]
y += ["one", "two", "one"]

# %%
# By default, an error names the clip and the remedy.

clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=12)
try:
    clf.fit(X, y)
except ClipError as error:
    print(f"clip {error.index}: {error.reason}")

# %%
# With ``"ignore"``, training leaves the clips out. ``failed_`` lists them with the reasons.

clf.set_params(on_error="ignore").fit(X, y)
failed = pd.DataFrame(clf.failed_)
failed["path"] = [Path(path).name for path in failed["path"]]
failed["reason"] = failed["reason"].str.partition(" (")[0]  # the remedies are left out here
failed

# %%
# In predictions, every clip keeps its row: the probabilities of such a clip are NaN, and its label is ``placeholder_``,
# which is not a class.

probabilities = clf.predict_proba(X[-9:])
names = [Path(path).name for path in X[-9:]]
assert clf.predict(X[-1:]) == [clf.placeholder_]

figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
colours = plt.get_cmap("Blues").with_extremes(bad="0.85")
image = axes.imshow(probabilities, cmap=colours, vmin=0, vmax=1, aspect="auto")
axes.set(xticks=range(2), xticklabels=clf.classes_, yticks=range(9), yticklabels=names)
for row in np.flatnonzero(np.isnan(probabilities[:, 0])):
    axes.text(0.5, row, "NaN", ha="center", va="center", color="0.4")
figure.colorbar(image, label="probability")
plt.show()
