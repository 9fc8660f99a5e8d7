"""The snippets of the README and the docs run, and what they link to exists."""

import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.core import component as _component
from skastw.core.optional import how_to_install
from skastw.network.inference import ROUNDING
from skastw.targets import _base as _targets

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("**/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]


def page_name(page):
    return str(page.relative_to(ROOT))


def snippets(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@contextmanager
def own_registry():
    """Forget afterwards which components and kinds of target a page has registered."""
    import skastw.estimators.classifier  # noqa: F401  registers those of skastw, which stay

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_component, "_REGISTRY", {kind: dict(named) for kind, named in _component._REGISTRY.items()})
        patch.setattr(_targets, "_REGISTRY", dict(_targets._REGISTRY))
        yield


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p)], ids=page_name)
def test_the_snippets_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKASTW_CACHE", str(tmp_path / "converted"))
    namespace = {}
    with own_registry():
        for code in snippets(page):
            exec(compile(code, str(page), "exec"), namespace)


def test_a_component_that_a_page_registers_is_gone_afterwards():
    from skastw.encoders import Encoder

    before = _component.component_names("encoder")
    with own_registry():
        type("Passing", (Encoder,), {"name": "passing"})
        assert "passing" in _component.component_names("encoder")
    assert _component.component_names("encoder") == before


def links(page):
    """Yield (file, anchor) of what a page links to inside the project; the file is None for the page itself."""
    text = re.sub(r"^(```|:::).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path or None, anchor


def source_of(path):
    """Return the file that a page which only the build writes is made from: a gallery script, or the reference."""
    if path.parent == DOCS / "gallery":
        gallery = ROOT / "examples" / "gallery"
        return gallery / ("GALLERY_HEADER.rst" if path.stem == "index" else f"{path.stem}.py")
    return DOCS / "_ext" / "reference.py" if path.parent == DOCS / "api" else path


def anchors(page):
    """Return the anchors of a page's headings, as MyST and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        target = page if path is None else (page.parent / path).resolve()
        assert source_of(target).exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("kind", _component.KINDS)
def test_the_guide_and_the_docstrings_name_every_component(kind):
    names = _component.component_names(kind)
    guide = (DOCS / "user_guide.md").read_text(encoding="utf-8")
    (listed,) = re.findall(rf"^\| `{kind}` \| (.*)$", guide, flags=re.MULTILINE)
    assert [name for name in names if f"`{name}`" not in listed and f"\n| `{name}` | " not in guide] == []
    for estimator in (ASTWClassifier, ASTWRegressor):
        entry = entry_of(estimator, kind)
        assert [name for name in names if f'``"{name}"``' not in entry] == []


def test_the_docstring_of_the_featurizer_names_every_front_end():
    entry = entry_of(ASTWFeaturizer, "features")
    names = set(_component.component_names("features")) - {"precomputed"}
    assert set(re.findall(r'``"(\w+)"``', entry)) == names


def entry_of(estimator, parameter):
    """Return the documentation of a parameter in the docstring of an estimator."""
    (entry,) = re.findall(rf"^{parameter} : .*\n((?:    .*\n)+)", inspect.getdoc(estimator), flags=re.MULTILINE)
    return entry


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/dependencies.md"])
def test_a_table_lists_every_extra(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = (ROOT / page).read_text(encoding="utf-8").partition("\n| extra | ")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)` \| .+ \|$", table, flags=re.MULTILINE)
    assert sorted(listed) == sorted(project["optional-dependencies"])


def test_one_page_says_how_to_install_skastw_with_the_commands_of_the_messages():
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    assert [page for page, text in texts.items() if "pip install" in text] == [DOCS / "index.md"]
    commands = re.findall("^pip install .*?(?= +#)", texts[DOCS / "index.md"], flags=re.MULTILINE)
    assert commands == re.findall("`(.+?)`", how_to_install(mark="`") + how_to_install("plot", mark="`"))


def test_the_guide_gives_the_tolerance_of_predictions():
    guide = (DOCS / "user_guide.md").read_text(encoding="utf-8")
    assert f"at most {ROUNDING:.0e} (`skastw.network.inference.ROUNDING`)".replace("e-05", "e-5") in guide


def test_a_parameter_of_training_is_added_in_one_file(tmp_path):
    """The change that the page on contributing shows makes a parameter of the estimators, complete in every respect."""
    page = (DOCS / "contributing.md").read_text(encoding="utf-8")
    (patch,) = re.findall(r"^```diff\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    package = shutil.copytree(ROOT / "skastw", tmp_path / "skastw", ignore=shutil.ignore_patterns("__pycache__"))
    file = package / "training" / "optim.py"
    text = file.read_text(encoding="utf-8")
    for part in patch.split("@@\n"):
        lines = part.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        assert text.count(before) == 1
        text = text.replace(before, "".join(line[1:] for line in lines if line[0] in " +"))
    file.write_text(text, encoding="utf-8")

    code = """if True:
        from skastw import ASTWClassifier, ASTWRegressor
        from skastw.datasets import make_tones
        X, y = make_tones(n_clips=8, n_classes=2, random_state=0)
        assert "momentum : float, default=0.95" in ASTWRegressor.__doc__
        try:
            ASTWClassifier(momentum=2).fit(X, y)
        except ValueError as error:
            assert "'momentum' parameter" in str(error)
        clf = ASTWClassifier(encoder="stacked_cnn", epochs=1, momentum=0.5, checkpoint_dir="runs").fit(X, y)
        other = ASTWClassifier(encoder="stacked_cnn", epochs=1, momentum=0.9, checkpoint_dir="runs").fit(X, y)
        assert (clf.predict_proba(X) != other.predict_proba(X)).any()
        assert ASTWClassifier.from_pretrained(clf.save_pretrained("model")).momentum == 0.5
        import skastw
        print(skastw.__file__)
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert str(tmp_path) in result.stdout
