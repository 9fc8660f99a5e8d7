"""Frames of clips on disk, shared by fits, by processes and by later runs.

A cache is a folder of small files, the *entries*. The name of an entry is a SHA-256 of everything that its content
depends on. An entry is written under a temporary name and then renamed. Readers and writers in any number of processes
therefore need no locks, and files may disappear at any moment. An entry begins with a SHA-256 of its name and content;
a damaged entry counts as missing, so it is computed again and replaced. Entries are numbers: nothing in them is
executed.

There are two kinds of entries. The frames of a clip are named after the content of the clip and the settings of
:func:`open_cache`. The SHA-256 of a file is named after its path, size, times and inode, so that a file is not read
again unless it has changed.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import secrets
import stat
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import soundfile
import torch
from torch import Tensor

from skastw.audio.isolation import current_decoder
from skastw.core.component import component_to_config
from skastw.core.parameters import param, parameters, reals
from skastw.core.warn import warn_user
from skastw.errors import ArtifactError, plain
from skastw.features import Features, FeaturesModule
from skastw.storage.files import open_inside

#: Version of the computation. Raise it if a change of skastw gives other frames for the same clip.
VERSION = 1
#: Packages that decode, resample and compute: another version may give other frames.
_PACKAGES = ("av", "numpy", "onnxruntime", "opensmile", "soundfile", "soxr", "torch")

#: The hashes of the weights of front ends, and the tensors that they belong to.
_HASHED: WeakKeyDictionary[FeaturesModule, tuple[Any, list[Any]]] = WeakKeyDictionary()
#: The start of this process. It never removes entries that were used since then.
_BEGAN = time.time()
#: Times of files may be as coarse as this (s), so that a second change is not visible in them.
_SETTLED = 3.0

#: The file by which a cache is recognised, and its content.
_MARKER = "skastw-frames.txt"
_NOTICE = "This folder contains frames of audio clips that skastw has computed. It can be deleted at any time.\n"
#: The first two digits of the names of entries are the name of their folder.
_GROUP, _ENTRY = re.compile("[0-9a-f]{2}"), re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{16}\.tmp)?")
#: Size of the SHA-256 before the content (bytes). The content of frames begins with T, F and ``cancelled``.
_DIGEST, _SHAPE = 32, struct.Struct("<QQQ")
#: Size of a block of a file system (bytes), share of the size after which a cache is measured again, and how often an
#: entry is written while somebody removes the folder.
_BLOCK, _SHARE, _ATTEMPTS = 4096, 16, 3


@parameters
class FrameCacheParams:
    """Parameters of the frames that are kept on disk."""

    cache_dir: str | os.PathLike[str] | None = param(
        default=None,
        valid=[str, os.PathLike, None],
        doc="Folder that keeps the frames of each clip, so that other folds, the candidates of a search, other "
        "processes and later calls do not decode it again. ``fit``, predictions and ``transform`` read and write it. "
        "Clips are recognised by their content, so the results are the same as without the folder. It may be deleted "
        "at any time.",
        saved=False,
    )
    cache_size: float = param(
        default=10.0,
        valid=[reals(0, None, closed="neither")],
        doc="Largest size of ``cache_dir`` (GB). The frames that were not used for the longest time are removed.",
        saved=False,
    )


def open_cache(
    params: FrameCacheParams, features: Features, front_end: FeaturesModule, sample_rate: int, device: str
) -> FrameCache | None:
    """Return the cache of the frames of one front end, or None if ``cache_dir`` is None.

    Frames are shared only if all of these are equal: the class, parameters, weights and buffers of the front end, the
    sample rate, the type of the device, the versions of the packages that decode and compute, and :data:`VERSION`. A
    front end outside skastw may be edited while its name stays the same, so its frames of a second of noise count too.

    Parameters
    ----------
    params : FrameCacheParams
    features : Features
    front_end : FeaturesModule
        The built front end, on the CPU.
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    device : str
        Type of the device on which the front end runs.

    Returns
    -------
    FrameCache or None
    """
    if params.cache_dir is None:
        return None
    kind = type(features)
    weights = _weights_of(front_end)

    probe = ""
    if not kind.__module__.startswith("skastw."):
        noise = torch.from_numpy(0.1 * np.random.RandomState(0).standard_normal(sample_rate)).float()
        try:
            with torch.no_grad():
                probe = _sha256(front_end.extract([noise])[0])
        except Exception as error:
            warn_user(f"cache_dir is not used, because {features!r} cannot process a second of noise: {error}")
            return None

    name = f"{kind.__module__}.{kind.__qualname__}"
    settings = [VERSION, _versions(), name, component_to_config(features), weights, probe, sample_rate, device]
    store = _store(os.path.abspath(params.cache_dir), int(min(params.cache_size * 1e9, 2**62)))
    return FrameCache(store, _name(*settings), sample_rate)


def _weights_of(front_end: FeaturesModule) -> list[tuple[str, str, tuple[int, ...], str]]:
    """Return name, dtype, shape and SHA-256 of each weight and buffer; they are hashed once for each module."""
    values = dict(chain(front_end.named_parameters(), front_end.named_buffers()))
    state = [(name, id(value), value._version) for name, value in values.items()]
    known, hashed = _HASHED.get(front_end, (None, []))
    if known != state:
        hashed = [(name, str(value.dtype), tuple(value.shape), _sha256(value)) for name, value in values.items()]
        _HASHED[front_end] = (state, hashed)
    return hashed


@functools.lru_cache(maxsize=64)
def _store(folder: str, max_bytes: int) -> Store:
    """Return the store of a folder, of which a process has one, so that it warns once."""
    return Store(folder, max_bytes)


@functools.cache
def _versions() -> list[str]:
    """Return the versions of libsndfile and of the packages; an empty one if a package is missing."""
    versions = [soundfile.__libsndfile_version__]
    for name in _PACKAGES:
        try:
            versions.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            versions.append("")
    return versions


@dataclass(frozen=True)
class Entry:
    """What a cache knows of a clip.

    Attributes
    ----------
    frames : Tensor of shape (T, F), float32, or None
        None if the cache does not contain them.
    cancelled : bool
        See :class:`skastw.data.extraction.Outcome`.
    name : str or None
        Name under which the frames are kept; None if the content of the clip cannot be hashed.
    file : (str, tuple of int) or None
        Path of the clip's file, with its size, times and inode.
    """

    frames: Tensor | None = None
    cancelled: bool = False
    name: str | None = None
    file: tuple[str, tuple[int, ...]] | None = None


class FrameCache:
    """The frames of clips for one front end, sample rate and device, in one folder; see :func:`open_cache`.

    Parameters
    ----------
    store : Store
    settings : str
        Hash of everything besides the clip that frames depend on.
    sample_rate : int
        Sampling rate of arrays without a rate (Hz).
    """

    def __init__(self, store: Store, settings: str, sample_rate: int) -> None:
        self._store, self._settings, self._sample_rate = store, settings, sample_rate

    def find(self, clip: Any) -> Entry:
        """Return the entry of a clip; it has frames if the cache contains them."""
        try:
            entry = self._entry(clip)
        except Exception:  # such a clip cannot be used, and reading it raises an error that says why
            return Entry()
        content = entry.name and self._store.read(entry.name)
        if not content:
            return entry

        n_frames, n_features, cancelled = _SHAPE.unpack_from(content)
        values = np.frombuffer(content, dtype="<f4", offset=_SHAPE.size).astype(np.float32, copy=False)
        return replace(entry, frames=torch.from_numpy(values).view(n_frames, n_features), cancelled=bool(cancelled))

    def keep(self, entry: Entry, frames: Tensor, *, cancelled: bool) -> None:
        """Write the frames of a clip that was not found, unless its file has changed since then."""
        if entry.name is None or frames.dtype != torch.float32:
            return
        with suppress(OSError):  # the file is gone
            if entry.file is None or _version(entry.file[0]) == entry.file[1]:
                values = np.ascontiguousarray(frames.numpy(), dtype="<f4")
                self._store.write(entry.name, _SHAPE.pack(*frames.shape, cancelled) + values.tobytes())

    def _entry(self, clip: Any) -> Entry:
        """Return the entry of a clip without its frames. Clips that cannot be used may raise any exception."""
        rates, bounds, file = [self._sample_rate], [None, None], None
        if isinstance(clip, Mapping):
            bounds = [clip.get("start"), clip.get("end")]
            if clip.get("array") is not None:
                rates = [clip[key] for key in ("sample_rate", "sampling_rate") if clip.get(key) is not None]
                clip = np.asarray(clip["array"])
            else:
                clip = clip.get("path") if clip.get("bytes") is None else clip["bytes"]
                if not isinstance(clip, str | os.PathLike | bytes | bytearray | memoryview):
                    return Entry()
        elif isinstance(clip, tuple) and len(clip) == 2 and isinstance(clip[1], Real):
            clip, rates = np.asarray(clip[0]), [clip[1]]
        elif isinstance(clip, bytes | bytearray | memoryview):  # not a clip outside a mapping
            return Entry()

        limits = current_decoder().limits
        if isinstance(clip, str | os.PathLike):
            path = os.path.abspath(clip)
            file = path, _version(path)
            limits.check_file_size(file[1][0])
            content: list[Any] = [self._file_digest(*file), repr(limits)]
        elif isinstance(clip, bytes | bytearray | memoryview):
            content = [hashlib.sha256(clip).hexdigest(), repr(limits)]
        else:
            samples = np.asarray(clip)
            if samples.dtype.kind not in "fiu":
                return Entry()
            digest = hashlib.sha256(np.ascontiguousarray(samples).data).hexdigest()
            content = [digest, samples.dtype.str, samples.shape, repr(plain(rates))]
        return Entry(name=_name("frames", self._settings, content, repr(plain(bounds))), file=file)

    def _file_digest(self, path: str, version: tuple[int, ...]) -> str:
        """Return the SHA-256 of a file, from the cache if the file is known."""
        name = _name("file", path, version)
        known = self._store.read(name)
        if known:
            return known.hex()

        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        # a file that was written just now may change again without a change of its size and times
        if _version(path) == version and time.time() - max(version[1:3]) / 1e9 > _SETTLED:
            self._store.write(name, digest)
        return digest.hex()


class Store:
    """A folder of entries: bytes with a name and a checksum, in a limited number of bytes.

    If the folder cannot be written, there is one warning, and entries are only read from then on.

    Parameters
    ----------
    folder : str
        Created with the first entry. It must be empty or a cache.
    max_bytes : int
        Largest size of the folder. Each process may exceed it by a sixteenth.

    Examples
    --------
    >>> import tempfile
    >>> from skastw.data.cache import Store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder, max_bytes=10**6)
    ...     store.write(64 * "a", b"frames")
    ...     bytes(store.read(64 * "a")), store.read(64 * "b")
    (b'frames', None)
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._folder, self._max_bytes = Path(folder), max_bytes
        self._lock = threading.Lock()
        self._room = 0  # bytes that may be written before the folder is measured again
        self._writes = True

    def read(self, name: str) -> memoryview | None:
        """Return the content of an entry, or None if it is missing or damaged."""
        try:
            with open_inside(self._folder, f"{name[:2]}/{name}") as file:
                info = os.fstat(file.fileno())
                entry = memoryview(bytearray(info.st_size))
                file.readinto(entry)
        except (ArtifactError, OSError):
            return None

        content = entry[_DIGEST:]
        if entry[:_DIGEST] != _checksum(name, content):
            return None
        if info.st_mtime < _BEGAN:
            with suppress(OSError):  # the folder may be read-only
                os.utime(self._path(name))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an entry, which replaces an entry of the same name in one step."""
        path = self._path(name)
        temporary = path.with_name(f"{name}.{secrets.token_hex(8)}.tmp")
        try:
            for attempt in range(_ATTEMPTS):
                with suppress(FileNotFoundError):  # the folder does not exist yet, or somebody removes it just now
                    if attempt:
                        self._claim()
                    if not self._reserve(_on_disk(_DIGEST + len(content))):
                        return
                    path.parent.mkdir(exist_ok=True)
                    with open(temporary, "xb") as file:
                        file.write(_checksum(name, content))
                        file.write(content)
                    os.replace(temporary, path)
                    return
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            self._stop(f"cannot be written ({error.strerror or error}); make room, or choose another cache_dir")

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _reserve(self, size: int) -> bool:
        """Return whether an entry may be written; remove old entries if necessary."""
        with self._lock:
            if self._writes and self._room < size:
                self._claim()
                self._room = self._freed(size)
                if self._room < size:
                    self._stop("is full of frames that this process uses; raise cache_size")
            self._room -= size if self._writes else 0
            return self._writes

    def _claim(self) -> None:
        """Create the folder and its marker; raise OSError if the folder is not a cache."""
        self._folder.mkdir(parents=True, exist_ok=True)
        names = os.listdir(self._folder)
        if _MARKER in names:
            return
        # a cache without a marker is one that somebody has begun to remove
        if not all(_GROUP.fullmatch(name) for name in names):
            raise OSError(errno.ENOTEMPTY, "it contains other files")
        (self._folder / _MARKER).write_text(_NOTICE, encoding="utf-8")

    def _freed(self, size: int) -> int:
        """Return the bytes that may be written before the next call; remove entries if these are less than ``size``."""
        entries = []
        for group in os.scandir(self._folder):
            if not (_GROUP.fullmatch(group.name) and group.is_dir(follow_symlinks=False)):
                continue
            with suppress(OSError):  # somebody else removes entries
                for item in os.scandir(group):
                    info = item.stat(follow_symlinks=False)
                    if _ENTRY.fullmatch(item.name) and stat.S_ISREG(info.st_mode):
                        entries.append((info.st_mtime, _on_disk(info.st_size), item.path))

        # make more room than necessary, so that the folder is not measured for each entry
        wanted = size + self._max_bytes // _SHARE
        free = self._max_bytes - sum(n_bytes for _, n_bytes, _ in entries)
        for used, n_bytes, path in sorted(entries):
            if free >= wanted or used >= _BEGAN:
                break
            with suppress(OSError):
                os.unlink(path)
                free += n_bytes
        return min(free, wanted)

    def _stop(self, problem: str) -> None:
        """Write no further entries, and warn."""
        if self._writes:
            self._writes = False
            warn_user(f"The cache of frames {str(self._folder)!r} {problem}. Until then, frames are computed again.")


def _version(path: str) -> tuple[int, ...]:
    """Return the size, times and inode of a regular file; raise OSError if there is none."""
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(f"{path!r} is not a regular file")
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino


def _name(*parts: Any) -> str:
    """Return the name of an entry that depends on ``parts``."""
    return hashlib.sha256(json.dumps(parts, default=repr).encode()).hexdigest()


def _sha256(values: Tensor) -> str:
    return hashlib.sha256(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()


def _checksum(name: str, content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(name.encode())
    digest.update(content)
    return digest.digest()


def _on_disk(size: int) -> int:
    """Return the number of bytes of the blocks that a file takes."""
    return -(-size // _BLOCK) * _BLOCK
