"""Speech Commands: 35 words of thousands of speakers, with the official lists of validation and test clips."""

from pathlib import Path
from typing import Any

import numpy as np

from skastw.datasets._public_set import Archive, Part, PublicSet, add_audio, audio_files

#: Number of clips in each part of the official split.
_N_CLIPS = {"train": 84843, "validation": 9981, "test": 11005}
_WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy"),
    *("house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop"),
    *("three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
)
_NAME = r"^(?P<target>\w+)/(?P<speaker>[0-9a-f]+)_nohash_(?P<take>\d+)\Z"


def _read(folder: Path, part: str) -> Any:
    import pandas as pd

    # Clips that are in neither list are for training.
    files = audio_files(folder, _WORDS)
    split_of = dict.fromkeys(files, "train")
    for split, name in {"validation": "validation_list.txt", "test": "testing_list.txt"}.items():
        split_of |= {line.rpartition(".")[0]: split for line in (folder / name).read_text().split()}
    clips = pd.Series(split_of, dtype=str).sort_index()
    table = clips.index.astype(str).to_series().str.extract(_NAME).assign(split=clips).dropna().astype({"take": int})

    splits = list(_N_CLIPS) if part == "all" else [part]
    tables = [
        add_audio(table[table["split"] == split], files, folder, f"Speech Commands ({split})", n_clips=_N_CLIPS[split])
        for split in splits
    ]
    return pd.concat(tables).sort_values("audio", ignore_index=True)


def _extras(frame: Any) -> dict[str, Any]:
    """Return the official split if the frame contains all parts, the part of each clip, and the recordings of noise."""
    train, test = (np.flatnonzero(frame["split"] == name) for name in ("train", "test"))
    noises = audio_files(Path(frame["audio"].iloc[0]).parent.parent, ["_background_noise_"])
    return {
        "cv": [(train, test)] if len(train) and len(test) else None,
        "split": frame["split"].to_numpy(dtype=str),
        "background": list(noises.values()),
    }


SPEECH_COMMANDS = PublicSet(
    name="speech_commands",
    title="Speech Commands, version 0.02",
    read=_read,
    marker="testing_list.txt",
    archive=Archive(
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        max_bytes=2**33,
    ),
    part=Part("subset", ["all", *_N_CLIPS], default="all"),
    classes=_WORDS,
    groups="speaker",
    extras=_extras,
    about="""
105829 clips of at most 1 second, 16 kHz, mono: 35 English words, recorded by volunteers at their own devices. The
official split is train (84843 clips), validation (9981) and test (11005); no speaker (``groups``) is in two of them.
``background`` are six recordings of noise, of a minute or more, to mix in or to cut silence from; they are no class.
""",
    licence="CC BY 4.0.",
    citation="""
P. Warden. Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition. arXiv:1804.03209, 2018.
https://arxiv.org/abs/1804.03209
""",
)
