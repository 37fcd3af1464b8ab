"""Missing values: what pandas, NumPy and Arrow have where Python has None.

Belongs here: recognizing them, without importing any of these packages. Does not: what is stored in their place.
"""

from __future__ import annotations

_COMMON = frozenset({bool, int, float, str, bytes, dict, list, tuple})
_BY_TYPE = frozenset({("pandas", "NAType"), ("pandas", "NaTType"), ("numpy", "MaskedConstant")})


def is_missing(value: object) -> bool:
    """Whether a value is None, or what another package has for None.

    These are NA and NaT of pandas, NaT and `masked` of NumPy, and null scalars of Arrow. NaN is a number, not missing.
    """
    kind = type(value)
    if kind in _COMMON:
        return False
    if value is None:
        return True
    package = kind.__module__.partition(".")[0]
    if (package, kind.__name__) in _BY_TYPE:
        return True
    if package == "numpy":
        return getattr(value, "ndim", None) == 0 and is_time_of_numpy(value) and bool(value != value)  # noqa: PLR0124 - NaT
    return package == "pyarrow" and getattr(value, "is_valid", None) is False


def is_time_of_numpy(value: object) -> bool:
    """Whether it is a `datetime64` or `timedelta64`, or an array of them."""
    return getattr(getattr(value, "dtype", None), "kind", None) in {"m", "M"}
