"""UrbanSound8K: ten classes of sounds of the city, with its ten official folds."""

from pathlib import Path
from typing import Any

from skastw.datasets._public_set import Archive, PublicSet, add_audio, audio_files, clip_names, read_table

_N_CLIPS = 8732
#: Classes, in the order of the authors' numbers.
_CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)


def _read(folder: Path, part: None) -> Any:
    types = {"slice_file_name": str, "class": str}
    table = read_table(folder / "metadata" / "UrbanSound8K.csv", "UrbanSound8K", _named, dtype=types)
    files = audio_files(folder, [f"audio/fold{fold}" for fold in range(1, 11)])
    return add_audio(table, files, folder, "UrbanSound8K", n_clips=_N_CLIPS)


def _named(table: Any) -> Any:
    """Return the table of the authors, indexed by the name of the clip."""
    facts = table["fsID"].astype(str) + "-" + table["classID"].astype(str)
    agrees = table["class"] == [_CLASSES[number] for number in table["classID"]]
    stems = clip_names(table["slice_file_name"], lambda names: agrees & (names.str.rsplit("-", n=2).str[0] == facts))

    names = "audio/fold" + table["fold"].astype(str) + "/" + stems
    table = table[["class", "fold", "fsID", "start", "end", "salience"]].set_axis(names).sort_index()
    return table.rename(columns={"class": "target", "fsID": "source"})


URBANSOUND8K = PublicSet(
    name="urbansound8k",
    title="UrbanSound8K",
    read=_read,
    marker="metadata/UrbanSound8K.csv",
    archive=Archive(
        "https://zenodo.org/record/1203745/files/UrbanSound8K.tar.gz",
        checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
        strip=1,
        max_bytes=2**34,
    ),
    classes=_CLASSES,
    groups="source",
    folds=lambda frame: frame["fold"],
    about="""
8732 clips of at most 4 seconds, in ten classes of sounds of the city, cut from recordings of freesound.org, with the
sample rate and the channels of each. The clips of one recording (``groups``) are all in one of the ten official folds
(``cv``). The authors ask to use these folds, to train on nine and test on the tenth, and to report the mean
accuracy over the ten: in another split, clips of one recording may be on both sides and make the accuracy too high.
""",
    licence="CC BY-NC 3.0.",
    citation="""
J. Salamon, C. Jacoby, J. P. Bello. A Dataset and Taxonomy for Urban Sound Research. Proceedings of the 22nd ACM
International Conference on Multimedia, 1041-1044, 2014. https://doi.org/10.1145/2647868.2655045
""",
)
