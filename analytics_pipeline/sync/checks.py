"""Checks: what is asked of a dataset after a sync, and the answers in words with numbers.

Belongs here: each check's rule and sentence. Does not: counting (`metadata`, `changes`), or how Dagster shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from analytics_pipeline.sync.windows import REST

if TYPE_CHECKING:  # Dagster's definitions name the checks: they need no drivers for it
    from analytics_pipeline.store import Column, FileCheck, Table
    from analytics_pipeline.sync.changes import Changes
    from analytics_pipeline.sync.fingerprint import Fingerprint

_NAMED = 10
_LATE_INTERVALS = 2


class Check(StrEnum):
    """The checks by name, as Dagster shows them."""

    EQUALS_SOURCE = "equals_source"
    ROWS_IN_REST = "rows_in_rest"
    UNIQUE_KEYS = "unique_keys"
    SCHEMA_UNCHANGED = "schema_unchanged"
    NO_ORPHAN_RESULTS = "no_orphan_results"
    NO_ROW_SECURITY = "no_row_security"
    VERIFIED_IN_TIME = "verified_in_time"
    FILES_INTACT = "files_intact"


@dataclass(frozen=True)
class CheckResult:
    """The answer to one check.

    Args:
        name: of the check.
        table: the table or view that it is about.
        passed: whether all is well.
        severity: `error` where the data are not what they should be, `warn` where somebody should look.
        description: one sentence, with partitions and numbers.
        numbers: the same for machines.
    """

    name: Check
    table: str
    passed: bool
    severity: Literal["error", "warn"]
    description: str
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)


def equals_source(table: Table, changes: Changes, *, replaced: bool) -> CheckResult:
    """Whether what was read of every partition is what the source has now, and no change of it went unnoticed.

    It compares the source with what was read from it; whether the files still hold that, `files_intact` tells.

    Args:
        table: as published.
        changes: what was found in the source.
        replaced: stale partitions were read and published in the snapshot that they were compared in.
    """
    found, rows = changes.found, {key: partition.rows for key, partition in table.partitions.items()}
    read = changes.stale - changes.left_out if replaced else frozenset()
    compared = (found.keys() | changes.stale) - changes.left_out
    wrong = [
        _difference(key, rows.get(key), found.get(key))
        for key in sorted(compared - read)
        if key in changes.stale or rows.get(key) != found[key].rows
    ]
    lost = sorted(changes.drifted)
    in_source = sum(
        rows.get(key, 0) if key in read else found[key].rows for key in compared if key in found or key in read
    )
    numbers = {
        "partitions_compared": len(compared),
        "partitions_read": len(read),
        "rows_in_source": in_source,
        "rows_published": table.rows,
    }
    if wrong:
        text = f"{len(wrong)} partitions differ from the source: {_named(wrong)}."
    elif lost:
        text = (
            f"{len(lost)} partitions had changed without new row versions: {_named(lost)}. They were read again; use "
            f"`fingerprint: checksum` for this dataset."
        )
    else:
        text = (
            f"All {len(compared):,} partitions that were compared are in the source as they were read "
            f"({in_source:,} rows); {len(read):,} of them were read again now."
        )
    return CheckResult(Check.EQUALS_SOURCE, table.name, not wrong and not lost, "error", text, numbers)


def _difference(key: str, published: int | None, found: Fingerprint | None) -> str:
    if published is None:
        return f"{key} (not published yet)"
    if found is None:
        return f"{key} (its queries, columns or windows are others now)"
    if published != found.rows:
        return f"{key} ({published:,} instead of {found.rows:,} rows)"
    return f"{key} (other values in {published:,} rows)"


def files_intact(table: str, found: FileCheck) -> CheckResult:
    """Whether each data file held the bytes that were written, by their digest.

    Args:
        table: its name.
        found: what reading its files showed.
    """
    named = [f"{path.rsplit('/', 1)[-1]} ({problem})" for path, problem in sorted(found.damaged.items())]
    if named:
        text = f"{len(named)} of {len(found.files):,} files were damaged: {_named(named)}. Check the disk."
    else:
        text = f"Each of {len(found.files) - len(found.unproven):,} files holds the bytes that were written."
    if found.unproven:
        text += (
            f" {len(found.unproven):,} files were written before digests were recorded: their presence and size alone "
            f"were compared. The rebuild job records them."
        )
    numbers = {"files": len(found.files), "damaged": len(named), "unproven": len(found.unproven)}
    return CheckResult(Check.FILES_INTACT, table, not named, "error", text, numbers)


def rows_in_rest(table: Table) -> CheckResult:
    """Whether rows lie outside of all windows: without a time, before the start, or in the future."""
    rest = table.partitions.get(REST)
    rows = rest.rows if rest else 0
    text = (
        f"{rows:,} of {table.rows:,} rows have no time, lie before the start or in the future; they are in {REST}."
        if rows
        else f"All {table.rows:,} rows lie in a partition of their time."
    )
    return CheckResult(Check.ROWS_IN_REST, table.name, rows == 0, "warn", text, {"rows": rows})


def unique_keys(table: Table, columns: Sequence[str], checked: object) -> CheckResult:
    """Whether the declared key is unique: a commit that broke it would have been refused.

    Args:
        table: as published.
        columns: of the key that the spec declares.
        checked: columns of the key that the last commit was checked for.
    """
    passed = checked == list(columns)
    key = ", ".join(columns)
    text = (
        f"No two of {table.rows:,} rows share {key}."
        if passed
        else f"Whether rows share {key} is not known: the key was declared after the last commit. Refresh the dataset."
    )
    return CheckResult(Check.UNIQUE_KEYS, table.name, passed, "error", text, {"rows": table.rows})


def schema_unchanged(table: str, before: Sequence[Column] | None, after: Sequence[Column]) -> CheckResult:
    """Whether a table's columns are those of the version before.

    Args:
        table: its name.
        before: its columns in the version before; None where there was none.
        after: its columns now.
    """
    old, new = dict(before if before is not None else after), dict(after)
    added = [f"{name} {type_} is new" for name, type_ in new.items() if name not in old]
    gone = [f"{name} {type_} is gone" for name, type_ in old.items() if name not in new]
    retyped = [f"{name} was {old[name]} and is {type_}" for name, type_ in new.items() if old.get(name, type_) != type_]
    changes = [*added, *gone, *retyped]
    text = f"{_named(changes)}." if changes else f"The {len(new)} columns are those of the version before."
    return CheckResult(Check.SCHEMA_UNCHANGED, table, not changes, "warn", text, {"columns": len(new)})


def no_orphan_results(
    view: str, orphans: int, results: int, partitions: Mapping[str, int] | None = None
) -> CheckResult:
    """Whether every result has its dataset row.

    Args:
        view: the joined one.
        orphans: results without.
        results: all of them.
        partitions: how many of the orphans lie in which; None where that is not known.
    """
    each = [f"{key} ({rows:,})" for key, rows in (partitions or {}).items()]
    text = (
        f"{orphans:,} of {results:,} results have no dataset row{f': {_named(each)}' if each else ''}; an inner join "
        f"leaves them out of {view}."
        if orphans
        else f"Each of {results:,} results has its dataset row."
    )
    return CheckResult(Check.NO_ORPHAN_RESULTS, view, orphans == 0, "warn", text, {"orphans": orphans})


def no_row_security(view: str, tables: Sequence[str]) -> CheckResult:
    """Whether the role sees all rows: policies of row-level security hide some without a sign.

    Args:
        view: of the dataset.
        tables: of the source, to which such policies apply.
    """
    text = (
        f"Row-level security applies to this role in {_named(tables)}: rows that its policies hide are not mirrored. "
        f"Give the role BYPASSRLS or a policy that shows all rows, if all are wanted."
        if tables
        else "Row-level security applies to this role in no table that is read."
    )
    return CheckResult(Check.NO_ROW_SECURITY, view, not tables, "warn", text, {"tables": len(tables)})


def verified_in_time(view: str, last_verified: datetime | None, interval_minutes: int, now: datetime) -> CheckResult:
    """Whether the store was compared with its source within twice the refresh interval.

    Args:
        view: of the dataset.
        last_verified: when it was; None for never.
        interval_minutes: of the schedule; 0 for none, which is never late.
        now: an aware time.
    """
    if last_verified is None:
        text, passed, age = "The dataset was never compared with its source.", interval_minutes == 0, -1.0
    else:
        age = (now - last_verified) / timedelta(minutes=1)
        passed = interval_minutes == 0 or age <= _LATE_INTERVALS * interval_minutes
        text = (
            f"Last compared with its source at {last_verified:%Y-%m-%d %H:%M} UTC, {age:,.0f} minutes ago; "
            f"{f'the schedule says every {interval_minutes} minutes' if interval_minutes else 'it has no schedule'}."
        )
    return CheckResult(
        Check.VERIFIED_IN_TIME, view, passed, "warn", text, {"minutes": round(age, 1), "interval": interval_minutes}
    )


def _named(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more
