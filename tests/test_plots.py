"""Pictures: what is drawn is where it belongs, names can be read, and nothing outside the picture changes."""

import sys
from itertools import pairwise
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from skastw import ASTWClassifier, ASTWRegressor
from skastw.augment import Gain, OneOf, WaveformGain
from skastw.datasets import make_tones
from skastw.encoders import ParallelCNNEncoder
from skastw.errors import ClipError, ComponentError, MissingDependencyError
from skastw.features import LogMel
from skastw.plots import (
    AugmentationDisplay,
    EmbeddingDisplay,
    GroupScoresDisplay,
    LearningCurvesDisplay,
    OcclusionDisplay,
    ParetoDisplay,
    SpectrogramDisplay,
    WindowPredictionsDisplay,
)

RATE = 16000
TINY = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)
CLIPS, Y = make_tones(n_clips=36, n_classes=3, random_state=0)
NAMES = np.array(["_low $x$", "Größe, ёлка", "a very long name of a class, in which_the_middle is left out"])
MANY = np.array([f"Species of the genus no. {i}" for i in range(50)])


def tone(frequency, *, sample_rate=RATE, begin=0.0, seconds=1.0, level=0.5):
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = level * np.sin(2 * np.pi * frequency * time) * (time >= begin)
    return (sound + 0.001 * np.random.default_rng(0).standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def clf():
    augment = ["spec_augment", Gain(p=0.5), "mixup"]
    settings = {"normalization": "none", "ema_decay": None}
    return ASTWClassifier(encoder=TINY, augment=augment, epochs=10, muon_lr=0.03, **settings).fit(CLIPS, NAMES[Y])


@pytest.fixture(autouse=True)
def nothing_else_changes(monkeypatch):
    """Hold that no test shows a figure, or leaves another setting than it found."""
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: pytest.fail("plt.show was called"))
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


def windows(n=12, names=MANY, seed=0):
    scores = np.random.default_rng(seed).dirichlet(np.full(len(names), 0.1), size=n)
    table = pd.DataFrame({"clip": 0, "start": np.arange(n) / 2, "end": np.arange(n) / 2 + 1})
    return pd.concat([table, pd.DataFrame(scores, columns=names)], axis=1)


def points(names=MANY, n=400, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % len(names)
    return 3 * rng.normal(size=(len(names), 6))[label] + rng.normal(size=(n, 6)), names[label]


def predictions(names=MANY, n=600, seed=0):
    rng = np.random.default_rng(seed)
    y_true, group = rng.integers(4, size=n), np.arange(n) % len(names)
    return y_true, np.where(rng.random(n) < (group + 1) / len(names), y_true, (y_true + 1) % 4), names[group]


def comparison(names=MANY):
    rng = np.random.default_rng(0)
    scores, costs = rng.random(len(names)), 10 ** rng.normal(size=(5, len(names)))
    table = pd.DataFrame({"uar": scores, "uar_low": scores - 0.1, "uar_high": scores + 0.1}, index=names)
    table[["fit_seconds", "predict_seconds", "latency", "n_parameters", "n_bytes"]] = costs.T
    return SimpleNamespace(table=table, score="uar")


#: Each display, of few and of many classes.
DRAW = {
    "spectrogram": lambda clf, ax=None: SpectrogramDisplay.from_estimator(clf, CLIPS[0], ax=ax),
    "curves": lambda clf, ax=None: LearningCurvesDisplay.from_estimator(clf, ax=ax),
    "augmentations": lambda clf, ax=None: AugmentationDisplay.from_estimator(clf, CLIPS[0], n_versions=1, ax=ax),
    "windows": lambda clf, ax=None: WindowPredictionsDisplay.from_estimator(clf, CLIPS[0], window=0.1, ax=ax),
    "windows-50": lambda clf, ax=None: WindowPredictionsDisplay.from_predictions(windows(), clip=CLIPS[0], ax=ax),
    "embedding": lambda clf, ax=None: EmbeddingDisplay.from_estimator(clf, CLIPS, NAMES[Y], ax=ax),
    "embedding-50": lambda clf, ax=None: EmbeddingDisplay.from_embeddings(*points(), ax=ax),
    "occlusion": lambda clf, ax=None: OcclusionDisplay.from_estimator(clf, CLIPS[0], n_times=3, n_bands=4, ax=ax),
    "groups": lambda clf, ax=None: GroupScoresDisplay.from_estimator(clf, CLIPS, NAMES[Y], NAMES[Y], ax=ax),
    "pareto": lambda clf, ax=None: ParetoDisplay.from_comparison(comparison(MANY[:3]), ax=ax),
    "pareto-50": lambda clf, ax=None: ParetoDisplay.from_comparison(comparison(), cost="latency", ax=ax),
    "groups-50": lambda clf, ax=None: GroupScoresDisplay.from_predictions(*predictions(), ax=ax),
}


# ------------------------------------------------------------------ what all displays have in common


@pytest.mark.parametrize("name", DRAW)
def test_nothing_sticks_out_of_a_new_figure(clf, name):
    display = DRAW[name](clf)
    assert display.ax_.figure is display.figure_
    display.figure_.draw_without_rendering()
    box, (width, height) = display.figure_.get_tightbbox(), display.figure_.get_size_inches()
    assert -0.02 <= box.x0 < box.x1 <= width + 0.02
    assert -0.02 <= box.y0 < box.y1 <= height + 0.02


@pytest.mark.parametrize("name", DRAW)
def test_given_axes_are_used_and_no_figure_is_made(clf, name):
    figure, (left, right) = plt.subplots(1, 2, figsize=(16, 9))
    display = DRAW[name](clf, right)
    assert plt.get_fignums() == [figure.number]
    assert display.figure_ is figure
    assert not left.has_data()
    drawn = list(np.ravel(getattr(display, "axes_", display.ax_)))
    middle = (left.get_position().x1 + right.get_position().x0) / 2
    assert all(axes.get_position().x0 > middle for axes in drawn if axes.axison)
    figure.draw_without_rendering()


@pytest.mark.parametrize("name", ["curves", "windows", "occlusion"])
def test_each_panel_may_have_axes_of_its_own(clf, name):
    axes = [plt.subplots()[1] for _ in range(2)]
    assert list(DRAW[name](clf, axes).axes_) == axes
    with pytest.raises(ValueError, match="Got 3 axes, expected one to divide, or one for each of 2 panels"):
        DRAW[name](clf, [*axes, axes[0]])
    with pytest.raises(ValueError, match="outside a grid"):
        DRAW[name](clf, plt.figure().add_axes((0.1, 0.1, 0.8, 0.8)))


def test_a_subfigure_is_drawn_in(clf):
    figure = plt.figure(figsize=(12, 6), layout="constrained")
    for name, part in zip(["occlusion", "groups-50", "embedding-50"], figure.subfigures(1, 3), strict=True):
        assert DRAW[name](clf, part.subplots()).figure_ is part
    figure.draw_without_rendering()


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_the_error_names_the_extra(clf, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"Display needs the package 'matplotlib'.*skastw\[plot\]"):
        DRAW[name](clf)


@pytest.mark.parametrize("name", ["curves", "windows", "embedding", "occlusion", "groups"])
def test_an_estimator_that_is_not_fitted_is_an_error(name):
    with pytest.raises(NotFittedError):
        DRAW[name](ASTWClassifier())


@pytest.mark.parametrize("name", ["spectrogram", "augmentations"])
def test_front_end_and_augmentations_can_be_looked_at_before_fit(name):
    assert DRAW[name](ASTWClassifier()).ax_.has_data()


@pytest.mark.parametrize("name", ["spectrogram", "windows", "occlusion", "augmentations"])
def test_a_clip_that_cannot_be_read_is_named(clf, name, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "CLIPS", ["lost.wav", CLIPS[1]])
    with pytest.raises(ClipError, match=r"lost\.wav"):
        DRAW[name](clf)


def test_settings_of_the_user_are_kept(clf):
    with matplotlib.rc_context(
        {"figure.figsize": (5, 3), "image.cmap": "cividis", "axes.prop_cycle": plt.cycler(color="rg")}
    ):
        spectrogram = SpectrogramDisplay.from_clip(CLIPS[0])
        curves = LearningCurvesDisplay.from_estimator(clf)
    assert spectrogram.image_.get_cmap().name == "cividis"
    assert spectrogram.figure_.get_size_inches().tolist() == [5, 3]
    assert [line.get_color() for line in curves.lines_] == ["r", "g", "r", "g"]
    usual = LearningCurvesDisplay.from_estimator(clf).lines_
    assert same_color(usual[0].get_color(), "#0072B2")


# ------------------------------------------------------------------ spectrograms


def ridge(display, frame):
    """Return the borders (Hz) of the loudest cell of a frame, as they are drawn."""
    mesh = display.image_.get_coordinates()
    values = np.ma.filled(display.image_.get_array()).reshape(mesh.shape[0] - 1, -1)
    loudest = int(values[:, frame].argmax())
    return mesh[loudest, frame, 1], mesh[loudest + 1, frame, 1]


@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [(16000, {}), (8000, {"n_mels": 40}), (44100, {"n_fft": 2048, "hop_length": 441, "fmin": 200.0, "fmax": 9000.0})],
)
@pytest.mark.parametrize("frequency", [440.0, 1000.0, 3100.0])
def test_the_ridge_of_a_tone_lies_at_its_frequency(sample_rate, settings, frequency):
    clip = tone(frequency, sample_rate=sample_rate)
    display = SpectrogramDisplay.from_clip(clip, LogMel(**settings), sample_rate=sample_rate)
    low, high = ridge(display, len(display.times) // 2)
    assert low - 0.01 * frequency <= frequency <= high + 0.01 * frequency
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("time (s)", "frequency (Hz)")
    assert display.colorbar_.ax.get_ylabel() == "level (dB)"


def test_a_sound_lies_at_its_time():
    display = SpectrogramDisplay.from_clip(tone(1000.0, begin=0.6, seconds=1.0))
    assert display.ax_.get_xlim() == pytest.approx((-0.005, 0.995))
    band = np.abs(display.frequencies - 1000).argmin()
    loud = display.values[:, band] > display.values.max() - 6
    assert display.times[loud].min() == pytest.approx(0.6, abs=0.015)
    edges = display.image_.get_coordinates()[0, :, 0]
    assert np.allclose((edges[:-1] + edges[1:]) / 2, display.times)


def test_equal_mel_are_equally_high():
    display = SpectrogramDisplay.from_clip(CLIPS[0])
    heights = display.ax_.transData.transform([(0, hz) for hz in display.frequencies])[:, 1]
    assert np.diff(heights) == pytest.approx(np.full(79, np.diff(heights).mean()), rel=1e-6)


def test_a_factor_of_two_is_six_decibels():
    soft, loud = (SpectrogramDisplay.from_clip(factor * tone(1000.0)).values for factor in (0.5, 1.0))
    assert (loud - soft).max() == pytest.approx(6.02, abs=0.01)
    assert loud.max() == pytest.approx(SpectrogramDisplay.from_clip(tone(1000.0)).image_.get_clim()[1])


@pytest.mark.parametrize("features", ["mfcc", "pcen"])
def test_other_front_ends_have_other_axes(features):
    display = SpectrogramDisplay.from_clip(CLIPS[0], features)
    assert display.ax_.get_ylabel() == {"mfcc": "bin", "pcen": "frequency (Hz)"}[features]
    assert display.quantity == "value"


def test_precomputed_frames_are_drawn_as_they_are():
    clf = ASTWClassifier(features="precomputed")
    frames = np.random.default_rng(0).random((30, 12), dtype=np.float32)
    display = SpectrogramDisplay.from_estimator(clf, frames)
    assert (display.values == frames).all()
    assert display.ax_.get_ylim() == (-0.5, 11.5)


@pytest.mark.parametrize("clip", [CLIPS[0][:1], np.zeros(8000, dtype=np.float32)], ids=["one sample", "silence"])
def test_the_least_of_clips_is_drawn(clip):
    display = SpectrogramDisplay.from_clip(clip)
    left, right = display.ax_.get_xlim()
    assert right - left == pytest.approx(len(display.values) / 100)
    display.figure_.draw_without_rendering()


def test_a_long_clip_is_drawn_with_few_columns():
    values = np.zeros((100_001, 3), dtype=np.float32)
    values[50_000:50_100] = 1.0
    display = SpectrogramDisplay(values, frame_rate=100.0, frequencies=np.array([500.0, 1000.0, 2000.0])).plot()
    mesh = display.image_.get_coordinates()
    assert mesh.shape[1] <= 4001
    assert display.ax_.get_xlim() == pytest.approx((-0.005, 1000.005))
    drawn = np.ma.filled(display.image_.get_array()).reshape(3, -1)[0]
    assert mesh[0, drawn.argmax(), 0] == pytest.approx(500.0, abs=0.5)
    assert drawn.max() == 1.0


def test_an_unknown_front_end_is_an_error():
    with pytest.raises(ComponentError, match="mell"):
        SpectrogramDisplay.from_clip(CLIPS[0], "mell")


# ------------------------------------------------------------------ learning curves


def test_the_curves_are_the_history(clf):
    display = LearningCurvesDisplay.from_estimator(clf)
    drawn = [line.get_ydata().tolist() for line in display.lines_]
    keys = ["loss", "val_loss", "val_accuracy", "val_macro_f1"]
    assert drawn == [[row[key] for row in clf.history_] for key in keys]
    assert display.lines_[0].get_xdata().tolist() == list(range(1, 11))
    for axes in display.axes_:
        assert axes.get_lines()[-1].get_xdata() == [clf.best_epoch_] * 2
        assert f"epoch {clf.best_epoch_}, selected" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_loaded_model_has_the_same_curves(clf, tmp_path):
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "tones"))
    shown = LearningCurvesDisplay.from_estimator(loaded)
    assert shown.losses == LearningCurvesDisplay.from_estimator(clf).losses
    assert shown.best_epoch == clf.best_epoch_


def test_without_validation_there_is_one_panel():
    clf = ASTWClassifier(encoder=TINY, epochs=1, val_split=None).fit(CLIPS, Y)
    display = LearningCurvesDisplay.from_estimator(clf)
    assert len(display.axes_) == 1
    assert list(display.losses) == ["training loss"]
    assert display.lines_[0].get_marker() == "o"  # a line of one point is nothing


def test_a_regressor_has_its_own_score():
    display = LearningCurvesDisplay.from_estimator(ASTWRegressor(encoder=TINY, epochs=2).fit(CLIPS, Y * 1.5))
    assert list(display.scores) == ["R²"]


# ------------------------------------------------------------------ augmentations


def titles(display):
    return [axes.get_title() for axes in display.axes_.flat if axes.get_title()]


def test_each_augmentation_is_named_and_has_its_versions(clf):
    display = AugmentationDisplay.from_estimator(clf, CLIPS[0], partner=CLIPS[1], n_versions=2)
    names = ["spec_augment", "gain", "mixup", "all together"]
    assert titles(display) == [title for name in names for title in ("the clip", f"{name}, 1", f"{name}, 2")]
    for _, (first, second) in display.versions:
        assert not np.array_equal(first.values, second.values)
    assert clf.augment[1].p == 0.5


def test_without_a_partner_nothing_is_mixed(clf):
    display = AugmentationDisplay.from_estimator(clf, CLIPS[0], n_versions=1)
    assert titles(display) == ["the clip", "spec_augment", "gain", "all together"]
    with pytest.raises(ValueError, match="partner"):
        AugmentationDisplay.from_clip(CLIPS[0], "mixup")
    with pytest.raises(ValueError, match="augment=None"):
        AugmentationDisplay.from_estimator(ASTWClassifier(augment=None), CLIPS[0])


def test_gain_adds_the_same_everywhere():
    display = AugmentationDisplay.from_clip(CLIPS[0], Gain(p=0.0))  # a version is always augmented
    difference = display.versions[0][1][0].values - display.original.values
    assert difference == pytest.approx(np.full_like(difference, difference[0, 0]), abs=1e-3)
    assert abs(difference[0, 0]) > 0.01


def test_augmented_waveforms_are_drawn_as_their_frames():
    augmentations = [
        WaveformGain(min_gain=-6.0, max_gain=-6.0, p=0.1),
        OneOf(augmentations=["waveform_speed"]),
        "mixup",
    ]
    display = AugmentationDisplay.from_clip(CLIPS[0], augmentations, partner=CLIPS[1])
    assert titles(display) == ["the clip", "waveform_gain", "one_of", "mixup", "all together"]
    original, (gain, speed, *_) = display.original.values, [version.values for _, (version,) in display.versions]
    np.testing.assert_allclose(
        gain[original > original.max() - 60], original[original > original.max() - 60] - 6, atol=1e-3
    )
    assert len(speed) != len(original), "inner augmentations are applied too"
    with pytest.raises(ValueError, match="precomputed"):
        AugmentationDisplay.from_clip(original, "waveform_gain", features="precomputed")


def test_all_panels_have_one_scale():
    display = AugmentationDisplay.from_clip(CLIPS[0], ["random_crop", "gain"], random_state=3)
    assert (
        len({shown.image_.get_clim() for _, (shown,) in display.versions} | {display.original.image_.get_clim()}) == 1
    )
    assert len({axes.get_xlim() for axes in display.axes_.flat if axes.axison}) == 1
    assert len(display.versions[0][1][0].values) < len(display.original.values)


def test_a_seed_repeats_the_versions():
    def drawn(seed):
        return AugmentationDisplay.from_clip(CLIPS[0], "spec_augment", random_state=seed).versions[0][1][0].values

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    with pytest.raises(ValueError, match="n_versions=0"):
        AugmentationDisplay.from_clip(CLIPS[0], "gain", n_versions=0)


# ------------------------------------------------------------------ windows


def test_the_class_of_a_tone_rises_when_the_tone_begins(clf):
    clip = tone(600.0, begin=1.0, seconds=2.0)
    display = WindowPredictionsDisplay.from_estimator(clf, clip, window=0.25, hop=0.125)
    top, below = display.axes_
    assert top.get_xlim() == below.get_xlim() == pytest.approx((-0.005, 1.995))
    time, probability = display.lines_[list(display.predictions.columns[2:]).index(NAMES[1])].get_data()
    assert probability[time > 1.2].min() > max(0.5, probability[time < 0.8].max())


def test_a_class_that_is_named_like_a_column_keeps_its_name():
    table = windows(names=["clip (label)", "owl"])
    for display in (
        WindowPredictionsDisplay.from_predictions(table, k=2),
        WindowPredictionsDisplay.from_predictions(table, labels=["clip", "owl"]),
    ):
        assert sorted(text.get_text() for text in display.legend_.get_texts()) == ["clip", "owl"]


def test_points_lie_in_the_middle_of_their_windows():
    display = WindowPredictionsDisplay.from_predictions(windows(n=3))
    assert display.lines_[0].get_xdata().tolist() == [0.5, 1.0, 1.5]
    assert display.ax_.get_xlim() == (0.0, 2.0)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("time (s)", "probability")


def test_the_classes_with_the_highest_peaks_are_drawn():
    table = windows()
    expected = table[list(MANY)].max().sort_values(ascending=False).index[:8].tolist()
    display = WindowPredictionsDisplay.from_predictions(table, k=8)
    assert display.predictions.columns[2:].tolist() == expected
    looks = {(line.get_color(), line.get_linestyle()) for line in display.lines_}
    assert len(looks) == 8
    chosen = WindowPredictionsDisplay.from_predictions(table, labels=[MANY[3], MANY[1]])
    assert [text.get_text() for text in chosen.legend_.get_texts()] == [MANY[3], MANY[1]]


def test_names_are_written_as_they_are():
    display = WindowPredictionsDisplay.from_predictions(windows(names=NAMES), labels=list(NAMES))
    texts = display.legend_.get_texts()
    shown = [text.get_text() for text in texts]
    assert shown[:2] == list(NAMES[:2])
    assert shown[2].startswith("a very long")
    assert shown[2].endswith("left out")
    assert len(shown[2]) <= 28
    assert not any(text.get_parse_math() for text in texts)


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        (windows().drop(columns="start"), {}, r"without the columns \['start'\]"),
        (pd.concat([windows(), windows().assign(clip=1)]), {}, "2 clips"),
        (windows()[:0], {}, "0 clips"),
        (windows().assign(start=np.nan), {}, "expected a clip that can be read; failed_ has the reason"),
        (windows(), {"labels": ["dog"]}, "'dog'"),
        (windows(), {"k": 0}, "k=0"),
    ],
)
def test_predictions_that_cannot_be_drawn_are_errors(table, arguments, message):
    with pytest.raises(ValueError, match=message):
        WindowPredictionsDisplay.from_predictions(table, **arguments)


# ------------------------------------------------------------------ embeddings


def test_the_points_are_principal_components(clf):
    display = EmbeddingDisplay.from_estimator(clf, CLIPS, NAMES[Y])
    pca = PCA(2, svd_solver="full")
    assert np.allclose(display.points, pca.fit_transform(clf.transform(CLIPS)), atol=1e-4)
    share = 100 * pca.explained_variance_ratio_[1]
    assert display.ax_.get_ylabel() == f"component 2 ({share:.1f} % of variance)"
    drawn = display.points_[0].get_offsets()
    assert np.allclose(drawn, display.points[NAMES[Y] == np.unique(NAMES)[0]])


@pytest.mark.parametrize("n_clips", [3, 5, 40])
def test_tsne_takes_small_sets(n_clips):
    E, y = points(NAMES, n=n_clips)
    display = EmbeddingDisplay.from_embeddings(E, y, method="tsne")
    assert display.points.shape == (n_clips, 2)
    assert display.perplexity == max(1.0, min(30.0, (n_clips - 1) / 3))
    assert display.ax_.get_xlabel() == "t-SNE 1"


def test_names_of_many_classes_do_not_hide_each_other():
    display = EmbeddingDisplay.from_embeddings(*points())
    display.figure_.draw_without_rendering()
    boxes = [text.get_window_extent() for text in display.texts_]
    assert len(boxes) >= 20
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    looks = {(tuple(part.get_facecolor()[0]), part.get_paths()[0].vertices.tobytes()) for part in display.points_}
    assert len(looks) == 50


def test_values_have_a_colour_bar():
    E, _ = points()
    display = EmbeddingDisplay.from_embeddings(E, E[:, 0])
    assert display.colorbar_.ax.get_ylabel() == "value"
    assert display.legend_ is None


def test_clips_that_cannot_be_read_are_left_out():
    clf = ASTWClassifier(encoder=TINY, epochs=1, val_split=None, on_error="ignore").fit(CLIPS, Y)
    display = EmbeddingDisplay.from_estimator(clf, [*CLIPS, "lost.wav"], [*Y, 2])
    assert len(display.points) == len(display.y) == len(CLIPS)
    scores = GroupScoresDisplay.from_estimator(clf, [*CLIPS, "lost.wav"], [*Y, 2], [*Y, 7])
    assert sorted(scores.groups) == [0, 1, 2]
    assert scores.overall == accuracy_score(Y, clf.predict(CLIPS))


def test_embeddings_that_cannot_be_drawn_are_errors():
    E, y = points(NAMES, n=9)
    with pytest.raises(ValueError, match="method='umap'"):
        EmbeddingDisplay.from_embeddings(E, y, method="umap")
    with pytest.raises(ValueError, match="inconsistent"):
        EmbeddingDisplay.from_embeddings(E, y[:-1])
    with pytest.raises(ValueError, match="minimum of 2"):
        EmbeddingDisplay.from_embeddings(E[:1], y[:1])


# ------------------------------------------------------------------ groups


def test_each_group_has_its_score():
    y_true, y_pred, groups = predictions()
    display = GroupScoresDisplay.from_predictions(y_true, y_pred, groups, scoring="f1_macro")
    assert (np.diff(display.scores) >= 0).all()
    for group, score, count in zip(display.groups, display.scores, display.counts, strict=True):
        own = groups == group
        assert score == f1_score(y_true[own], y_pred[own], average="macro")
        assert count == own.sum()
    assert display.overall_.get_xdata() == [f1_score(y_true, y_pred, average="macro")] * 2
    assert display.points_.get_xdata().tolist() == display.scores.tolist()
    assert display.ax_.get_xlabel() == "f1 macro"


def test_an_estimator_is_scored_by_its_predictions(clf):
    groups = np.arange(len(CLIPS)) % 5
    display = GroupScoresDisplay.from_estimator(clf, CLIPS, NAMES[Y], groups, scoring=accuracy_score)
    assert display.overall == clf.score(CLIPS, NAMES[Y])
    assert sorted(display.groups) == [0, 1, 2, 3, 4]
    errors = GroupScoresDisplay.from_predictions(Y, Y + 0.5, groups, scoring="neg_mean_absolute_error")
    assert errors.overall == -mean_absolute_error(Y, Y + 0.5)


@pytest.mark.parametrize("given", [False, True], ids=["new figure", "given axes"])
def test_names_of_many_groups_do_not_touch(given):
    ax = plt.subplots()[1] if given else None
    display = GroupScoresDisplay.from_predictions(*predictions(), ax=ax)
    display.figure_.draw_without_rendering()
    texts = [label for label in display.ax_.get_yticklabels() if label.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    assert len(texts) == (25 if given else 50)
    assert all(text.get_text().endswith("(12)") for text in texts)
    assert min(text.get_fontsize() for text in texts) >= 6.5


def test_the_worst_group_is_on_top():
    ax = GroupScoresDisplay.from_predictions([0, 1, 0, 1], [0, 1, 1, 1], list("aabb")).ax_
    ax.figure.draw_without_rendering()
    heights = {label.get_text(): label.get_window_extent().y0 for label in ax.get_yticklabels()}
    assert heights["b (2)"] > heights["a (2)"]


@pytest.mark.filterwarnings("error")
def test_a_group_without_some_class_is_no_news():
    display = GroupScoresDisplay.from_predictions([0, 0, 1, 1], [0, 1, 1, 0], list("aabb"), scoring="balanced_accuracy")
    assert display.scores.tolist() == [0.5, 0.5]


def test_scores_of_probabilities_are_an_error():
    with pytest.raises(ValueError, match="neg_log_loss"):
        GroupScoresDisplay.from_predictions(*predictions(), scoring="neg_log_loss")
    with pytest.raises(ValueError, match="inconsistent"):
        GroupScoresDisplay.from_predictions([0, 1], [0, 1], ["a"])


# ------------------------------------------------------------------ occlusion


def test_saliency_lies_over_the_spectrogram(clf):
    clip = tone(600.0, begin=0.5)
    display = OcclusionDisplay.from_estimator(clf, clip, label=NAMES[1], n_times=10, n_bands=20)
    above, below = display.axes_
    assert below is display.ax_
    assert above.get_xlim() == below.get_xlim() == pytest.approx((-0.005, 0.995))
    assert above.get_ylim() == below.get_ylim()
    mesh = display.image_.get_coordinates()
    saliency = np.ma.filled(display.image_.get_array()).reshape(20, 10)
    assert np.array_equal(saliency.T, display.occlusion.saliency)
    band, time = np.unravel_index(saliency.argmax(), saliency.shape)
    assert mesh[band, time, 0] >= 0.39
    assert mesh[band + 1, time, 1] > 0.8 * 600
    assert mesh[band, time, 1] < 1.2 * 600
    low, high = display.image_.get_clim()
    assert low == -high
    assert above.get_title() == f"{NAMES[1]}: probability {display.occlusion.probability:.2f}"


# ------------------------------------------------------------------ comparisons


def test_the_best_models_are_surpassed_by_none():
    scores, costs = np.array([0.7, 0.9, 0.9, 0.6, 0.8]), np.array([1.0, 5.0, 5.0, 0.5, 7.0])
    assert ParetoDisplay(list("abcde"), scores, costs).best == ["d", "a", "b"]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        scores, costs = rng.integers(5, size=12) / 5, rng.integers(1, 5, size=12) * 1.0
        best = {int(name) for name in ParetoDisplay([str(i) for i in range(12)], scores, costs).best}
        for i in range(12):
            ahead = (scores >= scores[i]) & (costs <= costs[i]) & ((scores > scores[i]) | (costs < costs[i]))
            assert not (i in best and ahead.any())
            assert any(scores[j] >= scores[i] and costs[j] <= costs[i] for j in best)


def test_models_without_a_score_or_this_cost_are_left_out():
    result = comparison(np.array(["a", "b", "c"]))
    result.table.loc["a", "uar"] = result.table.loc["b", "n_bytes"] = np.nan
    display = ParetoDisplay.from_comparison(result)
    assert display.names == ["c"]
    np.testing.assert_allclose(display.costs, result.table.loc[["c"], "n_bytes"] / 1e6)
    assert ParetoDisplay.from_comparison(result, cost="latency").names == ["b", "c"]
    with pytest.raises(ValueError, match="Got cost='size', expected one of"):
        ParetoDisplay.from_comparison(result, cost="size")
