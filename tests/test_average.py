"""The average of weights over steps, and what else changes which weights are kept and how predictions are made."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skastw import ASTWClassifier
from skastw.augment import FrequencyWarp, Gain, Mixup, SpecAugment, TimeStretch
from skastw.core.batching import Batch
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.network.inference import ROUNDING
from skastw.targets import MultiLabel, SingleLabel, Values
from skastw.training import MovingAverage
from skastw.training.loop import _losses

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)


def drift(decay, n_steps):
    """Return the average of a weight that is t after t steps, after each step."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        model.weight.zero_()
    average = MovingAverage(model, decay)
    found = []
    for _ in range(n_steps):
        with torch.no_grad():
            model.weight += 1
        average.update()
        found.append(average.model.weight.item())
    assert model.weight.item() == n_steps, "the model itself goes its way"
    return np.array(found)


# ------------------------------------------------------------------ the average


@pytest.mark.parametrize("decay", [0.01, 0.1, 0.18])
def test_of_a_drift_the_average_lags_by_its_closed_form(decay):
    """m[t] = decay m[t - 1] + (1 - decay) t; these decays are below the first of the short windows, 2 / 11."""
    t = np.arange(1, 51)
    np.testing.assert_allclose(drift(decay, 50), t - decay * (1 - decay**t) / (1 - decay), rtol=1e-9)


def test_early_windows_are_a_tenth_of_the_steps():
    """With m[t] = d m[t - 1] + (1 - d) t and d = (1 + t) / (10 + t), the lag is (t + 1) / 10 but for the start."""
    t = np.arange(1, 201)
    start = [math.prod((1 + s) / (10 + s) for s in range(1, n + 1)) for n in t]
    np.testing.assert_allclose(drift(0.999999, 200), t - (t + 1) / 10 + np.array(start) / 10, rtol=1e-9)


def test_late_windows_are_those_of_the_decay():
    assert 3000 - drift(0.99, 3000)[-1] == pytest.approx(0.99 / 0.01, rel=1e-6)


def test_no_decay_is_the_model_itself():
    model = torch.nn.BatchNorm1d(3)
    average = MovingAverage(model, None)
    assert average.model is model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average.update()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_counts_are_copied_and_statistics_averaged():
    model = torch.nn.BatchNorm1d(3).train()
    average = MovingAverage(model, 0.1)
    for step in range(1, 4):
        model(torch.randn(16, 3, generator=torch.Generator().manual_seed(step)) + step)
        before = average.model.running_mean.clone()
        average.update()
        assert int(average.model.num_batches_tracked) == step
        torch.testing.assert_close(average.model.running_mean, 0.1 * before + 0.9 * model.running_mean)
    assert average.model.num_batches_tracked.dtype == torch.int64


def test_the_average_has_no_gradient_and_shares_no_memory():
    model = torch.nn.Linear(4, 2)
    average = MovingAverage(model, 0.9)
    model(torch.ones(1, 4)).sum().backward()
    average.update()
    assert all(weight.grad is None for weight in average.model.parameters())
    pointers = {weight.data_ptr() for weight in model.parameters()}
    assert pointers.isdisjoint({weight.data_ptr() for weight in average.model.parameters()})


def test_of_constant_weights_the_average_is_these_weights():
    model = torch.nn.Linear(4, 2)
    average = MovingAverage(model, 0.9)
    for _ in range(100):
        average.update()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(average.model.state_dict()[name], weight, rtol=0, atol=1e-6)


# ------------------------------------------------------------------ in the estimator


@pytest.fixture(scope="module")
def tones():
    return make_tones(n_clips=24, n_classes=2, duration=(0.1, 0.25), random_state=0)


def fit_small(tones, **params):
    settings = {"encoder": TINY, "epochs": 4, "device": "cpu", "precision": "float32", "augment": None, **params}
    return ASTWClassifier(**settings).fit(*tones)


def weights(estimator):
    return torch.cat([value.flatten().float() for value in estimator.model_.state_dict().values()])


def test_keep_last_keeps_the_last_epoch_although_another_was_better(tones):
    clips, y = tones
    settings = {
        "encoder": TINY,
        "epochs": 12,
        "muon_lr": 0.05,
        "device": "cpu",
        "precision": "float32",
        "augment": None,
    }
    best, last = (
        # Turned labels: the better the model, the worse its score.
        ASTWClassifier(keep=keep, **settings).fit(clips[:16], y[:16], X_val=clips[16:], y_val=1 - y[16:])
        for keep in ("best", "last")
    )
    assert [row["val_loss"] for row in last.history_] == [row["val_loss"] for row in best.history_], "one training"
    assert last.best_epoch_ == last.n_epochs_ == 12
    scores = [(row["val_macro_f1"], -row["val_loss"]) for row in best.history_]
    assert best.best_epoch_ == 1 + scores.index(max(scores)) < 12
    assert not torch.equal(weights(best), weights(last))
    for clf, row in ((best, best.history_[best.best_epoch_ - 1]), (last, last.history_[-1])):
        assert np.mean(clf.predict(clips[16:]) == 1 - y[16:]) == pytest.approx(row["val_accuracy"])


def test_keep_last_needs_no_patience(tones):
    clf = fit_small(tones, keep="last", patience=1, epochs=6, muon_lr=0.0, adam_lr=0.0, val_split=0.3)
    assert clf.n_epochs_ == clf.best_epoch_ == 6


@pytest.mark.parametrize(("min_steps", "epochs"), [(0, 2), (6, 2), (7, 3), (30, 10)])
def test_min_steps_lengthen_training_to_whole_epochs(tones, min_steps, epochs):
    clf = fit_small(tones, epochs=2, batch_size=8, val_split=None, min_steps=min_steps)  # three batches an epoch
    assert clf.n_epochs_ == epochs


def test_min_steps_count_the_clips_that_train(tones):
    assert fit_small(tones, epochs=1, batch_size=8, val_split=0.5, min_steps=8).n_epochs_ == 4  # two batches an epoch


def test_the_moving_average_is_what_is_validated_kept_and_saved(tones, tmp_path):
    plain, averaged = (fit_small(tones, ema_decay=decay, val_split=0.25) for decay in (None, 0.9))
    assert not torch.equal(weights(plain), weights(averaged))
    assert [row["loss"] for row in plain.history_] == [row["loss"] for row in averaged.history_], "training is one"
    assert plain.history_[0]["val_loss"] != averaged.history_[0]["val_loss"]
    again = ASTWClassifier.from_pretrained(averaged.save_pretrained(tmp_path / "model"), device="cpu")
    assert torch.equal(weights(again), weights(averaged))
    assert again.ema_decay == 0.9


def test_the_validation_scores_are_those_of_the_weights_that_are_kept(tones):
    clips, y = tones
    settings = {"encoder": TINY, "epochs": 3, "device": "cpu", "precision": "float32", "augment": None}
    clf = ASTWClassifier(ema_decay=0.8, keep="last", **settings)
    clf.fit(clips[:16], y[:16], X_val=clips[16:], y_val=y[16:])
    probability = clf.predict_proba(clips[16:])[np.arange(8), np.searchsorted(clf.classes_, y[16:])]
    assert -np.log(probability).mean() == pytest.approx(clf.history_[-1]["val_loss"], rel=1e-4)


# ------------------------------------------------------------------ predictions over versions of a clip


@pytest.fixture(scope="module")
def varying(tones):
    augment = [TimeStretch(max_stretch=0.3), FrequencyWarp(), SpecAugment(), Gain()]
    return fit_small(tones, augment=augment, tta=3, val_split=None)


def versions_by_hand(clf, clip, n_versions):
    """Return the embedding of a clip averaged over versions, written out."""
    waveform = torch.as_tensor(clip, dtype=torch.float32)
    frames, lengths = clf.model_.features(waveform[None], torch.tensor([len(waveform)]))
    embedded = []
    for version in range(n_versions):
        batch = Batch(frames, lengths, torch.zeros(1), torch.ones(1))
        generator = torch.Generator().manual_seed(version)
        for augmentation in clf.augment[:2] if version else []:  # the others are not for predictions
            batch = augmentation.apply(batch, generator)
        with torch.inference_mode():
            embedded.append(clf.model_.embed(batch.inputs, batch.lengths)[0])
    return torch.stack(embedded).mean(dim=0).numpy()


@pytest.mark.parametrize("n_versions", [1, 2, 3])
def test_predictions_are_averaged_over_the_clip_and_versions_of_it(tones, varying, n_versions):
    clf = varying.set_params(tta=n_versions)
    expected = np.stack([versions_by_hand(clf, clip, n_versions) for clip in tones[0][:5]])
    np.testing.assert_allclose(clf.transform(tones[0][:5]), expected, atol=1e-5)
    varying.set_params(tta=3)


def test_versions_of_a_clip_depend_on_no_other_clip_nor_on_order_or_batch_size(tones, varying):
    clips = tones[0]
    together = varying.predict_proba(clips)
    alone = np.concatenate([varying.predict_proba([clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, atol=ROUNDING)
    np.testing.assert_allclose(varying.predict_proba(clips[::-1])[::-1], together, atol=ROUNDING)
    np.testing.assert_array_equal(varying.predict_proba(clips), together)
    np.testing.assert_allclose(varying.set_params(batch_size=2).predict_proba(clips), together, atol=ROUNDING)
    assert np.abs(varying.set_params(tta=1).predict_proba(clips) - together).max() > 1e-4
    varying.set_params(tta=3, batch_size=16)


def test_without_an_augmentation_for_it_there_are_no_versions(tones):
    clf = fit_small(tones, augment=[SpecAugment(), Gain()], tta=5, val_split=None)
    five = clf.predict_proba(tones[0])
    np.testing.assert_array_equal(clf.set_params(tta=1).predict_proba(tones[0]), five)


def test_versions_survive_saving(tones, varying, tmp_path):
    again = ASTWClassifier.from_pretrained(varying.save_pretrained(tmp_path / "model"), device="cpu")
    assert again.tta == 3
    np.testing.assert_array_equal(again.predict_proba(tones[0]), varying.predict_proba(tones[0]))


# ------------------------------------------------------------------ partners in the loss


def mixed_batch(targets, weights, partners, shares):
    n = len(weights)
    return Batch(torch.zeros(n, 1, 1), torch.ones(n, dtype=torch.int64), targets, weights, partners, shares)


def mean_loss(logits, batch, targets=None, label_smoothing=0.0):
    targets = targets or SingleLabel(np.arange(logits.shape[1]))
    losses, weights = _losses(logits, batch, partial(targets.loss, label_smoothing=label_smoothing))
    return losses.sum() / weights.sum()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_of_a_mixture_is_that_of_the_mixed_target(label_smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=generator, requires_grad=True)
    targets, partners = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 3, 0, 1])
    shares = torch.tensor([1.0, 0.75, 0.5, 0.0])
    batch = mixed_batch(targets, torch.ones(4), partners, shares)
    one_hot = F.one_hot(targets, 3).float()
    soft = shares[:, None] * one_hot + (1 - shares[:, None]) * one_hot[partners]
    expected = F.cross_entropy(logits, soft, label_smoothing=label_smoothing)
    found = mean_loss(logits, batch, label_smoothing=label_smoothing)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_each_half_of_a_mixture_counts_by_the_weight_of_its_clip():
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    targets, clip_weights = torch.tensor([0, 2]), torch.tensor([3.0, 0.5])
    share = torch.tensor([0.7, 0.4])
    batch = mixed_batch(targets, clip_weights, torch.tensor([1, 0]), share)
    loss = -F.log_softmax(logits, dim=1)
    parts = [
        (0.7 * 3.0, loss[0, 0]),
        (0.3 * 0.5, loss[0, 2]),
        (0.4 * 0.5, loss[1, 2]),
        (0.6 * 3.0, loss[1, 0]),
    ]
    expected = sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)
    torch.testing.assert_close(mean_loss(logits, batch), expected)


def test_mixtures_of_values_and_of_several_labels_are_mixed_by_shares_too():
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    shares, partners = torch.tensor([0.7, 0.4]), torch.tensor([1, 0])
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    soft = shares[:, None] * labels + (1 - shares[:, None]) * labels[partners]
    found = mean_loss(logits, mixed_batch(labels, torch.ones(2), partners, shares), MultiLabel(np.arange(3)))
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, soft))
    values = Values(np.zeros(3), np.ones(3), None, False)
    squared = (logits - labels).square().mean(dim=1), (logits - labels[partners]).square().mean(dim=1)
    expected = (shares * squared[0] + (1 - shares) * squared[1]).mean()
    torch.testing.assert_close(
        mean_loss(logits, mixed_batch(labels, torch.ones(2), partners, shares), values), expected
    )


def test_without_partners_the_loss_is_the_weighted_one():
    logits, targets = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1])
    clip_weights = torch.tensor([1.0, 2.0, 0.0])
    losses = F.cross_entropy(logits, targets, reduction="none")
    expected = (losses * clip_weights).sum() / 3
    torch.testing.assert_close(mean_loss(logits, mixed_batch(targets, clip_weights, None, None)), expected)
    whole = mixed_batch(targets, clip_weights, torch.tensor([1, 2, 0]), torch.ones(3))
    torch.testing.assert_close(mean_loss(logits, whole), expected)


def test_training_on_mixtures_learns(tones):
    clips, y = make_tones(n_clips=60, n_classes=3, duration=(0.1, 0.2), random_state=0)
    clf = fit_small(
        (clips[:40], y[:40]),
        augment=Mixup(),
        epochs=24,
        val_split=None,
        encoder=ASTWEncoder(d_model=32, num_heads=2, num_layers=1),
    )
    assert clf.score(clips[40:], y[40:]) >= 0.8


def test_weights_that_are_not_trained_are_neither_copied_nor_written():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2).requires_grad_(False), torch.nn.Linear(2, 2))
    average = MovingAverage(layers, 0.5)
    fixed = layers[0].weight
    before = fixed._version
    with torch.no_grad():
        layers[1].weight.add_(1.0)
    average.update()
    assert average.model[0].weight is fixed
    assert fixed._version == before
    assert not torch.equal(average.model[1].weight, layers[1].weight)
