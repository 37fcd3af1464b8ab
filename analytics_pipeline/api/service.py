"""The service: how a question reaches the store, and how its answer gets back, for every route alike.

Belongs here: the limit of queries at once, the time limit, the version that a request reads, its ETag.
Does not: what is asked (`questions`), under which path (`routes`).

DuckDB works in threads, never on the event loop. A request reads one version of the store from beginning to end, the
newest when it began; a commit is visible to the next request.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import polars as pl
from fastapi import Request, Response
from pydantic import BaseModel

from analytics_pipeline.api.answers import Answers, Tagged
from analytics_pipeline.api.datasets import Datasets, Target
from analytics_pipeline.api.etag import etag, is_known
from analytics_pipeline.api.parameters import among_visible
from analytics_pipeline.api.questions.order import Bucket
from analytics_pipeline.api.questions.paging import Count, Counted, count_with
from analytics_pipeline.api.table import TIME, Ask, Rows, is_published, published_columns
from analytics_pipeline.errors import (
    QueryTimedOut,
    RequestTimedOut,
    StaleReader,
    StoreError,
    StoreNotFound,
    StoreUnreadable,
    TableNotAvailable,
    TableSyncing,
)
from analytics_pipeline.settings import ApiSettings
from analytics_pipeline.store import JsonObject, Manifest, Parameter, Reading, Store, open_store
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline.sync.status import DatasetStatus, State, read_status
from analytics_pipeline.sync.view import epoch_of

logger = logging.getLogger(__name__)

_KEPT_COUNTS = 64
_MOST_BUCKETS = 10_000
_REVALIDATE = {"Cache-Control": "private, no-cache"}

T = TypeVar("T")


def _nothing(_metadata: JsonObject) -> None:
    """Most answers do not come from metadata."""


@dataclass(frozen=True)
class Published:
    """A published table in the version that a request reads.

    Args:
        target: the table.
        manifest: of the version.
        rows: all rows of the table.
        ask: for them.
        count: their buckets.
    """

    target: Target
    manifest: Manifest
    rows: Rows
    ask: Ask
    count: Count

    @property
    def metadata(self) -> JsonObject | None:
        """What was counted of the table with its commit."""
        kept = self.manifest.metadata.get(self.target.table)
        return kept.value if kept else None

    def visible(self, metric: str | None) -> Rows:
        """The rows of the metrics that the dataset shows, or of all where one is named."""
        return self.rows if metric is not None else among_visible(self.rows, self.target.spec.visible_metrics)


class Service:
    """Everything that routes share; one for each application.

    Args:
        settings: limits.
        root: the store's folder; it may come into being later.
        specs: of all datasets.
    """

    def __init__(self, settings: ApiSettings, root: Path, specs: Iterable[SplitSyncSpec]) -> None:
        self.settings = settings
        self.datasets = Datasets(specs)
        self._root = root
        self._rules = _digest(self.datasets)
        self._slots = anyio.Semaphore(settings.concurrency)
        self._threads = anyio.CapacityLimiter(settings.concurrency)
        self._answers = Answers()
        self._guard = threading.Lock()
        self._opened: Store | None = None
        self._counts: OrderedDict[tuple[object, ...], Sequence[Counted]] = OrderedDict()

    def store(self) -> Store | None:
        """The published store; None where nothing was published yet.

        Raises:
            StoreUnreadable: it is there and cannot be opened.
        """
        with self._guard:
            if self._opened is None:
                try:
                    self._opened = open_store(self._root)
                except StoreNotFound:
                    return None
                except (StoreError, OSError) as error:
                    raise _unreadable(error) from error
            return self._opened

    def version(self) -> Manifest:
        """The newest version's state.

        Raises:
            StoreUnreadable: it cannot be read.
        """
        store = self.store()
        try:
            return store.manifest() if store else Manifest()
        except (StoreError, OSError) as error:
            raise _unreadable(error) from error

    def status(self, spec: SplitSyncSpec) -> DatasetStatus:
        """What is known of a dataset.

        Raises:
            StoreUnreadable: it cannot be told without the store, which cannot be read.
        """
        store = self.store()
        try:
            return read_status(store, spec) if store else DatasetStatus(spec.name)
        except (StoreError, OSError) as error:
            raise _unreadable(error) from error

    async def answer(
        self,
        request: Request,
        name: str,
        parameters: BaseModel,
        question: Callable[[Published], BaseModel],
        *,
        stored: Callable[[JsonObject], BaseModel | None] = _nothing,
    ) -> Response:
        """The answer to a question about a table, or 304 where the request has it already.

        Args:
            request: for its path, and the tags that it knows.
            name: of a dataset or table.
            parameters: in their normal form.
            question: works in a thread.
            stored: gives the answer from the table's metadata, if that suffices; then nothing waits for a free slot.

        Raises:
            ApiError: there is no answer.
        """
        normal = parameters.model_dump_json()

        def tag(manifest: Manifest) -> str:
            return etag(manifest, self._rules, request.url.path, normal)

        target = self.datasets.target(name)
        manifest = await anyio.to_thread.run_sync(self.version)
        is_there = is_published(manifest, target.table)
        if is_there and is_known(tag(manifest), request.headers.getlist("if-none-match")):
            return Response(status_code=304, headers={**_REVALIDATE, "ETag": tag(manifest)})
        kept = manifest.metadata.get(target.table)
        answer = stored(kept.value) if kept and is_there else None
        if answer is not None:
            return _response(Tagged(answer.model_dump_json(), tag(manifest)))

        def work(published: Published) -> Tagged:
            return Tagged(question(published).model_dump_json(), tag(published.manifest))

        return _response(await self._answers.once(tag(manifest), lambda: self._read(target, work)))

    async def _read(self, target: Target, work: Callable[[Published], T]) -> T:
        seconds = self.settings.timeout
        deadline = time.monotonic() + seconds
        with anyio.move_on_after(seconds) as waiting:
            await self._slots.acquire()
        if waiting.cancelled_caught:
            raise RequestTimedOut(seconds)
        try:
            return await anyio.to_thread.run_sync(
                lambda: self._in_one_version(target, deadline, work), limiter=self._threads
            )
        except QueryTimedOut as error:
            raise RequestTimedOut(seconds) from error
        except (StoreError, OSError) as error:
            raise _unreadable(error) from error
        finally:
            self._slots.release()

    def _in_one_version(self, target: Target, deadline: float, work: Callable[[Published], T]) -> T:
        store = self.store()
        if store is None:
            raise self._missing(target)
        try:
            with store.reading() as reading:
                return work(self._published(reading, target, deadline))
        except StaleReader:  # swept while it was read; the newest version is there
            with store.reading() as reading:
                return work(self._published(reading, target, deadline))

    def _published(self, reading: Reading, target: Target, deadline: float) -> Published:
        columns = published_columns(reading, target.table, epoch_of(reading.manifest, target.spec, TIME))
        if columns is None:
            raise self._missing(target)

        def ask(sql: str, values: Mapping[str, Parameter]) -> pl.DataFrame:
            return reading.query(sql, values or None, timeout=max(deadline - time.monotonic(), 0.0))

        count = self._counting(reading.manifest, ask)
        return Published(target, reading.manifest, Rows(target.table, columns), ask, count)

    def _missing(self, target: Target) -> TableNotAvailable | TableSyncing:
        syncing = self.status(target.spec).state is State.SYNCING
        return TableSyncing(target.label) if syncing else TableNotAvailable(target.label)

    def _counting(self, manifest: Manifest, ask: Ask) -> Count:
        """Counts buckets, or remembers them: a version never changes."""
        fresh = count_with(ask)

        def count(rows: Rows, bucket: Bucket) -> Sequence[Counted]:
            """What `fresh` counts, once a version."""
            key = (manifest.version, manifest.committed_at, rows.sql, *rows.values.items(), bucket.order)
            with self._guard:
                if key in self._counts:
                    self._counts.move_to_end(key)
                    return self._counts[key]
            counted = fresh(rows, bucket)
            if len(counted) <= _MOST_BUCKETS:
                with self._guard:
                    self._counts[key] = counted
                    while len(self._counts) > _KEPT_COUNTS:
                        self._counts.popitem(last=False)
            return counted

        return count


def _response(answer: Tagged) -> Response:
    return Response(answer.body, media_type="application/json", headers={**_REVALIDATE, "ETag": answer.tag})


def _digest(datasets: Datasets) -> str:
    specs = "\n".join(spec.model_dump_json() for spec in datasets.specs.values())
    return hashlib.sha256(specs.encode()).hexdigest()


def _unreadable(error: StoreError | OSError) -> StoreUnreadable:
    logger.error("The store cannot be read: %s", error, exc_info=error)
    return StoreUnreadable()
