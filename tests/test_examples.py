"""The examples: their help, the quickstart's promise, and the real recordings where they are at hand."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from helpers import needs_fork, run_in_child
from skastw import ASTWClassifier
from skastw.artifact.folder import FILES
from skastw.evaluation.report import FILES as REPORT
from skastw.runs.sources import Clips

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(p for p in ROOT.glob("examples/**/*.py") if "__main__" in p.read_text(encoding="utf-8"))
#: Examples with a script that trains and a script that tests.
PAIRS = sorted(path.parent.name for path in ROOT.glob("examples/*/0_train.py"))
DATA = Path(os.environ["SKASTW_DATA"]) if "SKASTW_DATA" in os.environ else None
needs_data = pytest.mark.skipif(DATA is None, reason="set SKASTW_DATA to a folder of data sets")


def run(script, *arguments):
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture
def run_here(monkeypatch, tone_clips):
    """Return a function that runs a script of an example in this process, with tones instead of the data set."""
    X, y = tone_clips
    clips = Clips(X, np.array(["low", "mid", "high"])[y], (np.arange(len(X)) // 3).astype(str), {})
    halves = clips.part(np.arange(12)), clips.part(np.arange(12, 24))
    monkeypatch.setattr("skastw.runs.load_clips", lambda source: SimpleNamespace(split=lambda how: halves))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(script, *arguments):
        monkeypatch.delitem(sys.modules, "esc50", raising=False)
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")

    return run


@needs_fork
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_explains_itself(script, run_here, tmp_path):
    """In a forked process: a new one would import torch first, and some examples change the process."""

    def explain():
        sys.path.insert(0, str(script.parent))
        with open(tmp_path / "help.txt", "w", encoding="utf-8") as sys.stdout:
            run_here(script, "--help")

    assert run_in_child(explain) == 0
    assert "usage" in (tmp_path / "help.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("animals", {"epochs": "30", "batch-size": "8", "test-fold": "1", "pooling": "mean"}),
        ("transport", {"epochs": "24", "batch-size": "8", "test-fold": "1", "pooling": "mean"}),
    ],
)
def test_esc50_examples_have_their_own_defaults(name, defaults, run_here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # so that argparse breaks no path
    folder = f"exports/esc50_{name}"
    training = {**defaults, "subset": name, "output-dir": folder}
    beside = str(ROOT / "examples" / f"esc50_{name}")
    testing = {"subset": name, "test-fold": "1", "model": folder, "output-dir": beside}
    for script, expected in {"0_train": training, "1_test": testing}.items():
        with pytest.raises(SystemExit):
            run_here(ROOT / "examples" / f"esc50_{name}" / f"{script}.py", "--help")
        told = capsys.readouterr().out.partition("options:")[2].split("--")
        found = {words.split()[0]: " ".join(words.split()) for words in told if words.strip()}
        for option, value in expected.items():
            assert f"(default: {value})" in found[option]


@pytest.mark.parametrize("name", PAIRS)
def test_a_test_script_writes_its_report_beside_itself(name, run_here, fitted_classifier, tmp_path):
    model = fitted_classifier.save_pretrained(tmp_path / "model")
    folder = tmp_path / name
    folder.mkdir()
    script = shutil.copy(ROOT / "examples" / name / "1_test.py", folder)
    shutil.copy(ROOT / "examples" / "esc50.py", tmp_path)

    run_here(script, "--model", model)
    assert sorted(os.listdir(folder)) == sorted(["1_test.py", *REPORT])
    assert (folder / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["n_clips"] == 12
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {f"examples/*/{file}" for file in REPORT} <= set(ignored)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("pooling", ["mean", "attentive_stats"])
def test_a_training_script_pools_by_the_mean_unless_told_otherwise(name, pooling, run_here, monkeypatch):
    trained = []
    monkeypatch.setattr(ASTWClassifier, "fit", lambda clf, *_, **__: trained.append(clf) or sys.exit())
    with pytest.raises(SystemExit):
        run_here(ROOT / "examples" / name / "0_train.py", *(["--pooling", pooling] if pooling != "mean" else []))
    assert trained[0].pooling == pooling


@pytest.mark.slow
def test_the_gallery_draws_a_panel_for_every_augmentation(tmp_path):
    picture = tmp_path / "pictures" / "augmentations.png"
    assert str(picture) in run("examples/augmentations.py", "--output", picture)
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 50_000


@pytest.mark.slow
def test_quickstart_reaches_what_the_readme_promises(tmp_path):
    report = run("examples/quickstart.py", "--output-dir", tmp_path / "quickstart")
    assert sorted(os.listdir(tmp_path / "quickstart")) == sorted(FILES)
    assert (tmp_path / "confusion_matrix.png").stat().st_size > 10_000
    (macro,) = [line.split() for line in report.splitlines() if line.strip().startswith("macro avg")]
    assert float(macro[4]) >= 0.9


@pytest.mark.slow
@needs_data
def test_speech_emotion_example_on_real_recordings(tmp_path):
    small = ["--d-model", 64, "--num-heads", 4, "--num-layers", 2, "--epochs", 6]
    metrics = train_and_test("speech_emotion", DATA / "ravdess", tmp_path, small, [])
    assert metrics["n_clips"] == 112
    assert metrics["uar"] > 0.4  # chance is 0.25


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("name", ["esc50_animals", "esc50_transport"])
def test_esc50_examples_on_real_recordings(tmp_path, name):
    chosen = ["--subset", "esc10", "--test-fold", 2]
    metrics = train_and_test(name, DATA / "esc10", tmp_path, [*chosen, "--recipe", "tiny", "--epochs", 3], chosen)
    assert metrics["n_clips"] == 80
    assert metrics["uar"] > 0.3  # chance is 0.1


#: Clips of EMO-DB by the letter of the emotion, and its speakers.
EMODB = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "N": 79, "T": 62}
SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")


@pytest.mark.slow
def test_emodb_examples_on_tones_in_its_layout(tmp_path):
    (tmp_path / "wav").mkdir()
    rng = np.random.default_rng(0)
    for pitch, (letter, count) in enumerate(EMODB.items()):
        for i in range(count):
            tone = np.sin(2 * np.pi * 200 * 1.6**pitch * np.arange(3200) / 16000)
            name = f"{SPEAKERS[i % 10]}{'ab'[i % 2]}{i // 10:02d}{letter}a.wav"
            soundfile.write(tmp_path / "wav" / name, 0.3 * tone + 0.05 * rng.standard_normal(3200), 16000)
    brief = ["--recipe", "tiny", "--epochs", 2, "--test-speakers", "03", "16"]
    metrics = train_and_test("emodb", tmp_path, tmp_path, brief, ["--test-speakers", "03", "16"])
    assert {row["group"] for row in metrics["per_group"]} == {"03", "16"}
    report = run("examples/emodb/2_side_columns.py", "--data-dir", tmp_path, "--output-dir", tmp_path / "sides")
    assert len(report.splitlines()) == 2
    for name in ("statistics", "statistics_gender_and_age"):
        metrics = json.loads((tmp_path / "sides" / name / "metrics.json").read_text())
        assert metrics["n_clips"] == 535
        assert metrics["uar"] > 0.95  # tones are easy to tell apart


def train_and_test(name, data, place, training, testing):
    """Run the two scripts of an example; return the metrics, once all that is promised is there."""
    model = place / "model"
    run(f"examples/{name}/0_train.py", "--data-dir", data, "--output-dir", model, *training)
    run(f"examples/{name}/1_test.py", "--data-dir", data, "--model", model, "--output-dir", place / "test", *testing)
    assert sorted(os.listdir(model)) == sorted(FILES)
    for picture in ("confusion_matrix.png", "learning_curves.png", "group_scores.png"):
        assert (place / "test" / picture).stat().st_size > 10_000
    return json.loads((place / "test" / "metrics.json").read_text())
