"""The spec of a dataset: what a user writes in a `defs.yaml`, checked before anything runs.

Belongs here: the fields, their defaults, and every refusal that needs no database.
Does not: what Postgres says about the queries (`postgres.describe`), or how Dagster loads YAML (`components`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from analytics_pipeline.sync.normalize import Normalization
from analytics_pipeline.sync.postgres.sql import opening
from analytics_pipeline.sync.stored_types import stored_type
from analytics_pipeline.sync.windows import Geometry, Grain, Window

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_ENVIRONMENT_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")
_EARLIEST_YEAR = 1900
_AUTO_LOAD = "auto_load"
_READS = re.compile(r"\s*(\(\s*)*(select|with|values|table)\b", re.IGNORECASE)


class Half(StrEnum):
    """The two queries of a dataset: its records, and what was measured about them."""

    DATASET = "dataset"
    RESULTS = "results"


class FingerprintKind(StrEnum):
    """By what a changed partition is told from an unchanged one."""

    CHECKSUM = "checksum"
    XMIN = "xmin"


class SyncMode(StrEnum):
    """Who starts the first sync: the code location when it comes up, or a person."""

    STARTUP = "startup"
    MANUAL = "manual"


class Epoch(StrEnum):
    """The unit of an integer incremental column, counted from 1970 in UTC."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"


def _as_text(value: object) -> object:
    """YAML reads an unquoted 2026-01-01 as a date."""
    return value.isoformat() if isinstance(value, (date, datetime)) else value


def _as_names(value: object) -> object:
    """One name may stand without brackets."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError("is a name, or a list of names; remove the key if there is none")
    return names


def _as_number(value: object) -> object:
    """To Python, true is a 1; to who wrote `yes`, it is no number of rows or minutes."""
    if isinstance(value, bool):
        raise ValueError("is a number, not true or false")  # noqa: TRY004 - pydantic makes an error of it
    return value


def _of_halves(value: object) -> object:
    """Refuse what is no mapping of halves here, in words: pydantic's own speak of enums."""
    if not isinstance(value, Mapping) or not {str(key) for key in value} <= set(Half):
        raise ValueError("is given for each half: write `dataset:` and `results:` below it")
    return value


def _name_or_halves(value: object) -> object:
    """One name may stand for both halves."""
    return value if value is None or isinstance(value, str) else _of_halves(value)


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]
SomeNames = Annotated[Names, Field(min_length=1)]
Number = Annotated[int, BeforeValidator(_as_number)]


class SplitSyncSpec(BaseModel):
    """One Postgres source: a dataset half and a results half, and how they are kept in step with it.

    Args:
        name: of the dataset; its tables are `<name>_dataset`, `<name>_results`, its view `<name>_data`.
        url: the environment variable that holds the connection string; read when a sync runs, never before.
        dataset_query: one SELECT; gives `dataset_id` after normalisation.
        results_query: one SELECT; gives `dataset_id` after normalisation.
        normalize: a built-in map of column names, or `none`.
        columns: source column to target column; wins over the map.
        incremental_column: of both queries' output, before normalisation; assigns a row to its partition. Without it
            the tables are not partitioned.
        epoch: unit of an integer incremental column.
        timezone: where days begin; required where the incremental column has no time zone of its own.
        partitions: length of a partition.
        start: first day of the first partition; required with an incremental column.
        fingerprint: `checksum` hashes every value of every row; `xmin` hashes Postgres's row versions, far cheaper,
            where each query is a plain projection of one ordinary table.
        source_table: that table, for each half; only with `xmin`.
        primary_key: columns of a half's query that no two of its rows may share; checked before every commit.
        types: of columns of a half's query, by their names there: the type in the store instead of the default one.
        partition_column: of each half, or one name for both: the column of the query's output, before normalisation,
            by whose values one read is split into parallel ranges.
        sync_workers: how many ranges.
        connections: to the source at once, at most; None for as many as read fastest.
        sync_chunk_size: rows a fetch of the slowest read tier.
        max_sync_rows: of each half; beyond it the oldest partitions are left out, and the results of their records.
        max_removed: share of a table's rows that one sync may remove, 0 to 1; None for half of them, in tables of more
            than 1,000 rows, and not all in smaller ones.
        join: whether results without their dataset row stay in the view.
        query_timeout: seconds that one query may take in Postgres.
        refresh_interval_minutes: of the schedule; 0 for none.
        sync_mode: `startup` fills an empty store as soon as the code location runs; `auto_load: true` says the same.
        watch: start a refresh as soon as the source has changed.
        visible_metrics: metrics that the summary counts; None for all.
        filter_columns: further columns of the store whose distinct values the metadata lists.
        cases: derive `<name>_cases`, one row per `dataset_id`, from `metric_name` and `signals`.
        enabled: false leaves published data alone and makes no assets.

    Source of the fields: the settings of the store that this project follows; see docs/datasets.md.
    """

    # A connection string pasted into `url` by mistake must not come back in an error.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    url: str
    dataset_query: str
    results_query: str
    normalize: Normalization = Normalization.NONE
    columns: Mapping[str, str] = Field(default_factory=dict)
    incremental_column: str | None = None
    epoch: Epoch | None = None
    timezone: str | None = None
    partitions: Grain = Grain.DAILY
    start: Annotated[str | None, BeforeValidator(_as_text)] = None
    fingerprint: FingerprintKind = FingerprintKind.CHECKSUM
    source_table: Annotated[Mapping[Half, str], BeforeValidator(_of_halves)] = Field(default_factory=dict)
    primary_key: Annotated[Mapping[Half, SomeNames], BeforeValidator(_of_halves)] = Field(default_factory=dict)
    types: Annotated[Mapping[Half, Mapping[str, str]], BeforeValidator(_of_halves)] = Field(default_factory=dict)
    partition_column: Annotated[str | Mapping[Half, str] | None, BeforeValidator(_name_or_halves)] = None
    sync_workers: Number = Field(default=2, ge=1, le=16)
    connections: Number | None = Field(default=None, ge=1, le=64)
    sync_chunk_size: Number = Field(default=10_000, ge=100, le=1_000_000)
    max_sync_rows: Number | None = Field(default=None, ge=1)
    max_removed: Annotated[float | None, BeforeValidator(_as_number)] = Field(default=None, ge=0, le=1)
    join: Literal["inner", "left"] = "inner"
    query_timeout: Number = Field(default=3600, ge=1, le=604_800)
    refresh_interval_minutes: Number = Field(default=0, ge=0, le=525_600)
    sync_mode: SyncMode = SyncMode.STARTUP
    watch: bool = False
    visible_metrics: SomeNames | None = None
    filter_columns: Names = ()
    cases: bool = False
    enabled: bool = True

    @model_validator(mode="before")
    @classmethod
    def _suggest_known_keys(cls, values: object) -> object:
        if isinstance(values, dict):
            for key in values:
                if key not in cls.known_keys():
                    raise ValueError(unknown_key_message(str(key), cls.known_keys()))
            if _AUTO_LOAD in values:
                return _without_auto_load(values)
        return values

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("name is lower-case letters, digits and _, begins with a letter, at most 41 long")
        return value

    @field_validator("url")
    @classmethod
    def _variable_name(cls, value: str) -> str:
        if not _ENVIRONMENT_VARIABLE.fullmatch(value):
            raise ValueError(
                "url is the name of an environment variable that holds the connection string, such as "
                "MONITORING_DB_URL; put the connection string itself there, not into YAML"
            )
        return value

    @field_validator("dataset_query", "results_query")
    @classmethod
    def _one_select(cls, value: str) -> str:
        if not _READS.match(opening(value)):
            raise ValueError("a query is one SELECT (or WITH … SELECT, VALUES, TABLE)")
        return value

    @field_validator("columns")
    @classmethod
    def _named_targets(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if unnamed := [source for source, target in value.items() if not target.strip()]:
            raise ValueError(
                f"columns gives {', '.join(unnamed)} an empty name: write `source name: name in the store`"
            )
        return value

    @field_validator("types")
    @classmethod
    def _known_types(cls, value: Mapping[Half, Mapping[str, str]]) -> Mapping[Half, Mapping[str, str]]:
        for columns in value.values():
            for text in columns.values():
                stored_type(text)
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError("timezone is a name of the IANA database, such as UTC or Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _partitioned_or_not(self) -> SplitSyncSpec:
        if self.incremental_column is None:
            given = [key for key in ("epoch", "start", "timezone", "max_sync_rows") if getattr(self, key) is not None]
            if given:
                raise ValueError(f"{', '.join(given)} only mean something together with incremental_column: add it")
            return self
        if self.start is None:
            raise ValueError("start is required with incremental_column: the first day to mirror, such as 2026-01-01")
        try:
            first = date.fromisoformat(self.start if _DAY.fullmatch(self.start) else "")
        except ValueError:
            raise ValueError("start is a day, such as 2026-01-01") from None
        if first.year < _EARLIEST_YEAR:
            raise ValueError(f"start is not before {_EARLIEST_YEAR}: earlier rows are kept, in the partition _rest")
        self.partitions.check_start(first)
        if self.partitions is Grain.HOURLY and (self.timezone or "UTC") != "UTC":
            raise ValueError("hourly partitions are hours of UTC: drop timezone, or use daily partitions")
        return self

    @model_validator(mode="after")
    def _tables_of_row_versions(self) -> SplitSyncSpec:
        if self.fingerprint is FingerprintKind.CHECKSUM and self.source_table:
            raise ValueError("source_table only means something with `fingerprint: xmin`: add that, or remove it")
        missing = [half.value for half in Half if not self.source_table.get(half, "").strip()]
        if self.fingerprint is FingerprintKind.XMIN and missing:
            raise ValueError(
                f"fingerprint: xmin needs the table of each half: add {' and '.join(missing)} to source_table"
            )
        return self

    @classmethod
    def known_keys(cls) -> Mapping[str, object]:
        """Every key that may be written."""
        return {**cls.model_fields, _AUTO_LOAD: None}

    def query(self, half: Half) -> str:
        """The query of a half."""
        return self.dataset_query if half is Half.DATASET else self.results_query

    def split_by(self, half: Half) -> str | None:
        """The column by whose values the read of a half is split; None for one range."""
        given = self.partition_column
        return given if given is None or isinstance(given, str) else given.get(half)

    @property
    def geometry(self) -> Geometry | None:
        """How time is cut; None for unpartitioned tables."""
        if self.incremental_column is None or self.start is None:
            return None
        return Geometry(self.partitions, date.fromisoformat(self.start), self.timezone or "UTC")

    def windows(self, until: datetime) -> list[Window]:
        """The windows as of a moment; none for unpartitioned tables."""
        return self.geometry.windows(until) if self.geometry else []

    def table(self, half: Half) -> str:
        """The published table of a half; also its asset's key."""
        return f"{self.name}_{half.value}"

    @property
    def cases_table(self) -> str:
        """The published table of the cases, where there are any; also its asset's key."""
        return f"{self.name}_cases"

    @property
    def view(self) -> str:
        """The published JOIN view; also its asset's key."""
        return f"{self.name}_data"


def _without_auto_load(values: Mapping[str, object]) -> Mapping[str, object]:
    """`auto_load` in the words of `sync_mode`."""
    rest = {key: value for key, value in values.items() if key != _AUTO_LOAD}
    if "sync_mode" in rest:
        raise ValueError("auto_load and sync_mode say the same: remove auto_load")
    if not isinstance(values[_AUTO_LOAD], bool):
        raise ValueError("auto_load is true or false; `sync_mode: startup` says the same as true")  # noqa: TRY004
    return {"sync_mode": SyncMode.STARTUP if values[_AUTO_LOAD] else SyncMode.MANUAL} | rest


def unknown_key_message(key: str, known: Mapping[str, object]) -> str:
    """A sentence about a key that does not exist, with the one that was probably meant."""
    if not _KEY.fullmatch(key):  # it may be a connection string in the wrong place
        return f"a key is a plain word; known keys: {', '.join(sorted(known))}"
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key `{key}`: {hint}"
