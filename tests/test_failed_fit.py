"""A fit or an instalment that fails leaves the estimator as it was, and the exception has what was trained."""

import copy
import pickle
import signal
import threading

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skastw import ASTWClassifier, ASTWRegressor
from skastw.data.failures import FailedClip
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder, Encoder, EncoderModule
from skastw.errors import ClipError, ClipValueError, ComponentError, DataError, TrainingError
from skastw.estimators import base
from skastw.training import loop as training_loop

CLIPS, Y = make_tones(n_clips=24, n_classes=2, duration=(0.2, 0.2), random_state=0)
NAMES = np.array(["one", "zero"])
#: Clips of another length and other labels than those of the first fit.
WIDE, OTHERS = np.stack([np.pad(clip, (0, 100)) for clip in CLIPS]), np.array(["cat", "dog"])[Y]


def new(**params):
    settings = {"encoder": ASTWEncoder(d_model=16, num_heads=2, num_layers=1), "epochs": 3, "batch_size": 8}
    return ASTWClassifier(**{**settings, **params})


@pytest.fixture(scope="module")
def pickled():
    return pickle.dumps(new().fit(np.stack(CLIPS), NAMES[Y]))


@pytest.fixture
def fitted(pickled):
    return pickle.loads(pickled)


def everything(estimator):
    """Return all attributes, as what can be compared."""
    state = dict(vars(estimator))
    trained = state.pop("trained_", None)
    weights = trained and {name: value.tolist() for name, value in trained.model.state_dict().items()}
    return repr(sorted(state.items())), weights, trained and (trained.targets.to_json(), repr(trained.record))


def with_trained(estimator, error):
    """Return a copy of an estimator with the model that its failed fit had reached."""
    reached = copy.copy(estimator)
    reached.trained_ = error.trained
    return reached


def raising(error, epochs=0):
    """Return a training step that raises in the epoch after ``epochs`` ones of 3 steps, but not for a teacher."""
    step, steps = training_loop._step, []

    def failing(run, batch):
        steps.append(run.name == "training")
        if steps[-1] and sum(steps) > 3 * epochs:
            raise error
        return step(run, batch)

    return failing


class BadModule(EncoderModule):
    def __init__(self):
        super().__init__()
        raise AttributeError("a mistake of the user")


class Bad(Encoder):
    def build(self, n_features, max_frames):
        return BadModule()


def interrupted_extraction(patch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    patch.setattr(base, "read_with_side", stop)


def nan_loss(patch):
    step = training_loop._step
    patch.setattr(training_loop, "_step", lambda *arguments: step(*arguments) * float("nan"))


#: What makes ``fit`` fail: a change of parameters, arguments, and a patch; and what it raises.
FAILURES = {
    "missing files": ({}, {"X": ["lost1.wav", "lost2.wav"] * 12}, None, ClipValueError),
    "many missing files": ({"on_error": "ignore"}, {"X": ["lost1.wav"] * 24}, None, DataError),
    "a class without clips": (
        {"on_error": "ignore"},
        {"X": [*WIDE[:22], "lost.wav", "lost.wav"], "y": ["cat", "dog"] * 11 + ["owl"] * 2},
        None,
        DataError,
    ),
    "one class": ({}, {"y": ["cat"] * 24}, None, ValueError),
    "too few labels": ({}, {"y": ["cat", "dog"]}, None, ValueError),
    "NaN weights": ({}, {"sample_weight": np.full(24, np.nan)}, None, ValueError),
    "no weights": ({}, {"sample_weight": np.zeros(24)}, None, ValueError),
    "unknown validation labels": ({}, {"X_val": WIDE, "y_val": ["owl"] * 24}, None, ValueError),
    "missing validation files": ({}, {"X_val": ["lost.wav"], "y_val": ["cat"]}, None, ClipValueError),
    "wrong groups": ({}, {"groups": [1, 2, 3]}, None, ValueError),
    "one group": ({}, {"groups": [1] * 24}, None, ValueError),
    "unknown component": ({"encoder": "no such"}, {}, None, ComponentError),
    "wrong parameter": ({"epochs": 0}, {}, None, ValueError),
    "wrong parameter of a component": ({"encoder__d_model": 17}, {}, None, ComponentError),
    "an encoder that does not build": ({"encoder": Bad()}, {}, None, AttributeError),
    "nothing to start from": ({"init_from": "no/such/folder/at/all"}, {}, None, Exception),
    "other shapes to start from": ({"warm_start": True, "encoder": "rnn"}, {}, None, ValueError),
    "a loss that is not finite": ({}, {}, nan_loss, TrainingError),
    "no memory": ({}, {}, lambda p: p.setattr(training_loop, "_step", raising(MemoryError())), TrainingError),
    "an error in a step": ({}, {}, lambda p: p.setattr(training_loop, "_step", raising(OSError("x"))), OSError),
    "Ctrl-C in the first epoch": (
        {},
        {},
        lambda p: p.setattr(training_loop, "_step", raising(KeyboardInterrupt())),
        KeyboardInterrupt,
    ),
    "Ctrl-C while clips are read": ({}, {}, interrupted_extraction, KeyboardInterrupt),
}
UNFITTED_TOO = [name for name in FAILURES if name != "other shapes to start from"]


def fail(estimator, name, monkeypatch):
    """Change the parameters, then let ``fit`` fail; return what the estimator was before, and the exception."""
    params, arguments, patch, error = FAILURES[name]
    estimator.set_params(**params)
    before = everything(estimator)
    with monkeypatch.context() as patched:
        if patch is not None:
            patch(patched)
        with pytest.raises(error) as caught:
            estimator.fit(**{"X": WIDE, "y": OTHERS, **arguments})
    return before, caught.value


@pytest.mark.parametrize("name", FAILURES)
def test_a_fit_that_fails_changes_nothing(fitted, name, monkeypatch, tmp_path):
    expected = fitted.predict_proba(CLIPS)
    before, error = fail(fitted, name, monkeypatch)
    assert everything(fitted) == before
    assert getattr(error, "trained", None) is None
    assert isinstance(getattr(error, "failed", []), list), "parameters are checked before fit begins"

    np.testing.assert_array_equal(fitted.predict_proba(np.stack(CLIPS)), expected)
    assert set(fitted.predict(CLIPS)) <= {"one", "zero"}
    loaded = ASTWClassifier.from_pretrained(fitted.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), expected)


@pytest.mark.parametrize("name", UNFITTED_TOO)
def test_an_estimator_that_was_not_fitted_is_not_fitted_after_a_failure(name, monkeypatch):
    clf = new()
    before, error = fail(clf, name, monkeypatch)
    assert everything(clf) == before
    assert getattr(error, "trained", None) is None
    with pytest.raises(NotFittedError):
        clf.predict(CLIPS)


def test_the_same_of_a_regressor(monkeypatch):
    values = ASTWRegressor(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=1).fit(CLIPS, Y / 2)
    expected, before = values.predict(CLIPS), everything(values)
    for X, y in ((["lost.wav"] * 24, np.c_[Y, Y]), (CLIPS, np.full(24, np.nan)), (CLIPS, 100 * Y[:3])):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            values.fit(X, y)
    nan_loss(monkeypatch)
    with pytest.raises(TrainingError):
        values.partial_fit(CLIPS, 100.0 * Y)
    assert everything(values) == before
    np.testing.assert_array_equal(values.predict(CLIPS), expected)


# ------------------------------------------------------------------ what the exception carries


def test_the_exception_lists_the_clips():
    with pytest.raises(ClipValueError) as caught:
        new().fit([*CLIPS[:5], "lost.wav", *CLIPS[6:]], Y)
    [clip] = caught.value.failed
    assert (clip.index, clip.path) == (5, "lost.wav")
    assert isinstance(clip, FailedClip)

    with pytest.raises(DataError, match=r"error\.failed") as caught:
        new(on_error="ignore").fit([*CLIPS[:16], *["lost.wav"] * 8], Y)
    assert [clip.index for clip in caught.value.failed] == list(range(16, 24))

    with pytest.raises(DataError, match=r"error\.failed") as caught:
        new(on_error="ignore").fit([*CLIPS[:22], "lost.wav", "lost.wav"], [0, 1] * 11 + [2] * 2)
    assert [clip.index for clip in caught.value.failed] == [22, 23]

    with pytest.raises(ValueError, match="1 group") as caught:  # clips were left out before something else was wrong
        new(on_error="ignore").fit([*CLIPS[:23], "lost.wav"], Y, groups=[1] * 24)
    assert [clip.index for clip in caught.value.failed] == [23]


def test_the_exception_keeps_its_clips_on_its_way_from_another_process():
    with pytest.raises(ClipError) as caught:
        new().fit(["lost.wav", *CLIPS[1:]], Y)
    assert pickle.loads(pickle.dumps(caught.value)).failed == caught.value.failed


@pytest.mark.parametrize("error", [MemoryError(), OSError("a full disk"), ValueError("a mistake")], ids=repr)
def test_the_exception_has_what_was_trained(error, fitted, monkeypatch, tmp_path):
    before = everything(fitted.set_params(pooling="max"))
    with monkeypatch.context() as patched:
        patched.setattr(training_loop, "_step", raising(error, epochs=2))
        with pytest.raises((type(error), TrainingError)) as caught:
            fitted.fit(WIDE, OTHERS)
    assert everything(fitted) == before

    reached = with_trained(fitted, caught.value)
    assert reached.n_epochs_ == len(reached.history_) == 2
    assert reached.best_epoch_ in (1, 2)
    assert set(reached.predict(list(WIDE))) <= {"cat", "dog"}
    loaded = ASTWClassifier.from_pretrained(reached.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(WIDE), reached.predict_proba(list(WIDE)))
    assert reached.fit(WIDE, OTHERS).n_epochs_ == 3, "it can be trained"


def test_an_exit_keeps_the_weights_of_the_best_epoch(monkeypatch):
    weights = {}

    class Worse(training_loop.Run):
        """Run whose first epoch is the best, and whose third epoch exits."""

        def keep_best(self, row):
            super().keep_best({**row, "val_macro_f1": 1.0 / row["epoch"]})
            weights.update(self.best["weights"])
            if row["epoch"] == 3 and self.name == "training":
                raise SystemExit(1)

    monkeypatch.setattr("skastw.training.run.Run", Worse)
    with pytest.raises(SystemExit) as caught:
        new(epochs=4, val_split=0.25).fit(CLIPS, Y)
    trained = caught.value.trained
    assert (trained.record.best_epoch, trained.record.n_epochs) == (1, 3)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in trained.model.state_dict().items())


def test_ctrl_c_after_an_epoch_ends_fit_as_ever(fitted, monkeypatch):
    monkeypatch.setattr(training_loop, "_step", raising(KeyboardInterrupt(), epochs=1))
    with pytest.warns(UserWarning, match="interrupted in epoch 2 of 3"):
        fitted.fit(WIDE, OTHERS)
    assert (fitted.interrupted_, fitted.n_epochs_, fitted.n_features_in_) == (True, 1, WIDE.shape[1])
    assert fitted.classes_.tolist() == ["cat", "dog"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError("a mistake")], ids=repr)
def test_what_stops_the_last_scores_loses_nothing(error, fitted, monkeypatch):
    """The scores of each class are computed when all epochs have ended."""
    outputs, calls = training_loop._outputs, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 4:  # after those of three epochs
            raise error
        return outputs(*arguments)

    monkeypatch.setattr(training_loop, "_outputs", failing)
    if isinstance(error, KeyboardInterrupt):
        with pytest.warns(UserWarning, match="interrupted in epoch 3 of 3"):
            reached = fitted.fit(WIDE, OTHERS)
    else:
        with pytest.raises((TrainingError, OSError)) as caught:
            fitted.fit(WIDE, OTHERS)
        reached = with_trained(fitted, caught.value)
    assert reached.n_epochs_ == 3
    assert set(reached.predict(list(WIDE))) <= {"cat", "dog"}


def test_an_exception_of_the_user_with_such_attributes_is_passed_on(monkeypatch):
    class OwnError(Exception):
        failed = True

        @property
        def trained(self):
            return "read only"

    monkeypatch.setattr(training_loop, "_step", raising(OwnError("a mistake")))
    with pytest.raises(OwnError, match="a mistake"):
        new().fit(CLIPS, Y)


# ------------------------------------------------------------------ callbacks


class Failing:
    """A callback that raises."""

    def __init__(self, when, task="epoch", number=2):
        self.when, self.task, self.left, self.saved = when, task, number, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self._count("begin", context)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.saved.append(fitted_estimator)
        self._count("end", context)

    def _count(self, when, context):
        self.left -= when == self.when and context.task_name == self.task
        if not self.left:
            raise ZeroDivisionError("a mistake of the callback")


@pytest.mark.parametrize(
    ("callback", "n_epochs"),
    [(Failing("begin"), 1), (Failing("end"), 2), (Failing("end", "fit", 1), 3), (Failing("begin", "fit", 1), 0)],
    ids=["begin of epoch 2", "end of epoch 2", "end of fit", "begin of fit"],
)
def test_a_callback_that_raises_ends_fit_and_changes_nothing(callback, n_epochs, fitted, tmp_path):
    pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")
    before = everything(fitted.set_callbacks(callback))
    with pytest.raises(ZeroDivisionError) as caught:
        fitted.fit(WIDE, OTHERS)
    assert everything(fitted) == before
    trained = caught.value.trained
    assert (trained.record.n_epochs if trained else 0) == n_epochs
    for number, seen in enumerate(callback.saved):
        assert set(seen.predict(WIDE)) <= {"cat", "dog"}
        seen.save_pretrained(tmp_path / str(number))


# ------------------------------------------------------------------ instalments


INSTALMENTS = {
    "missing files": ({"X": ["lost.wav"] * 24}, None, ClipValueError),
    "unknown labels": ({"y": ["owl"] * 24}, None, ValueError),
    "other classes": ({"classes": ["cat", "dog"]}, None, ValueError),
    "NaN weights": ({"sample_weight": np.full(24, np.nan)}, None, ValueError),
    "another width": ({"X": WIDE}, None, ValueError),
    "a loss that is not finite": ({}, nan_loss, TrainingError),
    "no memory": ({}, lambda p: p.setattr(training_loop, "_step", raising(MemoryError(), 1 / 3)), TrainingError),
    "Ctrl-C": ({}, lambda p: p.setattr(training_loop, "_step", raising(KeyboardInterrupt(), 2 / 3)), KeyboardInterrupt),
}


@pytest.mark.parametrize("name", INSTALMENTS)
def test_an_instalment_that_fails_changes_nothing(name, monkeypatch):
    arguments, patch, error = INSTALMENTS[name]
    X, y = np.stack(CLIPS), NAMES[Y]
    clf = new().partial_fit(X, y, classes=NAMES)
    never_failed = copy.deepcopy(clf)
    before = everything(clf)
    with monkeypatch.context() as patched:
        if patch is not None:
            patch(patched)
        with pytest.raises(error) as caught:
            clf.partial_fit(**{"X": X, "y": y, **arguments})
    assert everything(clf) == before
    assert caught.value.trained is None
    # the momentum of the optimisers is as it was, too
    for estimator in (clf, never_failed):
        estimator.partial_fit(X, y)
    assert torch.equal(clf.model_.head.weight, never_failed.model_.head.weight)


@pytest.mark.parametrize("name", [name for name in INSTALMENTS if name not in ("other classes", "another width")])
def test_a_first_instalment_that_fails_leaves_no_trace(name, monkeypatch):
    arguments, patch, error = INSTALMENTS[name]
    clf = new()
    before = everything(clf)
    with monkeypatch.context() as patched:
        if patch is not None:
            patch(patched)
        with pytest.raises(error):
            clf.partial_fit(**{"X": np.stack(CLIPS), "y": NAMES[Y], "classes": NAMES, **arguments})
    assert everything(clf) == before


def test_instalments_of_a_copy_leave_the_original_alone():
    clf = new().partial_fit(CLIPS, Y, classes=[0, 1])
    expected, twin = clf.predict_proba(CLIPS), copy.copy(clf)
    twin.partial_fit(CLIPS, Y)
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), expected)
    assert len(clf.history_) == 1


# ------------------------------------------------------------------ meanwhile


def test_predictions_during_a_fit_come_from_the_model_before(fitted, monkeypatch):
    expected, step, seen = fitted.predict_proba(CLIPS), training_loop._step, []

    def predicting(run, batch):
        if run.name == "teacher":
            return step(run, batch)
        thread = threading.Thread(target=lambda: seen.append((fitted.predict(CLIPS), fitted.predict_proba(CLIPS))))
        thread.start()
        thread.join()
        return step(run, batch)

    monkeypatch.setattr(training_loop, "_step", predicting)
    fitted.fit(WIDE, OTHERS)
    for labels, probabilities in seen:
        assert set(labels) <= {"one", "zero"}
        np.testing.assert_array_equal(probabilities, expected)
    assert len(seen) == 9
    assert set(fitted.predict(WIDE)) <= {"cat", "dog"}


def test_an_exception_comes_back_from_another_process_with_what_was_trained(monkeypatch):
    monkeypatch.setattr(training_loop, "_step", raising(MemoryError(), epochs=1))
    with pytest.raises(TrainingError) as caught:
        new().fit(CLIPS, Y)
    again = with_trained(new(), pickle.loads(pickle.dumps(caught.value)))
    np.testing.assert_array_equal(again.predict_proba(CLIPS), with_trained(new(), caught.value).predict_proba(CLIPS))


def test_sigint_while_clips_are_read_leaves_the_model(fitted, monkeypatch):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    extract = base.read_with_side

    def slow(*arguments, **options):
        for number, frames in enumerate(extract(*arguments, **options)):
            if number == 3:
                signal.raise_signal(signal.SIGINT)
            yield frames

    monkeypatch.setattr(base, "read_with_side", slow)
    before = everything(fitted)
    try:
        with pytest.raises(KeyboardInterrupt):
            fitted.fit(WIDE, OTHERS)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert everything(fitted) == before
