"""What every route promises: codes, versions, tags, time limits, tokens, and what is written down."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from analytics_pipeline.errors import StaleReader
from analytics_pipeline.store import Store, create_store
from analytics_pipeline.store.reader import SqlSession
from analytics_pipeline.sync.status import DatasetStatus, State, write_status
from analytics_pipeline_tests.api import scenario
from analytics_pipeline_tests.api.conftest import Api, Serve

ANALYTICS = "/api/monitoring/analytics"
TABLE_ROUTES = [
    f"{ANALYTICS}/summary",
    f"{ANALYTICS}/trends",
    f"{ANALYTICS}/metric-breakdown",
    f"{ANALYTICS}/latency-distribution",
    f"{ANALYTICS}/class-distribution",
    f"{ANALYTICS}/correlation?metrics=latency,cost",
    f"{ANALYTICS}/classification-breakdown",
    f"{ANALYTICS}/classification-trends?metric_name=intent",
    f"{ANALYTICS}/analysis-insights",
    "/api/store/metadata/monitoring",
    "/api/store/data/monitoring",
]
LIVE_ROUTES = ["/api/store/status", "/health", "/ready"]
SPEC = scenario.spec_of()
TOKEN = "a-long-secret-é"


def publish(store: Store, count: int) -> None:
    dataset = scenario.records(count)
    scenario.publish(store, SPEC, dataset, scenario.results(dataset))


def slow(store: Store) -> str:
    """A route whose query would take minutes."""
    scenario.publish_endless(store, SPEC)
    return f"{ANALYTICS}/metric-breakdown?threshold=0.4"


@pytest.mark.parametrize("route", TABLE_ROUTES)
def test_what_was_never_published_is_not_available(serve: Serve, store: Store, tmp_path: Path, route: str) -> None:
    for root in (tmp_path / "nothing" / "store", store.root):
        answer = serve(root).get(route)

        assert answer.status_code == 404
        assert answer.json() == {
            "success": False,
            "detail": "Monitoring data not available. Trigger a sync first.",
        }


@pytest.mark.parametrize("route", TABLE_ROUTES)
def test_during_the_first_sync_one_is_told_to_try_again(serve: Serve, store: Store, route: str) -> None:
    write_status(store, SPEC, DatasetStatus("monitoring", State.SYNCING, heartbeat=datetime.now(UTC)))

    answer = serve(store.root).get(route)

    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "Monitoring data is syncing. Try again shortly.",
    )


def test_during_a_later_sync_the_published_rows_answer(serve: Serve, store: Store) -> None:
    publish(store, 3)
    write_status(store, SPEC, DatasetStatus("monitoring", State.SYNCING, heartbeat=datetime.now(UTC)))

    assert serve(store.root).get("/api/store/data/monitoring").status_code == 200


@pytest.mark.parametrize("route", TABLE_ROUTES)
def test_what_did_not_change_is_not_sent_again(api: Api, route: str) -> None:
    first = api.get(route)

    again = api.get(route, headers={"If-None-Match": first.headers["etag"]})
    weak = api.get(route, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    other = api.get(route, headers={"If-None-Match": '"other"'})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert weak.status_code == 304
    assert (other.status_code, other.content) == (200, first.content)
    assert "no-cache" in first.headers["cache-control"]


@pytest.mark.parametrize("header", ["*", '"other", *', '"with, a comma", {tag}', 'W/"other" ,W/{tag}'])
def test_tags_come_in_lists_and_a_star_is_any_of_them(api: Api, header: str) -> None:
    """By RFC 9110; otherwise caches in between fetch what they have."""
    tag = api.get(f"{ANALYTICS}/trends").headers["etag"]

    assert api.get(f"{ANALYTICS}/trends", headers={"If-None-Match": header.format(tag=tag)}).status_code == 304


def test_tags_may_stand_in_several_lines(api: Api) -> None:
    tag = api.get(f"{ANALYTICS}/trends").headers["etag"]

    lines: Any = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    assert api.get(f"{ANALYTICS}/trends", headers=lines).status_code == 304


@pytest.mark.parametrize("header", ["{bare}", "W/{bare}", "", ",", '"*"', "**"])
def test_what_is_no_tag_of_the_answer_fetches_it(api: Api, header: str) -> None:
    bare = api.get(f"{ANALYTICS}/trends").headers["etag"].strip('"')

    assert api.get(f"{ANALYTICS}/trends", headers={"If-None-Match": header.format(bare=bare)}).status_code == 200


def test_nobody_has_what_was_never_published(serve: Serve, store: Store) -> None:
    """Otherwise a star hides that there is no dataset."""
    assert serve(store.root).get(f"{ANALYTICS}/trends", headers={"If-None-Match": "*"}).status_code == 404


def test_a_tag_is_of_normal_parameters_and_of_the_datasets(serve: Serve, api: Api, monitoring: Store) -> None:
    def tag(of: Api = api, **params: Any) -> str:
        return of.get(f"{ANALYTICS}/trends", **params).headers["etag"]

    assert tag() == tag(granularity="daily") == tag(unknown="x")
    assert tag(time_end="2026-01-07") == tag(time_end="2026-01-08T01:59:59.999999+02:00")
    restricted = serve(monitoring.root, scenario.spec_of(visible_metrics=["relevancy"]))
    tags = [tag(), tag(granularity="hourly"), tag(environment=""), tag(restricted), tag(time_end="2026-01-07")]
    assert len(set(tags)) == len(tags)


def test_a_version_of_another_history_has_another_tag(serve: Serve, tmp_path: Path) -> None:
    """A store that is made again begins at version 1; what browsers remember of the former one must not come back."""
    tags = set()
    for name in ("former", "latter"):
        store = create_store(tmp_path / name / "store")
        publish(store, 3)
        assert store.manifest().version == 1
        tags.add(serve(store.root).get(f"{ANALYTICS}/trends").headers["etag"])

    assert len(tags) == 2


def test_a_version_that_is_swept_while_it_is_read_is_read_again(
    serve: Serve, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, 3)
    failures = [StaleReader()]
    asked = SqlSession.query

    def swept_once(session: SqlSession, *arguments: Any, **limits: Any) -> Any:
        if failures:
            raise failures.pop()
        return asked(session, *arguments, **limits)

    monkeypatch.setattr(SqlSession, "query", swept_once)

    assert serve(store.root).get(f"{ANALYTICS}/trends", environment="staging").status_code == 200
    assert not failures


@pytest.mark.parametrize("route", LIVE_ROUTES)
def test_the_present_has_no_tag(api: Api, route: str) -> None:
    assert "etag" not in api.get(route).headers


def test_a_commit_is_visible_to_the_next_request(serve: Serve, store: Store) -> None:
    publish(store, 3)
    api = serve(store.root)
    first = api.get("/api/store/data/monitoring", columns="dataset_id")

    publish(store, 5)

    second = api.get(
        "/api/store/data/monitoring", columns="dataset_id", headers={"If-None-Match": first.headers["etag"]}
    )
    assert second.status_code == 200
    assert {row["dataset_id"] for row in second.json()["data"]} == {f"r{number:05}" for number in range(5)}
    assert api.json("/ready")["version"] == 2


def test_the_store_may_come_into_being_after_the_api(serve: Serve, tmp_path: Path) -> None:
    api = serve(tmp_path / "home" / "store")
    assert api.json("/ready") == {"status": "ready", "version": 0}

    publish(create_store(tmp_path / "home" / "store"), 3)

    assert api.json("/ready")["version"] == 1
    assert api.get(f"{ANALYTICS}/trends").status_code == 200


def test_no_answer_mixes_two_versions(serve: Serve, store: Store) -> None:
    """Metadata and rows are of one commit, and totals of one page's rows, whatever is committed meanwhile."""
    publish(store, 1)
    api = serve(store.root)
    stop = threading.Event()

    def commit() -> None:
        for number in range(2, 14):
            if stop.is_set():
                return
            publish(store, number)

    writer = threading.Thread(target=commit)
    writer.start()
    compared = 0
    try:
        while writer.is_alive() or not compared:
            for answer in api.at_once(["/api/store/data/monitoring?page_size=500&columns=dataset_id"] * 4):
                body = answer.json()
                measured = scenario.results(scenario.records(len({row["dataset_id"] for row in body["data"]})))
                assert body["total"] == len(body["data"]) == len(measured)
                compared += 1
    finally:
        stop.set()
        writer.join()


def test_a_query_that_takes_too_long_is_interrupted(serve: Serve, store: Store) -> None:
    route = slow(store)
    api = serve(store.root, timeout=0.5)

    answer = api.get(route)

    assert answer.status_code == 504
    assert answer.json()["detail"].startswith("The request was stopped after 0.5 s.")
    assert api.get("/api/store/metadata/monitoring").status_code == 200, "the next request finds a free slot"


def test_waiting_for_a_slot_counts_as_time(serve: Serve, store: Store) -> None:
    route = slow(store)
    api = serve(store.root, timeout=1.0, concurrency=1)

    answers = api.at_once([f"{route}{digit}" for digit in range(3)])

    assert [answer.status_code for answer in answers] == [504] * 3
    assert api.get("/health").status_code == 200


def test_an_answer_is_remembered_until_the_next_commit(serve: Serve, store: Store) -> None:
    publish(store, 3)
    api = serve(store.root)
    first = api.get(f"{ANALYTICS}/trends", environment="staging")
    for file in store.manifest().live_files:
        (store.root / file.path).rename(store.root / f"{file.path}.away")

    assert api.get(f"{ANALYTICS}/trends", environment="staging").content == first.content
    assert api.get(f"{ANALYTICS}/trends", environment="production").status_code == 503


def test_what_costs_nothing_does_not_wait_for_queries(serve: Serve, store: Store) -> None:
    route = slow(store)
    api = serve(store.root, timeout=3.0, concurrency=1)
    tag = api.get("/api/store/metadata/monitoring").headers["etag"]
    busy = threading.Thread(target=lambda: api.get(route))
    busy.start()
    try:
        known = api.get("/api/store/metadata/monitoring", headers={"If-None-Match": tag})
        assert (known.status_code, busy.is_alive()) == (304, True)
        assert api.get("/api/store/metadata/monitoring").status_code == 200
        assert api.get("/health").status_code == 200
        assert busy.is_alive()
    finally:
        busy.join()


def test_a_store_that_cannot_be_read_is_a_clear_503_without_paths(
    serve: Serve, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, 3)
    for manifest in store.layout.manifests.iterdir():
        manifest.write_bytes(b"damaged")
    api = serve(store.root)

    for route in ("/ready", f"{ANALYTICS}/trends", "/api/store/status"):
        answer = api.get(route)
        assert answer.status_code == 503
        assert str(store.root) not in answer.text
    assert "manifest" in caplog.text


def test_a_store_that_is_taken_away_is_a_503_until_it_is_back(serve: Serve, store: Store) -> None:
    publish(store, 3)
    api = serve(store.root)
    assert api.get("/ready").status_code == 200
    elsewhere = store.root.rename(store.root.with_name("elsewhere"))

    for route in ("/ready", f"{ANALYTICS}/trends", "/api/store/data/monitoring"):
        assert api.get(route).status_code == 503

    elsewhere.rename(store.root)
    assert api.get(f"{ANALYTICS}/trends").status_code == 200


def test_every_request_to_the_api_needs_the_token(serve: Serve, monitoring: Store) -> None:
    api = serve(monitoring.root, token=TOKEN)
    secret = TOKEN.encode()

    for route in (*TABLE_ROUTES, "/api/store/status"):
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {'x' * 9}"}):
            answer = api.get(route, headers=header)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        good: Any = {b"Authorization": b"Bearer " + secret}
        assert api.get(route, headers=good).status_code in {200, 304}
    for route in ("/api/store/sync", "/api/store/sync/monitoring", "/api/store/sync/monitoring/reset-watermark"):
        assert api.post(route).status_code == 401
    assert api.get("/health").status_code == 200
    assert api.get("/ready").status_code == 200


def test_a_refused_request_learns_nothing_about_its_parameters(serve: Serve, monitoring: Store) -> None:
    api = serve(monitoring.root, token=TOKEN)

    assert api.get(f"{ANALYTICS}/trends", granularity="x").status_code == 401
    assert api.get("/api/store/data/nope").status_code == 401


def test_pages_of_other_origins_read_only_where_a_setting_lets_them(serve: Serve, monitoring: Store) -> None:
    asking = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    open_to_one = serve(monitoring.root, cors_origins=("https://a.example",), token=TOKEN)
    closed = serve(monitoring.root)

    allowed = open_to_one.options(f"{ANALYTICS}/summary", asking)
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in closed.get(f"{ANALYTICS}/summary", headers=asking).headers
    other = open_to_one.options(f"{ANALYTICS}/summary", asking | {"Origin": "https://b.example"})
    assert "access-control-allow-origin" not in other.headers


def test_a_page_of_another_origin_cannot_start_a_sync(serve: Serve, store: Store) -> None:
    """Browsers send such a request without asking first."""
    route = "/api/store/sync/monitoring/reset-watermark"
    publish(store, 3)
    api = serve(store.root)

    for origin in ("https://evil.example", "http://[::1", "http://localhost:99999", "null", ""):
        assert api.post(route, headers={"Origin": origin}).status_code == 403, origin
    assert store.manifest().version == 1
    assert api.post(route, headers={"Origin": "http://localhost"}).status_code == 200
    open_to_one = serve(store.root, cors_origins=("https://a.example",))
    assert open_to_one.post(route, headers={"Origin": "https://a.example"}).status_code == 200
    assert open_to_one.post(route, headers={"Origin": "https://evil.example"}).status_code == 403


def test_the_access_log_holds_no_parameters(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "analytics_pipeline.api.access"):
        api.get("/api/store/data/monitoring", search="my-secret")
        api.get("/api/store/data/a%0Aforged line")

    lines = [record.getMessage() for record in caplog.records if record.name == "analytics_pipeline.api.access"]
    assert [line.rsplit(" ", 2)[0] for line in lines] == [
        "GET /api/store/data/monitoring 200",
        "GET /api/store/data/a%0Aforged%20line 404",
    ]
    assert "my-secret" not in caplog.text


def test_unknown_paths_and_methods_are_refused_in_the_same_shape(api: Api) -> None:
    assert api.get("/api/nope").json() == {"success": False, "detail": "Not Found"}
    assert api.post("/api/store/status").status_code == 405


def test_health_and_readiness_are_open(api: Api, monitoring: Store) -> None:
    assert api.json("/health") == {"status": "ok"}
    assert api.json("/ready") == {"status": "ready", "version": monitoring.manifest().version}


def test_a_status_that_cannot_be_read_is_made_up_for(serve: Serve, store: Store) -> None:
    publish(store, 3)
    status = DatasetStatus("monitoring", State.READY)
    write_status(store, SPEC, replace(status, rows={"monitoring_data": 9}))
    (store.root.parent / "status" / "monitoring.json").write_text("{")

    found = serve(store.root).json("/api/store/status")["datasets"]["monitoring_data"]

    assert (found["state"], found["rows"] > 0) == ("ready", True)
