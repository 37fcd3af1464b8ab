"""Compaction: fewer files, the same rows, and at a cost that fades with time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_pipeline.errors import DataFileMissing
from analytics_pipeline.store import (
    Change,
    CompactionRules,
    DataFile,
    Partition,
    Replace,
    Stage,
    Store,
    Table,
    compaction,
)
from analytics_pipeline.store.layout import Layout
from analytics_pipeline.store.merge_plan import planned_merges
from analytics_pipeline.store.rewrite import rewrite_runs
from analytics_pipeline.store.schema import Column
from analytics_pipeline_tests.store.scenario import (
    DAY0,
    Row,
    change_of,
    day,
    facts,
    files_listed,
    files_on_disk,
    publish,
    schema_of,
)
from analytics_pipeline_tests.store.values import EVERYTHING, bits, everything, stored

EAGER = CompactionRules(newest=2, most_files=4, fewest_files=3)
"""So that a handful of small days is worth a compaction."""
MIB = 2**20


def days(numbers: range) -> dict[str, list[Row]]:
    """One row a day, whose id is the day's number."""
    return {f"d{number}": facts(number) for number in numbers}


def ids(store: Store) -> list[int]:
    """All ids of `facts`."""
    return [row[0] for row in store.query("SELECT id FROM facts ORDER BY id").rows()]


def partitions(store: Store) -> dict[str, Partition]:
    """The published partitions of `facts`."""
    return dict(store.manifest().tables["facts"].partitions)


def paths(part: Partition) -> set[str]:
    """Where a partition lies."""
    return {file.path for file in part.files}


def test_closed_neighbours_move_to_fewer_files_and_queries_see_no_change(store: Store) -> None:
    """A query of one day opens every file of its table: a thousand of them make it slow."""
    publish(store, {"facts": days(range(12)), "notes": {"d0": facts(1)}})
    before = partitions(store)
    (done,) = store.compact(EAGER)
    after = partitions(store)
    assert (done.name, done.partitions, done.files_before, done.left) == ("facts", 10, 12, None)
    assert done.files_after == len(set.union(*map(paths, after.values()))) == 3
    assert ids(store) == list(range(12))
    assert {key: replace(part, files=()) for key, part in after.items()} == {
        key: replace(part, files=()) for key, part in before.items()
    }
    assert {key: part.rows for key, part in after.items()} == {key: part.rows for key, part in before.items()}
    store.sweep()
    assert files_on_disk(store) == files_listed(store)
    assert ids(store) == list(range(12))


def test_open_and_unnamed_partitions_are_left_alone(store: Store) -> None:
    """The newest days change with every refresh, and the rest with them: their files would be split again and again."""
    publish(store, {"facts": {**days(range(12)), "_rest": facts(100, 101)}})
    before = partitions(store)
    store.compact(EAGER)
    after = partitions(store)
    assert {key for key in after if after[key] == before[key]} == {"d10", "d11", "_rest"}
    assert len(files_listed(store)) == 4


def test_a_second_compaction_finds_nothing_to_do(store: Store) -> None:
    """A nightly run must cost nothing on most nights."""
    publish(store, {"facts": days(range(12))})
    store.compact(EAGER)
    version = store.manifest().version
    assert store.compact(EAGER) == []
    assert store.manifest().version == version


def test_a_table_with_few_files_is_left_alone_but_for_a_partition_in_pieces(store: Store) -> None:
    """A month of days reads well as it is; a day whose rows came out of order is in many small files."""
    with store.stage("pieces") as stage:
        made = [change_of(stage, "facts", {key: facts(number)}) for number, key in enumerate(["d0", "d0", "d0", "d1"])]
        pieces = tuple(file for change in made[:3] for file in change.partitions[0].files)
        in_pieces = replace(made[0].partitions[0], files=pieces)
        others = change_of(stage, "facts", days(range(2, 6))).partitions
        change = replace(made[0], partitions=[in_pieces, *made[3].partitions, *others])
        store.commit(stage, Change([change]))
    (done,) = store.compact()
    assert (done.partitions, done.files_before, done.files_after) == (1, 8, 6)
    assert [file.rows for file in partitions(store)["d0"].files] == [3]
    assert sorted(ids(store)) == [0, 1, 2, 2, 3, 3, 4, 5]


def test_every_value_survives(store: Store) -> None:
    """Nobody reads these rows from the source again: what a copy changes stays changed."""
    of_day = {f"d{number}": everything(*range(10 * number, 10 * number + 4)) for number in range(8)}
    publish(store, {"facts": of_day}, schema=EVERYTHING)
    rows = [row for part in of_day.values() for row in part]
    assert stored(store, "facts") == bits(rows)
    store.compact(EAGER)
    assert len(paths(partitions(store)["d0"]) | paths(partitions(store)["d5"])) < 6
    assert stored(store, "facts") == bits(rows)
    publish(store, {"facts": {"d1": []}}, schema=EVERYTHING)
    assert stored(store, "facts") == bits([row for key, part in of_day.items() if key != "d1" for row in part])


OLD = schema_of(
    id=pa.int32(), Name=pa.string(), price=pa.decimal128(4, 1), n=pa.int16(), on=pa.date32(), s=pa.float32()
)
NEW = schema_of(
    ID=pa.int64(),
    price=pa.decimal128(9, 3),
    n=pa.float64(),
    on=pa.timestamp("us"),
    s=pa.float64(),
    more=pa.list_(pa.int8()),
)


def test_partitions_of_before_and_after_a_schema_change_share_a_file(store: Store) -> None:
    """The file has the published types: every row reads as it did through the view."""
    old = {"id": 1, "Name": "", "price": Decimal("1.5"), "n": 7, "on": date(2024, 1, 2), "s": 0.1}
    new = {
        "ID": 2**40, "price": Decimal("1.125"), "n": -0.0, "on": datetime(2024, 1, 2, 3), "s": 0.1, "more": [1, None],  # noqa: DTZ001 — without zone
    }  # fmt: skip
    publish(store, {"facts": {"d0": [old], "d1": [old], "d2": [dict.fromkeys(OLD.names)]}}, schema=OLD)
    publish(store, {"facts": {f"d{number}": [new] for number in range(3, 8)}}, schema=NEW)
    before = stored(store, "facts")
    store.compact(replace(EAGER, fewest_files=1))
    assert paths(partitions(store)["d0"]) == paths(partitions(store)["d5"])
    assert stored(store, "facts") == before
    table = store.manifest().tables["facts"]
    assert {file.columns for file in partitions(store)["d0"].files} == {table.columns}


def test_rows_of_a_partition_keep_their_order_and_files_their_size(store: Store) -> None:
    """What was written in order reads fast by it; a file of any size would undo the merge of the next one."""
    rows = {f"d{number}": facts(*range(50_000 * number, 50_000 * (number + 1))) for number in range(6)}
    publish(store, {"facts": rows})
    size = sum(part.bytes for part in partitions(store).values())
    store.compact(CompactionRules(newest=0, most_files=3, fewest_files=3, file_bytes=size // 3))
    assert store.query("SELECT id FROM facts")["id"].to_list() == list(range(300_000))
    assert 2 <= len(files_listed(store)) <= 4
    publish(store, {"facts": {"d2": []}})
    assert ids(store) == [*range(100_000), *range(150_000, 300_000)]


def test_a_partition_larger_than_a_file_is_cut_into_as_many_as_it_needs(store: Store) -> None:
    """Pieces by the hundred become a few, not one that no machine can rewrite."""
    with store.stage("pieces") as stage:
        pieces = [change_of(stage, "facts", {"d0": facts(*range(n * 100, n * 100 + 100))}) for n in range(20)]
        files = tuple(file for change in pieces for file in change.partitions[0].files)
        part = replace(pieces[0].partitions[0], files=files)
        store.commit(stage, Change([replace(pieces[0], partitions=[part])]))
    size = partitions(store)["d0"].bytes
    store.compact(CompactionRules(newest=0, file_bytes=size // 4 + 1, fewest_files=100))
    assert [file.rows for file in partitions(store)["d0"].files] == [500, 500, 500, 500]
    assert store.query("SELECT id FROM facts")["id"].to_list() == list(range(2000))


def test_a_refresh_that_comes_between_wins_and_its_table_is_left(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compaction read the rows of before: to publish them would undo the refresh."""
    publish(store, {"facts": days(range(12)), "notes": days(range(12))})
    check = compaction._check_equal

    def refreshed_meanwhile(*given: Any) -> None:
        check(*given)
        if store.manifest().version == 1:
            publish(store, {"facts": {"d3": facts(333)}})

    monkeypatch.setattr(compaction, "_check_equal", refreshed_meanwhile)
    done = {table.name: table for table in store.compact(EAGER)}
    assert "d3" in (done["facts"].left or "")
    assert done["facts"].files_after == 12
    assert done["notes"].left is None
    assert ids(store) == [0, 1, 2, *range(4, 12), 333]
    assert store.compact(EAGER)[0].left is None
    assert ids(store) == [0, 1, 2, *range(4, 12), 333]


def test_a_copy_that_differs_is_not_published(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original is the only one: a machine that miscopies must not replace it."""
    publish(store, {"facts": days(range(12))})

    def miscopied(layout: Layout, stage: Stage, *others: Any, **named: Any) -> Sequence[tuple[DataFile, ...]]:
        new = rewrite_runs(layout, stage, *others, **named)
        (path,) = {run.path.rsplit("/", 1)[-1] for of_run in new for run in of_run}
        read = pq.read_table(stage.folder / path)
        pq.write_table(read.set_column(1, "label", pa.array(["y"] * read.num_rows)), stage.folder / path)
        return new

    monkeypatch.setattr(compaction, "rewrite_runs", miscopied)
    (done,) = store.compact(EAGER)
    assert "not equal" in (done.left or "")
    assert store.manifest().version == 1
    assert store.query("SELECT DISTINCT label FROM facts").item() == "x"


def test_a_damaged_table_is_left_and_the_others_are_compacted(store: Store) -> None:
    """One lost file must not keep the whole store in pieces."""
    publish(store, {"facts": days(range(12)), "notes": days(range(12))})
    (store.root / partitions(store)["d0"].files[0].path).unlink()
    done = {table.name: table for table in store.compact(EAGER)}
    assert "is missing" in (done["facts"].left or "")
    assert done["notes"].left is None
    assert done["notes"].files_after < 12
    with pytest.raises(DataFileMissing, match="d0"):
        ids(store)
    assert store.query("SELECT count(*) FROM notes").item() == 12


def test_rebuilt_table_forgets_its_shared_files(store: Store) -> None:
    """A change of grain has other partitions than the compacted ones."""
    publish(store, {"facts": days(range(12))})
    store.compact(EAGER)
    publish(store, {"facts": {"d3": facts(3)}}, replace=Replace.TABLE)
    assert ids(store) == [3]
    assert len(files_listed(store)) == 1


@pytest.mark.parametrize("days", [1, 2, 3])
def test_a_table_of_open_partitions_alone_is_left_alone(days: int) -> None:
    """They are replaced at the next refresh, in however many files they are."""
    made = {}
    for n in range(days):
        pieces = tuple(DataFile(f"{n}-{piece}", 10, 1000, (Column("id", "BIGINT"),)) for piece in range(4))
        made[f"d{n}"] = Partition(f"d{n}", *day(n), pieces, None, "", "", DAY0)
    assert planned_merges(Table("facts", (), made), CompactionRules(newest=3)) == []


class Simulation:
    """Tables on paper: a day's file a day, compacted by the plan alone, with the bytes that this copies."""

    def __init__(self, rules: CompactionRules) -> None:
        self.rules = rules
        self.partitions: dict[str, Partition] = {}
        self.copied = self.nights = 0

    def add(self, number: int, size: int) -> None:
        """A day's partition."""
        file = DataFile(f"{number}", 1000, size, (Column("id", "BIGINT"),))
        self.partitions[f"d{number}"] = Partition(f"d{number}", *day(number), (file,), None, "", "", DAY0)

    def compact(self) -> None:
        """A night."""
        merges = planned_merges(Table("facts", (), self.partitions), self.rules)
        self.nights += bool(merges)
        for merge in merges:
            self.copied += merge.bytes
            rows = sum(part.rows for part in merge.partitions)
            whole = DataFile(f"m{self.copied}", rows, merge.bytes, ())
            begin = 0
            for part in merge.partitions:
                self.partitions[part.key] = replace(part, files=(whole.run(begin, part.rows),))
                begin += part.rows

    @property
    def files(self) -> int:
        """Distinct files."""
        return sum(1 for _ in Table("facts", (), self.partitions).files)


def test_years_of_days_stay_near_a_hundred_files_at_a_small_cost() -> None:
    """Each row is copied a few times in its life, not once a night."""
    simulation = Simulation(CompactionRules())
    for number in range(800):
        simulation.add(number, 3 * MIB)
        simulation.compact()
        assert simulation.files <= 100
    assert simulation.nights < 100
    assert simulation.copied < 6 * 800 * 3 * MIB


def test_large_days_are_never_copied_below_a_hundred_files_and_rarely_beyond() -> None:
    """Files of the target's size are as good as they get, until there are too many of them."""
    simulation = Simulation(CompactionRules())
    for number in range(100):
        simulation.add(number, 200 * MIB)
        simulation.compact()
    assert simulation.copied == 0
    for number in range(100, 500):
        simulation.add(number, 200 * MIB)
        simulation.compact()
        assert simulation.files <= 101
    assert simulation.copied < 5 * 500 * 200 * MIB


def test_a_full_history_is_compacted_at_once() -> None:
    """The first sync of ten years of days comes in 3,650 files."""
    simulation = Simulation(CompactionRules())
    for number in range(3650):
        simulation.add(number, 100_000 + 7919 * number % 300_000)
    simulation.compact()
    assert 20 <= simulation.files <= 63
