"""The wheel works without the source tree."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from skastw.core.optional import how_to_install

ROOT = Path(__file__).parent.parent

CODE = """
import skastw, sys
from importlib.resources import files
from skastw.datasets import load_spoken_digits
from skastw import ASTWClassifier
from skastw.encoders import ASTWEncoder
assert skastw.__file__.startswith(sys.argv[1]), skastw.__file__
for place, name in (("artifact", "card.md"), ("evaluation", "report.html"), ("serving", "page.html")):
    assert files(f"skastw.{place}").joinpath("templates", name).is_file(), name
clips = load_spoken_digits()
assert len(clips.data) == 400 and clips.data[0].startswith(sys.argv[1])
clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=1)
clf.fit(clips.data[::20], clips.target[::20], groups=clips.groups[::20])
print(ASTWClassifier.from_pretrained(clf.save_pretrained("model")).predict(clips.data[:1]))
"""


@pytest.mark.slow
def test_a_wheel_installs_and_works_without_the_source_tree(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    command = shlex.split(
        how_to_install("plot", mark="`").split("`")[-2].replace("file:///path/to/wheel.whl", wheel.as_uri())
    )
    install = [sys.executable, "-m", *command, "--quiet", "--no-deps", "--target", str(site)]
    subprocess.run(install, check=True, capture_output=True)
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(site)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
