"""Thinning: of long lists of cases and of long histories each build runs some, and `make test-slow` the others.

Belongs here: that choice. Does not: the cases, or what may happen in a history.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def thinned(cases: Iterable[object], every: int) -> list[ParameterSet]:
    """The cases, of which all but every so-manieth one are marked slow."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.slow] if number % every else []
        )
        for number, case in enumerate(cases)
    ]


def run_histories(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Compare a model with the real thing over so many histories, each of so many steps."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
