"""How old a row may be to count, by symbol class: a major pair that says nothing for a second is suspect, a rare one is
quiet for minutes."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

AgeClasses = tuple[tuple[str, int], ...]
"""(pattern, greatest age in ms); the first that matches a symbol's name holds."""

_MS_NS = 1_000_000


def age_limit_ns(name: str, default_ms: int, classes: AgeClasses) -> int:
    """Return the limit of one symbol."""
    return next((age_ms for pattern, age_ms in classes if fnmatchcase(name, pattern)), default_ms) * _MS_NS


def age_limits_ns(names: Sequence[str], default_ms: int, classes: AgeClasses) -> npt.NDArray[np.int64]:
    """Return int64 [names]: the limit of each, as `kernels.evaluator` and `kernels.row_tally` take it."""
    return np.array([age_limit_ns(name, default_ms, classes) for name in names], dtype=np.int64)
