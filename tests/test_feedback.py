"""What a user sees: progress, callbacks, representations, plots of the history."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.datasets import make_tones
from skastw.datasets._public_set import check_name
from skastw.encoders import ASTWEncoder
from skastw.evaluation import evaluate

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
CLIPS, Y = make_tones(n_clips=24, random_state=0)


def tiny(**params):
    return ASTWClassifier(**{"encoder": TINY, "epochs": 4, **params})


def test_silent_by_default_and_bars_with_verbose(capsys):
    tiny().fit(CLIPS, Y).predict(CLIPS)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    tiny(verbose=1).fit(CLIPS, Y)
    bars = capsys.readouterr().err
    assert "features" in bars
    assert "loss=" in bars


def test_lines_for_logs(capsys):
    clf = tiny(verbose=2).fit(CLIPS, Y)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    for number, (line, row) in enumerate(zip(lines, clf.history_, strict=True), start=1):
        assert line.startswith(f"epoch {number} of 4: loss {row['loss']:.3f}, ")
        assert f"val_macro_f1 {row['val_macro_f1']:.3f}" in line
        assert "\r" not in line


def test_repr_shows_what_was_changed():
    assert repr(ASTWClassifier()) == "ASTWClassifier()"
    assert repr(ASTWClassifier(epochs=5)) == "ASTWClassifier(epochs=5)"
    shown = repr(ASTWClassifier(encoder=ASTWEncoder(d_model=192)))
    assert shown == "ASTWClassifier(encoder=ASTWEncoder(d_model=192))"


def test_the_html_diagram_shows_components():
    html = tiny(pooling="attentive_stats")._repr_html_()
    for expected in ("ASTWClassifier", "ASTWEncoder", "AttentiveStatsPooling", "LogMel", "SpecAugment"):
        assert expected in html
    assert "Precomputed" in ASTWClassifier(features="precomputed")._repr_html_()
    assert "LogMel" in ASTWFeaturizer()._repr_html_()


def test_history_plots_in_one_line():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    clf = tiny().fit(CLIPS, Y)
    axes = pd.DataFrame(clf.history_).plot(x="epoch", y=["loss", "val_loss"])
    assert [line.get_label() for line in axes.get_lines()] == ["loss", "val_loss"]


NAMES, OBJECTS = np.array(["high", "low"])[Y % 2], np.array([*map(np.str_, "ab"), None], dtype=object)[Y % 2]


@pytest.mark.parametrize("y", [NAMES, OBJECTS, Y % 2, (Y % 2).astype(bool)], ids=["text", "object", "int", "bool"])
@pytest.mark.parametrize(
    "use",
    [
        lambda y: tiny().fit(CLIPS, y[:1].repeat(24)),
        lambda y: tiny(on_error="ignore").fit([*CLIPS[:20], "lost.wav"], [*y[:1].repeat(20), y[y != y[0]][0]]),
        lambda y: tiny(val_split=0.5, epochs=1).fit(CLIPS, y, groups=y),  # a warning
        lambda y: tiny(epochs=1).partial_fit(CLIPS, y, classes=np.unique(y)).partial_fit(CLIPS, y, classes=y[:1]),
        lambda y: tiny(epochs=1).fit(CLIPS, y, X_val=CLIPS, y_val=np.full(24, 7 if y.dtype.kind in "ib" else "?")),
        lambda y: tiny(epochs=1, val_split=None).fit(CLIPS, y).explain(CLIPS[0], label=np.str_("?")),
        lambda y: evaluate(tiny(epochs=1, val_split=None).fit(CLIPS, y), CLIPS[:1], ["?"]),
        lambda y: check_name("subset", y[0], ["none"]),
    ],
    ids=["one class", "lost class", "split", "other classes", "unknown label", "explained", "evaluated", "name"],
)
def test_labels_are_told_as_python_writes_them(use, y):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            use(y)
        except ValueError as error:
            told.append(error)
    messages = " ".join(str(getattr(one, "message", one)) for one in told)
    assert messages
    assert "np." not in messages


@pytest.mark.parametrize("world_size", ["2", "16"])
def test_one_of_many_processes_says_that_each_trains_on_everything(world_size, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", world_size)
    for train in (lambda: tiny().fit(CLIPS, Y), lambda: tiny().partial_fit(CLIPS, Y, classes=[0, 1, 2])):
        with pytest.warns(
            UserWarning, match=f"WORLD_SIZE={world_size}.*trains its own model on all clips.*Start one process"
        ) as told:
            clf = train()
        assert len(told) == 1
        assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.partial_fit(CLIPS, Y).predict(CLIPS)  # told once


@pytest.mark.parametrize("world_size", ["1", "0", "", "many", None])
def test_one_process_is_told_nothing_of_others(world_size, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world_size is not None:
        monkeypatch.setenv("WORLD_SIZE", world_size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(epochs=1).fit(CLIPS, Y)


callback = pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")


class Watcher:
    """Counts epochs, scores each, and stops training after some."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.scores = []
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.events.append(f"end {context.task_name}")
        if context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(X, y))
        return self.stop_after is not None and len(self.scores) >= self.stop_after


def test_callbacks_see_every_epoch_with_a_fitted_estimator():
    watcher = Watcher()
    clf = tiny(val_split=None).set_callbacks(watcher).fit(CLIPS, Y)
    assert len(watcher.scores) == clf.n_epochs_ == 4
    assert watcher.scores[-1] == clf.score(CLIPS, Y)
    assert watcher.events[0] == "setup"
    assert watcher.events[-1] == "teardown"
    assert watcher.events.count("begin epoch") == watcher.events.count("end epoch") == 4


@pytest.mark.parametrize("params", [{}, {"ema_decay": 0.5}, {"keep": "last", "ema_decay": 0.5}], ids=str)
def test_callbacks_see_the_final_model_at_the_end(params):
    class Last(Watcher):
        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
            self.last = fitted_estimator.predict_proba(X)

    watcher = Last()
    clf = tiny(**params).set_callbacks(watcher).fit(CLIPS, Y)
    np.testing.assert_array_equal(watcher.last, clf.predict_proba(CLIPS))


def test_a_callback_stops_training_and_the_best_weights_stay():
    watcher = Watcher(stop_after=2)
    clf = tiny(epochs=50).set_callbacks(watcher).fit(CLIPS, Y)
    assert clf.n_epochs_ == 2
    assert clf.best_epoch_ in (1, 2)
    assert np.isfinite(clf.predict_proba(CLIPS)).all()


def test_callbacks_change_nothing_of_the_result():
    plain = tiny().fit(CLIPS, Y)
    watched = tiny().set_callbacks(Watcher()).fit(CLIPS, Y)
    np.testing.assert_array_equal(plain.predict_proba(CLIPS), watched.predict_proba(CLIPS))


def test_scikit_learns_own_callbacks_work():
    monitor = callback.ScoringMonitor(scoring="accuracy")
    tiny().set_callbacks(monitor).fit(CLIPS, Y)
    scores = monitor.get_logs().data_as_pandas
    assert (scores.task_name == "epoch").sum() == 4
    assert scores.accuracy.between(0, 1).all()
    bar = callback.ProgressBar()
    tiny().set_callbacks(bar).fit(CLIPS, Y)
