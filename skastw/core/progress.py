"""Progress bars that start no thread."""

from typing import Any

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
