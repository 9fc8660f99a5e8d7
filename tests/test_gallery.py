"""The scripts of the gallery run, and show what they say."""

import runpy
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from skastw.augment import Augment
from skastw.core.component import component_names

GALLERY = Path(__file__).parent.parent / "examples" / "gallery"


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a script and returns its variables; nothing is shown."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    yield lambda name: runpy.run_path(str(GALLERY / f"plot_{name}.py"))
    plt.close("all")


def test_every_script_has_a_test_here():
    here = Path(__file__).read_text(encoding="utf-8")
    assert all(f'run("{path.stem.removeprefix("plot_")}")' in here for path in GALLERY.glob("plot_*.py"))


def test_a_small_network_knows_digits_by_voices_that_it_never_heard(run):
    found = run("1_unheard_voices")
    assert not set(found["voices"][found["train"]]) & set(found["voices"][found["test"]])
    assert found["uar"] >= 0.8  # 100 clips; guessing reaches 0.1
    assert len(found["history"]) == found["clf"].n_epochs_


def test_the_baseline_does_better_on_voices_that_it_has_heard(run):
    scores = {name: np.mean(values) for name, values in run("2_svm_baseline")["scores"].items()}
    assert scores["digit, guessing"] == pytest.approx(0.1, abs=0.05)
    assert scores["digit, guessing"] < scores["digit, unheard voices"] < scores["digit, split by clip"]
    assert scores["voice, split by clip"] > 0.5  # guessing reaches 0.05


def test_the_search_compares_four_candidates_on_unheard_voices(run):
    found = run("3_search")
    search = found["search"]
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 1 / 3 + 0.1  # guessing reaches a third
    for train, test in search.cv.split(found["X"], found["y"], found["voices"]):
        assert not set(found["voices"][train]) & set(found["voices"][test])


def test_every_augmentation_is_drawn_and_changes_the_clip(run):
    found = run("4_augmentations")
    displays = [found[name] for name in ("frames", "waveforms", "others")]
    drawn = {name: versions for display in displays for name, versions in display.versions}
    assert drawn.keys() - {"all together"} == set(component_names(Augment.kind))
    clip = displays[0].original.values
    same = {name for name, (first, *_) in drawn.items() if np.array_equal(first.values, clip)}
    assert same == {"waveform_polarity"}, "its frames are the same"


def test_near_embeddings_are_the_same_digit(run):
    found = run("5_embedding_map")
    assert found["points"].shape == (len(found["test"]), 2)
    assert found["same_digit"] > 0.6  # guessing reaches 0.2


def test_clips_that_cannot_be_read_keep_their_place(run):
    found = run("6_bad_clips")
    assert found["failed"]["path"].tolist() == ["empty.wav", "notes.wav", "lost.wav"]
    assert found["failed"]["reason"].str.len().min() > 5
    np.testing.assert_array_equal(np.isnan(found["probabilities"]).any(axis=1), [False] * 6 + [True] * 3)


def test_sounds_of_new_classes_are_found_and_grouped(run):
    found = run("7_similar_sounds")
    assert not set(found["names"]) & set(found["digits"][found["learned"]])
    assert (found["voices"][found["nearest"][:, 0]] != found["voices"]).all()
    assert found["same_digit"] > 0.8  # guessing reaches 0.2
    assert found["agreement"] > 0.4  # random groups reach 0


def test_the_models_are_ranked_and_the_small_ones_stand_out(run):
    found = run("8_compare")
    comparison = found["comparison"]
    assert comparison.table.index[-1] == "guessing"
    assert comparison.tests.loc["guessing", "p_t_test_holm"] < 0.01
    assert comparison.table["uar"].iloc[0] > 0.6  # guessing reaches 0.1
    assert found["display"].best[0] == "guessing"
    assert found["display"].best[-1] == comparison.table.index[0]
