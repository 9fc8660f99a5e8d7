"""Saved models load for ever: those that earlier versions of the format left are kept, with what they predicted.

    python tests/test_format.py --write

writes the models of the present version; those of earlier versions were written by the code of their time, and stay.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from skastw import ASTWClassifier, ASTWRegressor
from skastw.artifact.folder import FORMAT_VERSION

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
