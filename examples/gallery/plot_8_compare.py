"""
Compare models honestly
=======================

``compare`` trains and tests models on the same folds of unheard voices. It shows which differences are more than
chance, and what each model costs.
"""

# %%
# The models here are classical ones on the table of statistics, so that this page is computed in seconds. Names of
# recipes, such as ``"small"``, and any other objects with ``fit`` and ``predict`` work in the same way.

import matplotlib.pyplot as plt
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skastw import ASTWFeaturizer
from skastw.datasets import load_spoken_digits
from skastw.evaluation import compare
from skastw.plots import ParetoDisplay

clips = load_spoken_digits()
table = ASTWFeaturizer(output="statistics").fit_transform(clips.data)

search = GridSearchCV(SVC(), {"C": [1, 10, 100]}, cv=StratifiedGroupKFold(3))
models = {
    "guessing": DummyClassifier(),
    "linear": make_pipeline(StandardScaler(), LogisticRegression(C=0.01)),
    "SVM, C searched": make_pipeline(StandardScaler(), search),
    "forest": RandomForestClassifier(50),
}
comparison = compare(models, table, clips.target, groups=clips.groups, cv=4)
comparison

# %%
# The score is the mean recall of the ten digits (UAR) in all folds together, and its interval comes from resampling
# whole voices. The parameter of the SVM is searched in each training fold anew, on voices of this fold only, so the
# search does not see the voices that it is tested on.
#
# Differences from the best model
# -------------------------------
# All models are tested on the same clips. The interval of a difference is therefore narrower than the intervals of two
# scores suggest. The last column is the p-value of the corrected resampled t-test, corrected for three comparisons.

comparison.tests[["difference", "low", "high", "p_t_test_holm"]].round(3)

# %%
# Scores and costs
# ----------------
# No model is both better and smaller than a model on the grey line.

display = ParetoDisplay.from_comparison(comparison, cost="n_bytes")
plt.show()

# %%
# ``comparison.save("exports/digits")`` writes all tables and plots, and a page that needs no network.
