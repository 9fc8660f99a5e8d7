"""Fail a build if its pages would load fonts, scripts or pictures from other servers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

#: Addresses that a browser fetches by itself, as opposed to links that a reader follows.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')\s]+|url\(\s*["']?(?:https?:)?//[^"')\s]+""",
    flags=re.IGNORECASE,
)


def find_requests(text: str) -> list[str]:
    """Return the requests to other servers in a page or a style sheet."""
    return FETCHED.findall(text)


def check(app: Any, failure: Exception | None) -> None:
    """Raise an error if a file of the site would send requests to another server."""
    from sphinx.errors import SphinxError

    if failure is not None or app.builder.format != "html":
        return

    files = [path for path in Path(app.outdir).rglob("*") if path.suffix in (".html", ".css")]
    requests = [f"{path}: {item}" for path in files for item in find_requests(path.read_text(encoding="utf-8"))]
    if requests:
        raise SphinxError("The site must not load anything from other servers:\n" + "\n".join(requests))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
