"""What holds of the documentation site without building it; ``make docs`` builds it, without a warning."""

import importlib.util
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import skastw

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def extension(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference():
    return extension("reference")


def test_every_public_name_has_a_page_in_the_reference(reference, tmp_path):
    reference.write_pages(tmp_path)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.rst")}
    listed = {line for text in pages.values() for line in text.splitlines()}
    for info in pkgutil.iter_modules(skastw.__path__):
        if info.name.startswith("_") or info.name in reference.INSIDE:
            continue
        for name in importlib.import_module(f"skastw.{info.name}").__all__:
            assert f"   {name}" in listed, f"skastw.{info.name}.{name}"
    assert {f"   {name}" for name in skastw.__all__ if name != "__version__"} <= listed
    assert all(f"   {name}\n" in pages["index"] for name in set(pages) - {"index"})


def test_a_new_module_and_a_new_name_come_into_the_reference_by_themselves(reference, tmp_path, monkeypatch):
    (tmp_path / "birds.py").write_text('__all__ = ["sing"]\n\n\ndef sing():\n    """Sing."""\n')
    monkeypatch.setattr(skastw, "__path__", [*skastw.__path__, str(tmp_path)])
    monkeypatch.setattr(skastw.recipes, "__all__", [*skastw.recipes.__all__, "GLOB"])
    pages = reference.grouped()
    assert pages["More"] == ("", {"skastw.birds": ["sing"]})
    assert "GLOB" in pages["Recipes"][1]["skastw.recipes"]
    sys.modules.pop("skastw.birds")


def test_what_is_inside_is_there(reference):
    assert {info.name for info in pkgutil.iter_modules(skastw.__path__)} >= reference.INSIDE


def test_a_page_that_is_no_longer_written_is_removed(reference, tmp_path):
    (tmp_path / "names").mkdir()
    for old in ("gone.rst", "names/skastw.Gone.rst", "names/skastw.ASTWClassifier.rst"):
        (tmp_path / old).write_text("old")
    reference.write_pages(tmp_path)
    assert not (tmp_path / "gone.rst").exists()
    assert [path.name for path in (tmp_path / "names").iterdir()] == ["skastw.ASTWClassifier.rst"]


def test_every_command_is_in_the_reference(reference):
    from skastw.cli import cli

    page = reference.commands_page()
    assert all(f"\nskastw {name}\n---" in page for name in cli.commands)


def toctree_entries(page):
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                yield (page.parent / line).relative_to(DOCS).as_posix()


def test_every_page_is_in_a_toctree_once():
    pages = [page for page in DOCS.glob("**/*.md") if "_build" not in page.parts]
    entries = [entry for page in pages for entry in toctree_entries(page)]
    written_by_the_build = {"api/index", "gallery/index"}
    named = {page.relative_to(DOCS).with_suffix("").as_posix() for page in pages}
    assert sorted(entries) == sorted(named - {"index"} | written_by_the_build)


@pytest.mark.parametrize(
    "fetched",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        "<img alt='' src='//example.org/a.png'>",
        '<link href="https://fonts.example.org/css" rel="stylesheet">',
        '<link rel="preconnect" href="https://fonts.example.org">',
        '@import url("https://fonts.example.org/css");',
        "@font-face { src: url(https://example.org/a.woff2) }",
    ],
)
def test_what_a_browser_would_fetch_from_elsewhere_is_found(fetched):
    assert extension("no_requests").find_requests(f"<p>text</p>{fetched}")


def test_links_that_a_reader_follows_are_no_requests():
    page = '<a href="https://example.org">a</a><link rel="canonical" href="https://example.org"><img src="a.png">'
    assert not extension("no_requests").find_requests(page)
