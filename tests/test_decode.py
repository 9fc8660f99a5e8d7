"""Audio files of every format decode to the audio that was written, and damaged ones are refused."""

import fractions
import io
import sys

import av
import numpy as np
import pytest
import soundfile

from skastw.audio import decode, load_waveform
from skastw.errors import ClipValueError, MissingDependencyError

RATE = 48000
TIME = np.arange(2 * RATE) / RATE
# a sweep from 200 Hz to 2.2 kHz, which has one alignment only, and a 3 kHz tone
LEFT = (0.5 * np.hanning(len(TIME)) * np.sin(2 * np.pi * (200 * TIME + 500 * TIME**2))).astype(np.float32)
RIGHT = (0.3 * np.hanning(len(TIME)) * np.sin(2 * np.pi * 3000 * TIME)).astype(np.float32)
STEREO = np.stack([LEFT, RIGHT])

# container, codec, relative error that the codec may leave
SOUNDFILE_FORMATS = {
    "wav 8 bit": ("WAV", "PCM_U8", 0.05),
    "wav 16 bit": ("WAV", "PCM_16", 2e-4),
    "wav 24 bit": ("WAV", "PCM_24", 1e-6),
    "wav float": ("WAV", "FLOAT", 0),
    "wav mu-law": ("WAV", "ULAW", 0.05),
    "wav extensible": ("WAVEX", "PCM_16", 2e-4),
    "flac": ("FLAC", "PCM_16", 2e-4),
    "ogg vorbis": ("OGG", "VORBIS", 0.05),
    "opus": ("OGG", "OPUS", 0.05),
    "mp3": ("MP3", "MPEG_LAYER_III", 0.05),
    "aiff": ("AIFF", "PCM_16", 2e-4),
}
PYAV_FORMATS = {
    "m4a": ("ipod", "aac", 0.05),
    "m4a lossless": ("ipod", "alac", 2e-4),
    "webm": ("webm", "libopus", 0.05),
    "matroska": ("matroska", "flac", 2e-4),
}


def by_soundfile(samples, form, subtype, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, format=form, subtype=subtype)
    return file.getvalue()


def by_pyav(samples, form, codec, rate=RATE):
    """Return the bytes of a file with samples of shape (channels, n)."""
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def encoded(name, samples=LEFT[None]):
    if name in SOUNDFILE_FORMATS:
        return by_soundfile(samples, *SOUNDFILE_FORMATS[name][:2])
    return by_pyav(samples, *PYAV_FORMATS[name][:2])


def relative_error(decoded, original):
    n = len(original)
    return np.linalg.norm(decoded[:n] - original) / np.linalg.norm(original)


FORMATS = {**SOUNDFILE_FORMATS, **PYAV_FORMATS}


# ------------------------------------------------------------------ whole files


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_decodes_to_what_was_written(name, tmp_path):
    path = tmp_path / "clip"  # the content says the format, whatever the name
    path.write_bytes(encoded(name))
    samples, rate = decode(path)
    assert rate == RATE
    assert samples.dtype == np.float32
    assert samples.ndim == 2
    assert samples.shape[1] == 1
    assert 0 <= len(samples) - len(LEFT) < 2048  # a codec may fill up its last block, never drop a sample
    assert relative_error(samples[:, 0], LEFT) <= FORMATS[name][2]
    assert np.abs(samples[len(LEFT) :]).max(initial=0) < 0.01


@pytest.mark.parametrize("name", FORMATS)
def test_channels_stay_apart_and_in_order(name):
    samples, _ = decode(encoded(name, STEREO))
    assert samples.shape[1] == 2
    for channel, original in zip(samples.T, STEREO, strict=True):
        assert relative_error(channel, original) <= 2 * FORMATS[name][2]


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_are_read_as_the_file_is(name, tmp_path):
    content = encoded(name)
    path = tmp_path / "Größe 数.Audio"
    path.write_bytes(content)
    for one, two in zip(decode(path), decode(content), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_agree_once_loaded(name):
    waveform = load_waveform({"bytes": encoded(name)}, 16000)
    reference = load_waveform((LEFT, RATE), 16000)
    assert relative_error(waveform, reference) <= FORMATS[name][2] + 1e-6


def test_raw_aac_decodes_after_the_delay_of_its_encoder():
    samples, rate = decode(by_pyav(LEFT[None], "adts", "aac"))
    assert rate == RATE
    overlap = np.correlate(samples[: RATE // 2 + 4096, 0], LEFT[: RATE // 2], mode="valid")
    delay = overlap.argmax()
    assert delay <= 2112  # a bare stream has no place to announce the priming samples
    assert relative_error(samples[delay:, 0], LEFT) < 0.05


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_the_rate_is_that_of_the_file(rate):
    time = np.arange(rate) / rate
    tone = 0.5 * np.hanning(rate) * np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    for content in (
        by_soundfile(tone[None].astype(np.float32), "WAV", "PCM_16", rate),
        by_soundfile(tone[None].astype(np.float32), "MP3", "MPEG_LAYER_III", rate),
        by_pyav(tone[None].astype(np.float32), "ipod", "aac", rate),
    ):
        samples, found = decode(content)
        assert found == rate
        assert abs(np.abs(np.fft.rfft(samples[:rate, 0])).argmax() - 1000) <= 1


def test_samples_of_full_scale_are_one():
    extremes = np.array([[-32768, 0, 32767]], dtype=np.int16)
    samples, _ = decode(by_soundfile(extremes, "WAV", "PCM_16"))
    np.testing.assert_allclose(samples[:, 0], [-1, 0, 32767 / 32768])


def test_chunks_around_the_samples_do_no_harm():
    content = by_soundfile(LEFT[None], "WAV", "PCM_16")
    samples, _ = decode(content)
    note = b"LIST" + (5).to_bytes(4, "little") + b"note!\0"  # an odd length is padded
    before = content[:36] + note + content[36:]
    after = content + note
    for edited in (before, after):
        sized = edited[:4] + (len(edited) - 8).to_bytes(4, "little") + edited[8:]
        np.testing.assert_array_equal(decode(sized)[0], samples)
    with pytest.raises(ClipValueError, match="truncated"):  # the chunk before does not hide the cut
        decode(before[:-100])


# ------------------------------------------------------------------ streamed files


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0xFFFFFFFF, id="FFmpeg"),
        pytest.param(0x7FFFFFFF, id="2 GiB - 1"),
        pytest.param(0x7FFFF000, id="SoX"),  # its MS_UNSPEC
    ],
)
def test_a_streamed_wav_of_unknown_size_is_whole(size):
    content = by_soundfile(LEFT[None], "WAV", "PCM_16")
    start = content.index(b"data") + 4
    unknown = size.to_bytes(4, "little")
    streamed = content[:4] + unknown + content[8:start] + unknown + content[start + 4 :]
    np.testing.assert_array_equal(decode(streamed)[0], decode(content)[0])


# ------------------------------------------------------------------ damaged files


@pytest.mark.parametrize("left", [0.05, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_short_is_an_error(name, left):
    content = encoded(name)
    with pytest.raises(ClipValueError, match=r"truncated|cannot be decoded|holds no audio"):
        decode(content[: round(left * len(content))])


@pytest.mark.parametrize("name", SOUNDFILE_FORMATS)
def test_a_file_without_its_last_bytes_is_an_error(name):
    with pytest.raises(ClipValueError, match=r"truncated|cannot be decoded"):
        decode(encoded(name)[:-3])


def test_a_truncated_file_says_how_much_is_there():
    content = by_soundfile(LEFT[None], "WAV", "PCM_16")
    with pytest.raises(ClipValueError, match=r"truncated: 0.02 s can be read.*fetch or export it again"):
        decode(content[: 44 + 2000])


def test_what_is_no_audio_is_an_error(tmp_path):
    random = np.random.default_rng(0).bytes(5000)
    for content in (b"RIFF", b"OggS", b"ID3", b"\0" * 100, b"<html><body>404</body></html>", random):
        with pytest.raises(ClipValueError, match="cannot be decoded"):
            decode(content)


def test_noise_behind_the_mark_of_a_compressed_format_is_an_error():
    noise = np.random.default_rng(0).bytes(5000)
    for mark in (b"\0\0\0\x1cftypM4A ", b"\x1aE\xdf\xa3", b"\xff\xf1"):
        with pytest.raises(ClipValueError, match=r"cannot be decoded|has no audio stream|holds no audio"):
            decode(mark + noise)


def test_a_film_without_sound_is_an_error():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(ClipValueError, match="has no audio stream"):
        decode(file.getvalue())


# ------------------------------------------------------------------ the optional decoder


@pytest.mark.parametrize("name", PYAV_FORMATS)
def test_without_pyav_the_extra_is_named(name, monkeypatch, tmp_path):
    path = tmp_path / "clip.bin"
    path.write_bytes(encoded(name))
    monkeypatch.setitem(sys.modules, "av", None)
    for read in (lambda: decode(path), lambda: load_waveform(path, 16000, index=0)):
        with pytest.raises(MissingDependencyError, match=r"M4A, AAC, WebM.*pip install 'skastw\[av\]'") as caught:
            read()
        assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("name", SOUNDFILE_FORMATS)
def test_common_formats_do_not_need_pyav(name, monkeypatch):
    content = encoded(name)
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(decode(content)[0]) == len(LEFT)
