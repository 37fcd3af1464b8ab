"""Fixtures of real servers, for tests of every package: Debian's PostgreSQL, PgBouncer, standbys, a LATIN1 database.

Belongs here: the fixtures, and which reason a test is skipped with where a program is not installed.
Does not: how the servers are run (`postgres`, `pgbouncer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from analytics_pipeline_tests.servers import pgbouncer
from analytics_pipeline_tests.servers.pgbouncer import PgBouncer
from analytics_pipeline_tests.servers.postgres import InstalledPostgres, Standby, installed, new_database, open_folder

Pooler = Callable[..., PgBouncer]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever uses Debian's PostgreSQL once for each installed release."""
    if "debian_programs" in metafunc.fixturenames:
        releases = installed()
        names = [folder.parent.name for folder in releases] or ["not installed"]
        metafunc.parametrize("debian_programs", releases or [None], ids=names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def debian_programs(request: pytest.FixtureRequest) -> Path:
    """The programs of one installed release of Debian's PostgreSQL."""
    if request.param is None:
        pytest.skip("Debian's PostgreSQL is not installed: apt-get install postgresql")
    return Path(request.param)


@pytest.fixture(scope="session")
def debian_server(debian_programs: Path) -> Iterator[InstalledPostgres]:
    """A running server of Debian's PostgreSQL, in another time zone than UTC."""
    with open_folder() as folder:
        server = InstalledPostgres(folder / "data", debian_programs)
        server.start()
        yield server
        server.stop("immediate")


@pytest.fixture
def debian_url(debian_server: InstalledPostgres) -> Iterator[str]:
    """A new, empty database of Debian's PostgreSQL."""
    with new_database(debian_server.url("postgres").get_secret_value()) as url:
        yield url


@pytest.fixture
def latin1_url(debian_server: InstalledPostgres) -> Iterator[str]:
    """A new, empty database whose encoding is LATIN1."""
    options = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
    with new_database(debian_server.url("postgres").get_secret_value(), options) as url:
        yield url


@pytest.fixture(scope="session")
def standby(debian_server: InstalledPostgres) -> Iterator[Standby]:
    """A streaming standby of the Debian server; call `catch_up` after writing to the primary."""
    with open_folder() as folder:
        server = Standby(folder / "data", debian_server)
        server.start()
        yield server
        server.stop("immediate")


@pytest.fixture
def promotable(debian_server: InstalledPostgres) -> Iterator[Standby]:
    """A streaming standby of the test's own, which it may promote."""
    with open_folder() as folder:
        server = Standby(folder / "data", debian_server)
        server.start()
        yield server
        server.stop("immediate")


@pytest.fixture
def pooler() -> Iterator[Pooler]:
    """Start PgBouncer in transaction mode: `pooler(url, pool_size=4)`; needs an open server, see `open_folder`."""
    if pgbouncer.program() is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    with ExitStack() as started:

        def start(
            server: str,
            pool_size: int,
            *,
            roles: Sequence[str] = ("postgres",),
            settings: Mapping[str, str] | None = None,
        ) -> PgBouncer:
            folder = started.enter_context(open_folder())
            return started.enter_context(PgBouncer(folder, server, pool_size, roles=roles, settings=settings))

        yield start
