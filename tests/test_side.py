"""The side vector beside a network, and linear layers that are fitted exactly."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import RNNEncoder
from skastw.errors import ComponentError, ExportError
from skastw.features import LogMel
from skastw.network.components import resolve_components
from skastw.network.model import MOST_DEVIATIONS
from skastw.training.linear import fit_linear

CLIPS, Y = make_tones(n_clips=36, n_classes=3, duration=(0.1, 0.3), random_state=0)
NET = {"encoder": RNNEncoder(hidden=8), "epochs": 2, "val_split": None, "precision": "float32", "device": "cpu"}
EXACT = {"features": "statistics", "encoder": "identity", "solver": "lbfgs", "normalization": "none", "device": "cpu"}
TABLE = ASTWFeaturizer(output="statistics").fit_transform(CLIPS)


@pytest.fixture(scope="module")
def joined():
    return ASTWClassifier(**NET, side="statistics", side_share=0.4, C=2.0).fit(CLIPS[:24], Y[:24])


@pytest.fixture(scope="module")
def alone():
    return ASTWClassifier(**NET).fit(CLIPS[:24], Y[:24])


@pytest.fixture(scope="module")
def exact():
    return ASTWClassifier(**EXACT, C=2.0, val_split=None).fit(CLIPS[:24], Y[:24])


def standardised(rows):
    scaler = StandardScaler().fit(TABLE[:24].astype(float))
    return scaler.transform(rows)


# ------------------------------------------------------------------ exact fits


def cross_entropy(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize("C", [0.1, 10.0])
def test_the_exact_head_is_a_logistic_regression(C):
    clf = ASTWClassifier(**EXACT, C=C, val_split=None).fit(CLIPS[:24], Y[:24])
    reference = LogisticRegression(C=C / TABLE.shape[1], tol=1e-10, max_iter=10_000)
    reference.fit(standardised(TABLE[:24]), Y[:24])
    expected = reference.predict_proba(standardised(TABLE))
    np.testing.assert_allclose(clf.predict_proba(CLIPS), expected, atol=5e-4)


def test_the_exact_head_of_a_regressor_is_a_ridge_regression():
    y = TABLE[:, 3] + 2 * TABLE[:, 50]
    model = ASTWRegressor(**EXACT, C=50.0, val_split=None).fit(CLIPS[:24], y[:24])
    inputs, scale = standardised(TABLE), y[:24].std()
    # the values are standardised before the fit, and Ridge takes the sum of the squares: its penalty is D / (2 C)
    reference = Ridge(alpha=TABLE.shape[1] / (2 * 50.0)).fit(inputs[:24], y[:24] / scale)
    np.testing.assert_allclose(model.predict(CLIPS), reference.predict(inputs) * scale, atol=1e-3 * scale)


def test_an_exact_fit_takes_an_indicator():
    indicator = np.stack([Y == 0, Y >= 1], axis=1).astype(int)
    clf = ASTWClassifier(**EXACT, C=50.0, val_split=None).fit(CLIPS[:24], indicator[:24])
    assert (clf.predict(CLIPS[:24]) == indicator[:24]).all()


def test_an_exact_fit_does_not_depend_on_the_seed_and_has_one_epoch(exact):
    other = ASTWClassifier(**EXACT, C=2.0, val_split=None, random_state=7).fit(CLIPS[:24], Y[:24])
    np.testing.assert_array_equal(exact.predict_proba(CLIPS), other.predict_proba(CLIPS))
    assert [row["epoch"] for row in exact.history_] == [1]


def test_weights_of_clips_count_in_an_exact_fit():
    doubled = ASTWClassifier(**EXACT, val_split=None).fit(CLIPS[:24] + CLIPS[:6], np.append(Y[:24], Y[:6]))
    weights = np.where(np.arange(24) < 6, 2.0, 1.0)
    weighted = ASTWClassifier(**EXACT, val_split=None).fit(CLIPS[:24], Y[:24], sample_weight=weights)
    np.testing.assert_allclose(doubled.predict_proba(CLIPS), weighted.predict_proba(CLIPS), atol=1e-5)


def test_the_exact_layer_has_no_better_neighbour():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 5, generator=generator) * 3 + 1, torch.randint(3, (40,), generator=generator)
    layer = fit_linear(x, y, torch.ones(40), cross_entropy, 3, C=1.0)
    x = x.double()
    scale = x.std(dim=0, correction=0)

    def objective(weight, bias):
        penalty = 5 / (2 * 40) * (weight * scale).square().sum()
        return float(cross_entropy(x @ weight.T + bias, y).mean() + penalty)

    least = objective(layer.weight, layer.bias)
    for _ in range(20):
        step = [0.01 * torch.randn(w.shape, generator=generator) for w in (layer.weight, layer.bias)]
        assert objective(layer.weight + step[0], layer.bias + step[1]) > least


def test_constant_columns_have_no_effect():
    x = torch.cat([torch.randn(10, 2, generator=torch.Generator().manual_seed(0)), torch.full((10, 1), 3.0)], dim=1)
    layer = fit_linear(x, (x[:, 0] > 0).long(), torch.ones(10), cross_entropy, 2, C=1.0)
    assert float(layer.weight[:, 2].abs().max().detach()) < 1e-12
    assert layer.weight.isfinite().all()


def test_a_network_with_weights_to_train_has_no_exact_fit():
    with pytest.raises(ValueError, match=r"solver='lbfgs' with weights to train in encoder"):
        ASTWClassifier(encoder=RNNEncoder(hidden=4), solver="lbfgs").fit(CLIPS, Y)


@pytest.mark.parametrize("changes", [{"solver": "lbfgs"}, {"side": "statistics"}])
def test_exact_fits_are_not_made_in_instalments(changes):
    with pytest.raises(ValueError, match="with partial_fit, expected side=None and solver='gradient'"):
        ASTWClassifier(**{**NET, **changes}).partial_fit(CLIPS, Y, classes=[0, 1, 2])


# ------------------------------------------------------------------ side vectors


def test_outputs_are_the_weighted_mean_of_the_network_and_the_linear_layer(joined, alone):
    layer = LogisticRegression(C=2.0 / TABLE.shape[1], tol=1e-10, max_iter=10_000)
    clipped = standardised(TABLE).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    side = layer.fit(clipped[:24], Y[:24]).predict_log_proba(clipped)
    logs = 0.6 * alone.predict_log_proba(CLIPS) + 0.4 * side
    expected = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(joined.predict_proba(CLIPS), expected, atol=5e-3)


def test_a_batch_equals_its_clips_one_by_one(joined):
    together = joined.predict_proba(CLIPS)
    single = np.concatenate([joined.predict_proba([clip]) for clip in CLIPS])
    np.testing.assert_allclose(together, single, atol=1e-5)


def test_the_embedding_ends_with_the_standardised_side_vector(joined, alone):
    embeddings, own = joined.transform(CLIPS), alone.transform(CLIPS)
    np.testing.assert_allclose(embeddings[:, : own.shape[1]], own, atol=1e-5)
    clipped = standardised(TABLE).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    np.testing.assert_allclose(embeddings[:, own.shape[1] :], clipped, atol=1e-3)
    assert len(joined.get_feature_names_out()) == embeddings.shape[1]


def test_a_saved_model_gives_the_same_outputs(joined, exact, tmp_path):
    for name, model in (("joined", joined), ("exact", exact)):
        loaded = ASTWClassifier.from_pretrained(model.save_pretrained(tmp_path / name))
        np.testing.assert_array_equal(loaded.predict_proba(CLIPS), model.predict_proba(CLIPS))
        assert (loaded.solver, loaded.C, loaded.side_share) == (model.solver, model.C, model.side_share)


def test_windows_explanations_and_bad_clips_know_the_side_vector(joined):
    long = np.concatenate(CLIPS[:3])
    windows = joined.predict_windows([long], window=0.1)
    part = long[round(windows["start"][1] * 16000) : round(windows["end"][1] * 16000)]
    np.testing.assert_allclose(windows.iloc[1, 3:].astype(float), joined.predict_proba([part])[0], atol=1e-4)

    occlusion = joined.explain(CLIPS[0], n_times=3, n_bands=4)
    assert occlusion.probability == pytest.approx(joined.predict_proba([CLIPS[0]]).max(), abs=1e-5)

    outputs = joined.set_params(on_error="ignore").predict_proba([CLIPS[0], "missing.wav", CLIPS[1]])
    joined.set_params(on_error="raise")
    assert np.isfinite(outputs).all(axis=1).tolist() == [True, False, True]


def test_validation_scores_are_those_of_both_together():
    params = {**NET, "val_split": None, "side_share": 1.0, "C": 50.0}
    clf = ASTWClassifier(**params, side="statistics").fit(CLIPS[:24], Y[:24], X_val=CLIPS[24:], y_val=Y[24:])
    assert clf.trained_.record.validation["accuracy"] == pytest.approx(clf.score(CLIPS[24:], Y[24:]))


def test_a_warm_start_fits_the_side_vector_again(joined):
    clf = ASTWClassifier(**NET, side="statistics", warm_start=True).fit(CLIPS[:24], Y[:24])
    before = clf.trained_.model.side.linear.weight.clone()
    clf.fit(CLIPS[12:], Y[12:])
    assert not torch.equal(before, clf.trained_.model.side.linear.weight)


def test_parameters_of_the_side_front_end_are_parameters_of_the_estimator():
    clf = ASTWClassifier(side="statistics")
    assert clf.get_params()["side__features"] == "log_mel"
    assert clf.set_params(side__features=LogMel(n_mels=40)).side.features.n_mels == 40


@pytest.mark.parametrize(("features", "side"), [("log_mel", "mfcc"), ("precomputed", "statistics")])
def test_a_side_vector_needs_one_frame_for_each_clip(features, side):
    with pytest.raises(ComponentError, match="expected a side front end with one frame for each clip"):
        ASTWClassifier(features=features, side=side, encoder=RNNEncoder(hidden=4)).fit(CLIPS, Y)


def test_a_side_vector_is_not_exported(joined, tmp_path):
    with pytest.raises(ExportError, match=r"side='statistics' cannot be expressed in ONNX.*side=None"):
        joined.export_onnx(tmp_path / "model.onnx")


def test_a_single_frame_is_not_augmented_by_default():
    assert resolve_components(ASTWClassifier(features="statistics")).augment == ()
    assert len(resolve_components(ASTWClassifier()).augment) == 4


def test_a_side_vector_has_the_number_format_of_the_network(tmp_path):
    clf = ASTWClassifier(**{**NET, "precision": "float64"}, side="statistics").fit(CLIPS[:24], Y[:24])
    assert clf.model_.side.linear.weight.dtype == clf.model_.head.weight.dtype == torch.float64
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))


def test_a_mistyped_side_front_end_is_named_by_its_parameter():
    with pytest.raises(ComponentError, match=r"Got side='descriptor', expected one of .*did you mean 'descriptors'"):
        ASTWClassifier(side="descriptor").fit(CLIPS, Y)
