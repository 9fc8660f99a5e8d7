"""Maps of embeddings."""

from typing import Any, Self

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import column_or_1d

from skastw.core.text import unknown_value
from skastw.plots._canvas import Axes, legend, one_panel, pyplot, shortened, styles

#: Most classes with a legend; the names of more classes are written among the points.
_LEGEND = 10
#: Offsets of a name above or below the middle of its class, in the order of preference (points).
_OFFSETS = (8, -8, 18, -18, 28, -28)


class EmbeddingDisplay:
    """Embeddings of clips as points in a plane, coloured by class or value.

    Make one with :meth:`from_estimator` or :meth:`from_embeddings`.

    Parameters
    ----------
    points : ndarray of shape (n_clips, 2)
    y : ndarray of shape (n_clips,)
        Class of each clip, or its value.
    method : {"pca", "tsne"}
        Method that computed the points.
    explained_variance_ratio : ndarray of shape (2,), optional
        Share of the variance along each axis, for ``"pca"``.
    perplexity : float, optional
        Perplexity, for ``"tsne"``.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    points_ : list of PathCollection
        One per class, in sorted order, or one for values.
    legend_ : Legend or None
        Legend, if there are at most ten classes.
    texts_ : list of Annotation
        Names of more than ten classes, near the medians of their points. If they do not all fit, the classes with the
        most points come first.
    colorbar_ : Colorbar or None
        Colour bar, for values.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skastw.plots import EmbeddingDisplay
    >>> E = np.array([[0.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 4.0, 1.5]])
    >>> EmbeddingDisplay.from_embeddings(E, ["a", "b", "b"]).ax_.get_xlabel()
    'component 1 (99.0 % of variance)'
    """

    def __init__(
        self,
        points: np.ndarray,
        y: np.ndarray,
        *,
        method: str,
        explained_variance_ratio: np.ndarray | None = None,
        perplexity: float | None = None,
    ) -> None:
        self.points = points
        self.y = y
        self.method = method
        self.explained_variance_ratio = explained_variance_ratio
        self.perplexity = perplexity

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        method: str = "pca",
        perplexity: float = 30.0,
        random_state: Any = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the embeddings of clips, without the clips that ``on_error`` leaves out.

        Parameters
        ----------
        estimator : ASTWClassifier, ASTWRegressor, or another object with ``transform``
            Fitted.
        X : sequence of clips
            As the estimator takes them.
        y : array-like of shape (n_clips,)
            Class of each clip, or its value.
        method, perplexity, random_state, ax : see :meth:`from_embeddings`

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ClipError
            If a clip cannot be used.
        ValueError
            If an argument is not valid.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        E, y = np.asarray(estimator.transform(X)), column_or_1d(y)
        check_consistent_length(E, y)
        read = ~np.isnan(E).all(axis=1)
        return cls.from_embeddings(
            E[read], y[read], method=method, perplexity=perplexity, random_state=random_state, ax=ax
        )

    @classmethod
    def from_embeddings(
        cls,
        E: Any,
        y: Any,
        *,
        method: str = "pca",
        perplexity: float = 30.0,
        random_state: Any = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw embeddings.

        Parameters
        ----------
        E : array-like of shape (n_clips, n_embedding)
            At least two clips and two values.
        y : array-like of shape (n_clips,)
            Class of each clip, or its value. Floats are values if one of them is not a whole number.
        method : {"pca", "tsne"}, default="pca"
            Project on the two directions of largest variance, or arrange so that neighbours stay neighbours.
        perplexity : float, default=30.0
            Number of neighbours for ``"tsne"``, at most a third of the clips.
        random_state : int, RandomState or None, default=0
            Seed of ``"tsne"``.
        ax : Axes, optional
            Axes to draw in; by default in a new figure.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        ValueError
            If an argument is not valid.
        MissingDependencyError
            Without the extra ``plot``.

        Notes
        -----
        In a map by t-SNE, only neighbourhoods have a meaning, not the sizes of groups or the distances between them.
        """
        pyplot(cls)
        E = check_array(E, ensure_min_samples=2, ensure_min_features=2, input_name="E")
        y = column_or_1d(y)
        check_consistent_length(E, y)

        if method == "pca":
            pca = PCA(n_components=2, svd_solver="full")
            points = pca.fit_transform(E)
            return cls(points, y, method=method, explained_variance_ratio=pca.explained_variance_ratio_).plot(ax)

        if method != "tsne":
            raise ValueError(unknown_value("method", method, ["pca", "tsne"]))
        perplexity = min(perplexity, max(1.0, (len(E) - 1) / 3))
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=random_state)
        return cls(tsne.fit_transform(E), y, method=method, perplexity=perplexity).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, optional
            Axes to draw in; by default in a new figure.

        Returns
        -------
        self
        """
        values = self.y.dtype.kind == "f" and bool((self.y % 1).any())
        n_classes = 0 if values else len(np.unique(self.y))
        wider = 1.5 if n_classes > _LEGEND else 1.25 if n_classes else 1.0
        ax = one_panel(type(self), ax, size=(wider, 1.5 if n_classes > _LEGEND else 1.0))
        self.ax_, self.figure_ = ax, ax.figure
        self.legend_ = self.colorbar_ = None
        self.texts_: list[Any] = []

        names = ["t-SNE 1", "t-SNE 2"]
        if self.explained_variance_ratio is not None:
            shares = enumerate(self.explained_variance_ratio, start=1)
            names = [f"component {i} ({100 * share:.1f} % of variance)" for i, share in shares]
        ax.set(xlabel=names[0], ylabel=names[1])

        size = float(np.clip(2000 / len(self.points), 6, 30))
        if values:
            self.points_ = [ax.scatter(self.points[:, 0], self.points[:, 1], c=self.y, s=size)]
            self.colorbar_ = ax.figure.colorbar(self.points_[0], ax=ax, label="value")
        else:
            self._draw_classes(ax, size)
        return self

    def _draw_classes(self, ax: Axes, size: float) -> None:
        classes, member, counts = np.unique(self.y, return_inverse=True, return_counts=True)
        looks = styles(len(classes))
        self.points_ = [
            ax.scatter(x, y, s=size, color=look["color"], marker=look["marker"])
            for (x, y), look in zip((self.points[member == i].T for i in range(len(classes))), looks, strict=True)
        ]
        if len(classes) <= _LEGEND:
            self.legend_ = legend(ax, self.points_, list(classes))
            return

        ax.figure.canvas.figure.draw_without_rendering()  # fixes the layout, and with it the places of the points
        taken: list[Any] = []
        for i in np.argsort(-counts, kind="stable"):
            middle = np.median(self.points[member == i], axis=0)
            text = _write_name(ax, shortened(classes[i]), middle, looks[i]["color"], taken)
            self.texts_ += [text] if text is not None else []


def _write_name(ax: Axes, name: str, middle: np.ndarray, colour: Any, taken: list[Any]) -> Any:
    """Write a name near the middle of its class and add its place to ``taken``; return None if it does not fit."""
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": colour, "alpha": 0.8}
    text = ax.annotate(name, tuple(middle), xytext=(0, 0), textcoords="offset points", ha="center", va="center")
    text.set(fontsize="x-small", parse_math=False, bbox=box)

    extent = text.get_window_extent().padded(3)
    for offset in _OFFSETS:
        place = extent.translated(0, offset * ax.figure.dpi / 72)
        if not any(place.overlaps(other) for other in taken):
            text.xyann = (0, offset)
            taken.append(place)
            return text

    text.remove()
    return None
