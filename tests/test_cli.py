"""The command line: a table for people, JSON for machines, one-line errors."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from skastw import ASTWClassifier, __version__
from skastw.analysis import label_files
from skastw.artifact.folder import describe_model, read_files
from skastw.cli import main
from skastw.cli.completion import BASELINES, SETS, complete_data, complete_model, complete_recipe
from skastw.datasets import dataset_names, describe_audio, load_audio_folder, load_spoken_digits, make_tones
from skastw.encoders import ASTWEncoder, ResNetEncoder
from skastw.errors import DataError
from skastw.estimators.baselines import baseline_names
from skastw.network.model import count_parameters
from skastw.recipes import load_recipe, recipe_names
from skastw.training import loop as training_loop

CLIPS = load_spoken_digits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    chosen = np.isin(CLIPS.target, ["one", "six"])
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    clf = ASTWClassifier(encoder=encoder, epochs=2).fit(np.array(CLIPS.data)[chosen], CLIPS.target[chosen])
    return clf.save_pretrained(tmp_path_factory.mktemp("cli") / "digits")


def in_a_process(*arguments, **variables):
    """Run the command as a shell does."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **variables}
    command = [sys.executable, "-m", "skastw", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def skastw(*arguments):
    """Run the command here, which saves the seconds that torch takes to be imported."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["skastw", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
    code = stopped.value.code
    if isinstance(code, str):  # what Python does with it
        print(code, file=err)
        code = 1
    return SimpleNamespace(returncode=code or 0, stdout=out.getvalue(), stderr=err.getvalue())


# ------------------------------------------------------------------ predict


def test_predict_prints_a_table(folder):
    result = skastw("predict", CLIPS.data[0], CLIPS.data[1], "--model", folder, "--top-k", 2)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["clip", "predicted", "probability"]
    assert len(lines) == 5
    assert lines[1].split()[0] == CLIPS.data[0]
    assert {lines[1].split()[1], lines[2].split()[0]} == {"one", "six"}


def test_predict_prints_json_lines_that_agree_with_the_library(folder):
    result = skastw("predict", CLIPS.data[5], "-m", folder, "-k", 1, "--json")
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    label, probability = ASTWClassifier.from_pretrained(folder).predict_top_k(CLIPS.data[5], k=1)[0][0]
    assert json.loads(line)["clip"] == CLIPS.data[5]
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
        ([CLIPS.data[0], "--model", "FOLDER", "--device", "tpu"], "Got device='tpu', expected"),
    ],
)
def test_errors_are_one_line_without_a_traceback(folder, arguments, message):
    result = (in_a_process if "user/never-downloaded" in arguments else skastw)(
        "predict", *[folder if a == "FOLDER" else a for a in arguments]
    )
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
    [
        ["predict"],
        ["predict", "a.wav"],
        ["predict", "-m", "b"],
        ["predict", "a.wav", "--data", "c", "-m", "b"],
        ["nonsense"],
        ["predict", "a", "-m", "b", "-k", "0"],
        ["recipes", "a", "b"],
        ["train"],
        ["train", "--data", "owls"],
        ["train", "--data", "owls", "-o", "out", "--test-size", "many"],
        ["evaluate", "-m", "b"],
        ["describe"],
        ["windows", "a.wav", "-m", "b"],
        ["completion", "tcsh"],
        ["bench", "--clips", "1"],
        ["push", "folder"],
        ["evaluate", "-m", "b", "--data", "owls", "--folds", "2"],
        ["predict", "--data", "owls", "-m", "b", "--label-column", "c"],
        ["predict", "a.wav", "-m", "b", "--audio-column", "c"],
        ["train", "run.yaml", "--groups", "parent"],
        ["windows", "--data", "owls", "-m", "b", "-w", "1", "--groups", "parent"],
    ],
)
def test_wrong_usage_is_explained(arguments):
    result = skastw(*arguments)
    assert result.returncode == 2
    assert "Usage" in result.stderr
    assert "Traceback" not in result.stderr


COMMANDS = {"train", "evaluate", "predict", "windows", "embed", "describe", "recipes", "info", "export", "push"}
COMMANDS |= {"demo", "bench", "completion", "pretrained", "compare"}


def test_help_and_version():
    assert __version__ in skastw("--version").stdout
    listed = {line.split()[0] for line in skastw("--help").stdout.split("Commands:")[1].splitlines() if line.strip()}
    assert listed == COMMANDS
    for command in COMMANDS:
        text = skastw(command, "--help").stdout
        assert text.startswith(f"Usage: skastw {command}")
        assert f"\n  skastw {command}" in text or "skastw completion" in text, "an example"


def test_help_is_quick():
    """Heavy packages are imported by the command that needs them."""
    code = (
        "import sys; sys.argv = ['skastw', 'train', '--help']\n"
        "from skastw.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'sklearn', 'matplotlib', 'huggingface_hub', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_it_is_a_command_of_python():
    assert in_a_process("--version").stdout == skastw("--version").stdout
    assert in_a_process("nonsense").returncode == 2


# ------------------------------------------------------------------ predictions as tables


def test_predictions_are_written_as_a_table(folder, tmp_path):
    clips = CLIPS.data[:5]
    result = skastw("predict", *clips, "-m", folder, "--output", tmp_path / "new" / "predictions.csv")
    assert (result.returncode, result.stdout.strip()) == (0, str(tmp_path / "new" / "predictions.csv"))
    table = pd.read_csv(tmp_path / "new" / "predictions.csv")
    clf = ASTWClassifier.from_pretrained(folder)
    assert table["clip"].tolist() == clips
    assert table["predicted"].tolist() == clf.predict(clips).tolist()
    np.testing.assert_allclose(table[["p(one)", "p(six)"]], clf.predict_proba(clips), rtol=1e-5)
    np.testing.assert_allclose(table["probability"], clf.predict_proba(clips).max(axis=1), rtol=1e-5)


def test_parquet_holds_the_same(folder, tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("p.csv", "p.parquet"):
        assert skastw("predict", *CLIPS.data[:3], "lost.wav", "-m", folder, "-o", tmp_path / name).returncode == 1
    one, other = pd.read_csv(tmp_path / "p.csv"), pd.read_parquet(tmp_path / "p.parquet")
    assert one["clip"].tolist() == other["clip"].tolist()
    assert other["predicted"].isna().tolist() == one["predicted"].isna().tolist() == [False, False, False, True]
    np.testing.assert_allclose(one["probability"], other["probability"], rtol=1e-6)


def test_a_folder_stands_for_the_audio_files_in_it(folder, tones):
    result = skastw("predict", tones, "-m", folder, "--json")
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["clip"] for line in result.stdout.splitlines()] == sorted(map(str, tones.rglob("*.wav")))


def test_clips_need_no_labels_to_be_predicted(folder, tones, tmp_path):
    result = skastw("predict", "--data", tones, "-m", folder, "--json")
    assert len(result.stdout.splitlines()) == 24
    files = sorted(tones.rglob("*.wav"))[:3]
    pd.DataFrame({"file": files, "start": 0.1, "end": 0.2}).to_csv(tmp_path / "t.csv", index=False)
    result = skastw("predict", "--data", tmp_path / "t.csv", "--audio-column", "file", "-m", folder, "-k", 1, "--json")
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["clip"] for line in result.stdout.splitlines()] == [f"{file}#t=0.1,0.2" for file in files]


def test_embeddings_are_a_row_a_clip(folder, tmp_path):
    expected = ASTWClassifier.from_pretrained(folder).transform(CLIPS.data[:3])
    printed = skastw("embed", *CLIPS.data[:3], "-m", folder)
    table = pd.read_csv(io.StringIO(printed.stdout))
    assert table["clip"].tolist() == CLIPS.data[:3]
    np.testing.assert_allclose(table.drop(columns="clip"), expected, rtol=1e-4, atol=1e-6)
    assert skastw("embed", *CLIPS.data[:3], "-m", folder, "-o", tmp_path / "e.csv").returncode == 0
    assert pd.read_csv(tmp_path / "e.csv").drop(columns="error").equals(table)
    lines = skastw("embed", *CLIPS.data[:3], "-m", folder, "--json").stdout.splitlines()
    np.testing.assert_allclose([list(json.loads(line).values())[1:] for line in lines], expected, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------ windows


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Return six spoken digits one after the other, as one file."""
    path = tmp_path_factory.mktemp("long") / "night.wav"
    soundfile.write(path, np.concatenate([soundfile.read(clip)[0] for clip in CLIPS.data[40:46]]), 16000)
    return path


def test_windows_are_printed_and_written(folder, recording, tmp_path):
    expected = ASTWClassifier.from_pretrained(folder).predict_windows([str(recording)], window=0.5, hop=0.25)
    result = skastw("windows", recording, "-m", folder, "-w", 0.5, "--hop", 0.25)
    assert result.returncode == 0, result.stderr
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["clip", "start", "end", "predicted", "probability"]
    best = expected[["one", "six"]].idxmax(axis=1).tolist()
    assert [line.split()[3] for line in lines] == best
    skastw("windows", recording, "lost.wav", "-m", folder, "-w", 0.5, "--hop", 0.25, "-o", tmp_path / "w.csv")
    written = pd.read_csv(tmp_path / "w.csv")
    assert written["clip"].tolist() == [*expected["clip"], "lost.wav"]
    assert written.iloc[-1, 1:].isna().all()
    written = written.iloc[:-1]
    assert written["predicted"].tolist() == best
    np.testing.assert_allclose(written["probability"], expected[["one", "six"]].max(axis=1), rtol=1e-4)
    numbers = ["start", "end", "p(one)", "p(six)"]
    np.testing.assert_allclose(written[numbers], expected.drop(columns="clip"), rtol=1e-4, atol=1e-6)
    rows = skastw("windows", recording, "-m", folder, "-w", 0.5, "--aggregate", "mean", "--json").stdout.splitlines()
    assert [json.loads(row)["start"] for row in rows] == [0.0]


def test_tables_of_clips_and_of_windows_call_things_alike(folder, recording, tmp_path):
    for command, others in (("predict", []), ("windows", ["-w", 0.5])):
        assert skastw(command, recording, "-m", folder, *others, "-o", tmp_path / f"{command}.csv").returncode == 0
    clips, windows = (pd.read_csv(tmp_path / f"{name}.csv").columns.tolist() for name in ("predict", "windows"))
    assert clips == ["clip", "predicted", "probability", "p(one)", "p(six)", "error"]
    assert windows == ["clip", "start", "end", *clips[1:-1]]


def test_windows_that_are_less_probable_are_left_out_everywhere(folder, recording, tmp_path):
    ask = ["windows", recording, "-m", folder, "-w", 0.5]
    skastw(*ask, "-o", tmp_path / "all.csv")
    everything = pd.read_csv(tmp_path / "all.csv")
    least = float(everything["probability"].median())
    expected = int((everything["probability"] >= least).sum())
    assert 0 < expected < len(everything)
    skastw(*ask, "--min-probability", least, "-o", tmp_path / "some.csv")
    assert len(pd.read_csv(tmp_path / "some.csv")) == expected
    assert len(skastw(*ask, "--min-probability", least).stdout.splitlines()) == expected + 1
    assert len(skastw(*ask, "--min-probability", least, "--json").stdout.splitlines()) == expected


def test_windows_are_written_as_labels_of_audacity(folder, recording, tmp_path):
    place = tmp_path / "night.txt"
    result = skastw("windows", recording, "-m", folder, "-w", 0.5, "--output", place)
    assert (result.returncode, result.stdout.strip()) == (0, str(place))
    rows = [line.split("\t") for line in place.read_text(encoding="utf-8").splitlines()]
    assert rows
    table = ASTWClassifier.from_pretrained(folder).predict_windows([str(recording)], window=0.5)
    for start, end, text in rows:
        label, score = text.split()
        own = table[(table["start"] >= float(start) - 1e-6) & (table["end"] <= float(end) + 1e-6)]
        assert float(score) == pytest.approx(own[label].max(), abs=0.0051)
    times = [(float(start), float(end)) for start, end, _ in rows]
    assert times[0][0] == 0
    assert times[-1][1] == pytest.approx(soundfile.info(recording).duration, abs=1e-3)
    assert all(start < end for start, end in times)
    labels = [text.split()[0] for _, _, text in rows]
    assert all(one != two for one, two in pairwise(labels)), "neighbours of one label are joined"
    skastw("windows", recording, "-m", folder, "-w", 0.5, "--min-probability", 1, "--output", place)
    assert place.read_text() == ""
    several = skastw("windows", recording, CLIPS.data[0], "-m", folder, "-w", 0.5, "--output", place)
    assert several.returncode == 1
    assert "give the name of a folder" in several.stderr


def test_each_recording_gets_its_own_labels(folder, recording, tmp_path):
    for name in ("may/night.wav", "june/night.wav", "june/night.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, soundfile.read(recording)[0][: 16000 * len(name) // 8], 16000)
    ask = ["windows", tmp_path / "may", tmp_path / "june", "lost.wav", "-m", folder, "-w", 0.5]
    result = skastw(*ask, "--output", tmp_path / "labels")
    assert result.returncode == 1
    assert result.stderr.startswith("skastw: lost.wav: ")
    written = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(written) == sorted((tmp_path / "labels").rglob("*.txt"))
    assert sorted(path.name for path in written) == ["night.flac.txt", "night.txt", "night.wav.txt"]
    for path in written:
        source = tmp_path / path.parent.name / path.name.removesuffix(".txt")
        source = source if source.suffix else source.with_suffix(".wav")
        alone = skastw("windows", source, "-m", folder, "-w", 0.5, "--output", tmp_path / "alone.txt")
        assert alone.returncode == 0
        assert (tmp_path / "alone.txt").read_text() == path.read_text() != ""


def test_label_files_lie_as_the_recordings_do():
    def names(*clips):
        return [Path(file).relative_to("labels").as_posix() for file in label_files("labels", clips)]

    assert names("a/owl.wav") == ["owl.txt"]
    assert names("a/owl.wav", "a/wren.mp3", "a/Owl.flac") == ["owl.wav.txt", "wren.txt", "Owl.flac.txt"]
    assert names("a/b/owl.wav", "a/owl.wav", "a/c/d/owl.wav") == ["b/owl.txt", "owl.txt", "c/d/owl.txt"]
    assert names({"path": "owl.wav", "start": 1.0, "end": 2.5}, "owl.wav") == ["owl.wav#t=1,2.5.txt", "owl.txt"]
    assert names(np.zeros(8), np.zeros(8)) == ["0.txt", "1.txt"]
    assert names("owl.wav", "owl.mp3", "owl.wav.mp3") == ["owl.wav.txt", "owl.mp3.txt", "owl.wav.mp3.txt"]
    with pytest.raises(ValueError, match=r"recording 'owl\.wav' twice"):
        names("owl.wav", "./owl.wav")


@pytest.mark.parametrize("output", ["labels.xlsx", "taken"])
def test_an_output_that_cannot_take_labels_is_refused_at_once(recording, tmp_path, output):
    (tmp_path / "taken").write_bytes(b"a file")
    result = skastw("windows", recording, "-m", "no_model", "-w", 0.5, "--output", tmp_path / output)
    assert result.returncode in (1, 2)
    assert output in result.stderr
    assert "no_model" not in result.stderr


# ------------------------------------------------------------------ train, evaluate, describe


@pytest.fixture(scope="module")
def tones(make_tone_folder):
    return make_tone_folder(24, session_size=6)


SMALL = ["--recipe", "tiny", "-p", "epochs=1", "-p", "min_steps=0", "-p", "encoder={resnet: {width: 8}}"]


@pytest.fixture(scope="module")
def trained(tones, tmp_path_factory):
    place = tmp_path_factory.mktemp("trained") / "out"
    options = ["--groups", "parent", "--test-groups", "session_1,session_3", "--output", place]
    return skastw("train", "--data", tones, *SMALL, *options), place


def test_training_prints_scores_and_leaves_a_model_and_a_report(trained):
    result, place = trained
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    metrics = json.loads((place / "metrics.json").read_text())
    lines = [line.split() for line in result.stdout.splitlines() if line]
    assert ["uar", f"{metrics['uar']:.3f}", *(f"{v:.3f}" for v in metrics["intervals"]["uar"])] in lines
    assert lines[-1] == ["wrote", str(place)]
    assert metrics["n_clips"] == 12
    assert "intervals from resampling groups" in result.stdout
    assert {"report.html", "model", "run.yaml"} <= {path.name for path in place.iterdir()}


def test_training_on_the_outputs_of_a_pretrained_network(tones, wav2vec2_folder, tmp_path):
    options = ["--recipe", "frozen", "--weights", wav2vec2_folder, "-p", "epochs=1", "-p", "min_steps=0", "--quiet"]
    result = skastw("train", "--data", tones, *options, "--output", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    params = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["params"]
    assert params["encoder"]["transformers"]["weights"] == str(wav2vec2_folder)
    assert "Pretrained weights" in (tmp_path / "out" / "model" / "README.md").read_text()
    result = skastw("train", "--data", tones, "--recipe", "tiny", "--weights", "user/net", "-o", tmp_path / "other")
    assert "weights" in result.stderr
    assert result.returncode == 1


def test_a_selected_model_is_trained_and_its_run_file_repeats_it(tones, tmp_path):
    options = ("--data", tones, "--groups", "parent", "--recipe", "auto", "-p", "candidates=[statistics]", "-p", "cv=2")
    result = skastw("train", *options, "--budget", "1m", "-o", tmp_path / "auto", "-q")
    assert result.returncode == 0, result.stderr
    page = yaml.safe_load((tmp_path / "auto" / "run.yaml").read_text(encoding="utf-8"))
    assert page["params"]["solver"] == "lbfgs"
    [row] = json.loads((tmp_path / "auto" / "model" / "metrics.json").read_text(encoding="utf-8"))["selection"]
    assert (row["model"], row["selected"]) == ("statistics", True)

    result = skastw("train", tmp_path / "auto" / "run.yaml", "-o", tmp_path / "again", "-q")
    assert result.returncode == 0, result.stderr
    predictions = [(tmp_path / name / "predictions.csv").read_text(encoding="utf-8") for name in ("auto", "again")]
    assert predictions[0] == predictions[1]
    result = skastw("train", *options, "--budget", "soon", "-o", tmp_path / "no")
    assert "expected a time such as 90s" in result.stderr
    assert result.returncode == 2


def test_a_run_file_says_the_same(trained, tmp_path):
    result = skastw("train", trained[1] / "run.yaml", "--output", tmp_path / "again", "--json")
    assert result.returncode == 0, result.stderr
    printed = json.loads(result.stdout)
    first = json.loads((trained[1] / "metrics.json").read_text())
    assert printed["folder"] == str(tmp_path / "again")
    assert printed["confusion_matrix"] == first["confusion_matrix"]
    assert yaml.safe_load((tmp_path / "again" / "run.yaml").read_text())["split"] == {
        "test_groups": ["session_1", "session_3"]
    }


def test_evaluating_the_saved_model_gives_the_same_scores(trained, tones, tmp_path):
    options = ["--data", tones, "--groups", "parent", "--test-groups", "session_1,session_3"]
    result = skastw("evaluate", "-m", trained[1] / "model", *options, "--output", tmp_path / "report", "--json")
    assert result.returncode == 0, result.stderr
    first, again = json.loads((trained[1] / "metrics.json").read_text()), json.loads(result.stdout)
    for name in ("accuracy", "uar", "intervals", "confusion_matrix", "per_group"):
        assert again[name] == first[name], name
    assert (tmp_path / "report" / "report.html").exists()
    whole = skastw("evaluate", "-m", trained[1] / "model", "--data", tones)
    assert "24 clips; intervals from resampling clips" in whole.stdout


def test_what_to_know_of_the_scores_is_printed(trained, tones):
    options = ["--data", tones, "--groups", "parent"]
    one = skastw("evaluate", "-m", trained[1] / "model", *options, "--test-groups", "session_1").stdout
    assert "needs at least two groups" in one
    assert "nan" not in one.split()
    two = skastw("evaluate", "-m", trained[1] / "model", *options, "--test-groups", "session_1,session_3").stdout
    scores = re.search(r"accuracy +\S+ +(\S+) +(\S+)", two)
    assert ("has no width, because there are too few groups" in two) is (scores[1] == scores[2])
    rest = sorted({path.name for path in tones.glob("*/*")} - {"session_1", "session_3"})
    own = skastw("evaluate", "-m", trained[1] / "model", *options, "--test-groups", ",".join(rest)).stdout
    assert "* The model was trained on these very clips" in own


def test_clips_that_cannot_be_read_do_not_hide_the_scores(trained, tones):
    table = tones.parent / "table.csv"
    files = [*sorted(tones.rglob("*.wav")), tones.parent / "bad.wav"]
    files[-1].write_bytes(b"not audio")
    pd.DataFrame({"file": files, "what": [*(f.parts[-3] for f in files[:-1]), "low"]}).to_csv(table, index=False)
    columns = ["--audio-column", "file", "--label-column", "what"]
    result = skastw("evaluate", "-m", trained[1] / "model", "--data", table, *columns)
    assert result.returncode == 1
    assert "24 clips" in result.stdout
    assert result.stderr.startswith(f"skastw: {files[-1]}: ")


def test_warnings_are_one_line_without_a_place_in_the_code(trained, tones, tmp_path):
    files = sorted(tones.rglob("*.wav"))
    labels = ["whistle", *(file.parts[-3] for file in files[1:])]
    pd.DataFrame({"audio": files, "label": labels}).to_csv(tmp_path / "t.csv", index=False)
    result = skastw("evaluate", "-m", trained[1] / "model", "--data", tmp_path / "t.csv")
    assert result.returncode == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: Got clips of ['whistle'], which the classifier does not know")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "--data", "t.csv", "-m", "MODEL"],
            "label_column='label' is not a column of the table, expected one of 'audio', 'sound'",
        ),
        (
            ["describe", "--data", "t.csv", "--label-column", "sound", "--test-fold", "1"],
            "Got test_fold='1' for clips without folds",
        ),
        (["describe", "--data", "SOUNDS", "--groups", "(low", "--folds", "2"], "Got groups='(low', expected"),
        (["train", "--data", "SOUNDS", "-o", "out", "--recipe", "mine"], "Got recipe='mine', expected one of 'astw'"),
    ],
)
def test_errors_name_the_argument(trained, tones, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    files = sorted(tones.rglob("*.wav"))
    pd.DataFrame({"audio": files, "sound": [file.parts[-3] for file in files]}).to_csv("t.csv", index=False)
    names = {"SOUNDS": tones, "MODEL": trained[1] / "model"}
    result = skastw(*[names.get(argument, argument) for argument in arguments])
    assert result.returncode == 1
    assert result.stderr.startswith(f"skastw: {message}")


@pytest.mark.parametrize(("typed", "meant"), [("predct", "predict"), ("--grups", "--groups"), ("trian", "train")])
def test_a_mistyped_command_or_option_is_suggested(typed, meant):
    result = skastw(*(["train", typed, "parent"] if typed.startswith("-") else [typed]))
    assert result.returncode == 2
    assert meant in result.stderr.splitlines()[-1]


def test_messages_of_the_library_are_printed_as_they_are(tones, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tones, "sounds")
    Path("sounds/low/bad.wav").write_bytes(b"not audio")
    clips = load_audio_folder("sounds")
    described = skastw("describe", "--data", "sounds")
    assert described.returncode == 0, described.stderr
    assert described.stdout == f"{describe_audio(clips.data, clips.target)}\n"

    with pytest.raises(DataError) as raised:
        load_audio_folder("sounds", groups="(low")
    assert skastw("describe", "--data", "sounds", "--groups", "(low").stderr == f"skastw: {raised.value}\n"


def test_advice_about_unreadable_clips_can_be_followed(tones, tmp_path):
    """The advice names a parameter of the estimator, and the command that has parameters takes it."""
    shutil.copytree(tones, tmp_path / "sounds")
    (tmp_path / "sounds" / "low" / "bad.wav").write_bytes(b"not audio")
    advice = skastw("describe", "--data", tmp_path / "sounds").stdout
    assert "train with on_error='warn'" in advice
    assert "--" not in advice, "no option, since describe has none for it"

    options = ["--data", tmp_path / "sounds", *SMALL, "-o", tmp_path / "out"]
    assert skastw("train", *options).returncode == 1
    result = skastw("train", *options, "--param", "on_error=warn")
    assert result.returncode == 0, result.stderr


def test_clips_are_described(tones):
    result = skastw("describe", "--data", tones, "--groups", "parent", "--test-groups", "session_0")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("24 clips")
    found = json.loads(skastw("describe", "--data", tones, "--json").stdout)
    assert found["summary"]["n_clips"] == len(found["clips"]) == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "lost.yaml"], "The run file 'lost.yaml' does not exist (looked in "),
        (["train", "--data", "no_such_set", "-o", "out"], "Got 'no_such_set' as the set of data, expected"),
        (["train", "--data", "TONES", "-o", "out", "-p", "epoch=3"], "did you mean 'epochs'"),
        (["train", "--data", "TONES", "-o", "out", "-p", "epochs"], "expected NAME=VALUE, such as epochs=20"),
        (
            ["train", "--data", "TONES", "-o", "out", "--test-size", "0.2", "--folds", "3"],
            "Got --test-size and --folds",
        ),
        (["train", "--data", "TONES", "-o", "out", "--test-size", "2"], "'--test-size' holds 2.0, expected a share"),
        (["train", "--data", "TONES", "-o", "out", "--folds", "ownn"], "'--folds' holds 'ownn', expected a number"),
        (
            ["train", "--data", "TONES", "-o", "out", "--seed", "1"],
            "Got --seed, expected it with --test-size or --folds",
        ),
        (["train", "--data", "TONES", "-o", "out", "--label-column", "a"], "Got --label-column with a folder ("),
        (
            ["train", "--data", "esc50", "-o", "out", "--groups", "parent"],
            "Got --groups with a data set ('esc50'), exp",
        ),
        (["describe", "--data", "esc50", "--groups", "parent"], "expected it with a folder"),
        (["evaluate", "-m", "FOLDER", "--data", "TONES", "--seed", "3"], "expected it with --test-size."),
        (["predict", "-m", "FOLDER", "--data", "TONES", "--audio-column", "a"], "expected it with a table"),
        (["describe", "--data", "esc500"], "did you mean 'esc50'?"),
        (["bench", "--device", "gpu"], "did you mean 'cuda'?"),
        (["bench", "--device", "gpu:1"], "did you mean 'cuda:1'?"),
        (["train", "--data", "TONES", "-o", "out", "--test-fold", "1"], "for clips without folds"),
        (["describe", "--data", "lost.csv"], "lost.csv"),
        (["describe", "--data", "lost/sounds"], "The folder or table 'lost/sounds' does not exist"),
        (["info", "no/such/folder"], "expected an existing folder or a repository"),
        (["push", "no_such_folder", "user/name"], "There is no model folder 'no_such_folder' (looked in "),
        (["bench", "--recipe", "no_such"], "Got recipe='no_such'"),
    ],
)
def test_what_goes_wrong_is_one_line(folder, tones, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    names = {"TONES": tones, "FOLDER": folder}
    result = skastw(*[names.get(argument, argument) for argument in arguments])
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("skastw: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ interrupted, quiet


@pytest.fixture
def interrupted(monkeypatch):
    """Let Ctrl-C be pressed in the second epoch of a training."""
    step, steps = training_loop._step, []

    def stopped(run, batch):
        steps.append(run.name == "training")
        if sum(steps) == 3:  # two steps an epoch
            raise KeyboardInterrupt
        return step(run, batch)

    monkeypatch.setattr(training_loop, "_step", stopped)


QUICK = "description: a first look\nparams: {epochs: 1, min_steps: 0, encoder: {resnet: {width: %d}}}\n"


def test_models_are_compared_and_the_same_command_goes_on(tones, tmp_path):
    files = [tmp_path / "narrow.yaml", tmp_path / "wide.yaml"]
    for width, file in zip((4, 8), files, strict=True):
        file.write_text(QUICK % width)
    place = tmp_path / "out"
    command = ["compare", *files, "--data", tones, "--groups", "parent", "--folds", 2, "--output", place]
    result = skastw(*command)
    assert result.returncode == 0, result.stderr
    assert "compare: 4 of 4 folds" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2 models on 24 clips, 4 groups, 2 splits, 1 seed; the best is '")
    assert {line.split()[0] for line in lines[-3:-1]} == {"narrow", "wide"}
    assert lines[-1] == f"wrote {place / 'comparison.html'}"

    times = {record: record.stat().st_mtime_ns for record in (place / "folds").iterdir()}
    assert len(times) == 4
    refused = skastw(*command)
    assert (refused.returncode, "contains earlier results" in refused.stderr) == (1, True)
    again = skastw(*command, "--overwrite", "--json", "--reference", "wide", "--score", "accuracy")
    printed = json.loads(again.stdout)
    assert (printed["reference"], printed["score"], printed["n_groups"]) == ("wide", "accuracy", 4)
    assert times == {record: record.stat().st_mtime_ns for record in (place / "folds").iterdir()}


def test_a_model_that_fails_does_not_hide_the_others(tones, tmp_path):
    (tmp_path / "quick.yaml").write_text(QUICK % 4)
    (tmp_path / "no_leap.yaml").write_text("params: {epochs: 1, min_steps: 0, init_from: no/such/model}")
    names = [tmp_path / "no_leap.yaml", tmp_path / "quick.yaml"]
    result = skastw(
        "compare", *names, "--data", tones, "--groups", "parent", "--test-groups", "session_0,session_2", "-q"
    )
    assert result.returncode == 1
    assert "skastw: no_leap, seed 0, split session_0, session_2: " in result.stderr
    assert result.stdout.splitlines()[-2].startswith("quick")


def test_ctrl_c_saves_what_was_learned_and_says_so(tones, tmp_path, interrupted):
    options = ["--groups", "parent", "--test-groups", "session_1", *SMALL, "-p", "epochs=9", "-p", "batch_size=9"]
    result = skastw("train", "--data", tones, *options, "-o", tmp_path / "out", "--json")
    assert result.returncode == 130
    first, *_, last = [line for line in result.stderr.splitlines() if not line.startswith("epoch")]
    assert first == "warning: Training was interrupted in epoch 2 of 9; the weights of epoch 1 are kept."
    assert last.startswith("skastw: interrupted")
    assert json.loads(result.stdout)["interrupted"] is True
    report = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert report["about"]["epochs"] == "1 of 9, interrupted"
    assert "1 of 9, interrupted" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    model = json.loads((tmp_path / "out" / "model" / "metrics.json").read_text())
    assert (model["interrupted"], model["n_epochs"], model["max_epochs"]) == (True, 1, 9)
    card = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "1 of 9 epochs in batches of 9, when it was interrupted;" in card
    assert yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["params"]["epochs"] == 9, "as it was asked for"
    assert skastw("predict", "--data", tones, "-m", tmp_path / "out" / "model").returncode == 0


def test_ctrl_c_elsewhere_is_told_in_the_exit_status(folder, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ASTWClassifier, "predict_top_k", stop)
    result = skastw("predict", CLIPS.data[0], "-m", folder)
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr.splitlines()[-1] == "skastw: interrupted"


def test_a_log_gets_a_line_for_each_epoch(tones, tmp_path):
    options = ["--data", tones, "--groups", "parent", "--folds", "2", *SMALL, "-p", "epochs=2", "-o", tmp_path / "out"]
    lines = skastw("train", *options).stderr.splitlines()
    shown = [line.split(":")[0] for line in lines if not line.startswith("warning")]
    epochs = ["epoch 1 of 2", "epoch 2 of 2"]
    assert shown == ["fold 1 of 2", *epochs, "fold 2 of 2", *epochs, "all clips", *epochs]
    assert all("loss 0." in line or "loss 1." in line for line in lines if line.startswith("epoch"))
    quiet = skastw("train", "--data", tones, "--test-size", "0.5", *SMALL, "-o", tmp_path / "two", "--quiet")
    assert quiet.returncode == 0
    assert all(line.startswith("warning: ") for line in quiet.stderr.splitlines())


# ------------------------------------------------------------------ the rest


def test_info_tells_what_a_model_is(folder):
    result = skastw("info", folder)
    assert result.returncode == 0, result.stderr
    said = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if len(line.split()) > 1)
    assert said["estimator"] == "ASTWClassifier"
    assert said["labels"] == "2: one, six"
    assert said["encoder"].startswith("astw(d_model=16, ")
    found = json.loads(skastw("info", folder, "--json").stdout)
    model = ASTWClassifier.from_pretrained(folder)
    assert found["n_parameters"] == count_parameters(model.model_)
    assert said["parameters"] == f"{found['n_parameters']:,}"
    assert f"{said['parameters']} parameters" in (Path(folder) / "README.md").read_text(encoding="utf-8")
    assert found["components"]["encoder"]["params"]["d_model"] == 16
    assert found["weights"]["bytes"] == (Path(folder) / "model.safetensors").stat().st_size


def test_one_number_of_parameters_is_told_though_more_is_stored(tmp_path):
    """Several networks side by side, running means of batches and of bins: what is stored is more than what trains."""
    clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    several = {"encoder": ResNetEncoder(width=4), "n_models": 2, "normalization": "per_bin"}
    clf = ASTWClassifier(**several, epochs=1, val_split=None).fit(clips, y)
    folder = clf.save_pretrained(tmp_path / "model")
    n_parameters = count_parameters(clf.model_)
    assert n_parameters < sum(tensor.numel() for tensor in clf.model_.state_dict().values())
    assert describe_model(folder)["n_parameters"] == n_parameters
    assert f"{n_parameters:,} parameters" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    again = ASTWClassifier.from_pretrained(folder)
    assert count_parameters(again.model_) == n_parameters


def test_info_leaves_out_what_there_is_not(tmp_path):
    clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    clf = ASTWClassifier(encoder=ResNetEncoder(width=4), augment=None, epochs=1, val_split=None).fit(clips, y)
    result = skastw("info", clf.save_pretrained(tmp_path / "model"))
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert all(len(line) == 2 for line in lines)
    assert "validation" not in dict(lines)
    assert dict(lines)["split"] == "no validation"


def test_info_does_not_read_the_weights(folder, tmp_path):
    """A file whose values are gone, but for its header, is still described."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in Path(folder).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    content = (copy / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    (copy / "model.safetensors").write_bytes(content[:header] + bytes(len(content) - header))
    assert skastw("info", copy).returncode == 0
    assert skastw("predict", CLIPS.data[0], "-m", copy).returncode == 1


def test_bench_measures_clips_a_second():
    result = skastw("bench", "--recipe", "tiny", "--clips", 2, "--duration", 0.3, "--device", "cpu", "--json")
    assert result.returncode == 0, result.stderr
    speed = json.loads(result.stdout)
    assert all(speed[name] > 0 for name in ("features", "training", "prediction"))
    assert (speed["recipe"], speed["n_clips"]) == ("tiny", 2)
    assert "clips/s" in skastw("bench", "--recipe", "tiny", "--clips", 2, "--duration", 0.3).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_their_completion(shell):
    result = skastw("completion", shell)
    assert result.returncode == 0, result.stderr
    assert f"_SKASTW_COMPLETE={shell}_complete" in result.stdout


def test_completion_completes_commands_and_options():
    ask = {"_SKASTW_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    assert in_a_process(COMP_WORDS="skastw tr", **ask).stdout.split() == ["plain,train"]
    ask["COMP_CWORD"] = "2"
    assert "plain,--recipe" in in_a_process(COMP_WORDS="skastw train --re", **ask).stdout


def completed(function, incomplete):
    return [(item.type, item.value) for item in function(None, None, incomplete)]


def test_recipes_sets_and_files_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "notes.txt", "small_owls.yaml"):
        Path(name).write_text("")
    names = [("plain", name) for name in recipe_names()]
    own = [("plain", "mine.yaml"), ("plain", "small_owls.yaml")]
    assert completed(complete_recipe, "") == [("file", ""), *names, *own]
    assert completed(complete_recipe, "smal") == [("file", "smal"), ("plain", "small"), ("plain", "small_owls.yaml")]
    assert completed(complete_recipe, "[") == [("file", "[")]
    assert completed(complete_model, "tin") == [("file", "tin"), ("plain", "tiny")]
    assert completed(complete_model, "statistics-") == [("file", "statistics-"), ("plain", "statistics-svm")]
    assert completed(complete_data, "esc") == [("file", "esc"), ("plain", "esc50")]


def test_the_sets_and_baselines_that_are_completed_are_those_there_are():
    assert list(SETS) == dataset_names()
    assert list(BASELINES) == baseline_names()


def test_files_are_completed_where_files_are_meant():
    ask = {"_SKASTW_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    assert in_a_process(COMP_WORDS="skastw predict --model ex", **ask).stdout.split() == ["file,ex"]
    found = in_a_process(COMP_WORDS="skastw train --recipe t", **ask).stdout.split()
    assert found == ["file,t", "plain,tiny"]


def test_push_uploads_a_whole_model(folder, monkeypatch, tmp_path):
    pushed = []
    monkeypatch.setattr(
        "skastw.storage.hub.push", lambda *args, **options: pushed.append((args, options)) or "https://commit"
    )
    result = skastw("push", folder, "user/digits", "--private")
    assert (result.returncode, result.stdout.strip()) == (0, "https://commit")
    assert pushed == [((read_files(folder), "user/digits"), {"private": True})]
    assert skastw("push", tmp_path, "user/digits").returncode == 1
    assert len(pushed) == 1


# ------------------------------------------------------------------ the page of the docs

PAGE = Path(__file__).parent.parent / "docs" / "command_line.md"


def run_page(text):
    """Run the commands of a page; a file that is written with ``cat > NAME <<END`` is written."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for name, content in re.findall(r"^cat > (\S+) <<END\n(.*?)^END\n", block, flags=re.DOTALL | re.MULTILINE):
            Path(name).write_text(content, encoding="utf-8")
        for line in re.findall(r"^skastw .*$", block.replace("\\\n", ""), flags=re.MULTILINE):
            command, _, target = line.partition(" > ")
            result = skastw(*shlex.split(command)[1:])
            assert result.returncode == 0, f"{line}\n{result.stderr}"
            assert result.stdout
            if target:
                Path(target).write_text(result.stdout, encoding="utf-8")
            yield command.split()[1]


def test_the_commands_of_the_page_run(tones, recording, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tones, "sounds")
    days = ("monday", "tuesday", "wednesday", "thursday")
    for folder in list(Path("sounds").glob("*/session_*")):
        folder.rename(folder.with_name(days[int(folder.name[-1])]))
    soundfile.write("night.flac", *soundfile.read(recording))
    files = sorted(Path("sounds").rglob("*.wav"))
    pd.DataFrame({"file": files, "sound": [file.parts[1] for file in files]}).to_csv("clips.csv", index=False)
    run = set(run_page(PAGE.read_text(encoding="utf-8")))
    assert run == COMMANDS - {"push", "demo"}
    assert yaml.safe_load(Path("exports/yard/run.yaml").read_text())["params"]["encoder"]["resnet"]["width"] == 8
    assert Path("night.txt").exists()


def test_the_page_names_every_command_and_option():
    text = PAGE.read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"[`{command}`]" in text
        for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", skastw(command, "--help").stdout, flags=re.MULTILINE):
            common = option in ("--help", "--device", "--top-k", "--revision", "--public", "--min-probability")
            assert common or f"{option}" in text, f"{command} {option}"


def test_a_name_that_no_table_has_is_refused_before_anything_is_computed(folder, tmp_path):
    for command, others in (("predict", []), ("embed", []), ("windows", ["--window", "1"])):
        output = tmp_path / "out.xyz"
        result = skastw(command, "lost.wav", "--model", "no/such/model", *others, "--output", output)
        assert result.returncode == 2
        assert "expected a name that ends in .csv, .parquet" in result.stderr
