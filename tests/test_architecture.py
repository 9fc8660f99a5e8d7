"""The shape of the house: layers of imports, documented public names, no side effects of importing."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import skastw
from skastw.augment import Augment
from skastw.core.component import Component, component_names, resolve_component
from skastw.encoders import Encoder
from skastw.features import Features
from skastw.normalization import Normalization
from skastw.pooling import Pooling

ROOT = Path(skastw.__file__).parent

# Top row first. A file may import from rows below its own and from its own folder.
ROWS = [
    ["__main__"],
    ["cli"],
    ["runs", "serving"],
    ["evaluation"],
    ["plots"],
    ["estimators"],
    ["training", "artifact", "analysis"],
    ["network"],
    ["data", "datasets", "recipes"],
    ["features", "augment", "encoders", "normalization", "pooling", "targets"],
    ["audio", "storage"],
    ["core"],
    ["errors"],
]
LEVEL = {name: len(ROWS) - i for i, row in enumerate(ROWS) for name in row}
MODULES = {
    ".".join(["skastw", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def place(module):
    """Return the folder or file directly under skastw that a module belongs to; the package itself has none."""
    return module.split(".")[1] if "." in module else None


def imports(module, *, typing=True):
    """Yield the modules of skastw that a module imports, inside functions too, and for annotations if ``typing``."""
    statements = [node for node in TREES[module].body if typing or not is_for_annotations(node)]
    for node in (inner for statement in statements for inner in ast.walk(statement)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def is_for_annotations(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_every_file_has_a_place_in_the_house():
    assert {place(module) for module in MODULES} == {None, *LEVEL}


def test_few_entries_lie_directly_under_the_package():
    entries = [path.name for path in ROOT.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 26, entries


@pytest.mark.parametrize("module", [name for name in MODULES if place(name)])
def test_imports_go_down_the_rows(module):
    for other in map(place, imports(module)):
        assert other in (None, place(module)) or LEVEL[other] < LEVEL[place(module)], f"{module} imports {other}"


def test_imports_have_no_cycle():
    order = TopologicalSorter()
    for module in MODULES:
        if place(module):  # the package itself imports the estimators when they are asked for
            order.add(module, *(other for other in imports(module, typing=False) if other != module))
    order.prepare()


@cache
def private_names(module):
    """Return the private names of functions, classes and attributes that a module defines."""
    names = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("module", [name for name in MODULES if place(name)])
def test_no_private_attribute_of_a_higher_row_is_named_as_a_string(module):
    higher = {
        name
        for other in MODULES
        if place(other) and LEVEL[place(other)] > LEVEL[place(module)]
        for name in private_names(other)
    }
    higher -= private_names(module)
    texts = {node.value for node in ast.walk(TREES[module]) if isinstance(node, ast.Constant)}
    assert not higher & {text for text in texts if isinstance(text, str)}


def test_private_names_of_scikit_learn_are_in_one_file():
    for module, path in MODULES.items():
        for node in ast.walk(TREES[module]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn"):
                private = any(part.startswith("_") for part in node.module.split("."))
                private |= any(alias.name.startswith("_") for alias in node.names)
                assert not private or path.name == "sklearn_private.py", f"{module}: {node.module}"


def public_objects():
    for info in pkgutil.walk_packages([str(ROOT)], "skastw."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == info.name:
                yield f"{info.name}.{name}", value


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    value = PUBLIC[name]
    assert inspect.getdoc(value), name
    if inspect.isclass(value):
        for method_name, method in vars(value).items():
            if not method_name.startswith("_") and inspect.isfunction(method):
                assert inspect.getdoc(method), f"{name}.{method_name}"


@pytest.mark.parametrize("name", [n for n, v in PUBLIC.items() if inspect.isfunction(v) or inspect.isclass(v)])
def test_every_parameter_is_described(name):
    value = PUBLIC[name]
    if inspect.isclass(value) and (
        issubclass(value, Exception) or getattr(value, "_is_protocol", False) or "__init__" not in vars(value)
    ):
        return
    doc = inspect.getdoc(value) or ""
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name in ("self", "cls") or name.startswith(("skastw.cli.", "skastw.core.component.")):
            continue
        assert parameter.name in doc, f"{name} does not describe {parameter.name}"


def test_after_two_positions_arguments_are_by_keyword_and_spelled_out():
    for name, value in PUBLIC.items():
        if not inspect.isclass(value) or not name.startswith("skastw.estimators."):
            continue
        for method_name, method in inspect.getmembers(value, inspect.isfunction):
            if (
                method.__module__.startswith("skastw")
                and not method_name.startswith("_")
                and method_name != "set_params"
            ):
                kinds = [p.kind for p in inspect.signature(method).parameters.values()]
                assert inspect.Parameter.VAR_KEYWORD not in kinds, f"{name}.{method_name}"
                assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 3, f"{name}.{method_name}"


@pytest.mark.parametrize(
    "component",
    [
        resolve_component(base, n)
        for base in (Features, Normalization, Encoder, Pooling, Augment)
        for n in component_names(base.kind)
    ],
    ids=lambda component: f"{component.kind}-{component.name}",
)
def test_every_component_is_explained_with_a_runnable_example(component):
    assert isinstance(component, Component)
    doc = inspect.getdoc(type(component))
    assert doctest.DocTestParser().get_examples(doc), "an example that runs"
    for parameter in component.get_params():
        assert f"{parameter} :" in doc or f"{parameter}, " in doc or f", {parameter} :" in doc, parameter
    assert set(component._parameter_constraints) == set(component.get_params())


def test_the_top_level_names_are_few():
    assert sorted(skastw.__all__) == [
        "ASTWAutoClassifier",
        "ASTWClassifier",
        "ASTWFeaturizer",
        "ASTWPretrainer",
        "ASTWRegressor",
        "__version__",
    ]


def test_importing_is_quiet_and_light():
    code = (
        "import sys, torch, logging, warnings\n"
        "before = (torch.get_num_threads(), len(logging.root.handlers), list(warnings.filters))\n"
        "state = torch.random.get_rng_state()\n"
        "import sklearn.base, sklearn.metrics, sklearn.model_selection\n"
        "before = (torch.get_num_threads(), len(logging.root.handlers), list(warnings.filters))\n"
        "import skastw\n"
        "assert before == (torch.get_num_threads(), len(logging.root.handlers), list(warnings.filters))\n"
        "assert torch.equal(state, torch.random.get_rng_state())\n"
        "heavy = {'librosa', 'matplotlib', 'huggingface_hub', 'transformers', 'av', 'datasets', 'starlette'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""
