"""The measurements, classes, groups and splits of a collection of recordings."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import check_cv

from skastw.targets.checks import check_complete

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Collection:
    """A collection of recordings with their measurements, targets, groups and splits.

    Attributes
    ----------
    frame : DataFrame of n rows
        Measurements; see :class:`skastw.datasets.AudioDescription`.
    targets : DataFrame of n rows or None
        Labels or values, one column for each output.
    classes : dict
        For each class, an ndarray of shape (n,) of bool that is true for its clips. Empty if the targets are values.
    groups : ndarray of shape (n,), object, or None
        The entry None stands for a clip without group.
    splits : list of (ndarray, ndarray)
        Positions of the training and of the test clips.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.datasets.collection import Collection
    >>> clips = Collection.of(pd.DataFrame({"duration": [1.0, 2.0]}), ["dog", "cat"], None, None)
    >>> clips.classes["cat"].tolist()
    [False, True]
    """

    frame: pd.DataFrame
    targets: pd.DataFrame | None
    classes: dict[Hashable, np.ndarray]
    groups: np.ndarray | None
    splits: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, frame: pd.DataFrame, y: Any, groups: Any, splits: Any) -> Collection:
        """Return a collection from measurements and the arguments of :func:`skastw.datasets.describe_audio`.

        Parameters
        ----------
        frame : DataFrame of n rows
        y, groups : array-like of length n, or None
        splits : int, splitter, iterable or None

        Raises
        ------
        ValueError
            If a splitter cannot split the clips, or the positions of a split are out of range.
        """
        import pandas as pd

        targets = None if y is None else pd.DataFrame(y if isinstance(y, list) or hasattr(y, "iloc") else np.asarray(y))
        classes = {} if targets is None else _classes(targets)

        if groups is not None:
            column = pd.Series(groups if hasattr(groups, "iloc") else list(groups)).astype(object)
            groups = column.where(column.notna(), None).to_numpy()
        return cls(frame, targets, classes, groups, _splits(splits, len(frame), targets, groups, bool(classes)))

    def labels(self) -> list[Hashable]:
        """Return the label of each clip: a tuple with a value for each output, or None if a value is missing."""
        if self.targets is None:
            return [None] * len(self.frame)
        rows = self.targets.itertuples(index=False, name=None)
        return [None if empty else row for row, empty in zip(rows, self.targets.isna().any(axis=1), strict=True)]


def _classes(targets: pd.DataFrame) -> dict[Hashable, np.ndarray]:
    """Return a mask of the clips of each class, or nothing if the targets are values."""
    import pandas as pd

    if targets.shape[1] > 1:
        if not targets.isin([0, 1]).all(axis=None):
            return {}
        return {name: (targets[name] == 1).to_numpy() for name in targets.columns}

    values = targets.iloc[:, 0]
    if values.dtype.kind == "f" and (values.dropna() % 1 != 0).any():
        return {}
    codes, names = pd.factorize(values, sort=True)  # -1 for a missing label
    return {name: codes == code for code, name in enumerate(names.tolist())}


def _splits(
    splits: Any, n_clips: int, targets: pd.DataFrame | None, groups: np.ndarray | None, classifier: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    if splits is None:
        return []

    y = None if targets is None else targets.to_numpy() if targets.shape[1] > 1 else targets.iloc[:, 0].to_numpy()
    positions = np.arange(n_clips)
    try:
        pairs = check_cv(splits, y, classifier=classifier).split(np.zeros((n_clips, 1)), y, groups)
        return [(positions[np.asarray(train)], positions[np.asarray(test)]) for train, test in pairs]
    except (TypeError, ValueError):  # a splitter cannot sort labels or groups if some are missing
        check_complete(y, "y")
        check_complete(groups, "groups")
        raise
    except IndexError as error:
        raise ValueError(f"Got splits that do not fit {n_clips} clips ({error}).") from error
