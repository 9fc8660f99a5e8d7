"""The record of a public data set: its source, its reader, and the meaning of its table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skastw.core.text import unknown_value
from skastw.errors import DataError, plain


@dataclass(frozen=True)
class Archive:
    """A file to download and unpack.

    Parameters
    ----------
    url : str or callable
        The address, or a function that returns it for a part.
    checksum : str, optional
        Hash of the file that the authors published, such as ``"md5:d41d8cd98f00b204e9800998ecf8427e"``.
    strict : bool, default=True
        Whether to refuse a file with another hash. If not, a warning names the hash, and the content of the archive is
        checked: for hosts that pack archives again from time to time.
    strip : int, default=0
        How many leading folders to remove from the names in the archive.
    max_bytes : int, default=2**31
        Limit for the size of the archive, and for its size when unpacked.
    convert : callable, optional
        Takes the file, an empty folder and the part, and fills the folder. By default the file is unpacked.
    """

    url: str | Callable[[Any], str]
    checksum: str | None = None
    strict: bool = True
    strip: int = 0
    max_bytes: int = 2**31
    convert: Callable[[Path, Path, Any], None] | None = None


@dataclass(frozen=True)
class Part:
    """The parameter that chooses a part of a set.

    Parameters
    ----------
    parameter : str
        Its name.
    choices : sequence of str or None
    default : str or None, default=None
    several : bool, default=False
        Whether the value is a list of choices; its default is all of them.
    separate : bool, default=False
        Whether each part is downloaded on its own.

    Examples
    --------
    >>> from skastw.datasets._public_set import Part
    >>> Part("emotions", ["calm", "angry"], several=True).choose(["angry"])
    ['angry']
    """

    parameter: str
    choices: Sequence[Any]
    default: str | None = None
    several: bool = False
    separate: bool = False

    def choose(self, value: Any = None) -> Any:
        """Return a value of the parameter, or the default for None; refuse unknown choices.

        Raises
        ------
        DataError
            With the value and the choices.
        """
        if self.several:
            return check_names(self.parameter, value, self.choices)
        value = self.default if value is None else value
        check_name(self.parameter, value, self.choices)
        return value


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Parameters
    ----------
    name : str
        The name by which it is fetched, and the folder below ``data_home`` in which it is stored.
    title : str
        Full name; ``{part}`` stands for the part.
    read : callable
        Takes a folder and the part. Returns a DataFrame with the columns ``audio`` and ``target``, or None if the
        folder does not look like the set at all; raises FetchError if clips of the part are missing.
    about, licence, citation : str
        For ``DESCR``.
    archive : Archive or None
        None if the set is part of the package.
    folder : Path or None
        Location of a set that is part of the package.
    part : Part, optional
        By default the set has no parts.
    classes : sequence of str, optional
        In the order of ``target_names``; by default in alphabetical order.
    groups : str, optional
        Column of the units that no split may mix.
    splits : callable, optional
        Takes the DataFrame and returns ``cv``.
    extras : callable, optional
        Takes the DataFrame and returns further items of the Bunch.
    """

    name: str
    title: str
    read: Callable[[Path, Any], Any]
    about: str
    licence: str
    citation: str = ""
    archive: Archive | None = None
    folder: Path | None = None
    part: Part = Part("", (None,))
    classes: Sequence[str] = ()
    groups: str | None = None
    splits: Callable[[Any], Any] | None = None
    extras: Callable[[Any], Mapping[str, Any]] | None = None

    def describe(self, part: Any = None) -> str:
        """Return a description with licence and citation.

        Parameters
        ----------
        part : object
        """
        title = self.title.format(part=part)
        paragraphs = [f"{title}\n{'-' * len(title)}", self.about.strip(), f"Licence: {self.licence.strip()}"]
        if self.citation:
            paragraphs.append(f"Cite: {self.citation.strip()}")
        return "\n\n".join(paragraphs) + "\n"


def as_bunch(public: PublicSet, frame: Any, part: Any = None, *, return_X_y: bool, as_frame: bool) -> Any:
    """Return the table of a set in the form that the caller wants.

    Parameters
    ----------
    public : PublicSet
    frame : DataFrame
        As ``public.read`` returns it.
    part : object
    return_X_y, as_frame : bool
        As for :func:`skastw.datasets.fetch_dataset`.

    Returns
    -------
    Bunch, or (data, target)
    """
    data: Any = frame["audio"].tolist()
    target: Any = frame["target"].to_numpy(dtype=str)
    present = set(target)
    if as_frame:
        data, target = frame[["audio"]], frame["target"]
    if return_X_y:
        return data, target

    return Bunch(
        data=data,
        target=target,
        target_names=[name for name in public.classes or sorted(present) if name in present],
        groups=None if public.groups is None else np.array(frame[public.groups].tolist()),
        cv=None if public.splits is None else public.splits(frame),
        frame=frame if as_frame else None,
        DESCR=public.describe(part),
        **({} if public.extras is None else public.extras(frame)),
    )


def check_name(parameter: str, value: Any, known: Iterable[str | None]) -> None:
    """Refuse an unknown name.

    Parameters
    ----------
    parameter : str
        Its name, for the message.
    value : object
    known : iterable of str or None

    Raises
    ------
    DataError
        With the value, the known names, and the one that was probably meant.

    Examples
    --------
    >>> from skastw.datasets._public_set import check_name
    >>> check_name("subset", "animal", ["animals", "transport"])
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got subset='animal', expected one of 'animals', 'transport'; did you mean 'animals'?
    """
    known = list(known)
    if value not in known:
        raise DataError(unknown_value(parameter, value, known))


def check_names(parameter: str, values: Any, known: Sequence[str]) -> list[str]:
    """Return the names that are asked for, in the order of ``known``.

    Parameters
    ----------
    parameter : str
        Its name, for the message.
    values : iterable of str, str or None
        A single name stands for itself, None for all.
    known : sequence of str

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        With the value and the known names, and with an example of a list.

    Examples
    --------
    >>> from skastw.datasets._public_set import check_names
    >>> check_names("words", ["no", "yes"], ["yes", "no", "on"])
    ['yes', 'no']
    >>> check_names("words", "yes,no", ["yes", "no", "on"])
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got words='yes,no', expected a list such as words=['yes', 'no'] of 'yes', 'no', 'on'.
    """
    if values is None:
        return list(known)

    example = list(known[:2])
    if isinstance(values, str):
        words = [word.strip() for word in values.split(",")]
        chosen = [values] if values in known else []
        example = words if set(words) <= set(known) else example
    else:
        chosen = list(values) if isinstance(values, Iterable) else []
    if not chosen:
        raise DataError(
            f"Got {parameter}={plain(values)!r}, expected a list such as {parameter}={example} of "
            f"{', '.join(map(repr, known))}."
        )

    for value in chosen:
        check_name(parameter, value, known)
    return [name for name in known if name in chosen]
