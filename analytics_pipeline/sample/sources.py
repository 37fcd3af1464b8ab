"""Which source a dataset reads: the user's, the sample's, or none; and a sample that is there when asked for.

Belongs here: the choice, the one sentence about it, three filled databases that reach today, the process's lease.
Does not: what is in them (`data`), how the server runs (`server`).
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import errors, sql
from pydantic import SecretStr

from analytics_pipeline.errors import SampleScaleRefused, SampleServerFailed
from analytics_pipeline.sample import data, evaluation, human_signals, monitoring
from analytics_pipeline.sample.lease import Lease
from analytics_pipeline.sample.server import EmbeddedPostgres
from analytics_pipeline.settings import SOURCE_URL_VARIABLES, Home, sample_is_in_charge, source_url

SOURCES = {source.name: source for source in (monitoring.SOURCE, human_signals.SOURCE, evaluation.SOURCE)}
OF_VARIABLE = dict(zip(SOURCE_URL_VARIABLES, SOURCES, strict=True))
"""Which sample database stands in for which variable."""

logger = logging.getLogger(__name__)
_leases: dict[Path, Lease] = {}
_leasing = threading.Lock()


def resolve(variable: str, home: Home) -> SecretStr | None:
    """The connection string that a dataset is to use; None where it has no source, which disables it.

    Where none of the shipped datasets' variables is set, the sample answers for all three: its server is started,
    filled where need be, and stays up at least as long as this process. That is logged once a process.

    Args:
        variable: name of the environment variable; the sample answers only for the shipped datasets' three.
        home: where the sample lives.

    Raises:
        SampleError: the sample is in charge and cannot be started or filled.
    """
    url = source_url(variable)
    if url is not None or variable not in OF_VARIABLE or not sample_is_in_charge():
        return url
    return ensure_sample(home)[OF_VARIABLE[variable]]


def running_url(variable: str, home: Home) -> SecretStr | None:
    """The connection string as `resolve` gives it, but nothing is started, filled or leased for it.

    Args:
        variable: as for `resolve`.
        home: where the sample lives.

    None also where the sample is in charge and its server does not run.
    """
    url = source_url(variable)
    if url is not None or variable not in OF_VARIABLE or not sample_is_in_charge():
        return url
    server = server_of(home)
    return server.url(OF_VARIABLE[variable]) if server.is_running() else None


def ensure_sample(home: Home, scale: float | None = None) -> Mapping[str, SecretStr]:
    """The connection strings of the three sample databases by name, started and filled up to today.

    Safe to call from several processes and threads at once, and after one of them was killed half-way. The server stays
    up until this process ends, or calls `release`.

    Args:
        home: where the sample lives.
        scale: size, 1 for about 20,000 traces. A sample of another size is made anew; None keeps what is there.

    Raises:
        SampleScaleRefused: the scale is not above 0 and at most 500.
        SampleError: the server could not be started, or a database not be filled.
    """
    if scale is not None and not 0 < scale <= data.LARGEST_SCALE:
        raise SampleScaleRefused(scale, data.LARGEST_SCALE)
    with _leasing:
        server = _leased(home)
        for source in SOURCES.values():
            _ensure_filled(server, source, scale)
    return {name: server.url(name) for name in SOURCES}


def server_of(home: Home) -> EmbeddedPostgres:
    """The sample's server, running or not."""
    return EmbeddedPostgres(home.sample / "postgres")


def release() -> None:
    """Give back this process's leases, which happens at its end anyway; the last user stops the server."""
    with _leasing:
        while _leases:
            _leases.popitem()[1].release()


def _leased(home: Home) -> EmbeddedPostgres:
    server = server_of(home)
    if server.data_dir not in _leases:
        _leases[server.data_dir] = Lease(server.data_dir)
        atexit.register(release)
        if sample_is_in_charge():
            logger.warning(
                "None of %s is set: the embedded sample PostgreSQL in %s stands in for them.",
                ", ".join(SOURCE_URL_VARIABLES),
                home.sample,
            )
    else:
        server.start()  # somebody may have stopped or killed it meanwhile
    return server


def _ensure_filled(server: EmbeddedPostgres, source: data.Source, scale: float | None) -> None:
    try:
        _create_database(server, source.name)
        with psycopg.connect(server.url(source.name).get_secret_value()) as connection:
            data.lock(connection)
            now = datetime.now(UTC)
            state = data.read_state(connection)
            if state is None or (scale is not None and state[0] != scale):
                changed = data.fill(connection, source, scale or 1, now)
                logger.info("Filled the sample %s: %d rows, %d results.", source.name, *changed)
            else:
                data.top_up(connection, source, now)
    except psycopg.Error as error:
        raise SampleServerFailed(f"filling {source.name}", server.data_dir, str(error)) from error


def _create_database(server: EmbeddedPostgres, name: str) -> None:
    with psycopg.connect(server.url("postgres").get_secret_value(), autocommit=True) as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            # Of two who create it at once, one may fail on either of these.
            with suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
