"""The read API over 3M joined rows: each endpoint alone, beside the same SQL on native DuckDB tables, then under load.

Alone: one client, one request after the other, each with another end of time, so that the API remembers none. Native:
the API's own questions on the same two halves as tables of a DuckDB file, joined by the same view. Load: 32 clients
over a mix of endpoints while a second process replaces the last day every few seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import polars as pl
from api_store import DAYS, FIRST, LAST_DAY, MARK, SPEC, commit_until, fill
from harness import record

from analytics_pipeline.api.parameters import Granularity, SortDirection, SummaryParameters
from analytics_pipeline.api.questions import categories, correlation, distributions, scores
from analytics_pipeline.api.questions.order import total_order
from analytics_pipeline.api.questions.pages import json_select
from analytics_pipeline.api.questions.paging import Span, count_with, find_page
from analytics_pipeline.api.table import Ask, Rows, published_columns
from analytics_pipeline.store import Parameter, Store
from analytics_pipeline.store.catalog import join_sql

CLIENTS, EVERY, REPEATS = 32, 4.0, 15
ANALYTICS, DATA = "/api/monitoring/analytics", "/api/store/data/monitoring"
DAY = f"time_start={LAST_DAY}"
ROUTES = {
    "summary, stored": f"{ANALYTICS}/summary",
    "summary, filtered": f"{ANALYTICS}/summary?environment=env-1",
    "trends": f"{ANALYTICS}/trends",
    "metric-breakdown": f"{ANALYTICS}/metric-breakdown?group_by=environment",
    "latency-distribution": f"{ANALYTICS}/latency-distribution",
    "class-distribution": f"{ANALYTICS}/class-distribution?group_by=model_name",
    "correlation": f"{ANALYTICS}/correlation?metrics=metric_0,metric_1,metric_2",
    "classification-breakdown": f"{ANALYTICS}/classification-breakdown",
    "classification-trends": f"{ANALYTICS}/classification-trends?metric_name=metric_4",
    "analysis-insights": f"{ANALYTICS}/analysis-insights",
    "page, filtered by time": f"{DATA}?{DAY}",
    "page, first": DATA,
    "page, deep": f"{DATA}?page={{deep}}",
    "status": "/api/store/status",
    "metadata": "/api/store/metadata/monitoring",
}
REMEMBERED = ("summary, stored", "status", "metadata")
"""Routes that ask no table."""

MIXED = f"{DATA}?{DAY}&page_size=200&columns={','.join(MARK.values())}"

Question = Callable[[Ask, Rows], object]


def page(offset: int) -> Question:
    """The rows from an offset on, the newest first."""

    def question(ask: Ask, rows: Rows) -> object:
        order = total_order(rows.columns, None, SortDirection.DESC)
        place = find_page(count_with(ask), rows, order, Span(offset, 50))
        return place.read(ask, order, json_select(rows.columns.columns))

    return question


def questions(rows: int) -> Mapping[str, Question]:
    """What the endpoints ask, where they ask the tables."""
    return {
        "summary, filtered": lambda ask, rows: scores.summary(ask, SummaryParameters(environment="env-1").of(rows)),
        "trends": lambda ask, rows: scores.trends(ask, rows, Granularity.DAILY),
        "metric-breakdown": lambda ask, rows: scores.metric_breakdown(ask, rows, 0.5, "environment"),
        "latency-distribution": lambda ask, rows: distributions.latency_distribution(ask, rows, 20, None),
        "class-distribution": lambda ask, rows: distributions.class_distribution(
            ask, rows, "metric_score", "model_name"
        ),
        "correlation": lambda ask, rows: correlation.correlation(ask, rows, ["metric_0", "metric_1", "metric_2"]),
        "classification-breakdown": lambda ask, rows: categories.classification_breakdown(
            ask, rows.equal("metric_category", "CLASSIFICATION"), "explanation"
        ),
        "page, filtered by time": lambda ask, found: page(0)(
            ask, found.since("timestamp", (FIRST + timedelta(days=DAYS - 1)).replace(tzinfo=None), None)
        ),
        "page, first": page(0),
        "page, deep": page(rows * 9 // 10),
    }


def native(store: Store, folder: Path, rows: int) -> Mapping[str, float]:
    """Milliseconds of each question on native tables, as the median."""
    file = folder / "native.duckdb"
    manifest = store.manifest()
    with duckdb.connect(file) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH '{store.root / 'catalog.duckdb'}' AS store (READ_ONLY)")
        for name in MARK:
            connection.execute(f"CREATE TABLE {name} AS FROM store.{name}")
        view = manifest.views[SPEC.view]
        select = join_sql(view, manifest.tables[view.left], manifest.tables[view.right])
        connection.execute(f"CREATE VIEW {view.name} AS {select}")
        with store.reading() as reading:
            columns = published_columns(reading, SPEC.view)
        assert columns is not None

        def ask(sql: str, values: Mapping[str, Parameter]) -> pl.DataFrame:
            return pl.DataFrame(connection.sql(sql, params=dict(values) or None).to_arrow_table())

        every = Rows(SPEC.view, columns)
        return {
            name: 1000 * statistics.median(_seconds(question, ask, every) for _ in range(REPEATS))
            for name, question in questions(rows).items()
        }


def _seconds(question: Question, ask: Ask, rows: Rows) -> float:
    began = time.perf_counter()
    question(ask, rows)
    return time.perf_counter() - began


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The API in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {**os.environ, "ANALYTICS_HOME": str(home), "ANALYTICS_API_PORT": str(port)}
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "analytics_pipeline.api"], env=variables, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{url}/ready").raise_for_status()
            except httpx.TransportError:
                assert process.poll() is None
                time.sleep(0.1)
            else:
                break
        yield url
    finally:
        process.terminate()
        process.wait()


def alone(base: str, routes: Mapping[str, str]) -> Mapping[str, list[float]]:
    """Milliseconds of each route's requests; the first one of a version comes first."""
    found: dict[str, list[float]] = defaultdict(list)
    with httpx.Client(base_url=base, timeout=120) as client:
        for name, route in routes.items():
            for number in range(REPEATS):
                url = f"{route}{'&' if '?' in route else '?'}time_end=2030-01-01T00:00:00.{number:06}"
                began = time.perf_counter()
                client.get(route if name in REMEMBERED else url).raise_for_status()
                found[name].append(1000 * (time.perf_counter() - began))
    return found


async def load(url: str, routes: Mapping[str, str], seconds: float) -> tuple[Mapping[str, list[float]], int, int]:
    """Milliseconds of each route under load, failures, and answers with rows of two commits."""
    found: dict[str, list[float]] = defaultdict(list)
    failed, mixed = 0, 0
    until = time.monotonic() + seconds
    drawn = random.Random(1)  # noqa: S311 - a mix of requests, not secrets

    async def client() -> None:
        """One dashboard that asks without pause."""
        nonlocal failed, mixed
        async with httpx.AsyncClient(base_url=url, timeout=120) as session:
            tags: dict[str, str] = {}
            while time.monotonic() < until:
                name = drawn.choice([*routes, "polling", "two halves"])
                route = {"polling": routes["trends"], "two halves": MIXED}.get(name) or routes[name]
                headers = {"If-None-Match": tags.get(route, "")} if name == "polling" else {}
                began = time.perf_counter()
                answer = await session.get(route, headers=headers)
                found["polling, 304" if answer.status_code == 304 else name].append(
                    1000 * (time.perf_counter() - began)
                )
                tags[route] = answer.headers.get("etag", "")
                failed += answer.status_code not in {200, 304}
                if name == "two halves" and answer.status_code == 200:
                    mixed += len({value for row in answer.json()["data"] for value in row.values()}) != 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return found, failed, mixed


def under_load(url: str, root: Path, routes: Mapping[str, str], rows: int, seconds: float) -> tuple[Any, int]:
    """What `load` gives while commits happen, and how many there were."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        stop, count = context.Event(), manager.list([0])
        writer = context.Process(target=commit_until, args=(root, rows // 6, EVERY, stop, count))
        writer.start()
        result = asyncio.run(load(url, routes, seconds))
        stop.set()
        writer.join()
        return result, count[0]


def p95(values: list[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def main() -> None:
    """Measure, print, and write the section `api` of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--print", action="store_true", help="leave the page as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-api-") as folder:
        home = Path(folder)
        store = fill(home / "store", options.rows)
        routes = {name: route.format(deep=options.rows * 9 // 10 // 50) for name, route in ROUTES.items()}
        tables = native(store, home, options.rows)
        with served(home) as url:
            single = alone(url, routes)
            (busy, failed, mixed), commits = under_load(url, store.root, routes, options.rows, options.seconds)
    lines = [
        (
            f"{options.rows:,} joined rows in {DAYS} days, {options.rows // 6:,} records with 600 characters of text; "
            f"milliseconds. Load: {CLIENTS} clients for {options.seconds:g} s, {commits} commits meanwhile, "
            f"{sum(map(len, busy.values())):,} answers, {failed} failed, {mixed} of two versions."
        ),
        "",
        "| endpoint | first | again p50 | p95 | native p50 | again / native | load p50 | load p95 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys([*routes, *sorted(busy)]):
        again = single.get(name, [])[1:]
        own = f"{single[name][0]:,.0f} | {statistics.median(again):,.0f} | {p95(again):,.0f}" if again else " | | "
        beside = f"{tables[name]:,.0f} | {statistics.median(again) / tables[name]:.1f}" if name in tables else " | "
        loaded = f"{statistics.median(busy[name]):,.0f} | {p95(busy[name]):,.0f}" if busy.get(name) else " | "
        lines.append(f"| {name} | {own} | {beside} | {loaded} |")
    if options.print:
        print("\n".join(lines))
    else:
        record("api", "make bench", lines)


if __name__ == "__main__":
    main()
