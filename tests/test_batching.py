"""Masks, padding, chunks and buckets: everything is covered once, and little of a batch is padding."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from skastw.core.batching import Batch, length_mask, pad, shuffled_buckets, sorted_buckets, split_evenly
from skastw.data.frames import FrameSet, FrameStore


def clip_lengths(n=560, seed=0):
    """Frames of short spoken sentences: 3.7 s, give or take 0.35 s, at 100 frames a second."""
    return np.maximum(1, np.random.default_rng(seed).normal(370, 35, size=n).round()).astype(np.int64)


def padding_ratio(batches, lengths):
    """Return how many frames are computed for each frame that is real."""
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches) / np.sum(lengths)


# ------------------------------------------------------------------ masks and padding


def test_the_mask_marks_the_first_positions():
    mask = length_mask(torch.tensor([0, 2, 4]), 4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert length_mask(torch.tensor([7]), 3).all()


def test_padding_keeps_the_items_and_adds_zeros_behind_them():
    generator = torch.Generator().manual_seed(0)
    items = [torch.randn(n, 3, generator=generator) for n in (4, 1, 9)]
    padded, lengths = pad(items)
    assert (padded.shape, padded.dtype) == ((3, 9, 3), torch.float32)
    assert (lengths.tolist(), lengths.dtype) == ([4, 1, 9], torch.int64)
    for row, item in zip(padded, items, strict=True):
        assert torch.equal(row[: len(item)], item)
        assert not row[len(item) :].any()


def test_padding_takes_waveforms_and_keeps_their_dtype():
    padded, lengths = pad([torch.ones(2, dtype=torch.float64), torch.ones(5, dtype=torch.float64)])
    assert (padded.shape, padded.dtype, lengths.tolist()) == ((2, 5), torch.float64, [2, 5])


def test_a_batch_moves_to_a_device_and_its_lengths_stay():
    batch = Batch(torch.ones(1, 2, 3), torch.tensor([2]), torch.tensor([0]), torch.ones(1)).to(torch.device("meta"))
    assert {t.device.type for t in (batch.inputs, batch.targets, batch.weights)} == {"meta"}
    assert batch.lengths.tolist() == [2]


# ------------------------------------------------------------------ chunks


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_chunks_cover_everything_and_are_equal_within_one(limit):
    for length in range(1, 300):
        chunks = split_evenly(length, limit)
        sizes = [stop - start for start, stop in chunks]
        assert [i for start, stop in chunks for i in range(start, stop)] == list(range(length))
        assert max(sizes) <= limit
        assert max(sizes) - min(sizes) <= 1
        assert len(chunks) == -(-length // limit), "as few as possible"


# ------------------------------------------------------------------ buckets


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 31, 32, 33, 100])
@pytest.mark.parametrize("batch_size", [1, 2, 16, 200])
def test_an_epoch_holds_every_item_once_in_full_batches(n, batch_size):
    for seed in range(20):
        batches = shuffled_buckets(clip_lengths(n), batch_size, np.random.default_rng(seed))
        assert sorted(np.concatenate(batches).tolist()) == list(range(n))
        assert len(batches) == -(-n // batch_size), "the schedule counts on this number"
        sizes = [len(batch) for batch in batches]
        assert all(1 <= size <= batch_size for size in sizes)
        assert sum(size < batch_size for size in sizes) <= 2


def test_epochs_differ_and_a_seed_repeats_them():
    lengths = clip_lengths(100)

    def epochs(seed):
        rng = np.random.default_rng(seed)
        return [[batch.tolist() for batch in shuffled_buckets(lengths, 16, rng)] for _ in range(3)]

    first, second, third = epochs(0)
    assert first != second != third != first
    assert epochs(0) == [first, second, third]
    assert epochs(1)[0] != first
    together = [{frozenset(batch) for batch in epoch} for epoch in (first, second)]
    assert not together[0] & together[1], "clips meet other clips in the next epoch"


def test_batches_come_in_random_order():
    lengths = clip_lengths(320)
    means = [lengths[batch].mean() for batch in shuffled_buckets(lengths, 16, np.random.default_rng(0))]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.6


def test_little_of_a_shuffled_epoch_is_padding():
    lengths = clip_lengths()
    rng = np.random.default_rng(0)
    ratios = [padding_ratio(shuffled_buckets(lengths, 16, rng), lengths) for _ in range(5)]
    assert max(ratios) <= 1.08
    at_random = padding_ratio(np.split(rng.permutation(560), 35), lengths)
    assert at_random > 1.12, "the bound means something for these lengths"


def test_clips_of_one_length_need_no_padding_and_still_mix():
    lengths = np.full(64, 100)
    rng = np.random.default_rng(0)
    first, second = (shuffled_buckets(lengths, 8, rng) for _ in range(2))
    assert padding_ratio(first, lengths) == 1
    assert not {frozenset(batch.tolist()) for batch in first} & {frozenset(batch.tolist()) for batch in second}


def test_without_jitter_batches_are_strictly_sorted():
    lengths = clip_lengths(100)
    batches = shuffled_buckets(lengths, 16, np.random.default_rng(0), jitter=0.0)
    spans = sorted((int(lengths[batch].min()), int(lengths[batch].max())) for batch in batches)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
def test_sorted_buckets_go_from_long_to_short(batch_size):
    lengths = clip_lengths(100)
    batches = list(sorted_buckets(lengths.tolist(), batch_size))
    order = [i for batch in batches for i in batch]
    assert sorted(order) == list(range(100))
    assert (np.diff(lengths[order]) <= 0).all()
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(batches) == -(-100 // batch_size)


def test_sorted_buckets_of_nothing_are_nothing():
    assert list(sorted_buckets([], 4)) == []


# ------------------------------------------------------------------ data sets


@pytest.fixture
def data():
    """Items of 3, 50 and 10 frames; a frame holds its own position."""
    frames = [torch.arange(n, dtype=torch.float32)[:, None] + 1 for n in (3, 50, 10)]
    return FrameSet(FrameStore(frames), torch.tensor([5, 6, 7]), torch.tensor([0.5, 1.0, 2.0]))


def test_a_batch_holds_the_chosen_items_with_their_targets_and_weights(data):
    batch = data.batch(np.array([2, 0]), 100, np.random.default_rng(0))
    assert batch.lengths.tolist() == [10, 3]
    assert batch.targets.tolist() == [7, 5]
    assert batch.weights.tolist() == [2.0, 0.5]
    assert batch.inputs[1, :, 0].tolist() == [1, 2, 3, 0, 0, 0, 0, 0, 0, 0]


def test_of_a_long_item_a_batch_takes_a_random_stretch(data):
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(400):
        batch = data.batch(np.array([1, 0]), 10, rng)
        assert batch.lengths.tolist() == [10, 3]
        chunk = batch.inputs[0, :, 0]
        assert (chunk.diff() == 1).all()
        starts.add(int(chunk[0]))
    assert starts == set(range(1, 50 - 10 + 2)), "every stretch has its turn, the first and the last too"


def test_an_item_of_just_the_limit_is_taken_whole(data):
    batch = data.batch(np.array([2]), 10, np.random.default_rng(0))
    assert batch.inputs[0, :, 0].tolist() == list(range(1, 11))


def test_one_seed_takes_the_same_stretches(data):
    first, again, other = (
        torch.stack([data.batch(np.array([1]), 10, rng).inputs for _ in range(5)])
        for rng in map(np.random.default_rng, (0, 0, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_lengths_count_what_a_batch_would_hold(data):
    assert data.lengths(10).tolist() == [3, 10, 10]
    assert data.lengths(100).tolist() == [3, 50, 10]


def test_a_subset_keeps_items_targets_and_weights_together(data):
    subset = data.subset(np.array([2, 0]))
    assert len(subset) == 2
    assert [len(item) for item in subset.frames] == [10, 3]
    assert (subset.targets.tolist(), subset.weights.tolist()) == ([7, 5], [2.0, 0.5])
