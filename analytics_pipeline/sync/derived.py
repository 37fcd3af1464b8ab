"""Derived tables: what of a dataset follows from its rows and is published with them, in the same commit.

Belongs here: which datasets have such tables, and whether their columns allow it. Does not: making them
(`human_signals`), the commit (`publishing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from analytics_pipeline.human_signals.derivation import VERSION, CasesDerivation
from analytics_pipeline.human_signals.rows import refuse_missing
from analytics_pipeline.human_signals.withdrawal import CasesWithdrawal
from analytics_pipeline.sync.plan import HalfPlan
from analytics_pipeline.sync.spec import Half, SplitSyncSpec


def derivation_of(
    spec: SplitSyncSpec, log: Callable[[str], None] = lambda _: None
) -> CasesDerivation | CasesWithdrawal:
    """How a dataset's derived tables are made, or emptied where its spec asks for none any more.

    Args:
        spec: of the dataset.
        log: gets a line for what is made anew or taken away, and why.
    """
    derivation = CasesDerivation(spec.name, spec.visible_metrics, spec.filter_columns, log)
    return derivation if spec.cases else CasesWithdrawal(derivation)


def published_tables(spec: SplitSyncSpec) -> Sequence[str]:
    """All tables of a dataset: its halves, and what is derived from them."""
    derivation = derivation_of(spec)
    derived = (derivation.cases, derivation.signals) if isinstance(derivation, CasesDerivation) else ()
    return [*map(spec.table, Half), *derived]


def derived_version(spec: SplitSyncSpec) -> str:
    """The rules by which a dataset's derived tables are made."""
    return f"cases {VERSION}" if spec.cases else ""


def refuse_unfit(spec: SplitSyncSpec, plans: Mapping[Half, HalfPlan]) -> None:
    """Refuse a dataset whose columns cannot make the derived tables that its spec asks for.

    Raises:
        CaseColumnsMissing: names the columns.
    """
    if spec.cases:
        names = dict.fromkeys(name for plan in plans.values() for name in plan.schema.names)
        refuse_missing(spec.view, list(names))
