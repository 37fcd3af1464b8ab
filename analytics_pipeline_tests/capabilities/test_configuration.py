"""Where a store may be, and what an error may tell of how it is reached."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from analytics_pipeline.capabilities import AnalyticsStore, AnalyticsStoreConfig, ParquetBackend, build_store
from analytics_pipeline.capabilities.documents.bucket import BucketInbox
from analytics_pipeline.capabilities.secrets import without_secrets
from analytics_pipeline.errors import InboxUnusable, StoreConfigInvalid
from analytics_pipeline_tests.capabilities.scenario import example, run, uids

SECRET = "hunter2secret"

OPEN_SECRETS = (
    f"s3://{SECRET}@host/bucket",
    f"s3://key:{SECRET}@host/bucket",
    f"s3://key:{SECRET}/+@host/bucket",
    f"s3://bucket/runs?token={SECRET}",
    f"s3://bucket/runs#token={SECRET}",
    f"az://container@account/runs#sig={SECRET}",
    f"az://container:{SECRET}@account/runs",
    f"S3://{SECRET}@host/bucket",
    f"simplecache::s3://{SECRET}@host/bucket",
    f"s3://{SECRET}\u2100@host/bucket",
    f"s3://[{SECRET}/bucket",
    f"file:///data/runs#{SECRET}",
)


@pytest.mark.parametrize("uri", OPEN_SECRETS)
def test_a_uri_that_shows_a_secret_is_refused_without_repeating_it(uri: str) -> None:
    for make in (ParquetBackend, lambda uri: build_store({"uri": uri})):
        with pytest.raises(StoreConfigInvalid, match="storage_options") as refused:
            make(uri)
        assert SECRET not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(InboxUnusable) as unusable:
        BucketInbox(uri)
    assert SECRET not in "".join(traceback.format_exception(unusable.value))


@pytest.mark.parametrize("scheme", ["az", "abfs", "abfss", "ABFSS"])
def test_what_azure_writes_before_the_at_is_a_container(scheme: str) -> None:
    uri = f"{scheme}://container@account.dfs.core.windows.net/runs"

    assert AnalyticsStoreConfig(uri=uri).uri == uri.replace("ABFSS", "abfss")


@pytest.mark.parametrize("slip", ["s3:/bucket/runs", "s3:bucket/runs", "GS:/bucket", "file:/data", Path("s3://bucket")])
def test_a_url_with_a_slash_too_few_is_no_folder(
    slip: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be made without a word, beside whatever process runs: the results would seem lost."""
    monkeypatch.chdir(tmp_path)
    for make in (ParquetBackend, lambda root: build_store({"uri": str(root)})):
        with pytest.raises(StoreConfigInvalid, match="two slashes"):
            make(slip)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["s4:/data", "odd #name?", "a::b", "12:30", "./s3:"])
def test_a_folder_may_have_any_other_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = build_store({"uri": name})
    store.write([run("a")])

    assert (tmp_path / name / "example").is_dir()


def test_the_case_of_a_scheme_makes_no_difference(tmp_path: Path) -> None:
    """`S3://` would be another protocol to some libraries, and a folder to others."""
    AnalyticsStore(ParquetBackend(f"MEMORY:/{tmp_path}/Runs")).write([run("a")])

    assert AnalyticsStoreConfig(uri=f"Memory:/{tmp_path}/Runs").uri == f"memory:/{tmp_path}/Runs"
    assert uids(AnalyticsStore(ParquetBackend(f"memory:/{tmp_path}/Runs"))) == ["a"]
    build_store({"uri": f"FILE://{tmp_path}/here"}).write([run("a")])
    assert (tmp_path / "here" / "example").is_dir()


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    """An empty answer would mean that there are no results."""
    path = tmp_path / "results.parquet"
    path.write_bytes(b"something")
    backend = ParquetBackend(path)

    for ask in (
        backend.list_tables,
        lambda: backend.query_sql("SELECT 1"),
        lambda: backend.write([example("a")]),
        lambda: backend.get_run_uri("a"),
    ):
        with pytest.raises(StoreConfigInvalid, match=r"results\.parquet is a file: name a folder"):
            ask()
    assert path.read_bytes() == b"something"


def test_a_refusal_is_said_in_plain_words() -> None:
    with pytest.raises(StoreConfigInvalid) as of_a_field:
        build_store({"uri": "s3:/bucket"})
    with pytest.raises(StoreConfigInvalid) as of_the_whole:
        build_store({"backend": "duckdb", "uri": "s3://bucket/file.duckdb"})

    assert "cannot be used: uri: after s3: come two slashes" in str(of_a_field.value)
    assert "cannot be used: a DuckDB file is on a local disk" in str(of_the_whole.value)


def test_a_file_url_names_a_duckdb_file(tmp_path: Path) -> None:
    build_store({"backend": "duckdb", "uri": (tmp_path / "a b.duckdb").as_uri()}).write([run("a")])

    assert (tmp_path / "a b.duckdb").is_file()


HARD = 'p"w\\d/é+%\n1'
FORMS = {
    "itself": HARD,
    "repr": repr(HARD),
    "json": json.dumps(HARD),
    "json of any alphabet": json.dumps(HARD, ensure_ascii=False),
    "a part of a path": quote(HARD),
    "a parameter": quote(HARD, safe=""),
    "a field of a form": quote_plus(HARD),
    "bytes": repr(HARD.encode()),
    "an error about an error": repr(KeyError(json.dumps({"password": HARD}))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [HARD, HARD.encode(), bytearray(HARD.encode())], ids=["text", "bytes", "bytearray"])
def test_a_secret_is_taken_out_of_a_text_in_every_form(form: str, given: object) -> None:
    told = without_secrets(f"refused: {FORMS[form]}!", {"client": [{"secret": given}]})

    assert "d/" not in told
    assert "%0A1" not in told
    assert "…" in told
    assert told.startswith("refused: ")


def test_the_longest_secret_goes_first_and_trifles_stay() -> None:
    """A flag or a digit stands in every text, and is no secret."""
    options = {
        "key": "abcd",
        "secret": "abcdefgh",
        "anon": False,
        "use_ssl": True,
        "retries": 3,
        "prefix": "",
        "x": "ab",
    }

    assert without_secrets("abcdefgh abcd ab 3 False True", options) == "… … ab 3 False True"
    assert without_secrets("account 123456", {"account": 123456}) == "account …"
