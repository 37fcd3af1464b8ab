"""Arithmetic of the figures in records, the same for all capabilities.

Belongs here: shares, means and deviations, and what they are where there is nothing to count.
Does not: which figure a field holds (the extraction of each capability).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ratio(part: float, whole: float) -> float:
    """A share; 0.0 of nothing."""
    return part / whole if whole else 0.0


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if len(values) else None


def deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of a whole population; None of nothing."""
    return float(np.std(values)) if len(values) else None
