"""What a user sees: progress, callbacks, representations, plots of the history."""

import inspect
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import sklearn

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.analysis import Occlusion, embedding_table
from skastw.data.failures import FailedClip, FailedClips
from skastw.datasets import describe_audio, fetch_dataset, load_audio_folder, load_audio_table, make_tones
from skastw.datasets._public_set import check_name
from skastw.encoders import ASTWEncoder
from skastw.evaluation import evaluate, evaluate_predictions
from skastw.features import LogMel
from skastw.runs import make_folds, parse_run

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
    clf = tiny(verbose=2, teacher="resnet").fit(CLIPS, Y)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 8
    for number, line in enumerate(lines[:4], start=1):
        assert line.startswith(f"teacher, epoch {number} of 4: loss ")
    for number, (line, row) in enumerate(zip(lines[4:], clf.history_, strict=True), start=1):
        assert line.startswith(f"epoch {number} of 4: loss {row['loss']:.3f}, ")
        assert f"val_macro_f1 {row['val_macro_f1']:.3f}" in line
        assert "\r" not in line


def test_repr_shows_what_was_changed():
    assert repr(ASTWClassifier()) == "ASTWClassifier()"
    assert repr(ASTWClassifier(epochs=5)) == "ASTWClassifier(epochs=5)"
    shown = repr(ASTWClassifier(encoder=ASTWEncoder(d_model=192)))
    assert shown == "ASTWClassifier(encoder=ASTWEncoder(d_model=192))"


def test_the_html_diagram_shows_components():
    html = tiny(pooling="attentive_stats", augment="spec_augment")._repr_html_()
    for expected in ("ASTWClassifier", "ASTWEncoder", "AttentiveStatsPooling", "LogMel", "SpecAugment"):
        assert expected in html
    assert "Precomputed" in ASTWClassifier(features="precomputed")._repr_html_()
    assert "LogMel" in ASTWFeaturizer()._repr_html_()


HOSTILE = "<script>alert('1')</script> & owl\nwren"


class Text(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def results():
    """Return results that are long, with texts that HTML must not take for tags."""
    labels = np.array([f"{HOSTILE} {i}" for i in range(30)])
    failed = FailedClips(FailedClip(i, f"{HOSTILE}.wav", f"{HOSTILE} cannot be decoded.") for i in range(40))
    scored = evaluate_predictions(labels, labels[::-1], groups=np.arange(30) % 2, classes=[*labels, HOSTILE, "z"])
    rng = np.random.default_rng(0)
    saliency, places = rng.normal(size=(40, 16)).astype(np.float32), (np.arange(40) / 10, np.arange(16))
    values = [f"{HOSTILE} {i}" for i in range(30)]
    description = describe_audio(CLIPS[:20], pd.DataFrame(rng.normal(size=(20, 30)), columns=values))
    return {
        "evaluation": replace(scored, failed=failed, trained_on=True),
        "failed clips": failed,
        "explanation": Occlusion(HOSTILE, 0.5, saliency, *places, None),
        "description": replace(description, warnings=[f"{HOSTILE} {i}" for i in range(20)]),
    }


@pytest.mark.parametrize("kind", ["evaluation", "failed clips", "explanation", "description"])
def test_results_are_shown_in_few_lines_and_escaped(results, kind):
    shown, page = repr(results[kind]), results[kind]._repr_html_()
    assert 3 <= len(shown.splitlines()) <= 15
    assert "owl" in shown
    parsed = Text(page)
    assert parsed.tags <= {"div", "p", "b", "table", "tr", "th", "td", "ul", "li"}
    assert "<script>alert('1')</script> & owl" in parsed.text
    assert page.encode()


def test_the_short_text_of_an_evaluation_names_the_hardest_classes():
    truth = np.repeat([*"abcdefgh"], 4)
    predicted = np.where((truth == "c") & (np.arange(32) % 4 < 3), "a", truth)
    lines = repr(evaluate_predictions(truth, predicted)).splitlines()
    assert lines[0].startswith("accuracy 0.906 [")
    assert lines[1] == "* The table has the 6 classes with the lowest recall; per_class has 8."
    assert lines[2].split() == ["class", "precision", "recall", "F1", "clips"]
    assert lines[3].split() == ["c", "1.000", "0.250", "0.400", "4"]
    assert len(lines) == 9


def test_an_explanation_is_shown_with_its_strongest_parts():
    saliency = np.zeros((4, 3), dtype=np.float32)
    saliency[2, 1], saliency[0, 2] = 1.5, -2.0
    shown = repr(Occlusion("owl", 0.9, saliency, np.arange(4) / 2, np.arange(3.0), np.array([100.0, 200.0, 400.0])))
    title, first, second, *_ = shown.splitlines()
    assert title.startswith("Class owl, probability 0.900")
    assert (first, second) == ("* at 0.00 s, 400 Hz: -2.000", "* at 1.00 s, 200 Hz: +1.500")


def test_clips_that_failed_are_a_list_that_is_shown_in_lines():
    clf = tiny(epochs=1, on_error="ignore").fit([*CLIPS[:20], "lost.wav"], [*Y[:20], Y[0]])
    assert repr(clf.failed_).startswith("1 clip cannot be used:\n* Clip 20 ('lost.wav'): no such file")
    assert clf.failed_ == [FailedClip(20, "lost.wav", clf.failed_[0].reason)]
    assert type(clf.failed_[0].index) is int
    clf.predict(CLIPS[:2])
    assert repr(clf.failed_) == "[]"
    assert Text(clf.failed_._repr_html_()).text.split() == ["0", "clips", "cannot", "be", "used"]


def test_columns_of_embeddings_are_named_by_what_they_hold():
    clf = tiny(epochs=1).fit(CLIPS, Y)
    width = clf.transform(CLIPS[:1]).shape[1]
    assert clf.get_feature_names_out().tolist() == [f"embedding_{i}" for i in range(width)]
    assert embedding_table(clf, CLIPS[:2]).columns.tolist() == ["clip", *clf.get_feature_names_out()]
    assert clf.set_output(transform="pandas").transform(CLIPS[:2]).columns[0] == "embedding_0"


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


class Subclass(ASTWClassifier):
    pass


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: ASTWClassifier().fit(CLIPS, Y, epochs=3), "ASTWClassifier(epochs=3).fit(X, y)"),
        (lambda: Subclass().fit(CLIPS, Y, epochs=3, batch_size=8), "Subclass(epochs=3, batch_size=8).fit(X, y)"),
        (lambda: ASTWRegressor().fit(CLIPS, Y, epochs=np.int64(3)), "ASTWRegressor(epochs=3).fit(X, y)"),
        (lambda: ASTWFeaturizer().fit(CLIPS, sample_rate=8000), "ASTWFeaturizer(sample_rate=8000).fit(X)"),
        (lambda: ASTWClassifier().fit_transform(CLIPS, Y, epochs=3), "ASTWClassifier(epochs=3).fit(X, y)"),
        (lambda: ASTWClassifier().partial_fit(CLIPS, Y, epochs=3), "ASTWClassifier(epochs=3).partial_fit(X, y)"),
        (lambda: ASTWClassifier().predict(CLIPS, batch_size=8), "set_params(batch_size=8).predict(X)"),
        (
            lambda: ASTWClassifier().predict(CLIPS, top_k=3),
            "ASTWClassifier.predict() has no argument 'top_k': write pred",
        ),
        (
            lambda: Subclass().predict(CLIPS, top_k=3),
            "Subclass.predict() has no argument 'top_k': write predict_top_k(X, k=3)",
        ),
        (
            lambda: ASTWRegressor().predict(CLIPS, top_k=3),
            "ASTWRegressor.predict() has no argument 'top_k', expected one of X.",
        ),
        (lambda: ASTWClassifier().fit(CLIPS, Y, val_audios=CLIPS), "'val_audios': write X_val= and y_val=."),
        (lambda: ASTWClassifier().fit(CLIPS, Y, validation_data=(CLIPS, Y)), "write X_val= and y_val=."),
        (lambda: ASTWClassifier().fit(audios=CLIPS, labels=Y), "'audios': write X=."),
        (lambda: ASTWClassifier().fit(CLIPS, Y, group=Y), "'group'; did you mean 'groups'?"),
        (
            lambda: ASTWClassifier().fit(CLIPS, Y, Y),
            "takes 2 arguments without names (X, y), got 3; name the others: sample",
        ),
        (lambda: ASTWClassifier().fit(CLIPS), "ASTWClassifier.fit() is missing a required argument: 'y'"),
        (
            lambda: Subclass.from_pretrained("x", revison="main"),
            "Subclass.from_pretrained() has no argument 'revison'; did",
        ),
        (lambda: ASTWClassifier(epoch=3), "ASTWClassifier has no parameter 'epoch'; did you mean 'epochs'?"),
        (lambda: ASTWFeaturizer(feature="mfcc"), "ASTWFeaturizer has no parameter 'feature'; did you mean 'features'?"),
        (lambda: ASTWEncoder(dmodel=3), "ASTWEncoder has no parameter 'dmodel'; did you mean 'd_model'?"),
        (lambda: ASTWClassifier().save("x"), "ASTWClassifier has no method 'save': write save_pretrained(folder)."),
        (lambda: Subclass.load("x"), "Subclass has no method 'load': write from_pretrained(folder)."),
        (lambda: ASTWFeaturizer().save("x"), "ASTWFeaturizer has no method 'save': write clf.save_pretrained("),
        (lambda: ASTWClassifier().fit(CLIPS[0], [0]), "write predict([waveform])"),
        (lambda: ASTWFeaturizer().fit(CLIPS).transform(CLIPS[0]), "write transform([waveform])"),
    ],
)
def test_calls_of_other_programs_are_told_what_to_write(use, message):
    with pytest.raises((TypeError, AttributeError, ValueError)) as caught:
        use()
    assert message in str(caught.value)


def test_explained_methods_look_the_same_to_scikit_learn():
    taken = ["self", "X", "y", "sample_weight", "groups", "X_val", "y_val", "sample_weight_val"]
    assert list(inspect.signature(Subclass.fit).parameters) == taken
    assert "epochs" in inspect.signature(ASTWClassifier).parameters
    assert not any(hasattr(owner, name) for owner in (tiny(), Subclass, ASTWFeaturizer()) for name in ("save", "load"))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = Subclass().set_fit_request(groups=True, sample_weight=False).get_metadata_routing().fit.requests
    assert set(routed) == {*taken[3:]}
    assert (routed["groups"], routed["sample_weight"]) == (True, False)


def fitting(**params):
    return lambda: ASTWClassifier(**params).fit(CLIPS, Y)


@pytest.mark.parametrize(
    ("use", "meant"),
    [
        (fitting(encoder="resnett"), "resnet"),
        (fitting(encoder="ASTW"), "astw"),
        (fitting(features="logmel"), "log_mel"),
        (fitting(augment="specaugment"), "spec_augment"),
        (fitting(pooling="atentive_stats"), "attentive_stats"),
        (fitting(normalization="perbin"), "per_bin"),
        (fitting(precision="bf61"), "bfloat16"),
        (fitting(device="gpu"), "cuda"),
        (fitting(device="cudaa"), "cuda"),
        (fitting(cache="dsik"), "disk"),
        (fitting(class_weight={"zebra": 2}, encoder=TINY), None),
        (lambda: tiny().set_params(epoch=3), "epochs"),
        (lambda: tiny().set_params(encoder__dmodel=3), "d_model"),
        (lambda: ASTWClassifier.from_recipe("smal"), "small"),
        (lambda: fetch_dataset("ESC-50"), "esc50"),
        (lambda: load_audio_table(pd.DataFrame({"audio": ["a"], "kind": ["b"]}), label_column="kidn"), "kind"),
        (lambda: load_audio_folder("no/such/place"), None),
    ],
)
def test_a_near_miss_is_suggested(use, meant):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        use()
    assert ("did you mean" in str(caught.value)) == (meant is not None)
    assert meant is None or str(caught.value).endswith(f"; did you mean {meant!r}?")


@pytest.mark.parametrize(
    "use",
    [
        fitting(encoder=np.str_("resnett")),
        fitting(device=np.str_("gpu")),
        fitting(epochs=np.int64(-3)),
        fitting(muon_lr=np.float32(-3)),
        fitting(encoder=ASTWEncoder(d_model=np.int64(-3))),
        fitting(features=LogMel(fmin=np.float64(9000), fmax=np.float64(3000))),
        fitting(class_weight={np.int64(7): np.float32(2)}, encoder=TINY),
        lambda: ASTWClassifier(class_weight={np.int64(0): np.float32(2)}).fit(CLIPS, np.eye(2, dtype=int)[Y % 2]),
        lambda: tiny().set_params(**{np.str_("epoch"): 3}),
        lambda: ASTWFeaturizer(output=np.str_("frame")).fit(CLIPS),
        lambda: ASTWFeaturizer().fit([np.float32(3), CLIPS[0]]).transform([np.float32(3), CLIPS[0]]),
        lambda: ASTWFeaturizer().fit_transform([np.str_("lost.wav")]),
        lambda: ASTWFeaturizer().fit_transform([{"path": "a.wav", "start": np.str_("b")}]),
        lambda: parse_run({"data": {"set": "a"}, "output": "b", "split": {"test_groups": np.str_("a")}}, "mine"),
        lambda: make_folds(Y, Y, {}, {"test_groups": [np.int64(7), np.str_("a")]}),
        lambda: make_folds(Y, Y, {"1": Y}, {"test_fold": np.int64(7)}),
        lambda: load_audio_table(pd.DataFrame({"audio": [np.int64(1)], "label": ["a"]}, dtype=object)),
        lambda: load_audio_table(pd.DataFrame({np.str_("audio"): ["a"]}), label_column=np.str_("b")),
        lambda: fetch_dataset(np.str_("esc500")),
        lambda: fetch_dataset("esc50", subset=np.str_("animal")),
        lambda: load_audio_folder(np.str_("lost")),
    ],
)
def test_no_message_shows_a_type_of_numpy(use):
    with pytest.raises((ValueError, TypeError)) as caught:
        use()
    assert "np." not in str(caught.value)


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
