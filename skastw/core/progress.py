"""Progress bars that start no thread, and progress as lines for log files."""

import sys
import time
from typing import Any, Self

from tqdm.auto import tqdm


class ProgressBar(tqdm):
    """A tqdm progress bar that starts no thread.

    A standard tqdm bar skips updates if they come fast. A monitoring thread, which is started with the first bar (even
    a hidden one) and lives as long as the process, then redraws bars that were not drawn for ten seconds. This class
    reads the clock at each update instead.

    Parameters
    ----------
    *args, **options
        Arguments of ``tqdm``.

    Examples
    --------
    >>> from skastw.core.progress import ProgressBar
    >>> sum(ProgressBar([1, 2, 3], disable=True))
    6
    """

    monitor_interval = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"miniters": 1, **options})


class ProgressLines:
    """Progress as lines on standard error: one from time to time, and one at the end.

    It has the interface of a progress bar, as far as this package uses it.

    Parameters
    ----------
    total : int
        Number of items.
    desc : str
        First word of a line.
    unit : str
        Word for an item.
    disable : bool, default=False
        Write nothing.
    seconds : float, default=30.0
        Shortest time between two lines (s).

    Attributes
    ----------
    n : int
        Number of items that are complete.
    initial : int
        Number of items that were complete before, which do not count for the speed.

    Examples
    --------
    >>> import contextlib, sys
    >>> from skastw.core.progress import ProgressLines
    >>> with contextlib.redirect_stderr(sys.stdout), ProgressLines(total=4, desc="predict", unit="clip") as lines:
    ...     lines.update(3)
    predict: 3 of 4 clips (75 %), ... clips/s, 00:00 left
    """

    def __init__(self, *, total: int, desc: str, unit: str, disable: bool = False, seconds: float = 30.0) -> None:
        self.total, self.desc, self.unit, self.disable, self.seconds = total, desc, unit, disable, seconds
        self.n = self.initial = 0
        self._start = self._last = time.monotonic()

    def update(self, n: int) -> None:
        """Add complete items, and write a line if the last one is old enough."""
        self.n += n
        if time.monotonic() - self._last >= self.seconds:
            self.write_line()

    def write_line(self) -> None:
        """Write a line."""
        self._last = time.monotonic()
        percent = 100 * self.n // self.total if self.total else 100
        text = f"{self.desc}: {self.n} of {self.total} {self.unit}s ({percent} %)"
        if self.n > self.initial:
            rate = (self.n - self.initial) / max(self._last - self._start, 1e-9)
            left = tqdm.format_interval((self.total - self.n) / rate)
            text += f", {float(f'{rate:.3g}'):g} {self.unit}s/s, {left} left"
        if not self.disable:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write_line()
