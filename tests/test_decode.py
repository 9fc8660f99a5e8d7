"""Audio files of every format decode to the audio that was written, and damaged ones are refused."""

import contextlib
import io
import os
import socket
import sys
import tracemalloc

import av
import numpy as np
import pytest
import soundfile

from helpers import encode, encode_by_pyav
from skastw.audio import Limits, decode, load_waveform
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
    return encode(samples.T, rate, form, subtype)


def by_pyav(samples, form, codec, rate=RATE):
    return encode_by_pyav(samples, rate, form, codec)


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


def test_raw_aac_is_whole_however_its_loudness_changes():
    """Such a stream has no length of its own; FFmpeg guesses one from the bytes of its first frames."""
    loud = 0.3 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    content = by_pyav(np.concatenate([np.zeros_like(loud), loud])[None], "adts", "aac")
    assert len(decode(content)[0]) >= 8 * RATE


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
        decode(before[:-10_000])


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
def test_a_file_that_lacks_more_than_a_tenth_of_a_second_is_an_error(name):
    content = encoded(name)
    with pytest.raises(ClipValueError, match=r"truncated|cannot be decoded"):
        decode(content[: -round(0.075 * len(content))])  # of two seconds


@pytest.mark.parametrize("name", ["flac", "ogg vorbis", "opus"])
def test_formats_of_frames_and_pages_tell_that_their_last_bytes_are_missing(name):
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
        with pytest.raises(MissingDependencyError, match=r"M4A, AAC, WebM.*pip install .*skastw\[av\]") as caught:
            read()
        assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("name", SOUNDFILE_FORMATS)
def test_common_formats_do_not_need_pyav(name, monkeypatch):
    content = encoded(name)
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(decode(content)[0]) == len(LEFT)


# ------------------------------------------------------------------ limits, checked before memory is taken


def flac_announcing(samples, content=None):
    """Return a FLAC file whose header gives another number of samples: 36 bits from the middle of byte 21."""
    content = content or by_soundfile(LEFT[None], "FLAC", "PCM_16")
    head = int.from_bytes(content[18:26], "big") >> 36 << 36 | samples
    return content[:18] + head.to_bytes(8, "big") + content[26:]


def wav_announcing(size, rate=RATE, channels=1):
    content = bytearray(by_soundfile(LEFT[None, :28], "WAV", "PCM_16", rate))
    content[22:24] = channels.to_bytes(2, "little")
    content[32:34] = (2 * channels).to_bytes(2, "little")
    content[40:44] = size.to_bytes(4, "little")
    return bytes(content)


def mp3_announcing(frames):
    """Return an MP3 file that announces this many frames of 1152 samples in its Xing or Info header."""
    content = by_soundfile(LEFT[None, :4000], "MP3", "MPEG_LAYER_III")
    at = max(content.find(b"Xing"), content.find(b"Info"))
    assert at > 0
    return content[: at + 8] + frames.to_bytes(4, "big") + content[at + 12 :]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(wav_announcing(2**31 - 2**17), "truncated", id="a WAV of 100 bytes that announces 2 GiB"),
        pytest.param(wav_announcing(2**30), "truncated", id="a WAV of 100 bytes that announces 1 GiB"),
        pytest.param(flac_announcing(2**36 - 1), r"announces 397.7 h .* Limits.duration is 24.0 h", id="FLAC, 2**36"),
        pytest.param(flac_announcing(2**30), r"announces 1073741824 values .* Limits.values is 536870912", id="2**30"),
        pytest.param(flac_announcing(2**28), r"cannot be decoded|truncated", id="FLAC, 2**28"),
        pytest.param(flac_announcing(2**24), r"cannot be decoded|truncated", id="FLAC, 2**24"),
        pytest.param(mp3_announcing(2**19), r"announces 603978016 values", id="MP3, 2**19 frames"),
        pytest.param(mp3_announcing(2**18), r"truncated or damaged: \d+ bytes are too few", id="MP3, 2**18 frames"),
        pytest.param(
            encoded("m4a").replace(b"\x05\x80\x80\x80\x05", b"\x05\xff\x80\x80\x05"),  # AAC's own header
            "cannot be decoded by FFmpeg",
            id="M4A, a header of 254 MiB",
        ),
    ],
)
def test_what_is_announced_and_not_there_takes_no_memory(content, match, tmp_path):
    path = tmp_path / "clip"
    path.write_bytes(content)
    for source in (content, path):
        tracemalloc.start()
        try:
            with pytest.raises(ClipValueError, match=match):
                decode(source)
            assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("limits", [{"values": 2 * len(LEFT) - 1}, {"channels": 1}, {"duration": 1.9}], ids=str)
def test_a_file_beyond_a_limit_names_value_limit_and_remedy(name, limits):
    (limit,) = limits
    content = encoded(name, STEREO)
    remedy = rf"split it into shorter clips.*decode\(\.\.\., limits=Limits\({limit}=\.\.\.\)\) and pass the array"
    with pytest.raises(ClipValueError, match=rf"(announces|holds) \d.* and Limits\.{limit} is \d.*{remedy}"):
        decode(content, limits=Limits(**limits))
    assert decode(content, limits=Limits(values=2 * len(LEFT) + 8192, channels=2, duration=2.1))[0].shape[1] == 2


@pytest.mark.parametrize("name", PYAV_FORMATS)
def test_decoding_stops_at_the_limit_where_nothing_is_announced(name, monkeypatch):
    monkeypatch.setattr(sys.modules["skastw.audio.ffmpeg"], "_announced_seconds", lambda *_: None)
    with pytest.raises(ClipValueError, match=r"holds 0\.\d s of audio and Limits.duration is 0.1 s"):
        decode(encoded(name), limits=Limits(duration=0.1))


def test_many_channels_are_refused():
    with pytest.raises(ClipValueError, match=r"announces 300 channels and Limits\.channels is 256"):
        decode(wav_announcing(600, channels=300))


@pytest.mark.parametrize("rate", [1, 99, 2_000_000])
def test_the_rate_is_checked_before_decoding(rate, monkeypatch):
    monkeypatch.setattr(sys.modules["skastw.audio.decode"], "_read_samples", pytest.fail)
    with pytest.raises(ClipValueError, match=f"got a sample rate of {rate}, expected 100 to 1000000 Hz"):
        decode(wav_announcing(56, rate=rate))


def test_what_a_clip_becomes_at_the_new_rate_counts_too(tmp_path):
    path = tmp_path / "slow.flac"
    soundfile.write(path, np.zeros(7_000_000, dtype=np.int16), 100)  # 19 hours in 30 kB
    with pytest.raises(ClipValueError, match=r"resampled, has 1120000000 values .* and Limits.values is 536870912"):
        load_waveform(path, 16000)
    samples, rate = decode(path)
    assert load_waveform((samples[:1000].T, rate), 16000).shape == (160_000,)


@pytest.mark.skipif(sys.platform == "win32", reason="files have no holes")
def test_a_file_of_too_many_bytes_is_not_read(tmp_path):
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(wav_announcing(56))
        file.truncate(2**33)
    with pytest.raises(ClipValueError, match=r"has 8589934592 bytes and Limits.file_size is 4294967296 bytes"):
        decode(path)
    content = encoded("wav 16 bit")
    with pytest.raises(ClipValueError, match=rf"has {len(content)} bytes and Limits.file_size is 1000 bytes"):
        decode(content, limits=Limits(file_size=1000))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        (tmp_path / "link.wav").symlink_to("/dev/zero")
        for path in (tmp_path / "pipe.wav", tmp_path / "s", tmp_path / "link.wav", "/dev/zero", "/dev/stdin"):
            if path != "/dev/stdin" or not os.path.isfile(path):
                with pytest.raises(ClipValueError, match=r"is a pipe, a socket or a device, expected a WAV"):
                    decode(path)


@pytest.mark.parametrize("name", SOUNDFILE_FORMATS)
def test_long_files_are_read_in_blocks(name, monkeypatch):
    content = encoded(name, STEREO)
    whole, _ = decode(content)
    monkeypatch.setattr(sys.modules["skastw.audio.decode"], "_BLOCK", 1000)
    samples, _ = decode(content)
    np.testing.assert_array_equal(samples, whole)
    assert samples.flags.c_contiguous
    with pytest.raises(ClipValueError, match=r"truncated|cannot be decoded"):
        decode(content[: -len(content) // 4])


@pytest.mark.parametrize(
    ("mark", "demuxer"),
    [
        (b"\0\0\0\x1cftypM4A ", "mp4"),
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"0&\xb2u", "asf"),
        (b"#!AMR\n", "amr"),
        (b"wvpk", "wv"),
        (b"TTA1", "tta"),
        (b"\x0bw\0\0\0\x40", "ac3"),
        (b"\x0bw\0\0\0\x80", "eac3"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "mp4"),
        (b"OggS\0\2" + bytes(20) + b"\1\x0d\x7fFLAC", "ogg"),
        (b"\xff\xf1", "aac"),
    ],
)
def test_ffmpeg_is_given_the_name_of_the_demuxer(mark, demuxer, monkeypatch):
    """Left to guess, it may take a file for a playlist and open what that names."""
    asked = []
    monkeypatch.setattr(av, "open", lambda *_, **options: asked.append(options["format"]) or pytest.skip("never"))
    with contextlib.suppress(pytest.skip.Exception):
        decode(mark + bytes(100))
    assert asked == [demuxer]
    with pytest.raises(ClipValueError, match="it looks like a playlist"):
        decode(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")


# ------------------------------------------------------------------ what damage has uncovered


@pytest.mark.parametrize("suffix", [".au", ".gsm", ".raw", ".snd", ".vox"])
def test_noise_is_no_audio_whatever_its_name(suffix, tmp_path):
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(ClipValueError, match=r"cannot be decoded \((no header|Format not recognised)\)"):
        decode(path)
    path.write_bytes(encoded("wav 16 bit"))
    assert len(decode(path)[0]) == len(LEFT)


def test_titles_that_are_not_unicode_do_no_harm():
    file = io.BytesIO()
    with av.open(file, "w", format="ipod") as container:
        container.metadata["title"] = "Koerper"
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(LEFT[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = file.getvalue()
    latin = content.replace(b"Koerper", "Körpers".encode("latin-1"))
    assert latin != content
    np.testing.assert_array_equal(decode(latin)[0], decode(content)[0])


def test_more_channels_than_ffmpeg_has_planes_are_decoded():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE, layout="16 channels")
        ramp = np.arange(16 * 1000, dtype=np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(ramp, format="flt", layout="16 channels")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    samples, _ = decode(file.getvalue())
    np.testing.assert_array_equal(samples, ramp.reshape(1000, 16))
    assert decode(bytes.fromhex(FIFTEEN_CHANNELS))[0].shape == (1024, 15)


# AAC of 15 channels, which the fuzzer found: each plane of it in an array of its own ended the process
FIFTEEN_CHANNELS = (
    "fff1608015903f00000020eff4b93f000000400000003f000000e04eb8d03f000100000029d53f0000004049f9d83f00"
    "000040b40adc3f000000c05446de3f000000a0249bdf3f00000040fdfedf3f000000a0e56edf3f0000006028efdd3f00"
    "0000e0328bdb3f000000e03e55d83f00000000c765d43f0000004098b5cf3f000000e0e1adc53f000000e0c501b63f"
)


def test_damage_leaves_no_traces_of_python_on_standard_error(capfd):
    content = by_soundfile(LEFT[None], "AIFF", "PCM_16")
    for size in (0xFFFFFFFF, 0x80000000, 0xFFFFFFF0):
        with contextlib.suppress(ClipValueError):
            decode(content[:16] + size.to_bytes(4, "big") + content[20:])
    assert "Traceback" not in capfd.readouterr().err
