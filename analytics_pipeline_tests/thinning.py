"""Thinning: of a long list of cases each build runs some, and `make test-slow` the others.

Belongs here: that choice. Does not: the cases.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark.structures import ParameterSet


def thinned(cases: Iterable[object], every: int) -> list[ParameterSet]:
    """The cases, of which all but every so-manieth one are marked slow."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.slow] if number % every else []
        )
        for number, case in enumerate(cases)
    ]
