"""EMO-DB: seven emotions in German, spoken by ten actors, leaving one speaker out at a time."""

from pathlib import Path
from typing import Any

from skastw.datasets._public_set import Archive, PublicSet, audio_files, check_count

#: Letter in the name: emotion, number of clips.
_EMOTIONS = {
    "W": ("anger", 127),
    "L": ("boredom", 81),
    "E": ("disgust", 46),
    "A": ("fear", 69),
    "F": ("happiness", 71),
    "N": ("neutral", 79),
    "T": ("sadness", 62),
}
#: Speaker: gender, age.
_SPEAKERS = {
    "03": ("male", 31),
    "08": ("female", 34),
    "09": ("female", 21),
    "10": ("male", 32),
    "11": ("male", 26),
    "12": ("male", 30),
    "13": ("female", 32),
    "14": ("female", 35),
    "15": ("male", 25),
    "16": ("female", 31),
}
_NAME = (
    rf"^wav/(?P<speaker>{'|'.join(_SPEAKERS)})(?P<text>[ab]\d\d)(?P<letter>[{''.join(_EMOTIONS)}])(?P<version>[a-z])\Z"
)


def _read(folder: Path, part: None) -> Any:
    import pandas as pd

    files = audio_files(folder, ["wav"])
    clips = pd.Series(list(files), dtype=str).str.extract(_NAME).assign(audio=list(files.values())).dropna()
    clips["target"] = clips["letter"].map({letter: emotion for letter, (emotion, _) in _EMOTIONS.items()})
    for emotion, expected in _EMOTIONS.values():
        check_count(f"EMO-DB ({emotion})", folder, sum(clips["target"] == emotion), expected)

    people = pd.DataFrame.from_dict(_SPEAKERS, orient="index", columns=["gender", "age"])
    columns = ["audio", "target", "speaker", "gender", "age", "text", "version"]
    return clips.join(people, on="speaker")[columns].reset_index(drop=True)


EMODB = PublicSet(
    name="emodb",
    title="EMO-DB (Berlin Database of Emotional Speech)",
    read=_read,
    marker="wav/[01][0-9][ab][0-9][0-9][A-Z][a-z].*",
    # The authors publish no checksum, and no address with TLS: the clips are counted by emotion.
    archive=Archive("http://emodb.bilderbar.info/download/download.zip"),
    classes=[emotion for emotion, _ in _EMOTIONS.values()],
    groups="speaker",
    folds=lambda frame: frame["speaker"].map(list(_SPEAKERS).index),
    about="""
535 clips of about 3 seconds, 16 kHz, mono: ten German sentences by ten actors, five women and five men, in seven
emotions. Only clips that listeners found natural and recognised are part of the set. ``groups`` are the speakers, and
``cv`` leaves out one of them at a time.
""",
    licence="none is given with the files; the authors ask for the citation.",
    citation="""
F. Burkhardt, A. Paeschke, M. Rolfes, W. Sendlmeier, B. Weiss. A Database of German Emotional Speech.
Interspeech 2005, 1517-1520. https://doi.org/10.21437/Interspeech.2005-446
""",
)
