"""Taking run documents up: the good ones stored once, the bad ones told, none lost, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from analytics_pipeline.capabilities import DuckDBBackend, ParquetBackend
from analytics_pipeline.capabilities.documents import intake as intake_module
from analytics_pipeline.capabilities.documents.folder import FolderInbox
from analytics_pipeline.capabilities.documents.intake import SHOWN, Batch, Intake
from analytics_pipeline.errors import DocumentsStuck, InboxUnusable, StoreError
from analytics_pipeline_tests.capabilities import dropped
from analytics_pipeline_tests.capabilities.dropped import (
    BAD,
    TABLES,
    count_entries,
    drop,
    drop_many,
    kept,
    query,
    reports,
    stored_runs,
    take_up,
    text,
    waiting,
    with_outputs,
)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_good_document_is_stored_and_put_away_by_day(inbox: Path, store: Path) -> None:
    drop(inbox, "first.json", text())

    done = take_up(inbox, store)

    assert (done.stored, done.known, done.rejected, done.waiting) == (1, 0, 0, 0)
    assert (done.runs, done.rows) == ({"dataeval_bias": 1}, {"dataeval_bias": 1, "runs": 1})
    assert query(store, "SELECT run_uid, dataset_id, user_id FROM dataeval_bias JOIN runs USING (run_uid)") == [
        ("a1", "cifar10", "ada")
    ]
    (path,) = (inbox / "stored").glob("20[0-9][0-9]-[01][0-9]-[0-3][0-9]/first.json")
    assert path.read_bytes() == text()
    assert waiting(inbox) == []


def test_a_bad_document_is_put_aside_with_its_report(inbox: Path, store: Path) -> None:
    content = text(owner="ada", schema_version=2)
    drop(inbox, "bad.json", content)

    done = take_up(inbox, store)

    ((path, report),) = reports(inbox)
    assert (path.name, path.read_bytes()) == ("bad.json", content)
    assert (report["document"], report["run_uid"], report["error_count"]) == ("bad.json", "a1", 2)
    assert {"field": "owner", "reason": "is no field of this document", "found": '"ada"'} in report["errors"]
    assert [rejected.name for rejected in done.first_rejected] == ["bad.json"]
    assert not store.exists(), "nothing was written"


def test_bad_documents_do_not_hold_up_the_good_ones_around_them(inbox: Path, store: Path) -> None:
    for number, (content, _, _) in enumerate(BAD.values()):
        drop(inbox, f"{number}-a.json", text(run_uid=f"before-{number}"))
        drop(inbox, f"{number}-b.json", content)
        drop(inbox, f"{number}-c.json", text(run_uid=f"after-{number}"))

    done = take_up(inbox, store)

    assert (done.stored, done.rejected, waiting(inbox)) == (2 * len(BAD), len(BAD), [])
    assert [report["errors"][0]["field"] for _, report in reports(inbox)] == [field for _, field, _ in BAD.values()]


def test_of_many_bad_documents_all_are_counted_and_the_first_are_told(inbox: Path, store: Path) -> None:
    """A producer gone wrong drops a hundred thousand: what is kept of each would be more than memory holds."""
    for number in range(70):
        drop(inbox, f"{number}.json", b"[]")

    batches = list(Intake(FolderInbox(inbox), ParquetBackend(store), batch=30).take_up(print))

    done = sum(batches, Batch())
    assert [batch.rejected for batch in batches] == [30, 30, 10]
    assert [len(batch.first_rejected) for batch in batches] == [SHOWN, SHOWN, 10]
    assert (done.rejected, done.first_rejected) == (70, batches[0].first_rejected)
    assert len(list(reports(inbox))) == 70, "each has its report"


def test_a_known_run_changes_nothing(inbox: Path, store: Path) -> None:
    drop(inbox, "first.json", text())
    take_up(inbox, store)
    files = sorted(store.rglob("*.parquet"))
    drop(inbox, "again.json", text())

    done = take_up(inbox, store)

    assert (done.stored, done.known, done.rows) == (0, 1, {})
    assert sorted(store.rglob("*.parquet")) == files
    assert kept(inbox) == ["again.json", "first.json"]


def test_a_run_in_several_documents_of_one_batch_is_stored_once(inbox: Path, store: Path) -> None:
    """One write keeps equal rows of a run: several rows a run are normal."""
    for number in range(5):
        drop(inbox, f"{number}.json", text("maite_evaluation"))
    drop(inbox, "other-table.json", text("dataeval_bias"))

    done = take_up(inbox, store)

    assert (done.stored, done.known) == (2, 4)
    assert stored_runs(store) == {"maite_evaluation": ["a1"], "dataeval_bias": ["a1"]}


def test_a_later_event_of_a_known_run_is_added_to_runs(inbox: Path, store: Path) -> None:
    for event in ("e1", "e2"):
        drop(inbox, f"{event}.json", text(provenance={"run_event_id": event}))
        take_up(inbox, store)

    assert query(store, "SELECT run_event_id FROM runs ORDER BY 1") == [("e1",), ("e2",)]
    assert query(store, "SELECT count(*) FROM dataeval_bias") == [(1,)]


def test_a_name_that_was_used_before_replaces_nothing(inbox: Path, store: Path) -> None:
    contents = [text(run_uid="a1"), text(run_uid="a2"), b"{}", b"[]"]
    for content in contents:
        drop(inbox, "result.json", content)
        take_up(inbox, store)

    assert len(kept(inbox)) == 2
    assert {path.read_bytes() for path in (inbox / "stored").glob("*/*")} == set(contents[:2])
    assert {path.read_bytes() for path, _ in reports(inbox)} == set(contents[2:])


@pytest.mark.parametrize("name", ["results.csv", ".hidden.json", "run.json.tmp", "run.JSON.part"])
def test_files_of_other_names_are_left_alone(inbox: Path, store: Path, name: str) -> None:
    drop(inbox, name, text())

    assert not FolderInbox(inbox).has_document()
    assert take_up(inbox, store) == Batch()
    assert (inbox / name).read_bytes() == text()


@pytest.mark.parametrize("content", [b"", text()[:-1], text()[:100], b"\xff\xfe", text()[:-5] + b"\xc3"])
def test_half_a_document_is_left_to_grow_and_stored_when_it_is_whole(inbox: Path, store: Path, content: bytes) -> None:
    """Who writes straight into the inbox must not find half of it condemned."""
    drop(inbox, "growing.json", content, written=time.time())

    first = take_up(inbox, store)

    assert (first.waiting, first.rejected, waiting(inbox)) == (1, 0, ["growing.json"])
    (inbox / "growing.json").write_bytes(text())
    assert take_up(inbox, store).stored == 1


def test_half_a_document_is_refused_once_nobody_writes_it_any_more(inbox: Path, store: Path) -> None:
    drop(inbox, "left.json", text()[:100])

    assert take_up(inbox, store).rejected == 1


def test_a_moment_far_in_the_future_does_not_keep_a_document_for_ever(inbox: Path, store: Path) -> None:
    drop(inbox, "future.json", b"{", written=time.time() + 86_400)

    assert take_up(inbox, store).rejected == 1


def test_a_whole_document_is_refused_at_once(inbox: Path, store: Path) -> None:
    drop(inbox, "fresh.json", b"{}", written=time.time())

    assert take_up(inbox, store).rejected == 1


def test_links_folders_and_pipes_are_put_aside_and_not_followed(inbox: Path, store: Path, tmp_path: Path) -> None:
    """A link could lead to any file of this machine; a pipe would wait for its writer for ever."""
    secret = tmp_path / "secret.json"
    secret.write_bytes(text())
    inbox.mkdir()
    (inbox / "link.json").symlink_to(secret)
    (inbox / "folder.json").mkdir()
    os.mkfifo(inbox / "pipe.json")

    done = take_up(inbox, store)

    assert (done.stored, done.rejected, waiting(inbox)) == (0, 3, [])
    reasons = {path.name: report["errors"][0]["reason"] for path, report in reports(inbox)}
    assert reasons["link.json"] == "is a symbolic link: put the file itself there"
    assert reasons["folder.json"] == reasons["pipe.json"] == "is a folder or a device: put the file itself there"
    assert secret.read_bytes() == text()
    assert (inbox / "rejected" / "link.json").is_symlink()


def test_a_document_that_is_too_large_is_not_read(inbox: Path, store: Path) -> None:
    drop(inbox, "large.json", b" " * 10_000 + text())
    drop(inbox, "small.json", text())

    done = sum(Intake(FolderInbox(inbox, largest=10_000), ParquetBackend(store)).take_up(print), Batch())

    assert done.stored == 1
    ((_, report),) = reports(inbox)
    assert "a document has at most 10,000" in report["errors"][0]["reason"]


def test_a_document_that_may_not_be_read_is_put_aside() -> None:
    """A process without root's rights; the folders of tests are closed to all others, so this one has its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        inbox = Path(folder) / "inbox"
        drop(inbox, "closed.json", text()).chmod(0)
        inbox.chmod(0o777)
        process = dropped.CONTEXT.Process(target=dropped.take_up_without_rights, args=(inbox, Path(folder) / "store"))
        process.start()
        process.join(60)

        assert process.exitcode == 0
        ((_, report),) = reports(inbox)
        assert report["errors"] == [{"field": "(document)", "reason": "cannot be read: Permission denied"}]


@pytest.mark.parametrize("name", ["x" * 250 + ".json", "naïve 数据.json", "two\nlines.json", "a b'c\"d.json"])
def test_strange_names_are_no_trouble(inbox: Path, store: Path, name: str) -> None:
    name = name if len(name.encode()) <= 255 else name[-255:]
    good, bad = (inbox, text()), (inbox, b"{}")
    for folder, content in (good, bad):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        take_up(inbox, store)

    assert len(kept(inbox)) == 1
    ((_, report),) = reports(inbox)
    assert report["document"] == name


def test_a_name_that_is_no_text_is_no_trouble(inbox: Path, store: Path) -> None:
    inbox.mkdir()
    Path(os.fsdecode(os.fsencode(inbox) + b"/caf\xe9.json")).write_bytes(b"{}")

    (rejected,) = take_up(inbox, store).first_rejected

    assert rejected.name == "caf\ufffd.json"
    rejected.name.encode()


def test_reports_and_documents_of_like_names_do_not_replace_each_other(inbox: Path, store: Path) -> None:
    for name in ("a.json", "a.report.json", "a.report.report.json"):
        drop(inbox, name, b"{}")
        take_up(inbox, store)

    assert len(list((inbox / "rejected").iterdir())) == 6


def test_a_document_that_took_the_name_of_one_that_was_read_is_stored_too(inbox: Path, store: Path) -> None:
    """A writer replaces result.json at any moment: also between reading it and moving it."""
    drop(inbox, "result.json", text(run_uid="old"))
    folder = FolderInbox(inbox)
    keep = folder.keep

    def replaced(document: Any) -> bool:
        if document.content == text(run_uid="old"):
            drop(inbox, "result.json", text(run_uid="new"), written=time.time())
        return keep(document)

    folder.keep = replaced  # type: ignore[method-assign]
    done = sum(Intake(folder, ParquetBackend(store)).take_up(print), Batch())

    assert done.stored == 2
    assert stored_runs(store) == {"dataeval_bias": ["new", "old"]}
    assert waiting(inbox) == []


def test_a_document_that_is_taken_back_meanwhile_is_no_trouble(inbox: Path, store: Path) -> None:
    drop(inbox, "a.json", text(run_uid="a"))
    drop(inbox, "b.json", text(run_uid="b"))
    folder = FolderInbox(inbox)
    read = folder.read

    def taken_back(name: str) -> Any:
        if name == "a.json":
            (inbox / name).unlink()
        return read(name)

    folder.read = taken_back  # type: ignore[method-assign]
    done = sum(Intake(folder, ParquetBackend(store)).take_up(print), Batch())

    assert done.stored == 1


def test_documents_that_arrive_during_an_intake_are_taken_up_by_it(inbox: Path, store: Path) -> None:
    drop(inbox, "first.json", text(run_uid="first"))
    done = Batch()
    for batch in Intake(FolderInbox(inbox), ParquetBackend(store)).take_up(print):
        if not done.stored:
            drop(inbox, "second.json", text(run_uid="second"))
        done += batch

    assert done.stored == 2


def test_an_intake_ends_even_where_documents_never_do(inbox: Path, store: Path) -> None:
    drop_many(inbox, 30)

    done = take_up(inbox, store, batch=10, at_most=20)

    assert done.stored == 20
    assert len(waiting(inbox)) == 10


def test_what_a_table_refuses_is_put_aside_and_blocks_no_other_table(inbox: Path, store: Path) -> None:
    """A table of the same name, with another type, from another program."""
    folder = store / "dataeval_bias"
    folder.mkdir(parents=True)
    pl.DataFrame({"run_uid": ["x"], "coverage_total": ["many"]}).write_parquet(folder / "1_aaaaaaaa.parquet")
    for number in range(20):
        drop(inbox, f"{number}.json", text(TABLES[number % len(TABLES)], f"uid-{number}"))

    done = take_up(inbox, store)

    biased = sum(TABLES[number % len(TABLES)] == "dataeval_bias" for number in range(20))
    assert (done.stored, done.rejected) == (20 - biased, biased)
    assert all("coverage_total" in report["errors"][0]["reason"] for _, report in reports(inbox))


def test_a_number_that_no_column_can_hold_fails_its_own_document_alone(inbox: Path, store: Path) -> None:
    drop(inbox, "large.json", with_outputs("dataeval_bias", image_count=2**64))
    for number in range(20):
        drop(inbox, f"{number}.json", text(run_uid=str(number)))

    done = take_up(inbox, store)

    assert (done.stored, [rejected.name for rejected in done.first_rejected]) == (20, ["large.json"])
    assert len(list(store.rglob("dataeval_bias/*.parquet"))) == 1, "the others in one file"
    ((_, report),) = reports(inbox)
    assert "no int column can" in report["errors"][0]["reason"]


def test_where_the_store_cannot_be_written_everything_stays_in_the_inbox(inbox: Path, store: Path) -> None:
    (store / "runs").mkdir(parents=True)
    (store / "runs" / "1_aaaaaaaa.parquet").write_bytes(b"torn")
    drop(inbox, "good.json", text())

    with pytest.raises(StoreError):
        take_up(inbox, store)

    assert waiting(inbox) == ["good.json"]
    (store / "runs" / "1_aaaaaaaa.parquet").unlink()
    assert take_up(inbox, store).stored == 1


def test_a_document_that_cannot_be_moved_is_told_after_all_others_were_taken_up(
    inbox: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.json", "stuck.json", "z.json"):
        drop(inbox, name, text(run_uid=name))
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if path == inbox / "stuck.json":
            raise PermissionError(1, "Operation not permitted")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)

    with pytest.raises(DocumentsStuck, match=r"1 documents .* first is stuck\.json: Operation not permitted"):
        take_up(inbox, store)

    assert (kept(inbox), waiting(inbox)) == (["a.json", "z.json"], ["stuck.json"])


def test_an_inbox_that_cannot_be_one_is_named(tmp_path: Path, store: Path) -> None:
    (tmp_path / "inbox").write_text("a file")

    with pytest.raises(InboxUnusable, match="inbox"):
        take_up(tmp_path / "inbox", store)


def test_a_duckdb_file_takes_them_up_as_well(inbox: Path, tmp_path: Path) -> None:
    drop(inbox, "a.json", text())
    drop(inbox, "b.json", text())

    done = sum(Intake(FolderInbox(inbox), DuckDBBackend(tmp_path / "store.duckdb")).take_up(print), Batch())

    assert (done.stored, done.known) == (1, 1)


def test_looking_for_a_document_stops_at_the_first(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sensor looks every 30 seconds, however many documents wait."""
    drop_many(inbox, 300)
    work: Counter[str] = Counter()
    count_entries(monkeypatch, work)

    assert FolderInbox(inbox).has_document()
    assert work == {"listed": 1}


def test_a_batch_is_bounded_by_bytes_too(inbox: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 documents of 64 MB are more than a machine holds."""
    monkeypatch.setattr(intake_module, "BATCH_BYTES", 3 * len(text(run_uid="0")))
    for number in range(9):
        drop(inbox, f"{number}.json", text(run_uid=str(number)))

    batches = list(Intake(FolderInbox(inbox), ParquetBackend(store)).take_up(print))

    assert [batch.stored for batch in batches] == [3, 3, 3]


def test_a_row_that_a_report_cannot_hold_is_no_trouble(inbox: Path, store: Path) -> None:
    drop(inbox, "bad.json", with_outputs("dataeval_bias", **{"\ud800": "\ud800"}))

    take_up(inbox, store)

    ((path, _),) = reports(inbox)
    assert json.loads((path.parent / "bad.report.json").read_text())["error_count"] == 1
