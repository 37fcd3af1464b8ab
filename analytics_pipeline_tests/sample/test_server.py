"""The embedded server: one postmaster whatever happens, and none left behind."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.errors import SampleFolderClosed, SampleServerFailed
from analytics_pipeline.sample import programs
from analytics_pipeline.sample.lease import Lease, keep_running, let_stop, stop_if_unused
from analytics_pipeline.sample.server import EmbeddedPostgres

HOLD_A_LEASE = """
import sys
from pathlib import Path
from analytics_pipeline.sample.lease import Lease
with Lease(Path(sys.argv[1])) as lease:
    print(lease.server.pid(), flush=True)
    sys.stdin.read()
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres")
    yield server
    server.stop("immediate")


def hold_lease(data_dir: Path) -> subprocess.Popen[str]:
    """Another process that holds a lease until its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD_A_LEASE, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(server: EmbeddedPostgres, question: str) -> object:
    with psycopg.connect(server.url("postgres").get_secret_value()) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def crash(server: EmbeddedPostgres) -> None:
    """Kill -9 the postmaster, whose pid file stays."""
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server.is_running())


def test_eight_processes_that_start_at_once_share_one_postmaster(server: EmbeddedPostgres) -> None:
    processes = [hold_lease(server.data_dir) for _ in range(8)]
    pids = {first_line(process) for process in processes}
    for process in processes:
        process.communicate(timeout=60)

    assert len(pids) == 1
    assert [process.returncode for process in processes] == [0] * 8
    assert not server.is_running(), "the last of them stops it"


def test_the_last_lease_stops_the_server_and_no_earlier_one(server: EmbeddedPostgres) -> None:
    other = hold_lease(server.data_dir)
    assert first_line(other)

    with Lease(server.data_dir):
        pass
    assert server.is_running()

    other.communicate(timeout=60)
    assert not server.is_running()


def test_a_killed_user_does_not_keep_the_server(server: EmbeddedPostgres) -> None:
    other = hold_lease(server.data_dir)
    assert first_line(other)
    other.kill()
    other.communicate(timeout=60)

    with Lease(server.data_dir):
        assert ask(server, "SELECT 1") == 1
    assert not server.is_running()


def test_a_server_asked_to_keep_running_outlives_its_leases(server: EmbeddedPostgres) -> None:
    with Lease(server.data_dir):
        keep_running(server)
    assert server.is_running()

    let_stop(server)
    with Lease(server.data_dir):
        assert not stop_if_unused(server), "somebody uses it"
    assert not server.is_running()


def test_stopping_what_was_never_started_makes_nothing(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "none" / "postgres")

    server.stop()

    assert stop_if_unused(server)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [crash, lambda server: server.stop("immediate")], ids=["kill -9", "immediate"])
def test_data_outlives_a_crash(server: EmbeddedPostgres, ending: Callable[[EmbeddedPostgres], None]) -> None:
    server.start()
    with psycopg.connect(server.url("postgres").get_secret_value()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")

    ending(server)
    server.start()

    assert ask(server, "SELECT value FROM kept") == 7


def test_a_pid_file_whose_number_now_belongs_to_another_process_is_no_server(server: EmbeddedPostgres) -> None:
    """After a reboot the number is somebody else's: PostgreSQL itself would refuse to start for ever."""
    server.start()
    crash(server)
    pid_file = server.data_dir / "postmaster.pid"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *pid_file.read_text().splitlines()[1:], ""]))

        assert not server.is_running()
        server.start()

        assert ask(server, "SELECT 1") == 1
        stranger.communicate(b"\n", timeout=60)


def test_a_start_that_was_killed_in_initdb_is_made_anew(server: EmbeddedPostgres) -> None:
    half_made = server.data_dir.with_name("postgres.new")
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")

    server.start()

    assert ask(server, "SELECT 1") == 1
    assert not half_made.exists()


@pytest.mark.parametrize("name", ["long" * 30, "a,comma", "a space & a 'quote'", "Köln"])
def test_any_path_serves(tmp_path: Path, name: str) -> None:
    before = set(Path(tempfile.gettempdir()).iterdir())
    server = EmbeddedPostgres(tmp_path / name / "postgres")
    server.start()
    try:
        assert ask(server, "SELECT 1") == 1
    finally:
        server.stop()
    links = {path for path in set(Path(tempfile.gettempdir()).iterdir()) - before if path.is_symlink()}
    assert not [link for link in links if link.readlink() == server.data_dir], "the short name goes with the server"


def test_nobody_reaches_the_server_through_the_network_or_from_another_account(server: EmbeddedPostgres) -> None:
    server.start()

    assert ask(server, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700


def test_files_appear_only_beside_the_data_folder(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with Lease(server.data_dir):
        keep_running(server)
        beside = {path.name for path in tmp_path.iterdir()}

    assert beside == {"postgres", "postgres.lock", "postgres.lease", "postgres.keep-running"}


def test_the_environment_of_another_postgres_is_not_in_the_way(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "nowhere.invalid", "PGUSER": "x"}.items():
        monkeypatch.setenv(name, value)

    server.start()

    assert ask(server, "SELECT current_user") == "postgres"


def test_a_failure_says_what_postgres_said(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.data_dir / "postgresql.auto.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(SampleServerFailed, match="no_such_setting"):
        server.start()


@as_root
def test_root_runs_the_server_as_the_owner_of_an_existing_folder(server: EmbeddedPostgres) -> None:
    """An ordinary user's sample stays theirs after root used it: the server ran as them, its files are theirs."""
    server.start()
    server.stop()
    for path in (server.data_dir, *server.data_dir.rglob("*")):
        os.chown(path, 12345, 12345)

    server.start()
    assert ask(server, "SELECT 1") == 1
    server.stop()

    assert {path.stat().st_uid for path in server.data_dir.rglob("*")} == {12345}
    assert server.data_dir.with_name("postgres.lock").stat().st_mode & stat.S_IROTH, "they can lock it again"


@as_root
def test_a_folder_that_root_made_is_refused_by_name() -> None:
    """An ordinary user after root: one sentence with the way out, and nothing broken."""
    public = Path(tempfile.mkdtemp())
    public.chmod(0o755)
    server = EmbeddedPostgres(public / "postgres")
    server.start()
    server.stop()

    said, saying = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(12345)
            server.start()
        except SampleFolderClosed as error:
            os.write(saying, str(error).encode())
        finally:
            os._exit(0)
    os.close(saying)
    os.waitpid(child, 0)
    with os.fdopen(said) as reader:
        words = reader.read()

    assert str(server.data_dir) in words
    assert "ANALYTICS_HOME" in words
    server.start()
    assert ask(server, "SELECT 1") == 1
    server.stop()
    shutil.rmtree(public)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SampleServerFailed, match="file"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").start()


@as_root
def test_root_opens_no_folder_to_others(server: EmbeddedPostgres, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    modes = [folder.stat().st_mode for folder in tmp_path.parents]

    server.start()

    assert [folder.stat().st_mode for folder in tmp_path.parents] == modes
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@as_root
def test_programs_in_a_closed_environment_are_copied_for_the_unprivileged_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below /root or a `mktemp -d`: nobody but root could start its programs."""
    public = Path(tempfile.mkdtemp())
    public.chmod(0o755)
    monkeypatch.setattr(programs, "_public_folder", lambda: public)
    monkeypatch.setattr(programs, "_open_to_all", lambda path: path.is_relative_to(public))
    server = EmbeddedPostgres(tmp_path / "postgres")
    try:
        server.start()
        assert ask(server, "SELECT 1") == 1
        assert programs.find_programs(server.data_dir).folder.is_relative_to(public)
        assert len(list(public.iterdir())) == 1
    finally:
        server.stop()
        shutil.rmtree(public)
