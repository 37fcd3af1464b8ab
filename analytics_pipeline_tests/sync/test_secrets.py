"""Secrets: a password shows nowhere, whatever goes wrong and wherever one looks."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from analytics_pipeline.errors import AnalyticsError, SourceError
from analytics_pipeline.store import Store
from analytics_pipeline.sync.engine import SyncJob
from analytics_pipeline.sync.postgres.readers import Tier
from analytics_pipeline_tests.sync.postgres_reading import proxied
from analytics_pipeline_tests.sync.scenario import NOW, fill, spec_of

FORMS = ("s3cr@t/päss", "s3cr%40t%2Fp%C3%A4ss", "s3cr%40t/p%C3%A4ss", "s3cr%40t", "s3cr@t", "s3cr")
FAILURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "wrong host": ("?host=", "?host=no-such-host.invalid&application_name=", {}),
    "missing database": ("/test_", "/absent_", {}),
    "missing user": ("//reader:", "//nobody:", {}),
    "no such server": ("port=5432", "port=5999", {}),
    "not a number": ("port=5432", "port=abc", {}),
    "not encoded": ("s3cr%40t%2F", "s3cr@t/", {}),
    "wrong query": ("", "", {"dataset_query": "SELECT nothing FROM records"}),
    "password in a message": ("", "", {"dataset_query": "SELECT id, created_at, 's3cr@t/päss'::int AS x FROM records"}),
    "division by zero": ("", "", {"dataset_query": "SELECT id, created_at, 1 / (id - 3) AS x FROM records"}),
    "timeout": (
        "",
        "",
        {"query_timeout": 1, "dataset_query": "SELECT id, created_at, pg_sleep(id)::text AS slept FROM records"},
    ),
}


def with_password(url: str) -> str:
    """The URL with a role of our own and its password; the server itself trusts everybody."""
    return url.replace("//postgres@", f"//reader:{FORMS[1]}@")


def prepare(url: str) -> None:
    fill(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute("CREATE ROLE reader LOGIN SUPERUSER PASSWORD 's3cr@t/päss'")


def secrets_in(*texts: object) -> list[str]:
    return [form for form in FORMS for text in texts if form in str(text)]


def chain(error: BaseException) -> list[BaseException]:
    """An error and what a traceback prints besides."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None:
        found.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return found


@pytest.mark.parametrize("failure", FAILURES)
def test_no_failure_prints_the_password(postgres_url: str, store: Store, failure: str) -> None:
    """Otherwise the first failed run writes it into Dagster's event log for everybody to read."""
    prepare(postgres_url)
    old, new, changes = FAILURES[failure]
    told: list[str] = []
    url = with_password(postgres_url)
    job = SyncJob(
        spec_of(**changes), SecretStr(url.replace(old, new, 1) if old else url), store, told.append, pauses=()
    )
    with pytest.raises(AnalyticsError) as caught:
        job.refresh(now=NOW)
    errors = chain(caught.value)
    assert (
        secrets_in(*errors, *map(repr, errors), *told, repr(job.url), SyncJob(spec_of(), job.url, store, print)) == []
    )


@pytest.mark.slow
def test_a_frozen_source_does_not_print_the_password(postgres_url: str, store: Store) -> None:
    """As above, for the failure that no driver reports."""
    prepare(postgres_url)
    with proxied(postgres_url) as proxy:
        proxy.freeze()
        job = SyncJob(
            spec_of(),
            SecretStr(proxy.url.replace("//postgres@", f"//reader:{FORMS[1]}@")),
            store,
            print,
            stall_timeout=0.5,
        )
        with pytest.raises(SourceError, match="Nothing arrived") as caught:
            job.refresh(now=NOW)
    assert secrets_in(*chain(caught.value)) == []


@pytest.mark.parametrize("tier", Tier)
def test_no_file_of_the_store_holds_the_password(postgres_url: str, store: Store, tier: Tier) -> None:
    """Otherwise whoever gets a copy of the store can log in to its sources."""
    prepare(postgres_url)
    told: list[str] = []
    spec = spec_of(partition_column="id")
    job = SyncJob(spec, SecretStr(with_password(postgres_url)), store, told.append, tier)
    assert job.refresh(now=NOW).halves
    assert not job.refresh(now=NOW).halves
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files for form in FORMS if form.encode() in path.read_bytes()]
    assert secrets_in(*told, repr(job), store.manifest()) == []


def test_the_source_is_known_by_user_and_place(postgres_url: str, store: Store) -> None:
    """Otherwise a new password, which changes nothing, costs a full rebuild."""
    prepare(postgres_url)
    job = SyncJob(spec_of(), SecretStr(with_password(postgres_url)), store, print)
    job.refresh(now=NOW)
    other = postgres_url.replace("//postgres@", "//reader:another@")
    assert not SyncJob(spec_of(), SecretStr(other), store, print).refresh(now=NOW).halves
