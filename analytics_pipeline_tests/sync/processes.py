"""Processes of the tests of whole syncs: one that writes pairs, one that syncs and may be killed, stopped or starved.

They come from a fork server that has everything imported.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum, auto
from functools import partial
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg

from analytics_pipeline.errors import AnalyticsError, IncompatibleColumn
from analytics_pipeline.store import CompactionRules, open_store
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline_tests.sync.scenario import NOW, UNPARTITIONED, job_of, spec_of

PAIRS_AT_START = 200
SLEEPING = spec_of(dataset_query="SELECT r.* FROM records AS r, pg_sleep(60)")
"""A dataset whose query takes a minute."""


def context() -> ForkServerContext:
    """The fork server, with the syncs imported."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    return server


def start(target: Callable[..., None], *args: object) -> ForkServerProcess:
    """A process that runs a function of this module."""
    process = context().Process(target=target, args=args, daemon=True)
    process.start()
    return process


def write_pairs(url: str, stop: Event, begun: Event) -> None:
    """Commit a record with its scores in one transaction, and every 200 of these empty both and fill them anew."""
    number = PAIRS_AT_START
    with psycopg.connect(url) as connection:
        while not stop.is_set():
            number += 1
            if number % 200 == 0:
                connection.execute("TRUNCATE records, scores")
                connection.execute("INSERT INTO records SELECT g, '2024-01-02', 'again' FROM generate_series(1, 200) g")
                connection.execute(
                    "INSERT INTO scores SELECT g, '2024-01-03', m, 1 FROM generate_series(1, 200) g, "
                    "unnest(ARRAY['x', 'y']) AS m"
                )
            day = 1 + number % 10
            connection.execute("INSERT INTO records VALUES (%s, make_date(2024, 1, %s), 'new')", (number, day))
            connection.execute("INSERT INTO scores VALUES (%s, make_date(2024, 1, %s), 'x', 1)", (number, 11 - day))
            connection.execute("INSERT INTO scores VALUES (%s, NULL, 'y', 1)", (number,))
            connection.commit()
            begun.set()


_STEPS = ("link", "symlink", "fsync", "rename", "replace", "mkdir", "rmdir", "unlink")


NEVER = -1
"""The step before which nobody is killed."""


class Verb(StrEnum):
    """What a process does with a store."""

    REFRESH = auto()
    AUDIT = auto()
    REBUILD = auto()
    COMPACT = auto()
    SWEEP = auto()


def sync_until_killed(root: Path, url: str, step: int) -> None:
    """A refresh that is killed before the given call that changes the disk; ends by itself if there is none."""
    store = open_store(root)
    _kill_before(step)
    job_of(store, url).refresh(now=NOW)


def work_until_killed(
    root: Path,
    url: str,
    spec: SplitSyncSpec,
    now: datetime,
    rows_per_step: int,
    verb: Verb,
    step: int,
    rules: CompactionRules,
) -> None:
    """Some work that is killed before the given call that changes the disk, or the line of the log that comes then."""
    store = open_store(root, grace=timedelta(0) if verb is Verb.SWEEP else timedelta(hours=1))
    counted = _kill_before(step)
    job = job_of(store, url, spec, log=counted(lambda _: None), pauses=(0.1, 0.2, 0.4, 0.8))
    job = replace(job, rows_per_step=rows_per_step)
    work: dict[Verb, Callable[[], object]] = {
        Verb.REFRESH: partial(job.refresh, now=now),
        Verb.AUDIT: partial(job.audit, now=now),
        Verb.REBUILD: partial(job.rebuild, now=now),
        Verb.COMPACT: partial(store.compact, rules),
        Verb.SWEEP: store.sweep,
    }
    with suppress(IncompatibleColumn):
        work[verb]()


def work_until(root: Path, url: str, told: Path, verb: Verb, place: str) -> None:
    """A sync that is killed where it calls or returns from a function, as in `return store.commit._claim`."""
    job = replace(job_of(open_store(root, grace=timedelta(0)), url), rows_per_step=1)

    def seen(at: str) -> None:
        if at == place:
            told.write_text(at)
            os.kill(os.getpid(), signal.SIGKILL)

    _watched(seen)
    if verb is Verb.REBUILD:
        job.rebuild(now=NOW)
    else:
        job.refresh(now=NOW)


def refresh_for(root: Path, url: str, told: Path, events: int) -> None:
    """A refresh that is killed after so many calls and returns; if it does not come so far, it tells how many came."""
    seen = 0

    def count(_: str) -> None:
        nonlocal seen
        seen += 1
        if seen == events:
            os.kill(os.getpid(), signal.SIGKILL)

    _watched(count)
    job_of(open_store(root, grace=timedelta(0)), url).refresh(now=NOW)
    told.write_text(str(seen))


def _watched(seen: Callable[[str], None]) -> None:
    """Have each call of a function of the package, and each return from one, told from now on, in all threads."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event in {"call", "return"} and module.startswith("analytics_pipeline."):
            seen(f"{event} {module.removeprefix('analytics_pipeline.')}.{frame.f_code.co_qualname}")

    threading.setprofile(profile)
    sys.setprofile(profile)


def _kill_before(step: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have this process killed before a call that changes the disk; gives what counts further calls with these."""
    calls = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return function(*args, **kwargs)

        return call

    for name in _STEPS:
        setattr(os, name, counted(getattr(os, name)))
    return counted


def sync_and_tell(root: Path, url: str, told: Path, partitioned: bool = True) -> None:  # noqa: FBT001, FBT002
    """A refresh whose log lines go to a file as they come."""
    descriptor = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    spec = spec_of() if partitioned else spec_of(**UNPARTITIONED)
    job_of(open_store(root), url, spec, log=lambda line: _write(descriptor, line)).refresh(now=NOW)
    _write(descriptor, "done")


def sync_with_small_files(root: Path, url: str, limit: int, told: Path) -> None:
    """A refresh in a process that may not write files beyond a size: what a full disk looks like without being root."""
    store = open_store(root)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        job_of(store, url).refresh(now=NOW)
    except AnalyticsError as error:
        message = f"{type(error).__name__}: {error}"
        told.write_text(message)


def _write(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode())


def sync_like_a_program(root: Path, url: str, told: Path) -> None:
    """A refresh in a process whose signals a library has made resume waits, again and again."""

    def log(line: str) -> None:
        signal.siginterrupt(signal.SIGINT, False)  # noqa: FBT003 - the signature of the standard library
        with told.open("a") as file:
            file.write(f"{line}\n")

    log("begun")
    job_of(open_store(root), url, SLEEPING, log=log, pauses=(30.0,)).refresh(now=NOW)
