"""Protocols for reporting accuracy: recordings, labels, and folds without common speakers or sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd

from skastw.audio import load_waveform
from skastw.datasets import fetch_dataset, load_spoken_digits

__all__ = ["PROTOCOLS", "Protocol", "load_protocol"]

Mask: TypeAlias = "pd.Series[bool]"

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
#: Six folds of four whole actors.
ACTORS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
#: Emotions of R4, and the other four, on which the recipes were developed.
FOUR, OTHER_FOUR = ("neutral", "calm", "angry", "surprised"), ("happy", "sad", "fearful", "disgust")
#: Actors of nEMO for reporting, and for choosing.
NEMO_TESTED, NEMO_CHOICE = ("KS0", "MK0", "MP0", "SM0", "TP0"), ("EB0", "IC0", "KD0", "WR0")


@dataclass(frozen=True)
class Protocol:
    """Clips with labels, and the training and test clips of each fold.

    Attributes
    ----------
    name : str
    audio, labels, groups : ndarrays of shape (n,)
        Paths, or waveforms at 16 kHz; classes; speakers or sources.
    folds : dict of str to (train, test)
        Positions.
    """

    name: str
    audio: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    folds: dict[str, tuple[np.ndarray, np.ndarray]]


def _by_actor(name: str, data_dir: Path, emotions: tuple[str, ...], tests: dict[str, tuple[int, ...]]) -> Protocol:
    clips = fetch_dataset("ravdess", emotions=emotions, data_home=data_dir)
    audio, labels, actors = np.array(clips.data), clips.target, clips.groups
    folds = {}
    for fold, test in tests.items():
        tested = np.isin(actors, test)
        folds[fold] = np.flatnonzero(~tested), np.flatnonzero(tested)
    return Protocol(name, audio, labels, actors, folds)


def _six_folds() -> dict[str, tuple[int, ...]]:
    return {"-".join(map(str, fold)): fold for fold in ACTORS}


def _choice(data_dir: Path) -> Protocol:
    """Return the other four emotions of actors 1 to 20: no clips of R4, and no test actors of R4-21."""
    tests = {f"{first}-{first + 3}": tuple(range(first, first + 4)) for first in range(1, 21, 4)}
    whole = _by_actor("choice", data_dir, OTHER_FOUR, tests)
    early = whole.groups <= 20
    folds = {name: (train[early[train]], test) for name, (train, test) in whole.folds.items()}
    return Protocol("choice", whole.audio, whole.labels, whole.groups, folds)


def _choice_channels(data_dir: Path) -> Protocol:
    """Return ``choice`` as if each actor had a microphone and a room of their own: a fixed filter and noise."""
    clean = _choice(data_dir)
    audio = np.empty(len(clean.audio), dtype=object)
    for i, (path, actor) in enumerate(zip(clean.audio, clean.groups, strict=True)):
        audio[i] = through_channel(load_waveform(str(path), 16000), int(actor), clip=i)
    return Protocol("choice-channels", audio, clean.labels, clean.groups, clean.folds)


def through_channel(waveform: np.ndarray, speaker: int, *, clip: int) -> np.ndarray:
    """Filter a waveform at 16 kHz and add noise, as the channel of a speaker would.

    The response is a random curve in decibels, with a standard deviation of 6 dB at nine frequencies from 62 Hz to 8
    kHz and straight lines over the octaves between them. The noise is white, 15 to 35 dB below the filtered clip.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,)
    speaker : int
        Seed of the channel.
    clip : int
        Seed of the noise in this clip.

    Returns
    -------
    ndarray of shape (n_samples,), float32
        At most 1 in absolute value.
    """
    channel = np.random.default_rng([speaker, 0])
    decibels, ratio = channel.normal(0.0, 6.0, size=9), channel.uniform(15.0, 35.0)

    spectrum = np.fft.rfft(waveform)
    frequencies = np.fft.rfftfreq(len(waveform), 1 / 16000)
    octaves = np.log2(np.maximum(frequencies, 1.0) / 62.5)
    filtered = np.fft.irfft(spectrum * 10 ** (np.interp(octaves, range(9), decibels) / 20), len(waveform))

    noise = np.random.default_rng([speaker, 1, clip]).normal(size=len(waveform))
    noisy = filtered + noise * filtered.std() * 10 ** (-ratio / 20)
    return (noisy / max(1.0, np.abs(noisy).max())).astype(np.float32)


def _esc10(data_dir: Path) -> Protocol:
    clips = fetch_dataset("esc50", subset="esc10", data_home=data_dir)
    folds = {str(fold + 1): split for fold, split in enumerate(clips.cv.split())}
    return Protocol("esc10", np.array(clips.data), clips.target, clips.groups, folds)


def _esc10_inner(data_dir: Path) -> Protocol:
    """Return all splits into three training folds and two test folds.

    The settings for testing fold 1 may be chosen on the predictions for fold 2 in "1-2", fold 3 in "1-3" and so on,
    because these models were not trained on fold 1.
    """
    whole = _esc10(data_dir)
    folds = {}
    for (first, (_, one)), (second, (_, other)) in combinations(whole.folds.items(), 2):
        test = np.concatenate([one, other])
        folds[f"{first}-{second}"] = np.setdiff1d(np.arange(len(whole.labels)), test), test
    return Protocol("esc10-inner", whole.audio, whole.labels, whole.groups, folds)


def _digits(data_dir: Path) -> Protocol:
    """Return the twenty synthetic voices of the library; each fold tests five."""
    clips = load_spoken_digits()
    groups = np.asarray(clips.groups)
    folds = {}
    for fold, voices in enumerate(np.array_split(np.unique(groups), 4), start=1):
        tested = np.isin(groups, voices)
        folds[str(fold)] = np.flatnonzero(~tested), np.flatnonzero(tested)
    return Protocol("digits", np.asarray(clips.data), np.asarray(clips.target), groups, folds)


def _table(name: str, folder: Path, folds: Callable[[pd.DataFrame], dict[str, tuple[Mask, Mask]]]) -> Protocol:
    """Return the clips of a ``metadata.csv``; ``folds`` returns for each fold which rows train and which test."""
    table = pd.read_csv(folder / "metadata.csv", dtype={"label": str, "group": str})
    audio = np.array([str(folder / file) for file in table["file"]])
    splits = {fold: (np.flatnonzero(train), np.flatnonzero(test)) for fold, (train, test) in folds(table).items()}
    return Protocol(name, audio, table["label"].to_numpy(str), table["group"].to_numpy(str), splits)


def _esc50(table: pd.DataFrame) -> dict[str, tuple[Mask, Mask]]:
    return {str(fold): (table["fold"] != fold, table["fold"] == fold) for fold in range(1, 6)}


def _esc50_choice(table: pd.DataFrame) -> dict[str, tuple[Mask, Mask]]:
    """Return splits of the clips that are not part of ESC-10 into three training folds and two test folds."""
    other, splits = ~table["esc10"], {}
    for pair in combinations(range(1, 6), 2):
        tested = table["fold"].isin(pair)
        splits["-".join(map(str, pair))] = (other & ~tested, other & tested)
    return splits


def _nemo(table: pd.DataFrame) -> dict[str, tuple[Mask, Mask]]:
    return {actor: (table["group"] != actor, table["group"] == actor) for actor in NEMO_TESTED}


def _nemo_choice(table: pd.DataFrame) -> dict[str, tuple[Mask, Mask]]:
    chosen = table["group"].isin(NEMO_CHOICE)
    return {actor: (chosen & (table["group"] != actor), table["group"] == actor) for actor in NEMO_CHOICE}


def _keywords(table: pd.DataFrame) -> dict[str, tuple[Mask, Mask]]:
    return {"test": (table["split"] != "test", table["split"] == "test")}


def _keywords_val(table: pd.DataFrame) -> dict[str, tuple[Mask, Mask]]:
    return {"val": (table["split"] == "train", table["split"] == "val")}


#: Functions that take the folder of the recordings, which are downloaded if missing, and return a protocol.
PROTOCOLS = {
    "r4-21": lambda data_dir: _by_actor("r4-21", data_dir, FOUR, {"21-22-23-24": (21, 22, 23, 24)}),
    "r4": lambda data_dir: _by_actor("r4", data_dir, FOUR, _six_folds()),
    "r8": lambda data_dir: _by_actor("r8", data_dir, EMOTIONS, _six_folds()),
    "esc10": _esc10,
    "esc10-inner": _esc10_inner,
    "digits": _digits,
    "choice": _choice,
    "choice-channels": _choice_channels,
    "esc50": lambda data_dir: _table("esc50", data_dir / "esc50_16k", _esc50),
    "esc50-choice": lambda data_dir: _table("esc50-choice", data_dir / "esc50_16k", _esc50_choice),
    "nemo": lambda data_dir: _table("nemo", data_dir / "nemo", _nemo),
    "nemo-choice": lambda data_dir: _table("nemo-choice", data_dir / "nemo", _nemo_choice),
    "keywords": lambda data_dir: _table("keywords", data_dir / "arabic_commands", _keywords),
    "keywords-val": lambda data_dir: _table("keywords-val", data_dir / "arabic_commands", _keywords_val),
}


def load_protocol(name: str, data_dir: Path) -> Protocol:
    """Return a protocol of :data:`PROTOCOLS`."""
    return PROTOCOLS[name](data_dir)
