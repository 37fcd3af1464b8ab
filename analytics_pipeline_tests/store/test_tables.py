"""Tables over time: changing columns, partitions, joined views; what a commit refuses."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import (
    IncompatibleColumn,
    NameRefused,
    OverlappingPartitions,
    PartitionRefused,
    ViewsRefused,
)
from analytics_pipeline.store import (
    Change,
    JoinView,
    JsonObject,
    Metadata,
    Partition,
    Replace,
    Store,
    TableChange,
    create_store,
)
from analytics_pipeline.store.schema import Column, merged_columns
from analytics_pipeline_tests.store.scenario import DAY0, change_of, day, facts, publish, schema_of

SCORES = schema_of(id=pa.int64(), label=pa.string(), score=pa.float64(), at=pa.timestamp("us"))
MOMENT = datetime(2024, 1, 1, 12)  # noqa: DTZ001 — a source may have times without zone


def score(number: int, value: float, hours: int = 0) -> dict[str, object]:
    """A row of the SCORES schema."""
    return {"id": number, "label": "judge", "score": value, "at": MOMENT + timedelta(hours=hours)}


def publish_pair(store: Store, view: JoinView) -> None:
    """Three facts; two scores of fact 1, one of fact 2, one of a fact that is not there."""
    with store.stage("pair") as stage:
        left = change_of(stage, "facts", {"d0": facts(1, 2, 3)})
        right = change_of(
            stage, "scores", {"all": [score(1, 0.1), score(1, 0.9, 5), score(2, 0.2), score(8, 0.8)]}, schema=SCORES
        )
        store.commit(stage, Change([left, right], [view]))


def test_inner_join_keeps_facts_with_a_partner(store: Store) -> None:
    """Figures per fact must not count facts that nobody scored."""
    publish_pair(store, JoinView("joined", "facts", "scores", "id", "score", "inner", newest_by="at"))
    assert store.query("SELECT id, score FROM joined ORDER BY id").rows() == [(1, 0.9), (2, 0.2)]


def test_left_join_keeps_all_facts(store: Store) -> None:
    """Facts without a score are what a reviewer looks for."""
    publish_pair(store, JoinView("joined", "facts", "scores", "id", "score", "left", newest_by="at"))
    assert store.query("SELECT id, score FROM joined ORDER BY id").rows() == [(1, 0.9), (2, 0.2), (3, None)]


def test_join_of_rows_of_one_moment_does_not_depend_on_the_order_of_files(store: Store) -> None:
    """A figure that changes with a compaction, or from one query to the next, is trusted by nobody."""
    view = JoinView("joined", "facts", "scores", "id", "score", "inner", newest_by="at")
    rows = [score(1, 0.5), score(1, 0.9), score(1, 0.1), score(1, 0.0, -5), score(2, 0.3)]
    for ordered in (rows, rows[::-1], rows[2:] + rows[:2]):
        with store.stage("pair") as stage:
            parts = {f"d{number}": [row] for number, row in enumerate(ordered)}
            scores = change_of(stage, "scores", parts, schema=SCORES)
            store.commit(stage, Change([change_of(stage, "facts", {"d0": facts(1, 2)}), scores], [view]))
        assert store.query("SELECT id, score FROM joined ORDER BY id").rows() == [(1, 0.1), (2, 0.3)]


def test_join_without_newest_by_gives_every_partner(store: Store) -> None:
    """A table of events joins each of them."""
    publish_pair(store, JoinView("joined", "facts", "scores", "id", "score", "inner"))
    assert store.query("SELECT id, score FROM joined ORDER BY ALL").rows() == [(1, 0.1), (1, 0.9), (2, 0.2)]


def test_clashing_names_get_the_prefix_until_they_are_unique(store: Store) -> None:
    """`label` of both tables must both be there, under names that stay the same."""
    left = schema_of(id=pa.int64(), label=pa.string(), r_label=pa.string(), R_R_Label=pa.string())
    right = schema_of(ID=pa.int64(), Label=pa.string())
    with store.stage("clash") as stage:
        rows = [{"id": 1, "label": "a", "r_label": "b", "R_R_Label": "c"}]
        changes = [
            change_of(stage, "facts", {"d0": rows}, schema=left),
            change_of(stage, "notes", {"d0": [{"ID": 1, "Label": "d"}]}, schema=right),
        ]
        store.commit(stage, Change(changes, [JoinView("joined", "facts", "notes", "id", "r", "inner")]))
    assert store.query("SELECT * FROM joined").rows(named=True) == [
        {"id": 1, "label": "a", "r_label": "b", "R_R_Label": "c", "r_r_r_Label": "d"}
    ]


def test_view_appears_when_the_last_of_its_tables_does(store: Store) -> None:
    """Two datasets are synced one after the other; the first must not wait, nor fail."""
    view = JoinView("joined", "facts", "scores", "id", "score", "inner")
    publish(store, {"facts": {"d0": facts(1)}}, views=[view])
    assert "joined" not in [row[0] for row in store.query("SHOW TABLES").rows()]
    publish(store, {"scores": {"all": [score(1, 0.5)]}}, schema=SCORES)
    assert store.query("SELECT score FROM joined").rows() == [(0.5,)]


@pytest.mark.parametrize(
    "view",
    [
        JoinView("joined", "facts", "scores", "nope", "r", "inner"),
        JoinView("joined", "facts", "scores", "score", "r", "inner"),
        JoinView("joined", "facts", "scores", "id", "r", "inner", newest_by="nope"),
        JoinView("facts", "facts", "scores", "id", "r", "inner"),
    ],
)
def test_view_that_cannot_be_built_is_refused_before_anything_is_published(store: Store, view: JoinView) -> None:
    """A version whose views cannot be built would stop every later commit."""
    publish(store, {"facts": {"d0": facts(1)}})
    with pytest.raises(ViewsRefused):
        publish_pair(store, view)
    assert store.manifest().version == 1
    publish(store, {"facts": {"d0": facts(2)}})
    assert store.query("SELECT id FROM facts").rows() == [(2,)]


def test_columns_added_removed_and_widened_live_in_one_view(store: Store) -> None:
    """A source changes over the years; its old partitions are not read again."""
    eras = [
        schema_of(id=pa.int16(), gone=pa.string(), amount=pa.decimal128(5, 2), day=pa.date32()),
        schema_of(amount=pa.decimal128(9, 4), ID=pa.int64(), new=pa.list_(pa.string())),
        schema_of(id=pa.int32(), day=pa.timestamp("us")),
    ]
    rows = [
        {"id": 1, "gone": "g", "amount": Decimal("123.45"), "day": date(2024, 1, 1)},
        {"amount": Decimal("1.2345"), "ID": 2**40, "new": ["n"]},
        {"id": 3, "day": MOMENT},
    ]
    for number, (schema, row) in enumerate(zip(eras, rows, strict=True)):
        publish(store, {"facts": {f"d{number}": [row]}}, schema=schema)
    assert store.query("SELECT id, gone, amount, day, new FROM facts ORDER BY 1").rows() == [
        (1, "g", Decimal("123.4500"), datetime(2024, 1, 1), None),  # noqa: DTZ001
        (3, None, None, MOMENT, None),
        (2**40, None, Decimal("1.2345"), None, ["n"]),
    ]
    types = dict(store.query("SELECT column_name, column_type FROM (DESCRIBE facts)").rows())
    assert types == {
        "id": "BIGINT",
        "gone": "VARCHAR",
        "amount": "DECIMAL(9,4)",
        "day": "TIMESTAMP",
        "new": "VARCHAR[]",
    }


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ("TINYINT", "BIGINT", "BIGINT"),
        ("BIGINT", "TINYINT", "BIGINT"),
        ("UTINYINT", "UBIGINT", "UBIGINT"),
        ("INTEGER", "DOUBLE", "DOUBLE"),
        ("FLOAT", "DOUBLE", "DOUBLE"),
        ("DATE", "TIMESTAMP", "TIMESTAMP"),
        ("INTEGER", "DECIMAL(12,2)", "DECIMAL(12,2)"),
        ("BIGINT", "DECIMAL(5,2)", "DECIMAL(21,2)"),
        ("DECIMAL(10,0)", "DECIMAL(4,4)", "DECIMAL(14,4)"),
        ("SMALLINT[]", "INTEGER[]", "INTEGER[]"),
        ("BIGINT", "DOUBLE", None),
        ("BIGINT", "UBIGINT", None),
        ("FLOAT", "INTEGER", None),
        ("VARCHAR", "BIGINT", None),
        ("BIGINT[]", "BIGINT", None),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", None),
        ("DECIMAL(38,0)", "DECIMAL(10,5)", None),
        ("BOOLEAN", "INTEGER", None),
        ("DECIMAL(10,2)", "DOUBLE", None),
    ],
)
def test_column_widens_only_where_no_value_is_lost(old: str, new: str, merged: str | None) -> None:
    """A rounded identifier would join the wrong rows."""
    if merged is None:
        with pytest.raises(IncompatibleColumn, match="c is"):
            merged_columns("facts", [Column("c", old)], [Column("C", new)])
    else:
        assert merged_columns("facts", [Column("c", old)], [Column("C", new)]) == (Column("c", merged),)


def test_incompatible_column_leaves_the_store_as_it_was(store: Store) -> None:
    """The dashboard of yesterday is better than none."""
    publish(store, {"facts": {"d0": facts(1)}})
    changed = schema_of(id=pa.string(), label=pa.string())
    with pytest.raises(IncompatibleColumn, match=r"facts\.id is BIGINT, the source now gives VARCHAR"):
        publish(store, {"facts": {"d1": [{"id": "a", "label": "b"}]}}, schema=changed)
    assert store.query("SELECT id FROM facts").rows() == [(1,)]


def test_rebuild_that_adopts_columns_replaces_types_and_partitions(store: Store) -> None:
    """The way out of an incompatible change."""
    publish(store, {"facts": {"d0": facts(1), "d1": facts(2)}})
    changed = schema_of(id=pa.string())
    with store.stage("rebuild") as stage:
        made = change_of(stage, "facts", {"d5": [{"id": "a"}]}, schema=changed)
        adopting = TableChange("facts", made.columns, made.partitions, Replace.TABLE_AND_COLUMNS)
        store.commit(stage, Change([adopting]))
    assert store.query("SELECT * FROM facts").rows(named=True) == [{"id": "a"}]


ODD_NAMES = [
    'a"b', "a'b", "a b", "a.b", "a;b", "--", "/*", "select", "Ünï", "世界", "a\\b", "a\nb", "%s", "{x}", "$1", "?", "*",
    "rowid", "filename", "file_row_number", "__index_level_0__", "x" * 200,
]  # fmt: skip


def test_odd_column_names_survive_into_views_and_joins(store: Store) -> None:
    """Sources name their columns as they like, and a quote must not end an identifier."""
    schema = schema_of(id=pa.int64(), **dict.fromkeys(ODD_NAMES, pa.string()))
    row: dict[str, object] = {"id": 1} | dict.fromkeys(ODD_NAMES, "v")
    view = JoinView("joined", "facts", "notes", "id", "r'\"", "left", newest_by='a"b')
    publish(store, {"facts": {"d0": [row]}, "notes": {"d0": [row]}}, schema=schema, views=[view])
    publish(store, {"facts": {"d1": [{"id": 2}]}}, schema=schema_of(id=pa.int32()))
    assert store.query("SELECT * FROM facts WHERE id = 1").rows(named=True) == [row]
    joined = store.query("SELECT * FROM joined ORDER BY id").rows(named=True)
    assert joined[0] == row | {f"r'\"_{name}": "v" for name in ODD_NAMES}
    assert joined[1]['a"b'] is None


def test_key_of_odd_characters_joins(store: Store) -> None:
    """The key, too, comes from a source."""
    key = "k \"e'y"
    schema = pa.schema([(key, pa.int64())])
    view = JoinView("joined", "facts", "notes", key, "r", "inner")
    publish(store, {"facts": {"d0": [{key: 1}]}, "notes": {"d0": [{key: 1}]}}, schema=schema, views=[view])
    assert store.query("SELECT * FROM joined").rows() == [(1,)]


def commit_windows(store: Store, *windows: tuple[str, datetime | None, datetime | None]) -> None:
    """Commit empty partitions with the given keys and bounds."""
    with store.stage("windows") as stage:
        partitions = [Partition(key, low, high, (), None, "spec", "sync", DAY0) for key, low, high in windows]
        store.commit(stage, Change([TableChange("facts", (Column("id", "BIGINT"),), partitions)]))


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (DAY0, DAY0 + timedelta(hours=1)),
        (DAY0 + timedelta(hours=12), DAY0 + timedelta(hours=36)),
        (DAY0 - timedelta(days=9), DAY0 + timedelta(days=9)),
        (DAY0 - timedelta(days=9), DAY0 + timedelta(microseconds=1)),
    ],
)
def test_overlapping_windows_are_refused(store: Store, low: datetime, high: datetime) -> None:
    """A row in two partitions would be counted twice."""
    commit_windows(store, ("d0", *day(0)), ("d3", *day(3)))
    with pytest.raises(OverlappingPartitions, match="new"):
        commit_windows(store, ("new", low, high))
    assert list(store.manifest().tables["facts"].partitions) == ["d0", "d3"]


def test_windows_that_touch_and_partitions_without_window_stand_side_by_side(store: Store) -> None:
    """Half-open windows meet in one moment that belongs to the later one."""
    commit_windows(store, ("d1", *day(1)), ("late", None, None), ("d0", *day(0)), ("d2", *day(2)))
    assert list(store.manifest().tables["facts"].partitions) == ["d0", "d1", "d2", "late"]


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (DAY0, None, "only one"),
        (None, DAY0, "only one"),
        (DAY0, DAY0, "before it begins"),
        (DAY0, DAY0 - timedelta(1), "before it begins"),
        (DAY0.replace(tzinfo=None), DAY0 + timedelta(1), "without time zone"),
    ],
)
def test_window_that_is_none_is_refused(store: Store, low: datetime | None, high: datetime | None, reason: str) -> None:
    """It would let later overlaps pass."""
    with pytest.raises(PartitionRefused, match=reason):
        commit_windows(store, ("odd", low, high))


def test_partition_given_twice_is_refused(store: Store) -> None:
    """One of the two would silently be lost."""
    with pytest.raises(PartitionRefused, match="twice"):
        commit_windows(store, ("d0", *day(0)), ("d0", *day(0)))


@pytest.mark.parametrize("name", ["Facts", "_store_info", "a b", "", "../up"])
def test_table_or_view_name_that_needs_quoting_is_refused(store: Store, name: str) -> None:
    """Names become folders and are typed at a prompt."""
    with store.stage("names") as stage:
        change = change_of(stage, "facts", {"d0": facts(1)})
        with pytest.raises(NameRefused):
            store.commit(stage, Change([TableChange(name, change.columns, change.partitions)]))
        with pytest.raises(NameRefused):
            store.commit(stage, Change([change], [JoinView(name, "facts", "facts", "id", "r", "left")]))
    assert store.manifest().version == 0


def test_bounds_and_provenance_come_back_from_the_manifest(store: Store) -> None:
    """Staleness is judged by them after every restart."""
    offset = datetime(2024, 3, 1, 1, 2, 3, 4, UTC)
    partition = Partition("k", offset, offset + timedelta(days=1), (), "print", "hash", "sync-1", offset)
    with store.stage("meta") as stage:
        made = TableChange("facts", tuple(Column(*c) for c in [("id", "BIGINT")]), [partition])
        store.commit(stage, Change([made]))
    assert Store(store.layout).manifest().tables["facts"].partitions["k"] == partition


def test_metadata_belongs_to_a_name_and_outlives_what_is_committed_of_others(store: Store) -> None:
    """A rebuild of one half must not lose what people read about the other and the view."""
    join = JoinView("joined", "facts", "notes", "id", "note", "inner")
    with store.stage("first") as stage:
        made = [change_of(stage, name, {"d0": facts(1)}) for name in ("facts", "notes")]
        stated: dict[str, JsonObject] = {"facts": {"n": [1.5]}, "notes": {"n": 2}, "joined": {"n": None}}
        first = store.commit(stage, Change(made, [join], stated))
    with store.stage("second") as stage:
        made = [change_of(stage, "facts", {"d0": facts(1)}, replace=Replace.TABLE)]
        second = store.commit(stage, Change(made, metadata={"facts": {"n": 3}}))
    metadata = Store(store.layout).manifest().metadata
    assert {name: stated.value for name, stated in metadata.items()} == {
        "facts": {"n": 3},
        "notes": {"n": 2},
        "joined": {"n": None},
    }
    assert [metadata[name].updated_at for name in ("facts", "notes", "joined")] == [
        second.committed_at,
        first.committed_at,
        first.committed_at,
    ]
    asked = "SELECT table_name, metadata->>'$.n', updated_at FROM _store_metadata ORDER BY 1"
    assert store.query(asked).rows() == [
        ("facts", "3", second.committed_at),
        ("joined", None, first.committed_at),
        ("notes", "2", first.committed_at),
    ]


def test_a_manifest_of_format_1_is_read(store: Store) -> None:
    """A store of the version before must open after an upgrade, with all it knew."""
    publish(store, {"facts": {"d0": facts(1)}, "notes": {"d0": facts(2)}})
    path = store.layout.manifest_of(1)
    rows = pq.read_table(path)
    meta = json.loads(rows.schema.metadata[b"analytics_pipeline"])
    del meta["metadata"], meta["has_digest"]
    meta["format"] = 1
    meta["tables"][0]["metadata"], meta["tables"][1]["metadata"] = {"n": 1}, {}
    former = rows.select([name for name in rows.column_names if name not in {"file_begin", "file_of"}])
    pq.write_table(former.replace_schema_metadata({b"analytics_pipeline": json.dumps(meta).encode()}), path)
    manifest = Store(store.layout).manifest()
    assert manifest.metadata == {"facts": Metadata({"n": 1}, store.manifest().committed_at or DAY0)}
    assert manifest.tables == store.manifest().tables


def test_a_folder_that_looks_like_a_partition_overwrites_no_column(tmp_path: Path) -> None:
    """DuckDB takes a folder named `label=x` above a file for a column, unless told not to."""
    store = create_store(tmp_path / "label=wrong" / "store")
    publish(store, {"facts": {"d0": [{"id": 1, "label": "right"}]}})
    assert store.query("SELECT label FROM facts").rows() == [("right",)]
    with duckdb.connect(str(store.layout.catalog), read_only=True) as plain:
        assert plain.execute("SELECT label FROM facts").fetchall() == [("right",)]
