"""PgBouncer in transaction mode in front of any server.

Belongs here: finding the program, its configuration, start and stop.
Does not: the servers behind it (`postgres`), fixtures (`fixtures`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from analytics_pipeline_tests.servers.postgres import account

PORT = 6432


def program() -> str | None:
    """Where PgBouncer is installed; Debian puts it where only root's PATH looks."""
    return shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")))


class PgBouncer:
    """A running PgBouncer, within a `with`.

    Args:
        folder: an empty folder that other accounts can reach; holds its configuration, its log and its socket.
        server: the URL of any database of the server behind it.
        pool_size: server connections for each pair of user and database.
        roles: those that may log in, all without a password.
        settings: further settings of its section `[pgbouncer]`.
    """

    def __init__(
        self,
        folder: Path,
        server: str,
        pool_size: int,
        *,
        roles: Sequence[str] = ("postgres",),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._server = conninfo_to_dict(server)
        self._roles = roles
        self._settings = {
            "listen_addr": "",
            "listen_port": str(PORT),
            "unix_socket_dir": str(folder),
            "auth_type": "trust",
            "auth_file": str(folder / "users.txt"),
            "admin_users": "postgres",
            "pool_mode": "transaction",
            "default_pool_size": str(pool_size),
            "logfile": str(folder / "pgbouncer.log"),
        } | dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str, role: str = "postgres") -> str:
        """The connection string of one database through the pooler."""
        return f"postgresql://{role}@/{quote(database, safe='')}?host={quote(str(self.folder))}&port={PORT}"

    def shown(self, what: str) -> Sequence[Mapping[str, object]]:
        """What its console answers to `SHOW <what>`, for example `pools`, `clients` or `servers`."""
        with psycopg.connect(self.url("pgbouncer"), autocommit=True) as connection:
            cursor = connection.execute(f"SHOW {what}".encode(), prepare=False)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def __enter__(self) -> Self:
        target = " ".join(f"{name}={self._server[name]}" for name in ("host", "port"))
        lines = ["[databases]", f"* = {target}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in self._settings.items()]
        (self.folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]))
        (self.folder / "users.txt").write_text("".join(f'"{role}" ""\n' for role in self._roles))
        runs_as = account()
        if runs_as:
            os.chown(self.folder, runs_as.uid, runs_as.gid)
        found = program()
        assert found is not None
        self._process = subprocess.Popen(
            [found, "--quiet", str(self.folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=runs_as.uid if runs_as else None,
            group=runs_as.gid if runs_as else None,
            extra_groups=[] if runs_as else None,
        )
        deadline = time.monotonic() + 30
        while not (self.folder / f".s.PGSQL.{PORT}").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError(f"PgBouncer has not started: {self._log()}")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _log(self) -> str:
        log = self.folder / "pgbouncer.log"
        return log.read_text(errors="replace")[-1000:] if log.exists() else "it wrote no log"
