"""Tables of recordings become data sets, and tables that do not say enough tell what is missing."""

import gzip
import os
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile

from skastw.audio import as_clips, load_waveform
from skastw.datasets import load_audio_folder, load_audio_table
from skastw.errors import DataError, MissingDependencyError

RATE = 16000
NAMES = ["a.wav", "b.wav", "c.wav", "d.wav"]


def pitch(waveform):
    return np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax() * RATE / len(waveform)


@pytest.fixture
def folder(tmp_path):
    """Four files of one second, in a folder beside the table: 1 kHz, then from the middle on 2 kHz."""
    time = np.arange(RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * np.where(time < 0.5, 1000, 2000) * time)
    (tmp_path / "clips").mkdir()
    for name in NAMES:
        soundfile.write(tmp_path / "clips" / name, tone, RATE)
    return tmp_path


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "file": [f"clips/{name}" for name in NAMES],
            "species": ["owl", "owl", "wren", "NA"],
            "site": [1, 1, 2, 3],
            "valence": [0.5, 1.0, -1.0, 0.0],
            "arousal": [1, 2, 3, 4],
            "night": [True, True, False, True],
            "remark": ["", "far", "", ""],
        }
    )


def load(table, **arguments):
    return load_audio_table(table, **{"audio_column": "file", "label_column": "species", **arguments})


def written(folder, table, form):
    path = folder / f"table.{form}"
    if form == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if form.startswith("tsv") else ",")
    return path


# ------------------------------------------------------------------ what is read


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz", "parquet"])
def test_a_file_becomes_a_bunch(folder, table, form):
    clips = load(written(folder, table, form), group_column="site")
    assert clips.data == [str(folder / "clips" / name) for name in NAMES]
    assert clips.target.tolist() == ["owl", "owl", "wren", "NA"]
    assert clips.target.dtype.kind == "U"
    assert clips.target_names == ["NA", "owl", "wren"]  # "NA" is a label, not an empty cell
    assert clips.groups.tolist() == [1, 1, 2, 3]
    assert clips.frame.columns.tolist() == table.columns.tolist()
    assert clips.frame["file"].tolist() == clips.data
    assert clips.frame["arousal"].tolist() == [1, 2, 3, 4]
    assert "4 clips of 4 files" in clips.DESCR
    assert all(len(load_waveform(clip, RATE)) == RATE for clip in clips.data)


def test_a_data_frame_is_not_changed(folder, table, monkeypatch):
    monkeypatch.chdir(folder)
    table.index = [10, 10, 20, 30]
    before = table.copy()
    clips = load(table)
    pd.testing.assert_frame_equal(table, before)
    assert clips.data == [os.path.join("clips", name) for name in NAMES]
    assert clips.frame.index.tolist() == [10, 10, 20, 30]
    assert clips.groups is None


def test_relative_paths_start_from_the_root(folder, table, tmp_path, monkeypatch):
    path = written(folder, table, "csv")
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "table.csv")
    with pytest.raises(DataError, match=r"4 of 4 files do not exist .*start from root='.*elsewhere'"):
        load(moved)
    assert load(moved, root=folder).data == [str(folder / "clips" / name) for name in NAMES]
    monkeypatch.chdir(folder)
    assert load(moved, root=".").data == [os.path.join("clips", name) for name in NAMES]


def test_absolute_paths_need_no_root(folder, table):
    table["file"] = [str(folder / name) for name in table["file"]]
    assert load(table, root="/nowhere").data == table["file"].tolist()


def test_every_container_that_scikit_learn_users_expect(folder, table):
    clips = load(table, root=folder)
    data, target = load(table, root=folder, return_X_y=True)
    assert data == clips.data
    np.testing.assert_array_equal(target, clips.target)
    framed = load(table, root=folder, as_frame=True)
    assert framed.data.columns.tolist() == ["file"]
    assert as_clips(framed.data) == clips.data
    assert framed.target.tolist() == clips.target.tolist()
    X, y = load(table, root=folder, as_frame=True, return_X_y=True, label_column=["valence", "arousal"])
    assert X.shape == (4, 1)
    assert y.columns.tolist() == ["valence", "arousal"]


def test_a_table_that_excel_wrote(folder, table):
    path = folder / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf" + table.to_csv(index=False, lineterminator="\r\n").encode())
    assert len(load(path).data) == 4


# ------------------------------------------------------------------ targets


@pytest.mark.parametrize(
    ("column", "kind", "names"),
    [
        ("species", "U", ["NA", "owl", "wren"]),
        ("arousal", "i", [1, 2, 3, 4]),
        ("night", "b", [False, True]),
        ("valence", "f", ["valence"]),
    ],
)
def test_one_column_is_a_vector(folder, table, column, kind, names):
    clips = load(written(folder, table, "csv"), label_column=column)
    assert clips.target.shape == (4,)
    assert clips.target.dtype.kind == kind
    assert clips.target_names == names


@pytest.mark.parametrize(
    ("columns", "kind"),
    [(["valence", "arousal"], "f"), (("arousal",), "i"), (["night", "arousal"], "i"), (["night"], "i")],
)
def test_several_columns_are_an_array_of_numbers(folder, table, columns, kind):
    clips = load(written(folder, table, "parquet"), label_column=columns)
    assert clips.target.shape == (4, len(columns))
    assert clips.target.dtype.kind == kind
    np.testing.assert_array_equal(clips.target, table[list(columns)].to_numpy(dtype=float))
    assert clips.target_names == list(columns)


def test_words_among_several_columns_are_refused(folder, table):
    with pytest.raises(DataError, match=r"'species' has 'owl', expected numbers in each of \['arousal', 'species'\]"):
        load(table, root=folder, label_column=["arousal", "species"])
    with pytest.raises(DataError, match="label_column without names"):
        load(table, root=folder, label_column=[])


def test_labels_of_several_types_are_refused(folder, table):
    table["mixed"] = ["owl", 1, "wren", 2.5]
    with pytest.raises(DataError, match=r"'mixed' has values of several types \(float, int, str\)"):
        load(table, root=folder, label_column="mixed")


def test_the_usual_columns_need_not_be_named(folder, table):
    usual = table.rename(columns={"file": "audio", "species": "label"})
    clips = load_audio_table(written(folder, usual, "csv"))
    assert (clips.data, clips.target.tolist()) == (load(table, root=folder).data, table["species"].tolist())


def test_a_table_need_not_have_labels(folder, table):
    clips = load(table[["file"]], root=folder, label_column=None)
    assert clips.data == load(table, root=folder).data
    assert (clips.target, clips.target_names) == (None, [])
    data, target = load(table, root=folder, label_column=None, as_frame=True, return_X_y=True)
    assert (data.columns.tolist(), target) == (["file"], None)
    table.loc[2, "file"] = "clips/a.wav"
    with pytest.raises(DataError, match=r"are both .*keep one"):
        load(table, root=folder, label_column=None)


@pytest.mark.parametrize("form", ["csv", "tsv.gz"])
def test_rows_are_those_that_a_spreadsheet_shows(folder, table, form):
    table["start"] = ["0", "0", "soon", "0"]
    path = written(folder, table, form)
    lines = (gzip.open if form.endswith("gz") else open)(path, "rt").read().splitlines()
    [row] = [number for number, line in enumerate(lines, start=1) if "soon" in line]
    with pytest.raises(DataError, match=rf"'start' has 'soon' in row {row} \(the header is row 1\)"):
        load(path)


# ------------------------------------------------------------------ parts of files


@pytest.fixture
def parts(folder):
    return pd.DataFrame(
        {
            "file": ["clips/a.wav", "clips/a.wav", "clips/a.wav", "clips/b.wav"],
            "species": ["owl", "wren", "owl", "owl"],
            "start": [0.0, 0.5, 0.1, None],
            "end": [0.5, None, 0.4, None],
        }
    )


def test_parts_of_files_are_dicts(folder, parts):
    clips = load(written(folder, parts, "csv"))
    path = str(folder / "clips" / "a.wav")
    assert clips.data == [
        {"path": path, "start": 0.0, "end": 0.5},
        {"path": path, "start": 0.5, "end": None},
        {"path": path, "start": 0.1, "end": 0.4},
        str(folder / "clips" / "b.wav"),
    ]
    assert clips.frame["file"].tolist() == clips.data
    assert clips.frame["start"].tolist()[:3] == [0.0, 0.5, 0.1]
    assert "4 clips of 2 files" in clips.DESCR
    assert as_clips(load(parts, root=folder, as_frame=True).data) == clips.data


def test_parts_of_files_decode_to_what_is_there(folder, parts):
    first, second, third, whole = (load_waveform(clip, RATE) for clip in load(parts, root=folder).data)
    assert [len(waveform) for waveform in (first, second, third, whole)] == [8000, 8000, 4800, 16000]
    assert pitch(first) == pytest.approx(1000, abs=5)
    assert pitch(second) == pytest.approx(2000, abs=5)
    assert pitch(third) == pytest.approx(1000, abs=5)


def test_columns_of_other_names(folder, parts):
    renamed = parts.rename(columns={"start": "onset", "end": "offset"})
    with pytest.raises(DataError, match="rows repeat the clip"):
        load(renamed, root=folder)
    expected = load(parts, root=folder).data
    assert load(renamed, root=folder, start_column="onset", end_column="offset").data == expected
    with pytest.raises(DataError, match=r"start_column='begin' is not a column .*expected one of 'file', .*'onset'"):
        load(renamed, root=folder, start_column="begin")


def test_columns_that_are_about_something_else(folder, table):
    table["start"] = ["8:30", "9:00", "", "10:00"]
    with pytest.raises(DataError, match=r"'start' has '8:30' in row 0 \(counting from 0\), expected seconds.*rename"):
        load(table, root=folder)
    assert load(table, root=folder, start_column=None).data == load(table.drop(columns="start"), root=folder).data


@pytest.mark.parametrize(
    ("start", "end"), [(-1, 2), (2, 1), (1, 1), (0, np.inf), (np.inf, None), (None, 0), (None, -1)]
)
def test_parts_that_are_none(folder, table, start, end):
    table["start"], table["end"] = [0.0, start, 0.0, 0.0], [1.0, end, 1.0, 1.0]
    with pytest.raises(DataError, match=r"clip in row 1 \(.*\), of '.*b\.wav', goes from .* expected 0 <= start < end"):
        load(table, root=folder)


# ------------------------------------------------------------------ repeated rows


def test_two_rows_of_one_file_are_refused(folder, table):
    table.loc[2, ["file", "species"]] = ["./clips/../clips/a.wav", "owl"]
    with pytest.raises(DataError, match=r"1 rows repeat .* rows 0, 2 \(counting from 0\) are both .*a\.wav'; keep one"):
        load(table, root=folder)
    table.loc[2, "species"] = "wren"
    with pytest.raises(DataError, match="decide for one label, or use a column of 0 and 1"):
        load(table, root=folder)


def test_two_rows_of_one_part_are_refused(folder, parts):
    parts.loc[2, ["start", "end"]] = [None, 0.5]  # from the beginning, as the first row
    with pytest.raises(DataError, match=r"rows 0, 2 .* are both"):
        load(parts, root=folder)


# ------------------------------------------------------------------ what is missing


def test_missing_columns_are_told_with_those_there_are(folder, table):
    for arguments in ({"audio_column": "path"}, {"label_column": "label"}, {"group_column": "speaker"}):
        [(parameter, name)] = arguments.items()
        message = f"{parameter}='{name}' is not a column of the table, expected one of 'file', 'species'"
        with pytest.raises(DataError, match=message):
            load(table, root=folder, **arguments)


def test_a_column_that_is_there_twice_is_refused(folder, table):
    path = folder / "table.csv"
    table.assign(again=table["species"]).rename(columns={"again": "species"}).to_csv(path, index=False)
    with pytest.raises(
        DataError, match=r"^'[^ ]*table.csv' has several columns 'species', expected one; rename the others"
    ):
        load(path)


def test_starts_and_ends_may_be_empty_as_r_writes_it(folder, table):
    path = folder / "table.csv"
    table.assign(start=["NA", "0.05", "0.1", "NA"], end=["NA"] * 4).to_csv(path, index=False)
    starts = [clip["start"] if isinstance(clip, dict) else None for clip in load(path).data]
    assert starts == [None, 0.05, 0.1, None]
    table.assign(start=["NA", "early", "0.1", "NA"]).to_csv(path, index=False)
    with pytest.raises(DataError, match="The column 'start' has 'early' in"):
        load(path)


@pytest.mark.parametrize("form", ["csv", "tsv", "csv.gz"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_any_usual_separator_is_recognised(folder, table, form, separator):
    """A name may hold the others; where a column is missing, the columns that there are help all the same."""
    named = "clips/a, b; c | d.wav"
    (folder / "clips" / "a.wav").rename(folder / named)
    table.loc[0, ["file", "species"]] = [named, "owl, barn"]
    path = folder / f"table.{form}"
    table.to_csv(path, sep=separator, index=False)
    clips = load(path, group_column="site")
    assert clips.data[0] == str(folder / named)
    assert clips.target.tolist() == ["owl, barn", "owl", "wren", "NA"]
    with pytest.raises(
        DataError, match="label_column='kind' is not a column of the table, expected one of 'file', 'spec"
    ):
        load(path, label_column="kind")
    with pytest.raises(
        DataError, match="audio_column='audio' is not a column of the table, expected one of 'file', 'spe"
    ):
        load(path, audio_column="audio", label_column=None)


def test_other_separators_inside_cells_do_no_harm(folder):
    rows = "\n".join(f"clips/{name},{label},{label},a;b;c|d;e" for name, label in zip(NAMES, "1122", strict=True))
    (folder / "table.csv").write_text(f"file,species,site,remark\n{rows}\n")
    clips = load(folder / "table.csv", group_column="species")
    assert clips.target.tolist() == clips.groups.tolist() == [1, 1, 2, 2]
    assert clips.frame["remark"].tolist() == ["a;b;c|d;e"] * 4


def test_a_table_of_one_column_has_no_separator(folder):
    (folder / "table.csv").write_text("file\nclips/a.wav\nclips/b.wav\n")
    assert len(load(folder / "table.csv", label_column=None).data) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_any_usual_encoding_is_recognised(folder, table, encoding):
    (folder / "clips" / "a.wav").rename(folder / "clips" / "Käuzchen.wav")
    table.loc[0, ["file", "species"]] = ["clips/Käuzchen.wav", "Käuzchen"]
    path = folder / "table.csv"
    path.write_bytes(table.to_csv(index=False, sep=";").encode(encoding))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clips = load(path)
    assert clips.data[0] == str(folder / "clips" / "Käuzchen.wav")
    assert clips.target_names == ["Käuzchen", "NA", "owl", "wren"]
    told = [str(warning.message) for warning in caught]
    assert len(told) == (encoding == "cp1252")
    assert all("is not in UTF-8 and is read as Windows-1252" in message for message in told)
    assert all(warning.filename == __file__ for warning in caught)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["01", "02", "03", "10"], "U"),
        (["007", "7", "8", "9"], "U"),
        (["1e5", "2e5", "3", "4"], "U"),
        (["1_000", "2", "3", "4"], "U"),
        (["+1", "2", "3", "4"], "U"),
        (["1.1", "1.10", "1.2", "1.3"], "U"),
        (["True", "False", "maybe", "True"], "U"),
        (["NA", "None", "null", "N/A"], "U"),
        (["1", "2", "NA", "3"], "U"),
        (["12345678901234567890", "2", "3", "4"], "U"),
        (["inf", "1.5", "2.5", "3.5"], "U"),
        (["1", "-2", "0", "30"], "i"),
        (["1", "2.5", "-0.25", "1e-05"], "f"),
        (["0.50", "1.00", "1.50", "2.00"], "f"),
        (["True", "False", "False", "True"], "b"),
    ],
    ids=lambda value: value[0] + "..." if isinstance(value, list) else value,
)
def test_labels_and_groups_of_a_file_are_text_unless_they_are_numbers(folder, table, texts, kind):
    table["species"], table["site"] = texts, texts
    clips = load(written(folder, table, "csv"), group_column="site")
    assert clips.target.dtype.kind == clips.groups.dtype.kind == kind
    expected = texts if kind == "U" else [text == "True" for text in texts] if kind == "b" else list(map(float, texts))
    assert clips.target.tolist() == clips.groups.tolist() == clips.frame["species"].tolist() == expected


def test_a_table_and_a_folder_give_the_same_labels(folder, table):
    for name, label in zip(NAMES, ["01", "01", "02", "02"], strict=True):
        (folder / "classes" / label).mkdir(parents=True, exist_ok=True)
        (folder / "clips" / name).rename(folder / "classes" / label / name)
        table.loc[table["file"] == f"clips/{name}", ["file", "species"]] = [f"classes/{label}/{name}", label]
    from_table, from_folder = load(written(folder, table, "csv")), load_audio_folder(folder / "classes")
    assert from_table.data == from_folder.data
    assert from_table.target.tolist() == from_folder.target.tolist() == ["01", "01", "02", "02"]


def test_a_file_name_that_is_a_number(folder, table):
    (folder / "clips" / "a.wav").rename(folder / "007")
    table.loc[0, "file"] = "007"
    path = written(folder, table.iloc[[0]], "csv")
    assert load(path, label_column=None).data == [str(folder / "007")]


def test_the_text_nan_is_told_to_be_an_empty_cell(folder, table):
    table["species"] = ["owl", "nan", "wren", "owl"]
    with pytest.raises(
        DataError, match=r"is empty in 1 of 4 rows, row 3 .*: fill it in \(the text nan counts as empty"
    ):
        load(written(folder, table, "csv"))
    assert "nan" in load(table, root=folder).target_names  # in a DataFrame it is what it is


def test_two_columns_of_one_name(folder, table):
    twice = pd.concat([table, table[["species"]]], axis=1)
    with pytest.raises(DataError, match="label_column='species' is the name of 2 columns"):
        load(twice, root=folder)


@pytest.mark.parametrize("column", ["file", "species", "site"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_empty_cells_are_counted(folder, table, column, form):
    table[column] = table[column].astype(object).where([True, False, True, False], None)
    rows = r"rows 3, 5 \(the header is row 1\)" if form == "csv" else r"rows 1, 3 \(counting from 0\)"
    with pytest.raises(DataError, match=rf"'{column}' is empty in 2 of 4 rows, {rows}: fill it in"):
        load(written(folder, table, form), group_column="site")


def test_missing_files_are_listed_and_counted(folder, table):
    lost = pd.concat([table, table.assign(file=[f"clips/lost{i}.wav" for i in range(4)])])
    lost = pd.concat([lost, table.assign(file=[f"clips/gone{i}.wav" for i in range(4)])])
    with pytest.raises(DataError) as caught:
        load(lost, root=folder)
    message = str(caught.value)
    assert "8 of 12 files do not exist" in message
    assert message.count(".wav") == 5
    assert "lost0.wav" in message
    assert "gone0.wav" in message
    assert "gone1.wav" not in message
    (folder / "clips" / "folder.wav").mkdir()
    table.loc[0, "file"] = "clips/folder.wav"
    with pytest.raises(DataError, match="1 of 4 files do not exist"):
        load(table, root=folder)


def test_cells_that_are_no_path(folder, table):
    with pytest.raises(DataError, match=r"'site' has 1 in row 0 \(.*\), expected the path of a file"):
        load(table, root=folder, audio_column="site")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.csv", None, "which does not exist"),
        ("table.xlsx", b"PK", r"expected a \.csv, \.tsv or \.parquet file"),
        ("table", b"file,species", r"expected a \.csv"),
        ("table.csv", b"", "cannot be read as a table"),
        ("table.csv", b"file,species\n\x81\x9d,owl\n", "cannot be read as a table"),
        ("table.csv", b"\xff\xfef\x00i\x00l", "cannot be read as a table"),
        ("table.csv", b"file,species\n", "without rows"),
        ("table.csv", b'file,species\na.wav,owl\nb.wav,owl,wren,"\n', "cannot be read as a table"),
        ("table.parquet", b"no parquet", "cannot be read as a table"),
    ],
)
def test_files_that_are_no_table(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


def test_other_types_are_refused():
    with pytest.raises(DataError, match="Got table of type dict, expected a path or a pandas DataFrame"):
        load({"file": ["a.wav"], "species": ["owl"]})


def test_parquet_asks_for_its_package(folder, table, monkeypatch):
    path = written(folder, table, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"'pyarrow'.*skastw\[parquet\]"):
        load(path)
