"""The artifact: six files, the same probabilities to the bit, clear refusals."""

import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from sklearn.pipeline import make_pipeline
from transformers import WhisperFeatureExtractor

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.artifact.folder import FILES, seal
from skastw.augment import SpecAugment
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ArtifactError
from skastw.features import LogMel

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
CLIPS, Y = make_tones(n_clips=24, random_state=0)


@pytest.fixture
def folder(fitted_classifier, tmp_path):
    return fitted_classifier.save_pretrained(tmp_path / "tones")


def test_six_files_and_the_same_bits_after_a_round_trip(fitted_classifier, folder, tmp_path):
    assert sorted(os.listdir(folder)) == sorted(FILES)
    loaded = ASTWClassifier.from_pretrained(folder)
    for method in ("predict_proba", "predict_log_proba", "decision_function", "transform", "predict"):
        np.testing.assert_array_equal(getattr(loaded, method)(CLIPS), getattr(fitted_classifier, method)(CLIPS))
    assert loaded.history_ == fitted_classifier.history_
    assert (loaded.best_epoch_, loaded.n_epochs_) == (fitted_classifier.best_epoch_, fitted_classifier.n_epochs_)
    again = loaded.save_pretrained(tmp_path / "again" / "tones")
    for name in FILES:
        with open(os.path.join(folder, name), "rb") as first, open(os.path.join(again, name), "rb") as second:
            assert first.read() == second.read()


def test_a_loaded_estimator_and_its_file_do_not_touch_each_other(fitted_classifier, folder):
    """The weights are mapped from the file, not copied."""
    path = os.path.join(folder, "model.safetensors")
    with open(path, "rb") as file:
        before = file.read()
    loaded = ASTWClassifier.from_pretrained(folder)
    expected = loaded.predict_proba(CLIPS)
    trained = ASTWClassifier.from_pretrained(folder).partial_fit(CLIPS, np.array(["low", "mid", "high"])[Y])
    assert not np.array_equal(trained.predict_proba(CLIPS), expected)
    with open(path, "rb") as file:
        assert file.read() == before
    trained.save_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), expected)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), expected)


def test_loading_leaves_torchs_generator_alone(folder):
    before = torch.get_rng_state()
    ASTWClassifier.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loaded_estimator_can_be_trained_again(folder):
    loaded = ASTWClassifier.from_pretrained(folder)
    assert loaded.set_params(epochs=1).fit(CLIPS, Y).n_epochs_ == 1


@pytest.mark.parametrize(
    "params",
    [
        {"pooling": "attentive_stats", "augment": None, "class_weight": "balanced"},
        {"features": LogMel(n_mels=20, n_fft=256, hop_length=64, fmin=50.0), "sample_rate": 8000, "pooling": "max"},
        {
            "augment": [SpecAugment(freq_masks=1), SpecAugment(time_masks=0)],
            "class_weight": {0: 2.0},
            "val_split": None,
        },
        {"precision": "float64", "chunk_length": 0.25},
    ],
)
def test_every_setting_survives_the_round_trip(params, tmp_path):
    clf = ASTWClassifier(encoder=TINY, epochs=1, **params).fit(CLIPS, Y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))
    for name in ("class_weight", "val_split", "chunk_length", "sample_rate", "precision"):
        assert getattr(loaded, name) == getattr(clf, name)


@pytest.mark.parametrize("labels", [["a", "ü", "猫"], [3, -1, 10], [True, False, True], [5.0, 1.0, 2.0]])
@pytest.mark.parametrize("dtype", [None, object])
def test_labels_keep_their_type(labels, dtype, tmp_path):
    y = np.array(labels, dtype=dtype)[Y]
    if dtype is object and not isinstance(labels[0], str):
        y = np.array(labels)[Y]
    clf = ASTWClassifier(encoder=TINY, epochs=1).fit(CLIPS, y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    assert loaded.classes_.dtype == clf.classes_.dtype
    assert loaded.predict(CLIPS).tolist() == clf.predict(CLIPS).tolist()


def test_whisper_feature_extractor_reads_the_folder(folder):
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    clip = CLIPS[0]
    theirs = extractor(clip, sampling_rate=16000, return_tensors="np").input_features[0].T
    ours = ASTWFeaturizer().fit_transform([clip])[0]
    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=1e-5)


def test_the_card_says_what_the_hub_and_a_reader_need(folder):
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as file:
        card = file.read()
    _, header, text = card.split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert metadata["pipeline_tag"] == "audio-classification"
    assert metadata["library_name"] == "skastw"
    for expected in ("# tones", "`high`, `low`, `mid`", "from_pretrained", "skastw predict", "macro_f1", "Limits"):
        assert expected in text
    assert huggingface_hub.ModelCard(card).data.pipeline_tag == "audio-classification"


def test_a_pipeline_of_precomputed_frames_becomes_a_complete_artifact(tmp_path):
    piped = make_pipeline(ASTWFeaturizer(), ASTWClassifier(features="precomputed", encoder=TINY, epochs=2))
    piped.fit(CLIPS, Y)
    with pytest.raises(ArtifactError, match="pass featurizer="):
        piped[-1].save_pretrained(tmp_path / "alone")
    folder = piped[-1].save_pretrained(tmp_path / "complete", featurizer=piped[0])
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), piped.predict_proba(CLIPS))


def test_saving_over_a_folder_keeps_what_else_is_in_it(fitted_classifier, folder):
    with open(os.path.join(folder, "notes.txt"), "w") as file:
        file.write("mine")
    fitted_classifier.save_pretrained(folder)
    assert sorted(os.listdir(folder)) == sorted([*FILES, "notes.txt"])
    assert not [name for name in os.listdir(os.path.dirname(folder)) if name.startswith(".")]


def test_what_cannot_be_saved_says_so(fitted_classifier, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="it is a file"):
        fitted_classifier.save_pretrained(tmp_path / "file")
    with pytest.raises(ArtifactError, match="Cannot save"):
        fitted_classifier.save_pretrained(tmp_path / "file" / "below")


def edit(folder, name, **changes):
    """Change a file and seal the folder again, as an attacker would."""
    folder = Path(folder)
    value = json.loads((folder / name).read_text(encoding="utf-8"))
    value.update(changes)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(seal(config, folder)), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"format_version": 99}, "format_version '99', expected 1 to 3; a newer model"),
        ("config.json", {"format_version": "1"}, "format_version '1'"),
        ("config.json", {"estimator": "ASTWRegressor"}, "expected 'ASTWClassifier'"),
        ("config.json", {"encoder": {"name": "os.system", "params": {}}}, "encoder='os.system', expected one of"),
        ("config.json", {"encoder": {"name": "astw", "params": {"width": 3}}}, "unknown parameters"),
        ("config.json", {"encoder": {"name": "astw", "params": {"d_model": "big"}}}, "d_model"),
        (
            "config.json",
            {"encoder": {"name": "astw", "params": {"d_model": 32, "num_heads": 2}}},
            "more weights|expected float32 of shape|expected nothing",
        ),
        ("config.json", {"params": {"epochs": 0}}, "epochs"),
        ("config.json", {"params": {"no_such": 0}}, "no_such"),
        ("labels.json", {"labels": ["a", "b"]}, r"shape \[3\] for .head.bias., expected"),
        ("labels.json", {"labels": "abc"}, "'labels.json' has labels: 'abc', expected a list of labels"),
        ("labels.json", {"dtype": "V8"}, "'labels.json' has dtype: 'V8', expected the dtype"),
        ("labels.json", {"task": "regression"}, "'labels.json' has no 'named'"),
        (
            "labels.json",
            {"task": "regression", "named": True, "one_dimensional": False, "mean": [0, 1, 2], "scale": [1, 1, 1]},
            "task='regression', which ASTWClassifier does not learn",
        ),
    ],
)
def test_an_inconsistent_folder_is_refused(folder, name, changes, message):
    edit(folder, name, **changes)
    with pytest.raises(ArtifactError, match=message):
        ASTWClassifier.from_pretrained(folder)


def test_the_folder_above_a_model_leads_to_it(folder):
    with pytest.raises(ArtifactError, match=r"not a complete model folder: .* '.*tones' contains a model"):
        ASTWClassifier.from_pretrained(Path(folder).parent)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_damaged_file_is_named(folder, name):
    path = os.path.join(folder, name)
    if name != "README.md":
        with open(path, "wb") as file:
            file.write(b"\xff{not valid")
        with pytest.raises(ArtifactError):
            ASTWClassifier.from_pretrained(folder)
    os.remove(path)
    with pytest.raises(ArtifactError, match=f"{name} missing"):
        ASTWClassifier.from_pretrained(folder)


@pytest.mark.parametrize("name", ["no/such/folder", "plain-name", "../up", "", "a b/c"])
def test_what_is_neither_folder_nor_repository_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name:
        with pytest.raises(ArtifactError, match="expected an existing folder or a repository"):
            ASTWClassifier.from_pretrained(name)
    else:
        with pytest.raises(ArtifactError):
            ASTWClassifier.from_pretrained(name)


def test_a_revision_of_a_local_folder_is_refused(folder):
    with pytest.raises(ArtifactError, match="revision='main'"):
        ASTWClassifier.from_pretrained(folder, revision="main")


def test_a_misspelled_name_in_a_local_folder_is_not_asked_for_on_the_hub(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("asked the Hub"))
    (tmp_path / "report").write_text("")
    for name, match in [
        ("tone", rf"no model folder '{tmp_path.name}/tone' \(.*; did you mean 'tones'\?\)\. To load a repository"),
        (
            "report",
            r"no model folder '.*/report' \(looked in .*\)\. To load .* from the Hub, pass its revision",
        ),
    ]:
        with pytest.raises(ArtifactError, match=match):
            ASTWClassifier.from_pretrained(f"{tmp_path.name}/{name}")
