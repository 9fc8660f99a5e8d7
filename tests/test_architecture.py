"""The shape of the house: layers of imports, documented public names, no side effects of importing."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import skastw
from skastw._component import Component, component_names, resolve_component
from skastw.augment import Augment
from skastw.encoders import Encoder
from skastw.features import Features
from skastw.normalization import Normalization
from skastw.pooling import Pooling

ROOT = Path(skastw.__file__).parent

# Top row first; a file may import from rows below its own, and a package from itself.
ROWS = [
    ["cli", "__main__"],
    ["runs"],
    ["evaluation", "bench"],
    ["plots", "demo"],
    ["classifier", "regressor", "featurizer"],
    ["_pretrained"],
    ["_estimator"],
    ["_inputs", "recipes", "transfer", "info"],
    ["training", "artifact", "card", "export", "hub", "occlusion"],
    ["extraction", "inference", "windows"],
    ["model"],
    ["features", "normalization", "encoders", "augment", "pooling", "failures"],
    ["frames", "datasets", "tables"],
    ["batching", "functional", "decibels", "audio", "weights", "_commit", "_labels"],
    [
        "errors",
        "_compiler",
        "_component",
        "_device",
        "_files",
        "_onnx_operators",
        "_optional",
        "_outputs",
        "_progress",
        "_random",
        "_sklearn",
        "_text",
        "_version",
        "_warnings",
        "_yaml",
    ],
]
LEVEL = {name: len(ROWS) - i for i, row in enumerate(ROWS) for name in row}
#: Imports within one row: the Hub stands on the folder, training's and the components' rooms are separate.
SIDEWAYS = {("hub", "artifact"), ("__main__", "cli"), ("_component", "_sklearn"), ("_component", "errors")}
SIDEWAYS |= {("_files", "errors"), ("_device", "errors"), ("_optional", "errors"), ("_sklearn", "errors")}
SIDEWAYS |= {("_yaml", "errors"), ("_outputs", "errors")}


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py" or path.parent != ROOT)


def room(dotted):
    return dotted.split(".")[1] if "." in dotted else None


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "skastw":
            if node.module == "skastw":
                yield from (alias.name for alias in node.names if alias.name in LEVEL)
            else:
                yield room(node.module)
        elif isinstance(node, ast.Import):
            yield from (room(alias.name) for alias in node.names if alias.name.startswith("skastw."))


def test_every_file_has_a_place_in_the_house():
    places = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in modules()}
    assert places == set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_the_rows(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for other in imported_rooms(path):
        allowed = other == own or LEVEL[other] < LEVEL[own] or (own, other) in SIDEWAYS
        assert allowed, f"{path.name} (row of {own}) imports {other}"


def test_private_names_of_scikit_learn_are_in_one_file():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn"):
                private = any(part.startswith("_") for part in node.module.split("."))
                private |= any(alias.name.startswith("_") for alias in node.names)
                assert not private or path.name == "_sklearn.py", f"{path}: {node.module}"


def public_objects():
    for info in pkgutil.walk_packages([str(ROOT)], "skastw."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if getattr(value, "__module__", None) == info.name:
                yield f"{info.name}.{name}", value


PUBLIC = dict(public_objects())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


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
    if inspect.isclass(value) and (issubclass(value, Exception) or "__init__" not in vars(value)):
        return
    doc = inspect.getdoc(value) or ""
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name in ("self", "cls") or name.startswith(("skastw.cli.", "skastw._component.")):
            continue
        assert parameter.name in doc, f"{name} does not describe {parameter.name}"


def test_after_two_positions_arguments_are_by_keyword_and_spelled_out():
    for name, value in PUBLIC.items():
        if not inspect.isclass(value) or not name.startswith(("skastw.classifier", "skastw.featurizer")):
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
    assert sorted(skastw.__all__) == ["ASTWClassifier", "ASTWFeaturizer", "ASTWRegressor", "__version__"]


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
