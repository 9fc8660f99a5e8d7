"""Results in a folder: checks before the work, pictures, and files that are written at the end."""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skastw.artifact.folder import CONFIG, LABELS
from skastw.core.optional import import_optional
from skastw.core.text import listed
from skastw.errors import OutputError
from skastw.storage.outputs import check_file, check_folder, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

#: Pixels per inch of CSS.
_PIXELS_PER_INCH = 96


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes
    ----------
    content : bytes
        A PNG file.
    width : int
        Width that it was drawn for (CSS pixels).
    """

    content: bytes
    width: int

    @property
    def png(self) -> str:
        """The file in base64, for a page."""
        return b64encode(self.content).decode("ascii")


def check_results(
    folder: str | os.PathLike[str],
    files: Iterable[str],
    *,
    overwrite: bool,
    inputs: Iterable[Any] = (),
    others: Iterable[str] = (),
) -> None:
    """Raise an error if results could not be written into a folder.

    Parameters
    ----------
    folder : path
    files : iterable of str
        Names of the files.
    overwrite : bool
        Whether existing files of these names may be replaced.
    inputs : iterable of paths, optional
        Input files, which must not be overwritten.
    others : iterable of str, optional
        Names of further results, which must not exist either.

    Raises
    ------
    OutputError
        If a file cannot be written, with its name and a remedy.
    MissingDependencyError
        Without the extra ``plot``.
    """
    import_matplotlib()
    target, files, inputs = check_folder(folder), list(files), list(inputs)

    if all((target / name).exists() for name in (CONFIG, LABELS)):  # whose metrics.json must stay
        raise OutputError(
            f"Got output {str(target)!r}, which is the folder of a saved model, expected another folder; give one "
            "beside it."
        )
    existing = [name for name in (*others, *files) if os.path.lexists(target / name)]
    if existing and not overwrite:
        raise OutputError(
            f"Got output {str(target)!r}, which contains earlier results ({listed(existing)}), expected a folder "
            "without results: give another folder, or replace them with overwrite=True (on the command line: "
            "--overwrite)."
        )

    for name in files:
        check_file(target / name, inputs=inputs)


def import_matplotlib() -> None:
    """Raise MissingDependencyError without the extra ``plot``."""
    import_optional("matplotlib", extra="plot", purpose="Writing a report")


def new_figure(width: float, height: float) -> Figure:
    """Return a figure outside pyplot, which opens no window; ``width`` and ``height`` are in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def as_pictures(figures: Mapping[str, Figure]) -> dict[str, Picture]:
    """Return figures as PNG files, by their names in ``figures``."""
    pictures = {}
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
        pictures[name] = Picture(content.getvalue(), round(_PIXELS_PER_INCH * figure.get_figwidth()))
    return pictures


def as_table(frame: DataFrame, names: Mapping[str, str], index: str | None = None) -> dict[str, list[Any]]:
    """Return the header and the rows of a table for a page.

    Parameters
    ----------
    frame : DataFrame
    names : mapping of str to str
        Words for columns; other columns keep their names.
    index : str, optional
        Heading for the index, which is the first column then.
    """
    rows = frame.astype(object).to_numpy().tolist()
    header = [names.get(column, column) for column in frame.columns]
    if index is None:
        return {"header": header, "rows": rows}
    return {
        "header": [index, *header],
        "rows": [[str(label), *row] for label, row in zip(frame.index, rows, strict=True)],
    }


def in_words(value: Any) -> str:
    """Return a value of JSON as text for a page."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {in_words(item)}" for key, item in value.items())
    return "; ".join(map(in_words, value)) if isinstance(value, list | tuple) else str(value)


def write_results(
    folder: str | os.PathLike[str], contents: Mapping[str, bytes | str], pictures: Iterable[str] = ()
) -> str:
    """Write files into a folder, each in one step, and return the folder.

    Parameters
    ----------
    folder : path
    contents : mapping of str to bytes or str
        Content of each file by its name.
    pictures : iterable of str, optional
        Names of all pictures that results may have. An old one that is not among the contents is removed, because it
        would belong to other results.
    """
    target = Path(folder)
    for name, content in contents.items():
        write_file(target / name, content)
    for name in set(pictures) - set(contents):
        (target / name).unlink(missing_ok=True)
    return str(target)
