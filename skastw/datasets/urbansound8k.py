"""UrbanSound8K: ten classes of sounds of the city, with its ten official folds."""

from pathlib import Path
from typing import Any

from sklearn.model_selection import PredefinedSplit

from skastw.datasets._public_set import Archive, PublicSet
from skastw.datasets._reading import add_audio, audio_files, check_clip_names, reading_table

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
    """Return the table, or None if the folder is not UrbanSound8K."""
    path = folder / "metadata" / "UrbanSound8K.csv"
    if not path.is_file():
        return None
    files = audio_files(folder, [f"audio/fold{fold}" for fold in range(1, 11)])
    return add_audio(_read_csv(path), files, folder, "UrbanSound8K", n_clips=_N_CLIPS)


def _read_csv(path: Path) -> Any:
    """Return the table of the authors, indexed by the name of the clip."""
    import pandas as pd

    with reading_table(path, "UrbanSound8K"):
        table = pd.read_csv(path, dtype={"slice_file_name": str, "class": str}, encoding="utf-8")
        stem = table["slice_file_name"].str.rsplit(".", n=1).str[0]
        row = table["fsID"].astype(str) + "-" + table["classID"].astype(str)
        agree = (stem.str.rsplit("-", n=2).str[0] == row) & (table["class"] == [_CLASSES[i] for i in table["classID"]])
        check_clip_names(path, table["slice_file_name"], agree)

        name = "audio/fold" + table["fold"].astype(str) + "/" + stem
        table = table[["class", "fold", "fsID", "start", "end", "salience"]].set_axis(name).sort_index()
        return table.rename(columns={"class": "target", "fsID": "source"})


URBANSOUND8K = PublicSet(
    name="urbansound8k",
    title="UrbanSound8K",
    read=_read,
    archive=Archive(
        "https://zenodo.org/record/1203745/files/UrbanSound8K.tar.gz",
        checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
        strip=1,
        max_bytes=2**34,
    ),
    classes=_CLASSES,
    groups="source",
    splits=lambda frame: PredefinedSplit(frame["fold"]),
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
