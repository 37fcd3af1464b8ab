"""Servers of an installed PostgreSQL: a primary, a streaming standby, and the settings that they run with.

Belongs here: finding the installed releases, starting and stopping their servers, a new database of a test.
Does not: the pooler in front of a server (`pgbouncer`), fixtures (`fixtures`).
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from analytics_pipeline.sample.programs import UNPRIVILEGED_USER, Account, Programs
from analytics_pipeline.sample.server import SETTINGS, EmbeddedPostgres

DEBIAN = Path("/usr/lib/postgresql")
"""Debian installs each major release into a folder of its own here."""
TIME_ZONE = "America/St_Johns"
"""Neither UTC nor a whole number of hours away from it, and with daylight saving time."""
PROGRAMS_VARIABLE = "ANALYTICS_TEST_POSTGRES"
"""Names a folder of PostgreSQL's programs, to run the tests on that release in place of the embedded one."""


def account() -> Account | None:
    """The account that servers and poolers run as; None for ourselves, where we are not root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(UNPRIVILEGED_USER)
    return Account(entry.pw_uid, entry.pw_gid)


def installed() -> Sequence[Path]:
    """The folders of programs of Debian's releases, the oldest first."""
    releases = (path.parent for path in DEBIAN.glob("*/bin/postgres"))
    return sorted(releases, key=lambda folder: int(folder.parent.name))


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that other accounts can reach, as pytest's own cannot; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="analytics-servers-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_database(server: str, options: str = "", stem: str = "test") -> Iterator[str]:
    """The URL of a new database of a server, dropped afterwards; `server` is the URL of its database `postgres`."""
    name = f"{stem}_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {options}'.encode())
    yield server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def database_of(url: str) -> str:
    """The name of the database that a URL of these fixtures names."""
    return url.partition("@/")[2].partition("?")[0]


class InstalledPostgres(EmbeddedPostgres):
    """A primary of an installed release, in another time zone than UTC.

    Args:
        data_dir: the data folder, made at the first start; other accounts must be able to reach it.
        programs: the folder of `initdb`, `pg_ctl` and `postgres`.
        settings: replace or extend the settings that it starts with.
    """

    def __init__(self, data_dir: Path, programs: Path, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(data_dir)
        self.programs = programs
        self._changes = settings or {}

    def _programs(self) -> Programs:
        return Programs(self.programs, account())

    def _fill_data_folder(self, programs: Programs, folder: Path) -> None:
        arguments = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--lc-ctype=C.UTF-8")
        programs.run("initdb", [*arguments, "--no-sync", "--no-instructions"], folder)

    def _settings(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in SETTINGS.items() if name != "io_method"}  # came with PostgreSQL 18
        replicating = {"wal_level": "replica", "max_wal_senders": "8"}
        return inherited | replicating | {"timezone": TIME_ZONE} | dict(self._changes)


def chosen_server(data_dir: Path) -> EmbeddedPostgres:
    """The server that the tests run on: the embedded one, or the one that `ANALYTICS_TEST_POSTGRES` names."""
    programs = os.environ.get(PROGRAMS_VARIABLE)
    return InstalledPostgres(data_dir, Path(programs)) if programs else EmbeddedPostgres(data_dir)


class Standby(InstalledPostgres):
    """A streaming standby; the primary must be running when it is made.

    Args:
        data_dir: its data folder.
        primary: the server that it follows.
    """

    def __init__(self, data_dir: Path, primary: InstalledPostgres) -> None:
        # A query that conflicts with recovery is cancelled at once, and not after the default 30 seconds.
        super().__init__(data_dir, primary.programs, {"hot_standby": "on", "max_standby_streaming_delay": "0"})
        self.primary = primary

    def _fill_data_folder(self, programs: Programs, folder: Path) -> None:
        source = self.primary.url("postgres").get_secret_value()
        arguments = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--dbname={source}")
        programs.run("pg_basebackup", arguments, folder)

    def catch_up(self, seconds: float = 30.0) -> None:
        """Wait until it has replayed all that the primary has committed.

        Raises:
            TimeoutError: it has not done so in time.
        """
        written = _answer(self.primary, "SELECT pg_current_wal_lsn()")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
        deadline = time.monotonic() + seconds
        while not _answer(self, replayed):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the standby has not reached {written} after {seconds:.0f} s")
            time.sleep(0.01)

    def promote(self) -> None:
        """Make it a primary of a new timeline; returns when it takes writes."""
        self._programs().run("pg_ctl", ["promote", "-w", "-t", "60", "-s"], self.data_dir)


def _answer(server: EmbeddedPostgres, query: str) -> Any:
    with psycopg.connect(server.url("postgres").get_secret_value(), autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None
