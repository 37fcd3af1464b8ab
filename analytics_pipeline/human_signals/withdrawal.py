"""The withdrawal: what becomes of cases that a dataset asks for no more.

Belongs here: emptying the derived tables in the commit of a refresh. Does not: making cases (`derivation`), removing
files, which the store does once no reader needs them.

The tables stay, without rows: who asks for cases in SQL finds none, neither old ones nor an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from analytics_pipeline.human_signals.derivation import CasesDerivation, Derived
from analytics_pipeline.store import Change, JoinView, JsonObject, Manifest, Replace, Stage, Store, TableChange


@dataclass(frozen=True)
class CasesWithdrawal:
    """A dataset without cases, which may have had some.

    Args:
        of: how they were made.
    """

    of: CasesDerivation

    def is_current(self, store: Store, _view: JoinView) -> bool:
        """Whether no cases are left."""
        return not _is_kept(store.manifest(), self.of.state)

    def derive(self, store: Store, _stage: Stage, _change: Change, _view: JoinView, _sync_id: str) -> Derived:
        """The derived tables without rows, and what is known of them; nothing where there were none."""
        published = store.manifest()
        if not _is_kept(published, self.of.state):
            return Derived([], {})
        tables = [published.tables[name] for name in (self.of.cases, self.of.signals) if name in published.tables]
        rows = sum(table.rows for table in tables if table.name == self.of.cases)
        self.of.log(f"{self.of.cases}: {rows:,} cases were taken away: the dataset asks for none any more.")
        return Derived(
            [TableChange(table.name, table.columns, [], Replace.TABLE) for table in tables],
            {**{table.name: _emptied(published.metadata[table.name].value) for table in tables}, self.of.state: {}},
        )


def _is_kept(manifest: Manifest, state: str) -> bool:
    return state in manifest.metadata and bool(manifest.metadata[state].value)


def _emptied(known: JsonObject) -> JsonObject:
    """The keys that every table has, without anything that rows told."""
    return {
        "row_count": 0,
        "columns": known["columns"],
        "filter_values": {},
        "time_range": None,
        "summary_stats": None,
    }
