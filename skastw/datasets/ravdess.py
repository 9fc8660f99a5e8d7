"""RAVDESS: eight emotions spoken by 24 actors, in six folds of four whole actors."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from skastw.datasets._public_set import Archive, Part, PublicSet, add_audio, audio_files

#: Third field of a name, in order from 01.
_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_INTENSITIES = ("normal", "strong")
_STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
_REPETITIONS = (1, 2)
#: The authors give no folds; these are the folds of the benchmarks of this project.
_FOLDS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))


def _read(folder: Path, part: Sequence[str]) -> Any:
    import pandas as pd

    files = audio_files(folder, [f"Actor_{actor:02d}" for actor in range(1, 25)])
    columns = ["target", "actor", "gender", "intensity", "statement", "repetition", "fold"]
    table = pd.DataFrame.from_dict(_clips(), orient="index", columns=columns)
    return add_audio(table[table["target"].isin(part)], files, folder, f"RAVDESS ({', '.join(part)})")


def _clips() -> dict[str, tuple[Any, ...]]:
    """Return the facts in each name: modality, channel, emotion, intensity, statement, repetition, actor."""
    fold_of = {actor: fold for fold, actors in enumerate(_FOLDS) for actor in actors}
    facts = product(
        sorted(fold_of), enumerate(_EMOTIONS, 1), enumerate(_INTENSITIES, 1), enumerate(_STATEMENTS, 1), _REPETITIONS
    )
    return {
        f"Actor_{actor:02d}/03-01-{e:02d}-{i:02d}-{s:02d}-{repetition:02d}-{actor:02d}": (
            *(emotion, actor, "male" if actor % 2 else "female"),
            *(intensity, statement, repetition, fold_of[actor]),
        )
        for actor, (e, emotion), (i, intensity), (s, statement), repetition in facts
        if (emotion, intensity) != ("neutral", "strong")
    }


RAVDESS = PublicSet(
    name="ravdess",
    title="RAVDESS, speech",
    read=_read,
    marker="Actor_[0-2][0-9]/03-01-*",
    archive=Archive(
        "https://zenodo.org/record/1188976/files/Audio_Speech_Actors_01-24.zip",
        checksum="md5:bc696df654c87fed845eb13823edef8a",
    ),
    part=Part("emotions", _EMOTIONS, several=True),
    classes=_EMOTIONS,
    groups="actor",
    folds=lambda frame: frame["fold"],
    about="""
1440 clips of about 4 seconds, 48 kHz: two sentences, spoken twice by each of 24 actors in eight emotions, all but
neutral in two intensities. Male actors have odd numbers. The set has no official folds; ``cv`` has six of four whole
actors, and ``groups`` are the actors.
""",
    licence="CC BY-NC-SA 4.0.",
    citation="""
S. R. Livingstone, F. A. Russo. The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS): A
dynamic, multimodal set of facial and vocal expressions in North American English. PLoS ONE 13(5): e0196391, 2018.
https://doi.org/10.1371/journal.pone.0196391
""",
)
