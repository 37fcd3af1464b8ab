"""Run documents in an object store: taken up as from a folder, with what such a store can promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from analytics_pipeline.capabilities import AnalyticsStore, ParquetBackend
from analytics_pipeline.capabilities.documents.bucket import BucketInbox
from analytics_pipeline.capabilities.documents.intake import Batch, Intake
from analytics_pipeline.errors import ExtraMissing, InboxUnusable
from analytics_pipeline_tests.capabilities.dropped import BAD, text

URL = "memory://bucket/inbox"


@pytest.fixture
def files() -> Iterator[Any]:
    """An object store in memory, empty."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def drop(files: Any, name: str, content: bytes) -> None:
    files.pipe_file(f"/bucket/inbox/{name}", content)


def take_up(store: Path, inbox: BucketInbox | None = None) -> Batch:
    return sum(Intake(inbox or BucketInbox(URL), ParquetBackend(store)).take_up(print), Batch())


def run_uids(store: Path) -> list[str]:
    return sorted(AnalyticsStore(ParquetBackend(store)).query_sql("SELECT run_uid FROM dataeval_bias")["run_uid"])


def waiting(files: Any) -> list[str]:
    return sorted(path for path in files.glob("/bucket/inbox/*.json"))


def test_good_documents_are_stored_and_bad_ones_told_in_the_bucket(files: Any, store: Path) -> None:
    for number, (content, _, _) in enumerate(BAD.values()):
        drop(files, f"bad-{number}.json", content)
        drop(files, f"good-{number}.json", text(run_uid=f"uid-{number}"))
    drop(files, "other.txt", b"no document")

    done = take_up(store)

    assert (done.stored, done.rejected) == (len(BAD), len(BAD))
    assert run_uids(store) == sorted(f"uid-{number}" for number in range(len(BAD)))
    told = [json.loads(files.cat_file(path)) for path in sorted(files.glob("/bucket/inbox/rejected/*.report.json"))]
    assert [report["errors"][0]["field"] for report in told] == [field for _, field, _ in BAD.values()]
    assert len(files.glob("/bucket/inbox/rejected/*.json")) == 2 * len(BAD)
    assert len(files.glob("/bucket/inbox/stored/*/good-*.json")) == len(BAD)
    assert (waiting(files), BucketInbox(URL).has_document()) == ([], False)
    assert files.cat_file("/bucket/inbox/other.txt") == b"no document"


def test_a_bucket_without_an_inbox_is_an_empty_one(files: Any, store: Path) -> None:
    assert not BucketInbox(URL).has_document()
    assert take_up(store) == Batch()


def test_a_name_that_was_used_before_replaces_nothing(files: Any, store: Path) -> None:
    for content in (text(run_uid="a"), text(run_uid="b"), b"{}", b"[]"):
        drop(files, "result.json", content)
        take_up(store)

    assert len(files.glob("/bucket/inbox/stored/*/*.json")) == 2
    assert len(files.glob("/bucket/inbox/rejected/*.json")) == 4
    assert run_uids(store) == ["a", "b"]


def test_an_intake_that_died_before_it_moved_a_document_stores_it_once(files: Any, store: Path) -> None:
    drop(files, "a.json", text())
    dying = BucketInbox(URL)

    def died(_: object) -> bool:
        raise KeyboardInterrupt

    dying.keep = died  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        take_up(store, dying)

    done = take_up(store)

    assert (done.stored, done.known, run_uids(store), waiting(files)) == (0, 1, ["a1"], [])


def test_a_document_that_was_replaced_since_it_was_read_stays(files: Any, store: Path) -> None:
    drop(files, "a.json", text(run_uid="old"))
    inbox = BucketInbox(URL)
    keep = inbox.keep

    def replaced(document: Any) -> bool:
        drop(files, "a.json", text(run_uid="new"))
        return keep(document)

    inbox.keep = replaced  # type: ignore[method-assign]
    take_up(store, inbox)

    assert waiting(files) == ["/bucket/inbox/a.json"]
    take_up(store)
    assert run_uids(store) == ["new", "old"]


def test_a_document_that_is_too_large_is_not_read(files: Any, store: Path) -> None:
    drop(files, "large.json", b" " * 1000 + text())

    assert take_up(store, BucketInbox(URL, largest=1000)).rejected == 1


def test_an_object_store_that_refuses_is_named(files: Any, store: Path) -> None:
    inbox = BucketInbox(URL)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    inbox._files = type("Refusing", (), {"ls": refused, "invalidate_cache": lambda _: None})()

    with pytest.raises(InboxUnusable, match="memory://bucket/inbox cannot be used: Access Denied"):
        take_up(store, inbox)


def test_a_url_with_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(InboxUnusable, match="storage_options") as refused:
        BucketInbox("s3://key:hunter2secret@bucket/inbox")

    assert "hunter2" not in str(refused.value)


def test_a_kind_of_url_whose_package_is_missing_names_the_extra() -> None:
    with pytest.raises(ExtraMissing, match=r"analytics_pipeline\[objects\]"):
        BucketInbox("gs://bucket/inbox")
