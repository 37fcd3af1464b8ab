"""The boundary to the machine: no command shows a traceback for what a disk, a right or a path refuses."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from analytics_pipeline.boundary import command, environment_error, environment_errors
from analytics_pipeline.errors import DiskFull, EnvironmentFailed, QueryRefused
from analytics_pipeline.store import create_store
from analytics_pipeline_tests.store.scenario import facts, publish
from analytics_pipeline_tests.workplace import REPOSITORY

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a small store, which any user can reach."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    publish(create_store(tmp_path / "home" / "store"), {"facts": {"all": facts(3)}})
    return tmp_path / "home"


def closed(home: Path) -> str:
    home.chmod(0o700)
    return str(home)


def closed_parent(home: Path) -> str:
    home.parent.chmod(0o700)
    return str(home)


def unwritable(home: Path) -> str:
    for folder in (home, *(path for path in home.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    return str(home)


def below_a_device(_home: Path) -> str:
    return "/dev/null/x"


def below_a_file(home: Path) -> str:
    (home / "file").touch()
    return str(home / "file" / "x")


def not_utf8(home: Path) -> str:
    return f"{home.parent}/h\udce9"


def backslash(home: Path) -> str:
    return f"{home.parent}/a\\b"


def too_long(home: Path) -> str:
    return f"{home.parent}/{'x' * 300}"


def manifest_is_a_file(home: Path) -> str:
    manifests = home / "store" / "manifest"
    manifests.rename(home / "elsewhere")
    manifests.touch()
    return str(home)


def outcomes(home: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """What every command does in a home; in one process, because each costs a second to start."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_DB_URL")}
    done = subprocess.run(
        [sys.executable, "-m", "analytics_pipeline_tests.broken_machine", *options],
        cwd=folder,
        env={**environment, "ANALYTICS_HOME": home, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("damage", "user"),
    [
        pytest.param(closed, "--nobody", marks=ROOT_ONLY),
        pytest.param(closed_parent, "--nobody", marks=ROOT_ONLY),
        pytest.param(unwritable, "--nobody", marks=ROOT_ONLY),
        (below_a_device, ""),
        (below_a_file, ""),
        (not_utf8, ""),
        (backslash, ""),
        (too_long, ""),
        (manifest_is_a_file, ""),
    ],
)
def test_no_command_shows_a_traceback_for_what_the_machine_refuses(
    home: Path, damage: Callable[[Path], str], user: str
) -> None:
    """An operator should read the path and the reason, not thirty lines of our code."""
    broken = damage(home)

    found = outcomes(broken, Path("/"), *([user] if user else []))

    for each in found:
        assert "Traceback" not in each["errors"], each
        if each["code"] != 0:
            *_, sentence = each["errors"].splitlines()
            assert len(sentence) < 1500, each
            names = (broken, repr(broken)[1:-1], broken.encode(errors="backslashreplace").decode())
            assert any(name in each["errors"] for name in names) or "/" in sentence, f"no path: {each}"
    assert any(each["code"] for each in found)


def test_dagster_homes_and_ages_that_cannot_be_are_one_sentence(tmp_path: Path) -> None:
    for arguments, variable in (
        (["--days", "9" * 400], str(tmp_path)),
        (["--days", "99999999"], str(tmp_path)),
        ([], str(tmp_path / "missing")),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "analytics_pipeline.housekeeping", "prune", *arguments],
            env={**os.environ, "DAGSTER_HOME": variable},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()[-1]) < 700


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/srv/a"), "/srv/a: Permission denied. Run as a user"),
        (OSError(errno.EROFS, "Read-only file system", "/srv/a"), "/srv/a: Read-only file system. Set ANALYTICS_HOME"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "here: Not a directory. Set ANALYTICS_HOME"),
        (sqlite3.OperationalError("disk I/O error"), "here: disk I/O error. See to the disk"),
        (duckdb.IOException("IO Error: Cannot open file"), "here: IO Error: Cannot open file. See to the disk"),
        (pa.ArrowInvalid("Parquet magic bytes not found"), "here: Parquet magic bytes not found."),
        (PermissionError(errno.EACCES, "Permission denied", b"/srv/\xe9"), "/srv/\\udce9: Permission denied."),
    ],
)
def test_what_the_machine_raises_names_path_reason_and_fix(raised: Exception, sentence: str) -> None:
    with pytest.raises(EnvironmentFailed) as failed, environment_errors("here"):
        raise raised
    assert str(failed.value).startswith(sentence)
    assert failed.value.__cause__ is raised


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite3.OperationalError("database or disk is full"),
        duckdb.IOException("IO Error: Could not write: No space left on device"),
    ],
)
def test_a_full_disk_is_told_apart(raised: Exception) -> None:
    assert isinstance(environment_error(raised, "here"), DiskFull)


def test_a_bug_keeps_its_traceback() -> None:
    """Only what the machine refuses becomes a sentence."""

    @command
    def broken() -> int:
        raise IndexError("a bug")

    with pytest.raises(IndexError, match="a bug"), environment_errors("here"):
        broken()


def test_a_statement_that_the_python_package_does_not_know_is_refused_as_any_other(tmp_path: Path) -> None:
    store = create_store(tmp_path / "store")
    with pytest.raises(QueryRefused, match="statement"):
        store.query("UPDATE EXTENSIONS")
