"""Frames of many clips: in memory or in a file, they are the same frames."""

import errno
import gc
import os
import signal
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from skastw import ASTWClassifier
from skastw.data.extraction import ahead, extract_frames
from skastw.data.frames import FrameStore, _FrameFile, blocks
from skastw.encoders import ASTWEncoder
from skastw.features import LogMel


def clips(n=7, width=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4 + i % 3, width, generator=generator) for i in range(n)]


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("limit", [None, 0, 100, 10**9])
def test_a_store_gives_back_what_it_was_given_in_any_order(limit):
    items = [*clips(), torch.empty(0, 3)]
    store = FrameStore(iter(items), limit=limit)
    assert len(store) == 8
    assert store.lengths.tolist() == [len(item) for item in items]
    for i in (7, 6, 0, 3, 3, -1):
        assert torch.equal(store[i], items[i])
    assert all(torch.equal(a, b) for a, b in zip(store, items, strict=True))


def test_items_beyond_the_limit_are_in_a_file(monkeypatch):
    written = []
    monkeypatch.setattr(_FrameFile, "append", lambda self, item: written.append(item.nbytes) or 0)
    FrameStore(clips(), limit=100)
    assert written == [item.nbytes for item in clips()[1:]]  # 48 + 60 bytes pass 100


def test_a_subset_is_a_view():
    items = clips()
    view = FrameStore(items, limit=100).subset(np.array([5, 0, 6])).subset([2, 0])
    assert view.lengths.tolist() == [len(items[6]), len(items[5])]
    assert torch.equal(view[0], items[6])
    assert torch.equal(view[1], items[5])


def test_stores_do_not_mix():
    items = clips()
    first, second = FrameStore(items, limit=0), FrameStore(items[::-1], limit=0)
    assert torch.equal(first[0], items[0])
    assert torch.equal(second[0], items[6])


def test_a_store_is_read_in_several_threads():
    items = [torch.full((50, 4), float(i)) for i in range(40)]
    store = FrameStore(items, limit=0)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(store.__getitem__, list(range(40)) * 20))
    assert all(torch.equal(frames, items[i % 40]) for i, frames in enumerate(read))


def test_a_full_disk_is_named_with_a_remedy(temporary):
    resource = pytest.importorskip("resource", reason="limits the size of files")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"temporary file in .*; make room there, set TMPDIR") as caught:
            FrameStore(clips(), limit=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(temporary) in str(caught.value)
    assert caught.value.errno == errno.EFBIG
    assert not list(temporary.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the open file in /proc")
def test_a_killed_fit_leaves_no_file(tmp_path):
    script = """if True:
        import glob, os, signal
        from skastw import ASTWClassifier
        from skastw.datasets import make_tones
        from skastw.encoders import ASTWEncoder

        def kill(*_):  # the frames are there when the network is built
            links = [os.readlink(name) for name in glob.glob("/proc/self/fd/*") if os.path.lexists(name)]
            print(sum(link.startswith(os.environ["TMPDIR"]) for link in links), "open", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        ASTWEncoder.build = kill
        clips, y = make_tones(n_clips=8, random_state=0)
        ASTWClassifier(cache="disk").fit(clips, y)
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "1 open\n"), killed.stderr
    assert not list(tmp_path.iterdir())


def test_blocks_hold_everything_once_and_little_at_a_time():
    stores = list(blocks(iter(clips(20)), size=200, n_bytes=lambda frames: frames.nbytes))
    assert [len(frames) for store in stores for frames in store] == [len(frames) for frames in clips(20)]
    assert all(sum(frames.nbytes for frames in store) <= 200 + 72 for store in stores)
    assert list(blocks([], size=1, n_bytes=len)) == []


def test_what_comes_ahead_comes_in_order_with_its_errors():
    def items():
        yield from (1, 2, 3)
        raise KeyError("fourth")

    loop = ahead(items())
    assert [next(loop) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(KeyError, match="fourth"):
        next(loop)


def test_an_abandoned_loop_leaves_no_thread_at_work():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    for item in ahead(items()):
        if item == 2:
            break
    assert len(made) <= 5


@pytest.mark.parametrize("cache", ["auto", "memory", "disk"])
def test_every_cache_trains_the_same_network_and_leaves_no_file(cache, temporary):
    rng = np.random.default_rng(0)
    X, y = [rng.standard_normal(1000 + 160 * i) for i in range(12)], np.arange(12) % 2
    settings = {"encoder": ASTWEncoder(d_model=8, num_heads=1, num_layers=1), "epochs": 2, "batch_size": 4}
    expected = ASTWClassifier(**settings, cache="memory").fit(X, y).predict_proba(X)
    found = ASTWClassifier(**settings, cache=cache).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(found, expected)
    assert not list(temporary.iterdir())


def test_an_error_in_fit_leaves_no_file(temporary):
    X = [np.ones(1000), np.ones(1000), np.full(1000, np.nan)]
    with pytest.raises(ValueError, match="Clip 2"):
        ASTWClassifier(cache="disk").fit(X, ["a", "b", "a"])
    assert not list(temporary.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_frames_of_the_cpu():
    rng = np.random.default_rng(0)
    X = [rng.standard_normal(3000 + 500 * i).astype(np.float32) for i in range(5)]
    front_end = LogMel().build(16000)
    on_cpu = extract_frames(X, front_end, sample_rate=16000)
    on_gpu = extract_frames(X, LogMel().build(16000), sample_rate=16000, device=torch.device("cuda"))
    for (_, first, _), (_, second, _) in zip(on_cpu, on_gpu, strict=True):
        assert second.device.type == "cpu"
        torch.testing.assert_close(first, second, atol=1e-4, rtol=0)


def test_the_temporary_file_is_closed_without_a_warning_when_nobody_reads_it():
    file = _FrameFile()
    begin = file.append(torch.ones(2, 3))
    inner, store = file._file, file
    del file
    assert store.read(begin, (2, 3)).sum() == 6
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del store
        gc.collect()
    assert inner.closed
    assert not caught
