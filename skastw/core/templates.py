"""Pages and model cards from Jinja2 templates, in the folder ``templates`` beside the code that fills them."""

import functools
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
    >>> model = {"classes": 3, "multilabel": False, "sample_rate": 16000}
    >>> "&lt;b&gt;owls" in render("skastw.serving", "page.html", title="<b>owls", model=model)
    True
    """
    return _environment(package).get_template(name).render(values)


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
