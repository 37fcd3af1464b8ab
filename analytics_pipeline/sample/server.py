"""The embedded PostgreSQL: one server over one data folder, shared safely by any number of processes.

Belongs here: making the data folder, start, stop, the server's address; whoever starts or stops holds `<name>.lock`
beside the data folder.
Does not: the programs themselves (`programs`), how long the server stays up (`lease`), what is in it (`data`).

A crash of the server loses nothing that was committed, a power cut may: fsync is off, for the sample can be made anew.
Never keep other data in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import SecretStr

from analytics_pipeline.errors import SampleFolderClosed, SampleServerFailed
from analytics_pipeline.sample.programs import Programs, find_programs
from analytics_pipeline.waiting import flock

StopMode = Literal["fast", "immediate"]

PORT = 5432
PROCESSES = Path("/proc")
LONGEST_SOCKET_PATH = 103
"""Bytes in a Unix socket's path: 107 on Linux, 103 on macOS."""
SETTINGS = {
    "autovacuum": "off",  # its ANALYZE takes transaction numbers, so that an idle source would look changed
    "fsync": "off",
    "full_page_writes": "off",
    "io_method": "sync",
    "listen_addresses": "",
    "log_timezone": "UTC",
    "max_connections": "50",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "port": str(PORT),
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "unix_socket_directories": ".",  # below the data folder, whatever the length of its path
    "wal_level": "minimal",
}
INITDB_ARGUMENTS = (
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",
    "--no-instructions",
)


class EmbeddedPostgres:
    """A PostgreSQL server of our own over `data_dir`, reachable through a Unix socket only.

    Args:
        data_dir: the data folder, made at the first start; files of the same name stand beside it.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self._pid_file = self.data_dir / "postmaster.pid"
        self._lock = self.data_dir.with_name(f"{self.data_dir.name}.lock")

    def __repr__(self) -> str:
        return f"EmbeddedPostgres({str(self.data_dir)!r})"

    def start(self) -> None:
        """Make the data folder if need be and see to it that the server answers; does nothing where it does.

        Raises:
            SampleNotInstalled: the extra `sample` is missing.
            SampleFolderClosed: the folder belongs to another user.
            SampleServerFailed: PostgreSQL refused; the message holds its own words.
        """
        with locked(self._lock, fcntl.LOCK_EX):
            if not self.data_dir.exists():
                self._make_data_folder()
            elif not os.access(self.data_dir, os.R_OK | os.W_OK | os.X_OK):
                raise SampleFolderClosed(self.data_dir)
            self._link_socket()
            deadline = time.monotonic() + 60
            while not self._answers():
                if not self.is_running():
                    self._launch()
                elif time.monotonic() > deadline:
                    raise SampleServerFailed("postgres", self.data_dir, self._log_tail())
                else:  # its starter was killed while it recovered, or it is just being killed itself
                    time.sleep(0.02)

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server whoever uses it; does nothing where none runs.

        Args:
            mode: `fast` ends sessions and shuts down in order; `immediate` is a crash with recovery at the next start.
        """
        if not self.data_dir.exists():
            return
        with locked(self._lock, fcntl.LOCK_EX):
            if self.is_running():
                self._halt(mode)
            link = self._socket_link()
            if link.is_symlink() and link.lstat().st_uid == os.geteuid():
                link.unlink(missing_ok=True)

    def is_running(self) -> bool:
        """Whether a postmaster of this data folder is alive; it may still be starting."""
        pid = self.pid()
        if pid is None:
            return False
        if PROCESSES.is_dir():  # after a crash the number may be some other process's by now
            with suppress(OSError):
                return (PROCESSES / str(pid) / "cwd").samefile(self.data_dir)
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def pid(self) -> int | None:
        """The postmaster's process number as it wrote it down, alive or not; None where it wrote none."""
        lines = self._pid_lines()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    def url(self, database: str) -> SecretStr:
        """The connection string of one database; the server need not run."""
        folder = quote(str(self._socket_folder()))
        return SecretStr(f"postgresql://postgres@/{quote(database, safe='')}?host={folder}&port={PORT}")

    def _make_data_folder(self) -> None:
        """Under the lock: initdb beside the place, then rename, so that a killed one leaves nothing half-made."""
        building = self.data_dir.with_name(f"{self.data_dir.name}.new")
        programs = self._programs()
        try:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(mode=0o700)
            if programs.account:
                os.chown(building, programs.account.uid, programs.account.gid)
            self._fill_data_folder(programs, building)
            building.rename(self.data_dir)
        except PermissionError as error:
            raise SampleFolderClosed(self.data_dir) from error

    def _programs(self) -> Programs:
        return find_programs(self.data_dir)

    def _fill_data_folder(self, programs: Programs, folder: Path) -> None:
        programs.run("initdb", INITDB_ARGUMENTS, folder)

    def _settings(self) -> Mapping[str, str]:
        return SETTINGS

    def _launch(self) -> None:
        """Under the lock: start the postmaster, which waits for its socket and for crash recovery."""
        self._disown_stale_pid()
        options = " ".join(f"-c {name}={value}" for name, value in self._settings().items())
        arguments = ["start", "-w", "-t", "60", "-s", "-l", "server.log", "-o", options]
        programs = self._programs()
        deadline = time.monotonic() + 30
        while True:
            try:
                programs.run("pg_ctl", arguments, self.data_dir)
            except SampleServerFailed as error:
                # Sessions of a killed postmaster need a moment to notice; until then they hold its shared memory.
                log = self._log_tail()
                if "pre-existing shared memory block" not in log or time.monotonic() > deadline:
                    raise SampleServerFailed("pg_ctl start", self.data_dir, f"{error.output}\n{log}") from error
                time.sleep(0.1)
            else:
                return

    def _disown_stale_pid(self) -> None:
        """Keep a recycled process number from passing for a live postmaster.

        PostgreSQL refuses to start while the number in one of its lock files belongs to any process of the same user,
        except the parent of pg_ctl: so it is made ours. The pid file itself stays, for the shared memory it names is
        checked; the socket's lock guards nothing that the pid file does not.
        """
        (self.data_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
        lines = self._pid_lines()
        if len(lines) > 1:
            self._pid_file.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))

    def _halt(self, mode: StopMode) -> None:
        try:
            self._programs().run("pg_ctl", ["stop", "-w", f"--mode={mode}", "-t", "60"], self.data_dir)
        except SampleServerFailed:
            if self.is_running():  # otherwise somebody killed it meanwhile, which is as good
                raise

    def _answers(self) -> bool:
        """Whether the server has written that it is ready, and somebody listens."""
        if not any(line.strip() == "ready" for line in self._pid_lines()[7:]):
            return False
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(f"{self._socket_folder()}/.s.PGSQL.{PORT}")
            return True
        return False

    def _pid_lines(self) -> list[str]:
        try:
            return self._pid_file.read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise SampleFolderClosed(self.data_dir) from error

    def _log_tail(self) -> str:
        log = self.data_dir / "server.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""

    def _socket_folder(self) -> Path:
        """The data folder, by its own name if clients can use that; a comma would mean two hosts to them."""
        name = str(self.data_dir)
        fits = len(os.fsencode(f"{name}/.s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH
        return self.data_dir if fits and "," not in name else self._socket_link()

    def _socket_link(self) -> Path:
        """A short name for the data folder, for clients whose socket path must be short."""
        name = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"analytics-pipeline-{os.geteuid()}-{name}"

    def _link_socket(self) -> None:
        link = self._socket_link()
        if self._socket_folder() != link:
            return
        if link.is_symlink() and link.lstat().st_uid == os.geteuid() and link.readlink() == self.data_dir:
            return
        try:
            if link.is_symlink():
                link.unlink()
            link.symlink_to(self.data_dir)
        except OSError as error:
            raise SampleServerFailed("making a short name for the socket", link, str(error)) from error


@contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock file; `kind` is `fcntl.LOCK_EX` or `fcntl.LOCK_SH`. A killed holder lets go by itself."""
    file = open_lock(path)
    try:
        flock(file, kind)
        yield
    finally:
        os.close(file)


def open_lock(path: Path) -> int:
    """Open a lock file, made with its folder if need be; the caller locks and closes it.

    Reading rights are enough to lock, so a file that root made serves its folder's owner too.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except PermissionError as error:
        raise SampleFolderClosed(path.parent) from error
    except OSError as error:
        raise SampleServerFailed("making a lock file", path.parent, str(error)) from error
