"""The refit: the last epochs of a fit, which train the selected weights further on all clips."""

import numpy as np
import pytest
import torch

from skastw import ASTWClassifier
from skastw.encoders import ASTWEncoder
from skastw.training import loop

SMALL, WIDE = (ASTWEncoder(d_model=width, num_heads=2, num_layers=1) for width in (16, 128))


def classifier(**changes):
    params = {"encoder": SMALL, "epochs": 6, "refit": 0.5, "random_state": 0}
    return ASTWClassifier(**{**params, **changes})


def is_same(first, second):
    theirs = second.model_.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in first.model_.state_dict().items())


@pytest.fixture
def epochs(monkeypatch):
    """Return a list of the name of the run, and the number of clips, of each epoch that is trained."""
    epochs, train_epoch = [], loop._train_epoch

    def noted(run, train_set):
        epochs.append((run.name, len(train_set)))
        return train_epoch(run, train_set)

    monkeypatch.setattr(loop, "_train_epoch", noted)
    return epochs


def test_the_last_epochs_train_on_all_clips(tone_clips, epochs):
    clf = classifier().fit(*tone_clips)
    n_clips, n_train = len(tone_clips[0]), clf.trained_.record.n_train
    assert n_train < n_clips
    assert epochs == [("training", n_train)] * 3 + [("refit", n_clips)] * 3
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4, 5, 6]
    assert [("val_loss" in row) for row in clf.history_] == [True] * 3 + [False] * 3
    assert (clf.trained_.record.n_refit, clf.n_epochs_) == (3, 6)
    assert clf.best_epoch_ <= 3


def test_the_scores_are_from_before_the_refit(tone_clips):
    clf, before = classifier().fit(*tone_clips), classifier(epochs=3, refit=None).fit(*tone_clips)
    ours, theirs = clf.trained_.record, before.trained_.record
    assert (ours.validation, ours.per_class, ours.best_epoch) == (
        theirs.validation,
        theirs.per_class,
        theirs.best_epoch,
    )
    assert not is_same(clf, before)


@pytest.mark.parametrize("changes", [{"val_split": None}, {"refit": None}, {"epochs": 1}])
def test_without_validation_clips_or_a_second_epoch_there_is_no_refit(changes, tone_clips, epochs):
    clf = classifier(**changes).fit(*tone_clips)
    assert {name for name, _ in epochs} == {"training"}
    assert clf.trained_.record.n_refit == 0


def test_validation_clips_of_the_caller_are_never_trained_on(tone_clips, epochs):
    clips, y = tone_clips
    clf = classifier().fit(clips[:18], y[:18], X_val=clips[18:], y_val=y[18:])
    assert epochs == [("training", 18)] * 6
    assert clf.trained_.record.n_refit == 0


def test_by_default_only_a_wide_transformer_has_a_refit(tone_clips, epochs):
    params = {"refit": "auto", "teacher": None, "epochs": 2}
    classifier(**params).fit(*tone_clips)
    assert [name for name, _ in epochs] == ["training", "training"]
    classifier(**params, encoder=WIDE).fit(*tone_clips)
    assert [name for name, _ in epochs[2:]] == ["training", "refit"]


def test_the_teacher_is_trained_further_too(tone_clips, epochs):
    classifier(teacher="resnet").fit(*tone_clips)
    assert [name for name, _ in epochs] == ["teacher"] * 3 + ["training"] * 3 + ["teacher"] * 3 + ["refit"] * 3
    assert [n for name, n in epochs if name == "teacher"] == [n for name, n in epochs if name != "teacher"]


def test_an_exact_fit_ends_with_the_head_of_all_clips(tone_clips):
    exact = {"features": "statistics", "encoder": "identity", "solver": "lbfgs", "normalization": "none"}
    refitted = classifier(**exact).fit(*tone_clips)
    whole = classifier(**exact, val_split=None).fit(*tone_clips)
    assert is_same(refitted, whole)
    assert refitted.trained_.record.validation is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_stops_a_refit_leaves_the_selected_weights(error, tone_clips, monkeypatch):
    before = classifier(epochs=3, refit=None).fit(*tone_clips)
    step = loop._step

    def stopped(run, batch):
        if run.name == "refit" and run.epoch == 1:
            raise error
        return step(run, batch)

    monkeypatch.setattr(loop, "_step", stopped)
    clf = classifier()
    if error is KeyboardInterrupt:
        with pytest.warns(UserWarning, match="interrupted in the refit; the weights of epoch"):
            clf.fit(*tone_clips)
    else:
        with pytest.raises(error) as caught:
            clf.fit(*tone_clips)
        clf.trained_ = caught.value.trained
    assert is_same(clf, before)
    assert (clf.n_epochs_, clf.trained_.record.n_refit) == (3, 0)


def test_a_callback_that_stops_training_stops_before_the_refit(tone_clips, epochs):
    pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")

    class Stopper:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...

        def on_fit_task_end(self, estimator, context):
            return len(epochs) == self.after

    for after, trained in ((2, 2), (5, 3)):
        epochs.clear()
        stopper = Stopper()
        stopper.after = after
        clf = classifier().set_callbacks(stopper).fit(*tone_clips)
        assert (len(epochs), clf.n_epochs_, clf.trained_.record.n_refit) == (after, trained, 0)


def test_several_models_and_targets_are_refitted(tone_clips):
    clips, _ = tone_clips
    y = np.eye(2, dtype=int)[np.arange(len(clips)) % 2]
    clf = classifier(n_models=2, epochs=2).fit(clips, y)
    assert clf.trained_.record.n_refit == 1
    assert np.isfinite(clf.predict_proba(clips)).all()


@pytest.mark.parametrize("refit", [0, 1, 1.5, True, "always"])
def test_a_share_that_is_not_between_0_and_1_is_refused(refit, tone_clips):
    with pytest.raises(ValueError, match="The 'refit' parameter"):
        classifier(refit=refit).fit(*tone_clips)
