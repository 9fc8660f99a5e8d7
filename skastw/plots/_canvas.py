"""What the displays draw on and write with: axes, colours, names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.core.optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["legend", "one_panel", "panels", "pyplot", "shortened", "styles", "tick_names"]

#: Colours that people with any colour vision tell apart: Okabe and Ito, "Color Universal Design", 2008. Its yellow is
#: left out, which is faint on white; black comes last.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
#: Longest name of a class or group in a picture, in characters.
_LONGEST = 28


def pyplot(display: type) -> ModuleType:
    """Return ``matplotlib.pyplot``, or say that ``display`` needs the extra ``plot``."""
    return import_optional("matplotlib.pyplot", extra="plot", purpose=display.__name__)


def one_panel(display: type, ax: Axes | None, *, size: tuple[float, float] = (1.0, 1.0)) -> Axes:
    """Return ``ax``, or the axes of a new figure for ``display``, of ``size`` times the user's; see :func:`panels`."""
    return panels(display, ax, (1, 1), size=size)[0, 0]


def panels(
    display: type,
    ax: Axes | Sequence[Axes] | None,
    shape: tuple[int, int],
    *,
    size: tuple[float, float] = (1.0, 1.0),
    share: bool = False,
) -> np.ndarray:
    """Return the axes of several panels.

    Parameters
    ----------
    display : type
        Who asks, for errors.
    ax : Axes, sequence of Axes or None
        None makes a figure; one of a grid is replaced by panels in its place; several are taken as they are.
    shape : (int, int)
        Rows and columns.
    size : (float, float)
        Width and height of a new figure, as multiples of the user's.
    share : bool
        Whether panels have the same axes.

    Returns
    -------
    ndarray of shape (rows, columns) of Axes

    Raises
    ------
    ValueError
        If the number of axes is not that of the panels, or one has no place in a grid.
    """
    plt = pyplot(display)
    many = shape[0] * shape[1]
    if ax is None:
        width, height = plt.rcParams["figure.figsize"]
        figure = plt.figure(figsize=(size[0] * width, size[1] * height), layout="constrained")
        return figure.subplots(*shape, sharex=share, sharey=share, squeeze=False)
    if isinstance(ax, Sequence | np.ndarray):
        axes = np.asarray(ax, dtype=object)
        if axes.size != many:
            raise ValueError(f"Got {axes.size} axes, expected one to divide, or one for each of {many} panels.")
        return axes.reshape(shape)
    if many == 1:
        return np.array([[ax]], dtype=object)
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(f"Got axes outside a grid, expected those of plt.subplots, or one for each of {many} panels.")
    ax.set_axis_off()
    gap = 0.35 if ax.figure.get_layout_engine() is None else None  # a layout makes room itself
    grid = place.subgridspec(*shape, wspace=gap, hspace=gap)
    return grid.subplots(sharex=share, sharey=share, squeeze=False)


def styles(n: int) -> list[dict[str, Any]]:
    """Return ``n`` styles that can be told apart, of lines and of points: ``color``, ``linestyle`` and ``marker``.

    The colours are those of the user's ``axes.prop_cycle`` if it was changed, else Okabe and Ito's; when they are used
    up, they come again with another line and another marker.
    """
    import matplotlib

    cycle = matplotlib.rcParams["axes.prop_cycle"]
    usual = cycle == matplotlib.rcParamsDefault["axes.prop_cycle"] or "color" not in cycle.keys
    known = _OKABE_ITO if usual else cycle.by_key()["color"]
    rounds = [divmod(i, len(known)) for i in range(n)]
    return [
        {"color": known[i], "linestyle": _LINES[again % len(_LINES)], "marker": _MARKERS[again % len(_MARKERS)]}
        for again, i in rounds
    ]


def shortened(name: Any) -> str:
    """Return a name on one line, the middle of a long one left out.

    Examples
    --------
    >>> from skastw.plots._canvas import shortened
    >>> shortened("newt"), shortened("a very long name of a class, number 12")
    ('newt', 'a very long na…ss, number 12')
    """
    text = " ".join(str(name).split())
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[1 - half :]}"


def legend(ax: Axes, handles: Sequence[Any], names: Sequence[Any]) -> Any:
    """Write ``names`` beside ``handles``: right of ``ax`` where the layout makes room for it, else inside."""
    room = ax.figure.get_layout_engine() is not None
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if room else {"loc": "best"}
    columns = -(-len(names) // 25)
    made = ax.legend(handles, ["."] * len(names), fontsize="small", ncols=columns, **place)
    for text, name in zip(made.get_texts(), names, strict=True):  # "_a" would be hidden, and "$a$" a formula
        text.set_parse_math(False)
        text.set_text(shortened(name))
    return made


def tick_names(ax: Axes, names: Sequence[str]) -> None:
    """Write names at 0, 1, ... on the vertical axis, small enough to stand apart; of too many, every second or so."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    room = 72 * ax.get_window_extent().height / ax.figure.dpi / max(1, len(names))  # points for each
    usual = FontProperties(size=matplotlib.rcParams["ytick.labelsize"]).get_size_in_points()
    size = min(usual, max(6.5, 0.8 * room))
    step = max(1, int(np.ceil(1.17 * size / room)))  # a line of text is so much higher than its size
    places = range(0, len(names), step)
    ax.set_yticks(places, [names[i] for i in places], fontsize=size, parse_math=False)
