"""The commands on the store: what they print, and how they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.store import JoinView, Store, create_store
from analytics_pipeline_tests.store.scenario import facts, publish


def run(home: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """One command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "analytics_pipeline.store", *arguments],
        env={**os.environ, "ANALYTICS_HOME": str(home)},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with three facts in its store."""
    store = create_store(tmp_path / "home" / "store")
    view = JoinView("joined", "facts", "notes", "id", "note", "inner")
    publish(store, {"facts": {"d0": facts(1, 2), "d1": facts(3)}, "notes": {"all": facts(1)}}, views=[view])
    publish(store, {"facts": {"d0": facts(1, 2)}})
    store.close()
    return tmp_path / "home"


def test_status_lists_tables_version_and_last_commit(home: Path) -> None:
    """The first question after a night of syncs."""
    done = run(home, "status")
    assert done.returncode == 0
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert lines["facts"][:4] == ["facts", "3", "2", "2"]
    assert lines["joined"] == ["joined", "facts", "joined", "with", "notes"]
    assert "Version 2, last commit 20" in done.stdout
    assert "1 replaced files" in done.stdout
    assert f"duckdb -readonly {home / 'store' / 'catalog.duckdb'}" in done.stdout
    assert f"Home: {home} (ANALYTICS_HOME)" in done.stderr


def test_compact_says_what_it_did(home: Path) -> None:
    """Run by hand to see whether it is worth a schedule."""
    assert run(home, "compact").stdout == "Nothing to compact.\n"
    store = create_store(home / "store")
    publish(store, {"facts": {f"d{number}": facts(number) for number in range(120)}})
    store.close()
    done = run(home, "compact")
    assert done.returncode == 0
    assert done.stdout.startswith("facts: 120 files became ")
    assert "117 partitions" in done.stdout
    assert run(home, "sql", "-c", "SELECT count(*) FROM facts").stdout.count("120") == 1


def test_backup_and_restore_say_what_they_did(home: Path, tmp_path: Path) -> None:
    """Somebody reads this in the worst hour of the year."""
    done = run(home, "backup", str(tmp_path / "copy"))
    assert (done.returncode, done.stdout.split(":")[0]) == (0, f"Version 2 is copied to {tmp_path / 'copy'}")
    assert "2 tables, 3 files" in done.stdout
    refused = run(home, "backup", str(tmp_path / "copy"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "not empty" in refused.stderr
    store = create_store(home / "store")
    publish(store, {"later": {"d0": facts(1)}})
    store.close()
    done = run(home, "restore", str(tmp_path / "copy"))
    assert done.returncode == 0
    assert done.stdout == f"Version 4 is {tmp_path / 'copy'}: 2 tables, 4 rows.\nIt has no later, so they are gone.\n"
    done = run(tmp_path / "new home", "restore", str(tmp_path / "copy"))
    assert done.returncode == 0
    assert "3" in run(tmp_path / "new home", "sql", "-c", "SELECT count(*) FROM facts").stdout
    refused = run(home, "restore", str(tmp_path))
    assert (refused.returncode, "is no store" in refused.stderr) == (1, True)


def test_restore_is_possible_while_nothing_else_is(home: Path, tmp_path: Path) -> None:
    """The error of every other command names the ways out."""
    assert run(home, "backup", str(tmp_path / "copy")).returncode == 0
    newest = max((home / "store" / "manifest").iterdir())
    newest.write_bytes(newest.read_bytes()[:-9])
    broken = run(home, "status")
    assert (broken.returncode, "or restore a backup" in broken.stderr) == (1, True)
    done = run(home, "restore", str(tmp_path / "copy"))
    assert (done.returncode, done.stdout) == (0, f"Version 3 is {tmp_path / 'copy'}: 2 tables, 4 rows.\n")
    assert "3" in run(home, "sql", "-c", "SELECT count(*) FROM facts").stdout


def test_catalog_is_built_anew(home: Path) -> None:
    """After somebody wrote into it."""
    catalog = home / "store" / "catalog.duckdb"
    catalog.chmod(0o644)
    catalog.write_bytes(b"garbage")
    done = run(home, "catalog")
    assert (done.returncode, done.stdout) == (0, f"{catalog} is built anew from version 2.\n")
    with duckdb.connect(str(catalog), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM facts").fetchall() == [(3,)]


def test_sweep_says_what_it_removed(home: Path) -> None:
    """A disk that fills up is looked into with this."""
    (home / "store" / "staging" / "dead").mkdir()
    done = run(home, "sweep")
    assert (done.returncode, done.stdout) == (
        0,
        "Removed 1 dead stages, 0 files past their grace, 0 unlisted files.\n",
    )


def test_one_query_from_the_command_line(home: Path) -> None:
    """Scripts read one figure."""
    done = run(home, "sql", "-c", "SELECT count(*) AS n FROM facts")
    assert done.returncode == 0
    assert "│ 3   │" in done.stdout
    assert "1 row\n" in done.stdout


def test_prompt_answers_statements_and_survives_errors(home: Path) -> None:
    """A typing mistake must not end the session, and a statement may span lines."""
    done = run(
        home, "sql", typed="SELECT nope;\n\nSELECT count(*) + 40 AS n\nFROM facts;\nDROP VIEW facts;\nSHOW TABLES;\n"
    )
    assert done.returncode == 0
    assert "Binder Error" in done.stdout
    assert "│ 43  │" in done.stdout
    assert "Refused: a DROP statement" in done.stdout
    assert "│ joined" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("typed", ["\\q\nSELECT 77;\n", "exit\nSELECT 77;\n", ""])
def test_prompt_is_left_by_word_or_end_of_input(home: Path, typed: str) -> None:
    """Nobody should be locked into a prompt."""
    done = run(home, "sql", typed=typed)
    assert done.returncode == 0
    assert "77" not in done.stdout


@pytest.mark.parametrize("arguments", [["sql", "-c", "DROP VIEW facts"], ["sql", "-c", "SELECT nope"]])
def test_error_is_one_sentence_and_exit_code_1(home: Path, arguments: list[str]) -> None:
    """A script must notice a failed query."""
    done = run(home, *arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_without_a_store_the_way_out_is_named(tmp_path: Path) -> None:
    """The first command of a new user often comes before the first sync."""
    done = run(tmp_path / "nothing", "status")
    assert done.returncode == 1
    assert "There is no store at" in done.stderr


def test_status_of_an_empty_store(tmp_path: Path) -> None:
    """Before the first commit there is no time of one."""
    store: Store = create_store(tmp_path / "store")
    store.close()
    assert "Version 0, last commit never." in run(tmp_path, "status").stdout
