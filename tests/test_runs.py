"""Runs: a page of YAML trains, tests on what was held out and can be done again; other pages are refused."""

import json
import os
import re
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard

from skastw import ASTWClassifier
from skastw.artifact.folder import describe_model
from skastw.datasets import load_spoken_digits
from skastw.errors import (
    ArtifactError,
    ClipValueError,
    ComponentError,
    RecipeError,
    RunError,
    SkastwError,
    TrainingError,
)
from skastw.evaluation import evaluate
from skastw.network.components import resolve_components
from skastw.recipes import load_recipe, plain_params, recipe_names, resolve_params
from skastw.runs import (
    Clips,
    Run,
    find_clips,
    load_clips,
    load_run,
    make_estimator,
    make_folds,
    parse_run,
    plan_run,
    run,
    source_of,
    unlabelled_clips,
)
from skastw.training import loop as training_loop

RATE = 16000
SMALL = {"encoder": {"resnet": {"width": 8, "num_stages": 2}}, "epochs": 2, "min_steps": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(make_tone_folder):
    return make_tone_folder(36, session_size=6)


@pytest.fixture(scope="module")
def table(folder):
    files = sorted(folder.rglob("*.wav"))
    rows = [(f"clips/{file.relative_to(folder)}", file.parts[-3], file.parts[-2]) for file in files]
    path = folder.parent / "clips.csv"
    pd.DataFrame(rows, columns=["audio", "label", "session"]).to_csv(path, index=False)
    return path


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


# ------------------------------------------------------------------ a whole run


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    page = {
        "description": "High and low tones",
        "data": {"folder": str(folder), "groups": "parent"},
        "recipe": "tiny",
        "params": {**SMALL, "encoder__width": 12},
        "split": {"test_groups": ["session_1", "session_4"]},
        "output": str(place / "out"),
    }
    return run(write(place / "tones.yaml", page)), place / "out"


def test_a_run_leaves_a_model_a_report_and_itself(done):
    result, place = done
    assert result.folder == str(place)
    reports = {"metrics.json", "predictions.csv", "report.html", "confusion_matrix.png", "learning_curves.png"}
    assert {path.name for path in place.iterdir()} == reports | {"group_scores.png", "model", "run.yaml"}
    metrics = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["accuracy"] == result.evaluation.accuracy
    assert metrics["about"]["recipe"] == "tiny"
    assert "<title>High and low tones</title>" in (place / "report.html").read_text(encoding="utf-8")


def test_the_tested_clips_are_those_that_were_held_out(done, folder):
    result, place = done
    held_out = {str(path) for path in folder.rglob("*.wav") if path.parts[-2] in ("session_1", "session_4")}
    assert set(result.evaluation.predictions["clip"]) == held_out
    assert result.evaluation.n_clips == len(held_out) == 12
    assert set(result.evaluation.per_group.index) == {"session_1", "session_4"}
    assert describe_model(place / "model")["split"] != "random split, stratified where possible"


def test_the_saved_model_gives_the_saved_predictions(done, folder):
    _, place = done
    model = ASTWClassifier.from_pretrained(place / "model", device="cpu")
    table = pd.read_csv(place / "predictions.csv")
    assert model.predict(table["clip"]).tolist() == table["predicted"].tolist()
    np.testing.assert_allclose(model.predict_proba(table["clip"]).max(axis=1), table["probability"], rtol=1e-5)


def test_the_saved_run_file_is_the_same_run_written_out(done, tmp_path):
    result, place = done
    again = load_run(place / "run.yaml")
    assert (again.data, again.split) == (
        {"folder": str(done[0].evaluation.predictions["clip"][0]).split("/high/")[0], "groups": "parent"},
        {"test_groups": ["session_1", "session_4"]},
    )
    assert again.params["encoder"] == {"resnet": {**again.params["encoder"]["resnet"], "width": 12, "num_stages": 2}}
    repeated = run(plan_run(place / "run.yaml", output=str(tmp_path / "again")))
    assert repeated.evaluation.predictions.equals(result.evaluation.predictions)
    first, second = (dict(load_run(path / "run.yaml").params) for path in (place, tmp_path / "again"))
    assert first == second


def test_parameters_are_those_of_the_recipe_with_those_of_the_run(done):
    model = done[0].model
    assert (model.encoder.width, model.encoder.num_stages, model.epochs) == (12, 2, 2)
    assert model.keep == load_recipe("tiny").params["keep"]


def test_a_cross_validation_predicts_every_clip_once_and_keeps_a_model_of_all(table, tmp_path):
    data = {"table": str(table), "group_column": "session"}
    result = run(Run(data, str(tmp_path / "out"), {"folds": 3}, "tiny", SMALL))
    predictions = result.evaluation.predictions
    assert sorted(predictions["clip"]) == sorted(load_clips(data).X)
    assert result.evaluation.per_fold["n_clips"].tolist() == [12, 12, 12]
    assert (predictions.groupby("group")["fold"].nunique() == 1).all(), "a session is in one fold"
    assert describe_model(tmp_path / "out" / "model")["n_epochs"] == 2
    metrics = json.loads((tmp_path / "out" / "model" / "metrics.json").read_text())
    assert metrics["n_train"] + metrics["n_validation"] == 36
    assert (tmp_path / "out" / "learning_curves.png").exists()


def test_what_leaks_is_told(table, folder, tmp_path):
    frame = pd.read_csv(table)
    copy = folder / "high" / "session_0" / "copy.wav"
    copy.write_bytes((folder.parent / frame["audio"].iloc[-1]).read_bytes())
    try:
        clips = load_clips({"folder": str(folder), "groups": "parent"})
        folds = make_folds(clips.y, clips.groups, clips.folds, {"test_groups": ["session_0"]})
        description = clips.describe(folds)
    finally:
        copy.unlink()
    assert any("cop" in warning or "same audio" in warning for warning in description.warnings)


def test_classes_that_were_not_held_out_are_told(table, tmp_path):
    rows = pd.read_csv(table)
    rows.loc[rows["session"] == "session_5", "label"] = "other"
    rows = rows.assign(audio=lambda frame: [str(table.parent / name) for name in frame["audio"]])
    rows.to_csv(tmp_path / "clips.csv", index=False)
    source = {"table": str(tmp_path / "clips.csv"), "group_column": "session"}
    result = run(Run(source, str(tmp_path / "out"), {"test_groups": ["session_0"]}, params=SMALL))
    assert result.evaluation.untested == ["other"]


def test_unreadable_clips_are_listed_by_their_place_among_all(folder, tmp_path):
    bad = folder / "low" / "session_1" / "bad.wav"
    bad.write_bytes(b"not audio")
    try:
        data = {"folder": str(folder), "groups": "parent"}
        params = {**SMALL, "on_error": "ignore"}
        result = run(Run(data, str(tmp_path / "out"), {"test_groups": ["session_1"]}, "tiny", params))
        clips = load_clips(data)
    finally:
        bad.unlink()
    assert [clips.X[clip.index] for clip in result.evaluation.failed] == [str(bad)]
    assert result.evaluation.n_clips == 6


# ------------------------------------------------------------------ done again elsewhere


def test_a_run_file_holds_all_that_a_run_depends_on_and_moves_with_its_data(folder, tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(folder, here / "clips")
    monkeypatch.chdir(here)
    plan = plan_run(data={"folder": "clips", "groups": "parent"}, recipe="tiny", output="exports/first")
    result = run(replace(plan, params=SMALL))
    written = yaml.safe_load((here / "exports" / "first" / "run.yaml").read_text(encoding="utf-8"))
    assert written["data"] == {"folder": "../../clips", "groups": "parent"}
    assert written["output"] == "."
    assert written["split"] == {"test_size": 0.2, "random_state": 0}
    assert written["params"]["random_state"] == 42
    here.rename(there)
    monkeypatch.chdir(tmp_path)
    plan = load_run("there/exports/first/run.yaml")
    assert (plan.data["folder"], plan.output) == ("there/clips", "there/exports/first")
    again = run(replace(plan, output="again"))
    assert again.evaluation.predictions["predicted"].equals(result.evaluation.predictions["predicted"])
    assert [Path(clip).name for clip in again.evaluation.predictions["clip"]] == [
        Path(clip).name for clip in result.evaluation.predictions["clip"]
    ]


def test_paths_of_a_run_file_start_from_the_file_and_absolute_ones_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    away = str(tmp_path / "away" / "owls.csv")
    plan = Run({"table": away}, "exports/owls", recipe="mine.yaml")
    assert plan.relative_to("exports/owls") == replace(plan, output=".", recipe="../../mine.yaml")
    assert plan.relative_to("exports/owls").below("exports/owls") == plan
    named = Run({"set": "esc50:animals", "data_home": "sets"}, "out", recipe="small")
    assert named.below("runs").data == {"set": "esc50:animals", "data_home": str(Path("runs/sets"))}
    assert named.below("runs").recipe == "small"


# ------------------------------------------------------------------ interrupted


@pytest.fixture
def interrupt(monkeypatch):
    """Let Ctrl-C be pressed at a step, counted over all trainings from 1, without teachers."""

    def at(number):
        step, steps = training_loop._step, []

        def stopped(run, batch):
            steps.append(run.name == "training")
            if steps[-1] and sum(steps) == number:
                raise KeyboardInterrupt
            return step(run, batch)

        monkeypatch.setattr(training_loop, "_step", stopped)

    return at


@pytest.mark.parametrize(
    ("step", "n_tested", "n_epochs", "on_all"),
    [(4, 2, 1, False), (3, 1, 2, False), (6, 2, 1, True), (5, 2, 2, False)],
    ids=["second epoch of fold 2", "first epoch of fold 2", "second epoch on all", "first epoch on all"],
)
def test_an_interrupted_cross_validation_leaves_what_it_had(
    table, tmp_path, interrupt, step, n_tested, n_epochs, on_all
):
    interrupt(step)
    data = {"table": str(table), "group_column": "session"}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = run(Run(data, str(tmp_path / "out"), {"folds": 2}, "tiny", {**SMALL, "batch_size": 64}))
    assert result.interrupted
    assert any("interrupted in epoch 2 of 2" in str(warning.message) for warning in told) == (n_epochs == 1)
    assert (len(result.evaluation.per_fold), result.model.n_epochs_) == (n_tested, n_epochs)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["about"]["epochs"] == f"{n_epochs} of 2, interrupted"
    assert metrics["about"].get("folds") == ("1 of 2" if n_tested == 1 else None)
    card = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"trained on {'all' if on_all else 'one part'} of them" in card


def test_a_run_that_had_learned_nothing_is_not_saved(table, tmp_path, interrupt):
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        run(Run({"table": str(table)}, str(tmp_path / "out"), {"test_size": 0.5}, "tiny", SMALL))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("edited", [False, True])
def test_what_a_failed_training_had_reached_is_saved_beside_earlier_results(edited, table, tmp_path, monkeypatch):
    plan = Run({"table": str(table)}, str(tmp_path / "out"), {"test_size": 0.5}, "tiny", SMALL)
    clip = np.sin(np.arange(4000))
    before = run(plan).model.predict_proba([clip])
    card = tmp_path / "out" / "unfinished_model" / "README.md"
    if edited:
        card.parent.mkdir()
        card.write_text("# Mine", encoding="utf-8")
    fit = ASTWClassifier.fit

    def fail_after_an_epoch(self, *arguments, **metadata):
        error = TrainingError("The training loss is nan.")
        error.trained = fit(self, *arguments, **metadata).trained_
        raise error

    monkeypatch.setattr(ASTWClassifier, "fit", fail_after_an_epoch)
    message = "its README.md is not a model card" if edited else "saved in .*unfinished_model"
    with pytest.raises(TrainingError, match=rf"^The training loss is nan\. .*{message}"):
        run(plan, overwrite=True)
    kept = ASTWClassifier.from_pretrained(tmp_path / "out" / "model")
    np.testing.assert_array_equal(kept.predict_proba([clip]), before)
    if not edited:
        assert ASTWClassifier.from_pretrained(card.parent).n_epochs_ == SMALL["epochs"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ClipValueError("no such file")])
def test_a_model_whose_test_fails_is_saved(error, table, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["skastw.runs.run"], "evaluate", fail)
    plan = Run({"table": str(table)}, str(tmp_path / "out"), {"test_size": 0.5}, "tiny", SMALL)
    with (
        pytest.warns(UserWarning, match=r"ends before its model is tested\. .*unfinished_model"),
        pytest.raises(error if isinstance(error, type) else type(error)),
    ):
        run(plan)
    assert ASTWClassifier.from_pretrained(tmp_path / "out" / "unfinished_model").n_epochs_ == SMALL["epochs"]


def test_parameters_that_no_file_can_hold_are_noticed_before_the_training(table, tmp_path):
    place = tmp_path / "out"
    plan = Run({"table": str(table)}, str(place), {"test_size": 0.5}, "tiny", SMALL)
    numbers = {**SMALL, "random_state": np.int64(3), "muon_lr": np.float32(0.5)}
    run(replace(plan, params=numbers))
    params = yaml.safe_load((place / "run.yaml").read_text(encoding="utf-8"))["params"]
    assert (params["random_state"], params["muon_lr"]) == (3, 0.5)

    with pytest.raises(RunError, match="The params of the run are not valid"):
        make_estimator(replace(plan, params={**SMALL, "random_state": np.random.RandomState(0)}))


def test_a_folder_that_cannot_be_saved_to_is_noticed_before_the_training(table, tmp_path, monkeypatch):
    card = tmp_path / "out" / "model" / "README.md"
    card.parent.mkdir(parents=True)
    card.write_text("# Mine", encoding="utf-8")
    monkeypatch.setattr(ASTWClassifier, "fit", None)
    with pytest.raises(ArtifactError, match=r"Cannot save to .*model': its README\.md is not a model card"):
        run(Run({"table": str(table)}, str(tmp_path / "out"), {"test_size": 0.5}, "tiny", SMALL), overwrite=True)
    assert card.read_text(encoding="utf-8") == "# Mine"


# ------------------------------------------------------------------ the card of the model


def test_the_card_tells_of_the_clips_that_were_held_out(done):
    result, place = done
    assert not result.interrupted
    card = ModelCard.load(place / "model" / "README.md")
    assert "\n# High and low tones\n" in card.text
    assert card.data.model_name == "High and low tones"
    assert {item.dataset_split for item in card.data.eval_results} == {"test"}
    assert card.data.eval_results[0].metric_value == pytest.approx(result.evaluation.accuracy, abs=1e-4)
    assert "On 12 clips that were held out for testing. They are all clips of session_1, session_4." in card.text
    low, high = result.evaluation.intervals["uar"]
    assert f"| uar | {result.evaluation.uar:.4f} ({low:.3f} to {high:.3f}) |" in card.text
    assert "of your own" not in card.text.partition("## Evaluation")[2].partition("## Limits")[0]


@pytest.mark.parametrize(
    ("split", "grouped", "words"),
    [
        ({"test_size": 0.4}, False, "may share speakers"),
        ({"test_size": 0.4}, True, "whole groups, such as speakers or recordings, drawn at random"),
        ({"folds": 2}, True, "2 folds of whole groups, each predicted by a model .* trained on all of them"),
        ({"folds": 2}, False, "2 folds, each predicted by a model"),
    ],
)
def test_the_card_says_how_clips_were_held_out(table, tmp_path, split, grouped, words):
    data = {"table": str(table), **({"group_column": "session"} if grouped else {})}
    run(Run(data, str(tmp_path / "out"), split, "tiny", {**SMALL, "epochs": 1}))
    card = (tmp_path / "out" / "model" / "README.md").read_text(encoding="utf-8")
    assert "\n# out\n" in card
    assert re.search(words, card)


# ------------------------------------------------------------------ where clips come from


def test_a_folder_a_table_and_a_set_are_loaded_alike(folder, table):
    from_folder = load_clips({"folder": str(folder), "groups": "parent"})
    from_table = load_clips({"table": str(table), "group_column": "session"})
    for clips in (from_folder, from_table):
        assert isinstance(clips, Clips)
        assert sorted(map(os.path.realpath, clips.X)) == sorted(map(os.path.realpath, from_folder.X))
        assert sorted(clips.groups) == sorted(from_folder.groups)
        assert clips.folds == {}
    digits = load_spoken_digits()
    from_set = load_clips({"set": "spoken_digits"})
    assert list(digits.data) == from_set.X
    assert from_set.groups.tolist() == digits.groups.tolist()


def test_one_word_says_where_clips_are(folder, table):
    assert source_of(str(folder), groups="parent", data_home=None) == {"folder": str(folder), "groups": "parent"}
    assert source_of(str(table)) == {"table": str(table)}
    assert source_of("missing.CSV") == {"table": "missing.CSV"}
    assert source_of("esc50:animals") == {"set": "esc50:animals"}


def test_clips_without_labels_are_found(folder, table):
    everything = sorted(str(path) for path in folder.rglob("*.wav"))
    assert unlabelled_clips({"folder": str(folder / "low")}) == [path for path in everything if "/low/" in path]
    frame = pd.read_csv(table)[["audio"]].rename(columns={"audio": "file"})
    frame.to_csv(table.with_name("bare.csv"), index=False)
    found = unlabelled_clips({"table": str(table.with_name("bare.csv")), "audio_column": "file"})
    assert sorted(map(os.path.realpath, found)) == sorted(map(os.path.realpath, everything))
    assert len(unlabelled_clips({"set": "spoken_digits"})) == 400


def test_files_are_found_in_folders(folder, tmp_path):
    assert find_clips([folder, "lost.wav"]) == [*sorted(map(str, folder.rglob("*.wav"))), "lost.wav"]
    with pytest.raises(RunError, match="contains no audio files"):
        find_clips([tmp_path])


def test_audio_files_that_are_not_decoded_are_told(folder):
    expected = find_clips([folder])
    for name in ("song.mid", "call.APE", ".hidden.mid", "notes.txt"):
        (folder / name).write_bytes(b"x")
    with pytest.warns(
        UserWarning, match=r"2 files in .* are left out \(the first is '.*call\.APE'\): .*audio or video"
    ):
        assert find_clips([folder]) == expected


# ------------------------------------------------------------------ what is held out

Y = np.array(["cat", "dog"] * 20)
SPEAKERS = np.repeat(np.arange(10), 4)
OWN = {str(k): np.flatnonzero(np.equal(SPEAKERS % 5, k)) for k in range(5)}


@pytest.mark.parametrize("split", [{"folds": 5}, {"folds": 5, "random_state": 3}, {"folds": "own"}])
def test_each_clip_is_held_out_once(split):
    folds = make_folds(Y, SPEAKERS, OWN, split)
    assert len(folds) == 5
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(40))
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(40))
        assert not set(SPEAKERS[fold.train]) & set(SPEAKERS[fold.test])


@pytest.mark.parametrize(
    ("split", "n_test"),
    [({"test_groups": [3, "7"]}, 8), ({"test_fold": 2}, 8), ({"test_fold": "2"}, 8), ({"test_size": 0.2}, 8)],
)
def test_groups_are_held_out_whole(split, n_test):
    [fold] = make_folds(Y, SPEAKERS, OWN, split)
    assert len(fold.test) == n_test
    assert not set(SPEAKERS[fold.train]) & set(SPEAKERS[fold.test])


def test_without_groups_clips_are_held_out():
    [fold] = make_folds(Y, None, {}, {"test_size": 0.25})
    assert np.unique(Y[fold.test], return_counts=True)[1].tolist() == [5, 5]
    drawn = [make_folds(Y, None, {}, {"test_size": 0.25, "random_state": seed})[0].test.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] == fold.test.tolist() != drawn[2]


def test_classes_that_a_random_split_keeps_from_one_side_are_named():
    names = Y.astype("U4")
    rare = np.where(np.arange(40) == 7, "gong", names)
    with pytest.warns(UserWarning, match=r"test_size=0\.2 leaves 1 of 3 classes without test clips, .*: 'gong'\. Coll"):
        make_folds(rare, None, {}, {"test_size": 0.2})
    alone = np.where(SPEAKERS == 3, "gong", names)
    with pytest.warns(UserWarning, match="without test clips, .*Collect clips of more groups") as told:
        make_folds(alone, SPEAKERS, {}, {"test_size": 0.2})
    assert len(told) == 1
    halves = np.repeat(["high", "low"], 20)
    with (
        pytest.warns(UserWarning, match="leaves 1 of 2 classes without training clips, so they cannot be predicted"),
        pytest.warns(UserWarning, match="leaves 1 of 2 classes without test clips"),
    ):
        make_folds(halves, halves, {}, {"test_size": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_folds(names, SPEAKERS, {}, {"test_size": 0.2})


def test_missing_classes_are_told_before_the_training(table, tmp_path, monkeypatch):
    rows = pd.read_csv(table)
    rows.loc[0, "label"] = "gong"
    rows = rows.assign(audio=lambda frame: [str(table.parent / name) for name in frame["audio"]])
    rows.to_csv(tmp_path / "clips.csv", index=False)
    monkeypatch.setattr(ASTWClassifier, "fit", lambda *_, **__: pytest.fail("trained"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="without test clips, so they are not tested: 'gong'"):
            run(Run({"table": str(tmp_path / "clips.csv")}, str(tmp_path / "out"), {"test_size": 0.2}, "tiny", SMALL))


def _measured(table, place, values):
    rows = pd.read_csv(table)
    rows = pd.concat([rows] * 4, ignore_index=True).iloc[: len(values)]
    files = [str(table.parent / name) for name in rows["audio"]]
    starts = np.arange(len(values)) // 36 / 100  # a clip is not given twice
    pd.DataFrame({"audio": files, "start": starts, "age": values}).to_csv(place, index=False)
    return {"table": str(place), "label_column": "age"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(60), "'age' has 60 different numbers for 60 clips, expected classes"),
        (np.arange(120) % 60, "'age' has 60 different numbers for 120 clips"),
        ([f"{i:03d}" for i in range(60)], "'age' has 60 different numbers"),
        (np.arange(60) / 8, r"'age' has the value 0\.125, expected classes"),
    ],
    ids=["integers", "twice each", "texts", "fractions"],
)
def test_labels_that_are_values_are_refused_before_the_clips_are_read(table, tmp_path, monkeypatch, values, message):
    monkeypatch.setattr(Clips, "describe", lambda *_, **__: pytest.fail("read"))
    data = _measured(table, tmp_path / "clips.csv", values)
    with pytest.raises(RunError, match=f"The column {message}.*use ASTWRegressor in Python.* such as 'c17'"):
        run(Run(data, str(tmp_path / "out"), {"test_size": 0.2}, "tiny", SMALL))


@pytest.mark.filterwarnings("ignore:The split test_size")
@pytest.mark.parametrize(
    "values",
    [np.arange(100) % 50, np.arange(100) % 2, [f"c{i}" for i in range(60)], [str(i % 20) for i in range(60)]],
    ids=["few numbers", "two numbers", "names", "texts"],
)
def test_labels_that_are_classes_are_read(table, tmp_path, monkeypatch, values):
    def describe(*_, **__):
        raise SkastwError("read")

    monkeypatch.setattr(Clips, "describe", describe)
    data = _measured(table, tmp_path / "clips.csv", values)
    with pytest.raises(SkastwError, match=r"^read$"):
        run(Run(data, str(tmp_path / "out"), {"test_size": 0.2}, "tiny", SMALL))


@pytest.mark.parametrize(
    ("groups", "own", "split", "message"),
    [
        (SPEAKERS, OWN, {"test_fold": 9}, r"test_fold=9, expected one of \['0', '1'"),
        (SPEAKERS, {}, {"test_fold": 1}, "for clips without folds"),
        (SPEAKERS, {}, {"folds": "own"}, "for clips without folds"),
        (None, {}, {"test_groups": ["ann"]}, "for clips without groups"),
        (SPEAKERS, {}, {"test_groups": [1, "ann"]}, r"\['ann'\], expected groups among \['0', '1'"),
        (SPEAKERS, {}, {"test_groups": list(range(10))}, "gives 0 clips for training"),
        (SPEAKERS, {}, {"folds": 11}, "folds=11 for 10 groups"),
        (None, {}, {"folds": 500}, "folds=500 for at most 20 clips of a class"),
        (np.array(["ann", "bob"] * 20), {}, {"test_groups": ["anna"]}, r"did you mean 'ann'\?$"),
        (np.zeros(40), {}, {"test_size": 0.2}, "test_size=0.2 for one group"),
    ],
)
def test_what_cannot_be_held_out_is_refused(groups, own, split, message):
    with pytest.raises(RunError, match=message):
        make_folds(Y, groups, own, split)


# ------------------------------------------------------------------ parameters


@pytest.mark.parametrize("name", recipe_names())
def test_written_out_parameters_are_read_back(name, request):
    weights = request.getfixturevalue("wav2vec2_folder") if name in ("finetune", "frozen") else None
    estimator = ASTWClassifier.from_recipe(name, weights=weights)
    plain = yaml.safe_load(yaml.safe_dump(plain_params(estimator.get_params(deep=False))))
    again = ASTWClassifier(**resolve_params(plain, "again"))
    before, after = resolve_components(estimator), resolve_components(again)
    assert repr(before) == repr(after)
    rest = set(estimator.get_params(deep=False)) - {"features", "normalization", "encoder", "pooling", "augment"}
    assert all(getattr(again, param) == getattr(estimator, param) for param in rest)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"recipe": "no_such"}, RecipeError, "expected one of 'astw'"),
        ({"params": {"epoch": 3}}, RunError, "'epoch'; did you mean 'epochs'"),
        ({"params": {"encoder__d_modell": 3}}, RunError, "d_modell"),
        ({"params": {"epochs": -1}}, RunError, "epochs"),
        ({"params": {"encoder": "resnett"}}, ComponentError, "expected one of 'astw'"),
        ({"params": {"encoder": {"resnet": {"width": -1}}}}, SkastwError, "width"),
        ({"params": {"augment": "gain"}}, RecipeError, "expected a list"),
    ],
)
def test_parameters_are_checked_before_anything_is_read(changes, error, message):
    plan = parse_run({"data": {"folder": "no/such/folder"}, "output": "out", **changes}, "mine")
    with pytest.raises(error, match=message):
        make_estimator(plan)
    with pytest.raises(error, match=message):
        run(plan)


def test_options_replace_what_a_file_says(tmp_path):
    page = {"data": {"folder": "owls"}, "params": {"epochs": 3, "muon_lr": 0.1}, "output": "out", "recipe": "tiny"}
    path = write(tmp_path / "owls.yaml", page)
    plan = plan_run(path, split={"folds": 4}, recipe="small", params=["epochs=5", "augment=[]"], output="other")
    owls = {"folder": str(tmp_path / "owls")}
    assert plan == Run(owls, "other", {"folds": 4}, "small", {"epochs": 5, "muon_lr": 0.1, "augment": []})
    assert plan_run(path) == load_run(path)


@pytest.mark.parametrize("text", ["epochs", "=3", "epochs=[", "a=!!python/name:os.system", "a=&x [*x]"])
def test_a_parameter_is_a_name_and_a_value(text):
    with pytest.raises(RunError):
        plan_run(data={"folder": "owls"}, output="out", params=[text])


# ------------------------------------------------------------------ what is no run file

PAGE = {"data": {"folder": "owls"}, "output": "out"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"epochs": 3},
            "unknown name 'epochs', expected one of 'data', 'output', 'split', 'recipe', 'params', 'descr",
        ),
        ({"recipes": "small"}, r"unknown name 'recipes'; did you mean 'recipe'\?$"),
        ({3: 4}, "unknown name 3, expected one of 'data'"),
        ({"data": None}, "data: None, expected a mapping"),
        ({"data": {}}, r"\[\] in data, expected exactly one of \['set', 'folder', 'table'\]"),
        ({"data": {"folder": "a", "table": "b"}}, r"\['folder', 'table'\] in data, expected exactly one"),
        (
            {"data": {"fodler": "a"}},
            r"\['fodler'\] in data, expected exactly one of \['set', .*; did you mean 'folder'\?$",
        ),
        (
            {"data": {"folder": "a", "data_home": "b"}},
            "unknown name 'data_home' in data, expected one of 'folder', 'gr",
        ),
        ({"data": {"folder": ["a"]}}, r"data\.folder: \['a'\], expected text"),
        ({"data": {"folder": "a", "groups": 3}}, r"data\.groups: 3, expected text or null"),
        ({"data": {"folder": None}}, r"data\.folder: None, expected text"),
        ({"data": {3: "a"}}, "data: {3: 'a'}, expected a mapping of names"),
        ({"split": {"test_size": 0.2, "folds": 3}}, "expected exactly one of"),
        ({"split": {"test_groups": "ann"}}, r"split\.test_groups: 'ann', expected a list of groups"),
        (
            {"split": {"test_groups": ["a"], "random_state": 1}},
            "unknown name 'random_state' in split, expected one of 'tes",
        ),
        ({"split": {"test_groups": []}}, r"split\.test_groups: \[\], expected a list of groups"),
        ({"split": {"test_size": 1.5}}, r"split\.test_size: 1\.5, expected a share between 0 and 1"),
        ({"split": {"test_size": 1}}, r"split\.test_size: 1, expected a share between 0 and 1"),
        ({"split": {"test_size": True}}, r"split\.test_size: True, expected a share"),
        ({"split": {"test_size": float("nan")}}, r"split\.test_size: nan, expected a share"),
        ({"split": {"folds": 1}}, r"split\.folds: 1, expected a number of at least 2, or 'own'"),
        ({"split": {"folds": True}}, r"split\.folds: True, expected a number of at least 2, or 'own'"),
        ({"split": {"folds": "all"}}, r"split\.folds: 'all', expected a number of at least 2, or 'own'"),
        ({"split": {"folds": 3.5}}, r"split\.folds: 3\.5, expected a number of at least 2, or 'own'"),
        ({"split": {"folds": 3, "random_state": -1}}, r"split\.random_state: -1, expected an integer of at least 0"),
        (
            {"split": {"folds": 3, "random_state": True}},
            r"split\.random_state: True, expected an integer of at least 0",
        ),
        ({"split": {"test_fold": None}}, "expected the number or name of a fold"),
        ({"params": ["epochs"]}, "params: .* expected a mapping"),
        ({"params": {3: 4}}, "expected a mapping of names"),
        ({"recipe": 3}, "recipe: 3, expected text"),
        ({"output": ""}, "output: '', expected text that is not empty"),
        ({"output": None}, "output: None, expected text"),
        ({"description": 3}, "description: 3, expected text"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_named(tmp_path, changes, message):
    path = write(tmp_path / "mine.yaml", {**PAGE, **changes})
    with pytest.raises(RunError, match=message):
        load_run(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"params": {"epoch": 3}}, "The params of the run are not valid: .*did you mean 'epochs'"),
        ({"params": {"encoder": "resnett"}}, "Got encoder='resnett'.*did you mean 'resnet'"),
        ({"recipe": "smal"}, "Got recipe='smal'.*did you mean 'small'"),
        ({"data": {"folder": "sound"}}, "Got '.*sound' as the folder of data, which does not exist.*mean 'sounds'"),
        ({"data": {"table": "clips.csv"}}, "Got '.*clips.csv' as the table of data, which does not exist"),
        ({"data": {"set": "esc500"}}, "Got 'esc500' as the set of data, expected one of .*did you mean 'esc50'"),
    ],
)
def test_errors_of_a_run_name_its_file(tmp_path, changes, message):
    (tmp_path / "sounds").mkdir()
    path = write(tmp_path / "mine.yaml", {**PAGE, "output": str(tmp_path / "out"), **changes})
    with pytest.raises(SkastwError, match=f"^{re.escape(repr(str(path)))}: {message}"):
        run(path)
    with pytest.raises(SkastwError, match=f"^{re.escape(repr(str(path)))} with the options: {message}"):
        run(plan_run(path, params=["muon_lr=0.02"]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", PAGE)
def test_what_is_missing_is_named(missing):
    with pytest.raises(RunError, match=f"has no '{missing}'"):
        parse_run({key: value for key, value in PAGE.items() if key != missing}, "mine")


HOSTILE = {
    "tag": "{data: {folder: a}, output: !!python/object/apply:os.system ['touch CANARY']}",
    "name": "{data: {folder: a}, output: !!python/name:os.system }",
    "alias": "{data: &a {folder: a}, split: *a, output: b}",
    "bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "depth": "{data: {folder: a}, output: b, params: {a: " + "[" * 400 + "]" * 400 + "}}",
    "syntax": "data: [",
    "date": "{data: {folder: a}, output: 2026-99-99}",
    "list": "- data",
    "text": "owls",
    "empty": "",
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pages_are_refused_and_nothing_is_executed(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "mine.yaml", HOSTILE[case])
    with pytest.raises(RunError, match=r"mine\.yaml"):
        load_run(path)
    assert not (tmp_path / "CANARY").exists()


def test_files_that_are_no_page_of_text_are_refused(tmp_path):
    large = write(tmp_path / "large.yaml", "description: " + "x" * 70000)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"\xff\xfe\xfd")
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    other = write(tmp_path / "run.txt", PAGE)
    for path in (large, latin, folder, other, tmp_path / "lost.yaml"):
        with pytest.raises(RunError, match=path.name):
            load_run(path)


def test_an_evaluation_by_hand_agrees_with_the_run(done, folder):
    result, _ = done
    clips = load_clips({"folder": str(folder), "groups": "parent"})
    _, held_out = clips.split({"test_groups": ["session_1", "session_4"]})
    again = evaluate(result.model, held_out.X, held_out.y, groups=held_out.groups)
    assert again.intervals == result.evaluation.intervals
    assert again.accuracy == result.evaluation.accuracy
    with pytest.raises(RunError, match="expected one"):
        clips.split({"folds": 3})
