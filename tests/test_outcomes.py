"""What becomes of clips: frames, or why there are none, in order, in threads, and in the data sets made of them."""

from __future__ import annotations

import threading
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from skastw import ASTWClassifier
from skastw.data.dataset import Labelled, hold_out, make_frame_set
from skastw.data.extraction import Outcome, ReadParams, ahead, check_clips, check_frames, extract_frames, read_frames
from skastw.data.failures import FailedClip
from skastw.data.split import SplitParams
from skastw.encoders import ASTWEncoder
from skastw.errors import ClipError, ClipTypeError, ClipValueError, DataError
from skastw.features import LogMel, Precomputed
from skastw.targets import learn_targets

RATE = 8000
FEATURES = LogMel(n_mels=8, n_fft=128, hop_length=64)
THREADS = [1, 3]
RNG = np.random.default_rng(0)


def noise(n_samples):
    return (0.1 * RNG.standard_normal(n_samples)).astype(np.float32)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Return 27 clips of every kind, with the positions of the bad ones and of those that cancel themselves."""
    folder = tmp_path_factory.mktemp("clips")
    clips = [noise(400 + 37 * i) for i in range(27)]
    soundfile.write(folder / "good.wav", clips[3], RATE, subtype="FLOAT")
    soundfile.write(folder / "opposite.wav", np.stack([clips[5], -clips[5]], axis=1), RATE)
    (folder / "damaged.wav").write_bytes(b"RIFF and nothing else")
    (folder / "empty.wav").write_bytes(b"")

    clips[3] = folder / "good.wav"
    clips[5] = str(folder / "opposite.wav")
    clips[9] = (np.stack([clips[9], -clips[9]]), RATE)
    bad = {
        0: np.array([0.1, np.nan, 0.2]),
        4: folder / "missing.wav",
        7: None,
        8: folder / "damaged.wav",
        15: np.zeros(0, dtype=np.float32),
        16: {"array": clips[16], "sampling_rate": -5},
        23: str(folder / "empty.wav"),
        26: "no such file.wav",
    }
    for index, clip in bad.items():
        clips[index] = clip
    return SimpleNamespace(clips=clips, bad=sorted(bad), cancelled=[5, 9], folder=folder)


def extracted(clips, **params):
    return list(extract_frames(clips, FEATURES.build(RATE), sample_rate=RATE, **params))


def read(clips, index=None, **params):
    index = range(len(clips)) if index is None else index
    return read_frames(clips, index, FEATURES, RATE, ReadParams(device="cpu", **params))


# ------------------------------------------------------------------ clips


@pytest.mark.parametrize("n_jobs", THREADS)
def test_outcomes_come_in_order_whatever_becomes_of_the_clips(mixed, n_jobs):
    outcomes = extracted(mixed.clips, n_jobs=n_jobs)
    assert [outcome.position for outcome in outcomes] == list(range(27))
    assert [o.position for o in outcomes if isinstance(o.result, FailedClip)] == mixed.bad
    assert [o.position for o in outcomes if o.cancelled] == mixed.cancelled
    for position, result, *_ in outcomes:
        if position in mixed.bad:
            assert result.index == position
            assert isinstance(result.error, ClipError)
            assert result.error.index == position
            assert result.reason
        else:
            assert result.dtype == torch.float32
            assert result.shape[1] == 8


@pytest.mark.parametrize("n_jobs", THREADS)
def test_a_clip_has_the_frames_that_it_has_alone(mixed, n_jobs):
    outcomes = extracted(mixed.clips, n_jobs=n_jobs)
    for position in (1, 3, 5, 9, 24):
        [alone] = extracted(mixed.clips, indices=[position])
        assert torch.equal(outcomes[position].result, alone.result)
        assert outcomes[position].cancelled == alone.cancelled
    assert len(outcomes[1].result) == -(-len(mixed.clips[1]) // 64)


@pytest.mark.parametrize("n_jobs", THREADS)
def test_many_clips_come_in_order(n_jobs):
    """More clips than threads read ahead of the reader, of lengths that tell them apart."""
    clips = [np.full(64 * (i + 1), 0.1, dtype=np.float32) for i in range(8 * 20)]
    outcomes = extracted(clips, n_jobs=n_jobs)
    assert [outcome.position for outcome in outcomes] == list(range(len(clips)))
    assert [len(outcome.result) for outcome in outcomes] == [i + 1 for i in range(len(clips))]


@pytest.mark.parametrize("n_jobs", THREADS)
@pytest.mark.parametrize("indices", [[], [26], [9, 4, 9, 1, 4], list(range(26, -1, -1)), np.array([2, 5, 15])])
def test_chosen_clips_come_in_the_chosen_order(mixed, n_jobs, indices):
    outcomes = extracted(mixed.clips, n_jobs=n_jobs, indices=indices)
    assert [outcome.position for outcome in outcomes] == list(indices)
    assert [isinstance(o.result, FailedClip) for o in outcomes] == [i in mixed.bad for i in indices]
    assert [o.cancelled for o in outcomes] == [i in mixed.cancelled for i in indices]


def test_a_failed_clip_says_its_file_and_reason(mixed):
    outcomes = extracted(mixed.clips)
    assert outcomes[4].result.path == str(mixed.folder / "missing.wav")
    assert "does not exist" in outcomes[4].result.reason or "no such file" in outcomes[4].result.reason.lower()
    assert outcomes[8].result.path == str(mixed.folder / "damaged.wav")
    assert outcomes[0].result.path is None
    assert "NaN" in outcomes[0].result.reason
    assert isinstance(outcomes[7].result.error, ClipTypeError)
    assert isinstance(outcomes[15].result.error, ClipValueError)
    assert "sampling_rate" in outcomes[16].result.reason or "sample rate" in outcomes[16].result.reason


@pytest.mark.parametrize("n_jobs", THREADS)
def test_no_more_clips_are_read_than_the_reader_is_near(n_jobs):
    touched = []

    class Watched(list):
        def __getitem__(self, index):
            touched.append(index)
            return super().__getitem__(index)

    outcomes = extract_frames(Watched([noise(200)] * 800), FEATURES.build(RATE), sample_rate=RATE, n_jobs=n_jobs)
    assert touched == []
    for _ in range(3):
        next(outcomes)
    outcomes.close()
    # groups of eight: the one that is read, and with threads up to four for each of them, and those at work
    assert max(touched) < 8 * (1 if n_jobs == 1 else 5 * n_jobs + 1)


@pytest.mark.parametrize("n_jobs", THREADS)
@pytest.mark.parametrize("on_error", ["warn", "ignore"])
def test_with_another_policy_all_outcomes_are_read(mixed, n_jobs, on_error):
    outcomes = list(read(mixed.clips, n_jobs=n_jobs, on_error=on_error))
    assert [o.position for o in outcomes if isinstance(o.result, FailedClip)] == mixed.bad
    assert len(outcomes) == 27


@pytest.mark.parametrize("n_jobs", THREADS)
@pytest.mark.parametrize(("index", "good", "first"), [(range(27), 0, 0), (range(1, 27), 3, 4), ([6, 26, 0], 1, 26)])
def test_the_first_bad_clip_in_order_is_the_error(mixed, n_jobs, index, good, first):
    outcomes, seen = read(mixed.clips, index, n_jobs=n_jobs), []
    with pytest.raises(ClipError, match=f"Clip {first}") as caught:
        seen.extend(outcomes)
    assert caught.value.index == first
    assert [clip.index for clip in caught.value.failed] == [first]
    assert len(seen) == good


def test_outcomes_before_the_error_are_yielded(mixed):
    outcomes = read(mixed.clips, range(1, 27))
    assert [next(outcomes).position for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ClipError, match="Clip 4"):
        next(outcomes)


@pytest.mark.parametrize("n_jobs", THREADS)
def test_an_error_that_is_no_clips_fault_is_passed_on(n_jobs):
    class Broken(list):
        def __getitem__(self, index):
            if index == 11:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        extracted(Broken([noise(200)] * 20), n_jobs=n_jobs)


def test_the_front_end_that_fails_for_a_clip_costs_that_clip():
    class Picky(torch.nn.Module):
        n_features = 1

        def extract(self, waveforms):
            if any(len(waveform) == 333 for waveform in waveforms):
                raise RuntimeError("not this one")
            return [waveform[:, None] / (0.0 if len(waveform) == 222 else 1.0) for waveform in waveforms]

    clips = [noise(n) for n in (100, 333, 120, 222, 140)]
    outcomes = list(extract_frames(clips, Picky(), sample_rate=RATE))
    assert [isinstance(o.result, FailedClip) for o in outcomes] == [False, True, False, True, False]
    assert "not this one" in outcomes[1].result.reason
    assert "NaN or infinite frames" in outcomes[3].result.reason
    np.testing.assert_array_equal(outcomes[2].result[:, 0], clips[2])


# ------------------------------------------------------------------ frames


FRAMES = [RNG.normal(size=(n, 3)).astype(np.float32) for n in (4, 1, 6, 5, 2, 3)]


@pytest.mark.parametrize(
    ("item", "error", "match"),
    [
        (np.zeros(5), ClipTypeError, r"got shape \(5,\), expected frames of shape"),
        (np.zeros((2, 3, 1)), ClipTypeError, r"got shape \(2, 3, 1\)"),
        ([[1.0, 2.0, 3.0]], ClipTypeError, "got type list"),
        (None, ClipTypeError, "got type NoneType"),
        ("clip.wav", ClipTypeError, "got type str"),
        (np.zeros((0, 3)), ClipValueError, r"got frames of shape \(0, 3\), expected \(n_frames, 3\)"),
        (np.zeros((2, 4)), ClipValueError, r"got frames of shape \(2, 4\), expected \(n_frames, 3\)"),
        (np.array([[1.0, np.nan, 2.0]]), ClipValueError, "NaN or infinite frames"),
        (np.array([[1.0, -np.inf, 2.0]]), ClipValueError, "NaN or infinite frames"),
        (np.full((2, 3), 1e30), ClipValueError, r"frames with values of up to 1e\+30, expected at most"),
        (np.array([["a", "b", "c"]]), ClipError, "Clip 2: "),
    ],
)
def test_frames_that_cannot_be_used_are_outcomes_too(item, error, match):
    items = [*FRAMES[:2], item, *FRAMES[2:]]
    outcomes = list(check_frames(items, None))
    assert [o.position for o in outcomes] == list(range(7))
    assert [o.position for o in outcomes if isinstance(o.result, FailedClip)] == [2]
    assert isinstance(outcomes[2].result.error, error)
    assert outcomes[2].result.index == 2
    with pytest.raises(error, match=match):
        outcomes[2].result.check("raise")
    for outcome, expected in zip([*outcomes[:2], *outcomes[3:]], FRAMES, strict=True):
        assert outcome.result.dtype == torch.float32
        np.testing.assert_array_equal(outcome.result, expected)


def test_the_first_usable_frames_set_the_width_unless_it_is_known():
    items = [np.zeros((2, 3, 1)), np.zeros((2, 4)), np.zeros((2, 3)), np.zeros((1, 4))]

    def failed(*args, **params):
        return [o.position for o in check_frames(items, *args, **params) if isinstance(o.result, FailedClip)]

    assert failed(None) == [0, 2]
    assert failed(3) == [0, 1, 3]
    assert failed(4, indices=np.array([3, 2])) == [2]
    assert failed(None, indices=[2, 3]) == [3]


@pytest.mark.parametrize("n_jobs", THREADS)
def test_precomputed_frames_are_read_without_a_front_end(n_jobs):
    settings = ReadParams(n_jobs=n_jobs, on_error="ignore")
    items = [*FRAMES, np.zeros(3)]
    outcomes = list(read_frames(items, [6, 2, 0], Precomputed(), RATE, settings, n_features=3))
    assert [o.position for o in outcomes] == [6, 2, 0]
    np.testing.assert_array_equal(outcomes[1].result, FRAMES[2])
    with pytest.raises(ClipTypeError, match="Clip 6"):
        list(read_frames(items, range(7), Precomputed(), RATE, ReadParams()))


# ------------------------------------------------------------------ X


def test_x_is_checked_as_scikit_learn_checks_arrays_and_clips_pass():
    estimator = SimpleNamespace(n_features_in_=3, feature_names_in_=["a"])
    assert check_clips(estimator, ["a.wav", "b.wav"], reset=False) == ["a.wav", "b.wav"]
    assert estimator.n_features_in_ == 3
    assert list(check_clips(estimator, ["a.wav"], reset=True)) == ["a.wav"]
    assert not hasattr(estimator, "n_features_in_")
    assert not hasattr(estimator, "feature_names_in_")
    with pytest.raises(ValueError, match=r"0 sample\(s\) in X while a minimum of 1 is required by SimpleNamespace"):
        check_clips(estimator, [], reset=True)
    frames = np.zeros((2, 5, 3))
    assert [item.shape for item in check_clips(estimator, frames, reset=True)] == [(5, 3)] * 2


# ------------------------------------------------------------------ one ahead


def test_items_are_made_one_ahead_in_order():
    made = []

    def items():
        for i in range(4):
            made.append(i)
            yield i

    ahead_of = ahead(items())
    assert next(ahead_of) == 0
    deadline = time.monotonic() + 10
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1]
    assert list(ahead_of) == [1, 2, 3]


def test_an_error_comes_in_its_place_and_warnings_too():
    def items():
        yield 1
        warnings.warn("about the second", UserWarning, stacklevel=2)
        yield 2
        raise ClipValueError("the third", index=2)

    seen = []
    with pytest.warns(UserWarning, match="about the second"), pytest.raises(ClipValueError, match="the third"):
        seen.extend(ahead(items()))
    assert seen == [1, 2]


def test_items_are_made_in_another_thread():
    threads = []

    def items():
        threads.append(threading.get_ident())
        yield "x"

    assert list(ahead(items())) == ["x"]
    assert threads[0] != threading.get_ident()


# ------------------------------------------------------------------ data sets


def frame_set_of(clips, y, *, weights=None, groups=None, on_error="raise", n_jobs=None, limit=None):
    """Return the data set of the usable clips of positive weight, the other clips, all clips and the targets."""
    targets = learn_targets(y, "classifier")
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    labelled = Labelled(clips, targets.encode(y), weights, groups)
    frame_set, failed = make_frame_set(
        labelled,
        read(clips, labelled.used, on_error=on_error, n_jobs=n_jobs),
        len(labelled.used),
        limit=limit,
        on_error=on_error,
        dtype=torch.float32,
    )
    return frame_set, failed, labelled, targets


def data_of(clips, y, *, val_split=0.2, seed=0, **params):
    """Return the data sets, split into training and validation clips, and the clips that were left out."""
    frame_set, failed, labelled, targets = frame_set_of(clips, y, **params)
    return hold_out(labelled, frame_set, targets, SplitParams(val_split=val_split), seed), failed


def classifier(**params):
    tiny = ASTWEncoder(d_model=8, num_heads=2, num_layers=1, ff_mult=2)
    return ASTWClassifier(**{"encoder": tiny, "features": FEATURES, "sample_rate": RATE, "epochs": 1, **params})


@pytest.fixture
def clips():
    return [noise(300 + 20 * i) for i in range(20)]


LABELS = np.array(["a", "b"] * 10)


@pytest.mark.parametrize("n_jobs", THREADS)
def test_frames_targets_and_weights_stay_together(clips, n_jobs):
    weights = np.arange(20) / 8
    clips[6], clips[13] = "missing.wav", np.full(10, np.nan)
    clips[0] = None  # which has weight 0 and is not read
    data, failed = data_of(clips, LABELS, weights=weights, on_error="ignore", n_jobs=n_jobs)
    assert data.split == "random split, stratified where possible"
    assert [clip.index for clip in failed] == [6, 13]

    positions = np.concatenate([part.positions for part in data.parts])
    assert sorted(positions) == [i for i in range(1, 20) if i not in (6, 13)]
    for part in data.parts:
        assert part.weights.tolist() == weights[part.positions].tolist()
        assert part.targets.tolist() == (part.positions % 2).tolist()
        for position, frames in zip(part.positions, part.frames, strict=True):
            [alone] = extracted(clips, indices=[position])
            assert torch.equal(frames, alone.result)
    assert len(data.valid) == round(0.2 * 17)
    assert set(data.valid.targets.tolist()) == {0, 1}


@pytest.mark.parametrize(("on_error", "n_warnings"), [("warn", 1), ("ignore", 0)])
def test_clips_that_are_left_out_are_warned_of_once(clips, on_error, n_warnings):
    clips[6], clips[13] = "missing.wav", None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, failed, _, _ = frame_set_of(clips, LABELS, on_error=on_error)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == n_warnings
    for message in messages:
        assert message.startswith("2 of 20 clips cannot be used (Clip 6 ('missing.wav')")
        assert "Clip 13" in message
    assert len(failed) == 2


def test_clips_that_cancel_themselves_are_used_and_warned_of(mixed):
    y = ["a", "b"] * 6
    clips = [clip for i, clip in enumerate(mixed.clips) if i not in mixed.bad][:12]
    with pytest.warns(UserWarning, match="The channels of 2 of 12 clips cancel each other") as caught:
        data, _ = data_of(clips, y, val_split=None)
    assert len(caught) == 1
    assert "opposite.wav" in str(caught[0].message)
    assert data.train.positions.tolist() == list(range(12))


@pytest.mark.parametrize(("n_bad", "stops"), [(4, False), (5, True)])
def test_more_than_a_fifth_of_bad_clips_stops_training(clips, n_bad, stops):
    for i in range(n_bad):
        clips[2 * i + i % 2] = None
    if not stops:
        assert len(frame_set_of(clips, LABELS, on_error="ignore")[1]) == n_bad
        return
    with pytest.raises(DataError, match=r"5 of 20 clips cannot be used .*more than 20%") as caught:
        frame_set_of(clips, LABELS, on_error="ignore")
    assert [clip.index for clip in caught.value.failed] == [0, 3, 4, 7, 8]


def test_a_class_that_is_lost_stops_training(clips):
    y = LABELS.astype("U4")
    y[[3, 8]] = "rare"
    clips[3] = clips[8] = None
    with pytest.raises(DataError, match="No clip of class 'rare' can be used") as caught:
        classifier(on_error="ignore").fit(clips, y)
    assert [clip.index for clip in caught.value.failed] == [3, 8]
    estimator = classifier(on_error="ignore").fit(clips, y, sample_weight=~np.isin(np.arange(20), [3, 8]))
    assert estimator.failed_ == []  # of weight 0, they are not read


def test_the_first_bad_clip_is_the_error_by_default(clips):
    clips[6], clips[13] = "missing.wav", None
    with pytest.raises(ClipValueError, match=r"Clip 6 \('missing.wav'\)") as caught:
        frame_set_of(clips, LABELS)
    assert [clip.index for clip in caught.value.failed] == [6]


def test_weights_of_zero_alone_are_refused(clips):
    with pytest.raises(ValueError, match="weights that are zero for every clip"):
        frame_set_of(clips, LABELS, weights=np.zeros(20))


def test_validation_clips_of_the_caller_are_not_mixed_with_the_others(clips):
    theirs, weights = [noise(500), None, *(noise(n) for n in (700, 800, 900, 1000))], [0.5, 1.0, 2.0, 1.0, 1.0, 1.0]
    y, clips[2] = np.array(["a", "b", "a", "b", "a", "b"]), None
    estimator = classifier(on_error="ignore")
    estimator.fit(clips, LABELS, X_val=theirs, y_val=y, sample_weight_val=weights)
    record = estimator.trained_.record
    assert (record.n_train, record.n_validation, record.split) == (19, 5, "validation clips given by the caller")
    assert [(clip.index, clip.reason.startswith("in X_val: ")) for clip in estimator.failed_] == [(2, False), (1, True)]

    predicted, usable = estimator.predict(theirs), [0, 2, 3, 4, 5]
    expected = np.average(predicted[usable] == y[usable], weights=np.array(weights)[usable])
    assert record.validation["accuracy"] == pytest.approx(expected)
    assert [row.support for row in record.per_class] == [3, 2]


def test_groups_stay_whole_after_clips_are_left_out(clips):
    groups = np.repeat(np.arange(5), 4)
    clips[5] = None
    data, _ = data_of(clips, LABELS, groups=groups, on_error="ignore")
    assert data.split == "whole groups held out"
    sides = [set(groups[part.positions]) for part in data.parts]
    assert not sides[0] & sides[1]
    assert len(data.train) + len(data.valid) == 19
    assert data_of(clips, LABELS, on_error="ignore", val_split=None)[0].valid is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_weights_have_the_dtype_of_the_network(clips, dtype):
    targets = learn_targets(np.arange(20.0), "regressor")
    labelled = Labelled(clips, targets.encode(np.arange(20.0)), np.ones(20))
    outcomes = read(clips, np.array([4, 2]))
    frame_set, failed = make_frame_set(labelled, outcomes, 2, limit=None, on_error="raise", dtype=dtype)
    assert (frame_set.targets.dtype, frame_set.weights.dtype, failed) == (dtype, dtype, [])
    assert frame_set.positions.tolist() == [4, 2]
    np.testing.assert_allclose(frame_set.targets, targets.encode([4.0, 2.0]), rtol=1e-6)


@pytest.mark.parametrize("limit", [None, 0, 3000])
def test_where_frames_are_kept_changes_nothing(clips, limit):
    expected, _ = data_of(clips, LABELS)
    data, _ = data_of(clips, LABELS, limit=limit)
    assert data.fingerprint == expected.fingerprint
    assert data.clips_sha256 == expected.clips_sha256
    assert len(set(data.clips_sha256)) == 3
    for one, two in zip(data.train.frames, expected.train.frames, strict=True):
        assert torch.equal(one, two)


def test_a_seed_chooses_the_validation_clips(clips):
    positions = [data_of(clips, LABELS, seed=seed)[0].valid.positions.tolist() for seed in (0, 0, 1, 2)]
    assert positions[0] == positions[1]
    assert len({tuple(each) for each in positions}) == 3


# ------------------------------------------------------------------ failed clips


def test_a_failed_clip_comes_from_an_error_with_a_position():
    error = ClipValueError("the file is empty.", index=3, path="dog.wav")
    clip = FailedClip.from_error(error)
    assert (clip.index, clip.path, clip.reason, clip.error) == (3, "dog.wav", "the file is empty.", error)
    assert clip == FailedClip(3, "dog.wav", "the file is empty.")
    with pytest.raises(ClipValueError, match="no position"):
        FailedClip.from_error(ClipValueError("no position"))


@pytest.mark.parametrize("policy", ["warn", "ignore"])
def test_a_failed_clip_is_an_error_for_one_policy_alone(policy):
    clip = FailedClip.from_error(ClipValueError("empty.", index=3))
    assert clip.check(policy) is None
    with pytest.raises(ClipValueError, match="Clip 3: empty"):
        clip.check("raise")


def test_an_outcome_is_a_value_of_four_parts():
    frames = torch.zeros(2, 1)
    position, result, cancelled, side = Outcome(3, frames)
    assert (position, cancelled, side) == (3, False, None)
    assert result is frames


# ------------------------------------------------------------------ corners


def test_frames_without_values_cannot_be_used():
    [outcome] = check_frames([np.zeros((5, 0))], None)
    assert isinstance(outcome.result, FailedClip)
