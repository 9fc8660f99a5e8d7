"""Comparison of models on the same clips: recipes, baselines, and any objects with ``fit`` and ``predict``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame

from skastw.analysis.comparison import make_splits, run_models
from skastw.analysis.ranking import rank_models
from skastw.analysis.scores import SCORE_NAMES, SCORES, class_scores
from skastw.core.templates import summary
from skastw.core.text import aligned, listed, unknown_value
from skastw.errors import plain
from skastw.estimators.baselines import baseline_names, make_baseline
from skastw.estimators.classifier import ASTWClassifier
from skastw.recipes import recipe_names
from skastw.targets.checks import group_array, label_array

#: Resampling fewer groups gives intervals that are too narrow.
_FEW_GROUPS = 5
#: Letters of the name of a model in a table.
_LONGEST = 40


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Scores and costs of models on the same clips, and tests of their differences.

    Attributes
    ----------
    score : str
        Name of the score that ranks the models.
    reference : str
        Model that the others are tested against.
    table : DataFrame
        A row for each model, the best first. ``accuracy``, ``macro_f1`` and ``uar`` are scores of the predictions of
        all splits together, as means over the seeds. With ``_low`` and ``_high``, they are ends of the bootstrap
        interval of 95 %; with ``_fold_mean`` and ``_fold_std``, mean and standard deviation over the splits; with
        ``_seed_std``, standard deviation over the seeds. Costs are ``fit_seconds`` (training, mean of the folds),
        ``predict_seconds`` (prediction of a clip among all test clips), ``latency`` (prediction of a clip alone),
        ``n_parameters`` (trained weights of networks, linear models and support vector machines), and ``n_bytes``
        (size of the folder of ``save_pretrained``, or of the pickled model). ``n_seeds`` and ``n_failed`` count seeds
        and failed folds. A model with a failed fold has no scores.
    tests : DataFrame
        A row for each model other than the ``reference``: the ``difference`` of the score from the reference, the
        ends ``low`` and ``high`` of its interval of 95 %, and p-values: ``p_bootstrap`` of the paired bootstrap,
        ``p_t_test`` of the corrected resampled t-test with the statistic ``t`` (several splits), and ``p_mcnemar`` of
        the exact McNemar test of the first seed (one split). Names with ``_holm`` have p-values that are corrected for
        the number of models.
    folds : DataFrame
        A row for each model, seed and split: ``n_train``, ``n_test``, scores, costs, and ``error``, which is None for a
        complete fold.
    predictions : DataFrame
        A row for each model, seed, split and test clip: its ``position`` in X, ``clip`` (file or position), ``group``,
        if known, ``label`` and ``predicted``.
    n_clips : int
        Number of different test clips.
    """

    score: str
    reference: str
    table: DataFrame
    tests: DataFrame
    folds: DataFrame
    predictions: DataFrame
    n_clips: int

    def __str__(self) -> str:
        best = self.table.iloc[0]
        name = str(self.table.index[0])
        return f"{len(self.table)} models on {self.on}; the best is {name!r}: {SCORE_NAMES[self.score]} " + _score(
            best, self.score
        )

    def __repr__(self) -> str:
        header, rows = self._rows()
        return "\n".join([str(self), *(f"* {note}" for note in self.notes), *aligned([header, *rows], "<" + 7 * ">")])

    def _repr_html_(self) -> str:
        header, rows = self._rows()
        return summary(str(self), header=header, rows=rows, notes=self.notes)

    def _rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the header and the rows of a short table."""
        p_value = "p_t_test_holm" if self.n_splits > 1 else "p_bootstrap_holm"
        header = (SCORE_NAMES[self.score], "difference", "p", "training", "one clip", "parameters", "size")
        rows: list[tuple[str, ...]] = []
        tests: dict[Any, Any] = self.tests.to_dict(orient="index")
        for name, row in self.table.iterrows():
            test = tests.get(name)
            rows.append(
                (
                    " ".join(str(name).split())[:_LONGEST],
                    _score(row, self.score),
                    "" if test is None else f"{test['difference']:+.3f}",
                    "" if test is None else _number(test[p_value], "{:.3f}"),
                    _number(row["fit_seconds"], "{:.1f} s"),
                    _number(1e3 * row["latency"], "{:.1f} ms"),
                    _number(row["n_parameters"], "{:,.0f}"),
                    _number(row["n_bytes"] / 1e6, "{:.2f} MB"),
                )
            )
        return ("model", *header), rows

    @property
    def on(self) -> str:
        """The clips, groups, splits and seeds, in words."""
        n_seeds = int(self.table["n_seeds"].max())
        groups = [] if self.n_groups is None else [f"{self.n_groups} groups"]
        several = [f"{n} {noun}{'s' * (n > 1)}" for n, noun in ((self.n_splits, "split"), (n_seeds, "seed"))]
        return ", ".join([f"{self.n_clips} clips", *groups, *several])

    @property
    def n_groups(self) -> int | None:
        """Number of groups of test clips; None without groups."""
        return int(self.predictions["group"].nunique()) if "group" in self.predictions else None

    @property
    def n_splits(self) -> int:
        """Number of splits."""
        return int(self.folds["split"].nunique())

    @property
    def failures(self) -> DataFrame:
        """The columns ``model``, ``seed``, ``split`` and ``error`` of failed folds."""
        return self.folds.loc[self.folds["error"].notna(), ["model", "seed", "split", "error"]]

    @property
    def per_class(self) -> DataFrame:
        """Recall of each class by each model, as mean over the seeds; rows are classes, columns are models."""
        labels = np.unique(self.predictions["label"].to_numpy())
        recalls: dict[Any, Any] = {}
        for name, own in self.predictions.groupby("model", sort=False):
            if self.table.at[name, "n_failed"] == 0:
                sides = own["label"].to_numpy(), own["predicted"].to_numpy()
                recalls[name] = class_scores(*sides, labels)["recall"]
        return DataFrame(recalls)[[name for name in self.table.index if name in recalls]]

    @property
    def notes(self) -> list[str]:
        """Limits of the comparison, in one or two sentences each; often none."""
        notes = []
        failed = self.table.index[self.table["n_failed"] > 0].tolist()
        if failed:
            notes.append(f"No scores of {listed(map(str, failed), 10)}, because a fold failed; see failures.")
        if self.n_groups == 1:
            notes.append("There are no intervals, because resampling whole groups needs at least two groups.")
        elif self.n_groups is not None and self.n_groups < _FEW_GROUPS:
            notes.append(f"The intervals are too narrow, because there are only {self.n_groups} groups to resample.")
        if len(self.tests) > 1 and self.reference == self.table.index[0]:
            notes.append(
                "The reference was chosen because it is the best on these clips, so its score is optimistic. To report "
                "one, evaluate it on other clips."
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the predictions, as JSON values.

        Returns
        -------
        dict
        """
        return {
            "score": self.score,
            "reference": self.reference,
            "n_clips": self.n_clips,
            "n_groups": self.n_groups,
            "n_splits": self.n_splits,
            "notes": self.notes,
            "models": _records(self.table.reset_index()),
            "tests": _records(self.tests.reset_index()),
            "per_class": _records(self.per_class.reset_index()),
            "folds": _records(self.folds),
        }

    def save(
        self, folder: str | os.PathLike[str], *, title: str = "Comparison", about: Mapping[str, Any] | None = None
    ) -> str:
        """Write ``comparison.json``, tables, pictures and ``comparison.html``, a page that needs no network.

        The tables are ``models.csv``, ``tests.csv``, ``folds.csv`` and ``predictions.csv``; the pictures show the score
        against the size, the seconds of training and the latency. Needs the extra ``plot``.

        Parameters
        ----------
        folder : path
            Made if missing. Files of these names are replaced, each in one step; other files are not changed.
        title : str, default="Comparison"
            Title of the page.
        about : mapping of str to JSON values, optional
            Facts about the models and the clips, for the page and for ``about`` in ``comparison.json``.

        Returns
        -------
        str
            The folder.

        Raises
        ------
        MissingDependencyError
            Without the extra ``plot``.
        OutputError
            If a file cannot be written; the old file is then unchanged.
        """
        from skastw.evaluation.comparison_page import save_comparison

        return save_comparison(self, folder, title=title, about=about or {})


def compare(
    models: Mapping[str, Any] | Iterable[str | os.PathLike[str]],
    X: Any,
    y: Any,
    groups: Any = None,
    cv: Any = None,
    *,
    seeds: int | Sequence[int] = 1,
    score: str = "uar",
    reference: str | None = None,
    n_bootstrap: int = 2000,
    random_state: Any = 0,
    n_jobs: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
    verbose: int = 0,
) -> Comparison:
    """Train and test models on the same splits with the same seeds, and test their differences.

    Parameters
    ----------
    models : mapping of str to estimator or str, or iterable of str
        Names, each with an object with ``fit`` and ``predict``, or with the name of a recipe, the path of its YAML
        file, or the name of a classical baseline (``"statistics-svm"``, ``"descriptors-svm"``, ...). In an iterable,
        recipes and baselines stand for themselves. The models are copied and stay as they are.
    X : sequence of clips, or ndarray of shape (n_clips, n_values)
        Clips, or the rows of a table of features, as the models take them. All clips must be readable.
    y : array-like of shape (n_clips,)
        Labels, one for each clip.
    groups : array-like of shape (n_clips,), optional
        Speaker or recording of each clip. No group is on both sides of a split, intervals and tests resample whole
        groups, and ``fit`` gets the groups of its clips if it takes them.
    cv : int, splitter, splits or one split, optional
        Number of folds, by default 5, of a stratified split (``StratifiedGroupKFold`` with groups, otherwise
        ``StratifiedKFold``); a splitter of scikit-learn, such as ``PredefinedSplit``; an iterable of pairs of positions
        (train, test), or a mapping from names to them; or one such pair.
    seeds : int or sequence of int, default=1
        Number of seeds 0, 1, ..., or the seeds, for all parameters ``random_state`` of a model. A model without one
        runs once.
    score : {"accuracy", "macro_f1", "uar"}, default="uar"
        Score that ranks the models, and whose differences are tested.
    reference : str, optional
        Model that the others are tested against; by default the best one.
    n_bootstrap : int, default=2000
        Number of resamples for the intervals and the paired bootstrap; 0 for none.
    random_state : int, RandomState or None, default=0
        Seed of the splits into a number of folds, and of the resampling.
    n_jobs : int, optional
        Number of folds at the same time, counted as in joblib. The seconds are then longer.
    folder : path, optional
        Folder in which the result of each complete fold is kept as a JSON file in ``folds``. Another call with the same
        folder computes only the folds that are missing, or whose model, clips, labels, groups, split or seed differ. A
        file is recognised by its path: a change of its content is not noticed.
    on_error : {"raise", "warn"}, default="raise"
        If a model raises an error in a fold: raise it, or note it in ``folds``, go on, and warn at the end. Complete
        folds are kept in ``folder`` in both cases.
    verbose : int, default=0
        1 shows a progress bar; 2 writes lines to standard error, for logs.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If an argument is not valid, a side of a split is empty, or a group is on both sides of a split.
    DataError
        If no model has predictions in all splits.

    Warns
    -----
    UserWarning
        If a search is given groups and its inner splits ignore them, or, with ``on_error="warn"``, if folds failed.

    Notes
    -----
    A search, such as ``GridSearchCV``, searches in each training fold anew. Its inner splits get the groups of the
    training clips if its ``cv`` takes groups, such as ``StratifiedGroupKFold``. The score of the search is therefore
    the score of a nested cross-validation.

    The bootstrap resamples groups (or clips) of the test clips, with the same resamples for all models. It does not
    know how much the models depend on their training clips; the corrected resampled t-test, on the differences in each
    split, does. McNemar's test assumes that clips are independent, which clips of one group are not.

    References
    ----------
    Nadeau and Bengio, "Inference for the generalization error", 2003; Dietterich, "Approximate statistical tests for
    comparing supervised classification learning algorithms", 1998; Holm, "A simple sequentially rejective multiple test
    procedure", 1979.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from skastw import ASTWFeaturizer
    >>> from skastw.datasets import make_tones
    >>> from skastw.evaluation import compare
    >>> clips, y = make_tones(n_clips=40, n_classes=2, random_state=0)
    >>> models = {"guess": DummyClassifier(), "neighbours": KNeighborsClassifier(1)}
    >>> table = ASTWFeaturizer(output="statistics").fit_transform(clips)
    >>> compare(models, table, y, cv=2, n_bootstrap=0).table["uar"].to_dict()
    {'neighbours': 1.0, 'guess': 0.5}
    """
    named, labels, groups = named_models(models), label_array(y, "y"), group_array(groups)
    if score not in SCORES:  # before hours of training
        raise ValueError(unknown_value("score", score, SCORES))
    if reference is not None and reference not in named:
        raise ValueError(unknown_value("reference", reference, named))

    folds, predictions = run_models(
        named,
        X,
        labels,
        splits=make_splits(labels, groups, cv, random_state),
        groups=groups,
        seeds=seeds,
        n_jobs=n_jobs,
        folder=folder,
        on_error=on_error,
        verbose=verbose,
    )
    ranking = {"score": score, "reference": reference, "n_bootstrap": n_bootstrap, "random_state": random_state}
    table, tests = rank_models(folds, predictions, **ranking)
    reference = str(table.index[0]) if reference is None else reference
    return Comparison(score, reference, table, tests, folds, predictions, predictions["position"].nunique())


def named_models(models: Mapping[str, Any] | Iterable[str | os.PathLike[str]]) -> dict[str, Any]:
    """Return the models of a comparison by their names.

    Parameters
    ----------
    models : mapping or iterable
        See :func:`compare`.

    Returns
    -------
    dict of str to estimator

    Raises
    ------
    ValueError
        If a recipe or baseline is unknown, or two models have the same name.

    Examples
    --------
    >>> from skastw.evaluation.compare import named_models
    >>> list(named_models(["tiny", "small"]))
    ['tiny', 'small']
    """
    if not isinstance(models, Mapping):
        given = [models] if isinstance(models, str | os.PathLike) else list(models)
        names = [Path(item).stem if isinstance(item, str | os.PathLike) else repr(item) for item in given]
        if others := [item for item in given if not isinstance(item, str | os.PathLike)]:
            raise ValueError(f"Got the model {others[0]!r:.100} without a name, expected a dict from names to models.")
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"Got two models with the name {repeated[0]!r}, expected a dict from names to models.")
        models = dict(zip(names, given, strict=True))
    return {str(name): make_model(m) if isinstance(m, str | os.PathLike) else m for name, m in models.items()}


def make_model(name: str | os.PathLike[str]) -> Any:
    """Return an unfitted model from the name of a recipe or of a baseline, or the path of a recipe file.

    Parameters
    ----------
    name : str or path
        One of :func:`skastw.recipes.recipe_names` or :func:`skastw.estimators.baselines.baseline_names`, or a YAML
        file.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> from skastw.evaluation.compare import make_model
    >>> make_model("tiny").encoder.name, make_model("statistics-svm")["featurizer"].output
    ('resnet', 'statistics')
    """
    name, known = os.fspath(name), [*recipe_names(), *baseline_names()]
    if name in baseline_names():
        return make_baseline(name)
    if name not in known and not name.endswith((".yaml", ".yml")):
        raise ValueError(unknown_value("model", name, known))
    return ASTWClassifier.from_recipe(name)


def _score(row: Any, score: str) -> str:
    """Return a score with its interval as text."""
    low, high = row[f"{score}_low"], row[f"{score}_high"]
    return _number(row[score], "{:.3f}") + (f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) else "")


def _number(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else "-"


def _records(table: DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values; a missing value is None."""
    rows = table.astype(object).where(table.notna(), None).to_dict(orient="records")
    return plain(rows)
