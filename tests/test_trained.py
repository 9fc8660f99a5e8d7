"""The fitted model as a value: frozen, complete, the same after every copy; and training that goes on to the bit."""

import copy
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import joblib
import msgspec
import numpy as np
import pytest
import soundfile
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.validation import check_is_fitted

from skastw import ASTWClassifier, ASTWPretrainer, ASTWRegressor
from skastw.artifact.folder import seal
from skastw.augment import Background
from skastw.data.dataset import Labelled, hold_out, make_frame_set
from skastw.data.extraction import ReadParams, read_frames, read_with_side
from skastw.data.split import SplitParams
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ArtifactError, TrainingError
from skastw.network import inference
from skastw.network.components import ModelParams, resolve_components
from skastw.network.inference import ROUNDING, InferenceParams, on_device, was_trained_on
from skastw.network.trained import ClassScores, Trained, TrainingRecord
from skastw.targets import learn_targets
from skastw.training import TrainingSettings, load_state, loop, save_state, start_run, train
from skastw.training.transfer import Start

TINY = ASTWEncoder(d_model=8, num_heads=2, num_layers=1, ff_mult=2)
CLIPS, Y = make_tones(n_clips=15, duration=(0.1, 0.2), random_state=0)
INDICATOR = np.stack([Y == 0, Y > 0], axis=1).astype(int)

#: Where the fitted attributes come from.
PARTS = {
    "model_": lambda trained: trained.model,
    "task_": lambda trained: trained.targets.name,
    "history_": lambda trained: trained.record.history,
    "best_epoch_": lambda trained: trained.record.best_epoch,
    "n_epochs_": lambda trained: trained.record.n_epochs,
    "interrupted_": lambda trained: trained.record.interrupted,
    "seed_": lambda trained: trained.record.seed,
    "features_": lambda trained: trained.components.features,
    "augment_": lambda trained: list(trained.components.augment),
    "sample_rate_": lambda trained: trained.components.sample_rate,
    "chunk_length_": lambda trained: trained.components.chunk_length,
}
CLASSIFIER_PARTS = {
    **PARTS,
    "classes_": lambda trained: trained.targets.classes,
    "placeholder_": lambda trained: trained.targets.placeholder,
}
REGRESSOR_PARTS = {
    **PARTS,
    "target_names_": lambda trained: trained.targets.names,
    "target_mean_": lambda trained: trained.targets.mean,
    "target_scale_": lambda trained: trained.targets.scale,
}
BOTH = [(ASTWClassifier, CLASSIFIER_PARTS), (ASTWRegressor, REGRESSOR_PARTS)]
ALL = [*BOTH, (ASTWPretrainer, PARTS)]


def classifier(**params):
    return ASTWClassifier(**{"encoder": TINY, "epochs": 2, **params})


@pytest.fixture(scope="module")
def fitted():
    """Return an estimator for each kind of target, with something different from the defaults in each."""
    return {
        "classification": classifier(class_weight={"high": 2.0}).fit(CLIPS, np.array(["low", "mid", "high"])[Y]),
        "multilabel": classifier(pooling="max", precision="float64", n_models=2).fit(CLIPS, INDICATOR),
        "regression": ASTWRegressor(encoder=TINY, epochs=2, ema_decay=0.9, chunk_length=0.15).fit(CLIPS, 2.5 * Y),
    }


KINDS = ["classification", "multilabel", "regression"]


def outputs(estimator):
    return getattr(estimator, "decision_function", estimator.predict)(CLIPS)


def assert_equal(one, two):
    """Assert that two fitted models are the same to the bit."""
    weights, others = one.model.state_dict(), two.model.state_dict()
    assert list(weights) == list(others)
    for name, tensor in weights.items():
        assert tensor.dtype == others[name].dtype
        assert torch.equal(tensor, others[name]), name
    assert one.record == two.record
    assert (one.targets.name, one.targets.to_json()) == (two.targets.name, two.targets.to_json())
    assert type(one.targets) is type(two.targets)
    assert one.components.to_config() == two.components.to_config()
    for name in ("sample_rate", "chunk_length", "n_models", "dtype"):
        assert getattr(one.components, name) == getattr(two.components, name)
    assert one.params == two.params


# ------------------------------------------------------------------ the value


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_a_fitted_model_can_be_replaced(fitted, kind):
    trained = fitted[kind].trained_
    for value in (trained, trained.components, trained.targets):
        for item in fields(value):
            with pytest.raises(FrozenInstanceError):
                setattr(value, item.name, getattr(value, item.name))
    for name in TrainingRecord.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(trained.record, name, getattr(trained.record, name))


@pytest.mark.parametrize(("cls", "parts"), ALL)
def test_the_fitted_attributes_are_exactly_these(cls, parts):
    public = {name for name in dir(cls) if name.endswith("_") and not name.startswith("_")}
    assert public == set(parts)


@pytest.mark.parametrize("cls", [ASTWClassifier, ASTWPretrainer, ASTWRegressor])
def test_groups_of_parameters_add_nothing_but_parameters_to_an_estimator(cls):
    groups = [base for base in cls.__mro__ if base.__name__.endswith("Params")]
    assert len(groups) > 5
    added = {name for group in groups for name in vars(group) if not name.startswith("_")}
    assert added - set(cls().get_params(deep=False)) == {"get_params", "set_params"}


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_attributes_are_parts_of_the_value(fitted, kind):
    estimator = fitted[kind]
    for name, part in (REGRESSOR_PARTS if kind == "regression" else CLASSIFIER_PARTS).items():
        value, expected = getattr(estimator, name), part(estimator.trained_)
        assert value is expected or value == expected, name
        with pytest.raises(AttributeError):
            setattr(estimator, name, value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_keeps_its_parameters_and_little_else(fitted, kind):
    estimator = fitted[kind]
    learned = vars(estimator).keys() - estimator.get_params(deep=False).keys()
    assert learned == {"trained_", "failed_", "_momenta"}


@pytest.mark.parametrize(("cls", "parts"), BOTH)
def test_before_fit_there_is_none_of_it(cls, parts):
    estimator = cls()
    for name in (*parts, "trained_", "failed_"):
        assert not hasattr(estimator, name)
        with pytest.raises(AttributeError):
            getattr(estimator, name)
    assert vars(estimator).keys() == estimator.get_params(deep=False).keys()
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "save_pretrained"]
)
def test_before_fit_methods_say_so(method, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(classifier(), method)(tmp_path if method == "save_pretrained" else CLIPS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_model_is_all_that_an_estimator_needs(fitted, kind, tmp_path):
    other = type(fitted[kind])(encoder="resnet", epochs=9)
    other.trained_ = fitted[kind].trained_
    check_is_fitted(other)
    np.testing.assert_array_equal(outputs(other), outputs(fitted[kind]))
    np.testing.assert_array_equal(other.predict(CLIPS), fitted[kind].predict(CLIPS))
    np.testing.assert_array_equal(other.transform(CLIPS), fitted[kind].transform(CLIPS))
    assert other.get_feature_names_out().tolist() == fitted[kind].get_feature_names_out().tolist()
    loaded = type(other).from_pretrained(other.save_pretrained(tmp_path / "other"))
    assert loaded.get_params()["epochs"] == 2
    np.testing.assert_array_equal(outputs(loaded), outputs(fitted[kind]))


def test_another_fitted_model_takes_the_place_of_the_first(two_classifiers):
    one, two = map(copy.copy, two_classifiers)
    assert np.abs(outputs(one) - outputs(two)).max() > 1e-3
    one.trained_ = two.trained_
    np.testing.assert_array_equal(outputs(one), outputs(two))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_are_set_after_fit_change_no_prediction(fitted, kind):
    estimator = copy.copy(fitted[kind])
    run = {item.name for item in fields(InferenceParams)}
    others = {name: object() for name in estimator.get_params(deep=False) if name not in run}
    assert {"encoder", "features", "sample_rate", "chunk_length", "n_models", "epochs"} <= others.keys()
    estimator.set_params(**others)
    np.testing.assert_array_equal(outputs(estimator), outputs(fitted[kind]))


def test_parameters_of_running_act_at_once(fitted):
    estimator = clone(fitted["classification"])
    estimator.trained_ = fitted["classification"].trained_
    expected = outputs(estimator)
    np.testing.assert_allclose(outputs(estimator.set_params(batch_size=1)), expected, atol=100 * ROUNDING)
    assert np.abs(outputs(estimator.set_params(precision="bfloat16")) - expected).max() > 0
    broken = [*CLIPS[:2], np.full(100, np.nan)]
    predicted = estimator.set_params(precision="auto", on_error="ignore").predict(broken)
    assert predicted[2] == estimator.placeholder_
    assert [clip.index for clip in estimator.failed_] == [2]


def test_fit_copies_what_it_is_given():
    encoder, weights = clone(TINY), {"low": 2.0, "high": 1.0}
    estimator = classifier(encoder=encoder, class_weight=weights).fit(CLIPS, np.where(Y > 0, "high", "low"))
    before = estimator.trained_.components.to_config(), dict(estimator.trained_.params)
    encoder.d_model, weights["low"] = 99, 7.0
    assert (estimator.trained_.components.to_config(), dict(estimator.trained_.params)) == before


# ------------------------------------------------------------------ copies

COPIES = {
    "pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
    "joblib": lambda estimator, folder: joblib.load(joblib.dump(estimator, folder / "model.joblib")[0]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_the_same_model_with_weights_of_its_own(fitted, kind, way, tmp_path):
    copied = COPIES[way](fitted[kind], tmp_path)
    assert_equal(copied.trained_, fitted[kind].trained_)
    expected = outputs(fitted[kind])
    np.testing.assert_array_equal(outputs(copied), expected)
    with torch.no_grad():
        copied.model_.head.weight.add_(1.0)
    np.testing.assert_array_equal(outputs(fitted[kind]), expected)
    assert np.abs(outputs(copied) - expected).max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_clone_has_the_parameters_alone(fitted, kind):
    cloned = clone(fitted[kind])
    assert not hasattr(cloned, "trained_")
    assert vars(cloned).keys() == fitted[kind].get_params(deep=False).keys()


def test_threads_share_a_fitted_model(fitted):
    expected = {kind: outputs(estimator) for kind, estimator in fitted.items()}
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda kind: (kind, outputs(fitted[kind])), KINDS * 4))
    for kind, result in results:
        np.testing.assert_array_equal(result, expected[kind])


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_a_prediction_comes_from_one_model_whatever_is_fitted_meanwhile(fitted, kind, monkeypatch):
    """While clips are read, another thread ends a fit: network and targets are those of one model."""
    estimator = copy.copy(fitted[kind])
    old, trained = outputs(estimator), estimator.trained_
    network = copy.deepcopy(trained.model)
    with torch.no_grad():
        network.head.bias[0] = 1000.0
    targets = type(trained.targets).from_json(
        {**trained.targets.to_json(), **({"mean": [77.0]} if kind == "regression" else {})}
    )

    def meanwhile(*args, **params):
        estimator.trained_ = replace(trained, model=network, targets=targets)
        return read_with_side(*args, **params)

    monkeypatch.setattr(inference, "read_with_side", meanwhile)
    np.testing.assert_array_equal(outputs(estimator), old)
    assert estimator.trained_ is not trained
    assert np.abs(outputs(estimator) - old).max() > 10


@pytest.mark.parametrize("kind", KINDS)
def test_weights_stay_on_the_cpu_in_evaluation_mode(fitted, kind):
    model = fitted[kind].trained_.model
    devices = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    assert devices == {"cpu"}
    assert not any(module.training for module in model.modules())
    assert model.head.weight.dtype == (torch.float64 if kind == "multilabel" else torch.float32)


def test_a_copy_for_another_device_is_kept_beside_the_model(fitted):
    model = fitted["classification"].trained_.model
    meta, size = torch.device("meta"), len(pickle.dumps(model))
    moved = on_device(model, meta)
    assert {tensor.device.type for tensor in moved.parameters()} == {"meta"}
    assert on_device(model, meta) is moved
    assert on_device(model, torch.device("cpu")) is model
    assert {tensor.device.type for tensor in model.parameters()} == {"cpu"}
    assert len(pickle.dumps(model)) == size


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_and_loaded_is_the_same_value(fitted, kind, tmp_path):
    estimator = fitted[kind]
    loaded = type(estimator).from_pretrained(estimator.save_pretrained(tmp_path / kind))
    assert_equal(loaded.trained_, estimator.trained_)
    assert isinstance(loaded.trained_, Trained)
    assert_equal(
        type(estimator).from_pretrained(loaded.save_pretrained(tmp_path / "again")).trained_, estimator.trained_
    )


# ------------------------------------------------------------------ the record


def test_the_record_says_what_was_done(fitted):
    estimator = fitted["classification"]
    record = estimator.trained_.record
    assert (record.n_train, record.n_validation, record.split) == (12, 3, "random split, stratified where possible")
    assert (record.batch_size, record.n_epochs, record.max_epochs, record.interrupted) == (16, 2, 2, False)
    assert record.seed == np.random.RandomState(42).randint(np.iinfo(np.int32).max)
    assert [row["epoch"] for row in record.history] == [1, 2]
    best = record.history[record.best_epoch - 1]
    assert best == max(record.history, key=lambda row: (row["val_macro_f1"], -row["val_loss"]))
    assert record.validation == {
        **{name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")},
        "uar": pytest.approx(np.mean([row.recall for row in record.per_class])),
    }
    assert [row.label for row in record.per_class] == ["high", "low", "mid"]
    assert sum(row.support for row in record.per_class) == 3
    assert record.versions["torch"].startswith(torch.__version__.partition("+")[0])
    assert record.test is None


def test_the_scores_of_the_record_are_those_of_the_model():
    estimator = classifier().fit(CLIPS, Y, X_val=CLIPS[:9], y_val=Y[:9])
    record, predicted = estimator.trained_.record, estimator.predict(CLIPS[:9])
    assert record.validation["accuracy"] == pytest.approx(np.mean(predicted == Y[:9]))
    assert record.validation["uar"] == pytest.approx(balanced_accuracy_score(Y[:9], predicted))
    assert [row.support for row in record.per_class] == [3, 3, 3]
    assert record.split == "validation clips given by the caller"


def test_without_validation_the_record_has_no_scores():
    record = classifier(val_split=None).fit(CLIPS, Y).trained_.record
    assert (record.n_train, record.n_validation, record.split) == (15, 0, "no validation")
    assert (record.validation, record.per_class, record.best_epoch) == (None, None, 2)
    assert len(record.clips_sha256) == 1


@pytest.mark.parametrize(
    ("index", "expected"), [(np.arange(15), True), (np.arange(15)[::-1], True), ([*range(14), 0], False)]
)
def test_the_record_knows_the_clips_that_trained(fitted, index, expected):
    clips = [CLIPS[i] for i in index]
    assert was_trained_on(fitted["classification"].trained_, clips, np.arange(15), InferenceParams()) is expected


def test_the_digest_of_the_data_depends_on_clips_targets_weights_and_their_order():
    digests = [
        classifier(epochs=1, val_split=None).fit(CLIPS, Y).trained_.record.data_sha256,
        classifier(epochs=1, val_split=None).fit(CLIPS[::-1], Y[::-1]).trained_.record.data_sha256,
        classifier(epochs=1, val_split=None).fit(CLIPS, Y[::-1]).trained_.record.data_sha256,
        classifier(epochs=1, val_split=None).fit(CLIPS, Y, sample_weight=Y + 1.0).trained_.record.data_sha256,
    ]
    assert len(set(digests)) == 4
    assert digests[0] == classifier(epochs=1, val_split=None).fit(list(CLIPS), Y).trained_.record.data_sha256


# ------------------------------------------------------------------ metrics.json


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    test = {"n_clips": 4, "accuracy": 0.75, "macro_f1": 0.5, "uar": 0.625, "intervals": {"uar": [0.5, 0.75]}}
    test["per_class"] = [{"label": "low", "precision": 1.0, "recall": 0.5, "f1": 0.75, "support": 2}]
    folder = tmp_path_factory.mktemp("models") / "tones"
    return Path(fitted["classification"].save_pretrained(folder, test={**test, "split": "two other rooms"}))


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "tones"))


def rewrite(folder, change):
    """Change the record in metrics.json, and give the config the right hashes."""
    path, config = folder / "metrics.json", folder / "config.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    change(metrics)
    path.write_text(json.dumps(metrics), encoding="utf-8")
    config.write_text(json.dumps(seal(json.loads(config.read_text(encoding="utf-8")), folder)), encoding="utf-8")


def test_metrics_json_is_exactly_the_record(fitted, saved):
    stored = json.loads((saved / "metrics.json").read_text(encoding="utf-8"))
    assert list(stored) == list(TrainingRecord.__struct_fields__)
    loaded = ASTWClassifier.from_pretrained(saved).trained_.record
    assert stored == json.loads(msgspec.json.encode(loaded))
    assert loaded.test.split == "two other rooms"
    assert loaded.test.intervals == {"uar": [0.5, 0.75]}
    assert loaded.test.per_class == [ClassScores(label="low", precision=1.0, recall=0.5, f1=0.75, support=2)]
    expected = fitted["classification"].trained_.record
    assert {**stored, "test": None} == msgspec.to_builtins(expected)


REQUIRED = ["n_train", "n_validation", "split", "n_epochs", "best_epoch", "history"]


@pytest.mark.parametrize("name", TrainingRecord.__struct_fields__)
def test_a_field_that_is_missing_is_named_if_it_is_needed(folder, name):
    rewrite(folder, lambda metrics: metrics.pop(name))
    if name in REQUIRED:
        with pytest.raises(ArtifactError, match=f"metrics.json' has no '{name}'"):
            ASTWClassifier.from_pretrained(folder)
    else:
        record = ASTWClassifier.from_pretrained(folder).trained_.record
        assert getattr(record, name) in (None, False, {}, [])


#: A wrong value of each field, by its place, with the place that the error names.
WRONG = [
    ("n_train", -1, "n_train: -1, expected a number of clips"),
    ("n_train", 3.5, "n_train: 3.5, expected a number of clips"),
    ("n_train", True, "n_train: True"),
    ("n_train", "12", "n_train: '12'"),
    ("n_validation", None, "n_validation: None"),
    ("n_validation", -3, "n_validation: -3"),
    ("split", None, "split: None, expected text"),
    ("split", ["a"], "split: "),
    ("data_sha256", 7, "data_sha256: 7, expected text or null"),
    ("clips_sha256", "abc", "clips_sha256: 'abc', expected a list"),
    ("clips_sha256", ["a", 1], r"clips_sha256\[1\]: 1, expected text"),
    ("versions", "2.13", "versions: '2.13', expected a mapping"),
    ("versions", {"torch": 2}, "versions.torch: 2, expected text"),
    ("versions", None, "versions: None"),
    ("seed", "42", "seed: '42', expected an integer of at least 0 or null"),
    ("seed", 1.5, "seed: 1.5"),
    ("batch_size", "16", "batch_size: '16'"),
    ("batch_size", False, "batch_size: False"),
    ("n_epochs", 0, "n_epochs: 0, expected an integer of at least 1"),
    ("n_epochs", 3, "best_epoch or n_epochs do not fit 2 epochs in history: got best_epoch=[12] and n_epochs=3"),
    ("n_epochs", 10**30, "best_epoch or n_epochs do not fit 2 epochs"),
    ("max_epochs", 0, "max_epochs: 0"),
    ("n_refit", -1, "n_refit: -1"),
    ("n_refit", 2, "best_epoch or n_epochs do not fit 2 epochs in history, of which 2 are a refit"),
    ("interrupted", 1, "interrupted: 1, expected true or false"),
    ("best_epoch", 0, "best_epoch: 0, expected an integer of at least 1"),
    ("best_epoch", -1, "best_epoch: -1"),
    ("best_epoch", 3, "best_epoch or n_epochs do not fit 2 epochs in history: got best_epoch=3 and n_epochs=2"),
    ("best_epoch", 1.0, "best_epoch: 1.0"),
    ("best_epoch", True, "best_epoch: True"),
    ("validation", [0.5], r"validation: \[0.5\]"),
    ("validation", {"accuracy": "good"}, "validation.accuracy: 'good', expected a finite number"),
    ("validation", {"accuracy": None}, "validation.accuracy: None"),
    ("validation", {"accuracy": 2**60}, "validation.accuracy: 1152921504606846976"),
    ("per_class", {"a": 1}, "per_class: "),
    ("per_class", [{"label": "a", "precision": 1.0, "recall": 1.0, "f1": 1.0}], r"no 'support' in per_class\[0\]"),
    (
        "per_class",
        [{"label": ["a"], "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}],
        r"per_class\[0\].label",
    ),
    (
        "per_class",
        [{"label": "a", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": "1"}],
        r"per_class\[0\].support: '1'",
    ),
    ("test", {"n_clips": 3}, "no 'accuracy' in test"),
    ("test", {"n_clips": -3, "accuracy": 1.0, "macro_f1": 1.0, "uar": 1.0}, "test.n_clips: -3"),
    ("test", {"n_clips": 3, "accuracy": "x", "macro_f1": 1.0, "uar": 1.0}, "test.accuracy: 'x'"),
    ("selection", [{"model": "tiny"}], r"no 'seconds' in selection\[0\]"),
    ("selection", [{"model": "tiny", "seconds": 1, "uar": "high"}], r"selection\[0\].uar: 'high'"),
    ("history", None, "history: None"),
    ("history", [], r"history: \[\], expected a row of numbers for each epoch"),
    ("history", [{"epoch": 1}, 2], r"history\[1\]: 2"),
    ("history", [{"epoch": 1}, {"loss": "low"}], r"history\[1\].loss: 'low', expected a finite number"),
    ("history", [{"epoch": 1}, {"loss": 10**400}], r"history\[1\].loss: 10000000"),
    ("history", [{"epoch": 1}, {"loss": None}], r"history\[1\].loss: None"),
    ("history", [{"epoch": 1}, {"loss": 0.5}], r"history\[1\] is {'loss': 0.5}, expected a row with epoch"),
    ("history", [{"epoch": 1}], "best_epoch or n_epochs do not fit 1 epochs"),
]


@pytest.mark.parametrize(("name", "value", "match"), WRONG)
def test_a_wrong_value_in_the_record_is_refused_at_its_place(folder, name, value, match):
    rewrite(folder, lambda metrics: metrics.update({name: value}))
    with pytest.raises(ArtifactError, match=rf"metrics\.json' (has |is not valid: ).*{match}"):
        ASTWClassifier.from_pretrained(folder)


def test_every_field_of_the_record_is_tried():
    assert {name for name, _, _ in WRONG} == set(TrainingRecord.__struct_fields__)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["validation", "history"])
def test_numbers_that_are_not_finite_are_refused(folder, number, place):
    rewrite(folder, lambda metrics: metrics.update({place: {"loss": 123.25}} if place == "validation" else {}))
    path, config = folder / "metrics.json", folder / "config.json"
    text = path.read_text(encoding="utf-8")
    old = '"loss": 123.25' if place == "validation" else '"epoch": 1'
    assert text.count(old) == 1
    path.write_text(text.replace(old, old.partition(":")[0] + f": {number}"), encoding="utf-8")
    config.write_text(json.dumps(seal(json.loads(config.read_text(encoding="utf-8")), folder)), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"metrics\.json.*finite number"):
        ASTWClassifier.from_pretrained(folder)


def test_fields_of_later_releases_are_tolerated(folder, fitted):
    def change(metrics):
        metrics["energy"] = {"kwh": 0.1}
        metrics["per_class"][0]["auc"] = 0.9
        metrics["test"]["calibration"] = [1, 2]

    expected = ASTWClassifier.from_pretrained(folder).trained_.record
    rewrite(folder, change)
    assert ASTWClassifier.from_pretrained(folder).trained_.record == expected


def test_a_record_that_was_edited_without_its_hash_is_refused(folder):
    path = folder / "metrics.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"n_train": 12', '"n_train": 13'), encoding="utf-8")
    with pytest.raises(ArtifactError, match="not the file that was saved"):
        ASTWClassifier.from_pretrained(folder)


# ------------------------------------------------------------------ training goes on

N_EPOCHS, N_CLIPS = 3, 10


class StopError(Exception):
    """Ends training."""


class StopAt:
    """Raises an exception before an epoch, and keeps the state of the run at that time."""

    def __init__(self, epoch, error):
        self.epoch, self.error, self.run, self.state = epoch, error, None, None

    def begin_epoch(self):
        if self.run.epoch == self.epoch:
            self.state = copy.deepcopy(self.run.state_dict())
            raise self.error

    def end_epoch(self, run):
        return False


def new_run(val_split=0.2, n_models=1, normalization="none", **params):
    """Return a run that has not begun, its data and its targets."""
    shape = ModelParams(encoder=TINY, n_models=n_models, normalization=normalization, chunk_length=0.15)
    components = resolve_components(shape)
    clips, y = CLIPS[:N_CLIPS], Y[:N_CLIPS]
    targets = learn_targets(y, "classifier")
    labelled = Labelled(clips, targets.encode(y), np.ones(N_CLIPS))
    outcomes = read_frames(clips, labelled.used, components.features, components.sample_rate, ReadParams())
    frame_set, _ = make_frame_set(labelled, outcomes, N_CLIPS, limit=None, on_error="raise", dtype=torch.float32)
    data = hold_out(labelled, frame_set, targets, SplitParams(val_split=val_split), seed=0)
    settings = TrainingSettings(
        **{"epochs": N_EPOCHS, "batch_size": 4, "precision": "float32", "seed": 3, "verbose": 0, **params},
        device=torch.device("cpu"),
    )
    front_end = Start().build_front_end(components, seed=0)
    return start_run(components, targets, settings, data, front_end, Start()), data


def assert_same_run(run, other):
    """Assert that two runs have ended alike, but for the time that they took."""
    assert (run.epoch, run.best["epoch"], run.best["score"]) == (other.epoch, other.best["epoch"], other.best["score"])
    rows, expected = (
        [{name: value for name, value in row.items() if name != "seconds"} for row in each.history]
        for each in (run, other)
    )
    assert rows == expected
    for name, tensor in other.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], tensor), name
    assert run.class_scores == other.class_scores


RUNS = {
    "defaults": {},
    "average": {"ema_decay": 0.9},
    "adamw": {"muon_lr": None},
    "two networks": {"n_models": 2},
    "no validation": {"val_split": None},
    "last epoch": {"keep": "last", "normalization": "per_bin"},
    "patience": {"patience": 1},
    "constant rates": {"constant_lr": True},
}


def stopped_at(epoch, error, checkpoint=None, **params):
    """Return a run that an exception has stopped before an epoch, and its state at that time."""
    run, data = new_run(**params)
    monitor = StopAt(epoch, error)
    monitor.run = run
    train(run, data, monitor=monitor, checkpoint=checkpoint)
    return run, monitor.state


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_from_its_state_to_the_bit(name, tmp_path):
    whole, data = new_run(**RUNS[name])
    train(whole, data)
    assert whole.stopped is None

    error, path, epoch = KeyboardInterrupt(), tmp_path / "states" / "run.safetensors", 1 if name == "patience" else 2
    first, in_memory = stopped_at(epoch, error, path, **RUNS[name])
    assert first.stopped is error

    for state in (in_memory, load_state(path)):
        second, data = new_run(**RUNS[name])
        second.load_state_dict(copy.deepcopy(state))
        assert second.epoch == epoch
        assert_same_run(train(second, data), whole)


@pytest.fixture(scope="module")
def averaged():
    """Return a whole run with averaged weights, and the state of such a run before its last epoch."""
    whole, data = new_run(ema_decay=0.9)
    return train(whole, data), stopped_at(2, StopError(), ema_decay=0.9)[1]


@pytest.mark.parametrize("part", ["model", "optimizers", "shuffle", "augment", "dropout", "average", "best", "history"])
def test_no_part_of_a_state_is_kept_for_nothing(averaged, part):
    whole, state = averaged
    run, data = new_run(ema_decay=0.9)
    fresh = copy.deepcopy(run.state_dict())
    others = {"best": {**state["best"], "score": [2.0, 0.0]}}  # a score that no epoch reaches
    run.load_state_dict(copy.deepcopy({**state, part: others.get(part, fresh[part])}))
    train(run, data)
    with pytest.raises(AssertionError):
        assert_same_run(run, whole)


def test_an_interrupt_within_an_epoch_loses_that_epoch_alone(tmp_path):
    whole, data = new_run()
    train(whole, data)
    first, data = new_run()
    path, calls = tmp_path / "run.safetensors", []

    def interrupt(batch, generator):
        calls.append(len(calls))
        if len(calls) == 4:  # the second step of the second epoch
            raise KeyboardInterrupt
        return batch

    first.transforms = [*first.transforms, interrupt]
    train(first, data, checkpoint=path)
    assert isinstance(first.stopped, KeyboardInterrupt)
    assert (first.epoch, len(first.history)) == (1, 1)
    second, data = new_run()
    second.load_state_dict(load_state(path))
    assert_same_run(train(second, data), whole)


def test_a_run_that_is_done_is_not_trained_again(tmp_path):
    run, data = new_run(patience=1, muon_lr=0.0, adam_lr=0.0)
    train(run, data, checkpoint=tmp_path / "run.safetensors")
    assert run.done
    assert run.epoch == 2
    again, data = new_run(patience=1, muon_lr=0.0, adam_lr=0.0)
    again.load_state_dict(load_state(tmp_path / "run.safetensors"))
    assert_same_run(train(again, data), run)


def test_an_interrupted_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    whole = classifier(epochs=3).fit(CLIPS, Y)

    def interrupted(path, state):
        save_state(path, state)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    params = {"epochs": 3, "checkpoint_dir": tmp_path}
    monkeypatch.setattr(loop, "save_state", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        stopped = classifier(**params).fit(CLIPS, Y)
    monkeypatch.undo()
    assert (stopped.interrupted_, stopped.n_epochs_) == (True, 2)
    resumed = classifier(**params).fit(CLIPS, Y)
    assert (resumed.interrupted_, resumed.n_epochs_) == (False, 3)
    np.testing.assert_array_equal(outputs(resumed), outputs(whole))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "damage", [lambda content: content[:100], lambda content: b"", lambda content: b"{}" + content]
)
def test_a_damaged_state_is_refused_with_the_remedy(damage, tmp_path):
    path = tmp_path / "run.safetensors"
    save_state(path, {"epoch": 1, "model": {"weight": torch.ones(3)}, "history": [{"loss": 0.5}]})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TrainingError, match="remove it to train from the beginning"):
        load_state(path)


def test_a_state_survives_its_file_with_every_type(tmp_path):
    state = {
        "epoch": 3,
        "done": False,
        "history": [{"epoch": 1, "loss": 1 / 3, "val_loss": 1e-300}],
        "best": {"score": [-np.inf, -np.inf], "weights": {"a.b/c": torch.arange(3)}},
        "nested": [{"1": {"step": torch.tensor(2.0), "none": None}}],
        "empty": {},
        "big": 2**100,
    }
    save_state(tmp_path / "state", state)
    loaded = load_state(tmp_path / "state")
    assert torch.equal(loaded["best"]["weights"].pop("a.b/c"), state["best"]["weights"].pop("a.b/c"))
    assert torch.equal(loaded["nested"][0]["1"].pop("step"), state["nested"][0]["1"].pop("step"))
    assert loaded == state


def test_a_fitted_model_with_other_parts_is_a_new_value(fitted):
    trained = fitted["classification"].trained_
    other = replace(trained, params={**trained.params, "epochs": 5})
    assert other.model is trained.model
    assert trained.params["epochs"] == 2


def test_a_history_that_is_changed_leaves_the_model_as_it_is(fitted, tmp_path):
    estimator = copy.deepcopy(fitted["classification"])
    estimator.history_.append({"epoch": 3, "loss": 0.0})
    loaded = ASTWClassifier.from_pretrained(estimator.save_pretrained(tmp_path / "model"))
    assert loaded.n_epochs_ == 2


@pytest.mark.parametrize("batch_size", [0, -5])
def test_a_batch_size_is_positive(folder, batch_size):
    rewrite(folder, lambda metrics: metrics.update(batch_size=batch_size))
    with pytest.raises(ArtifactError, match="batch_size"):
        ASTWClassifier.from_pretrained(folder)


def test_the_name_of_a_score_stays_in_its_cell_of_the_card(folder, tmp_path):
    rewrite(folder, lambda metrics: metrics.update(validation={"a |\n\n# Not a heading\n": 0.5}))
    again = Path(ASTWClassifier.from_pretrained(folder).save_pretrained(tmp_path / "again"))
    assert "# Not a heading" not in (again / "README.md").read_text(encoding="utf-8").splitlines()


def test_a_checkpoint_of_other_augmentations_is_another_run(tmp_path):
    for i in range(41):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * np.random.default_rng(i).normal(size=1000), 16000)
    files = [str(tmp_path / f"{i}.wav") for i in range(40)]
    for paths in (files, [*files[:39], str(tmp_path / "40.wav")]):
        augment = [Background(paths=paths, p=1.0)]
        classifier(epochs=1, augment=augment, checkpoint_dir=tmp_path / "states").fit(CLIPS, Y)
    assert len(list((tmp_path / "states").iterdir())) == 2
