"""Commands on the published store: `python -m analytics_pipeline.store status|compact|backup|…`.

Belongs here: arguments, the words on the terminal, the SQL prompt. Does not: anything that the store itself does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import polars as pl

from analytics_pipeline.boundary import command, environment_errors
from analytics_pipeline.errors import AnalyticsError
from analytics_pipeline.settings import Home, find_home
from analytics_pipeline.store.manifest import Manifest
from analytics_pipeline.store.sealed import DEFAULT_TIMEOUT
from analytics_pipeline.store.store import Store, open_for_restore, open_store
from analytics_pipeline.store.untrusted import prestart

Command: TypeAlias = Callable[[Store, Home, argparse.Namespace], str]
"""Runs with the arguments; returns what is printed."""

_PROMPT = "sql> "
_SHOWN_ROWS = 40
_HELP = "One SELECT, ended by ; (SHOW TABLES; and DESCRIBE table; tell what there is). Leave with Ctrl-D or \\q."


@command
def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    home = find_home()
    sys.stderr.write(f"Home: {home}\n")
    if chosen.command == "verify":
        return _verify(home)
    if chosen.command == "forget":
        return _forget(home, chosen.table)
    store = open_for_restore(home.store) if chosen.command == "restore" else open_store(home.store)
    try:
        sys.stdout.write(chosen.run(store, home, chosen))
    finally:
        store.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analytics_pipeline.store", description="The published store.")
    commands = parser.add_subparsers(dest="command", required=True)

    def added(name: str, run: Command, words: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=words)
        parser.set_defaults(run=run)
        return parser

    added("status", _status, "tables, their sizes, version and last commit")
    added("compact", _compact, "merge small files of closed partitions; rows and queries stay the same")
    added("sweep", _sweep, "remove what dead processes left, and files past their grace")
    added("catalog", _catalog, "build the catalog anew from the manifest")
    commands.add_parser("verify", help="read every file of the home, name what is not as it was written")
    forget = commands.add_parser("forget", help="go on without the rows of an append-only table's lost files")
    forget.add_argument(
        "table", help="of capability runs, such as maite_evaluation; or of training runs: experiments.runs"
    )
    backup = added("backup", _backup, "copy the current version to a store of its own")
    backup.add_argument("folder", type=_folder, help="not there yet, or empty")
    restore = added("restore", _restore, "publish the state of a backup in place of the current one")
    restore.add_argument("folder", type=_folder, help="a backup, or any other store")
    sql = added("sql", _sql, "a read-only SQL prompt")
    sql.add_argument("-c", dest="query", metavar="SELECT", help="run one query and leave")
    sql.add_argument("--untrusted", action="store_true", help="run queries in a process that can be killed")
    sql.add_argument("--timeout", type=float, default=DEFAULT_TIMEOUT, metavar="SECONDS", help="limit of each query")
    return parser


def _folder(text: str) -> Path:
    try:
        folder = Path(text).expanduser().resolve()
        folder.exists()
    except (OSError, RuntimeError) as error:  # no such user, links in a circle, a name too long
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a folder: {error}") from None
    return folder


def _status(store: Store, home: Home, _chosen: argparse.Namespace) -> str:
    return status_text(store.manifest(), home)


def _compact(store: Store, _home: Home, _chosen: argparse.Namespace) -> str:
    done = store.compact()
    lines = [
        f"{table.name}: {table.files_before:,} files became {table.files_after:,}; "
        f"{table.partitions:,} partitions ({table.bytes / 2**20:,.1f} MiB) moved."
        for table in done
    ]
    lines.extend(f"{table.name} is left for the next time: {table.left}" for table in done if table.left)
    return "".join(f"{line}\n" for line in lines or ["Nothing to compact."])


def _sweep(store: Store, _home: Home, _chosen: argparse.Namespace) -> str:
    swept = store.sweep()
    return (
        f"Removed {len(swept.stages)} dead stages, {len(swept.expired)} files past their grace, "
        f"{len(swept.orphans)} unlisted files.\n"
    )


def _catalog(store: Store, home: Home, _chosen: argparse.Namespace) -> str:
    version = store.regenerate_catalog().version
    return f"{home.store / 'catalog.duckdb'} is built anew from version {version}.\n"


def _forget(home: Home, table: str) -> int:
    """Go on without a table's lost files."""
    from analytics_pipeline.housekeeping.verify import forget  # noqa: PLC0415 - as in `_verify`

    names = forget(home, table)
    sys.stdout.write("".join(f"{name} is missed no longer.\n" for name in names) or f"{table} has lost no file.\n")
    return 0


def _verify(home: Home) -> int:
    """Name everything that is damaged; the exit code is 1 if anything is."""
    from analytics_pipeline.housekeeping.verify import verify_home  # noqa: PLC0415 - a command may look at all layers

    found = verify_home(home)
    for damage in found.damages:
        sys.stdout.write(f"{damage}\n")
    unproven = f", {found.unproven:,} have no recorded digest" if found.unproven else ""
    sys.stdout.write(
        f"{found.files:,} files were compared with their digest{unproven}; {len(found.damages)} damages.\n"
    )
    return 1 if found.damages else 0


def _backup(store: Store, _home: Home, chosen: argparse.Namespace) -> str:
    manifest = store.backup(chosen.folder)
    files = [file.bytes for file in manifest.live_files]
    return (
        f"Version {manifest.version} is copied to {chosen.folder}: {len(manifest.tables)} tables, "
        f"{len(files):,} files, {sum(files) / 2**20:,.1f} MiB.\n"
    )


def _restore(store: Store, _home: Home, chosen: argparse.Namespace) -> str:
    done = store.restore(chosen.folder, _told)
    rows = sum(table.rows for table in done.manifest.tables.values())
    text = f"Version {done.manifest.version} is {chosen.folder}: {len(done.manifest.tables)} tables, {rows:,} rows.\n"
    return text + (f"It has no {', '.join(done.gone)}, so they are gone.\n" if done.gone else "")


def _told(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _sql(store: Store, _home: Home, chosen: argparse.Namespace) -> str:
    if chosen.query is not None:
        return _shown(store.query(chosen.query, timeout=chosen.timeout, untrusted=chosen.untrusted))
    if chosen.untrusted:
        prestart()
    prompt(store, _typed_lines(), sys.stdout.write, timeout=chosen.timeout, untrusted=chosen.untrusted)
    return ""


def status_text(manifest: Manifest, home: Home) -> str:
    """The state of a store, as a list of its tables."""
    lines = [f"{'table':<32}{'rows':>14}{'partitions':>12}{'files':>8}{'MiB':>11}"]
    for table in manifest.tables.values():
        size = sum(file.bytes for file in table.files) / 2**20
        files = sum(1 for _ in table.files)
        lines.append(f"{table.name:<32}{table.rows:>14,}{len(table.partitions):>12,}{files:>8,}{size:>11,.1f}")
    lines.extend(f"{view.name:<32}{f'{view.left} joined with {view.right}':>45}" for view in manifest.views.values())
    committed = f"{manifest.committed_at:%Y-%m-%d %H:%M:%S} UTC" if manifest.committed_at else "never"
    waiting = sum(item.bytes for item in manifest.retired) / 2**20
    lines.append(f"Version {manifest.version}, last commit {committed}.")
    if manifest.retired:
        lines.append(f"{len(manifest.retired):,} replaced files ({waiting:,.1f} MiB) wait for their grace to pass.")
    lines.append(f"Any DuckDB opens it: duckdb -readonly {home.store / 'catalog.duckdb'}")
    return "\n".join(lines) + "\n"


def prompt(
    store: Store,
    lines: Iterator[str],
    write: Callable[[str], object],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    untrusted: bool = False,
) -> None:
    """Answer statements until the lines end; an error is a sentence, and the next statement is another one."""
    write(f"{_HELP}\n")
    for statement in statements(lines):
        try:
            with environment_errors(store.root):
                write(_shown(store.query(statement, timeout=timeout, untrusted=untrusted)))
        except AnalyticsError as error:
            write(f"{error}\n")
        except KeyboardInterrupt:
            write("Interrupted.\n")


def statements(lines: Iterator[str]) -> Iterator[str]:
    """The statements in lines of input: each ends with a line that ends with `;`, all of them with a word of leave."""
    begun: list[str] = []
    for line in lines:
        if line.strip() in {"\\q", ".quit", "exit", "quit"} and not begun:
            return
        if line.strip() or begun:
            begun.append(line)
        if line.rstrip().endswith(";"):
            yield "\n".join(begun)
            begun.clear()
    if begun:
        yield "\n".join(begun)


def _typed_lines() -> Iterator[str]:
    import readline  # noqa: F401, PLC0415 — gives input() its history; loading it changes the terminal

    while True:
        try:
            yield input(_PROMPT)
        except EOFError:
            sys.stdout.write("\n")
            return
        except KeyboardInterrupt:
            sys.stdout.write("\n")


def _shown(rows: pl.DataFrame) -> str:
    with pl.Config(
        tbl_rows=_SHOWN_ROWS, tbl_cols=-1, fmt_str_lengths=60, tbl_width_chars=160, tbl_hide_dataframe_shape=True
    ):
        return f"{rows}\n{rows.height:,} row{'' if rows.height == 1 else 's'}\n"


if __name__ == "__main__":
    sys.exit(main())
