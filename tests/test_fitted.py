"""A fitted model stays what it is, whatever becomes of the parameters, and what is saved of it is the same model."""

import copy
import inspect
import json
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.artifact.folder import describe_model, seal
from skastw.augment import Gain, TimeStretch
from skastw.core.parameters import param_names
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ArtifactError
from skastw.evaluation import evaluate
from skastw.features import LogMel
from skastw.network.inference import InferenceParams
from skastw.serving.listener import Listener

CLIPS, Y = make_tones(n_clips=18, random_state=0)

#: Another value of each parameter, so that nothing of the model would stay if it acted before the next fit.
OTHERS = {
    "sample_rate": 8000,
    "chunk_length": 0.1,
    "features": "mfcc",
    "augment": "mixup",
    "normalization": "per_clip",
    "encoder": "resnet",
    "pooling": "attentive_stats",
    "n_models": 3,
    "epochs": 7,
    "min_steps": 50,
    "batch_size": 5,
    "muon_lr": None,
    "adam_lr": 1e-5,
    "pretrained_lr": 1e-5,
    "weight_decay": 0.5,
    "warmup_ratio": 0.3,
    "label_smoothing": 0.3,
    "class_weight": {0: 3.0},
    "ema_decay": 0.5,
    "refit": 0.4,
    "teacher": None,
    "teacher_share": 0.4,
    "val_split": 0.4,
    "patience": 2,
    "solver": "lbfgs",
    "C": 3.0,
    "side": "statistics",
    "side_share": 0.2,
    "keep": "last",
    "tta": 3,
    "warm_start": True,
    "init_from": "nowhere/at-all",
    "init_train": "top-1",
    "device": "cpu",
    "precision": "float64",
    "cache": "disk",
    "cache_dir": "nowhere/frames",
    "cache_size": 0.5,
    "n_jobs": 2,
    "on_error": "ignore",
    "checkpoint_dir": "nowhere",
    "random_state": 7,
    "verbose": 2,
    "features__n_fft": 1024,
    "features__hop_length": 400,
    "augment__max_stretch": 0.01,
    "encoder__d_model": 32,
    "encoder__num_heads": 4,
    "encoder__dropout": 0.5,
}


def new(estimator, **params):
    settings = {
        "features": LogMel(),
        "augment": TimeStretch(max_stretch=0.3),
        "encoder": ASTWEncoder(d_model=16, num_heads=2, num_layers=1),
        "epochs": 1,
        "tta": 2,
    }
    return estimator(**{**settings, **params})


@pytest.fixture(scope="module")
def saved():
    """Return the pickle of a fitted classifier and of a fitted regressor."""
    return {estimator: pickle.dumps(new(estimator).fit(CLIPS, Y)) for estimator in (ASTWClassifier, ASTWRegressor)}


@pytest.fixture(params=[ASTWClassifier, ASTWRegressor])
def fitted(request, saved):
    return pickle.loads(saved[request.param])


def outputs(model):
    """Return everything that a model says of the clips."""
    if isinstance(model, ASTWRegressor):
        return model.predict(CLIPS)
    return np.hstack([model.predict_proba(CLIPS), model.predict_windows(CLIPS[:2], window=0.2).iloc[:2, 1:]][:1])


def test_every_parameter_is_tried():
    assert {name for name in OTHERS if "__" not in name} == set(ASTWClassifier().get_params(deep=False))


@pytest.mark.parametrize("name", OTHERS)
def test_a_parameter_set_after_fit_leaves_the_model_as_it_is(fitted, name, tmp_path, monkeypatch):
    if name not in fitted.get_params():
        pytest.skip("the regressor has no such parameter")
    monkeypatch.chdir(tmp_path)  # where cache_dir is created
    before = outputs(fitted)
    embeddings = fitted.set_params(tta=1).transform(CLIPS)
    fitted.set_params(tta=2).set_params(**{name: OTHERS[name]})

    after = outputs(fitted)
    if name == "tta":  # averages over other versions of each clip
        assert np.abs(after - before).max() > 1e-4
    elif name == "batch_size":  # sums in another order
        np.testing.assert_allclose(after, before, rtol=1e-5)
    else:
        np.testing.assert_array_equal(after, before)
    np.testing.assert_allclose(copy.copy(fitted).set_params(tta=1).transform(CLIPS), embeddings, rtol=1e-4, atol=1e-6)

    loaded = type(fitted).from_pretrained(fitted.save_pretrained(tmp_path / "model", title="tones"))
    np.testing.assert_array_equal(outputs(loaded), after)

    again = type(fitted).from_pretrained(loaded.save_pretrained(tmp_path / "again", title="tones"))
    np.testing.assert_array_equal(outputs(again), after)
    for file in ("config.json", "metrics.json", "preprocessor_config.json", "labels.json"):
        assert (tmp_path / "model" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.parametrize("name", [name for name in OTHERS if "__" not in name])
def test_the_saved_parameters_are_those_of_fit_but_for_how_it_runs(saved, name, tmp_path):
    fitted = pickle.loads(saved[ASTWClassifier])
    folder = Path(fitted.save_pretrained(tmp_path / "before"))
    before = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    fitted.set_params(**{name: OTHERS[name]}).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    expected = dict(before["params"])
    if name in param_names(InferenceParams) and name in expected:
        expected[name] = OTHERS[name]
    assert config["params"] == expected
    assert {key: config[key] for key in ("features", "encoder", "pooling", "augment", "normalization")} == {
        key: before[key] for key in ("features", "encoder", "pooling", "augment", "normalization")
    }


def test_changing_the_objects_that_were_given_changes_nothing(tmp_path):
    encoder, features, augment = ASTWEncoder(d_model=16, num_heads=2, num_layers=1), LogMel(), [TimeStretch(), Gain()]
    clf = ASTWClassifier(encoder=encoder, features=features, augment=augment, epochs=1, tta=3).fit(CLIPS, Y)
    before = clf.predict_proba(CLIPS)
    encoder.d_model = 5
    features.set_params(n_mels=20, hop_length=99)
    augment[0].max_stretch = 0.5
    augment.clear()
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), before)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), before)
    assert (loaded.encoder.d_model, loaded.features.n_mels, len(loaded.augment)) == (16, 80, 2)


def test_a_loaded_model_stays_what_it_is(saved, tmp_path):
    folder = pickle.loads(saved[ASTWClassifier]).save_pretrained(tmp_path / "model")
    loaded = ASTWClassifier.from_pretrained(folder)
    before = loaded.predict_proba(CLIPS)
    loaded.set_params(encoder="resnet", features__hop_length=400, sample_rate=8000, augment=None)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), before)


def test_everything_that_looks_at_a_model_sees_the_fitted_one(saved, tmp_path):
    """Explanations, windows, evaluation, the demo, plots and ONNX."""
    plots, matplotlib = pytest.importorskip("skastw.plots"), pytest.importorskip("matplotlib")
    matplotlib.use("Agg")

    def everything(clf):
        hidden = clf.explain(CLIPS[0], n_times=3, n_bands=4)
        heard = Listener.of(clf, top_k=2)
        return (
            hidden.saliency.tolist(),
            hidden.times.tolist(),
            hidden.frequencies.tolist(),
            clf.predict_windows(CLIPS[:2], window=0.2).to_numpy().tolist(),
            evaluate(clf, CLIPS, Y).trained_on,
            evaluate(clf, CLIPS, Y, n_bootstrap=0).accuracy,
            heard.about(),
            heard.hear(CLIPS[0]),
            plots.SpectrogramDisplay.from_estimator(clf, CLIPS[0]).values.tolist(),
            plots.OcclusionDisplay.from_estimator(clf, CLIPS[0]).spectrogram.values.tolist(),
            plots.WindowPredictionsDisplay.from_estimator(clf, CLIPS[0], window=0.2).spectrogram.values.tolist(),
            plots.AugmentationDisplay.from_estimator(clf, CLIPS[0]).original.values.tolist(),
        )

    clf = pickle.loads(saved[ASTWClassifier])
    before = everything(clf)
    assert before[4] is True
    clf.set_params(features=LogMel(n_mels=20, hop_length=400), sample_rate=8000, chunk_length=0.1, augment=None)
    assert everything(clf) == before


def test_the_fitted_parameters_can_be_read():
    clf = new(ASTWClassifier, sample_rate=8000, chunk_length=2.0)
    for name in ("features_", "augment_", "sample_rate_", "chunk_length_", "seed_"):
        assert not hasattr(clf, name)
    clf.fit(CLIPS, Y).set_params(features="mfcc", augment=None, sample_rate=16000, chunk_length=1.0)
    assert (clf.features_.name, clf.sample_rate_, clf.chunk_length_) == ("log_mel", 8000, 2.0)
    assert [augmentation.name for augmentation in clf.augment_] == ["time_stretch"]


def test_other_parameters_act_at_the_next_fit():
    clf = new(ASTWClassifier).fit(CLIPS, Y).set_params(pooling="max", sample_rate=8000, epochs=2)
    again = new(ASTWClassifier, pooling="max", sample_rate=8000, epochs=2).fit(CLIPS, Y)
    np.testing.assert_array_equal(clf.fit(CLIPS, Y).predict_proba(CLIPS), again.predict_proba(CLIPS))
    assert clf.sample_rate_ == 8000


def test_parameters_of_running_are_checked_when_the_model_runs(saved, tmp_path):
    clf = pickle.loads(saved[ASTWClassifier])
    for change in ({"batch_size": 0}, {"tta": 0}, {"precision": "half"}, {"on_error": "skip"}):
        changed = copy.copy(clf).set_params(**change)
        for use in (changed.predict, changed.explain, lambda _, c=changed: c.save_pretrained(tmp_path / "model")):
            with pytest.raises(ValueError, match=next(iter(change))):
                use(CLIPS[0])
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("trained", "now"), [("float64", "float32"), ("float32", "float64"), ("float64", "bfloat16")])
def test_weights_keep_the_precision_that_they_were_trained_in(trained, now, tmp_path):
    clf = new(ASTWClassifier, precision=trained, tta=1).fit(CLIPS, Y)
    dtype = clf.model_.head.weight.dtype
    clf.set_params(precision=now)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    assert (loaded.precision, loaded.model_.head.weight.dtype) == (now, dtype)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))
    assert clf.partial_fit(CLIPS, Y).model_.head.weight.dtype == dtype


@pytest.mark.parametrize(
    "params",
    [
        {"encoder": ASTWEncoder(d_model=np.int64(16), num_heads=np.int32(2), num_layers=1)},
        {"batch_size": np.int64(4), "adam_lr": np.float32(1e-3), "sample_rate": np.int32(8000)},
        {"class_weight": {np.int64(0): np.float32(2.0)}, "random_state": np.int64(3), "warm_start": np.True_},
    ],
    ids=["component", "numbers", "classes"],
)
def test_numbers_of_numpy_are_saved_as_numbers(params, tmp_path):
    clf = new(ASTWClassifier, **params).fit(CLIPS, Y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))


# ------------------------------------------------------------------ further training


def test_instalments_go_on_with_the_fitted_components(tmp_path):
    clf = new(ASTWClassifier).partial_fit(CLIPS, Y, classes=[0, 1, 2])
    same = copy.deepcopy(clf)
    clf.set_params(features__hop_length=400, encoder="resnet", sample_rate=8000, chunk_length=0.1, n_models=2)
    clf.set_params(augment=None, pooling="max", normalization="per_clip")
    clf.partial_fit(CLIPS, Y)
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), same.partial_fit(CLIPS, Y).predict_proba(CLIPS))

    clf.set_params(adam_lr=1e-3).partial_fit(CLIPS, Y)
    assert clf.history_[-1]["adam_lr"] == 1e-3, "how it learns may change between instalments"
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    assert (loaded.adam_lr, loaded.sample_rate, loaded.pooling.name) == (1e-3, 16000, "mean")


def test_instalments_do_not_round_the_weights():
    clf = new(ASTWClassifier, precision="float64", tta=1).fit(CLIPS, Y)
    before = {name: weights.clone() for name, weights in clf.model_.state_dict().items()}
    clf.set_params(muon_lr=0.0, adam_lr=0.0).partial_fit(CLIPS, Y)
    assert all(torch.equal(weights, before[name]) for name, weights in clf.model_.state_dict().items())


def test_instalments_after_fit_start_as_those_of_a_loaded_model(tmp_path):
    clf = new(ASTWClassifier, tta=1).fit(CLIPS, Y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    expected = loaded.partial_fit(CLIPS, Y).predict_proba(CLIPS)
    np.testing.assert_array_equal(clf.partial_fit(CLIPS, Y).predict_proba(CLIPS), expected)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda clf: pickle.loads(pickle.dumps(clf))])
def test_instalments_use_momenta_only_with_their_own_model(copied):
    larger = new(ASTWClassifier, encoder=ASTWEncoder(d_model=32, num_heads=2, num_layers=1)).fit(CLIPS, Y)
    first = new(ASTWClassifier).partial_fit(CLIPS, Y, classes=[0, 1, 2])
    clf = copied(first)
    np.testing.assert_array_equal(
        clf.partial_fit(CLIPS, Y).predict_proba(CLIPS), copy.copy(first).partial_fit(CLIPS, Y).predict_proba(CLIPS)
    )
    assert not np.array_equal(clf.predict_proba(CLIPS), _without_momenta(first).predict_proba(CLIPS))

    clf.trained_ = larger.trained_
    np.testing.assert_array_equal(
        clf.partial_fit(CLIPS, Y).predict_proba(CLIPS), larger.partial_fit(CLIPS, Y).predict_proba(CLIPS)
    )


def _without_momenta(estimator):
    other = new(ASTWClassifier)
    other.trained_ = estimator.trained_
    return other.partial_fit(CLIPS, Y)


def test_a_pickle_after_fit_has_the_weights_once():
    clf = new(ASTWClassifier).fit(CLIPS, Y)
    n_bytes = sum(weights.nbytes for weights in clf.model_.state_dict().values())
    assert len(pickle.dumps(clf)) < 1.5 * n_bytes + 100_000


class WithNotes(ASTWClassifier):
    """Classifier with a parameter of its own, which no group of parameters declares."""

    def __init__(self, *, notes=None, **params):
        super().__init__(**params)
        self.notes = notes

    __init__.__signature__ = inspect.signature(__init__).replace(
        parameters=[
            *inspect.signature(ASTWClassifier.__init__).parameters.values(),
            inspect.Parameter("notes", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
    )


def test_a_subclass_saves_its_own_parameters(tmp_path):
    clf = new(WithNotes, notes=["quiet room"]).fit(CLIPS, Y)
    loaded = WithNotes.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    assert (loaded.notes, loaded.epochs) == (["quiet room"], 1)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))


class Narrow(ASTWClassifier):
    """Classifier whose other parameters are fixed."""

    def __init__(self, *, muon_lr=0.01):
        encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
        super().__init__(muon_lr=muon_lr, encoder=encoder, augment=None, epochs=1, class_weight={0: 2.0})


def test_a_subclass_with_fewer_parameters_loads_what_it_saved(tmp_path):
    clf = Narrow(muon_lr=0.02).fit(CLIPS, Y)
    loaded = Narrow.from_pretrained(clf.save_pretrained(tmp_path / "model"), device="cpu")
    assert (loaded.get_params(), loaded.device) == ({"muon_lr": 0.02}, "cpu")
    assert (loaded.epochs, loaded.augment, loaded.class_weight) == (1, None, {0: 2.0})
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"epochs": 2}, "saved with epochs=2, but Narrow sets 1 and has no parameter epochs; add it"),
        ({"pooling": "max"}, "saved with pooling={'name': 'max', .*, but Narrow sets {'name': 'mean'"),
        ({"augment": ["gain"]}, r"saved with augment=\[.*'gain'.*, but Narrow sets \[\]"),
    ],
)
def test_a_subclass_with_fewer_parameters_refuses_other_values_of_the_others(tmp_path, change, match):
    clf = Narrow()
    for name, value in change.items():
        setattr(clf, name, value)
    folder = clf.fit(CLIPS, Y).save_pretrained(tmp_path / "model")
    with pytest.raises(ArtifactError, match=match):
        Narrow.from_pretrained(folder)


def test_a_warm_start_needs_a_network_of_the_same_shapes(saved):
    clf = pickle.loads(saved[ASTWClassifier]).set_params(warm_start=True, muon_lr=0.0, adam_lr=0.0, pooling="max")
    before = {name: value.clone() for name, value in clf.model_.state_dict().items()}
    clf.fit(CLIPS, Y)
    for name, value in clf.model_.state_dict().items():
        assert torch.equal(value, before[name]), name

    expected = clf.predict_proba(CLIPS)
    with pytest.raises(ArtifactError, match="weights to start from"):
        clf.set_params(encoder="resnet").fit(CLIPS, Y)
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), expected)


# ------------------------------------------------------------------ pipelines of frames


def test_the_featurizer_goes_by_its_parameters_as_they_are():
    featurizer = ASTWFeaturizer(output="statistics", on_error="ignore").fit(CLIPS)
    featurizer.set_params(features__n_mels=40)
    table = featurizer.transform([CLIPS[0], np.zeros(0)])
    assert table.shape == (2, len(featurizer.get_feature_names_out()))
    np.testing.assert_array_equal(
        table[:1], ASTWFeaturizer(output="statistics", features=LogMel(n_mels=40)).fit_transform(CLIPS[:1])
    )
    frames = featurizer.set_params(output="frames").transform([CLIPS[0], np.zeros(0)])
    assert [item.shape[1] for item in frames] == [40, 40]


@pytest.mark.parametrize(
    "change", [{}, {"features__hop_length": 400}, {"sample_rate": 8000}, {"features__hop_length": 1}]
)
@pytest.mark.parametrize("encoder", [ASTWEncoder(d_model=16, num_heads=2, num_layers=1), "rnn"], ids=["astw", "rnn"])
def test_a_pipeline_of_frames_is_saved_as_it_is(encoder, change, tmp_path):
    """Also if the featurizer gives another number of frames a second than the classifier was told."""
    clf = new(ASTWClassifier, encoder=encoder, features="precomputed", chunk_length=0.2, tta=1)
    piped = (
        make_pipeline(ASTWFeaturizer(), clf)
        .fit(CLIPS, Y)
        .set_params(**{f"astwfeaturizer__{name}": value for name, value in change.items()})
    )
    loaded = ASTWClassifier.from_pretrained(piped[-1].save_pretrained(tmp_path / "model", featurizer=piped[0]))
    np.testing.assert_allclose(loaded.predict_proba(CLIPS), piped.predict_proba(CLIPS), atol=1e-6)
    assert loaded.model_.max_frames == piped[-1].model_.max_frames == 20


def test_a_featurizer_of_other_frames_is_not_saved_with_the_model(tmp_path):
    clf = new(ASTWClassifier, features="precomputed", tta=1).fit(ASTWFeaturizer().fit_transform(CLIPS), Y)
    with pytest.raises(ArtifactError, match="gives 40 values per frame, expected 80"):
        clf.save_pretrained(tmp_path / "model", featurizer=ASTWFeaturizer(features=LogMel(n_mels=40)))


# ------------------------------------------------------------------ seeds


def test_random_state_and_seed_are_saved(tmp_path):
    clf = new(ASTWClassifier, random_state=7).fit(CLIPS, Y)
    folder = Path(clf.save_pretrained(tmp_path / "model"))
    loaded = ASTWClassifier.from_pretrained(folder)
    assert loaded.random_state == 7
    assert loaded.seed_ == clf.seed_ == json.loads((folder / "metrics.json").read_text())["seed"]
    assert f"The seed is {clf.seed_}." in (folder / "README.md").read_text(encoding="utf-8")
    assert describe_model(folder)["seed"] == clf.seed_
    np.testing.assert_array_equal(
        loaded.set_params(device="cpu").fit(CLIPS, Y).predict_proba(CLIPS), clf.predict_proba(CLIPS)
    )


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(3)])
def test_a_random_state_that_is_no_number_leaves_its_seed(random_state, tmp_path):
    clf = new(ASTWClassifier, random_state=random_state).fit(CLIPS, Y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    assert loaded.random_state is None
    assert isinstance(loaded.seed_, int)
    assert loaded.seed_ == clf.seed_


def test_a_folder_of_an_earlier_release_has_no_seed_and_loads(tmp_path):
    clf = new(ASTWClassifier, random_state=7).fit(CLIPS, Y)
    folder = Path(clf.save_pretrained(tmp_path / "model"))
    config, metrics = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "metrics.json")
    )
    del config["params"]["random_state"], metrics["seed"], metrics["batch_size"], config["sha256"]
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(seal(config, folder)), encoding="utf-8")
    loaded = ASTWClassifier.from_pretrained(folder)
    assert (loaded.random_state, loaded.seed_) == (42, None)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))
    again = ASTWClassifier.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    assert again.seed_ is None


@pytest.mark.parametrize("change", [{"seed": "7"}, {"seed": 1.5}, {"batch_size": True}, {"batch_size": [4]}])
def test_a_seed_that_is_no_integer_is_refused(saved, change, tmp_path):
    folder = Path(pickle.loads(saved[ASTWClassifier]).save_pretrained(tmp_path / "model"))
    config, metrics = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "metrics.json")
    )
    (folder / "metrics.json").write_text(json.dumps({**metrics, **change}), encoding="utf-8")
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(seal(config, folder)), encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"has {next(iter(change))}: .*, expected an integer"):
        ASTWClassifier.from_pretrained(folder)


def test_the_card_says_how_the_model_was_trained_whatever_runs_it_now(tmp_path):
    clf = new(ASTWClassifier, batch_size=6).fit(CLIPS, Y).set_params(batch_size=1, weight_decay=0.7)
    for number in (1, 2):
        folder = Path(clf.save_pretrained(tmp_path / "model"))
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "in batches of 6;" in card, number
        assert "weight decay 0.01," in card
        clf = ASTWClassifier.from_pretrained(folder)
        assert clf.batch_size == 1
    shutil.rmtree(folder)


def test_an_ordinary_change_of_parameters_warns_of_nothing(saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(saved[ASTWClassifier]).set_params(encoder="resnet", n_jobs=2).predict(CLIPS)
