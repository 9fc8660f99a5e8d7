"""The only file that touches scikit-learn's private names.

When a scikit-learn release moves one of them, this is the one place to mend.
"""

from __future__ import annotations

from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _check_sample_weight, _is_arraylike

__all__ = [
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "check_sample_weight",
    "fit_context",
    "is_array_like",
    "validate_parameter_constraints",
]

check_sample_weight = _check_sample_weight
fit_context = _fit_context
is_array_like = _is_arraylike
