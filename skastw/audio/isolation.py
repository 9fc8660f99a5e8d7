"""Decode in worker processes that can be killed: a file that crashes or blocks a decoder costs only one clip.

A worker is a Python process that imports NumPy and the decoders. Requests are written to its standard input. The answer
on its standard output is a line of JSON and the samples, never a pickle, so that a compromised decoder can return
nothing but samples. Memory and time of a worker are limited. On systems with alarms, it ends itself even if the process
that started it is gone.
"""

import contextlib
import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import asdict
from io import BufferedReader
from typing import Annotated, Any, Literal, TypeAlias, cast

import msgspec
import numpy as np

from skastw.audio.decode import decode
from skastw.audio.limits import LIMITS, Limits
from skastw.core.warn import hold_warnings, warn_user
from skastw.errors import ClipValueError, MissingDependencyError, SkastwError, plain

Source: TypeAlias = str | os.PathLike[str] | bytes

_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from skastw.audio.isolation import work; work()"
#: Seconds that a worker may take to start, and seconds after the timeout at which it ends itself.
_START_TIMEOUT, _GRACE = 60.0, 2.0
_ERRORS = {error.__name__: error for error in (ClipValueError, MissingDependencyError)}
_Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class _Answer(msgspec.Struct):
    """The answer of a worker: an error, or the form of the samples, which follow."""

    samples: Annotated[int, msgspec.Meta(ge=0)] = 0
    channels: _Positive = 1
    rate: _Positive = 1
    warnings: list[str] = []
    error: Literal["ClipValueError", "MissingDependencyError"] | None = None
    reason: str = ""


class Decoder:
    """Decoder that runs in this process.

    Parameters
    ----------
    limits : Limits
        Largest size of a file.

    Examples
    --------
    >>> from skastw.audio.isolation import Decoder
    >>> from skastw.datasets import load_spoken_digits
    >>> samples, rate = Decoder()(load_spoken_digits().data[0])
    >>> rate
    16000
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits

    def __call__(
        self, source: Source, *, start: float | None = None, end: float | None = None
    ) -> tuple[np.ndarray, int]:
        """Decode a file, given by its path or its bytes, as :func:`skastw.audio.decode` does."""
        return decode(source, start=start, end=end, limits=self.limits)


_DECODER: ContextVar[Decoder] = ContextVar("_DECODER", default=Decoder())  # noqa: B039 (it is never changed)


def current_decoder() -> Decoder:
    """Return the decoder of this context: that of the ``isolated_decoding`` block, or one that runs in this process."""
    return _DECODER.get()


@contextlib.contextmanager
def isolated_decoding(
    *, timeout: float = 60.0, memory: int = 3 * 2**30, workers: int | None = None, limits: Limits = LIMITS
) -> Iterator[Decoder]:
    """Decode audio files in worker processes, for files from untrusted sources.

    Inside the block, ``fit``, ``predict`` and :func:`skastw.audio.load_waveform` decode files in workers. Arrays are
    not affected. If a clip crashes its worker, or exceeds the time or memory, this is a ``ClipValueError`` as for any
    other damaged clip, and a new worker is started.

    Parameters
    ----------
    timeout : float
        Seconds that one clip may take.
    memory : int
        Bytes that a worker may allocate after its start. Without effect on Windows and macOS.
    workers : int, optional
        Largest number of workers at a time; by default the number of CPU cores. A worker is started when it is needed.
        Each thread of ``n_jobs`` uses one.
    limits : Limits
        Largest size of a file.

    Yields
    ------
    Decoder
        Decodes a file in a worker when it is called with a path or bytes.

    Notes
    -----
    The block applies to this process and the threads that skastw starts, not to other processes: a ``GridSearchCV``
    inside must keep ``n_jobs=None`` (the estimator's own ``n_jobs`` may have any value). A worker has the permissions
    of its user: workers protect the run from crashes, endless loops and exhausted memory, not the system from attacks.

    Examples
    --------
    >>> from skastw.audio import isolated_decoding
    >>> from skastw.datasets import load_spoken_digits
    >>> with isolated_decoding(timeout=20) as decode:
    ...     samples, rate = decode(load_spoken_digits().data[0])
    >>> rate
    16000
    """
    decoder = IsolatedDecoder(timeout=timeout, memory=memory, workers=workers, limits=limits)
    token = _DECODER.set(decoder)
    try:
        yield decoder
    finally:
        _DECODER.reset(token)
        decoder.close()


class IsolatedDecoder(Decoder):
    """Decoder that runs in worker processes; see :func:`isolated_decoding`.

    Parameters
    ----------
    timeout, memory, workers, limits
        As in :func:`isolated_decoding`.

    Examples
    --------
    >>> from skastw.audio.isolation import IsolatedDecoder
    >>> decoder = IsolatedDecoder(timeout=5)  # starts a worker when it decodes
    >>> decoder.close()
    """

    def __init__(
        self, *, timeout: float = 60.0, memory: int = 3 * 2**30, workers: int | None = None, limits: Limits = LIMITS
    ) -> None:
        super().__init__(limits)
        workers = os.cpu_count() or 1 if workers is None else workers
        for name, value in {"timeout": timeout, "memory": memory, "workers": workers}.items():
            if not value > 0:
                raise ValueError(f"Got {name}={plain(value)!r}, expected a positive number.")
        self._start = functools.partial(_Worker, timeout=timeout, memory=memory, limits=limits)
        self._vacancies = threading.Semaphore(workers)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._closed = False

    def __call__(
        self, source: Source, *, start: float | None = None, end: float | None = None
    ) -> tuple[np.ndarray, int]:
        """Decode a file, given by its path or its bytes, in a worker."""
        with self._vacancies:
            with self._lock:
                if self._closed:
                    raise SkastwError("isolated_decoding has ended: decode inside its with block.")
                worker = self._idle.pop() if self._idle else None
            if worker is not None and not worker.is_alive():  # ended by something else than a clip
                worker.kill()
                worker = None

            worker = worker or self._start()
            try:
                return worker.decode(source, start, end)
            finally:
                with self._lock:
                    if worker.ready and not self._closed:
                        self._idle.append(worker)
                    else:
                        worker.kill()

    def close(self) -> None:
        """End all workers."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().kill()


class _Worker:
    """A worker process and the connection to it."""

    def __init__(self, *, timeout: float, memory: int, limits: Limits) -> None:
        self.timeout, self.memory, self.limits = timeout, memory, limits
        self.ready = False
        settings = json.dumps({"timeout": timeout, "memory": memory, "limits": asdict(limits)})
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads would need address space
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, settings, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one_thread},
            start_new_session=True,  # an interrupt of the run must not reach the worker
        )

        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, cast(BufferedReader, self._process.stdout)

        with self._killed_after(_START_TIMEOUT):
            self.ready = self._answers.readline(100) == b"ready\n"
        if not self.ready:
            self.kill()
            raise SkastwError("A worker for decoding could not be started; its error message is on standard error.")

    def decode(self, source: Source, start: float | None, end: float | None) -> tuple[np.ndarray, int]:
        """Decode one file, and set ``ready`` if the worker can decode another one afterwards."""
        self.ready = False
        with self._killed_after(self.timeout) as expired:
            try:
                source = source if isinstance(source, bytes) else os.fsdecode(source)
                pickle.dump((os.getcwd(), source, start, end), self._requests)
                self._requests.flush()
                answer, samples = self._received()
            except (OSError, EOFError, msgspec.DecodeError):
                raise ClipValueError(self._why_it_ended(expired)) from None

        self.ready = not expired.is_set()
        if answer.error is not None:
            raise _ERRORS[answer.error](answer.reason)
        for message in answer.warnings:
            warn_user(message)
        return samples, answer.rate

    def _received(self) -> tuple[_Answer, np.ndarray]:
        """Read an answer; all of it is checked, since a file may have compromised the worker."""
        answer = msgspec.json.decode(self._answers.readline(2**16), type=_Answer)
        self.limits.check_audio(answer.samples, answer.channels, answer.rate)
        samples = np.empty((answer.samples, answer.channels), dtype=np.float32)
        if self._answers.readinto(samples.reshape(-1).data.cast("B")) < samples.nbytes:
            raise EOFError
        return answer, samples

    def kill(self) -> None:
        """Kill the process and close the connection."""
        self._process.kill()
        with contextlib.suppress(OSError):
            self._requests.close()
        self._answers.close()
        self._process.wait()

    def is_alive(self) -> bool:
        """Return whether the process is running."""
        return self._process.poll() is None

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the process if the block takes too long, and set the event."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()
            timer.join()  # after this line, the process is not killed any more

    def _why_it_ended(self, expired: threading.Event) -> str:
        is_late = expired.is_set()
        status = self._process.wait()
        if is_late or status == -getattr(signal, "SIGALRM", 0):
            seconds = f"{self.timeout:g} s"
            return f"took the decoder longer than {seconds}; drop the clip, or raise the timeout of isolated_decoding."
        cause = signal.Signals(-status).name if -status in set(signal.Signals) else f"exit status {status}"
        return f"crashed the decoder ({cause}); drop the clip."


# ------------------------------------------------------------------ in the worker


def work(decode: Callable[..., tuple[np.ndarray, int]] = decode) -> None:
    """Answer requests until the standard input ends. This is the main function of a worker.

    Parameters
    ----------
    decode : callable
        Function that decodes a file.
    """
    settings = json.loads(sys.argv[1])
    limits, timeout = Limits(**settings["limits"]), settings["timeout"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    answers.write(b"ready\n")
    answers.flush()

    # decoders print messages, which must not mix with the answers
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    _limit_memory(settings["memory"])

    while True:
        try:
            folder, source, start, end = pickle.load(requests)
        except EOFError:
            return
        with contextlib.suppress(OSError):
            os.chdir(folder)

        _end_after(timeout + _GRACE)
        request = functools.partial(decode, source, start=start, end=end, limits=limits)
        answer, samples = _answer(request, settings["memory"])
        _end_after(0)

        answers.write(msgspec.json.encode(answer) + b"\n")
        if samples.size:
            answers.write(samples.data)
        answers.flush()
        del samples


def _answer(decode: Callable[[], tuple[np.ndarray, int]], memory: int) -> tuple[_Answer, np.ndarray]:
    """Decode a file, and return the answer and the samples."""
    kind: Any = "ClipValueError"
    try:
        (samples, rate), held = hold_warnings(decode)
        messages = [_valid_text(message[:1000]) for message, _ in held[:10]]
        answer = _Answer(len(samples), samples.shape[1], rate, messages)
        return answer, np.ascontiguousarray(samples, dtype=np.float32)
    except tuple(_ERRORS.values()) as error:
        kind, reason = type(error).__name__, getattr(error, "reason", str(error))
    except MemoryError:
        reason = f"takes the decoder more memory than {memory} bytes."
    except Exception as error:
        reason = f"cannot be decoded ({type(error).__name__}: {error!s:.1000})."
    return _Answer(error=kind, reason=_valid_text(reason[:10_000])), np.zeros((0, 1), dtype=np.float32)


def _valid_text(text: str) -> str:
    """Return a text without the half characters that stand for invalid bytes of a file name."""
    return text.encode("utf-8", "backslashreplace").decode()


def _limit_memory(memory: int) -> None:
    """Limit the memory of this process to ``memory`` bytes more than it has now."""
    try:
        import resource

        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        total = used + memory if hard == resource.RLIM_INFINITY else min(used + memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (total, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, ValueError):
        pass  # this system has no such limits


def _end_after(seconds: float) -> None:
    """End this process after a time, even inside a C library; 0 cancels this."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
