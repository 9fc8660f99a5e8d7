"""The command line: a table for people, JSON for machines, one-line errors."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from skastw import ASTWClassifier, __version__
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder
from skastw.recipes import load_recipe, recipe_names

CLIPS = load_spoken_digits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    chosen = np.isin(CLIPS.target, ["one", "six"])
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    clf = ASTWClassifier(encoder=encoder, epochs=2).fit(np.array(CLIPS.data)[chosen], CLIPS.target[chosen])
    return clf.save_pretrained(tmp_path_factory.mktemp("cli") / "digits")


def skastw(*arguments):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "skastw", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_predict_prints_a_table(folder):
    result = skastw("predict", CLIPS.data[0], CLIPS.data[1], "--model", folder, "--top-k", 2)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["file", "label", "probability"]
    assert len(lines) == 5
    assert lines[1].split()[0] == CLIPS.data[0]
    assert {lines[1].split()[1], lines[2].split()[0]} == {"one", "six"}


def test_predict_prints_json_lines_that_agree_with_the_library(folder):
    result = skastw("predict", CLIPS.data[5], "-m", folder, "-k", 1, "--json")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    label, probability = ASTWClassifier.from_pretrained(folder).predict_top_k(CLIPS.data[5], k=1)[0][0]
    assert json.loads(line)["file"] == CLIPS.data[5]
    (top,) = json.loads(line)["predictions"]
    assert top["label"] == label
    assert top["probability"] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.wav", "--model", "FOLDER"], "skastw: missing.wav: no such file"),
        ([__file__, "--model", "FOLDER"], "cannot be decoded"),
        ([CLIPS.data[0], "--model", "no/such/folder"], "expected an existing folder or a repository"),
        ([CLIPS.data[0], "--model", "user/never-downloaded"], "Cannot fetch 'user/never-downloaded'"),
        ([CLIPS.data[0], "--model", "FOLDER", "--device", "tpu"], "device='tpu'"),
    ],
)
def test_errors_are_one_line_without_a_traceback(folder, arguments, message):
    result = skastw("predict", *[folder if a == "FOLDER" else a for a in arguments])
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("skastw: ")
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_files_that_cannot_be_read_do_not_hide_the_others(folder, form):
    result = skastw("predict", "missing.wav", CLIPS.data[5], __file__, "-m", folder, "-k", 1, *form)
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == (1 if form else 2)
    assert CLIPS.data[5] in result.stdout
    first, second = result.stderr.strip().splitlines()
    assert first.startswith("skastw: missing.wav: no such file")
    assert second.startswith(f"skastw: {__file__}: cannot be decoded")


def test_recipes_are_listed_in_a_table():
    result = skastw("recipes")
    assert result.returncode == 0, result.stderr
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["name", "description"]
    assert [line.split(maxsplit=1) for line in lines] == [[n, load_recipe(n).description] for n in recipe_names()]
    assert len({line.index(load_recipe(line.split()[0]).description) for line in lines}) == 1, "in columns"


def test_recipes_are_listed_for_machines():
    result = skastw("recipes", "--json")
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found == [{"name": n, "description": load_recipe(n).description} for n in recipe_names()]
    assert skastw("recipes", "small", "--json").stdout.splitlines() == [
        json.dumps(found[recipe_names().index("small")])
    ]


def test_a_printed_recipe_is_one_to_start_from(tmp_path):
    result = skastw("recipes", "small")
    assert result.returncode == 0, result.stderr
    mine = tmp_path / "mine.yaml"
    mine.write_text(result.stdout, encoding="utf-8")
    assert repr(load_recipe(mine).params) == repr(load_recipe("small").params)
    assert skastw("recipes", mine).stdout == result.stdout


def test_an_unknown_recipe_is_one_line_with_those_there_are():
    result = skastw("recipes", "no_such")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("skastw: Got recipe='no_such', expected one of 'astw'")


@pytest.mark.parametrize(
    "arguments",
    [["predict"], ["predict", "a.wav"], ["nonsense"], ["predict", "a", "-m", "b", "-k", "0"], ["recipes", "a", "b"]],
)
def test_wrong_usage_is_explained(arguments):
    result = skastw(*arguments)
    assert result.returncode == 2
    assert "Usage" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_and_version():
    assert __version__ in skastw("--version").stdout
    assert all(command in skastw("--help").stdout for command in ("predict", "recipes"))
