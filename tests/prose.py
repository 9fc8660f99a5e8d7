"""Check paragraphs of long functions and plain English in docstrings: python tests/prose.py skastw [--list].

Of the functions with 15 or more body lines, at most 10 % may have neither a blank line nor a comment. Each of some
roundabout phrases may occur at most 4 times in 10,000 words of docstrings.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONG, MOST_DENSE, MOST_PHRASES = 15, 0.10, 4.0
PHRASES = {
    "what it, what there": r"\bwhat (it|there|the|is|was|has|they|a)\b",
    "where it, where there": r"\bwhere (there|it|the|they)\b",
    "those of": r"\bthose (of|that)\b",
    "is no": r"\b(is|are) (no|none)\b",
}

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def nodes(folder: Path) -> Iterator[tuple[Path, list[str], Documented]]:
    """Yield each module, class and function below a folder, with its file and the lines of that file."""
    for path in sorted(folder.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, Documented):
                yield path, source.splitlines(), node


def body_lines(node: Documented, lines: list[str]) -> list[str]:
    """Return the lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return lines[body[0].lineno - 1 : node.end_lineno] if body and not isinstance(node, ast.Module) else []


def main() -> int:
    """Print the two measures, and return 1 if one of them is beyond its limit."""
    folder, listed = Path(sys.argv[1]), "--list" in sys.argv
    n_long, n_words = 0, 0
    dense: list[str] = []
    phrases: dict[str, list[str]] = {name: [] for name in PHRASES}
    for path, lines, node in nodes(folder):
        place = f"{path}:{getattr(node, 'lineno', 1)}"
        body = [] if isinstance(node, ast.ClassDef) else body_lines(node, lines)
        if len(body) >= LONG:
            n_long += 1
            if not any(not line.strip() or "#" in line for line in body):
                dense.append(f"{place} {len(body)} lines without a paragraph")

        docstring = ast.get_docstring(node) or ""
        n_words += len(docstring.split())
        for name, pattern in PHRASES.items():
            phrases[name] += [f"{place} {match[0]}" for match in re.finditer(pattern, docstring, re.IGNORECASE)]

    share = len(dense) / max(n_long, 1)
    rates = {name: 1e4 * len(places) / max(n_words, 1) for name, places in phrases.items()}
    failed = share > MOST_DENSE or max(rates.values()) > MOST_PHRASES
    if listed or failed:
        print(*dense, *(place for places in phrases.values() for place in places), sep="\n")
    words = ", ".join(f"{name!r} {rate:.1f}" for name, rate in rates.items())
    print(f"{share:.0%} of {n_long} long functions have no paragraph; per 10,000 words of docstrings: {words}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
