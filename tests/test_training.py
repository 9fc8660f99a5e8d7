"""Training: Muon, which weights it takes, the schedule, the validation split, the loop, SpecAugment, inference."""

import copy
import math
import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional as F

from helpers import example, frame_size, torch_seed, with_sizes
from skastw import ASTWClassifier
from skastw.augment import SpecAugment
from skastw.core.batching import Batch, length_mask
from skastw.core.component import component_names, resolve_component
from skastw.data.dataset import Data
from skastw.data.frames import FrameSet, FrameStore
from skastw.data.split import split_validation
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder, Encoder
from skastw.errors import TrainingError
from skastw.features import Precomputed
from skastw.network.inference import ROUNDING, embed_clips
from skastw.network.model import build_model
from skastw.normalization import NoNormalization
from skastw.pooling import MeanPooling, Pooling
from skastw.targets import SingleLabel
from skastw.training import Muon, Run, TrainingSettings, loop, train
from skastw.training.muon import orthogonalize
from skastw.training.optim import OptimizerParams, build_optimizers, matrix_weights, warmup_cosine

CPU = torch.device("cpu")
TARGETS = SingleLabel(np.arange(2))
N_FEATURES = 6
TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1, dropout=0.0, drop_frames=0.0)
#: Settings under which training changes no weight.
STILL = {"muon_lr": 0.0, "adam_lr": 0.0, "epochs": 1}


def matrix(rows, columns, singular_values, seed=0):
    """Return a matrix with these singular values, and the semi-orthogonal matrix that shares its vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, len(singular_values), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, len(singular_values), generator=generator))
    return left @ torch.diag(singular_values) @ right.T, left @ right.T


def relative_distance(a, b):
    return float((a - b).detach().norm() / b.detach().norm())


# ------------------------------------------------------------------ Muon


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def native_bfloat16(request, monkeypatch):
    """Let Newton-Schulz run in float32 and in bfloat16, whatever this machine has."""
    monkeypatch.setattr("skastw.training.muon.has_native_bfloat16", lambda device: request.param)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(24, 24), (48, 12), (12, 48), (1, 20), (20, 1), (12, 16), (16, 12)])
def test_singular_values_come_near_one_and_directions_stay(shape, dtype):
    values = torch.linspace(1.0, 0.1, min(shape))
    given, nearest = matrix(*shape, values)
    for scale in (1e-3, 1.0, 1e3):
        found = orthogonalize((scale * given[None]).to(dtype))[0]
        assert (found.shape, found.dtype) == (given.shape, dtype)
        singular_values = torch.linalg.svdvals(found.double())
        assert singular_values.min() > 0.7
        assert singular_values.max() < 1.3
        cosine = (found * nearest).sum() / found.norm() / nearest.norm()
        assert cosine > 0.97


@pytest.mark.parametrize("shape", [(40, 40), (20, 60), (60, 20)])
def test_rounding_to_bfloat16_does_not_grow_where_there_is_no_gradient(shape):
    values = torch.zeros(20)
    values[:3] = torch.tensor([1.0, 0.3, 0.1])
    given, _ = matrix(*shape, values)
    singular_values = torch.linalg.svdvals(orthogonalize(given[None].bfloat16())[0].float())
    assert singular_values[0] < 1.3
    assert singular_values[2] > 0.7
    assert singular_values[3:].max() < 0.3


def test_each_matrix_of_a_stack_is_orthogonalized_by_itself():
    first, _ = matrix(8, 12, torch.linspace(1, 0.2, 8), seed=0)
    second, _ = matrix(8, 12, torch.linspace(1, 0.5, 8), seed=1)
    together = orthogonalize(torch.stack([first, 100 * second, torch.zeros(8, 12)]))
    torch.testing.assert_close(together[0], orthogonalize(first[None])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together[1], orthogonalize(second[None])[0], atol=1e-5, rtol=0)
    assert not together[2].any()


def test_muon_follows_nesterov_momentum_and_decays_the_weights(native_bfloat16):
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((16, 16), (32, 8), (8, 32), (16, 16))]
    weights = [torch.nn.Parameter(weight.clone()) for weight in start]
    optimizer = Muon(weights, lr=0.1, weight_decay=0.3, momentum=0.9)
    expected, means = [weight.double() for weight in start], [torch.zeros(w.shape, dtype=torch.float64) for w in start]
    for _ in range(6):
        for i, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=generator)
            means[i] = 0.9 * means[i] + 0.1 * weight.grad
            left, _, right = torch.linalg.svd(0.1 * weight.grad + 0.9 * means[i], full_matrices=False)
            scale = 0.1 * max(1, weight.shape[0] / weight.shape[1]) ** 0.5
            expected[i] = expected[i] * (1 - 0.1 * 0.3) - scale * left @ right
        optimizer.step()
    for weight, reached, before in zip(weights, expected, start, strict=True):
        assert relative_distance(weight - before, reached - before) < 0.2  # singular values are in [0.73, 1.27]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
def test_muon_goes_the_way_of_that_of_torch_on_matrices():
    settings = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.9}
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((16, 16), (32, 8), (8, 32), (16, 16))]
    ours, theirs = ([torch.nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    optimizers = [Muon(ours, **settings), torch.optim.Muon(theirs, **settings)]
    for _ in range(6):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        assert relative_distance(mine - before, other - before) < 0.25


def test_muon_updates_a_convolution_as_its_flattened_matrix():
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(6, 4, 3, generator=generator), torch.randn(3, 6, 4, 3, generator=generator)
    convolution, flat = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.flatten(1).clone())
    optimizers = [Muon([convolution], lr=0.1), Muon([flat], lr=0.1)]
    for gradient in gradients:
        convolution.grad, flat.grad = gradient.clone(), gradient.flatten(1)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(convolution.flatten(1), flat)
    assert relative_distance(flat, start.flatten(1)) > 0.01


def test_a_step_of_muon_has_the_size_of_the_learning_rate_whatever_the_gradient():
    direction, nearest = matrix(8, 8, torch.linspace(1, 0.5, 8))
    for scale in (1e-4, 1.0, 1e4):
        weight = torch.nn.Parameter(torch.zeros(8, 8))
        weight.grad = scale * direction
        Muon([weight], lr=0.25).step()
        assert relative_distance(weight, -0.25 * nearest) < 0.35


def test_muon_leaves_weights_without_gradient_and_refuses_vectors():
    used, unused = torch.nn.Parameter(torch.eye(3)), torch.nn.Parameter(torch.eye(3))
    used.grad = torch.eye(3)
    Muon([used, unused], lr=0.1).step()
    assert not torch.equal(used, torch.eye(3))
    assert torch.equal(unused, torch.eye(3))
    with pytest.raises(ValueError, match=r"shape \(5,\), expected at least two dimensions"):
        Muon([torch.nn.Parameter(torch.zeros(5))])


# ------------------------------------------------------------------ which optimiser takes which weight


@pytest.mark.parametrize("encoder", component_names("encoder"))
@pytest.mark.parametrize("pooling", component_names("pooling"))
def test_each_parameter_has_exactly_one_optimiser(encoder, pooling):
    encoder = with_sizes(example(Encoder, encoder), {"d_model": 16, "num_heads": 2, "num_layers": 1})
    pooling = resolve_component(Pooling, pooling)
    parts = Precomputed(), NoNormalization(), encoder, pooling
    n_features = frame_size(encoder, 8)
    model = build_model(*parts, n_outputs=3, sample_rate=16000, chunk_length=1, n_features=n_features)
    muon, adam = build_optimizers(model, OptimizerParams(muon_lr=0.1, adam_lr=0.2, weight_decay=0.3)).values()
    taken = [id(weight) for optimizer in (muon, adam) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(taken) == sorted(id(weight) for weight in model.parameters())

    in_muon = {id(weight) for group in muon.param_groups for weight in group["params"]}
    assert in_muon == {id(weight) for weight in matrix_weights(model)}
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d)]
    assert in_muon == {id(layer.weight) for layer in layers}
    assert isinstance(muon, Muon)
    assert {group["lr"] for group in muon.param_groups} == {0.1}
    assert {group["lr"] for group in adam.param_groups} == {0.2}
    for group in (*muon.param_groups, *adam.param_groups):
        for weight in group["params"]:
            assert group["weight_decay"] == (0.3 if weight.ndim > 1 else 0.0)


def test_without_muon_adamw_has_every_parameter_and_the_history_its_rate_alone():
    config = {"epochs": 2, "muon_lr": None, "adam_lr": 0.001}
    model, result, _ = train_tiny(bumps(16), None, **config)
    [adam] = result.optimizers.values()
    assert isinstance(adam, torch.optim.AdamW)
    taken = {id(weight): group for group in adam.param_groups for weight in group["params"]}
    assert taken.keys() == {id(weight) for weight in model.parameters()}
    decayed = {key for key, group in taken.items() if group["weight_decay"]}
    assert decayed == {id(weight) for weight in model.parameters() if weight.ndim > 1}
    assert "muon_lr" not in result.history[0]
    assert result.history[0]["adam_lr"] > 0


def test_weights_with_weight_norm_are_trained_by_adamw():
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    )
    assert [id(weight) for weight in matrix_weights(model)] == [id(model[0].weight)]
    muon, adam = build_optimizers(model, OptimizerParams(muon_lr=0.1)).values()
    before = [weight.detach().clone() for weight in model.parameters()]
    model(torch.ones(2, 3)).square().sum().backward()
    muon.step()
    adam.step()
    assert all(not torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True))


def test_frozen_weights_have_no_optimiser():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[0].requires_grad_(False)
    assert [id(weight) for weight in matrix_weights(model)] == [id(model[1].weight)]
    muon, adam = build_optimizers(model, OptimizerParams(muon_lr=0.1, adam_lr=0.1, weight_decay=0.0)).values()
    taken = [weight for optimizer in (muon, adam) for group in optimizer.param_groups for weight in group["params"]]
    assert {id(weight) for weight in taken} == {id(model[1].weight), id(model[1].bias)}


# ------------------------------------------------------------------ schedule


@pytest.mark.parametrize("total", [1, 2, 10, 97, 1000])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.99])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_almost_nothing(total, ratio):
    factors = np.array([warmup_cosine(step, total, ratio) for step in range(total)])
    peak = int(factors.argmax())
    assert (factors > 0).all()
    assert factors.max() == 1
    assert peak == pytest.approx(ratio * total, abs=1)
    changes = np.diff(factors)
    assert (changes[:peak] > 0).all()
    assert (changes[peak:] <= 0).all()
    warmup = max(1, math.floor(ratio * total))
    steepest = max(1 / warmup, math.pi / 2 / max(1, total - math.ceil(ratio * total)))
    assert np.abs(changes).max(initial=0) <= steepest + 1e-9, "no jumps"
    if total >= 97 and ratio < 0.9:
        assert factors[-1] < 0.01
        halfway = (peak + total) // 2
        assert factors[halfway] == pytest.approx(0.5, abs=0.05)


# ------------------------------------------------------------------ validation split


def quiet_split(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return split_validation(*arguments, **options)


@pytest.mark.parametrize("val_split", [0.1, 0.2, 0.5])
def test_the_split_is_stratified_complete_and_seeded(val_split):
    y = np.repeat([0, 1, 2], [60, 30, 10])
    train_index, valid_index = quiet_split(y, val_split, 0)
    assert np.array_equal(np.sort(np.concatenate([train_index, valid_index])), np.arange(100))
    assert len(valid_index) == round(100 * val_split)
    assert np.bincount(y[valid_index]).tolist() == [round(n * val_split) for n in (60, 30, 10)]
    assert np.array_equal(valid_index, quiet_split(y, val_split, 0)[1])
    assert not np.array_equal(valid_index, quiet_split(y, val_split, 1)[1])


@pytest.mark.parametrize(
    "y",
    [
        [0] * 10 + [1] * 10 + [2],  # room for every class
        [0, 0, 1, 1, 2, 2, 3, 3, 4],  # two validation clips for four classes of two
        [0, 1, 1],
        [0, 1, 2, 2, 2],
    ],
    ids=str,
)
def test_a_class_of_one_clip_trains(y):
    y = np.array(y)
    alone = np.flatnonzero(np.bincount(y)[y] == 1)
    for seed in range(30):
        train_index, valid_index = quiet_split(y, 0.2, seed)
        assert len(valid_index) == max(1, round(0.2 * len(y)))
        assert np.isin(alone, train_index).all(), f"seed {seed} validates on the only clip of a class"


def test_a_few_validation_clips_are_drawn_at_random_and_empty_no_class():
    y = np.repeat(np.arange(10), 2)
    drawn = []
    for seed in range(20):
        train_index, valid_index = quiet_split(y, 0.2, seed)
        assert len(valid_index) == 4
        assert len(np.unique(y[train_index])) == 10
        assert np.array_equal(valid_index, quiet_split(y, 0.2, seed)[1])
        drawn.append(tuple(valid_index))
    assert len(set(drawn)) > 15
    assert set(np.concatenate(drawn)) == set(range(20)), "every clip has its turn"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_clips_of_all_different_classes_still_split(n):
    train_index, valid_index = quiet_split(np.arange(n), 0.2, 0)
    assert len(valid_index) == 1
    assert sorted([*train_index, *valid_index]) == list(range(n))
    assert [len(side) for side in quiet_split(np.arange(2), 0.99, 0)] == [1, 1]


@pytest.mark.parametrize("val_split", [0.1, 0.2, 0.25, 0.5])
def test_groups_stay_whole_and_classes_spread(val_split):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.array([f"speaker {i}" for i in range(20)]), 12)
    y = np.tile([0, 1, 2], 80)
    order = rng.permutation(len(y))
    groups, y = groups[order], y[order]
    for seed in range(5):
        train_index, valid_index = quiet_split(y, val_split, seed, groups=groups)
        assert not set(groups[train_index]) & set(groups[valid_index])
        assert sorted([*train_index, *valid_index]) == list(range(len(y)))
        assert abs(len(valid_index) / len(y) - val_split) <= 12 / len(y)
        assert len(np.unique(y[train_index])) == len(np.unique(y[valid_index])) == 3
    assert np.array_equal(valid_index, quiet_split(y, val_split, seed, groups=groups)[1])


def test_of_two_groups_one_validates():
    groups = np.array(["a", "a", "a", "b", "b", "b"])
    train_index, valid_index = quiet_split(np.array([0, 1, 0, 0, 1, 0]), 0.2, 0, groups=groups)
    assert {len(set(groups[side])) for side in (train_index, valid_index)} == {1}


def test_one_clip_and_one_group_cannot_be_split():
    with pytest.raises(ValueError, match=r"Got 1 sample .*val_split=0.2.*at least 2 clips.*val_split=None"):
        split_validation(np.array([0]), 0.2, 0)
    with pytest.raises(ValueError, match=r"Got 1 group .*at least 2.*val_split=None"):
        split_validation(np.array([0, 1, 0, 1]), 0.2, 0, groups=np.zeros(4))


def test_classes_that_groups_keep_from_one_side_are_reported_by_name():
    groups = np.repeat(np.arange(6), 4)
    y = np.where(groups == 3, 2, np.tile([0, 1], 12))
    for seed in range(10):  # a class of one group is better trained on
        with pytest.warns(UserWarning, match="leaves 1 of 3 classes without validation clips: 'rain'"):
            train_index, _ = split_validation(y, 0.2, seed, groups=groups, names=["dog", "cat", "rain"])
        assert 2 in y[train_index]
    with pytest.warns(UserWarning, match="without validation clips: 2"):
        split_validation(y, 0.2, 0, groups=groups)
    with pytest.warns(UserWarning, match="leaves 1 of 2 classes without") as caught:
        train_index, _ = split_validation(np.array([0, 0, 1, 1]), 0.5, 0, groups=np.array([0, 0, 1, 1]))
    trained = train_index[0] // 2
    messages = " ".join(str(warning.message) for warning in caught)
    assert f"without training clips: {1 - trained}" in messages
    assert f"without validation clips: {trained}" in messages


def test_a_class_of_two_groups_is_on_both_sides():
    groups = np.repeat(np.arange(6), 4)
    y = np.where((groups == 1) | (groups == 4), 2, np.tile([0, 1, 0, 1], 6))
    y[[4, 16]] = 0
    for seed in range(10):
        train_index, valid_index = quiet_split(y, 1 / 3, seed, groups=groups)
        assert set(y[train_index]) >= {2}
        assert set(y[valid_index]) >= {2}


# ------------------------------------------------------------------ the loop


def tiny_model(n_outputs=2, seed=0, encoder=TINY, n_features=N_FEATURES):
    """Return a model of at most 20 frames at a time."""
    with torch_seed(seed):
        options = {"n_outputs": n_outputs, "sample_rate": 16000, "chunk_length": 0.2, "n_features": n_features}
        return build_model(Precomputed(), NoNormalization(), encoder, MeanPooling(), **options)


def bumps(n, n_classes=2, seed=0, spread=1.0):
    """Return clips of noise in which class k is louder in feature k."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % n_classes
    frames = []
    for target in targets:
        clip = spread * rng.normal(size=(int(rng.integers(5, 30)), N_FEATURES))
        clip[:, target] += 1
        frames.append(torch.from_numpy(clip.astype(np.float32)))
    return FrameSet(FrameStore(frames), torch.from_numpy(targets), torch.ones(n))


def config(**changes):
    settings = {
        "epochs": 8,
        "batch_size": 8,
        "muon_lr": 0.01,
        "adam_lr": 3e-4,
        "weight_decay": 0.01,
        "warmup_ratio": 0.1,
        "patience": None,
        "device": CPU,
        "precision": "float32",
        "seed": 0,
        "verbose": 0,
    }
    return TrainingSettings(**{**settings, **changes})


class Snapshots:
    """A monitor that keeps the weights of every epoch, and may stop after some."""

    def __init__(self, model, stop_after=None):
        self.model = model
        self.stop_after = stop_after
        self.begun = 0
        self.weights = []

    def begin_epoch(self):
        self.begun += 1

    def end_epoch(self, run):
        self.weights.append(copy.deepcopy(run.average.model.state_dict()))
        return len(self.weights) == self.stop_after


def train_tiny(train_set, valid_set=None, augment=(), stop_after=None, model=None, label_smoothing=0.0, **changes):
    """Train a tiny model; return it with the run and the snapshots."""
    model = tiny_model() if model is None else model
    snapshots = Snapshots(model, stop_after)
    run = Run(
        model,
        TARGETS,
        config(**changes),
        loss=partial(TARGETS.loss, label_smoothing=label_smoothing),
        transforms=[augmentation.apply for augmentation in augment],
    )
    train(run, Data(train_set, valid_set, "by hand"), monitor=snapshots)
    return model, run, snapshots


def same_weights(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def logits_of(model, data):
    with torch.inference_mode():
        return model.head(embed_clips(model, data.frames, batch_size=8, device=CPU))


def misleading(data):
    """Return clips with turned labels: the better the model, the worse its score on them."""
    return FrameSet(data.frames, 1 - data.targets, data.weights)


def test_the_loss_falls_and_the_classes_are_learned():
    model, result, _ = train_tiny(bumps(48), bumps(32, seed=1), epochs=12)
    losses = [row["loss"] for row in result.history]
    assert losses[0] > 0.5
    assert losses[-1] < 0.5 * losses[0]
    accuracy = (logits_of(model, bumps(64, seed=2)).argmax(dim=1) == bumps(64, seed=2).targets).float().mean()
    assert accuracy >= 0.9
    assert not model.training


@pytest.mark.parametrize("turned", [False, True], ids=["helpful", "misleading"])
def test_the_model_is_left_with_the_weights_of_the_best_epoch(turned):
    valid_set = bumps(31, seed=1, spread=2.0)
    valid_set = misleading(valid_set) if turned else valid_set
    model, result, snapshots = train_tiny(bumps(48), valid_set, epochs=10)
    assert len(result.history) == snapshots.begun == 10
    scores = [(row["val_macro_f1"], -row["val_loss"]) for row in result.history]
    assert result.best["epoch"] == 1 + scores.index(max(scores))
    assert same_weights(model.state_dict(), snapshots.weights[result.best["epoch"] - 1])
    if turned:
        assert result.best["epoch"] < 10
        assert not same_weights(model.state_dict(), snapshots.weights[-1])

    best = result.history[result.best["epoch"] - 1]
    logits = logits_of(model, valid_set)
    predicted = logits.argmax(dim=1)
    assert f1_score(valid_set.targets, predicted, average="macro") == pytest.approx(best["val_macro_f1"])
    assert float((predicted == valid_set.targets).float().mean()) == pytest.approx(best["val_accuracy"])
    assert float(F.cross_entropy(logits, valid_set.targets)) == pytest.approx(best["val_loss"], rel=1e-4)


def test_of_equal_scores_the_lowest_validation_loss_wins():
    _, result, _ = train_tiny(bumps(48, spread=0.1), bumps(16, seed=1, spread=0.1), epochs=15)
    tied = [row for row in result.history if row["val_macro_f1"] == 1.0]
    assert len(tied) > 1
    assert result.best["epoch"] == min(tied, key=lambda row: row["val_loss"])["epoch"]


def test_the_tasks_score_chooses_the_epoch_and_the_first_of_equals_wins():
    script = [0.1, 0.6, 0.2, 0.6, 0.3]
    scores = iter(script)

    class Tasted(SingleLabel):
        monitor = "taste"

        def scores(self, *_):
            return {"taste": next(scores)}

    run = Run(tiny_model(), Tasted(TARGETS.classes), config(epochs=5))
    result = train(run, Data(bumps(16), misleading(bumps(8, seed=1)), "by hand"))
    assert [row["val_taste"] for row in result.history] == script
    losses = {epoch: result.history[epoch - 1]["val_loss"] for epoch in (1, 2, 4)}
    assert losses[1] < losses[2] < losses[4], "the loss alone would choose otherwise"
    assert result.best["epoch"] == 2

    _, result, _ = train_tiny(bumps(16), bumps(8, seed=1), **{**STILL, "epochs": 9}, patience=3)
    assert (result.best["epoch"], len(result.history)) == (1, 4), "nothing changes when nothing is learned"


def test_a_run_is_the_steps_that_one_would_write_by_hand():
    data = bumps(6)
    data = FrameSet(FrameStore(clip[:5] for clip in data.frames), data.targets, torch.linspace(0.5, 2, 6))
    model = tiny_model().double()
    trained, _, _ = train_tiny(data, None, model=model, epochs=4, label_smoothing=0.1, ema_decay=None)

    model = tiny_model().double()  # so that the order of the clips in a batch does not matter
    muon, adam = build_optimizers(model, OptimizerParams()).values()
    for step in range(4):
        factor = warmup_cosine(step, 4, 0.1)
        for optimizer, rate in ((muon, 0.01), (adam, 3e-4)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.zero_grad()
        logits = model.classify(torch.stack(list(data.frames)), torch.full((6,), 5))
        losses = F.cross_entropy(logits, data.targets, label_smoothing=0.1, reduction="none")
        ((losses * data.weights).sum() / data.weights.sum()).backward()
        muon.step()
        adam.step()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_when_patience_ends(patience):
    _, result, _ = train_tiny(bumps(48), misleading(bumps(32, seed=1)), epochs=60, muon_lr=0.05, patience=patience)
    assert len(result.history) == result.best["epoch"] + patience
    assert len(result.history) < 60


def test_patience_is_no_matter_without_validation():
    model, result, snapshots = train_tiny(bumps(16), None, epochs=5, patience=1)
    assert len(result.history) == result.best["epoch"] == 5
    assert same_weights(model.state_dict(), snapshots.weights[-1])
    assert not same_weights(model.state_dict(), snapshots.weights[-2])
    assert not any(name.startswith("val_") for row in result.history for name in row)


def test_a_monitor_may_end_training():
    _, result, snapshots = train_tiny(bumps(16), None, epochs=50, stop_after=2)
    assert len(result.history) == snapshots.begun == 2


def test_learning_rates_in_the_history_follow_the_schedule():
    _, result, _ = train_tiny(bumps(20), None, epochs=7, batch_size=8, muon_lr=0.02, adam_lr=0.001, warmup_ratio=0.3)
    last_steps = [3 * epoch - 1 for epoch in range(1, 8)]  # three batches an epoch
    factors = [warmup_cosine(step, 21, 0.3) for step in last_steps]
    assert [row["muon_lr"] for row in result.history] == pytest.approx([0.02 * f for f in factors])
    assert [row["adam_lr"] for row in result.history] == pytest.approx([0.001 * f for f in factors])
    muon, adam = result.optimizers.values()
    assert {group["lr"] for group in muon.param_groups} == {result.history[-1]["muon_lr"]}
    assert {group["lr"] for group in adam.param_groups} == {result.history[-1]["adam_lr"]}


def test_constant_learning_rates_stay():
    _, result, _ = train_tiny(bumps(20), None, epochs=3, constant_lr=True)
    assert [row["muon_lr"] for row in result.history] == [0.01] * 3


def test_a_loss_that_is_not_finite_ends_training_with_advice():
    _, result, _ = train_tiny(bumps(16), None, epochs=5, muon_lr=1e30)
    assert isinstance(result.stopped, TrainingError)
    assert re.search(r"at step \d+ of epoch 1.*muon_lr=.*\(of 1e\+30\) and adam_lr=.*the clips \[", str(result.stopped))
    assert result.best["epoch"] == 0


def test_one_seed_repeats_training_bit_for_bit():
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1, dropout=0.2)

    def weights(seed):
        model = tiny_model(encoder=encoder)
        return train_tiny(bumps(20), None, [SpecAugment()], model=model, epochs=2, seed=seed)[0].state_dict()

    assert same_weights(weights(0), weights(0))
    assert not same_weights(weights(0), weights(1))


def test_the_classifier_repeats_a_seed_and_leaves_every_global_generator_alone():
    clips, y = make_tones(n_clips=16, n_classes=2, duration=(0.1, 0.2), random_state=0)
    states = []

    def probabilities(noise, **params):
        torch.manual_seed(noise)
        np.random.seed(noise)  # noqa: NPY002 - the state that must not matter
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=2, **params)
        found = clf.fit(clips, y).predict_proba(clips)
        states.append((before, (torch.random.get_rng_state(), np.random.get_state()[1])))  # noqa: NPY002
        return found

    first, again, other = probabilities(1), probabilities(2), probabilities(3, random_state=7)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    for (torch_before, numpy_before), (torch_after, numpy_after) in states:
        assert torch.equal(torch_before, torch_after)
        np.testing.assert_array_equal(numpy_before, numpy_after)


# ------------------------------------------------------------------ weights in the loss


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_training_loss_is_the_weighted_mean_over_clips(label_smoothing):
    data = bumps(20)
    short = [clip[:20] for clip in data.frames]  # a whole clip fits, so that no chunk is drawn
    weights = torch.linspace(0.1, 3.0, 20)
    model = tiny_model()
    losses = F.cross_entropy(
        logits_of(model, FrameSet(FrameStore(short), data.targets, weights)),
        data.targets,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    for batch_size in (20, 6):
        _, result, _ = train_tiny(
            FrameSet(FrameStore(short), data.targets, weights),
            None,
            model=model,
            label_smoothing=label_smoothing,
            batch_size=batch_size,
            **STILL,
        )
        expected = float((losses * weights).sum() / weights.sum())
        assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert expected != pytest.approx(float(losses.mean()), rel=1e-3)


def test_the_validation_loss_and_scores_are_weighted():
    data = bumps(15)
    weights = torch.linspace(0.1, 3.0, 15)
    model = tiny_model()
    _, result, _ = train_tiny(bumps(8), FrameSet(data.frames, data.targets, weights), model=model, **STILL)
    logits = logits_of(model, data)
    losses = F.cross_entropy(logits, data.targets, reduction="none")
    right = (logits.argmax(dim=1) == data.targets).float()
    assert result.history[0]["val_loss"] == pytest.approx(float((losses * weights).sum() / weights.sum()), rel=1e-4)
    assert result.history[0]["val_accuracy"] == pytest.approx(float((right * weights).sum() / weights.sum()))


def step_with(frames, targets, weights):
    """Return the weights after training on one batch."""
    data = FrameSet(FrameStore(frames), torch.tensor(targets), torch.tensor(weights))
    return train_tiny(data, None, epochs=2, batch_size=16)[0].state_dict()


def test_a_clip_of_weight_zero_has_no_influence():
    frames, other = bumps(4).frames, bumps(4, seed=5).frames
    frames = [clip[:8].repeat(3, 1)[:8] for clip in frames]
    other = [clip[:8].repeat(3, 1)[:8] for clip in other]
    weights = [1.0, 0.0, 1.0, 1.0]
    plain = step_with(frames, [0, 1, 0, 1], weights)
    assert same_weights(plain, step_with([frames[0], 100 * other[1], *frames[2:]], [0, 0, 0, 1], weights))
    assert not same_weights(plain, step_with([other[0], *frames[1:]], [0, 1, 0, 1], weights))


def test_a_clip_of_weight_two_counts_as_two_clips():
    frames = [clip[:20] for clip in bumps(4).frames]
    once = step_with(frames, [0, 1, 0, 1], [2.0, 1.0, 1.0, 1.0])
    twice = step_with([frames[0], *frames], [0, 0, 1, 0, 1], [1.0] * 5)
    even = step_with(frames, [0, 1, 0, 1], [1.0] * 4)
    for name in once:
        torch.testing.assert_close(once[name], twice[name], atol=1e-4, rtol=0)
    assert max(float((once[name] - even[name]).abs().max()) for name in once) > 1e-3


def test_the_classifier_leaves_out_clips_of_weight_zero_and_weighs_classes():
    clips, y = make_tones(n_clips=15, n_classes=2, duration=(0.1, 0.2), random_state=0)

    def probabilities(X, y, *, class_weight=None, **fit):
        settings = {"precision": "float32", "muon_lr": None}  # rounding of the frames stays rounding
        clf = ASTWClassifier(encoder=TINY, epochs=2, val_split=None, class_weight=class_weight, **settings)
        return clf.fit(X, y, **fit).predict_proba(clips)

    weights = np.array([1.0] * 12 + [0.0] * 3)
    without = probabilities(clips[:12], y[:12])
    np.testing.assert_allclose(probabilities(clips, y, sample_weight=weights), without, rtol=0, atol=ROUNDING)
    by_class = probabilities(clips, y, class_weight={0: 3.0})
    np.testing.assert_array_equal(by_class, probabilities(clips, y, sample_weight=np.where(y == 0, 3.0, 1.0)))
    balanced = probabilities(clips, y, class_weight="balanced")
    counts = np.bincount(y)
    np.testing.assert_allclose(balanced, probabilities(clips, y, sample_weight=(15 / 2 / counts)[y]), atol=1e-6)
    assert by_class[:, 0].mean() > balanced[:, 0].mean()


# ------------------------------------------------------------------ SpecAugment


def masked_by(component, lengths, n_bins=80):
    """Return which values (B, T, F) of a batch the component hides, as an ndarray of bool."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor(lengths)
    frames = torch.rand(len(lengths), int(lengths.max()), n_bins, generator=generator)
    frames *= length_mask(lengths, frames.shape[1])[:, :, None]
    batch = Batch(frames, lengths, torch.zeros(len(lengths)), torch.ones(len(lengths)))
    return (component.apply(batch, torch.Generator().manual_seed(1)).inputs != frames).numpy()


def widths(masked):
    """Return the lengths of the runs of True in a vector."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], masked.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def test_one_frequency_mask_is_one_band_of_at_most_its_width():
    hidden = masked_by(SpecAugment(freq_masks=1, time_masks=0), [3] * 800)
    bands = hidden.any(axis=1)
    assert (hidden == bands[:, None, :]).all(), "the same bins in every frame"
    found = [widths(band) for band in bands]
    assert {len(runs) for runs in found} == {0, 1}
    assert {runs[0] for runs in found if runs} == set(range(1, 9)), "every width up to the largest"
    assert bands.any(axis=0).all(), "every bin has its turn"


def test_one_time_mask_is_one_stretch_of_at_most_its_width():
    hidden = masked_by(SpecAugment(freq_masks=0, time_masks=1), [60] * 1600, n_bins=2)
    stretches = hidden.any(axis=2)
    assert (hidden == stretches[:, :, None]).all(), "all bins of a frame"
    found = [widths(stretch) for stretch in stretches]
    assert {len(runs) for runs in found} == {0, 1}
    assert {runs[0] for runs in found if runs} == set(range(1, 21))
    assert stretches.any(axis=0).all()


@pytest.mark.parametrize("length", [1, 2, 5, 30, 60, 200])
def test_default_masks_lie_in_the_valid_frames_and_leave_half_of_a_short_clip(length):
    hidden = masked_by(SpecAugment(freq_masks=0), [length] * 300 + [200], n_bins=2)
    stretches = hidden.any(axis=2)[:300]
    assert not stretches[:, length:].any()
    assert stretches.sum(axis=1).max() <= min(2 * 20, length / 2)
    if length >= 5:
        assert stretches[:, : length // 2].any()
        assert stretches[:, length // 2 : length].any()


def test_the_announced_masks_hide_no_more_than_was_announced():
    hidden = masked_by(SpecAugment(), [100] * 500)
    bins = hidden.all(axis=1).sum(axis=1)
    frames = hidden.all(axis=2).sum(axis=1)
    assert bins.max() <= 16
    assert frames.max() <= 40
    assert bins.max() > 8, "two masks"
    assert frames.max() > 20
    assert 0.05 < hidden.mean() < 0.3


def test_masks_of_a_clip_do_not_depend_on_the_padding_behind_it():
    alone = masked_by(SpecAugment(), [60] * 100 + [60])
    padded = masked_by(SpecAugment(), [60] * 100 + [200])
    assert (padded[:100, :60] == alone[:100]).all()
    assert not padded[:100, 60:].any()


def test_hidden_values_become_the_mean_of_the_clip():
    frames = torch.randn(1, 40, 80, generator=torch.Generator().manual_seed(0)) + 5
    padded = torch.cat([frames, torch.zeros(1, 60, 80)], dim=1)
    batch = Batch(padded, torch.tensor([40]), torch.zeros(1), torch.ones(1))
    result = SpecAugment(freq_masks=2, freq_width=20).apply(batch, torch.Generator().manual_seed(1)).inputs
    changed = result[result != padded]
    assert len(changed)
    torch.testing.assert_close(changed, frames.mean().expand_as(changed))


def test_items_of_a_batch_get_masks_of_their_own():
    hidden = masked_by(SpecAugment(), [50] * 20)
    assert len({item.tobytes() for item in hidden}) > 15


def test_masks_can_be_switched_off():
    assert not masked_by(SpecAugment(freq_masks=0, time_masks=0), [30, 10]).any()
    assert not masked_by(SpecAugment(freq_width=0, time_width=0), [30, 10]).any()


# ------------------------------------------------------------------ inference


def clips_of(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, N_FEATURES, generator=generator) for n in lengths]


def embed(model, clips, batch_size=4):
    return embed_clips(model, FrameStore(clips), batch_size=batch_size, device=CPU)


def test_the_embedding_of_a_long_clip_is_the_mean_over_its_chunks():
    model = tiny_model()
    (clip,) = clips_of(50)  # three chunks of at most 20 frames
    bounds = [(0, 16), (16, 33), (33, 50)]
    chunks = torch.stack([embed(model, [clip[start:stop]])[0] for start, stop in bounds])
    assert chunks.std(dim=0).max() > 0.01
    torch.testing.assert_close(embed(model, [clip])[0], chunks.mean(dim=0), atol=1e-5, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(model.head(embed(model, [clip]))[0], model.head(chunks).mean(dim=0))


def test_embeddings_keep_the_order_of_clips_and_do_not_depend_on_their_company():
    model = tiny_model()
    clips = clips_of(3, 70, 1, 20, 21, 8, 40, 15, 5)
    alone = torch.cat([embed(model, [clip]) for clip in clips])
    assert torch.pdist(alone).min() > 1e-3, "clips can be told apart"
    for batch_size in (1, 2, 5, 100):
        torch.testing.assert_close(embed(model, clips, batch_size), alone, atol=ROUNDING, rtol=0)
    backwards = embed(model, clips[::-1], 3).flip(0)
    torch.testing.assert_close(backwards, alone, atol=ROUNDING, rtol=0)


def test_inference_switches_dropout_off_and_follows_the_dtype_of_the_weights():
    model = tiny_model(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1, dropout=0.5)).train()
    clips = clips_of(9, 30)
    first, second = embed(model, clips), embed(model, clips)
    assert torch.equal(first, second)
    assert not first.requires_grad
    in_double = embed(model.double(), clips)
    assert in_double.dtype == torch.float64
    torch.testing.assert_close(in_double.float(), first, atol=1e-5, rtol=0)


def test_there_is_nothing_to_embed_in_nothing():
    with pytest.raises(ValueError, match="no clips"):
        embed(tiny_model(), [])


@pytest.mark.parametrize(("share", "expected"), [(0.2, 0.2), (0.4, 1 / 3), (0.5, 0.5), (0.75, 0.75)])
def test_a_split_by_groups_comes_as_near_to_the_share_as_whole_groups_allow(share, expected):
    y, groups = np.tile([0, 1], 60), np.repeat(np.arange(12), 10)
    _, valid = split_validation(y, share, 0, groups=groups)
    assert len(valid) / len(y) == pytest.approx(expected, abs=0.06)


def test_no_step_waits_for_the_device():
    """On the meta device values do not exist, so whatever would wait for one raises."""
    meta = torch.device("meta")
    model = tiny_model().to(meta)
    data = bumps(4)
    batch = data.batch(np.arange(4), model.max_frames, np.random.default_rng(0)).to(meta)
    for augmentation in (SpecAugment(freq_width=2, time_width=2),):
        batch = augmentation.apply(batch, torch.Generator().manual_seed(0))
    run = Run(model, TARGETS, config(device=meta), generators=[torch.Generator()])
    losses = [loop._step(run, batch) for _ in range(2)]
    assert [tuple(loss.shape) for loss in losses] == [(2,), (2,)]
    assert batch.lengths.device == CPU
