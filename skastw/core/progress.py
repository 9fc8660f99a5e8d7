"""Progress bars that leave the process as it was."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm

__all__ = ["ProgressBar"]


class ProgressBar(tqdm):
    """A bar of tqdm that starts no thread.

    tqdm's own bars, hidden ones as well, start a thread that lives as long as the process. It looks for bars that
    have not been drawn for ten seconds, because they skip updates when those come fast. This one looks at the clock at
    each update instead.

    Parameters
    ----------
    *args, **options
        As for ``tqdm``.

    Examples
    --------
    >>> from skastw.core.progress import ProgressBar
    >>> sum(ProgressBar([1, 2, 3], disable=True))
    6
    """

    monitor_interval = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"miniters": 1, **options})
