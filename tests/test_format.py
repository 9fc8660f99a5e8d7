"""Saved models load for ever: those that earlier versions of the format left are kept, with what they predicted.

    python tests/test_format.py --write

writes the models of the present version; those of earlier versions were written by the code of their time, and stay.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.base import clone

from skastw import ASTWClassifier, ASTWRegressor
from skastw.artifact.folder import FORMAT_VERSION, seal
from skastw.artifact.pretrained import to_documents
from skastw.augment import Background
from skastw.errors import ArtifactError
from skastw.targets import SingleLabel

MODELS = Path(__file__).parent / "data" / "models"
RATE = 8000


def sounds():
    """Return clips that any machine makes alike: short and long, rising and falling, and silence."""
    seconds = [np.arange(int(RATE * length)) / RATE for length in (0.01, 0.3, 1.3)]
    rising = [np.sin(2 * np.pi * (200 + 300 * t) * t) for t in seconds]
    return [*rising, 0.1 * rising[2][::-1].copy(), np.zeros(RATE // 2)]


def estimators():
    """Return an estimator of each kind, small and different from the defaults, and targets for ``sounds``."""
    from skastw.encoders import ASTWEncoder, ResNetEncoder
    from skastw.features import LogMel

    tiny = ASTWEncoder(d_model=8, num_heads=2, num_layers=1, ff_mult=2)
    common = {"sample_rate": RATE, "epochs": 1, "chunk_length": 0.5, "val_split": None}
    narrow = LogMel(n_mels=16, n_fft=256, hop_length=128)
    return {
        "classifier": (ASTWClassifier(encoder=tiny, features=narrow, **common), ["b", "a", "ü", "a", "b"]),
        "multilabel": (ASTWClassifier(encoder=tiny, features=narrow, pooling="attentive_stats", **common), INDICATOR),
        "regressor": (ASTWRegressor(encoder=tiny, features=narrow, **common), [0.5, 1.5, -1.0, 2.0, 0.0]),
        "two_resnets": (
            ASTWClassifier(
                encoder=ResNetEncoder(width=4),
                features=narrow,
                normalization="per_bin",
                n_models=2,
                class_weight={1: 2.0},
                **common,
            ),
            [3, 1, 2, 1, 3],
        ),
    }


INDICATOR = np.array([[0, 1], [1, 1], [1, 0], [0, 0], [1, 1]])


def predictions(estimator):
    method = estimator.predict if isinstance(estimator, ASTWRegressor) else estimator.predict_proba
    return method(sounds()).tolist()


def kept():
    return sorted(path.parent for path in MODELS.glob("version_*/*/config.json"))


@pytest.mark.parametrize("folder", kept(), ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_model_of_any_version_predicts_what_it_predicted(folder):
    cls = ASTWRegressor if folder.name == "regressor" else ASTWClassifier
    estimator = cls.from_pretrained(folder)
    expected = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(predictions(estimator), expected["predictions"], atol=1e-4)
    if cls is ASTWClassifier:
        assert estimator.classes_.tolist() == expected["classes"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["format_version"] == int(folder.parent.name.removeprefix("version_"))


def test_each_version_of_the_format_is_kept():
    versions = {int(folder.parent.name.removeprefix("version_")) for folder in kept()}
    assert versions == set(range(1, FORMAT_VERSION + 1))
    present = {folder.name for folder in kept() if folder.parent.name == f"version_{FORMAT_VERSION}"}
    assert present == set(estimators())


def test_a_model_of_an_earlier_version_is_saved_as_one_of_this(tmp_path):
    for folder in kept():
        cls = ASTWRegressor if folder.name == "regressor" else ASTWClassifier
        again = tmp_path / folder.parent.name / folder.name
        cls.from_pretrained(folder).save_pretrained(again)
        assert json.loads((again / "config.json").read_text(encoding="utf-8"))["format_version"] == FORMAT_VERSION
        np.testing.assert_array_equal(predictions(cls.from_pretrained(again)), predictions(cls.from_pretrained(folder)))


# ------------------------------------------------------------ what other tools read


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the fitted estimators of ``estimators()`` by name, each with the folder that it was saved to."""
    folder = tmp_path_factory.mktemp("models")
    fitted = {name: estimator.fit(sounds(), np.asarray(y)) for name, (estimator, y) in estimators().items()}
    return {name: (model, Path(model.save_pretrained(folder / name))) for name, model in fitted.items()}


def document(folder, name="config.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def write_config(folder, config):
    """Write a config with the right hashes."""
    (folder / "config.json").write_text(json.dumps(seal(config, folder)), encoding="utf-8")


NAMES = ["classifier", "multilabel", "regressor", "two_resnets"]


@pytest.mark.parametrize("name", NAMES)
def test_the_config_says_what_other_tools_look_for(written, name):
    model, folder = written[name]
    config, labels = document(folder), document(folder, "labels.json")
    assert config["model_type"] == config["library"] == "skastw"
    assert config["task"] == labels["task"] == model.task_
    texts = [str(label) for label in labels["labels"]]
    assert config["labels"] == texts
    assert config["id2label"] == {str(i): text for i, text in enumerate(texts)}
    assert config["label2id"] == {text: i for i, text in enumerate(texts)}
    assert config["seed"] == document(folder, "metrics.json")["seed"] == model.seed_
    assert config["n_parameters"] == sum(weight.numel() for weight in model.model_.parameters())
    assert config["metrics"] == {}  # without validation clips


def test_the_scores_in_the_config_are_those_of_the_record(tmp_path):
    estimator, y = estimators()["classifier"]
    model = estimator.set_params(val_split=0.4).fit(sounds() * 2, np.asarray(y * 2))
    folder = Path(model.save_pretrained(tmp_path / "model"))
    metrics = document(folder, "metrics.json")
    assert document(folder)["metrics"] == metrics["validation"]
    assert metrics["validation"].keys() == {"loss", "accuracy", "macro_f1", "uar"}

    test = {"n_clips": 4, "accuracy": 0.75, "macro_f1": 0.5, "uar": 0.625, "intervals": {"uar": [0.5, 0.75]}}
    folder = Path(model.save_pretrained(tmp_path / "tested", test={**test, "split": "other rooms"}))
    assert document(folder)["metrics"] == {"accuracy": 0.75, "macro_f1": 0.5, "uar": 0.625}
    assert document(folder, "metrics.json")["test"]["accuracy"] == 0.75
    assert model.trained_.record.test is None


@pytest.mark.parametrize(
    "missing", [["model_type"], ["labels", "id2label", "label2id"], ["task", "metrics", "seed"], None]
)
def test_a_config_without_what_other_tools_look_for_loads(written, missing, tmp_path):
    model, saved = written["classifier"]
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    config = document(folder)
    others = ["model_type", "labels", "id2label", "label2id", "task", "metrics", "seed", "n_parameters"]
    for key in missing or [*others, "library_version"]:
        del config[key]
    write_config(folder, config)
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(sounds()), model.predict_proba(sounds()))
    assert loaded.seed_ == model.seed_


def test_a_config_with_further_keys_loads(written, tmp_path):
    model, saved = written["classifier"]
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    write_config(folder, {**document(folder), "architectures": ["ASTW"], "transformers_version": "9.0"})
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(sounds()), model.predict_proba(sounds()))


@pytest.mark.parametrize("key", ["estimator", "features", "encoder", "normalization", "pooling", "augment", "params"])
def test_a_config_without_what_a_model_needs_is_refused(written, key, tmp_path):
    folder = Path(shutil.copytree(written["classifier"][1], tmp_path / "model"))
    config = document(folder)
    del config[key]
    write_config(folder, config)
    with pytest.raises(ArtifactError, match=f"{key}"):
        ASTWClassifier.from_pretrained(folder)


@pytest.mark.parametrize(("n_labels", "named"), [(10_000, True), (10_001, False)])
def test_more_labels_than_a_person_reads_are_in_one_file_only(written, n_labels, named):
    trained = written["classifier"][0].trained_
    many = replace(trained, targets=SingleLabel(np.arange(n_labels)))
    documents = to_documents(many, title="many", estimator="ASTWClassifier", params={})
    keys = {"labels", "id2label", "label2id"}
    assert documents.config.keys() & keys == (keys if named else set())
    assert len(documents.labels["labels"]) == n_labels
    if named:
        assert documents.config["id2label"]["9999"] == "9999"


def test_a_perfect_score_is_a_score(written, tmp_path):
    test = {"n_clips": 4, "accuracy": 1, "macro_f1": 1, "uar": 1}
    folder = Path(written["classifier"][0].save_pretrained(tmp_path / "model", test=test))
    assert document(folder)["metrics"] == {"accuracy": 1, "macro_f1": 1, "uar": 1}


def test_weights_of_classes_that_look_like_paths_stay_with_their_classes(tmp_path):
    estimator, _ = estimators()["classifier"]
    y = np.array(["/cat", "/dog", "/cat", "/dog", "/cat"])
    folder = estimator.set_params(class_weight={"/dog": 2.0}).fit(sounds(), y).save_pretrained(tmp_path / "model")
    loaded = ASTWClassifier.from_pretrained(folder)
    assert set(loaded.class_weight) <= set(loaded.classes_)


def absolute_paths(value):
    """Return the texts in a JSON value that are absolute paths."""
    if isinstance(value, dict):
        return [path for item in (*value, *value.values()) for path in absolute_paths(item)]
    if isinstance(value, list):
        return [path for item in value for path in absolute_paths(item)]
    return [value] if isinstance(value, str) and Path(value).is_absolute() else []


@pytest.mark.parametrize(
    ("user", "as_type"), [("anna", str), ("anna", Path), ("anna's files", Path), ("anna's files", str)]
)
@pytest.mark.parametrize("random_state", [5, "RandomState"])
def test_no_path_of_this_machine_is_published(user, as_type, random_state, tmp_path):
    home = tmp_path / "home" / user
    home.mkdir(parents=True)
    for name in ("hum.wav", "rain.wav"):
        soundfile.write(home / name, sounds()[2], RATE)
    estimator, y = estimators()["classifier"]
    start = estimator.fit(sounds(), np.asarray(y)).save_pretrained(home / "start")

    hum = Background(paths=[as_type(home / "hum.wav"), as_type(home / "rain.wav")], p=1.0)
    model = clone(estimator).set_params(augment=["spec_augment", hum], init_from=as_type(start))
    if random_state == 5:
        model.set_params(random_state=5, checkpoint_dir=as_type(home / "states"))
    else:
        model.set_params(random_state=np.random.RandomState(5))
    folder = Path(model.fit(sounds(), np.asarray(y)).save_pretrained(home / "published"))

    for name in ("config.json", "preprocessor_config.json", "labels.json", "metrics.json"):
        assert absolute_paths(document(folder, name)) == []
    for name in ("config.json", "metrics.json", "README.md"):
        text = (folder / name).read_text(encoding="utf-8")
        for part in (str(tmp_path), "anna", "RandomState", "states"):
            assert part not in text
    config = document(folder)
    assert config["augment"][1]["params"]["paths"] == ["hum.wav", "rain.wav"]
    assert config["params"]["random_state"] == (5 if random_state == 5 else None)
    assert "hum.wav" in (folder / "README.md").read_text(encoding="utf-8")
    assert not {"init_from", "checkpoint_dir"} & config["params"].keys()

    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(sounds()), model.predict_proba(sounds()))
    assert hum.paths[0] == as_type(home / "hum.wav")


def write(version, only):
    for name, (estimator, y) in estimators().items():
        if name in only:
            folder = MODELS / f"version_{version}" / name
            folder.parent.mkdir(parents=True, exist_ok=True)
            estimator.fit(sounds(), np.asarray(y)).save_pretrained(folder)
            content = {"predictions": predictions(estimator)}
            if hasattr(estimator, "classes_"):
                content["classes"] = estimator.classes_.tolist()
            (folder / "predictions.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            print(folder)


if __name__ == "__main__" and "--write" in sys.argv:
    write(FORMAT_VERSION, set(estimators()))
