"""A header is believed only if it is true: nothing of a recording is lost in silence, and no whole one is refused."""

import contextlib
import fractions
import io
import os
import struct
import sys
import tracemalloc
import warnings
from pathlib import Path

import av
import numpy as np
import pytest

import decode_corpus as corpus
from helpers import encode
from skastw import ASTWFeaturizer
from skastw.audio import Limits, decode, isolated_decoding, load_waveform, stream_waveform
from skastw.audio.decode import decode_blocks
from skastw.errors import ClipValueError, MissingDependencyError

RATE = 44100
TIME = np.arange(2 * RATE) / RATE
#: A quiet half and a loud half: a variable bit rate tells them apart.
SOUND = (np.where(TIME < 1, 0.01, 0.5) * np.sin(2 * np.pi * (200 * TIME + 500 * TIME**2))).astype(np.float32)
SOUND += (np.where(TIME < 1, 1e-4, 0.1) * np.random.default_rng(0).standard_normal(len(TIME))).astype(np.float32)


def encoded(form, subtype=None, samples=SOUND, rate=RATE, **options):
    return encode(samples, rate, form, subtype, **options)


def by_ffmpeg(form, codec, samples=SOUND, rate=RATE, options=None):
    """Return a file that FFmpeg writes, in the sample format of the codec."""
    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 96000
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            if packet.size:
                container.mux(packet)
    return file.getvalue()


def mp3(mode="CONSTANT", samples=SOUND, rate=RATE):
    return encoded("MP3", None, samples, rate, bitrate_mode=mode, compression_level=0.5)


def headerless(content):
    """Return an MP3 file without its first frame, which says how many follow."""
    following = content.index(content[:2], 4)
    while content[following + 2] & 0x0C != content[2] & 0x0C or content[following + 2] >> 4 in (0, 15):
        following = content.index(content[:2], following + 1)
    assert b"Xing" in content[:following] or b"Info" in content[:following]
    return content[following:]


def wav_of_size(size):
    return corpus.with_wav_size(encoded("WAV", "PCM_16"), size)


def likeness(samples, original=SOUND):
    """Return the correlation at the best of all shifts up to 0.1 s."""
    return corpus.correlation(samples, original, RATE)


MODES, TAGS = ("CONSTANT", "VARIABLE"), ("id3 in", "id3 with", "id3v1", "ape", "lyrics", "picture")
SECONDS = pytest.approx(2.0, abs=0.1)


# ------------------------------------------------------------------ MP3: frames are counted


@pytest.mark.parametrize("mode", MODES)
def test_an_mp3_without_a_length_is_whole_in_every_form(mode, tmp_path):
    content = headerless(mp3(mode))
    path = tmp_path / "clip.mp3"
    path.write_bytes(content)
    samples, rate = decode(path)
    assert rate == RATE
    assert len(samples) / rate == SECONDS
    assert likeness(samples[:, 0]) > 0.97
    assert likeness(samples[:, 0], decode(mp3(mode))[0][:, 0]) > 0.9999
    np.testing.assert_array_equal(decode(content)[0], samples)
    np.testing.assert_array_equal(np.concatenate([block for block, _ in decode_blocks(path)]), samples)
    np.testing.assert_allclose(np.concatenate(list(stream_waveform(path, RATE))), samples[:, 0])
    np.testing.assert_array_equal(decode(path, start=1.2, end=1.9)[0], samples[round(1.2 * RATE) : round(1.9 * RATE)])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "edit", [name for name in corpus.EDITS if name.startswith(("id3", "two", "ape", "lyr", "pic"))]
)
def test_tags_change_nothing(mode, edit, recwarn):
    for content in (mp3(mode), headerless(mp3(mode))):
        np.testing.assert_array_equal(decode(corpus.EDITS[edit](content))[0], decode(content)[0])
    assert not recwarn.list


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("edit", ["zeros in front", "part of a frame in front"])
def test_what_a_cutter_leaves_in_front_is_skipped(mode, edit, tmp_path):
    path = tmp_path / "clip.mp3"
    for content in (mp3(mode), headerless(mp3(mode))):
        path.write_bytes(corpus.EDITS[edit](content))
        np.testing.assert_array_equal(decode(path)[0], decode(content)[0])


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 24000, 32000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_version_of_mpeg_is_counted(rate, channels):
    noise = 0.1 * np.random.default_rng(0).standard_normal((2 * rate, channels))
    content = mp3("VARIABLE", noise, rate)
    samples, found = decode(headerless(content))
    assert found == rate
    assert samples.shape[1] == channels
    assert 2 * rate - 600 <= len(samples) <= 2 * rate + 4 * 1152
    assert abs(len(samples) - len(decode(content)[0])) <= 4 * 1152


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", [lambda content: content, headerless], ids=["header", "no header"])
@pytest.mark.parametrize("second", [lambda content: content, headerless], ids=["header", "no header"])
@pytest.mark.parametrize("between", [b"", corpus.ID3V1 + corpus.id3(300), corpus.APE], ids=["", "ID3", "APE"])
def test_two_mp3_files_that_were_joined_are_both_there(mode, first, second, between, tmp_path):
    content = first(mp3(mode)) + between + second(mp3(mode, SOUND[::-1].copy()))
    path = tmp_path / "clip.mp3"
    path.write_bytes(content)
    samples, rate = decode(path)
    assert len(samples) / rate == pytest.approx(4.0, abs=0.15)
    half = len(samples) // 2
    assert likeness(samples[:half, 0]) > 0.97
    assert likeness(samples[half:, 0], SOUND[::-1]) > 0.97
    np.testing.assert_array_equal(np.concatenate([block for block, _ in decode_blocks(path)]), samples)
    np.testing.assert_array_equal(decode(content, start=3.0, end=3.5)[0], samples[3 * RATE : round(3.5 * RATE)])


def test_joined_files_of_two_rates_are_refused():
    content = mp3() + mp3(rate=22050)
    with pytest.raises(ClipValueError, match="changes its channels or sample rate half-way"):
        decode(content)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("left", [0.13, 0.5, 0.9])
def test_an_mp3_that_ends_inside_a_frame_or_before_its_count_is_truncated(mode, left):
    whole = mp3(mode)
    with pytest.raises(ClipValueError, match=r"is truncated: \d\.\d\d s can be read"):
        decode(whole[: round(left * len(whole))])
    content = headerless(whole)
    with pytest.raises(ClipValueError, match=r"is truncated: \d\.\d\d s can be read"):
        decode(content[: round(left * len(content)) + 1])
    with pytest.raises(ClipValueError, match="is truncated"):
        decode(content[:-40] + corpus.ID3V1)


def test_fraunhofers_header_is_a_count_too():
    content = headerless(mp3("CONSTANT"))
    n_frames = corpus.mp3_frames(content)
    with_header = corpus.vbri_frame(content, n_frames) + content
    np.testing.assert_array_equal(decode(with_header)[0], decode(content)[0])
    with pytest.raises(ClipValueError, match="is truncated"):
        decode(corpus.vbri_frame(content, n_frames + 10) + content)


def test_a_header_that_counts_too_few_frames_hides_none():
    content = mp3()
    at = max(content.find(b"Xing"), content.find(b"Info"))
    n_frames = int.from_bytes(content[at + 8 : at + 12], "big")
    short = content[: at + 8] + (n_frames // 2).to_bytes(4, "big") + (1000).to_bytes(4, "big") + content[at + 16 :]
    samples, rate = decode(short)
    assert len(samples) / rate == SECONDS
    assert likeness(samples[:, 0]) > 0.99


def test_a_frame_behind_what_is_no_audio_is_no_recording():
    frame = b"\xff\xfb\x90\x64".ljust(417, b"\0")
    noise = np.random.default_rng(0).integers(0, 128, 20_000, dtype=np.uint8).tobytes()
    assert len(decode(frame)[0]) > 0
    with pytest.raises(ClipValueError, match=r"cannot be decoded \(Format not recognised\)"):
        decode(b"FLV\1\5\0\0\0\t" + noise + frame)


def test_strange_bytes_in_front_of_frames_are_told():
    content = headerless(mp3())
    with pytest.warns(
        UserWarning, match="9000 of its bytes are neither audio nor tags; a part of the audio may be lost"
    ):
        np.testing.assert_array_equal(decode(b"\1" * 9000 + content)[0], decode(content)[0])


def test_padding_and_tags_of_ape_in_front_are_no_strange_bytes(recwarn):
    content = headerless(mp3())
    picture = b"APETAGEX" + struct.pack("<IIII", 2000, 10**5 + 32, 1, 0xA0000000) + bytes(8) + b"\1" * 10**5
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, 10**5 + 32, 1, 0x80000000) + bytes(8)
    for before in (picture + footer, corpus.id3(500) + bytes(9000)):
        np.testing.assert_array_equal(decode(before + content)[0], decode(content)[0])
    assert not recwarn.list


def test_strange_bytes_between_frames_are_told():
    content = headerless(mp3())
    half = corpus.frames_start(content) + sum(
        len(frame) + 4 for frame in content.split(content[:4])[1:40]
    )  # a place where a frame begins
    with pytest.warns(UserWarning, match=r"An audio file in memory: \d+ of its bytes are neither audio nor tags"):
        samples, rate = decode(content[:half] + bytes(9000) + content[half:])
    assert len(samples) / rate == SECONDS


@pytest.mark.parametrize("codec", ["libmp3lame", "mp2"])
@pytest.mark.parametrize("rate", [24000, 44100, 48000])
def test_mpeg_audio_in_wav_is_whole(codec, rate):
    content = by_ffmpeg("wav", codec, SOUND, rate)
    samples, found = decode(content)
    assert found == rate
    assert len(samples) / rate == pytest.approx(len(SOUND) / rate, abs=0.1)
    with pytest.raises(ClipValueError, match="is truncated"):
        decode(content[: len(content) // 2])


def test_layer_two_is_counted():
    content = by_ffmpeg("mp2", "mp2")
    assert len(decode(content)[0]) / RATE == SECONDS
    with pytest.raises(ClipValueError, match="is truncated"):
        decode(content[:-10])


def test_hostile_rows_of_frames_end_soon():
    frame = b"\xff\xf3\x14\xc4".ljust(24, b"\0")
    with pytest.raises(ClipValueError, match=r"frames are interrupted 10000 times|cannot be decoded|truncated"):
        decode((3 * frame + b"x") * 20_000)


@pytest.mark.parametrize(
    "content",
    [
        bytes(32) + b"APETAGEX" + bytes(24),
        b"OggS" + bytes(22) + b"\1\0" + b"OggS\0\6" + bytes(21) + b"OggS",
        b"RIFF\0\0\0\0WAVE" + bytes(2**18),
        b"FORM\0\0\0\0AIFF" + bytes(2**18),
        b"caff\0\1\0\0" + bytes(2**14),
        b"Creative Voice File\x1a\x1a\0" + bytes(100),
    ],
)
def test_sizes_of_zero_do_not_stop_the_search(content):
    with pytest.raises(ClipValueError):
        decode(content)


# ------------------------------------------------------------------ AAC


@pytest.mark.parametrize("edit", ["id3 in front", "two id3 in front", "id3v1 behind", "zeros in front"])
def test_aac_is_found_between_tags(edit):
    content = by_ffmpeg("adts", "aac")
    np.testing.assert_array_equal(decode(corpus.EDITS[edit](content))[0], decode(content)[0])


def test_aac_that_ends_inside_a_frame_is_truncated():
    content = by_ffmpeg("adts", "aac")
    with pytest.raises(ClipValueError, match=r"is truncated: 1\.\d\d s"):
        decode(content[: round(0.9 * len(content))])


@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_a_recording_of_a_browser_that_ends_inside_a_block_is_truncated(codec):
    content = by_ffmpeg("matroska", codec, rate=48000, options={"live": "1"})
    assert len(decode(content)[0]) / 48000 == pytest.approx(len(SOUND) / 48000, abs=0.1)
    for left in (0.1, 0.5, 0.9):
        with pytest.raises(ClipValueError, match=r"is truncated|cannot be decoded|holds no audio"):
            decode(content[: round(left * len(content))])
    with pytest.raises(ClipValueError, match=r"is truncated: 1\.\d\d s can be read and the file ends inside a frame"):
        decode(content[:-1])
    with_duration = by_ffmpeg("matroska", codec, rate=48000)
    index = with_duration.rindex(b"\x1cS\xbbk")  # behind the audio
    np.testing.assert_array_equal(decode(with_duration[: index + 10])[0], decode(with_duration)[0])


# ------------------------------------------------------------------ Ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_without_an_end_mark_is_read_with_a_warning(subtype, tmp_path):
    whole = encoded("OGG", subtype, rate=48000)
    path = tmp_path / "clip.ogg"
    path.write_bytes(corpus.without_end_mark(whole))
    with pytest.warns(UserWarning, match=r"clip\.ogg': its Ogg stream has no end mark") as caught:
        samples, _ = decode(path)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(samples, decode(whole)[0])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_that_ends_inside_a_page_is_truncated(subtype):
    whole = encoded("OGG", subtype, rate=48000)
    start, end = corpus.ogg_pages(whole)[-1]
    for cut in (end - 1, (start + end) // 2, start + 20, start + 2):
        with pytest.raises(ClipValueError, match=r"is truncated|cannot be decoded"):
            decode(whole[:cut])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_all_links_of_a_chained_ogg_file_are_there(subtype, tmp_path):
    one, two = encoded("OGG", subtype, rate=48000), encoded("OGG", subtype, SOUND[::-1].copy(), 48000)
    path = tmp_path / "clip.ogg"
    for between in (b"", corpus.ID3V1):
        path.write_bytes(one + between + two)
        samples, _ = decode(path)
        np.testing.assert_array_equal(samples, np.concatenate([decode(one)[0], decode(two)[0]]))
        np.testing.assert_array_equal(np.concatenate([block for block, _ in decode_blocks(path)]), samples)
    with pytest.raises(ClipValueError, match="changes its channels or sample rate"):
        decode(one + encoded("OGG", subtype, np.stack([SOUND, SOUND], axis=1), 48000))
    with pytest.raises(ClipValueError, match=r"is truncated|cannot be decoded"):
        decode(one + two[: len(two) // 2])


# ------------------------------------------------------------------ WAV and its relatives


@pytest.mark.parametrize("form", ["WAV", "AIFF"])
def test_a_recording_whose_length_was_never_written_is_recovered(form, tmp_path):
    content = encoded(form, "PCM_16")
    expected = decode(content)[0]
    if form == "WAV":
        lost = corpus.with_wav_size(content, 0)
    else:
        comm, data = content.index(b"COMM"), content.index(b"SSND")
        lost = content[:4] + bytes(4) + content[8 : comm + 10] + bytes(4) + content[comm + 14 : data + 4]
        lost += bytes(4) + content[data + 8 :]

    path = tmp_path / "clip"
    path.write_bytes(lost)
    note = rf"clip': its header says 0 bytes of audio, .* the {2 * len(SOUND)} bytes after it are decoded"
    with pytest.warns(UserWarning, match=note):
        samples, _ = decode(path)
    np.testing.assert_array_equal(samples, expected)
    with pytest.warns(UserWarning, match="An audio file in memory: its header says 0 bytes"):
        np.testing.assert_array_equal(decode(lost, start=0.5, end=1.0)[0], expected[RATE // 2 : RATE])


def test_bytes_behind_the_audio_that_are_no_text_about_it_are_told():
    n_bytes = 2 * len(SOUND)
    with pytest.warns(UserWarning, match=f"{n_bytes // 2} bytes follow the {n_bytes // 2} bytes of audio"):
        samples, _ = decode(wav_of_size(n_bytes // 2))
    assert len(samples) == len(SOUND) // 2


def test_text_may_follow_audio_of_an_odd_number_of_bytes_without_padding(recwarn):
    content = encoded("WAV", "PCM_U8", SOUND[: RATE - 1])
    content = content[: content.index(b"data") + 8 + RATE - 1] + b"iXML" + struct.pack("<I", 10**5) + b" " * 10**5
    assert len(decode(content)[0]) == RATE - 1
    assert not recwarn.list


def test_a_recording_without_a_sample_stays_empty(recwarn):
    for content in (encoded("WAV", samples=SOUND[:0]), encoded("WAV", samples=SOUND[:0]) + b"LIST\5\0\0\0note!\0"):
        assert len(decode(content)[0]) == 0
    assert not recwarn.list


ANNOUNCING = ["WAV PCM_16", "WAV PCM_24", "WAV ULAW", "WAV IMA_ADPCM", "WAVEX FLOAT", "RF64 PCM_16", "W64 PCM_16"]
ANNOUNCING += ["AIFF PCM_16", "AU PCM_16", "CAF PCM_16", "NIST PCM_16", "VOC PCM_16", "AVR PCM_16", "SVX PCM_16"]


@pytest.mark.parametrize("form", ANNOUNCING)
def test_up_to_a_tenth_of_a_second_may_be_missing_and_no_more(form):
    content = encoded(*form.split())
    whole = decode(content)[0]
    nearly = decode(content[: -round(0.03 * len(content))])[0]  # of two seconds
    assert 1.9 < len(nearly) / RATE <= 2.05
    n = len(nearly) - 3000  # the last block of a codec may be cut
    np.testing.assert_array_equal(nearly[:n], whole[:n])
    for lost in (0.08, 0.5, 0.9):
        with pytest.raises(ClipValueError, match=r"is truncated: \d\.\d\d s can be read|cannot be decoded"):
            decode(content[: -round(lost * len(content))])


def test_the_part_that_is_read_need_not_reach_the_cut():
    content = encoded("WAV", "PCM_16")
    with pytest.raises(ClipValueError, match="is truncated"):
        decode(content[: len(content) // 2], start=0.1, end=0.3)


def test_a_wav_file_behind_a_tag_is_the_same(tmp_path):
    content = encoded("WAV", "PCM_16")
    path = tmp_path / "clip.wav"
    path.write_bytes(corpus.id3(3000) + content)
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(decode(source)[0], decode(content)[0])


def test_one_sample_of_two_channels_is_a_clip():
    content = encoded("WAV", "FLOAT", np.array([[0.25, 0.75]]))
    np.testing.assert_array_equal(load_waveform({"bytes": content}, RATE), [0.5])


# ------------------------------------------------------------------ what libsndfile refuses


def flac_of_unknown_length():
    content = bytearray(encoded("FLAC", "PCM_16"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    return bytes(content)


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path, monkeypatch):
    path = tmp_path / "clip.flac"
    path.write_bytes(flac_of_unknown_length())
    expected = decode(encoded("FLAC", "PCM_16"))[0]
    for _ in range(2):
        for source in (path, path.read_bytes()):
            np.testing.assert_array_equal(decode(source)[0], expected)
        np.testing.assert_array_equal(np.concatenate([block for block, _ in decode_blocks(path)]), expected)
        np.testing.assert_array_equal(decode(path, start=0.5, end=1.5)[0], expected[RATE // 2 : 3 * RATE // 2])
        monkeypatch.setattr(sys.modules["skastw.audio.decode"], "_BLOCK", 5000)
    with pytest.raises(ClipValueError, match=r"holds .* and Limits\.duration is 1.0 s"):
        decode(path, limits=Limits(duration=1))
    with pytest.raises(ClipValueError, match=r"truncated|cannot be decoded"):
        decode(path.read_bytes()[:-50])


@pytest.mark.parametrize("tags", [corpus.ID3V1, corpus.APE, corpus.APE + corpus.ID3V1], ids=["ID3v1", "APE", "both"])
def test_tags_behind_flac_of_unknown_length_are_no_audio(tags, tmp_path):
    path = tmp_path / "clip.flac"
    path.write_bytes(flac_of_unknown_length() + tags)
    expected = decode(encoded("FLAC", "PCM_16"))[0]
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(decode(source)[0], expected)


def test_limits_count_the_part_that_is_asked_for_and_not_what_lies_around_it():
    content, limits = by_ffmpeg("ipod", "aac"), Limits(values=RATE)
    with pytest.raises(ClipValueError, match=r"values .* and Limits\.values is 44100"):
        decode(content, limits=limits)
    whole = decode(content)[0]
    for start, end in ((None, 0.5), (0.7, 1.2), (1.9, None), (0.0, 0.001), (1.9999, None)):
        expected = whole[round((start or 0) * RATE) : len(whole) if end is None else round(end * RATE)]
        np.testing.assert_array_equal(decode(content, start=start, end=end, limits=limits)[0], expected)
    for start, end in ((2.5, 3.0), (1.0, 1.0), (-1.0, 1.0), (0.0, float("nan")), (float("inf"), None)):
        with pytest.raises(ClipValueError):
            decode(content, start=start, end=end)


FFMPEG_ONLY = {
    "FLAC in Ogg": ("ogg", "flac"),
    "ALAC in CAF": ("caf", "alac"),
    "AC3 in WAV": ("wav", "ac3"),
    "G.722 in WAV": ("wav", "g722"),
    "AC3": ("ac3", "ac3"),
    "WavPack": ("wv", "wavpack"),
}


@pytest.mark.parametrize("name", FFMPEG_ONLY)
def test_what_libsndfile_refuses_is_given_to_ffmpeg(name, monkeypatch, tmp_path):
    form, codec = FFMPEG_ONLY[name]
    rate = 16000 if codec == "g722" else RATE
    content = by_ffmpeg(form, codec, SOUND, rate)
    path = tmp_path / "clip"
    path.write_bytes(content)
    samples, found = decode(path)
    assert found == rate
    assert len(samples) / rate == pytest.approx(len(SOUND) / rate, abs=0.1)
    assert likeness(samples[:, 0]) > 0.98
    np.testing.assert_array_equal(decode(content)[0], samples)
    np.testing.assert_array_equal(np.concatenate([block for block, _ in decode_blocks(path)]), samples)
    with pytest.raises(ClipValueError, match=r"and Limits\.duration is 0.5 s"):
        decode(path, limits=Limits(duration=0.5))

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises((ClipValueError, MissingDependencyError), match=r"pip install .*skastw\[av\]"):
        decode(path)


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "a web page"),
        (b"\xef\xbb\xbf  <HTML>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS: run 'git lfs pull'"),
        (b"PK\x03\x04" + bytes(100), "a ZIP archive"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "an image"),
        (b"file,label\na.wav,dog\n" * 100, "text"),
        ("Größe 数\n".encode() * 200, "text"),
        (("Größe" * 300).encode("utf-16"), "text"),
        (("😀" * 300).encode("utf-16"), "text"),
        (bytes(5000), "nothing but zeros"),
        (b"\x93NUMPY\1\0" + bytes(100), "a NumPy array"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "a metadata file of macOS"),
    ],
)
@pytest.mark.parametrize("name", ["clip.mp3", "clip.wav", "clip.raw", "clip"])
def test_what_is_no_audio_is_named_and_nothing_is_printed(content, looks, name, tmp_path, capfd):
    path = tmp_path / name
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ClipValueError, match=rf"cannot be decoded \(it looks like {looks}.*\); expected a WAV"):
            decode(source)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"ID3\4\0", b"ID3\4\0\0", b"ID3\4\0\0\0\0\0"])
def test_the_first_bytes_of_a_tag_are_no_audio(content):
    with pytest.raises(ClipValueError, match=r"cannot be decoded \(Format not recognised\)"):
        decode(content)


def test_random_bytes_look_like_nothing():
    with pytest.raises(ClipValueError, match=r"cannot be decoded \(Format not recognised\)"):
        decode(np.random.default_rng(0).bytes(20_000))


@pytest.mark.parametrize(
    "edit",
    [
        lambda: headerless(mp3("VARIABLE")),
        lambda: mp3() + corpus.ID3V1 + mp3(),
        lambda: by_ffmpeg("wav", "libmp3lame"),
        lambda: by_ffmpeg("mp2", "mp2"),
        lambda: encoded("OGG", "VORBIS") * 2,
        lambda: corpus.without_end_mark(encoded("OGG", "OPUS", rate=48000)),
        flac_of_unknown_length,
        lambda: wav_of_size(0),
    ],
)
@pytest.mark.filterwarnings("ignore:An audio file in memory")
def test_common_formats_without_a_length_do_not_need_ffmpeg(edit, monkeypatch):
    content = edit()
    expected, _ = decode(content)
    monkeypatch.setitem(sys.modules, "av", None)
    np.testing.assert_array_equal(decode(content)[0], expected)
    assert len(expected) >= 1.8 * RATE


# ------------------------------------------------------------------ errors, names, notes


def test_every_damage_to_the_header_of_wma_is_an_error_of_ours_or_none(capfd):
    content = by_ffmpeg("asf", "wmav2", SOUND[: RATE // 4])
    for position in range(120):
        damaged = bytearray(content)
        damaged[position] = 255 - damaged[position]
        with contextlib.suppress(ClipValueError):
            decode(bytes(damaged))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [OSError(22, "Invalid argument"), ValueError("x"), RuntimeError("x"), struct.error("x"), KeyError("x"),
              UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), MemoryError()]
)  # fmt: skip
@pytest.mark.parametrize("decoder", ["soundfile", "av"])
def test_whatever_a_decoder_raises_is_an_error_about_the_clip(error, decoder, monkeypatch):
    def fail(*_, **__):
        raise error

    content = encoded("WAV", "PCM_16") if decoder == "soundfile" else by_ffmpeg("ipod", "aac")
    monkeypatch.setattr(sys.modules["skastw.audio.decode"], "_read_samples", fail)
    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(ClipValueError, match=r"cannot be decoded|more memory") as caught:
        decode(content)
    assert caught.value.__cause__ is error


def test_an_interrupt_is_no_error_about_the_clip(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["skastw.audio.decode"], "_read_samples", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decode(encoded("WAV", "PCM_16"))


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode here")
@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "M4A"])
def test_names_may_hold_any_bytes(form, tmp_path):
    content = by_ffmpeg("ipod", "aac") if form == "M4A" else encoded(form)
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9." + form.lower().encode())
    with open(name, "wb") as file:
        file.write(content)
    path = os.fsdecode(name)
    for source in (path, Path(path)):
        np.testing.assert_array_equal(decode(source)[0], decode(content)[0])
    with isolated_decoding(workers=1) as isolated:
        assert len(isolated(path)[0]) > RATE


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("isolate", [False, True])
def test_warnings_of_threads_and_workers_reach_the_line_of_the_user(n_jobs, isolate, tmp_path):
    paths = [tmp_path / f"{i}.wav" for i in range(3)]
    for path in paths:
        path.write_bytes(wav_of_size(0))
    note = "its header says 0 bytes of audio"
    with isolated_decoding(workers=2) if isolate else contextlib.nullcontext(), pytest.warns(match=note) as caught:
        ASTWFeaturizer(n_jobs=n_jobs).fit_transform(paths)
    for path in paths:
        notes = [warning for warning in caught if f"{path.name}'" in str(warning.message)]
        assert notes
        assert {note.filename for note in notes} == {__file__}


def test_warnings_may_be_made_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="its header says 0 bytes"):
            decode(wav_of_size(0))


def test_streams_that_need_no_walk_and_others_take_little_memory(tmp_path):
    path = tmp_path / "long.mp3"
    path.write_bytes(headerless(mp3()) * 60)
    tracemalloc.start()
    n_samples = sum(len(block) for block, _ in decode_blocks(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_samples / RATE == pytest.approx(120, abs=4)
    assert peak < 60 * 2**20
