"""The only file that imports private names of scikit-learn.

If a release of scikit-learn moves one of them, only this file must change.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock
except ImportError:  # scikit-learn 1.6
    from sklearn.utils._estimator_html_repr import _VisualBlock

# scikit-learn's callbacks import rich, which draws a number from Python's random generator. The state is restored, so
# that a seeded program draws the same numbers with and without this import.
_random_state = random.getstate()
try:  # scikit-learn 1.9 and newer
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Placeholder for scikit-learn releases without callbacks."""
finally:
    random.setstate(_random_state)


__all__ = [
    "CallbackSupportMixin",
    "FitCallbacks",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "boxes_in_a_row",
    "check_sample_weight",
    "fit_context",
    "validate_parameter_constraints",
]


def boxes_in_a_row(objects: Sequence[Any]) -> Any:
    """Return the HTML diagram of an estimator with the components ``objects``: one box each, in a row."""
    return _VisualBlock("serial", list(objects), names=[None] * len(objects), name_details=list(map(str, objects)))


class FitCallbacks:
    """Calls scikit-learn's callbacks before and after ``fit`` and each epoch.

    Does nothing in scikit-learn releases without callbacks, or if the estimator has none.

    Parameters
    ----------
    estimator : estimator
        Estimator that is being fitted.
    X, y : clips and targets
        Arguments of ``fit``, for the callbacks.
    metadata : dict
        Further arguments of ``fit``, such as ``sample_weight``.
    max_epochs : int
    reconstruct : callable
        Returns the fitted attributes for the current state of a run, from which a callback can make a fitted copy of
        the estimator.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        metadata: dict[str, Any],
        max_epochs: int,
        reconstruct: Callable[[Any], dict[str, Any]],
    ) -> None:
        self._arguments = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._reconstruct = reconstruct
        start = getattr(estimator, "_init_callback_context", None)
        self._fit = start(max_subtasks=max_epochs) if start is not None else None
        if self._fit is not None:
            self._fit.call_on_fit_task_begin(**self._arguments)

    def begin_epoch(self) -> None:
        """Call the callbacks before an epoch."""
        if self._fit is not None:
            self._epoch = self._fit.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._arguments)

    def end_epoch(self, run: Any) -> bool:
        """Call the callbacks after an epoch of ``run``; return True if one of them stops training."""
        if self._fit is None:
            return False
        return bool(
            self._epoch.call_on_fit_task_end(
                **self._arguments, reconstruction_attributes=partial(self._reconstruct, run)
            )
        )

    def end_fit(self, run: Any) -> None:
        """Call the callbacks after the last epoch of ``run``."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._arguments, reconstruction_attributes=partial(self._reconstruct, run))
