"""FSDD: the Free Spoken Digit Dataset, ten digits of six speakers, with its official test clips."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from skastw.datasets._public_set import Archive, PublicSet, add_audio, audio_files

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Speaker: accent. All are men.
_SPEAKERS = {
    "george": "Greek",
    "jackson": "American",
    "lucas": "German",
    "nicolas": "Belgian French",
    "theo": "American",
    "yweweler": "German",
}
_N_TAKES = 50
#: The first takes of each digit and speaker are the official test.
_N_TEST_TAKES = 5


def _read(folder: Path, part: None) -> Any:
    import pandas as pd

    rows = {
        f"recordings/{digit}_{speaker}_{take}": (word, speaker, accent, take)
        for (digit, word), (speaker, accent), take in product(enumerate(_DIGITS), _SPEAKERS.items(), range(_N_TAKES))
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["target", "speaker", "accent", "take"])
    return add_audio(table, audio_files(folder, ["recordings"]), folder, "the Free Spoken Digit Dataset")


FSDD = PublicSet(
    name="fsdd",
    title="Free Spoken Digit Dataset, version 1.0.10",
    read=_read,
    marker="recordings/[0-9]_theo_*",
    # The host packs the archive on demand, so there is no checksum: the clips are counted.
    archive=Archive(
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/d6938f9bf1545aa66d8489fc9f1385a7abd64282.zip",
        strip=1,
    ),
    classes=_DIGITS,
    groups="speaker",
    folds=lambda frame: np.where(frame["take"] < _N_TEST_TAKES, 0, -1),
    about="""
3000 clips of about half a second, 8 kHz, mono: the English digits zero to nine, fifty takes each by six speakers with
four accents, all men. The official test (``cv``) is takes 0 to 4 of each digit and speaker, so every speaker of the
test is heard in training; for scores on unheard speakers, split by ``groups``, the speakers.
""",
    licence="CC BY-SA 4.0.",
    citation="""
Z. Jackson and others. Free Spoken Digit Dataset, v1.0.10.
https://github.com/Jakobovski/free-spoken-digit-dataset
""",
)
