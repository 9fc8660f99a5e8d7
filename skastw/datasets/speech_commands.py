"""Speech Commands: 35 words of thousands of speakers, with the official lists of validation and test clips."""

from pathlib import Path
from typing import Any

import numpy as np

from skastw.datasets._public_set import Archive, Part, PublicSet
from skastw.datasets._reading import add_audio, audio_files, check_clips

#: Number of clips in each part of the official split.
_N_CLIPS = {"train": 84843, "validation": 9981, "test": 11005}
_WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy"),
    *("house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop"),
    *("three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
)
_NAME = r"^(?P<target>\w+)/(?P<speaker>[0-9a-f]+)_nohash_(?P<take>\d+)\Z"


def _read(folder: Path, part: str) -> Any:
    """Return the table of a part, or None if the folder is not Speech Commands."""
    import pandas as pd

    lists = {"validation": folder / "validation_list.txt", "test": folder / "testing_list.txt"}
    if not all(path.is_file() for path in lists.values()):
        return None

    # Clips that are in neither list are for training.
    files = audio_files(folder, _WORDS)
    listed = {split: {line.rpartition(".")[0] for line in path.read_text().split()} for split, path in lists.items()}
    split_of = dict.fromkeys(files, "train") | {name: split for split, names in listed.items() for name in names}
    names = sorted(split_of)
    table = pd.Series(names, index=names, dtype=str).str.extract(_NAME).assign(split=[split_of[name] for name in names])
    table = table.dropna().astype({"take": int})

    splits = list(_N_CLIPS) if part == "all" else [part]
    for split in splits:
        clips = table.index[table["split"] == split]
        check_clips(clips, files, folder, f"Speech Commands ({split})", n_clips=_N_CLIPS[split])
    return add_audio(table[table["split"].isin(splits)], files, folder, "Speech Commands")


def _split(frame: Any) -> Any:
    """Return the official split if the frame contains all parts."""
    train, test = (np.flatnonzero(frame["split"] == name) for name in ("train", "test"))
    return [(train, test)] if len(train) and len(test) else None


def _extras(frame: Any) -> dict[str, Any]:
    """Return the split of each clip, and the recordings of noise."""
    folder = Path(frame["audio"].iloc[0]).parent.parent
    noises = audio_files(folder, ["_background_noise_"])
    return {"split": frame["split"].to_numpy(dtype=str), "background": list(noises.values())}


SPEECH_COMMANDS = PublicSet(
    name="speech_commands",
    title="Speech Commands, version 0.02",
    read=_read,
    archive=Archive(
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        max_bytes=2**33,
    ),
    part=Part("subset", ["all", *_N_CLIPS], default="all"),
    classes=_WORDS,
    groups="speaker",
    splits=_split,
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
