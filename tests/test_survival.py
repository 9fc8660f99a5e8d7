"""Training that is killed, interrupted, out of memory or out of numbers: nothing that was learned is lost."""

import json
import os
import signal
import warnings

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV

from helpers import needs_fork, run_in_child
from skastw import ASTWClassifier, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder, ResNetEncoder, RNNEncoder
from skastw.errors import TrainingError
from skastw.training import load_state, save_state
from skastw.training import loop as training_loop

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
CLIPS, Y = make_tones(n_clips=24, random_state=0)

RUNS = {
    "best epoch": {"encoder": TINY, "epochs": 4},
    "patience": {"encoder": TINY, "epochs": 30, "patience": 2},
    "refit with a teacher": {"encoder": TINY, "epochs": 4, "refit": 0.75, "teacher": "resnet"},
    "averaged, last epoch": {"encoder": TINY, "epochs": 4, "ema_decay": 0.9, "keep": "last", "val_split": None},
    "batch norm, mixing, two models": {
        "encoder": ResNetEncoder(width=4),
        "augment": ["mixup", "time_stretch", "noise", "spec_augment"],
        "normalization": "per_bin",
        "n_models": 2,
        "epochs": 3,
        "batch_size": 8,
    },
    "dropout of torch": {"encoder": RNNEncoder(hidden=8, num_layers=2, dropout=0.3), "epochs": 3},
    "bfloat16": {"encoder": TINY, "epochs": 3, "precision": "bfloat16"},
    "float64": {"encoder": TINY, "epochs": 3, "precision": "float64"},
}


def same(first, second):
    for name, value in first.model_.state_dict().items():
        assert torch.equal(value, second.model_.state_dict()[name]), name
    np.testing.assert_array_equal(first.predict(CLIPS), second.predict(CLIPS))
    assert (first.best_epoch_, first.n_epochs_) == (second.best_epoch_, second.n_epochs_)
    without = [[{k: v for k, v in row.items() if k != "seconds"} for row in clf.history_] for clf in (first, second)]
    assert without[0] == without[1]


@pytest.fixture
def listens():
    """Let Ctrl-C interrupt, also where the tests were started in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stopped_after(monkeypatch, epochs, stop):
    """Let ``stop`` be called in the epoch after ``epochs`` ones, amid its steps. A teacher is not stopped."""
    calls = {"left": None}
    step = training_loop._step

    def counted(run, batch):
        if calls["left"] == 0:
            stop()
        loss = step(run, batch)
        calls["left"] = None if calls["left"] is None else calls["left"] - 1
        return loss

    train_epoch = training_loop._train_epoch
    begun = []

    def noted(run, train_set):
        begun.append(run.name in ("training", "refit"))
        if begun[-1] and sum(begun) == epochs + 1:
            calls["left"] = -(-len(train_set) // run.settings.batch_size) // 2
        return train_epoch(run, train_set)

    monkeypatch.setattr(training_loop, "_train_epoch", noted)
    monkeypatch.setattr(training_loop, "_step", counted)


def fit_and_die(clf, epochs):
    """Train in a process that is killed in the epoch after ``epochs`` ones."""

    def fit():
        torch.set_num_threads(1)
        with pytest.MonkeyPatch.context() as patch:
            stopped_after(patch, epochs, lambda: os.kill(os.getpid(), signal.SIGKILL))
            clf.fit(CLIPS, Y)

    return run_in_child(fit)


# ------------------------------------------------------------------ killed


@needs_fork
@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(run, tmp_path):
    whole = ASTWClassifier(**RUNS[run]).fit(CLIPS, Y)
    clf = ASTWClassifier(**RUNS[run], checkpoint_dir=tmp_path / "run")
    for epochs in (1, 1, 0):  # one epoch, then one more, then none
        assert fit_and_die(clf, epochs) == -signal.SIGKILL
    same(clf.fit(CLIPS, Y), whole)


def test_writing_checkpoints_changes_nothing_and_a_run_that_is_done_is_not_trained_again(tmp_path, monkeypatch):
    whole = ASTWClassifier(encoder=TINY, epochs=3).fit(CLIPS, Y)
    clf = ASTWClassifier(encoder=TINY, epochs=3, checkpoint_dir=tmp_path).fit(CLIPS, Y)
    same(clf, whole)
    monkeypatch.setattr(training_loop, "_step", None)
    same(clf.fit(CLIPS, Y), whole)


def test_each_run_has_a_file_of_its_own(tmp_path):
    base = ASTWClassifier(encoder=TINY, epochs=1, checkpoint_dir=tmp_path)
    base.fit(CLIPS, Y)
    for number, (change, y) in enumerate(
        [({"epochs": 2}, Y), ({"random_state": 1}, Y), ({"encoder__dropout": 0.3}, Y), ({}, 2 - Y), ({}, Y)], start=2
    ):
        base.set_params(epochs=1, random_state=42, encoder__dropout=0.1).set_params(**change).fit(CLIPS, y)
        assert len(list(tmp_path.iterdir())) == min(number, 5)


def test_a_search_goes_on_from_its_checkpoints(tmp_path):
    grid = {"adam_lr": [1e-3, 1e-4]}
    searches = [
        GridSearchCV(ASTWClassifier(encoder=TINY, epochs=2, checkpoint_dir=folder), grid, cv=2, refit=False)
        for folder in (None, tmp_path)
    ]
    scores = [search.fit(CLIPS, Y).cv_results_["mean_test_score"] for search in (*searches, searches[1])]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    assert len(list(tmp_path.iterdir())) == 4


def test_the_regressor_and_a_model_to_start_from_have_checkpoints_too(tmp_path):
    start = ASTWRegressor(encoder=TINY, epochs=1).fit(CLIPS, Y.astype(float)).save_pretrained(tmp_path / "start")
    for init_from in (None, start):
        fits = [
            ASTWRegressor(encoder=TINY, epochs=2, init_from=init_from, checkpoint_dir=folder).fit(
                CLIPS, Y.astype(float)
            )
            for folder in (None, tmp_path / "runs")
        ]
        same(*fits)
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_damaged_checkpoint_and_a_seed_that_is_none_are_refused(tmp_path):
    clf = ASTWClassifier(encoder=TINY, epochs=1, checkpoint_dir=tmp_path).fit(CLIPS, Y)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"cannot be read .*remove it to train from the beginning"):
        clf.fit(CLIPS, Y)
    with pytest.raises(ValueError, match="random_state=None with checkpoint_dir, expected an integer"):
        clf.set_params(random_state=None).fit(CLIPS, Y)


def test_a_checkpoint_that_cannot_be_written_stops_training_and_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="Cannot write the checkpoint"):
        ASTWClassifier(encoder=TINY, epochs=1, checkpoint_dir=tmp_path / "file").fit(CLIPS, Y)


def test_a_snapshot_is_replaced_at_once(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    save_state(path, {"a": torch.zeros(3), "epoch": 1})

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TrainingError, match="No space left"):
        save_state(path, {"a": torch.ones(3), "epoch": 2})
    state = load_state(path)
    assert state["epoch"] == 1
    assert torch.equal(state["a"], torch.zeros(3))
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


@needs_fork
def test_what_a_killed_process_left_beside_a_checkpoint_is_removed_by_the_next(tmp_path):
    path = tmp_path / "run.safetensors"

    def save():
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        save_state(path, {"a": torch.zeros(3), "epoch": 1})

    assert run_in_child(save) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    save_state(path, {"a": torch.ones(3), "epoch": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
    assert load_state(path)["epoch"] == 2


# ------------------------------------------------------------------ interrupted


@pytest.mark.parametrize("params", [{}, {"keep": "last", "val_split": None, "ema_decay": 0.9}])
def test_ctrl_c_keeps_the_best_weights_so_far_and_says_so(params, listens, tmp_path):
    expected = ASTWClassifier(encoder=TINY, epochs=6, **params)
    with pytest.MonkeyPatch.context() as patch:
        stopped_after(patch, 2, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.warns(UserWarning, match=r"interrupted in epoch 3 of 6; the weights of epoch [12] are kept"):
            clf = ASTWClassifier(encoder=TINY, epochs=6, checkpoint_dir=tmp_path, **params).fit(CLIPS, Y)
    assert clf.n_epochs_ == len(clf.history_) == 2
    assert clf.interrupted_
    assert set(clf.predict(CLIPS)) <= set(Y)
    assert not clf.model_.training
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    assert loaded.interrupted_
    metrics = json.loads((tmp_path / "model" / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["per_class"] is None) == (params != {}), "as the validation of the weights that are kept says"
    same(clf.fit(CLIPS, Y), expected.fit(CLIPS, Y))
    assert not clf.interrupted_


def test_ctrl_c_in_the_first_epoch_is_passed_on(listens, monkeypatch):
    stopped_after(monkeypatch, 0, lambda: os.kill(os.getpid(), signal.SIGINT))
    clf = ASTWClassifier(encoder=TINY, epochs=3)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(CLIPS, Y)
    assert not hasattr(clf, "model_")


# ------------------------------------------------------------------ out of numbers, out of memory


def test_a_loss_that_is_no_number_names_step_rates_and_clips(monkeypatch):
    clips = [np.array(clip) for clip in CLIPS]
    clf = ASTWClassifier(encoder=TINY, epochs=5, batch_size=4, val_split=None, muon_lr=1e30)
    with pytest.raises(TrainingError, match=r"at step \d+ of epoch 1.*muon_lr=.*\(of 1e\+30\).*clips \[.*No epoch"):
        clf.fit(clips, Y)
    assert not hasattr(clf, "model_")


def test_the_clips_that_are_named_are_those_of_x_and_the_last_good_weights_are_kept(monkeypatch):
    step = training_loop._step
    seen = []

    def poisoned(run, batch):
        seen.append(run.name == "training")
        loss = step(run, batch)
        return loss * float("nan") if seen[-1] and sum(seen) == 8 else loss

    monkeypatch.setattr(training_loop, "_step", poisoned)
    weights = np.ones(len(Y))
    weights[:4] = 0  # left out, so positions in X are not those of the training set
    clf = ASTWClassifier(encoder=TINY, epochs=5, batch_size=4, val_split=None)
    with pytest.raises(TrainingError, match=r"The weights of epoch 1 are kept, in error\.trained") as caught:
        clf.fit(CLIPS, Y, sample_weight=weights)
    named = [int(i) for i in str(caught.value).partition("the clips [")[2].partition("]")[0].split(",")]
    assert 0 < len(named) <= 4
    assert min(named) >= 4
    assert not hasattr(clf, "model_")
    clf.trained_ = caught.value.trained
    assert clf.n_epochs_ == clf.best_epoch_ == 1
    assert set(clf.predict(CLIPS)) <= set(Y)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
    ids=["python", "cpu", "gpu"],
)
def test_memory_that_runs_out_names_the_parameter_to_lower(error, monkeypatch):
    def fail():
        raise error

    stopped_after(monkeypatch, 1, fail)
    clf = ASTWClassifier(encoder=TINY, epochs=3, batch_size=8)
    with pytest.raises(TrainingError, match=r"Out of memory with batch_size=8; lower it, or chunk_length") as caught:
        clf.fit(CLIPS, Y)
    assert not hasattr(clf, "model_")
    clf.trained_ = caught.value.trained
    assert clf.n_epochs_ == 1
    assert set(clf.predict(CLIPS)) <= set(Y)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_instalment_that_fails_leaves_what_the_earlier_ones_learned(error, monkeypatch):
    def fail():
        raise error

    clf = ASTWClassifier(encoder=TINY).partial_fit(CLIPS, Y, classes=[0, 1, 2])
    expected = clf.predict_proba(CLIPS)
    with monkeypatch.context() as patch:
        stopped_after(patch, 0, fail)
        with pytest.raises((KeyboardInterrupt, TrainingError)):
            clf.partial_fit(CLIPS, Y)
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), expected)
    assert clf.partial_fit(CLIPS, Y).n_epochs_ == 2


def test_other_errors_are_passed_on(monkeypatch):
    def fail():
        raise RuntimeError("something else")

    stopped_after(monkeypatch, 1, fail)
    with pytest.raises(RuntimeError, match="something else"):
        ASTWClassifier(encoder=TINY, epochs=3).fit(CLIPS, Y)


def test_nothing_is_warned_of_in_an_ordinary_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ASTWClassifier(encoder=TINY, epochs=1, checkpoint_dir=tmp_path).fit(CLIPS, Y)
