"""Guard: stops a sync that would remove most of a table, or that reads another source than before.

Belongs here: both rules, what a person may allow once, the warning of row-level security.
Does not: asking the source (`postgres.origin`), committing (`publishing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import psycopg

from analytics_pipeline.errors import AllowanceUnknown, RemovalRefused, SourceChanged
from analytics_pipeline.store import Manifest, Replace
from analytics_pipeline.sync.changes import Changes
from analytics_pipeline.sync.postgres.origin import Origin, origin_of, read_origin, restricted_tables
from analytics_pipeline.sync.reading import HalfRead, Log
from analytics_pipeline.sync.spec import SplitSyncSpec

SMALL_TABLE = 1000
"""Rows; half of so few may well go in a day."""
LARGEST_SHARE = 0.5
"""Of a larger table's rows, that one sync may remove by default."""


class Allowance(StrEnum):
    """What a person allows one sync to do."""

    REMOVAL = "removal"
    OTHER_SOURCE = "other_source"


def allowances_of(text: str) -> frozenset[Allowance]:
    """The allowances in a text, such as `removal` or `removal, other_source`.

    Raises:
        AllowanceUnknown: a word of it is none.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in set(Allowance)]
    if unknown:
        raise AllowanceUnknown(unknown[0], list(Allowance))
    return frozenset(map(Allowance, words))


@dataclass(frozen=True)
class Found:
    """What a sync found out about its source.

    Args:
        origin: who answered.
        restricted: tables of which row-level security may hide rows.
    """

    origin: Origin
    restricted: Sequence[str]


@dataclass(frozen=True)
class TableLoss:
    """How many rows of a published table a sync would remove.

    Args:
        table: its name.
        published: its rows now, without partitions that the limit of rows leaves out.
        remaining: its rows after the sync.
    """

    table: str
    published: int
    remaining: int

    @property
    def removed(self) -> int:
        """Rows that go and are not replaced by others."""
        return self.published - self.remaining

    def __str__(self) -> str:
        return f"{self.removed:,} of {self.published:,} rows of {self.table} ({self.remaining:,} would remain)"


@dataclass(frozen=True)
class Guard:
    """The guard of one dataset.

    Args:
        spec: of the dataset.
        log: gets a line for what is allowed, and for row-level security.
        allowed: by the person who started the sync.
        former: who answered the last sync, as the status has it; None where that is not known.
    """

    spec: SplitSyncSpec
    log: Log
    allowed: frozenset[Allowance] = field(default_factory=frozenset)
    former: str | None = None

    def look(self, session: psycopg.Connection) -> Found:
        """Find out who answers, after the queries were planned in the session's transaction.

        Raises:
            psycopg.Error: the server does not answer.
        """
        found = Found(read_origin(session), restricted_tables(session))
        if found.restricted:
            self.log(
                f"{self.spec.name}: row-level security applies to {found.origin.role!r} in "
                f"{', '.join(found.restricted)}; rows that its policies hide are not mirrored."
            )
        return found

    def refuse_other_source(self, found: Found) -> None:
        """Stop where another server, database or role answers than the last time.

        Raises:
            SourceChanged: names both.
        """
        former = origin_of(self.former)
        if former is None or not found.origin.is_other_than(former):
            return
        if Allowance.OTHER_SOURCE not in self.allowed:
            raise SourceChanged(self.spec.name, str(former), str(found.origin))
        self.log(f"{self.spec.name}: adopting {found.origin} in place of {former}.")

    def refuse_removal(
        self, before: Manifest, reads: Iterable[tuple[HalfRead, Changes]], whole: Replace, found: Found
    ) -> None:
        """Stop where a commit would remove more rows than the spec allows.

        A rebuild is asked for by a person, who may have changed the queries: where the spec gives no share, only an
        emptied table stops it.

        Args:
            before: what is published.
            reads: what was read of each half.
            whole: what becomes of a table of which every partition was read.
            found: tells a likely cause.

        Raises:
            RemovalRefused: names tables and numbers.
        """
        is_rebuild = whole is Replace.TABLE_AND_COLUMNS
        losses = [loss for read, changes in reads if (loss := _loss(before, read, changes)) is not None]
        refused = [loss for loss in losses if self._is_too_much(loss, is_rebuild=is_rebuild)]
        if not refused:
            return
        if Allowance.REMOVAL not in self.allowed:
            raise RemovalRefused(self.spec.name, [str(loss) for loss in refused], found.restricted)
        self.log(f"{self.spec.name}: removing {' and '.join(map(str, refused))}, as allowed for this run.")

    def _is_too_much(self, loss: TableLoss, *, is_rebuild: bool) -> bool:
        most = self.spec.max_removed
        if loss.removed <= 0 or most == 1:
            return False
        if loss.remaining == 0:
            return True
        if most is not None:
            return loss.removed > most * loss.published
        return not is_rebuild and loss.published > SMALL_TABLE and loss.removed > LARGEST_SHARE * loss.published


def _loss(before: Manifest, read: HalfRead, changes: Changes) -> TableLoss | None:
    """None where nothing is published of the table."""
    table = before.tables.get(read.plan.table)
    if table is None:
        return None
    # What the limit of rows leaves out is asked for by the spec.
    counted = {key: part.rows for key, part in table.partitions.items() if key not in changes.left_out}
    replaced = counted.keys() if read.whole else {partition.key for partition in read.partitions}
    kept = sum(rows for key, rows in counted.items() if key not in replaced)
    return TableLoss(table.name, sum(counted.values()), kept + sum(partition.rows for partition in read.partitions))
