"""The store as a whole: what was committed is what is read, in every process, after loss, copy and misuse."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from analytics_pipeline.errors import (
    ManifestUnreadable,
    StoreFormatUnknown,
    StoreNotFound,
)
from analytics_pipeline.store import Change, Store, create_store, open_store
from analytics_pipeline.store import commit as commits
from analytics_pipeline_tests.store.scenario import (
    IDS,
    change_of,
    facts,
    files_listed,
    files_on_disk,
    ids,
    publish,
    python,
)


def ask(process: subprocess.Popen[str], line: str) -> str:
    """Send a line, return the line that is answered."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def plain(path: Path, sql: str = IDS) -> list[int]:
    """What anybody's DuckDB reads."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return [row[0] for row in connection.execute(sql).fetchall()]


READER = """
import sys
from pathlib import Path
from analytics_pipeline.store import open_store
store = open_store(Path(sys.argv[1]))
for line in sys.stdin:
    print([row[0] for row in store.query(line).rows()], flush=True)
"""


def test_long_lived_reader_sees_each_new_commit(store: Store) -> None:
    """A service that opened the store in the morning must answer with the rows of the evening."""
    publish(store, {"facts": {"d0": facts(1)}})
    reader = python(READER, str(store.root))
    assert ask(reader, IDS) == "[1]"
    for number in range(2, 5):
        publish(store, {"facts": {f"d{number}": facts(number)}})
        assert ask(reader, IDS) == str([1, *range(2, number + 1)])
    reader.communicate()
    assert reader.returncode == 0


def test_connection_held_open_does_not_hide_later_versions(store: Store) -> None:
    """DuckDB gives an open database to whoever asks for its path again: a notebook would stay in the past."""
    publish(store, {"facts": {"d0": facts(1)}})
    with duckdb.connect(str(store.layout.catalog), read_only=True) as held:
        assert held.execute(IDS).fetchall() == [(1,)]
        publish(store, {"facts": {"d0": facts(2)}})
        assert plain(store.layout.catalog) == [2]
        assert held.execute("SELECT version FROM _store_info").fetchall() == [(1,)]
        assert ids(store) == [2]


def test_attached_catalog_answers_tables_and_joins_under_any_name(store: Store) -> None:
    """Views must find their tables whatever the reader calls the catalog."""
    publish(store, {"facts": {"d0": facts(1)}})
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{store.layout.catalog}' AS \"any name\" (READ_ONLY)")
        assert connection.execute('SELECT id FROM "any name".facts').fetchall() == [(1,)]


@pytest.mark.parametrize("symlinks", [True, False])
def test_copied_store_answers_from_its_own_files(store: Store, tmp_path: Path, symlinks: bool) -> None:  # noqa: FBT001
    """Views hold absolute paths: a copy for a colleague would read, or miss, the original."""
    publish(store, {"facts": {"d0": facts(1), "d1": facts(2)}})
    copy = tmp_path / "a 'copy' of, it"
    shutil.copytree(store.root, copy, symlinks=symlinks)
    publish(store, {"facts": {"d0": facts(9)}})
    shutil.rmtree(store.root)
    copied = open_store(copy)
    assert ids(copied) == [1, 2]
    assert plain(copied.layout.catalog) == [1, 2]
    publish(copied, {"facts": {"d0": facts(3)}})
    assert ids(copied) == [2, 3]
    copied.close()


def test_copy_without_empty_folders_and_locks_works(store: Store, tmp_path: Path) -> None:
    """Archives and object stores drop empty folders and links."""
    publish(store, {"facts": {"d0": facts(1)}})
    copy = tmp_path / "copy"
    for path in store.root.rglob("*.parquet"):
        target = copy / path.relative_to(store.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    copied = open_store(copy)
    assert ids(copied) == [1]
    publish(copied, {"facts": {"d1": facts(2)}})
    assert ids(copied) == [1, 2]
    copied.close()


def test_store_reached_through_a_link_is_the_same_store(store: Store, tmp_path: Path) -> None:
    """Home folders are often links."""
    publish(store, {"facts": {"d0": facts(1)}})
    (tmp_path / "link").symlink_to(store.root)
    linked = open_store(tmp_path / "link")
    assert linked.root == store.root
    assert ids(linked) == [1]
    linked.close()


def test_relative_path_and_odd_characters_in_the_path_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People have spaces, quotes and umlauts in their folders."""
    monkeypatch.chdir(tmp_path)
    store = create_store(Path('it\'s "my" störe; [*] %20'))
    publish(store, {"facts": {"d0": facts(1)}})
    assert ids(store) == [1]
    assert plain(store.layout.catalog) == [1]
    store.close()


@pytest.mark.parametrize("damage", ["pointer", "target", "folder", "garbage", "empty", "foreign database"])
def test_lost_or_damaged_catalog_is_made_anew(store: Store, damage: str) -> None:
    """The catalog is derived: whatever happens to it costs nothing but a reopening."""
    publish(store, {"facts": {"d0": facts(1)}})
    target = store.layout.catalog.resolve()
    if damage == "pointer":
        store.layout.catalog.unlink()
    elif damage == "folder":
        shutil.rmtree(store.layout.catalogs)
    else:
        target.unlink()
        if damage == "foreign database":
            duckdb.connect(str(target)).close()
        elif damage != "target":
            target.write_bytes(b"" if damage == "empty" else b"no database" * 10_000)
    in_use = Store(store.layout)
    assert ids(in_use) == [1], "a session without the shared catalog"
    reopened = open_store(store.root)
    assert ids(reopened) == [1]
    assert plain(store.layout.catalog) == [1]
    for opened in (in_use, reopened):
        opened.close()


FOREIGN = """
import sys, os, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE IF NOT EXISTS foreign_table AS SELECT 1 AS a")
print("open", flush=True)
for line in sys.stdin:
    connection.execute("INSERT INTO foreign_table VALUES (2)")
    print("written", flush=True)
os._exit(0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets past the catalog's mode 0444")
def test_foreign_read_write_opener_harms_neither_commits_nor_readers(store: Store) -> None:
    """A shell opened without -readonly locks the version's catalog and leaves a log that DuckDB would replay."""
    publish(store, {"facts": {"d0": facts(1)}})
    foreign = python(FOREIGN, str(store.layout.catalog))
    assert foreign.stdout is not None
    assert foreign.stdout.readline() == "open\n"
    newcomer = Store(store.layout)
    assert ids(newcomer) == [1], "a session while the shared catalog is locked"
    newcomer.close()
    publish(store, {"facts": {"d0": facts(2)}})
    assert ids(store) == plain(store.layout.catalog) == [2]
    assert ask(foreign, "write") == "written"
    assert ids(store) == plain(store.layout.catalog) == [2]
    reopened = open_store(store.root)
    assert ids(reopened) == [2]
    reopened.close()
    foreign.communicate()
    publish(store, {"facts": {"d0": facts(3)}})
    assert ids(store) == plain(store.layout.catalog) == [3]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gets past the catalog's mode 0444")
def test_write_ahead_log_left_beside_the_catalog_is_removed(store: Store) -> None:
    """DuckDB 2.0 refuses a catalog beside the log of an earlier one."""
    publish(store, {"facts": {"d0": facts(1)}})
    foreign = python(FOREIGN, str(store.layout.catalog))
    foreign.communicate()
    assert list(store.layout.catalogs.glob("*.wal"))
    commits.refresh_catalog(store.layout)
    assert not list(store.layout.catalogs.glob("*.wal"))
    assert ids(store) == plain(store.layout.catalog) == [1]


READ_ONLY_USER = """
import os, sys
from pathlib import Path
from analytics_pipeline.store import open_store
from analytics_pipeline.errors import StoreUnwritable
warm = open_store(Path(sys.argv[2])); warm.query("SELECT 1").rows(); warm.close()  # imports, while they can be read
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = open_store(Path(sys.argv[1]))
print([row[0] for row in store.query("SELECT id FROM facts").rows()])
try:
    store.sweep()
except StoreUnwritable as error:
    print("refused")
store.close()
"""


@pytest.mark.parametrize("copied", [False, True])
def test_store_that_cannot_be_written_is_read(store: Store, tmp_path: Path, copied: bool) -> None:  # noqa: FBT001
    """Colleagues read a published store under their own user; also a copy, whose catalog names another folder."""
    publish(store, {"facts": {"d0": facts(1)}})
    root = store.root
    if copied:
        root = tmp_path / "copy"
        shutil.copytree(store.root, root, symlinks=True)
    other = create_store(tmp_path / "other")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    done = python(READ_ONLY_USER, str(root), str(other.root))
    output, _ = done.communicate()
    for folder in folders:
        folder.chmod(0o755)
    assert output == "[1]\nrefused\n"


def test_folder_without_a_store_is_named(tmp_path: Path) -> None:
    """A wrong ANALYTICS_HOME is the likeliest mistake."""
    with pytest.raises(StoreNotFound, match=str(tmp_path)):
        open_store(tmp_path)


def test_store_that_was_removed_under_its_user_is_named(store: Store) -> None:
    """Somebody cleaned up while a service ran."""
    publish(store, {"facts": {"d0": facts(1)}})
    shutil.rmtree(store.root)
    with pytest.raises(StoreNotFound):
        ids(store)


def test_creating_a_store_again_keeps_it(store: Store) -> None:
    """Every start creates the store where there is none."""
    publish(store, {"facts": {"d0": facts(1)}})
    again = create_store(store.root)
    assert ids(again) == [1]
    again.close()


def test_manifest_of_a_later_format_is_refused_by_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old program must not read a new store wrongly, nor commit over it."""
    monkeypatch.setattr("analytics_pipeline.store.manifest_file.FORMAT", 99)
    publish(store, {"facts": {"d0": facts(1)}})
    monkeypatch.undo()
    with pytest.raises(StoreFormatUnknown, match="format 99"):
        Store(store.layout).manifest()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 1000])
def test_damaged_manifest_is_named(store: Store, content: bytes) -> None:
    """A disk may fail under the truth itself: then a person has to decide."""
    publish(store, {"facts": {"d0": facts(1)}})
    store.layout.manifest_of(2).write_bytes(content)
    with pytest.raises(ManifestUnreadable, match="000000002"):
        open_store(store.root).manifest()


def test_foreign_files_in_the_store_do_not_disturb(store: Store) -> None:
    """Editors and operating systems leave files everywhere."""
    publish(store, {"facts": {"d0": facts(1)}})
    for folder in (store.layout.manifests, store.layout.catalogs, store.layout.tables, store.layout.staging):
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "notes~.txt").write_bytes(b"x")
    (store.layout.manifests / "._000000009.parquet").write_bytes(b"x")
    publish(store, {"facts": {"d1": facts(2)}})
    store.sweep()
    assert ids(store) == [1, 2]


def test_replaced_files_stay_for_their_grace(tmp_path: Path) -> None:
    """A report that began before a commit reads the files of its version to the end."""
    store = create_store(tmp_path / "store", grace=timedelta(hours=1))
    publish(store, {"facts": {"d0": facts(1)}})
    before = files_on_disk(store)
    publish(store, {"facts": {"d0": facts(2)}})
    assert store.sweep().expired == ()
    assert before < files_on_disk(store)
    assert set(open_store(store.root, grace=timedelta(0)).sweep().expired) == before
    assert files_on_disk(store) == files_listed(store)
    store.close()


def test_endless_grace_keeps_everything(tmp_path: Path) -> None:
    """Some want to keep all files."""
    store = create_store(tmp_path / "store", grace=timedelta.max)
    publish(store, {"facts": {"d0": facts(1)}})
    publish(store, {"facts": {"d0": facts(2)}})
    assert store.sweep().expired == ()
    store.close()


def test_retired_file_that_is_published_again_is_kept(store: Store) -> None:
    """Going back to an earlier version's partition must not leave its file to the sweeper."""
    first = publish(store, {"facts": {"d0": facts(1)}})
    publish(store, {"facts": {"d0": facts(2)}})
    earlier = first.tables["facts"].partitions["d0"]
    with store.stage("back") as stage:
        change = change_of(stage, "facts", {})
        store.commit(stage, Change([type(change)("facts", change.columns, [earlier])]))
    store.sweep()
    assert ids(store) == [1]


def test_few_versions_are_kept(store: Store) -> None:
    """Thousands of commits must not leave thousands of manifests."""
    for number in range(commits.KEEP_VERSIONS + 5):
        publish(store, {"facts": {"d0": facts(number)}})
    assert len(list(store.layout.manifests.iterdir())) == commits.KEEP_VERSIONS
    assert len(list(store.layout.catalogs.iterdir())) <= commits.KEEP_VERSIONS


def test_catalog_is_read_only_and_carries_its_bookkeeping(store: Store) -> None:
    """Partitions and their age are asked by SQL, by people who never see a manifest."""
    with store.stage("one") as stage:
        change = change_of(stage, "facts", {"d0": facts(1, 2), "d1": []})
        store.commit(stage, Change([change], metadata={"facts": {"n": [1, "ä"]}}))
    assert store.layout.catalog.stat().st_mode & 0o777 == 0o444
    partitions = store.query("SELECT table_name, partition_key, row_count, files FROM _store_partitions ORDER BY 2")
    assert partitions.rows() == [("facts", "d0", 2, 1), ("facts", "d1", 0, 0)]
    assert store.query("SELECT metadata->>'$.n[1]' FROM _store_metadata").item() == "ä"
