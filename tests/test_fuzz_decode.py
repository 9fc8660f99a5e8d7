"""Damaged and hostile audio files: decoding in this process survives them, and workers take what it would not."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.audio import Limits, decode, isolated_decoding, isolation, load_waveform
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder
from skastw.errors import ClipValueError, MissingDependencyError, SkastwError
from skastw.features import LogMel
from skastw.network.inference import ROUNDING

PATHS = [str(path) for path in load_spoken_digits().data[:6]]
linux_only = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux only")


# ------------------------------------------------------------------ fuzzing


@linux_only
@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_samples_or_an_error_in_little_memory_and_time(seed):
    import fuzz_decode

    report = fuzz_decode.fuzz(6000, seed, seconds=120)  # a case that fails, hangs or is not shielded names itself
    assert report.counts.total() + len(report.crashes) == 6000
    for family in ("wav", "flac", "ogg", "mp3"):
        assert report.counts[f"{family}: refused"] > 300
        assert report.counts[f"{family}: decoded"] > 100
    assert report.peak < 128  # MiB: decoded samples of 16 MiB at most, a few copies, the new rate
    assert report.slowest[0] < fuzz_decode.TIMEOUT


@linux_only
@pytest.mark.filterwarnings("ignore:An audio file in memory", "ignore:.*clip': ")
def test_workers_say_of_damaged_files_what_this_process_says():
    import fuzz_decode

    def outcome(decode_, content):
        try:
            samples, rate = decode_(content)
            return samples.tobytes(), samples.shape, rate
        except SkastwError as error:
            return type(error), str(error)

    contents = [fuzz_decode.damaged(4, case)[1] for case in range(600)]
    here = [outcome(lambda content: decode(content, limits=fuzz_decode.LIMITS), content) for content in contents]
    gc.collect()  # what earlier tests left open may be closed at any time
    open_before = set(os.listdir("/proc/self/fd"))
    with isolated_decoding(workers=2, limits=fuzz_decode.LIMITS) as isolated, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda content: outcome(isolated, content), contents)) == here
    assert set(os.listdir("/proc/self/fd")) <= open_before


@linux_only
@pytest.mark.filterwarnings("ignore:An audio file in memory", "ignore:.*clip': ")
def test_a_case_can_be_repeated():
    import fuzz_decode

    cases = [fuzz_decode.damaged(3, case) for case in range(50)]
    fuzz_decode.corpus.cache_clear()
    assert cases == [fuzz_decode.damaged(3, case) for case in range(50)]
    assert all(fuzz_decode.outcome_of(content) == "decoded" for content in fuzz_decode.corpus().values())


# ------------------------------------------------------------------ what stands in for a library with a hole

_STUBBORN = """
import ctypes, os, signal, sys, time
sys.path[:] = sys.argv[2:]
import numpy as np
import skastw.audio.decode
from skastw.audio.isolation import work

def decode(source, start, end, limits):
    name = os.path.basename(source) if isinstance(source, str) else source.decode("latin-1")
    if "segfault" in name:
        ctypes.string_at(0)
    if "abort" in name:
        os.abort()
    if "leave" in name:
        os._exit(3)
    if "hang" in name:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        while True:
            pass
    if "greedy" in name:
        return np.ones((2**28, 1), np.float32), 16000
    if "bug" in name:
        raise ZeroDivisionError("division by zero")
    if "noise" in name:
        os.write(1, b"Error A : 72" * 1000)
        os.write(2, b"Error B : 72" * 1000)
    if "liar" in name:
        for descriptor in range(3, 20):
            try:
                os.write(descriptor, name.split("liar:", 1)[1].encode("latin-1") + b"\\n")
            except OSError:
                pass
        os._exit(0)
    return skastw.audio.decode(source, limits=limits)

work(decode)
"""


@pytest.fixture
def stubborn(monkeypatch, tmp_path):
    """Workers whose decoder crashes, hangs or lies where the name of a file says so; return paths by that name."""
    monkeypatch.setattr(isolation, "_PROGRAM", _STUBBORN)

    def path(name):
        file = tmp_path / f"{name}.wav"
        soundfile.write(file, 0.1 * np.random.default_rng(0).standard_normal(8000), 16000)
        return str(file)

    return path


def children():
    """Return the processes that this one has started."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()) if Path("/proc").exists() else set()


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    before = children()
    yield
    assert children() <= before
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


# ------------------------------------------------------------------ workers decode what this process does


def test_a_worker_decodes_as_this_process_does(tmp_path):
    stereo = tmp_path / "Größe 数.wav"
    soundfile.write(stereo, np.random.default_rng(0).uniform(-1, 1, (50_000, 2)), 44100)
    with isolated_decoding(workers=1) as isolated:
        for source in (*PATHS[:2], Path(PATHS[0]), Path(PATHS[0]).read_bytes(), stereo):
            samples, rate = isolated(source)
            expected, expected_rate = decode(source)
            np.testing.assert_array_equal(samples, expected)
            assert (samples.dtype, samples.shape, rate) == (np.float32, expected.shape, expected_rate)
            assert samples.flags.writeable


def test_clips_go_to_workers_inside_the_block_only():
    outside = isolation.current_decoder()
    expected = load_waveform(PATHS[0], 8000)
    with isolated_decoding(workers=1) as isolated:
        assert isolation.current_decoder() is isolated
        for clip in (PATHS[0], {"path": PATHS[0]}, {"bytes": Path(PATHS[0]).read_bytes()}):
            np.testing.assert_array_equal(load_waveform(clip, 8000), expected)
        with isolated_decoding(workers=1) as inner:
            assert isolation.current_decoder() is inner
        assert isolation.current_decoder() is isolated
    assert isolation.current_decoder() is outside
    with pytest.raises(SkastwError, match="isolated_decoding has ended"):
        isolated(PATHS[0])


def test_errors_are_those_of_this_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noise.wav").write_bytes(b"RIFF" + bytes(100))
    with isolated_decoding(workers=1) as isolated:
        for source in ("lost.wav", "", ".", b"", b"noise", "noise.wav", "nul\0.wav"):
            with pytest.raises(ClipValueError) as here:
                decode(source)
            with pytest.raises(ClipValueError) as there:
                isolated(source)
            assert str(there.value) == str(here.value)
        with pytest.raises(ClipValueError, match=r"^Clip 3 \('lost.wav'\): no such file"):
            load_waveform("lost.wav", 16000, index=3)


def test_relative_paths_are_those_of_the_moment(tmp_path, monkeypatch):
    with isolated_decoding(workers=1) as isolated:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            soundfile.write("clip.wav", np.full(len(name) * 100, 0.5 if name == "one" else 0.25), 16000)
            assert isolated("clip.wav")[0][0, 0] == pytest.approx(0.5 if name == "one" else 0.25)


def test_limits_hold_in_workers():
    with isolated_decoding(workers=1, limits=Limits(duration=0.1)) as isolated:
        with pytest.raises(ClipValueError, match=r"announces 0.5 s of audio and Limits.duration is 0.1 s"):
            isolated(PATHS[0])
        with pytest.raises(ClipValueError, match=r"Clip 0 .*Limits.duration"):
            ASTWFeaturizer().fit_transform(PATHS)


def test_a_missing_package_is_named(stubborn, monkeypatch):
    program = "import sys; sys.modules['av'] = None;" + _STUBBORN
    monkeypatch.setattr(isolation, "_PROGRAM", program)
    with isolated_decoding(workers=1) as isolated, pytest.raises(MissingDependencyError, match=r"skastw\[av\]"):
        isolated(b"\0\0\0\x1cftypM4A " + bytes(100))


@pytest.mark.parametrize("setting", [{"timeout": 0}, {"memory": -1}, {"workers": 0}, {"timeout": float("nan")}])
def test_settings_are_positive(setting):
    with pytest.raises(ValueError, match=r"expected a positive number"), isolated_decoding(**setting):
        pass


# ------------------------------------------------------------------ workers take the blow


@pytest.mark.parametrize(
    ("name", "how"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("leave", "exit status 3")], ids=lambda name: name
)
def test_a_crash_costs_one_clip(name, how, stubborn):
    with isolated_decoding(workers=1) as isolated:
        with pytest.raises(ClipValueError, match=rf"crashed the decoder \({how}\)"):
            isolated(stubborn(name))
        assert len(isolated(stubborn("good"))[0]) == 8000


def test_a_hang_is_killed(stubborn):
    with isolated_decoding(workers=1, timeout=1) as isolated:
        isolated(stubborn("good"))
        with pytest.raises(ClipValueError, match="took the decoder longer than 1 s"):
            isolated(stubborn("hang"))
        assert len(isolated(stubborn("good"))[0]) == 8000


@linux_only
def test_memory_is_limited(stubborn):
    with isolated_decoding(workers=1, memory=2**29) as isolated:
        with pytest.raises(ClipValueError, match="takes the decoder more memory than 536870912 bytes"):
            isolated(stubborn("greedy"))
        assert len(isolated(stubborn("good"))[0]) == 8000


def test_an_unexpected_error_is_an_error_about_the_clip(stubborn):
    reason = r"cannot be decoded \(ZeroDivisionError: division by zero\)"
    with isolated_decoding(workers=1) as isolated, pytest.raises(ClipValueError, match=reason):
        isolated(stubborn("bug"))


def test_what_decoders_print_is_neither_seen_nor_taken_for_an_answer(stubborn, capfd):
    with isolated_decoding(workers=1) as isolated:
        assert len(isolated(stubborn("noise"))[0]) == 8000
    assert capfd.readouterr() == ("", "")


@linux_only
@pytest.mark.parametrize(
    "answer",
    [
        '{"samples": 99999999999, "channels": 1, "rate": 16000}',
        '{"samples": 1000, "channels": 1, "rate": 16000}',
        '{"samples": -1, "channels": -1, "rate": 16000}',
        '{"samples": 10, "channels": 1, "rate": 0}',
        '{"samples": 1e999, "channels": 1, "rate": 16000}',
        '{"error": "SystemExit", "reason": "bye"}',
        '{"error": ["ClipValueError"], "reason": "bye"}',
        "[" * 50_000,
        "[]",
        "7",
        "null",
        "\\x80\\x04cos\\nsystem\\n(S'touch owned'\\ntR.",
    ],
)
def test_a_worker_that_was_taken_over_is_not_believed(answer, stubborn):
    with isolated_decoding(workers=1) as isolated, pytest.raises(ClipValueError, match=r"crashed|Limits"):
        isolated(f"liar:{answer}".encode("latin-1"))


def test_a_worker_that_died_between_two_clips_is_replaced_without_blame():
    with isolated_decoding(workers=1) as isolated:
        isolated(PATHS[0])
        os.kill(isolated._idle[0]._process.pid, signal.SIGKILL)
        time.sleep(0.2)
        assert isolated(PATHS[0])[1] == 16000


def test_a_worker_that_cannot_start_is_no_fault_of_the_clip(monkeypatch):
    monkeypatch.setattr(isolation, "_PROGRAM", "raise SystemExit(1)")
    with isolated_decoding(workers=1) as isolated, pytest.raises(SkastwError, match="could not be started") as caught:
        isolated(PATHS[0])
    assert not isinstance(caught.value, ClipValueError)


@linux_only
def test_a_hanging_worker_does_not_outlive_a_run_that_is_killed(stubborn, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from skastw.audio import isolated_decoding, isolation\n"
        f"isolation._PROGRAM = {_STUBBORN!r}\n"
        "with isolated_decoding(timeout=1, workers=1) as isolated:\n"
        "    isolated(sys.argv[1])\n"
        "    print(isolated._idle[0]._process.pid, flush=True)\n"
        "    isolated(sys.argv[2])\n"
    )
    run = subprocess.Popen([sys.executable, script, stubborn("good"), stubborn("hang")], stdout=subprocess.PIPE)
    worker = int(run.stdout.readline())
    time.sleep(0.3)
    run.kill()
    run.wait()
    run.stdout.close()
    for _ in range(200):
        if not Path(f"/proc/{worker}/stat").exists() or Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker still runs")


# ------------------------------------------------------------------ estimators


def classifier(**settings):
    encoder = ASTWEncoder(d_model=8, num_heads=1, num_layers=1, ff_mult=1)
    return ASTWClassifier(features=LogMel(n_mels=8, n_fft=64, hop_length=64), encoder=encoder, epochs=1, **settings)


@pytest.fixture
def tone_files(tone_clips, tmp_path):
    clips, y = tone_clips
    paths = [str(tmp_path / f"{i}.flac") for i in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip, 16000)
    return paths, y


@pytest.mark.parametrize("n_jobs", [None, 3])
def test_estimators_fit_and_predict_the_same(n_jobs, tone_files):
    paths, y = tone_files
    expected = classifier(n_jobs=n_jobs).fit(paths, y).predict_proba(paths)
    with isolated_decoding(workers=2) as isolated:
        clf = classifier(n_jobs=n_jobs).fit(paths, y)
        assert 1 <= len(isolated._idle) <= (2 if n_jobs else 1)
        np.testing.assert_array_equal(clf.predict_proba(paths), expected)
        np.testing.assert_allclose(clf.predict_proba(paths[0]), expected[:1], rtol=0, atol=ROUNDING)
        for one, two in zip(
            ASTWFeaturizer(n_jobs=n_jobs).fit_transform(paths), ASTWFeaturizer().fit_transform(paths), strict=True
        ):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("n_jobs", [None, 3])
def test_estimators_name_the_clip_that_crashes(n_jobs, tone_files, stubborn):
    paths, y = tone_files
    paths[7] = stubborn("segfault")
    with isolated_decoding(workers=2):
        for use in (
            lambda: classifier(n_jobs=n_jobs).fit(paths, y),
            lambda: ASTWFeaturizer(n_jobs=n_jobs).fit_transform(paths),
        ):
            with pytest.raises(ClipValueError, match=r"^Clip 7 \(.*segfault.wav'\): crashed the decoder \(SIGSEGV\)"):
                use()
        clf = classifier(n_jobs=n_jobs).fit(paths[:7], y[:7])
        with pytest.raises(ClipValueError, match=r"^Clip 7 .*crashed the decoder"):
            clf.predict(paths)
        assert len(clf.predict(paths[8:])) == len(paths) - 8
