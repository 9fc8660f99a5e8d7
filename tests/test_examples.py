"""The examples: their help, the quickstart's promise, and the real recordings where they are at hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skastw.artifact import FILES

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(p for p in ROOT.glob("examples/**/*.py") if "argparse" in p.read_text(encoding="utf-8"))
RAVDESS = Path(os.environ.get("SKASTW_RAVDESS", ROOT.parent / "shared" / "data" / "ravdess"))


def run(script, *arguments):
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_explains_itself(script):
    assert "usage" in run(script, "--help")


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
@pytest.mark.skipif(not RAVDESS.is_dir(), reason="set SKASTW_RAVDESS to a folder of RAVDESS speech")
def test_speech_emotion_example_on_real_recordings(tmp_path):
    small = ["--d-model", 64, "--num-heads", 4, "--num-layers", 2, "--epochs", 6]
    run("examples/speech_emotion/0_train.py", "--data-dir", RAVDESS, "--output-dir", tmp_path / "model", *small)
    run(
        "examples/speech_emotion/1_test.py",
        "--data-dir",
        RAVDESS,
        "--model",
        tmp_path / "model",
        "--output-dir",
        tmp_path,
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["n_clips"] == 112
    assert metrics["uar"] > 0.4  # chance is 0.25
    assert (tmp_path / "confusion_matrix.png").stat().st_size > 10_000
