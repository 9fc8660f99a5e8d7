"""The model card: what the Hub reads of it, what a reader learns from it, and the scores of each class behind it."""

import json
import math
import platform
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support

import skastw
from skastw import ASTWClassifier, ASTWRegressor
from skastw.artifact.folder import seal
from skastw.artifact.pretrained import to_documents
from skastw.augment import Background
from skastw.core.optional import how_to_install
from skastw.datasets import make_tones
from skastw.encoders import ParallelCNNEncoder
from skastw.errors import ArtifactError

TINY = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)
CLIPS, Y = make_tones(n_clips=36, n_classes=3, random_state=0)
NAMES = np.array(["low", "a|b", "`x`\ny"])
SCORES = ("precision", "recall", "f1", "support")


def fitted(y=NAMES[Y], *, estimator=ASTWClassifier, params=None, **given):
    return estimator(**{"encoder": TINY, "epochs": 3, "muon_lr": 0.03, **(params or {})}).fit(
        CLIPS[:24], y[:24], **given
    )


def saved(model, folder):
    """Return the card, parsed as the Hub parses it, and the metrics of a saved model."""
    model.save_pretrained(folder)
    return ModelCard.load(folder / "README.md"), json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def held_out():
    return fitted(X_val=CLIPS[24:], y_val=NAMES[Y[24:]])


@pytest.fixture(scope="module")
def folder(held_out, tmp_path_factory):
    return Path(held_out.save_pretrained(tmp_path_factory.mktemp("card") / "tones"))


@pytest.fixture
def copied(held_out, tmp_path):
    return Path(held_out.save_pretrained(tmp_path / "tones"))


def test_the_card_names_the_optimisers(held_out, folder, tmp_path):
    assert "Muon (learning rate 0.03) updates matrix-shaped weights, AdamW (learning rate 0.0003) the rest" in str(
        ModelCard.load(folder / "README.md")
    )
    card, _ = saved(fitted(params={"muon_lr": None, "adam_lr": 0.001}), tmp_path / "adam")
    assert "\nAdamW (learning rate 0.001) updates all weights.\n" in str(card)
    assert "Muon" not in str(card)


# ------------------------------------------------------------------ what the Hub reads


def test_the_hub_reads_the_scores_of_the_best_epoch(held_out, folder):
    card = ModelCard.load(folder / "README.md")
    best = held_out.history_[held_out.best_epoch_ - 1]
    found = {result.metric_name: result for result in card.data.eval_results}
    assert list(found) == ["Accuracy", "Macro-F1", "Unweighted average recall"]
    assert [result.metric_type for result in found.values()] == card.data.metrics == ["accuracy", "f1", "recall"]
    assert found["Accuracy"].metric_value == pytest.approx(best["val_accuracy"], abs=1e-4)
    assert found["Macro-F1"].metric_value == pytest.approx(best["val_macro_f1"], abs=1e-4)
    for result in found.values():
        assert (result.task_type, result.dataset_split) == ("audio-classification", "validation")
        assert result.dataset_type
        assert result.dataset_name


def test_the_metadata_survive_the_hubs_own_reading_and_writing(folder):
    card = ModelCard.load(folder / "README.md")
    header = yaml.safe_load(card.content.split("---\n")[1])
    assert card.data.model_name == "tones"
    assert eval_results_to_model_index(card.data.model_name, card.data.eval_results) == header["model-index"]
    again = ModelCard(str(card)).data.to_dict()
    assert again == card.data.to_dict() == header
    assert len(set(header["tags"])) == len(header["tags"])
    assert header["pipeline_tag"] == "audio-classification"


@pytest.mark.parametrize(
    ("y", "settings", "metrics"),
    [
        (np.stack([Y == 0, Y > 0], axis=1).astype(int), {}, ["accuracy", "f1"]),
        (100.0 * Y, {"estimator": ASTWRegressor}, ["r_squared"]),
        (Y, {"params": {"val_split": None}}, None),
    ],
    ids=["several labels", "values", "no validation"],
)
def test_every_kind_of_model_has_a_card_that_the_hub_reads(y, settings, metrics, tmp_path):
    card, saved_metrics = saved(fitted(y, **settings), tmp_path / "tones")
    assert card.data.metrics == metrics
    assert [result.metric_type for result in card.data.eval_results or []] == (metrics or [])
    assert (saved_metrics["per_class"] is None) == (metrics != ["accuracy", "f1"])
    for heading in ("Use", "Intended use", "Training", "Evaluation", "Limits"):
        assert f"\n\n## {heading}\n\n" in card.text
    assert "\n\n\n" not in card.text


# ------------------------------------------------------------------ the scores of each class


def test_the_scores_of_each_class_are_those_of_the_weights_that_were_kept(held_out, folder):
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    truth, predicted = NAMES[Y[24:]], held_out.predict(CLIPS[24:])
    expected = precision_recall_fscore_support(truth, predicted, labels=held_out.classes_, zero_division=0.0)
    assert [row["label"] for row in metrics["per_class"]] == held_out.classes_.tolist()
    for name, values in zip(SCORES, expected, strict=True):
        np.testing.assert_allclose([row[name] for row in metrics["per_class"]], values)
    assert metrics["validation"]["uar"] == pytest.approx(balanced_accuracy_score(truth, predicted))


def test_several_labels_have_scores_each(tmp_path):
    indicator = np.stack([Y == 0, Y > 0, Y == 5], axis=1).astype(int)
    clf = fitted(indicator, X_val=CLIPS[24:], y_val=indicator[24:])
    _, metrics = saved(clf, tmp_path / "tones")
    expected = precision_recall_fscore_support(indicator[24:], clf.predict(CLIPS[24:]), zero_division=0.0)
    for name, values in zip(SCORES, expected, strict=True):
        np.testing.assert_allclose([row[name] for row in metrics["per_class"]], values)
    assert "uar" not in metrics["validation"]


def test_a_class_that_no_validation_clip_has_does_not_count_as_missed(tmp_path):
    some = 24 + np.flatnonzero(Y[24:] != 1)
    clf = fitted(Y, X_val=[CLIPS[i] for i in some], y_val=Y[some], sample_weight_val=np.linspace(1, 2, len(some)))
    _, metrics = saved(clf, tmp_path / "tones")
    rows = metrics["per_class"]
    assert [row["support"] for row in rows] == np.bincount(Y[some], minlength=3).tolist()
    assert metrics["validation"]["uar"] == pytest.approx((rows[0]["recall"] + rows[2]["recall"]) / 2)


def test_a_loaded_model_saves_the_same_card_again(folder, tmp_path):
    again = Path(ASTWClassifier.from_pretrained(folder).save_pretrained(tmp_path / "tones"))
    for name in ("README.md", "metrics.json"):
        assert (again / name).read_text(encoding="utf-8") == (folder / name).read_text(encoding="utf-8")


def rewrite(folder, **change):
    """Change metrics.json and seal the folder again, as an older release or an attacker would have."""
    for name, changes in (("metrics.json", change), ("config.json", {})):
        content = {**json.loads((folder / name).read_text(encoding="utf-8")), **changes}
        content = seal(content, folder) if name == "config.json" else content
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def test_a_model_without_scores_of_its_classes_is_loaded_and_saved(copied, tmp_path):
    rewrite(copied, per_class=None)
    card, metrics = saved(ASTWClassifier.from_pretrained(copied), tmp_path / "again")
    assert metrics["per_class"] is None
    assert "| clips |" not in card.text


ROW = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 4}


@pytest.mark.parametrize(
    "per_class", [{}, "abc", [1], [{}], [{**ROW, "f1": "1"}], [{**ROW, "support": None}], 7], ids=repr
)
def test_scores_of_another_form_are_refused(copied, per_class):
    rewrite(copied, per_class=per_class)
    with pytest.raises(ArtifactError, match=r"'metrics\.json' has .*per_class"):
        ASTWClassifier.from_pretrained(copied)


# ------------------------------------------------------------------ clips that were held out for testing

TEST = {
    "n_clips": 12,
    "split": "They are all clips of Anna.",
    "accuracy": 0.75,
    "macro_f1": 0.7,
    "uar": 0.725,
    "intervals": {"accuracy": (0.5, 0.875)},
    "per_class": [{"label": "a|b", "precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 4}],
}


def test_scores_on_other_clips_come_first_and_go_to_the_hub(held_out, tmp_path):
    folder = held_out.save_pretrained(tmp_path / "model", title="Owls\nand wrens", test=TEST)
    card = ModelCard.load(Path(folder) / "README.md")
    assert "\n# Owls and wrens\n" in card.text
    assert card.data.model_name == "Owls and wrens"
    assert [(item.dataset_split, item.metric_value) for item in card.data.eval_results] == [
        ("test", 0.75),
        ("test", 0.7),
        ("test", 0.725),
    ]
    tested, _, validated = card.text.partition("## Evaluation")[2].partition("validation clips")
    assert "On 12 clips that were held out for testing. They are all clips of Anna." in tested
    assert "| accuracy | 0.7500 (0.500 to 0.875) |" in tested
    assert "| uar | 0.7250 |" in tested
    assert r"| `a\|b` | 1.000 | 0.500 | 0.667 | 4 |" in tested
    assert "which also chose the epoch" in validated
    assert "\n\n\n" not in card.text


def test_a_model_tells_of_its_test_wherever_it_goes_until_it_learns_more(held_out, tmp_path):
    folder = Path(held_out.save_pretrained(tmp_path / "one" / "tones", test=TEST))
    loaded = ASTWClassifier.from_pretrained(folder)
    again = Path(loaded.save_pretrained(tmp_path / "two" / "tones"))
    for name in ("README.md", "metrics.json"):
        assert (again / name).read_text(encoding="utf-8") == (folder / name).read_text(encoding="utf-8")
    _, metrics = saved(loaded.set_params(epochs=1).fit(CLIPS[:24], NAMES[Y[:24]]), tmp_path / "three")
    assert metrics["test"] is None


@pytest.mark.parametrize(
    "test",
    [
        *([], "abc", 7, {}, {**TEST, "uar": "1"}, {**TEST, "uar": None}, {**TEST, "split": ["a"]}),
        *({**TEST, "intervals": {"uar": [1]}}, {**TEST, "intervals": {"uar": "ab"}}, {**TEST, "intervals": [1]}),
        {**TEST, "n_clips": 10**400},
        *({**TEST, "per_class": [{}]}, {**TEST, "per_class": 1}, {**TEST, "per_class": [{**ROW, "label": [1]}]}),
    ],
    ids=str,
)
def test_tests_of_another_form_are_refused(held_out, copied, tmp_path, test):
    rewrite(copied, test=test)
    with pytest.raises(ArtifactError, match=r"'metrics\.json' has .*\btest\b"):
        ASTWClassifier.from_pretrained(copied)
    with pytest.raises(ArtifactError, match=r"'test' (has|holds) .* in the form of evaluate\(\.\.\.\)\.to_dict\(\)"):
        held_out.save_pretrained(tmp_path / "model", test=test)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "change", [{"uar": math.nan}, {"accuracy": math.inf}, {"intervals": {"uar": [0.1, math.nan]}}], ids=str
)
def test_scores_that_are_no_finite_numbers_are_refused(held_out, tmp_path, change):
    with pytest.raises(ArtifactError, match=r"expected (a|two) finite number"):
        held_out.save_pretrained(tmp_path / "model", test={**TEST, **change})
    assert not (tmp_path / "model").exists()


def test_a_sentence_about_the_test_is_text_and_nothing_else(held_out, tmp_path):
    held_out.save_pretrained(
        tmp_path / "model", test={**TEST, "split": "# Clips of\n\n<script>alert(1)</script> & co."}
    )
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "testing. # Clips of &lt;script&gt;alert(1)&lt;/script&gt; &amp; co." in card
    assert "<script>" not in card


@pytest.mark.parametrize("change", [{"interrupted": "no"}, {"max_epochs": 0}, {"max_epochs": "3"}], ids=str)
def test_an_end_of_training_of_another_form_is_refused(copied, change):
    rewrite(copied, **change)
    with pytest.raises(ArtifactError, match=rf"'metrics\.json' has {next(iter(change))}: "):
        ASTWClassifier.from_pretrained(copied)


def test_the_epochs_are_those_of_the_training_that_was(tmp_path):
    card, metrics = saved(fitted(params={"epochs": 1, "min_steps": 6}), tmp_path / "steps")
    assert "3 of 3 epochs in batches" in card.text
    assert (metrics["max_epochs"], metrics["interrupted"]) == (3, False)
    piecewise = ASTWClassifier(encoder=TINY)
    for _ in range(2):
        piecewise.partial_fit(CLIPS[:24], Y[:24], classes=[0, 1, 2])
    card, metrics = saved(piecewise, tmp_path / "pieces")
    assert "2 epochs in batches" in card.text
    assert metrics["max_epochs"] is None


# ------------------------------------------------------------------ what a reader learns


def test_the_card_says_how_to_install_skastw(folder):
    text = ModelCard.load(folder / "README.md").text
    use = text.partition("\n## Use\n")[2].partition("\n## ")[0]
    assert f"Install skastw {skastw.__version__} or newer: {how_to_install(mark='`')}." in use


def test_tables_stay_tables_whatever_the_labels_hold(folder):
    text = ModelCard.load(folder / "README.md").text
    rows = [line for line in text.splitlines() if re.match(r"\| `[^L]", line)]
    assert [re.split(r" (?<!\\)\| ", row)[0] for row in rows] == ["| `'x' y`", r"| `a\|b`", "| `low`"]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


HOSTILE = """</code>\\| <img src=x onerror=alert(1)> | `x\\`|\n---\nlicense: x\n---\n"""


def test_no_text_breaks_out_of_its_place(tmp_path):
    labels = np.array([HOSTILE, "\\", "\\\\|<b>"])
    test = {**TEST, "split": HOSTILE, "per_class": [{**ROW, "label": HOSTILE}]}
    folder = fitted(labels[Y]).save_pretrained(tmp_path / "model", title=HOSTILE, test=test)
    card = ModelCard.load(Path(folder) / "README.md")
    assert card.data.model_name == " ".join(HOSTILE.split())
    assert "license" not in card.data.to_dict()
    (heading,) = re.findall("^# .*$", card.text, flags=re.MULTILINE)
    assert heading.startswith("# &lt;/code&gt;")
    assert heading.endswith("--- license: x ---")

    rows = [line for line in card.text.splitlines() if line.startswith("| `")]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", row) for row in rows]  # a backslash may itself be escaped
    assert {len(row) for row in cells} == {7}
    assert all(cell.strip().startswith("`") and cell.count("`") == 2 for _, cell, *_ in cells)
    assert "<" not in re.sub("`[^`]*`", "", card.text)


@pytest.mark.parametrize("path", ["/home/anna/sounds/hum.wav", "C:\\Users\\anna\\hum.wav", "//server/anna/hum.wav"])
def test_a_card_names_no_folder_of_the_machine(path, held_out):
    paths = [path, path, "rain/hum.wav"]
    components = replace(held_out.trained_.components, augment=(Background(paths=paths),))
    trained = replace(held_out.trained_, components=components)
    card = to_documents(trained, title="Owls", estimator="ASTWClassifier", params={}).card
    assert "anna" not in card
    assert "| augment | `[Background(paths=['hum.wav', 'hum.wav', 'rain/hum.wav'])]` |" in card


def test_the_versions_that_trained_a_model_stay_with_it(held_out, copied, tmp_path):
    metrics = json.loads((copied / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["versions"]["torch"] == str(torch.__version__)
    assert metrics["versions"]["python"] == platform.python_version()
    rewrite(copied, versions={"torch": "1.0", "a|b": "`x`"})
    card, again = saved(ASTWClassifier.from_pretrained(copied), tmp_path / "again")
    assert again["versions"] == {"torch": "1.0", "a|b": "`x`"}
    assert r"Trained with `torch` `1.0`, `a\|b` `'x'`." in card.text


def test_the_card_says_what_the_scores_are_worth(tmp_path, folder):
    assert "chosen by the person who trained the model" in ModelCard.load(folder / "README.md").text
    for given, words in (
        ({}, "share speakers"),
        ({"groups": np.arange(24) // 3}, "not trained on any clip of these groups"),
    ):
        card, metrics = saved(fitted(**given), tmp_path / words)
        assert f"On the {metrics['n_validation']} validation clips, which also chose the epoch" in card.text
        assert words in card.text
    card, _ = saved(fitted(params={"keep": "last"}), tmp_path / "last")
    assert "chose the epoch" not in card.text
