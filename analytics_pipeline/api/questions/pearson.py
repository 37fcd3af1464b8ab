"""Pearson's coefficients of all pairs of columns at once, from sums of products.

Belongs here: the arithmetic. Does not: which rows and columns (`correlation`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_CHUNK = 65_536
_WELL_CONDITIONED = 1e-6
"""Share of a sum of squares that a variance must have; below it, too many digits cancel."""


def coefficients(values: Matrix) -> Matrix:
    """The coefficient of each pair of columns, over the rows that have both; 0 where it is not defined.

    Args:
        values: one row a record; NaN where there is none.
    """
    with np.errstate(all="ignore"):
        scaled = _scaled(values)
        count, total, square, product = _sums(scaled)
        variance = square - total * total / count
        covariance = product - total * total.T / count
        found = covariance / np.sqrt(variance * variance.T)
    doubtful = ~((variance > _WELL_CONDITIONED * square) & (variance.T > _WELL_CONDITIONED * square.T))
    for left, right in zip(*np.nonzero(np.triu(doubtful)), strict=True):
        found[left, right] = found[right, left] = _of_pair(scaled[:, left], scaled[:, right])
    return np.where(np.isfinite(found), np.clip(found, -1.0, 1.0), 0.0)


def _scaled(values: Matrix) -> Matrix:
    """The columns with their means at 0 and no value beyond 1: neither squares overflow, nor do digits cancel."""
    there = ~np.isnan(values)
    largest = np.where(there, np.abs(values), 0.0).max(axis=0, initial=0.0)
    scaled = np.ldexp(values, -np.frexp(largest)[1])  # by a power of two, which rounds nothing
    centered: Matrix = scaled - np.where(there, scaled, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    return centered


def _sums(values: Matrix) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Of each pair, over the rows that have both: rows, sum and sum of squares of the first, sum of products."""
    size = values.shape[1]
    count, total, square, product = (np.zeros((size, size)) for _ in range(4))
    for begin in range(0, len(values), _CHUNK):
        chunk = values[begin : begin + _CHUNK]
        there = ~np.isnan(chunk)
        known, weight = np.where(there, chunk, 0.0), there.astype(np.float64)
        count += weight.T @ weight
        total += known.T @ weight
        square += (known * known).T @ weight
        product += known.T @ known
    return count, total, square, product


def _of_pair(left: Matrix, right: Matrix) -> float:
    """The coefficient of two columns whose own sums would not tell a small variance from none."""
    both = ~(np.isnan(left) | np.isnan(right))
    left, right = left[both], right[both]
    if len(left) < 2 or (left == left[0]).all() or (right == right[0]).all():  # noqa: PLR2004 - a pair
        return 0.0
    left, right = left - left.mean(), right - right.mean()
    return float((left * right).sum() / np.sqrt((left * left).sum() * (right * right).sum()))
