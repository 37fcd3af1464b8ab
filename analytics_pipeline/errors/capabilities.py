"""Errors of the capability store.

Belongs here: what `analytics_pipeline.capabilities` refuses. Does not: failures of the files below it (`append`).
"""

from __future__ import annotations

from collections.abc import Iterable

from analytics_pipeline.errors.base import AnalyticsError


class CapabilityError(AnalyticsError):
    """The capability store refused something; what it holds is unchanged."""


class RecordTableRefused(CapabilityError, TypeError):
    """A record class names no table, or one that cannot be."""

    def __init__(self, record: str, table: str) -> None:
        given = f"gives table_name={table!r}" if table else "gives no table_name"
        super().__init__(
            f'{record} {given}. Write class {record}(BaseRecord, table_name="my_table"): up to 63 lower-case letters, '
            f"digits and _, beginning with a letter; runs is the store's own."
        )


class RecordFieldNotScalar(CapabilityError, TypeError):
    """A record class has a field that is no column."""

    def __init__(self, record: str, field: str, annotation: str) -> None:
        super().__init__(
            f"Field {field!r} of {record} has the type {annotation}. A record is one flat row: use str, int, float, "
            f"bool, bytes, datetime or Optional of one of them. For several values return several records."
        )


class RecordRefused(CapabilityError, TypeError):
    """An object was given as a record that is none."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(
            f"A {kind} {reason}, so it is no record. Nothing was written. A record has a text as its table_name, and "
            f'model_dump(mode="python") gives a dictionary of its fields.'
        )


class RecordValueRefused(CapabilityError, ValueError):
    """A record holds a value that its column cannot."""

    def __init__(self, table: str, field: str, reason: str) -> None:
        super().__init__(f"Field {field!r} of a record for {table} {reason}. Nothing was written.")


class RecordsDisagree(CapabilityError, TypeError):
    """Records of one table in one call give a field different types."""

    def __init__(self, table: str, field: str, found: Iterable[str]) -> None:
        super().__init__(
            f"Field {field!r} comes with the types {', '.join(sorted(found))} in records for {table}. Nothing was "
            f"written: a column has one type."
        )


class RunRefused(CapabilityError, ValueError):
    """A run whose records or entities cannot be stored."""

    def __init__(self, run_uid: str, reason: str) -> None:
        super().__init__(f"Run {run_uid!r} {reason}. Nothing was written.")


class ProvenanceRefused(CapabilityError, ValueError):
    """What was given as provenance is none; values are not repeated."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The provenance cannot be used: {reason}. Nothing was written.")


class RunNotFound(CapabilityError, ValueError):
    """No table has a run."""

    def __init__(self, run_uid: str, root: str) -> None:
        super().__init__(f"Run {run_uid!r} is not in the store at {root}.")


class TableNotFound(CapabilityError, ValueError):
    """The store has no such table."""

    def __init__(self, table: str, tables: Iterable[str]) -> None:
        super().__init__(f"There is no table {table!r}. Tables: {', '.join(tables) or 'none yet'}.")


class CapabilityTableEmpty(CapabilityError):
    """The asset of a capability table was materialized, and no run has filled the table."""

    def __init__(self, table: str, inbox: str, job: str) -> None:
        super().__init__(
            f"The table {table} has no rows, and materializing it makes none: it is filled by capability runs. Put run "
            f"documents into {inbox} and run {job}, or materialize an asset that returns such runs."
        )


class StoreConfigInvalid(CapabilityError, ValueError):
    """The configuration of a capability store cannot be used."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The analytics store's configuration cannot be used: {reason}.")


class DatabaseUnreadable(CapabilityError):
    """What is where a DuckDB file should be cannot be read as one."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(
            f"{path} cannot be opened as a DuckDB file: {detail}. Nothing was changed. Restore it from a copy, take it "
            f"away, or name another file."
        )


class DatabaseHeld(CapabilityError):
    """Another program has a DuckDB file open, which then nobody else can."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(
            f"{path} is open in another program or connection: {detail}. Nothing was changed. Close it there, and do "
            f"the same again; the store itself opens the file for the length of a call."
        )


class ObjectStoreFailed(CapabilityError):
    """An object store refused, or did not answer."""

    def __init__(self, uri: str, detail: str) -> None:
        super().__init__(
            f"{uri}: {detail}. Runs of this call that are stored stay stored; do the same again for the others, once "
            f"the store answers and its credentials in storage_options or the environment are right."
        )


class AssetOutputRefused(CapabilityError, TypeError):
    """An asset returned something that the capability store cannot keep."""

    def __init__(self, asset: str, reason: str) -> None:
        super().__init__(
            f"Asset {asset} {reason}. Nothing was stored. Return a capability run, a record, or a sequence of either."
        )


class AssetInputRefused(CapabilityError, TypeError):
    """An asset asks for the rows of another one in a way that has no answer."""

    def __init__(self, asset: str, reason: str) -> None:
        super().__init__(f"The input from asset {asset} {reason}.")


class OutputsRefused(CapabilityError, TypeError):
    """A capability was given the outputs of another one."""

    def __init__(self, capability: str, given: str, expected: str) -> None:
        super().__init__(f"{capability} extracts records from {expected}, not from {given}.")


class InboxUnusable(CapabilityError):
    """The inbox of run documents cannot be made or written."""

    def __init__(self, root: str, detail: str) -> None:
        super().__init__(f"The inbox {root} cannot be used: {detail}. Give this user a folder there that it may write.")


class DocumentsStuck(CapabilityError):
    """Documents were looked at and cannot be moved out of the inbox."""

    def __init__(self, root: str, count: int, first: str, detail: str) -> None:
        super().__init__(
            f"{count} documents in {root} cannot be moved, the first is {first}: {detail}. All others were taken up. "
            f"Let this user rename files there, or take these away."
        )
