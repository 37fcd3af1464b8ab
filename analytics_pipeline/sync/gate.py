"""The gate: one question that costs nothing and may prove that nothing changed since the last refresh.

Belongs here: what the source answers, what of our side it is compared with, and when the answer is no proof.
Does not: what a changed source leads to (`engine`), or when it is asked (the ticks of schedules and sensors).

PostgreSQL counts transactions. If its snapshot is the same as at the last refresh, word for word, and no transaction
was in progress, none has written since. Statistics counters prove nothing: they come late, can be switched off, and a
read replica has none of the primary's. The position of the last checkpoint tells a server that crashed, was restored
or promoted, whose counting may have begun again at an earlier number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from analytics_pipeline.errors import SourceError
from analytics_pipeline.store import Manifest
from analytics_pipeline.sync import normalize
from analytics_pipeline.sync.derived import derived_version, published_tables
from analytics_pipeline.sync.postgres.failures import source_of
from analytics_pipeline.sync.postgres.pump import Stalled, within
from analytics_pipeline.sync.postgres.role_settings import SETTINGS_SQL
from analytics_pipeline.sync.postgres.session import connected
from analytics_pipeline.sync.spec import SplitSyncSpec
from analytics_pipeline.sync.status import content_of

_NO_IDENTITY = {"password", "sslpassword", "application_name"}
_QUESTION = f"""
SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, s.system_identifier::pg_catalog.text,
       c.timeline_id::pg_catalog.text, c.checkpoint_lsn::pg_catalog.text,
       extract(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.text, d.oid::pg_catalog.text,
       pg_catalog.pg_is_in_recovery()::pg_catalog.text, session_user::pg_catalog.text, current_user::pg_catalog.text,
       pg_catalog.current_schemas(true)::pg_catalog.text, {SETTINGS_SQL}
FROM pg_catalog.pg_control_system() AS s, pg_catalog.pg_control_checkpoint() AS c,
     (SELECT oid FROM pg_catalog.pg_database
      WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) AS d
"""


def source_gate(connection: psycopg.Connection) -> str | None:
    """What the source's gate says in the connection's transaction; None where it proves nothing.

    While a transaction is in progress it proves nothing: on a read replica, the end of one of several may leave the
    snapshot's text as it was.

    Raises:
        psycopg.Error: the server does not answer this question.
    """
    row = connection.execute(_QUESTION).fetchone()
    assert row is not None, "control data are one row"
    oldest, following, running = str(row[0]).split(":")
    return None if oldest != following or running else ":".join(map(str, row))


def source_gate_of(url: SecretStr, patience: float, log: Callable[[str], None]) -> str | None:
    """The same, on a connection of its own, now; None also where the source does not answer in time.

    Args:
        url: of the source.
        patience: seconds for the connection and the answer.
        log: told why there is no answer.
    """

    def ask() -> str | None:
        with connected(url, query_timeout=patience) as connection:
            return source_gate(connection)

    try:
        return within(patience, ask, lambda _: None)
    except Stalled:
        log(f"{source_of(url)} did not answer within {patience:g} s whether anything changed.")
    except SourceError as error:
        log(f"Whether anything changed is not known. {error}")
    return None


def gate_of(source: str, url: SecretStr, spec: SplitSyncSpec, manifest: Manifest, now: datetime) -> str:
    """All that must be the same for nothing to have changed: the source's gate, the spec, the last window, the store.

    Args:
        source: what `source_gate` gave.
        url: of the source; its options may decide which rows a role sees.
        spec: of the dataset.
        manifest: what is published; of it only what was read from the source counts.
        now: a new window opens with time, and rows of the future become rows of it.
    """
    windows = spec.windows(now)
    parts = [
        source,
        _without_secrets(url),
        spec.model_dump_json(exclude={"connections"}),  # they decide how, not what
        version("analytics_pipeline"),
        str(normalize.VERSION),
        derived_version(spec),
        windows[-1].key if windows else "",
        *content_of(manifest, published_tables(spec)),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _without_secrets(url: SecretStr) -> str:
    given = conninfo_to_dict(url.get_secret_value()).items()
    return json.dumps(sorted((key, str(value)) for key, value in given if key not in _NO_IDENTITY))
