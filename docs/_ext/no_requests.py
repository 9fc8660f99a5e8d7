"""End a build whose pages would load anything from elsewhere: fonts, scripts, pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

#: What a browser fetches by itself, as opposed to links that a reader follows.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|@import\s+(?:url\()?["']?(?:https?:)?//[^"')\s]+|url\(\s*["']?(?:https?:)?//[^"')\s]+""",
    flags=re.IGNORECASE,
)


def find_requests(text: str) -> list[str]:
    """Return what a page or a style sheet asks other servers for."""
    return FETCHED.findall(text)


def check(app: Any, failure: Exception | None) -> None:
    """Refuse the site if any of its files asks another server for something."""
    from sphinx.errors import SphinxError

    if failure is not None or app.builder.format != "html":
        return
    files = [path for path in Path(app.outdir).rglob("*") if path.suffix in (".html", ".css")]
    found = [f"{path}: {item}" for path in files for item in find_requests(path.read_text(encoding="utf-8"))]
    if found:
        raise SphinxError("The site must need no other server:\n" + "\n".join(found))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
