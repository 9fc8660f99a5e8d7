"""Occlusion: what is pointed at is what the class is made of, and every number is that of a prediction."""

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skastw import ASTWClassifier
from skastw.analysis import occlusion
from skastw.data.frames import FrameStore
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder, ParallelCNNEncoder
from skastw.errors import ClipError
from skastw.features import LogMel
from skastw.network.inference import ROUNDING, embed_clips

RATE = 16000
TINY = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)
CLIPS, Y = make_tones(n_clips=48, n_classes=4, random_state=0)
PITCHES = [300.0 * 2**k for k in range(4)]


def tone(frequency, *, begin=0.0, end=1.0, seconds=1.0, seed=0):
    """Return a tone from ``begin`` to ``end`` (s) in weak noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.5 * np.sin(2 * np.pi * frequency * time) * ((time >= begin) & (time < end))
    return (sound + 0.01 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


def fit_small(y=Y, **params):
    settings = {"encoder": TINY, "epochs": 10, "muon_lr": 0.03, "val_split": None, "ema_decay": None}
    settings |= {"augment": "spec_augment", "normalization": "none"}  # the classes are frequencies
    return ASTWClassifier(**{**settings, **params}).fit(CLIPS, y)


@pytest.fixture(scope="module")
def clf():
    return fit_small()


@pytest.mark.parametrize("label", range(4))
def test_a_steady_tone_is_found_at_its_frequency(clf, label):
    found = clf.explain(tone(PITCHES[label]), label=label)
    profile = found.saliency.mean(axis=0)
    distance = np.abs(found.frequencies - PITCHES[label])
    assert profile.argmax() in np.argsort(distance)[:2]  # what is hidden reaches half into the neighbours
    assert profile.max() > 5 * np.abs(np.delete(profile, np.argsort(distance)[:4])).max()


@pytest.mark.parametrize("fill", ["clip", "band"])
@pytest.mark.parametrize("half", [0, 1])
def test_a_tone_in_one_half_is_found_in_that_half(clf, half, fill):
    found = clf.explain(tone(PITCHES[2], begin=half / 2, end=half / 2 + 0.5), label=2, fill=fill)
    halves = [found.saliency[found.times < 0.5], found.saliency[found.times >= 0.5]]
    where = np.unravel_index(found.saliency.argmax(), found.saliency.shape)
    assert (found.times[where[0]] >= 0.5) == bool(half)
    assert halves[half].clip(0).sum() > 3 * halves[1 - half].clip(0).sum()


def test_a_tone_speaks_against_another_class(clf):
    clip = tone(PITCHES[0])
    for_it, against = clf.explain(clip, label=0), clf.explain(clip, label=3)
    where = np.unravel_index(for_it.saliency.argmax(), for_it.saliency.shape)
    assert for_it.saliency[where] > 0 > against.saliency[where]


def test_the_probability_is_the_prediction(clf):
    clip = tone(PITCHES[1])
    probabilities = clf.predict_proba([clip])[0]
    found = clf.explain(clip, n_times=2, n_bands=2)
    assert found.label == clf.predict([clip])[0]
    assert found.probability == pytest.approx(probabilities.max(), abs=1e-6)
    assert clf.explain(clip, label=3, n_times=2, n_bands=2).probability == pytest.approx(probabilities[3], abs=1e-6)


def test_the_parts_lie_where_they_are_said_to_be(clf):
    found = clf.explain(tone(PITCHES[0], seconds=2.0), n_times=4, n_bands=5)
    centres = LogMel().frequencies(RATE)
    assert found.times == pytest.approx(np.array([0.245, 0.745, 1.245, 1.745]))  # frames 0 to 49, 50 to 99, ...
    assert found.bands.tolist() == [7.5, 23.5, 39.5, 55.5, 71.5]
    assert found.frequencies == pytest.approx((centres[7::16] + centres[8::16]) / 2)


@pytest.mark.parametrize("fill", ["clip", "band"])
@pytest.mark.parametrize("chunk_length", [30.0, 0.4])
def test_each_number_is_the_prediction_of_the_clip_with_a_part_hidden(fill, chunk_length, monkeypatch):
    monkeypatch.setattr(occlusion, "_BLOCK", 10_000)  # so that there are many blocks
    model = fit_small(chunk_length=chunk_length, epochs=1).model_.eval()
    frames = LogMel().build(RATE).extract([torch.from_numpy(tone(PITCHES[1], end=0.5))])[0]

    @torch.inference_mode()
    def logits(frames):
        embedded = embed_clips(model, FrameStore([frames]), batch_size=1, device=torch.device("cpu"))
        return model.head(embedded)[0]

    whole, occluded = occlusion.occluded_logits(model, frames, n_times=5, n_bands=8, fill=fill, batch_size=7)
    assert torch.allclose(whole, logits(frames), atol=1e-5)
    for time, band, times, bands in [(0, 0, (0, 30), (0, 15)), (2, 3, (30, 70), (25, 45)), (4, 7, (70, 100), (65, 80))]:
        hidden = frames.clone()
        mean = frames.mean(dim=0) if fill == "band" else frames.mean().expand(80)
        hidden[slice(*times), slice(*bands)] = mean[slice(*bands)]
        assert torch.allclose(occluded[time, band], logits(hidden), atol=1e-5)
        assert not torch.allclose(occluded[time, band], whole, atol=1e-5)


def test_the_front_end_runs_once_and_few_frames_are_in_memory(clf, monkeypatch):
    calls, sizes = [], []
    module = type(LogMel().build(RATE))
    extract = module.extract
    monkeypatch.setattr(module, "extract", lambda self, waveforms: calls.append(waveforms) or extract(self, waveforms))
    embed = occlusion.embed_clips

    def embedded(model, frames, side, **settings):
        sizes.append(int(frames.lengths.sum()))
        return embed(model, frames, side, **settings)

    monkeypatch.setattr(occlusion, "embed_clips", embedded)
    monkeypatch.setattr(occlusion, "_BLOCK", 4 * 80 * 1000)
    clf.explain(tone(PITCHES[0]))
    assert len(calls) == 1
    assert sum(sizes) == 100 * (1 + 20 * 16)
    assert max(sizes) <= 1100


@pytest.mark.parametrize("n_samples", [1, 200, 2000])
def test_short_clips_have_no_more_parts_than_frames(clf, n_samples):
    found = clf.explain(tone(PITCHES[0])[:n_samples])
    assert found.saliency.shape == (min(20, -(-n_samples // 160)), 16)
    assert found.saliency.shape == (len(found.times), len(found.frequencies))
    assert np.isfinite(found.saliency).all()


def test_it_does_not_depend_on_the_batches(clf):
    clip = tone(PITCHES[2])
    first = clf.explain(clip, label=2, n_times=4, n_bands=4)
    second = copy.copy(clf).set_params(batch_size=3)
    assert np.allclose(first.saliency, second.explain(clip, label=2, n_times=4, n_bands=4).saliency, atol=ROUNDING)


def test_several_labels_are_explained_one_by_one():
    clf = fit_small(np.stack([Y < 2, Y % 2], axis=1).astype(int))
    clip = tone(PITCHES[1])
    found = clf.explain(clip, label=1, n_times=2, n_bands=2)
    assert found.probability == pytest.approx(clf.predict_proba([clip])[0, 1], abs=1e-6)


@pytest.mark.parametrize(
    "params",
    [
        {"n_models": 2},
        {"precision": "float64"},
        {"features": "mfcc", "normalization": "per_bin", "augment": None},
        {"encoder": ASTWEncoder(d_model=16, num_heads=2, num_layers=1), "pooling": "attentive_stats"},
    ],
    ids=str,
)
def test_it_explains_whatever_predicts(params):
    clf = fit_small(**{"epochs": 1, **params})
    clip = tone(PITCHES[0])
    found = clf.explain(clip, n_times=3, n_bands=4)
    assert found.probability == pytest.approx(clf.predict_proba([clip]).max(), abs=1e-5)
    assert found.saliency.shape == (3, 4)
    assert np.abs(found.saliency).max() > 0
    assert (found.frequencies is None) == (params.get("features") == "mfcc")


def test_precomputed_frames_are_explained():
    frames = [item.numpy() for item in LogMel().build(RATE).extract([torch.from_numpy(clip) for clip in CLIPS])]
    clf = ASTWClassifier(features="precomputed", encoder=TINY, epochs=1, val_split=None).fit(frames, Y)
    found = clf.explain(frames[0], n_times=3, n_bands=4)
    assert found.frequencies is None
    assert found.bands.tolist() == [9.5, 29.5, 49.5, 69.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": "dog"}, "label='dog'"),
        ({"n_times": 0}, "n_times=0"),
        ({"n_bands": 2.5}, "n_bands=2.5"),
        ({"fill": "zero"}, "fill='zero'"),
    ],
)
def test_arguments_that_are_not_valid_are_named(clf, arguments, message):
    with pytest.raises(ValueError, match=message):
        clf.explain(CLIPS[0], **arguments)


def test_a_clip_that_cannot_be_read_is_an_error_whatever_on_error(clf):
    lenient = fit_small(epochs=1, on_error="ignore")
    with pytest.raises(ClipError, match=r"lost\.wav"):
        lenient.explain("lost.wav")
    with pytest.raises(NotFittedError):
        ASTWClassifier().explain(CLIPS[0])
