"""The teacher: a small network that is trained first, whose outputs the network of a fit learns to match."""

import numpy as np
import pytest
import torch

from skastw import ASTWClassifier, ASTWPretrainer, ASTWRegressor
from skastw.encoders import ASTWEncoder, ResNetEncoder
from skastw.errors import ComponentError
from skastw.targets import MultiLabel, SingleLabel, Values
from skastw.training import loop

SMALL, WIDE = (ASTWEncoder(d_model=width, num_heads=2, num_layers=1) for width in (16, 128))


def classifier(**changes):
    params = {"encoder": SMALL, "teacher": "resnet", "epochs": 2, "val_split": None, "random_state": 0}
    return ASTWClassifier(**{**params, **changes})


def weights(clf):
    return clf.model_.state_dict()


def is_same(first, second):
    return all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


@pytest.fixture
def taught_runs(monkeypatch):
    """Return a list of the runs that are trained during the test: each teacher before its pupil."""
    runs, train = [], loop.train

    def recorded(run, data, **options):
        runs.append((run, data))
        return train(run, data, **options)

    monkeypatch.setattr(loop, "train", recorded)
    monkeypatch.setattr("skastw.estimators.attempt.train", recorded)
    return runs


def test_a_teacher_with_no_share_changes_nothing(tone_clips):
    alone = classifier(teacher=None).fit(*tone_clips)
    ignored = classifier(teacher="resnet", teacher_share=0.0).fit(*tone_clips)
    assert is_same(alone, ignored)
    assert not is_same(alone, classifier().fit(*tone_clips))


def test_a_pupil_with_wrong_labels_learns_from_its_teacher(tone_clips, monkeypatch):
    clips, y = tone_clips
    train_teacher = loop._train_teacher

    def then_mix_up(teacher, data):
        stopped = train_teacher(teacher, data)
        data.train.targets[:] = (data.train.targets + 1) % 3
        return stopped

    monkeypatch.setattr(loop, "_train_teacher", then_mix_up)
    clf = classifier(teacher_share=1.0, augment=None, epochs=40).fit(clips, y)
    assert (clf.predict(clips) == y).mean() > 0.9


def test_the_teacher_hears_only_training_clips_and_is_not_kept(tone_clips, taught_runs):
    clf = classifier(val_split=0.2).fit(*tone_clips)
    (pupil, data), (teacher, own) = taught_runs
    assert (data.valid is not None, own.valid, own.train) == (True, None, data.train)
    assert pupil.teacher is teacher
    assert clf.n_epochs_ == len(clf.history_) == 2
    assert set(weights(clf)) == set(weights(classifier(teacher=None).fit(*tone_clips)))


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": None},
        {"encoder": SMALL},
        {"encoder": ResNetEncoder(width=4, num_stages=1, num_blocks=1)},
        {"features": "mfcc"},
        {"features": "statistics", "encoder": "identity", "solver": "lbfgs"},
    ],
)
def test_by_default_only_a_wide_transformer_on_log_mel_frames_has_a_teacher(changes, tone_clips, taught_runs):
    wide = {"encoder": WIDE, "teacher": "auto", "epochs": 1}
    classifier(**{**wide, **changes}).fit(*tone_clips)
    assert [run.teacher for run, _ in taught_runs] == [None]
    classifier(**wide).fit(*tone_clips)
    assert [run.name for run, _ in taught_runs] == ["training", "training", "teacher"]


def test_weights_of_another_model_and_partial_fit_have_no_teacher(tone_clips, taught_runs, tmp_path):
    clips, y = tone_clips
    folder = classifier(encoder=WIDE, teacher=None).fit(clips, y).save_pretrained(tmp_path / "model")
    wide = classifier(encoder=WIDE, teacher="auto")
    wide.set_params(init_from=folder).fit(clips, y)
    clf = classifier(encoder=WIDE, teacher="auto").partial_fit(clips, y, classes=[0, 1, 2])
    clf.set_params(warm_start=True).fit(clips, y)
    assert [run.teacher for run, _ in taught_runs] == [None] * 4


def test_a_front_end_that_is_trained_has_no_teacher(tone_clips, taught_runs):
    trained = {"features": "leaf", "augment": None}
    classifier(**trained, encoder=WIDE, teacher="auto").fit(*tone_clips)
    assert [run.teacher for run, _ in taught_runs] == [None]
    with pytest.raises(ComponentError, match=r"teacher='resnet' with features='leaf'.*set teacher=None"):
        classifier(**trained, teacher="resnet").fit(*tone_clips)


def test_an_exact_fit_and_a_pretraining_have_no_teacher(tone_clips):
    exact = {"features": "statistics", "encoder": "identity", "solver": "lbfgs"}
    with pytest.raises(ComponentError, match=r"teacher='resnet' with solver='lbfgs'.*expected teacher=None"):
        classifier(**exact).fit(*tone_clips)
    with pytest.raises(ComponentError, match="pretraining as the task, expected teacher=None"):
        ASTWPretrainer(encoder=SMALL, teacher="resnet", epochs=1).fit(tone_clips[0])


def test_an_interrupt_of_the_teacher_leaves_the_estimator_as_it_was(tone_clips, monkeypatch):
    clf = classifier(teacher=None).fit(*tone_clips)
    before = clf.trained_

    def interrupt(run, train_set):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_train_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clf.set_params(teacher="resnet").fit(*tone_clips)
    assert clf.trained_ is before


def test_a_continued_run_keeps_its_teacher(tone_clips, tmp_path, monkeypatch):
    whole = classifier(epochs=4).fit(*tone_clips)
    stopped = classifier(checkpoint_dir=tmp_path, epochs=4)
    epochs, train_epoch = [], loop._train_epoch

    def killed(run, train_set):
        epochs.append(run.name)
        if epochs.count("training") == 3:
            raise SystemExit
        return train_epoch(run, train_set)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_epoch", killed)
        with pytest.raises(SystemExit):
            stopped.fit(*tone_clips)
    assert epochs == ["teacher"] * 4 + ["training"] * 3

    monkeypatch.setattr(
        loop, "_train_teacher", lambda teacher, data: teacher.model.eval() and None
    )  # not trained again
    assert is_same(whole, stopped.fit(*tone_clips))


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (ASTWRegressor, np.linspace(-1, 1, 24)),
        (ASTWRegressor, np.linspace(-1, 1, 48).reshape(24, 2)),
        (ASTWClassifier, np.tile([[1, 0], [0, 1], [1, 1]], (8, 1))),
    ],
)
def test_all_kinds_of_target_can_be_taught(estimator, y, tone_clips, taught_runs):
    model = estimator(encoder=SMALL, teacher="resnet", epochs=2, val_split=None, random_state=0).fit(tone_clips[0], y)
    assert len(taught_runs) == 2
    assert np.isfinite(model.predict(tone_clips[0])).all()


def test_clips_of_mixed_targets_are_taught_by_the_mixture(tone_clips):
    clf = classifier(augment=["mixup"], teacher_share=1.0).fit(*tone_clips)
    assert np.isfinite([row["loss"] for row in clf.history_]).all()


@pytest.mark.parametrize("targets", [SingleLabel.learn([0, 1, 2]), MultiLabel.learn(np.eye(3, dtype=int))])
def test_the_distance_is_the_divergence_of_the_probabilities(targets):
    outputs, taught = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = targets.finish(taught), targets.finish(outputs)
    expected = p * (p / q).log()
    if targets.name == "multilabel":
        expected = (expected + (1 - p) * ((1 - p) / (1 - q)).log()) / 3
    torch.testing.assert_close(targets.distance(outputs, taught), expected.sum(dim=1))
    assert targets.distance(taught, taught).abs().max() < 1e-12


def test_the_distance_of_values_is_their_squared_difference():
    targets = Values.learn([[1.0, 2.0], [3.0, 5.0]])
    outputs, taught = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert targets.distance(outputs, taught).tolist() == [2.5]


def test_the_encoder_of_a_teacher_can_leave_out_frames():
    module = ResNetEncoder(width=4, num_stages=2, frame_step=3).build(16, 100).eval()
    every = ResNetEncoder(width=4, num_stages=2).build(16, 100).eval()
    every.load_state_dict(module.state_dict())
    frames, lengths = torch.randn(2, 20, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([20, 20])
    ours, n_ours = module(frames, lengths)
    theirs, n_theirs = every(frames[:, ::3], torch.tensor([7, 7]))
    torch.testing.assert_close(ours, theirs)
    assert n_ours.tolist() == n_theirs.tolist() == [2, 2]
    assert ResNetEncoder(num_stages=2, frame_step=3).stride == 12
