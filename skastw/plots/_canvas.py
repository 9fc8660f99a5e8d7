"""Axes, colours and names for the displays."""

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.core.optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
else:  # matplotlib is optional
    Axes = Any

#: Colours that people with any colour vision can tell apart: Okabe and Ito, "Color Universal Design", 2008, without
#: yellow, which is faint on white; black comes last.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = ("-", "--", ":", "-.")
_MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "*")
#: Longest name of a class or group in a picture, in characters.
_LONGEST = 28


def pyplot(display: type) -> ModuleType:
    """Return ``matplotlib.pyplot``, or raise an error that ``display`` needs the extra ``plot``."""
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
        Class of the display, for error messages.
    ax : Axes, sequence of Axes or None
        None makes a figure. A single Axes of a grid is replaced by panels; several Axes are used as panels.
    shape : (int, int)
        Number of rows and columns.
    size : (float, float)
        Width and height of a new figure, as multiples of the user's figure size.
    share : bool
        Whether the panels share their axes.

    Returns
    -------
    ndarray of shape (rows, columns) of Axes

    Raises
    ------
    ValueError
        If the numbers of axes and panels differ, or a single Axes does not belong to a grid.
    """
    plt = pyplot(display)
    n_panels = shape[0] * shape[1]

    if ax is None:
        width, height = plt.rcParams["figure.figsize"]
        figure = plt.figure(figsize=(size[0] * width, size[1] * height), layout="constrained")
        return figure.subplots(*shape, sharex=share, sharey=share, squeeze=False)

    if isinstance(ax, Sequence | np.ndarray):
        axes = np.asarray(ax, dtype=object)
        if axes.size != n_panels:
            raise ValueError(f"Got {axes.size} axes, expected one to divide, or one for each of {n_panels} panels.")
        return axes.reshape(shape)
    if n_panels == 1:
        return np.array([[ax]], dtype=object)

    place = ax.get_subplotspec()
    if place is None:
        raise ValueError(
            f"Got axes outside a grid, expected axes from plt.subplots, or one for each of {n_panels} panels."
        )
    ax.set_axis_off()
    gap = 0.35 if ax.figure.get_layout_engine() is None else None  # a layout engine sets its own gaps
    grid = place.subgridspec(*shape, wspace=gap, hspace=gap)
    return grid.subplots(sharex=share, sharey=share, squeeze=False)


def styles(n: int) -> list[dict[str, Any]]:
    """Return ``n`` distinct styles of lines and points, with ``color``, ``linestyle`` and ``marker``.

    The colours come from the user's ``axes.prop_cycle`` if it was changed, otherwise from Okabe and Ito. After the last
    colour, the first one follows with another line style and another marker.
    """
    import matplotlib

    cycle = matplotlib.rcParams["axes.prop_cycle"]
    is_default = cycle == matplotlib.rcParamsDefault["axes.prop_cycle"] or "color" not in cycle.keys
    colours = _OKABE_ITO if is_default else cycle.by_key()["color"]
    return [
        {"color": colours[i], "linestyle": _LINES[turn % len(_LINES)], "marker": _MARKERS[turn % len(_MARKERS)]}
        for turn, i in (divmod(i, len(colours)) for i in range(n))
    ]


def shortened(name: Any) -> str:
    """Return a name on one line; a long name loses its middle.

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
    """Add a legend of ``handles`` and ``names``, right of ``ax`` if a layout engine makes room for it, else inside."""
    outside = ax.figure.get_layout_engine() is not None
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if outside else {"loc": "best"}
    columns = -(-len(names) // 25)
    added = ax.legend(handles, ["."] * len(names), fontsize="small", ncols=columns, **place)
    for text, name in zip(added.get_texts(), names, strict=True):  # as a label, "_a" would be hidden
        text.set(parse_math=False, text=shortened(name))
    return added


def tick_names(ax: Axes, names: Sequence[str]) -> None:
    """Write names at 0, 1, ... on the vertical axis without overlap: in smaller letters, then only every n-th name."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    room = 72 * ax.get_window_extent().height / ax.figure.dpi / max(1, len(names))  # height for each name (points)
    default = FontProperties(size=matplotlib.rcParams["ytick.labelsize"]).get_size_in_points()
    size = min(default, max(6.5, 0.8 * room))
    step = max(1, int(np.ceil(1.17 * size / room)))  # 1.17: height of a line of text, in sizes
    places = range(0, len(names), step)
    ax.set_yticks(places, [names[i] for i in places], fontsize=size, parse_math=False)
