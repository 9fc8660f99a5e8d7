"""Folders of recordings become data sets, and folders that are none say why."""

import fractions
import os
import re
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from skastw.audio import as_clips, decode
from skastw.datasets import load_audio_folder
from skastw.datasets.audio_folder import AUDIO_EXTENSIONS
from skastw.errors import DataError, SkastwError

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)).astype(np.float32)


def fill(root, *files):
    """Write a short tone into each file; a name says its format."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as opened:  # a name that is not Unicode is nothing for soundfile
            soundfile.write(opened, TONE, RATE, format="WAV")
    return root


@pytest.fixture
def animals(tmp_path):
    return fill(
        tmp_path / "animals",
        *("dog/anna_1.wav", "dog/anna_2.wav", "dog/ben_1.wav"),
        *("cat/ben_2.wav", "cat/anna_3.wav", "bird/deep/er/ben_3.wav"),
    )


def names(bunch):
    return [Path(path).name for path in bunch.data]


# ------------------------------------------------------------------ what is found


def test_the_first_folder_is_the_class(animals):
    clips = load_audio_folder(animals)
    assert names(clips) == ["ben_3.wav", "anna_3.wav", "ben_2.wav", "anna_1.wav", "anna_2.wav", "ben_1.wav"]
    assert clips.target.tolist() == ["bird", "cat", "cat", "dog", "dog", "dog"]
    assert clips.target.dtype.kind == "U"
    assert clips.target_names == ["bird", "cat", "dog"]
    assert clips.groups is None
    assert all(isinstance(path, str) and decode(path)[1] == RATE for path in clips.data)
    assert clips.frame.columns.tolist() == ["audio", "target"]
    assert clips.frame["audio"].tolist() == clips.data
    assert "6 recordings of 3 classes" in clips.DESCR


def test_the_order_is_that_of_the_names(tmp_path, monkeypatch):
    fill(tmp_path, *(f"{c}/{i}.wav" for c in "ba" for i in (3, 1, 2)), "a-b/0.wav")
    once = load_audio_folder(tmp_path)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            self.entries = iter(sorted(scandir(path), key=lambda entry: entry.name, reverse=True))

        def __enter__(self):
            return self.entries

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

        def close(self):
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    again = load_audio_folder(tmp_path)
    assert again.data == once.data
    relative = [Path(path).relative_to(tmp_path).as_posix() for path in once.data]
    assert relative == ["a/1.wav", "a/2.wav", "a/3.wav", "a-b/0.wav", "b/1.wav", "b/2.wav", "b/3.wav"]


def test_every_container_that_scikit_learn_users_expect(animals):
    clips = load_audio_folder(animals, groups=r"(\w+)_\d")
    data, target = load_audio_folder(animals, return_X_y=True)
    assert data == clips.data
    np.testing.assert_array_equal(target, clips.target)
    framed = load_audio_folder(str(animals), groups=r"(\w+)_\d", as_frame=True)
    assert framed.data.columns.tolist() == ["audio"]
    assert as_clips(framed.data) == clips.data
    assert framed.target.tolist() == clips.target.tolist()
    assert framed.target.name == "target"
    np.testing.assert_array_equal(framed.groups, clips.groups)
    X, y = load_audio_folder(animals, return_X_y=True, as_frame=True)
    assert X.shape == (6, 1)
    assert X.index.equals(y.index)


def test_hidden_files_and_folders_are_skipped(animals):
    fill(animals, ".cache/x.wav", "dog/.trash/x.wav", "dog/._anna_1.wav", "__MACOSX/dog/x.wav")
    assert len(load_audio_folder(animals).data) == 6


def test_other_files_are_skipped_and_capitals_are_not(animals):
    fill(animals, "dog/LOUD.WAV", "dog/quiet.Flac")
    for other in ("dog/notes.txt", "README.md", "dog/wav", "dog/clip.wav.part"):
        (animals / other).write_text("no audio")
    assert names(load_audio_folder(animals))[-5:] == ["LOUD.WAV", "anna_1.wav", "anna_2.wav", "ben_1.wav", "quiet.Flac"]


@pytest.mark.filterwarnings("ignore:2 audio or video files in the class folders")
@pytest.mark.parametrize("extensions", [".flac", "flac", ["FLAC"], (".mp3", ".flac")])
def test_extensions_choose_the_recordings(tmp_path, extensions):
    fill(tmp_path, "a/1.wav", "a/1.flac", "b/1.wav", "b/1.flac")
    assert names(load_audio_folder(tmp_path, extensions=extensions)) == ["1.flac", "1.flac"]


@pytest.mark.parametrize("extensions", [[], "", ".", [1], [".wav", ""]])
def test_extensions_that_choose_nothing_are_refused(animals, extensions):
    with pytest.raises(DataError, match=re.escape(f"Got extensions={extensions!r}")):
        load_audio_folder(animals, extensions=extensions)


#: For each extension the container and, where it is not the usual one, the codec: by libsndfile, and by FFmpeg.
WRITTEN = dict.fromkeys((".wav", ".wave"), ("WAV", None)) | dict.fromkeys((".ogg", ".oga"), ("OGG", None))
WRITTEN |= dict.fromkeys((".aif", ".aiff", ".aifc"), ("AIFF", None)) | {".opus": ("OGG", "OPUS")}
WRITTEN |= {f".{form.lower()}": (form, None) for form in ("W64", "RF64", "FLAC", "MP3", "AU", "CAF", "VOC")}
WRITTEN |= {".snd": ("AU", None), ".sph": ("NIST", None)}
ENCODED = dict.fromkeys((".mka", ".mkv"), ("matroska", "flac"))
ENCODED |= dict.fromkeys((".webm", ".weba"), ("webm", "libopus")) | {".mp2": ("mp2", "mp2"), ".mov": ("mov", "aac")}
ENCODED |= dict.fromkeys((".m4b", ".m4r"), ("ipod", "aac")) | {".m4v": ("mp4", "aac")}
ENCODED |= dict.fromkeys((".wmv", ".asf"), ("asf", "wmav2")) | {".3gp": ("3gp", "aac"), ".3g2": ("3g2", "aac")}
ENCODED |= {".m4a": ("ipod", "aac"), ".mp4": ("mp4", "aac"), ".aac": ("adts", "aac"), ".wma": ("asf", "wmav2")}


ENCODED |= {".ac3": ("ac3", "ac3"), ".eac3": ("eac3", "eac3"), ".tta": ("tta", "tta"), ".wv": ("wv", "wavpack")}
ENCODED |= {".amr": ("amr", "libopencore_amrnb")}
#: Rates of codecs that have no other (Hz), and the samples of codecs that take integers.
RATES = {"libopencore_amrnb": 8000}
INTEGERS = {"mp2": "s16", "tta": "s16", "libopencore_amrnb": "s16"}
#: One second of AMR-WB, which FFmpeg's libraries only decode: frames of 20 ms at 6.6 kbit/s.
AMR_WB = b"#!AMR-WB\n" + 50 * (b"\x04" + bytes(range(17)))


def encode_noise(path):
    """Write a second of noise in the format of a file's ending; return its rate."""
    form, codec = ENCODED[path.suffix]
    rate = RATES.get(codec, 48000)
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, rate))
    sample_format = INTEGERS.get(codec, "fltp")
    values = (noise * 32767).astype(np.int16) if codec in INTEGERS else noise.astype(np.float32)
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 12200 if codec in RATES else 96000
        frame = av.AudioFrame.from_ndarray(values, format=sample_format, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return rate


@pytest.mark.parametrize("extension", AUDIO_EXTENSIONS)
def test_every_extension_is_of_a_format_that_decodes(tmp_path, extension):
    path, rate = tmp_path / f"clip{extension}", 48000
    if extension == ".awb":
        path.write_bytes(AMR_WB)
        rate = 16000
    elif extension in WRITTEN:
        form, subtype = WRITTEN[extension]
        noise = (0.1 * np.random.default_rng(0).standard_normal(rate)).astype(np.float32)
        soundfile.write(path, noise, rate, format=form, subtype=subtype)
    else:
        rate = encode_noise(path)
    samples, found = decode(path)
    assert found == rate
    assert len(samples) == pytest.approx(rate, abs=5000)


# ------------------------------------------------------------------ groups


@pytest.mark.parametrize("pattern", [r"(\w+)_\d", r"(?P<speaker>\w+)_\d", re.compile(r"([A-Z]+)_", re.IGNORECASE)])
def test_a_pattern_gives_the_groups(animals, pattern):
    clips = load_audio_folder(animals, groups=pattern)
    assert clips.groups.tolist() == ["ben", "anna", "ben", "anna", "anna", "ben"]
    assert clips.frame["group"].tolist() == clips.groups.tolist()


def test_what_a_pattern_names_is_in_the_frame(animals):
    clips = load_audio_folder(animals, groups=r"(?P<take>\d)?(?P<group>[a-z]+)_(?P<number>\d)")
    assert clips.frame.columns.tolist() == ["audio", "target", "group", "take", "number"]
    assert clips.groups.tolist() == ["ben", "anna", "ben", "anna", "anna", "ben"]  # not the first, but the named
    assert clips.frame["number"].tolist() == ["3", "3", "2", "1", "2", "1"]
    assert set(clips.frame["take"]) == {""}  # not there


def test_a_pattern_sees_the_path_below_the_root_with_slashes(animals):
    clips = load_audio_folder(animals, groups=r"^(\w+)/")
    assert clips.groups.tolist() == clips.target.tolist()


def test_the_parent_folder_as_group(tmp_path):
    fill(tmp_path, "dog/anna/1.wav", "dog/ben/1.wav", "cat/home/anna/1.wav")
    clips = load_audio_folder(tmp_path, groups="parent")
    assert clips.groups.tolist() == ["anna", "anna", "ben"]
    assert clips.target.tolist() == ["cat", "dog", "dog"]
    fill(tmp_path, "dog/2.wav")
    with pytest.raises(DataError, match=r"groups='parent'.*'dog/2.wav' lies directly in its class folder"):
        load_audio_folder(tmp_path, groups="parent")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(\d)_9", r"does not match 6 of 6 paths \('bird/deep/er/ben_3.wav', .*, \.\.\.\)"),
        (r"(anna)_", r"does not match 3 of 6 paths \('bird/deep/er/ben_3.wav', 'cat/ben_2.wav', 'dog/ben_1.wav'\)"),
        (r"anna|(ben)", "does not match 3 of 6"),  # a match without its group
        (r"\w+_\d", "has no group in parentheses"),
        (r"(?P<audio>\w+)_", "names 'audio', which is another column"),
        (r"(unclosed", "expected 'parent' or a regular expression"),
        (7, "expected 'parent' or a regular expression"),
    ],
)
def test_patterns_that_give_no_groups(animals, pattern, message):
    with pytest.raises(DataError, match=message):
        load_audio_folder(animals, groups=pattern)


# ------------------------------------------------------------------ folders that are no data set


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*does not exist"):
        load_audio_folder(tmp_path / "nowhere")
    fill(tmp_path, "a.wav")
    with pytest.raises(DataError, match=r"a\.wav.*which is a file"):
        load_audio_folder(tmp_path / "a.wav")
    assert issubclass(DataError, SkastwError)
    assert issubclass(DataError, ValueError)


def test_recordings_without_class(tmp_path):
    fill(tmp_path, "1.wav", "2.wav", "3.wav", "4.wav")
    with pytest.raises(DataError, match=r"4 recordings lie directly in .*\('1.wav', '2.wav', '3.wav', \.\.\.\)"):
        load_audio_folder(tmp_path)
    fill(tmp_path, "dog/1.wav", "cat/1.wav")
    with pytest.raises(DataError, match="load_audio_table"):
        load_audio_folder(tmp_path)


def test_a_folder_without_class_folders(tmp_path):
    with pytest.raises(DataError, match="has no class folders"):
        load_audio_folder(tmp_path)


def test_class_folders_without_recordings(animals):
    (animals / "fish").mkdir()
    (animals / "worm").mkdir()
    (animals / "worm" / "song.mid").write_text("")
    with pytest.raises(DataError, match=r"2 of 5 class folders have no recordings \('fish', 'worm'\).*\.wav"):
        load_audio_folder(animals)
    with pytest.raises(DataError, match=r"5 of 5 .* files that end in \.mp3:"):
        load_audio_folder(animals, extensions="mp3")


def test_one_class_is_a_warning(tmp_path):
    fill(tmp_path, "animals/dog/1.wav", "animals/cat/1.wav")
    with pytest.warns(UserWarning, match="only one class folder, 'animals'") as caught:
        clips = load_audio_folder(tmp_path)
    assert clips.target.tolist() == ["animals", "animals"]
    assert caught[0].filename == __file__


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_out_of_the_folder_are_not_followed(animals, tmp_path):
    fill(tmp_path / "elsewhere", "secret.wav", "dog/secret.wav")
    (animals / "dog" / "out.wav").symlink_to(tmp_path / "elsewhere" / "secret.wav")
    (animals / "dog" / "folder").symlink_to(tmp_path / "elsewhere")
    (animals / "owl").symlink_to(tmp_path / "elsewhere" / "dog")
    (animals / "dog" / "loop").symlink_to(animals)
    (animals / "dog" / "within.wav").symlink_to(animals / "cat" / "ben_2.wav")
    with pytest.warns(UserWarning, match=r"4 links to folders or out of .* are not followed"):
        clips = load_audio_folder(animals)
    assert "secret.wav" not in names(clips)
    assert names(clips)[-4:] == ["anna_1.wav", "anna_2.wav", "ben_1.wav", "within.wav"]
    assert clips.target_names == ["bird", "cat", "dog"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_folder_reached_by_a_link_is_a_folder(animals, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(animals)
    assert names(load_audio_folder(link)) == names(load_audio_folder(animals))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_unicode(animals):
    latin = os.fsdecode(b"m\xfcller")
    try:
        fill(animals, f"{latin}/caf\udce9_{latin}.wav")
    except OSError:
        pytest.skip("the file system takes Unicode only")
    clips = load_audio_folder(animals, groups=r"(?P<group>\w+|m\\xfcller)\.wav$", as_frame=True)
    assert clips.target_names == ["bird", "cat", "dog", "m\\xfcller"]
    assert clips.groups[-1] == "m\\xfcller"
    assert decode(as_clips(clips.data)[-1])[1] == RATE
    assert decode(clips.frame["audio"].iloc[-1])[1] == RATE


def test_files_that_are_audio_by_their_names_are_not_left_out_in_silence(animals):
    for name in (
        "dog/song.mid",
        "dog/deep/call.APE",
        "cat/film.avi",
        "outside.mid",
        "dog/.hidden.mid",
        "cat/notes.txt",
    ):
        (animals / name).parent.mkdir(exist_ok=True)
        (animals / name).write_bytes(b"x")
    examples = r"\('cat/film\.avi', 'dog/deep/call\.APE', 'dog/song\.mid'\)"
    message = rf"3 audio or video files in the class folders .* left out {examples}"
    with pytest.warns(UserWarning, match=message.replace("/", r"[/\\]+")) as caught:
        assert len(load_audio_folder(animals).data) == 6
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_files_that_the_extensions_leave_out_are_counted(tmp_path):
    fill(tmp_path, "a/1.wav", "a/1.flac", "b/1.wav")
    with pytest.warns(
        UserWarning, match=r"1 audio or video files in the class folders .*1\.flac'\): their endings are not among the"
    ):
        assert names(load_audio_folder(tmp_path, extensions=".wav")) == ["1.wav", "1.wav"]


def test_unicode_names_are_welcome(tmp_path):
    fill(tmp_path, "Kauz/Übung.wav", "貓/音.wav")
    clips = load_audio_folder(tmp_path, groups=r"(\w+)\.wav")
    assert clips.target_names == ["Kauz", "貓"]
    assert clips.groups.tolist() == ["Übung", "音"]


def test_a_folder_that_cannot_be_read_is_an_error(animals, monkeypatch):
    scandir = os.scandir

    def locked(path):
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(DataError, match=r"cat' cannot be read \(Permission denied\)"):
        load_audio_folder(animals)


def test_relative_folders_stay_relative(animals, monkeypatch):
    monkeypatch.chdir(animals.parent)
    assert load_audio_folder("animals").data[-1] == os.path.join("animals", "dog", "ben_1.wav")
