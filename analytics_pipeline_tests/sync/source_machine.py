"""The model test's source: what people do in it and with the spec, in any order, and which states it has had.

Belongs here: every rule that changes the source or the spec.
Does not: its SQL (`source_model`), the store that follows (`refresh_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.sync.windows import Window
from analytics_pipeline_tests.sync.pairs import Pair
from analytics_pipeline_tests.sync.scenario import ROW_VERSIONS, spec_of
from analytics_pipeline_tests.sync.source_model import MICROSECOND, TABLES, TYPES, VARIANTS, WIDER, Source, Variant

halves = st.sampled_from(list(Half))
few = st.integers(1, 4)


class ChangingSource(RuleBasedStateMachine):
    """A source that people write to, and the spec that somebody edits.

    Attributes:
        possible: the states that readers may see by now.
    """

    url: str

    @initialize(
        variant=st.sampled_from(VARIANTS),
        row_versions=st.booleans(),
        star=st.booleans(),
        column=st.sampled_from([None, "id", "happened"]),
        join=st.sampled_from(["inner", "left"]),
    )
    def begin_source(
        self,
        variant: Variant,
        row_versions: bool,  # noqa: FBT001 - hypothesis gives it by name
        star: bool,  # noqa: FBT001
        column: str | None,
        join: str,
    ) -> None:
        self.variant, self.now, self.next_id = variant, variant.now, 1
        self.source = Source(self.url, variant, star)
        self.settings: dict[str, Any] = {
            "normalize": "monitoring",
            "incremental_column": "happened",
            "epoch": variant.epoch,
            "partition_column": column,
            "join": join,
            **variant.geometries[0].as_settings(),
            **(ROW_VERSIONS if row_versions else {}),
        }
        self.possible = [Pair(None, None)]
        self.source_changed()

    # What people do in the source -----------------------------------------------------------------------------------

    @property
    def spec(self) -> SplitSyncSpec:
        queries = {"dataset_query": self.source.query(Half.DATASET), "results_query": self.source.query(Half.RESULTS)}
        return spec_of(**queries, **self.settings)

    def current(self, connection: psycopg.Connection | None = None) -> Pair:
        """Both tables as the source has them; only this test writes to them."""
        spec = self.spec
        dataset, results = (self.source.rows(half, spec, connection) for half in Half)
        return Pair(dataset, results, spec.join)

    def source_changed(self) -> None:
        """From now on readers may see this, too."""
        self.possible.append(self.current())

    def write(self, *statements: str) -> None:
        for statement in statements:
            note(statement)
            self.source.run(statement)
            self.source_changed()

    def windows(self) -> Sequence[Window]:
        return self.spec.windows(self.now)

    def some_moment(self, data: st.DataObject) -> str:
        """Where rows can get lost: the edges of windows, outside of all, nowhere."""
        spec = self.spec
        edges = [edge for window in self.windows() for edge in (window.local, window.local_end)]
        around = [edge + shift for edge in (*edges[:4], *edges[-6:]) for shift in (-MICROSECOND, timedelta(0))]
        far = [edges[0] - timedelta(days=400), edges[-1] + timedelta(days=400)]
        choices: list[datetime | str | None] = [*around, *far, "infinity", "-infinity", None]
        moment = data.draw(st.sampled_from(choices))
        return self.variant.literal(moment, spec.timezone or "UTC")

    def insert_sql(self, half: Half, data: st.DataObject) -> str:
        value = "'new'" if half is Half.DATASET else "0.5"
        number = self.next_id
        self.next_id += half is Half.RESULTS
        name = self.source.value(half).name
        return f"INSERT INTO {TABLES[half]} (id, happened, {name}) VALUES ({number}, {self.some_moment(data)}, {value})"

    def update_sql(self, half: Half, every: int, number: int) -> str:
        value = f"nullif('{number}', '0')" if half is Half.DATASET else f"nullif({number}, 0)"
        return f"UPDATE {TABLES[half]} SET {self.source.value(half).name} = {value} WHERE id % {every} = 0"

    def move_sql(self, half: Half, every: int, data: st.DataObject) -> str:
        return f"UPDATE {TABLES[half]} SET happened = {self.some_moment(data)} WHERE id % {every} = 0"

    @rule(half=halves, data=st.data(), count=few)
    def insert(self, half: Half, data: st.DataObject, count: int) -> None:
        """New rows, late rows, rows of equal time; some belong to a record, some to none."""
        self.write(*(self.insert_sql(half, data) for _ in range(count)))

    @rule(half=halves, every=few)
    def double(self, half: Half, every: int) -> None:
        table = TABLES[half]
        self.write(f"INSERT INTO {table} SELECT * FROM {table} WHERE id % {every} = 0 LIMIT 20")

    @rule(half=halves, every=few, number=st.integers(0, 9))
    def update(self, half: Half, every: int, number: int) -> None:
        self.write(self.update_sql(half, every, number))

    @rule(half=halves, every=few, data=st.data())
    def move(self, half: Half, every: int, data: st.DataObject) -> None:
        """An update of the incremental column: between windows, and in and out of the rest."""
        self.write(self.move_sql(half, every, data))

    @rule(half=halves, every=few)
    def delete(self, half: Half, every: int) -> None:
        self.write(f"DELETE FROM {TABLES[half]} WHERE id % {every} = 1")

    @rule(tables=st.sampled_from(["records", "scores", "records, scores"]))
    def truncate(self, tables: str) -> None:
        self.write(f"TRUNCATE {tables}")

    @rule()
    def time_passes(self) -> None:
        """A new window opens: rows of the future become rows of it."""
        self.now = self.windows()[-1].upper

    # What changes in the tables and in the spec -----------------------------------------------------------------------

    @rule(
        half=halves, name=st.sampled_from(["region", "extra"]), type_=st.sampled_from(list(TYPES)), filled=st.booleans()
    )
    def add_column(self, half: Half, name: str, type_: str, filled: bool) -> None:  # noqa: FBT001
        if name not in [column.name for column in self.source.columns[half]]:
            note(f"add {name} {type_} to {half}")
            self.source.add(half, name, type_, filled=filled)
            self.source_changed()

    @rule(half=halves, every=few)
    def fill_columns(self, half: Half, every: int) -> None:
        for column in self.source.columns[half][3:]:
            value = TYPES.get(column.type, "7")
            self.write(f"UPDATE {TABLES[half]} SET {column.name} = {value} WHERE id % {every} = 0")

    @rule(half=halves)
    def drop_column(self, half: Half) -> None:
        for column in self.source.columns[half][3:]:
            self.source.drop(half, column)
            self.source_changed()
            return

    @rule(half=halves)
    def widen(self, half: Half) -> None:
        for column in self.source.columns[half]:
            if column.type in WIDER and column.name != "happened" and column.type != "bigint":
                note(f"{column} to {WIDER[column.type]}")
                self.source.retype(half, column, WIDER[column.type])
                self.source_changed()
                return

    @rule(half=halves)
    def retype(self, half: Half) -> None:
        """To a type that the published column cannot hold."""
        for column in self.source.columns[half][3:]:
            if not column.is_text:
                note(f"{column} to text")
                self.source.retype(half, column, "text")
                self.source_changed()
                return

    @rule(half=halves, other=st.booleans())
    def rename_value(self, half: Half, other: bool) -> None:  # noqa: FBT001
        names = {Half.DATASET: ("label", "title"), Half.RESULTS: ("score", "points")}
        self.settings.pop("columns", None)
        self.source.rename(half, names[half][other])
        self.source_changed()

    @rule(half=halves, filtered=st.booleans())
    def filter_rows(self, half: Half, filtered: bool) -> None:  # noqa: FBT001
        if "fingerprint" not in self.settings:
            self.source.where[half] = " WHERE id % 3 <> 1" if filtered else ""
            self.source_changed()

    @rule(renamed=st.sets(st.sampled_from(["happened", "value"])))
    def rename_columns_in_spec(self, renamed: set[str]) -> None:
        names = {"happened": "happened", "value": self.source.value(Half.DATASET).shown}
        targets = {"happened": "moment", "value": "caption"}
        self.settings["columns"] = {names[key]: targets[key] for key in renamed}
        self.source_changed()

    @rule(data=st.data())
    def change_geometry(self, data: st.DataObject) -> None:
        self.settings |= data.draw(st.sampled_from(self.variant.geometries)).as_settings()

    @rule(join=st.sampled_from(["inner", "left"]))
    def change_join(self, join: str) -> None:
        self.settings["join"] = join
        self.source_changed()

    @rule(names=st.sets(st.sampled_from(["label", "region", "caption"])))
    def change_filters(self, names: set[str]) -> None:
        self.settings["filter_columns"] = sorted(names)
