"""ESC-50: fifty classes of environmental sounds, with its five official folds."""

from pathlib import Path
from typing import Any

from skastw.datasets._public_set import Archive, Part, PublicSet, add_audio, audio_files, clip_names, read_table

_CLIPS_PER_CLASS = 40
#: Parts that are lists of classes; "esc10" is a column of the table.
_CLASSES = {
    "animals": ("cat", "cow", "crow", "dog", "frog", "hen", "insects", "pig", "rooster", "sheep"),
    "transport": ("airplane", "car_horn", "engine", "helicopter", "train"),
}
#: Number of classes in the whole set and in each part.
_N_CLASSES: dict[str | None, int] = {None: 50, "esc10": 10} | {part: len(classes) for part, classes in _CLASSES.items()}


def _read(folder: Path, part: str | None) -> Any:
    types = {"src_file": str, "take": str, "category": str}
    table = read_table(folder / "meta" / "esc50.csv", "ESC-50", _named, dtype=types)
    if part == "esc10":
        table = table[table["esc10"]]
    elif part is not None:
        table = table[table["target"].isin(_CLASSES[part])]

    title = "ESC-50" if part is None else f"the part {part!r} of ESC-50"
    hint = "; if you want a part only, name it with subset=" if part is None else ""
    n_clips = _CLIPS_PER_CLASS * _N_CLASSES[part]
    return add_audio(table, audio_files(folder, ["audio"]), folder, title, n_clips=n_clips, hint=hint)


def _named(table: Any) -> Any:
    """Return the table of the authors, indexed by the name of the clip."""
    if table["esc10"].dtype != bool:
        raise ValueError("esc10 is not True or False")

    facts = table[["fold", "src_file", "take", "target"]].astype(str).agg("-".join, axis=1)
    names = "audio/" + clip_names(table["filename"], lambda names: names == facts)
    table = table[["category", "fold", "esc10", "src_file", "take"]].set_axis(names).sort_index()
    return table.rename(columns={"category": "target", "src_file": "source"})


ESC50 = PublicSet(
    name="esc50",
    title="ESC-50",
    read=_read,
    marker="meta/esc50.csv",
    archive=Archive(
        "https://github.com/karolpiczak/ESC-50/archive/33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip",
        checksum="md5:071b44018315e034b2c6e8064543d19c",
        strict=False,  # the host packs it on demand: its MD5 may change while its content does not
        strip=1,
    ),
    part=Part("subset", list(_N_CLASSES)),
    groups="source",
    folds=lambda frame: frame["fold"],
    about="""
2000 clips of 5 seconds, 44.1 kHz, mono: 50 classes of environmental sounds with 40 clips each, cut from recordings of
freesound.org. The clips of one recording (``groups``) are all in one of the five official folds (``cv``); the mean
accuracy over the five is the figure to report.

Parts: "esc10", ten classes that are easy to tell apart; "animals"; "transport".
""",
    licence="""
CC BY-NC 3.0; the clips of the part "esc10" CC BY 3.0. The authors of the recordings are named in the file
LICENSE of https://github.com/karolpiczak/ESC-50.
""",
    citation="""
K. J. Piczak. ESC: Dataset for Environmental Sound Classification. Proceedings of the 23rd ACM International
Conference on Multimedia, 1015-1018, 2015. https://doi.org/10.1145/2733373.2806390
""",
)
