"""A page of HTML in one file: tables, pictures and text, all escaped, that opens without a network and runs nothing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

__all__ = ["facts", "figure", "note", "page", "paragraph", "section", "table", "tiles"]

#: Of a style sheet; and the share of its size that a picture is not made smaller than.
_PIXELS_PER_INCH, _SMALLEST = 96, 0.7
_STYLE = """\
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --line: #dde3ea; --fill: #f5f7fa; --mark: #2c6fbb; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 44rem; overflow-wrap: anywhere; }
p.note { padding: .5rem 1rem; color: var(--ink); background: #fff6e0; border-left: .25rem solid #e0a100; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tile { background: var(--fill); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
.tile b { display: block; font-size: 1.8rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--soft); font-size: .9rem; }
.bar { position: relative; height: .4rem; margin: .5rem 0; background: var(--line); border-radius: .2rem; }
.bar i, .bar u { position: absolute; height: 100%; border-radius: .2rem; }
.bar i { background: #a9c8e8; }
.bar u { background: var(--mark); width: 3px; margin-left: -1.5px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; padding-left: .75rem; }
td { overflow-wrap: break-word; min-width: 5rem; max-width: 18rem; }
td.n { white-space: nowrap; min-width: 0; }
.n + :not(.n) { padding-left: .75rem; }
figure { margin: .5rem 0 1rem; overflow-x: auto; }
img { display: block; height: auto; }
@media (max-width: 40rem) {
  table { font-size: .8rem; }
  th, td { padding-right: .3rem; }
  td.n, th.n { padding-left: .4rem; }
}
"""

# The policy lets nothing be loaded or run, whatever a label or a file is called.
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def page(title: str, *parts: str) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
    *parts : str
        What the other functions of this module return.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> from skastw.evaluation.page import page, paragraph
    >>> "&lt;script&gt;" in page("Owls", paragraph("<script>"))
    True
    """
    return _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(parts))


def section(title: str, *parts: str) -> str:
    """Return a heading with what follows it.

    Parameters
    ----------
    title : str
    *parts : str
        HTML.
    """
    return "\n".join([f"<h2>{escape(title)}</h2>", *parts])


def paragraph(text: str) -> str:
    """Return a paragraph.

    Parameters
    ----------
    text : str
    """
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    """Return a paragraph that is not to be overlooked.

    Parameters
    ----------
    text : str
    """
    return f'<p class="note">{escape(text)}</p>'


def tiles(items: Sequence[tuple[str, float, tuple[float, float] | None]]) -> str:
    """Return large numbers side by side, each on a bar from 0 to 1 with its interval.

    Parameters
    ----------
    items : sequence of (name, value, (low, high) or None)
    """
    return f'<div class="tiles">{"".join(_tile(*item) for item in items)}</div>'


def _tile(name: str, value: float, interval: tuple[float, float] | None) -> str:
    bar, words = f'<u style="left:{value:.2%}"></u>', "no interval"
    if interval is not None:
        low, high = interval
        bar = f'<i style="left:{low:.2%};width:{high - low:.2%}"></i>{bar}'
        words = f"{low:.3f} to {high:.3f}"
    return (
        f'<div class="tile"><span>{escape(name)}</span><b>{value:.3f}</b><div class="bar">{bar}</div>'
        f"<span>{words}</span></div>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; floats have three digits, and numbers are aligned to the right.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequences of str, int, float or None
    """
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(header))]
    lines = [_row("th", header, numeric), *(_row("td", row, numeric) for row in rows)]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def facts(items: Sequence[tuple[str, str]]) -> str:
    """Return names with what belongs to them, one below the other.

    Parameters
    ----------
    items : sequence of (name, text)
    """
    lines = [f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in items]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[Any], numeric: Sequence[bool]) -> str:
    sides = [' class="n"' if right else "" for right in numeric]
    inside = "".join(f"<{tag}{side}>{escape(_text(cell))}</{tag}>" for cell, side in zip(cells, sides, strict=True))
    return f"<tr>{inside}</tr>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def figure(png: bytes, description: str, *, inches: float) -> str:
    """Return a picture as part of the page, as large as it was drawn where there is room.

    On a narrower screen it shrinks as far as its words can still be read, and scrolls beyond.

    Parameters
    ----------
    png : bytes
    description : str
        For those who do not see it.
    inches : float
        Its width.
    """
    content = base64.b64encode(png).decode("ascii")
    width = round(_PIXELS_PER_INCH * inches)
    style = f"width:{width}px;max-width:max(100%,{round(_SMALLEST * width)}px)"
    return f'<figure><img alt="{escape(description)}" style="{style}" src="data:image/png;base64,{content}"></figure>'
