"""What each augmentation does to sounds whose result can be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from skastw import ASTWClassifier
from skastw.audio import load_waveform
from skastw.augment import (
    Augment,
    Background,
    BetweenClass,
    CutMix,
    Equalizer,
    FrequencyWarp,
    Gain,
    Mixup,
    Noise,
    RandomCrop,
    ResizedCrop,
    SpecAugment,
    TimeShift,
    TimeStretch,
)
from skastw.augment._mixing import draw_partners, draw_shares
from skastw.core.batching import Batch, length_mask, pad
from skastw.core.component import resolve_component
from skastw.core.decibels import UNIT, from_power, to_power
from skastw.datasets import load_spoken_digits, make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ComponentError
from skastw.features import LogMel

N_BINS = 80
MIXING = [Mixup(alpha=1.0, p=1.0), CutMix(alpha=1.0, p=1.0), BetweenClass(alpha=1.0, p=1.0)]


def batch_of(*items):
    """Return a batch of frames (T_i, F); the target of an item is its position."""
    inputs, lengths = pad([torch.as_tensor(item, dtype=torch.float32) for item in items])
    return Batch(inputs, lengths, torch.arange(len(items)), torch.ones(len(items)))


def random_item(n_frames=50, n_bins=N_BINS, seed=0):
    """Return frames in [-1.4, 1]: levels within 100 dB."""
    return 1 - 2.4 * torch.rand(n_frames, n_bins, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def applied(component, batch, seed=0):
    return component.prepare(lambda paths: [], 16000)(batch, generator(seed))


def decibels(frames):
    return 10 * torch.log10(to_power(frames))


def level(frames):
    """Return the level of frames (..., T, F): ten times the logarithm of their mean power."""
    return 10 * torch.log10(to_power(frames).mean(dim=(-2, -1)))


# ------------------------------------------------------------------ levels


def test_a_unit_of_frames_is_forty_decibels_and_that_of_the_front_end():
    power = torch.logspace(-9, 3, 13)
    torch.testing.assert_close(to_power(from_power(power)), power, rtol=1e-4, atol=0)
    torch.testing.assert_close(from_power(100 * power) - from_power(power), torch.full_like(power, 20 / UNIT))
    module, waveform = LogMel().build(16000), torch.randn(1, 8000, generator=generator()) / 100
    soft, loud = (module(scale * waveform, torch.tensor([8000]))[0] for scale in (1.0, 10.0))
    torch.testing.assert_close(to_power(loud), 100 * to_power(soft), rtol=1e-3, atol=0)


def test_gain_moves_all_frames_of_an_item_by_one_level_within_its_range():
    batch = batch_of(*[random_item(20, seed=i) for i in range(400)])
    change = (applied(Gain(max_gain=9.0), batch).inputs - batch.inputs) * UNIT
    gains = change[:, 0, 0]
    torch.testing.assert_close(change, gains[:, None, None].expand_as(change), atol=1e-4, rtol=0)
    assert stats.kstest(gains.numpy(), stats.uniform(-9, 18).cdf).pvalue > 0.01


def test_gain_is_what_another_volume_of_the_recording_does():
    waveform = torch.from_numpy(load_waveform(load_spoken_digits().data[3], 16000, index=0))
    module = LogMel().build(16000)
    frames = module.extract([waveform])[0]
    louder = applied(Gain(), batch_of(frames)).inputs[0]
    gain = float(louder[0, 0] - frames[0, 0]) * UNIT
    torch.testing.assert_close(louder, module.extract([waveform * 10 ** (gain / 20)])[0], atol=1e-4, rtol=0)


def test_an_equalizer_is_constant_in_time_and_straight_between_its_points():
    batch = batch_of(*[random_item(7, n_bins=41, seed=i) for i in range(300)])
    change = (applied(Equalizer(max_gain=6.0, n_points=5), batch).inputs - batch.inputs) * UNIT
    response = change[:, 0]
    torch.testing.assert_close(change, response[:, None].expand_as(change), atol=1e-4, rtol=0)
    assert response.abs().max() <= 6 + 1e-4
    assert stats.kstest(response[:, 10].numpy(), stats.uniform(-6, 12).cdf).pvalue > 0.01  # a point: every tenth bin
    bend = response.diff(n=2, dim=1)
    straight = torch.ones(39, dtype=torch.bool)
    straight[9::10] = False
    assert bend[:, straight].abs().max() < 1e-3
    assert bend[:, ~straight].abs().max() > 0.1
    assert response.diff(dim=1).abs().max() <= 12 / 10 + 1e-3


@pytest.mark.parametrize("snr", [-10.0, 0.0, 3.0, 20.0])
def test_noise_raises_the_power_by_that_of_the_noise(snr):
    batch = batch_of(random_item(50), random_item(31, seed=1) - 0.7, random_item(1, seed=2))
    noisy = applied(Noise(min_snr=snr, max_snr=snr, p=1.0), batch)
    for item, n in enumerate(batch.lengths.tolist()):
        rise = level(noisy.inputs[item, :n]) - level(batch.inputs[item, :n])
        assert float(rise) == pytest.approx(10 * math.log10(1 + 10 ** (-snr / 10)), abs=0.02)
    assert (noisy.inputs >= batch.inputs - 1e-5).all(), "powers add"


def test_the_ratio_of_signal_to_noise_is_uniform_in_its_range():
    batch = batch_of(*[random_item(20, seed=i) for i in range(400)])
    noisy = applied(Noise(min_snr=0.0, max_snr=10.0, p=1.0), batch)
    signal, total = (to_power(b.inputs).sum(dim=(1, 2), dtype=torch.float64) for b in (batch, noisy))
    snr = 10 * torch.log10(signal / (total - signal))
    assert snr.min() > -0.05
    assert snr.max() < 10.05
    assert stats.kstest(snr.numpy(), stats.uniform(0, 10).cdf).pvalue > 0.01


def test_noise_is_steady_coloured_and_fluctuates_as_gaussian_noise():
    batch = batch_of(*[torch.full((2000, N_BINS), -1.4)] * 2)
    noisy = applied(Noise(min_snr=-60.0, max_snr=-60.0, p=1.0), batch)
    power = to_power(noisy.inputs).double()
    mean, deviation = power.mean(dim=1), power.std(dim=1)
    torch.testing.assert_close(deviation / mean, torch.ones_like(mean), atol=0.15, rtol=0)  # that of exponential draws
    halves = power[:, :1000].mean(dim=1) / power[:, 1000:].mean(dim=1)
    assert (halves - 1).abs().max() < 0.3
    assert not torch.allclose(mean[0], mean[1], rtol=0.1), "each item has its own colour"
    in_frame = power[0, :, 10] / mean[0, 10]
    assert stats.kstest(in_frame.numpy(), stats.expon.cdf).pvalue > 0.01


# ------------------------------------------------------------------ the user's recordings


def background(recordings, **params):
    component = Background(paths=[f"{i}.wav" for i in range(len(recordings))], **{"p": 1.0, **params})
    return component.prepare(lambda paths: recordings, 16000)


@pytest.mark.parametrize("snr", [-5.0, 10.0])
@pytest.mark.parametrize("n_frames", [3, 50, 400])
def test_a_background_has_the_asked_ratio(snr, n_frames):
    batch = batch_of(random_item(50), random_item(20, seed=1))
    mixed = background([random_item(n_frames, seed=2) - 1], min_snr=snr, max_snr=snr)(batch, generator())
    for item, n in enumerate(batch.lengths.tolist()):
        rise = level(mixed.inputs[item, :n]) - level(batch.inputs[item, :n])
        assert float(rise) == pytest.approx(10 * math.log10(1 + 10 ** (-snr / 10)), abs=0.02)


def frames_heard(recording, n_frames, seed):
    """Return which frame of the recording, whose frame t is loud in bin t, is heard in each frame of a silent clip."""
    mixed = background([recording], min_snr=-60.0, max_snr=-60.0)(batch_of(torch.full((n_frames, 200), -1.4)), seed)
    return mixed.inputs[0].argmax(dim=1)


def ladder(n_frames):
    """Return a recording of ``n_frames`` whose frame t is loud in bin t."""
    recording = torch.full((n_frames, 200), -1.4)
    recording[torch.arange(n_frames), torch.arange(n_frames)] = 1.0
    return recording


def test_of_a_long_recording_a_stretch_in_one_piece_is_heard():
    starts = set()
    for seed in range(300):
        heard = frames_heard(ladder(60), 50, generator(seed))
        assert heard.tolist() == list(range(int(heard[0]), int(heard[0]) + 50))
        starts.add(int(heard[0]))
    assert starts == set(range(11)), "from every place where it fits"


def test_a_short_recording_is_repeated():
    starts = set()
    for seed in range(100):
        heard = frames_heard(ladder(7), 50, generator(seed))
        assert heard.tolist() == [(int(heard[0]) + t) % 7 for t in range(50)]
        starts.add(int(heard[0]))
    assert starts == set(range(7))


def test_every_recording_has_its_turn():
    recordings = []
    for bin_ in range(4):
        recordings.append(torch.full((9, N_BINS), -1.4))
        recordings[-1][:, bin_] = 1.0
    batch = batch_of(*[torch.full((5, N_BINS), -1.4)] * 100)
    mixed = background(recordings, min_snr=-60.0, max_snr=-60.0)(batch, generator())
    assert set(mixed.inputs[:, 0].argmax(dim=1).tolist()) == {0, 1, 2, 3}


def test_a_background_of_files_trains_and_saves_and_predicts_without_them(tmp_path):
    import soundfile

    clips, y = make_tones(n_clips=16, n_classes=2, duration=(0.1, 0.2), random_state=0)
    paths = [tmp_path / "hum.wav", tmp_path / "rain.wav"]
    for seed, path in enumerate(paths):
        soundfile.write(path, 0.1 * np.random.default_rng(seed).normal(size=9000), 16000)
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    clf = ASTWClassifier(encoder=encoder, epochs=1, augment=Background(paths=paths), device="cpu").fit(clips, y)
    folder = clf.save_pretrained(tmp_path / "model")
    for path in paths:
        path.unlink()
    again = ASTWClassifier.from_pretrained(folder, device="cpu")
    np.testing.assert_array_equal(again.predict_proba(clips), clf.predict_proba(clips))
    assert again.augment[0].paths == [path.name for path in paths]  # folders of this machine are not saved


def test_a_background_needs_recordings_and_reads_them_first():
    with pytest.raises(ComponentError, match=r"paths=None.*at least one"):
        Background().prepare(lambda paths: [], 16000)
    with pytest.raises(ComponentError, match="prepare"):
        Background(paths=["hum.wav"]).apply(batch_of(random_item()), generator())


# ------------------------------------------------------------------ frequency and time


def tone_at(bin_, n_frames=3):
    """Return frames with a peak at a bin that falls off by 4 dB a bin."""
    distance = (torch.arange(float(N_BINS)) - bin_).abs()
    return (1 - 0.1 * distance).expand(n_frames, N_BINS)


@pytest.mark.parametrize("max_warp", [0.05, 0.12, 0.3])
@pytest.mark.parametrize("bin_", [5, 40, 60])
def test_a_warped_tone_peaks_within_the_promised_range(max_warp, bin_):
    warped = applied(FrequencyWarp(max_warp=max_warp), batch_of(*[tone_at(bin_)] * 500))
    peaks = warped.inputs[:, 0].argmax(dim=1)
    low, high = bin_ / (1 + max_warp), bin_ / (1 - max_warp)
    assert peaks.min() >= math.floor(low)
    assert peaks.max() <= min(math.ceil(high), N_BINS - 1)
    assert peaks.min() <= math.ceil(low + 0.05 * bin_)
    assert peaks.max() >= min(math.floor(high - 0.05 * bin_), N_BINS - 1)
    assert (warped.inputs[:, :1] == warped.inputs).all(), "all frames of an item alike"


def test_a_warp_keeps_what_is_the_same_in_all_bands_and_reads_a_ramp_at_its_factor():
    flat = batch_of(*[torch.full((2, N_BINS), 0.3)] * 50)
    torch.testing.assert_close(applied(FrequencyWarp(), flat).inputs, flat.inputs)
    ramp = batch_of(*[torch.arange(float(N_BINS)).expand(2, N_BINS)] * 500)
    warped = applied(FrequencyWarp(max_warp=0.2), ramp).inputs[:, 0]
    factor = warped[:, 10] / 10
    assert stats.kstest(factor.numpy(), stats.uniform(0.8, 0.4).cdf).pvalue > 0.01
    expected = (torch.arange(float(N_BINS)) * factor[:, None]).clamp(max=N_BINS - 1)
    torch.testing.assert_close(warped, expected, atol=1e-3, rtol=0)


def test_a_stretch_keeps_the_order_of_events_the_first_and_the_last_frame_and_the_pitch():
    order = torch.arange(60.0)[:, None].repeat(1, 3) * torch.tensor([1.0, 2.0, 3.0])
    batch = batch_of(*[order] * 500, order[:7])
    stretched = applied(TimeStretch(max_stretch=0.3), batch)
    for frames, n, before in zip(stretched.inputs, stretched.lengths.tolist(), batch.lengths.tolist(), strict=True):
        time = frames[:n, 0]
        assert (time.diff() > 0).all()
        assert float(time[0]) == 0
        assert float(time[-1]) == pytest.approx(before - 1, abs=1e-3)
        torch.testing.assert_close(time, torch.linspace(0, before - 1, n), atol=1e-3, rtol=0)
        torch.testing.assert_close(frames[:n, 2], 3 * time, atol=1e-3, rtol=0)
    factor = stretched.lengths[:500] / 60
    assert factor.min() >= 0.7 - 0.5 / 60
    assert factor.max() <= 1.3 + 0.5 / 60
    assert factor.min() < 0.72
    assert factor.max() > 1.28


def test_a_crop_is_a_stretch_of_the_original_in_one_piece():
    items = [torch.arange(float(n))[:, None] + 1 for n in (100, 97, 60, 3)]
    sizes, starts = [], set()
    for seed in range(400):
        cropped = applied(RandomCrop(min_share=0.5), batch_of(*items), seed)
        size = int(cropped.lengths.max())
        sizes.append(size)
        for item, frames, n in zip(items, cropped.inputs[..., 0], cropped.lengths.tolist(), strict=True):
            assert n == min(len(item), size), "one length for the batch; what is shorter stays whole"
            assert frames[:n].tolist() == list(range(int(frames[0]), int(frames[0]) + n))
        starts.add((size, int(cropped.inputs[0, 0, 0])))
    assert min(sizes) >= 50 * 15 / 16, "rounded down by a sixteenth at most"
    assert min(sizes) <= 52
    assert max(sizes) == 100
    assert len(starts) > 100


def test_a_crop_never_leaves_an_item_empty():
    for seed in range(50):
        cropped = applied(RandomCrop(min_share=0.01), batch_of(*[torch.ones(n, 2) for n in (1, 2, 5)]), seed)
        assert cropped.lengths.min() >= 1


def test_a_shift_is_a_rotation_within_its_range_and_within_the_item():
    lengths = [40, 40, 25, 1]
    found = set()
    for seed in range(300):
        batch = batch_of(*[random_item(n, 2, seed=n) for n in lengths])
        shifted = applied(TimeShift(max_shift=0.25), batch, seed)
        for item, n in enumerate(lengths):
            frames, original = shifted.inputs[item, :n], batch.inputs[item, :n]
            shifts = [s for s in range(-n, n + 1) if torch.equal(frames, original.roll(s, 0)) and abs(s) <= n / 4]
            assert shifts, "no rotation within the range"
            found |= {(n, s) for s in shifts}
        assert not shifted.inputs[~length_mask(batch.lengths, 40)].any()
    assert {s for n, s in found if n == 40} == set(range(-10, 11))


# ------------------------------------------------------------------ two clips at once


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0, 30.0])
def test_shares_have_the_beta_distribution(alpha):
    n = 4000
    batch = Batch(torch.zeros(n, 1, 1), torch.ones(n, dtype=torch.int64), torch.zeros(n), torch.ones(n))
    shares = draw_shares(batch, alpha, 1.0, generator()).double().numpy()
    assert shares.mean() == pytest.approx(0.5, abs=4 * stats.beta(alpha, alpha).std() / math.sqrt(n))
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_shares_of_a_tiny_alpha_are_nothing_or_all():
    n = 4000
    batch = Batch(torch.zeros(n, 1, 1), torch.ones(n, dtype=torch.int64), torch.zeros(n), torch.ones(n))
    shares = draw_shares(batch, 1e-3, 1.0, generator())
    assert float((shares < 0.01).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float((shares > 0.99).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_shares_of_alpha_one_are_uniform():
    n = 4000
    batch = Batch(torch.zeros(n, 1, 1), torch.ones(n, dtype=torch.int64), torch.zeros(n), torch.ones(n))
    assert stats.kstest(draw_shares(batch, 1.0, 1.0, generator(1)).numpy(), stats.uniform.cdf).pvalue > 0.01


def test_an_item_stays_whole_with_the_complement_of_the_probability():
    n = 4000
    batch = Batch(torch.zeros(n, 1, 1), torch.ones(n, dtype=torch.int64), torch.zeros(n), torch.ones(n))
    whole = (draw_shares(batch, 1.0, 0.3, generator()) == 1).float().mean()
    assert float(whole) == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize("n", [2, 3, 16])
def test_everybody_has_one_partner_and_is_one_and_every_pair_occurs(n):
    pairs = set()
    for seed in range(60 * n):
        partners = draw_partners(n, generator(seed))
        assert sorted(partners.tolist()) == list(range(n))
        pairs |= set(enumerate(partners.tolist()))
    assert pairs == {(i, j) for i in range(n) for j in range(n) if i != j}


def test_mixup_is_the_mean_by_shares_with_the_partner_repeated_or_cut():
    items = [random_item(n, 4, seed=n) for n in (30, 12, 50, 1)]
    batch = batch_of(*items)
    for seed in range(20):
        mixed = applied(Mixup(alpha=1.0), batch, seed)
        assert torch.equal(mixed.lengths, batch.lengths)
        for i, (partner, share) in enumerate(zip(mixed.partners.tolist(), mixed.shares, strict=True)):
            n = len(items[i])
            other = items[partner].repeat(50, 1)[:n]
            torch.testing.assert_close(mixed.inputs[i, :n], share * items[i] + (1 - share) * other)


def test_cutmix_replaces_one_stretch_and_its_share_is_that_of_the_frames():
    items = [torch.full((n, 2), float(i + 1)) for i, n in enumerate((40, 40, 25, 10))]
    batch = batch_of(*items)
    places = set()
    for seed in range(100):
        mixed = applied(CutMix(alpha=1.0, p=1.0), batch, seed)
        for i, n in enumerate(batch.lengths.tolist()):
            frames = mixed.inputs[i, :n, 0]
            replaced = frames != i + 1
            assert float(mixed.shares[i]) == pytest.approx(1 - float(replaced.float().mean()), abs=1e-6)
            assert set(frames[replaced].tolist()) <= {float(mixed.partners[i] + 1)}
            assert replaced.int().diff().abs().sum() <= 2, "one stretch"
            if i == 0:
                places |= set(torch.nonzero(replaced)[:, 0].tolist())
    assert places == set(range(40))


def between(share, *items):
    """Return two items mixed at a share, as BetweenClass does it."""
    batch = batch_of(*items)

    class Fixed(BetweenClass):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skastw.augment._mixing.draw_shares", lambda *_: torch.full((len(items),), share))
        return applied(Fixed(), batch)


def test_two_clips_at_half_are_heard_at_one_level_whatever_theirs_was():
    low, high = torch.full((10, 4), -1.4), torch.full((10, 4), -1.4)
    low[:, 0], high[:, 3] = 0.9, 0.2  # 28 dB apart
    mixed = between(0.5, low, high)
    for frames, own in zip(mixed.inputs, (low, high), strict=True):
        heard = decibels(frames[0])
        assert float(heard[0] - heard[3]) == pytest.approx(0, abs=0.05)
        assert float(level(frames)) == pytest.approx(float(level(own)), abs=0.05)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8, 0.99])
def test_a_share_is_that_of_the_amplitudes_and_the_level_is_kept(share):
    first, second = torch.full((10, 4), -1.4), torch.full((10, 4), -1.4)
    first[:, 0], second[:, 3] = 0.5, 0.5
    frames = between(share, first, second).inputs[0]
    heard = decibels(frames[0])
    assert float(heard[0] - heard[3]) == pytest.approx(20 * math.log10(share / (1 - share)), abs=0.05)
    assert float(level(frames)) == pytest.approx(float(level(first)), abs=0.02)


def test_a_share_of_one_changes_nothing_and_of_zero_is_the_partner_at_the_items_level():
    first, second = random_item(20), random_item(20, seed=1) - 0.5
    assert torch.equal(between(1.0, first, second).inputs[0], first)
    other = between(0.0, first, second).inputs[0]
    torch.testing.assert_close(
        other - second, (level(first) - level(second)).expand(20, N_BINS) / UNIT, atol=1e-3, rtol=0
    )


def test_a_mixture_has_the_level_of_the_item_also_beside_a_clip_of_another_length():
    items = [random_item(n, seed=n) - 0.3 * i for i, n in enumerate((30, 12, 50, 1))]
    mixed = applied(BetweenClass(), batch_of(*items))
    for item, frames in zip(items, mixed.inputs, strict=True):
        assert float(level(frames[: len(item)])) == pytest.approx(float(level(item)), abs=0.02)


@pytest.mark.parametrize("component", MIXING, ids=lambda component: component.name)
def test_a_batch_of_one_stays_what_it_is(component):
    batch = batch_of(random_item())
    mixed = applied(component, batch)
    torch.testing.assert_close(mixed.inputs, batch.inputs, atol=1e-4, rtol=0)
    assert mixed.partners.tolist() == [0]


@pytest.mark.parametrize("component", [Gain(), Equalizer(), Noise(p=1.0), BetweenClass(), FrequencyWarp()])
def test_a_probability_is_that_of_items(component):
    batch = batch_of(*[random_item(3, seed=i) for i in range(1000)])
    changed = (applied(component.set_params(p=0.3), batch).inputs - batch.inputs).abs().amax(dim=(1, 2)) > 1e-5
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.05)


# ------------------------------------------------------------------ resized crops


def ramp(n_frames):
    """Return frames that say where they were."""
    return torch.arange(n_frames, dtype=torch.float32)[:, None].expand(n_frames, 3)


@pytest.mark.parametrize("seed", range(20))
def test_resized_crops_are_stretches_at_a_tempo_within_range_and_fill_the_batch(seed):
    batch = batch_of(ramp(200), ramp(190), ramp(175))
    result = applied(ResizedCrop(min_share=0.8, max_stretch=0.15), batch, seed)
    assert len(set(result.lengths.tolist())) == 1
    assert int(result.lengths[0]) == result.inputs.shape[1]
    assert 0.8 * 200 * 15 / 16 <= result.inputs.shape[1] <= 200
    for item, length in zip(result.inputs[..., 0], batch.lengths.tolist(), strict=True):
        steps = item.diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-4, rtol=0)
        assert 0.84 <= float(steps.mean()) <= 1.16
        assert item.min() >= 0
        assert item.max() <= length - 1


def test_a_clip_that_is_too_short_for_a_resized_crop_stays_whole():
    batch = batch_of(ramp(200), ramp(40))
    for seed in range(20):
        result = applied(ResizedCrop(min_share=0.8, max_stretch=0.15), batch, seed)
        short = result.inputs[1, : int(result.lengths[1]), 0]
        assert 40 / 1.16 <= len(short) <= 40 / 0.84
        assert (float(short[0]), float(short[-1])) == (0.0, 39.0)


def test_a_resized_crop_of_the_whole_at_its_own_tempo_changes_nothing():
    batch = batch_of(random_item(96), random_item(96, seed=1))
    result = applied(ResizedCrop(min_share=1.0, max_stretch=0.0), batch)
    torch.testing.assert_close(result.inputs, batch.inputs)


# ------------------------------------------------------------------ probabilities and seeds


@pytest.mark.parametrize("component", [RandomCrop(min_share=0.3), ResizedCrop(min_share=0.3), SpecAugment(time_warp=9)])
def test_each_item_is_cropped_masked_or_warped_with_the_probability(component):
    items = [random_item(60, seed=i) for i in range(500)]
    batch = batch_of(*items)
    never = applied(component.set_params(p=0.0), batch)
    assert torch.equal(never.inputs, batch.inputs)
    assert torch.equal(never.lengths, batch.lengths)

    some = applied(component.set_params(p=0.3), batch, seed=6)
    is_changed = [n != 60 or not torch.equal(x, y) for n, x, y in zip(some.lengths, some.inputs, items, strict=True)]
    assert np.mean(is_changed) == pytest.approx(0.3, abs=0.06)


#: Lengths and weighted sums of the frames that each augmentation gives for one seed.
OF_A_SEED = {
    "background": ([50, 31, 2], 101.39),
    "between_class": ([50, 31, 2], 81.13),
    "cutmix": ([50, 31, 2], -411.29),
    "equalizer": ([50, 31, 2], -345.73),
    "frequency_warp": ([50, 31, 2], -413.76),
    "gain": ([50, 31, 2], -369.42),
    "mixup": ([50, 31, 2], -373.36),
    "noise": ([50, 31, 2], 292.91),
    "random_crop": ([42, 31, 2], -376.06),
    "resized_crop": ([42, 27, 2], -353.82),
    "spec_augment": ([50, 31, 2], -422.55),
    "time_shift": ([50, 31, 2], -399.65),
    "time_stretch": ([51, 32, 2], -422.23),
}


@pytest.mark.parametrize("name", OF_A_SEED)
def test_a_seed_gives_the_same_frames_as_in_earlier_revisions(name):
    batch = batch_of(*[random_item(n, seed=n) for n in (50, 31, 2)])
    component = resolve_component(Augment, name)
    if name == "background":
        component.set_params(paths=["hum.wav"])
    recording = torch.linspace(-1, 1, 20)[:, None].expand(20, N_BINS)
    result = component.prepare(lambda paths: [recording], 16000)(batch, generator(6))
    lengths, total = OF_A_SEED[name]
    assert result.lengths.tolist() == lengths
    weights = torch.linspace(0, 1, result.inputs.shape[1])[:, None] * torch.linspace(0.5, 1, N_BINS)
    assert float((result.inputs * weights).sum()) == pytest.approx(total, abs=0.05)


# ------------------------------------------------------------------ time warping


def test_a_warp_keeps_the_ends_and_the_order_and_stretches_both_sides_of_one_frame():
    batch = batch_of(*[ramp(100)] * 300, ramp(9), ramp(2), ramp(1))
    warped = applied(SpecAugment(freq_masks=0, time_masks=0, time_warp=10), batch).inputs[..., 0]
    largest = []
    for frames, n in zip(warped, batch.lengths.tolist(), strict=True):
        time = frames[:n]
        assert (float(time[0]), float(time[-1])) == (0.0, n - 1.0)
        assert (time.diff() > 0).all()
        bends = time.diff(n=2).abs() > 1e-3
        assert bends.sum() <= 2, "one bend, which may lie between two frames"
        largest.append(float((time - ramp(n)[:, 0]).abs().max()))
    assert max(largest[:300]) <= 10
    assert np.quantile(largest[:300], 0.9) > 6
    assert largest[300] <= 3
    assert not warped[301, 2:].any()


def test_a_warp_of_zero_frames_draws_nothing():
    batch = batch_of(random_item(), random_item(20, seed=1))
    states = []
    for warp in (0, 5):
        draws = generator()
        SpecAugment(time_warp=warp).apply(batch, draws)
        states.append(draws.get_state())
    masked = generator()
    SpecAugment().apply(batch, masked)
    assert torch.equal(states[0], masked.get_state())
    assert not torch.equal(states[1], masked.get_state())
