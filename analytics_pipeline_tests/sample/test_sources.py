"""Which source answers, and a sample that is whole whoever asked for it first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from analytics_pipeline.errors import SampleScaleRefused
from analytics_pipeline.sample import __main__ as commands
from analytics_pipeline.sample import sources
from analytics_pipeline.settings import SOURCE_URL_VARIABLES, Home

ENSURE = """
import sys
from pathlib import Path
from analytics_pipeline.sample import sources
from analytics_pipeline.settings import Home
sources.ensure_sample(Home(Path(sys.argv[1]), "a test"), float(sys.argv[2]))
"""
FILLING = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'monitoring' AND query LIKE '%INSERT INTO traces%'"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home of the test's own, and none of the sources' variables."""
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path))
    for variable in SOURCE_URL_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    home = Home(tmp_path, "ANALYTICS_HOME")
    yield home
    sources.release()
    sources.server_of(home).stop("immediate")


def ensure_elsewhere(home: Home, scale: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ENSURE, str(home.path), str(scale)])


def count(home: Home, database: str, table: str) -> int:
    url = sources.server_of(home).url(database).get_secret_value()
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_a_set_variable_is_used_as_it_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVAL_DB_URL", "postgresql://reader@db.example.com/eval")

    url = sources.resolve("EVAL_DB_URL", home)

    assert url is not None
    assert url.get_secret_value() == "postgresql://reader@db.example.com/eval"
    assert not home.sample.exists()


def test_one_real_source_keeps_the_sample_away_from_the_others(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants invented monitoring beside real evaluations."""
    monkeypatch.setenv("EVAL_DB_URL", "postgresql://reader@db.example.com/eval")

    assert sources.resolve("MONITORING_DB_URL", home) is None
    assert not home.sample.exists()


def test_a_dataset_of_the_users_own_never_reads_the_sample(home: Home) -> None:
    assert sources.resolve("ORDERS_DB_URL", home) is None
    assert not home.sample.exists()


def test_the_sample_stands_in_for_all_three_and_says_so_once(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    names = []
    for variable in SOURCE_URL_VARIABLES:
        url = sources.resolve(variable, home)
        assert url is not None
        with psycopg.connect(url.get_secret_value()) as connection:
            names.append(connection.info.dbname)

    assert names == ["monitoring", "human_signals", "eval"]
    said = [record.getMessage() for record in caplog.records if "stands in" in record.getMessage()]
    assert len(said) == 1
    assert "MONITORING_DB_URL" in said[0]
    assert str(home.sample) in said[0]


def test_asking_again_keeps_what_is_there(home: Home) -> None:
    url = sources.ensure_sample(home, 0.05)["monitoring"]
    with psycopg.connect(url.get_secret_value()) as connection:
        connection.execute("DELETE FROM traces")

    sources.ensure_sample(home)

    assert count(home, "monitoring", "traces") == 0


def test_another_scale_makes_the_sample_anew(home: Home) -> None:
    sources.ensure_sample(home, 0.05)
    small = count(home, "monitoring", "traces")

    sources.ensure_sample(home, 0.1)

    assert count(home, "monitoring", "traces") == pytest.approx(2 * small, rel=0.2)


@pytest.mark.parametrize("scale", [0, -1, 1e9, float("nan")])
def test_an_impossible_scale_is_refused_before_anything_starts(home: Home, scale: float) -> None:
    with pytest.raises(SampleScaleRefused):
        sources.ensure_sample(home, scale)
    assert not home.sample.exists()


def test_several_processes_fill_it_once(home: Home) -> None:
    processes = [ensure_elsewhere(home, 0.05) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    assert not sources.server_of(home).is_running(), "the last of them stopped it"

    sources.ensure_sample(home)
    found = count(home, "monitoring", "traces")
    sources.ensure_sample(home, 0.06)
    sources.ensure_sample(home, 0.05)

    assert found == pytest.approx(count(home, "monitoring", "traces"), abs=3), "minutes may have passed"


def test_a_fill_killed_half_way_is_done_again(home: Home) -> None:
    """Half a sample would pass for a whole one."""
    sources.ensure_sample(home, 0.05)
    before = count(home, "monitoring", "traces")
    victim = ensure_elsewhere(home, 1)
    with psycopg.connect(sources.server_of(home).url("postgres").get_secret_value(), autocommit=True) as watching:
        deadline = time.monotonic() + 60
        while watching.execute(FILLING).fetchone() != (1,):
            assert time.monotonic() < deadline
            assert victim.poll() is None
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(timeout=60)

    sources.ensure_sample(home)
    assert count(home, "monitoring", "traces") == pytest.approx(before, abs=3), "the kill took nothing"
    sources.ensure_sample(home, 0.1)
    assert count(home, "monitoring", "traces") == pytest.approx(2 * before, rel=0.2)


def test_a_crash_between_two_calls_heals(home: Home) -> None:
    sources.ensure_sample(home, 0.05)
    before = count(home, "eval", "metrics")
    sources.server_of(home).stop("immediate")

    sources.ensure_sample(home)

    assert count(home, "eval", "metrics") == before


def test_commands_start_watch_and_stop(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    server = sources.server_of(home)

    assert commands.main(["start", "--scale", "0.05"]) == 0
    assert server.is_running(), "it outlives the command"
    assert str(home.path) in capsys.readouterr().out

    before = count(home, "monitoring", "traces")
    assert commands.main(["add", "--dataset", "monitoring", "--rows", "5"]) == 0
    assert "5 rows of traces" in capsys.readouterr().out
    assert count(home, "monitoring", "traces") == before + 5
    for command in ("late", "update", "delete"):
        assert commands.main([command, "--rows", "2"]) == 0
        assert capsys.readouterr().out.count("touched 2 rows") == 3

    assert commands.main(["status"]) == 0
    assert "runs until `stop`" in capsys.readouterr().out
    assert commands.main(["stop"]) == 0
    assert not server.is_running()
    assert commands.main(["status"]) == 0
    assert "stopped" in capsys.readouterr().out


def test_a_command_without_start_leaves_no_server(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["urls"]) == 0

    assert "postgresql://" in capsys.readouterr().out
    assert not sources.server_of(home).is_running()


def test_stop_waits_for_those_who_still_use_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENSURE + "print(flush=True); input()", str(home.path), "0.05"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as user:
        assert user.stdout is not None
        user.stdout.readline()

        assert commands.main(["stop"]) == 0
        assert "in use" in capsys.readouterr().out
        assert sources.server_of(home).is_running()

        user.communicate(b"\n", timeout=60)
    assert not sources.server_of(home).is_running()


def test_a_refusal_is_one_sentence_and_exit_code_one(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["start", "--scale", "0"]) == 1

    assert capsys.readouterr().err.count("\n") == 1


def test_commands_say_that_nobody_reads_the_sample_while_a_real_source_is_set(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVAL_DB_URL", "postgresql://reader:secret@db.example.com/eval")

    assert commands.main(["start", "--scale", "0.05"]) == 0

    said = capsys.readouterr().out
    assert "No dataset reads the sample: EVAL_DB_URL is set." in said
    assert "secret" not in said
