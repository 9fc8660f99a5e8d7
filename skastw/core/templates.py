"""Pages and model cards from Jinja2 templates, in the folder ``templates`` beside the code that fills them."""

import functools
from collections.abc import Sequence
from typing import Any


def render(package: str, name: str, **values: Any) -> str:
    """Return a template with its values filled in.

    Every value is escaped for HTML, in Markdown too, unless it is a ``markupsafe.Markup``. A value that the template
    uses and the caller does not give is an error, not an empty text.

    Parameters
    ----------
    package : str
        Package with a folder ``templates``, such as ``"skastw.evaluation"``.
    name : str
        File name of the template.
    **values : object
        Variables and functions that the template uses.

    Returns
    -------
    str
        The text of the page.

    Raises
    ------
    jinja2.UndefinedError
        If the template uses a variable that is not given.

    Examples
    --------
    >>> from skastw.core.templates import render
    >>> model = {"encoder": "rnn", "classes": 3, "multilabel": False, "sample_rate": 16000}
    >>> "&lt;b&gt;owls" in render("skastw.serving", "page.html", title="<b>owls", model=model)
    True
    """
    return _environment(package).get_template(name).render(values)


def summary(
    title: str,
    *,
    header: Sequence[str] = (),
    rows: Sequence[Sequence[Any]] = (),
    heading: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Return a short page about a value, for ``_repr_html_``, with every text escaped.

    Parameters
    ----------
    title : str
    header : sequence of str
        Names of the columns of the table.
    rows : sequence of sequences
        Rows of the table, each a name and its values.
    heading : str
        Line above the notes.
    notes : sequence of str

    Examples
    --------
    >>> from skastw.core.templates import summary
    >>> "&lt;owl&gt;</th>" in summary("2 clips", rows=[("<owl>", 2)])
    True
    """
    return render("skastw.core", "summary.html", title=title, header=header, rows=rows, heading=heading, notes=notes)


@functools.cache
def _environment(package: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
