"""Shared by the test_postgres_* modules: read a query whole, and a TCP way to the server that can freeze."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import psycopg
import pyarrow as pa
from pydantic import SecretStr

from analytics_pipeline.sync.postgres.describe import describe
from analytics_pipeline.sync.postgres.readers import ReadRequest, Tier, stream
from analytics_pipeline.sync.postgres.session import connect
from analytics_pipeline.sync.postgres.snapshot import open_snapshot
from analytics_pipeline.sync.postgres.types import ColumnRule, rule_for


def execute(url: str, *statements: str) -> None:
    """Run statements, each committed."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def rules_of(url: str, query: str) -> list[ColumnRule]:
    connection = connect(SecretStr(url))
    try:
        return [rule_for(column) for column in describe(connection, query)]
    finally:
        connection.close()


def read(
    url: str,
    query: str,
    tier: Tier | None = None,
    *,
    partition_column: str | None = None,
    workers: int = 3,
    where: str | None = None,
    query_timeout: float | None = 60.0,
    notices: list[str] | None = None,
    rules: Sequence[ColumnRule] | None = None,
) -> pa.Table:
    """The whole result of a query."""
    told = [] if notices is None else notices
    request = ReadRequest(
        query=query,
        rules=rules if rules is not None else rules_of(url, query),
        where=where,
        partition_column=partition_column,
        workers=workers,
        batch_rows=100,
        stall_timeout=30.0,
        tier=tier,
    )
    with (
        open_snapshot(SecretStr(url), [query], query_timeout=query_timeout, on_notice=told.append) as snapshot,
        stream(snapshot, request, on_notice=told.append) as rows,
    ):
        return pa.Table.from_batches(rows, schema=rows.schema)


class Proxy:
    """Forwards TCP connections to a Unix socket until it is frozen: then it holds every byte back, and stays open."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        folder = parse_qs(self._parts.query)["host"][0]
        self._target = f"{folder}/.s.PGSQL.5432"
        self._flows = threading.Event()
        self._flows.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"postgresql://{self._parts.username}@{host}:{port}{self._parts.path}"

    def freeze(self) -> None:
        self._flows.clear()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._flows.set()
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                server.connect(self._target)
                for source, sink in ((client, server), (server, client)):
                    thread = threading.Thread(target=self._forward, args=(source, sink), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
