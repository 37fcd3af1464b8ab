"""Origin: which server, database and role answer, and whether row-level security hides rows from that role.

Belongs here: the questions. Does not: what a sync does about the answers (`guard`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psycopg

_ORIGIN = """
SELECT d.datname::pg_catalog.text, d.oid::pg_catalog.text, SESSION_USER::pg_catalog.text,
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
"""
_SERVER = "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()"

# The transaction holds a lock on each relation that its queries read, also on those below views. A view reads with the
# rights of its owner (unless it is `security_invoker`), so that the policies for the owner apply.
_RESTRICTED = """
WITH touched AS (
  SELECT c.oid, c.relname, n.nspname, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity, c.reloptions
  FROM pg_catalog.pg_locks AS l
  JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) l.relation
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.locktype OPERATOR(pg_catalog.=) 'relation'
)
SELECT DISTINCT pg_catalog.format('%I.%I', t.nspname, t.relname) FROM touched AS t
WHERE t.relrowsecurity AND (
  (pg_catalog.row_security_active(t.oid) AND pg_catalog.has_any_column_privilege(t.oid, 'SELECT'))
  OR EXISTS (
    SELECT FROM touched AS v
    JOIN pg_catalog.pg_rewrite AS r ON r.ev_class OPERATOR(pg_catalog.=) v.oid
    JOIN pg_catalog.pg_depend AS d ON d.objid OPERATOR(pg_catalog.=) r.oid
      AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
      AND d.refobjid OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_roles AS o ON o.oid OPERATOR(pg_catalog.=) v.relowner
    WHERE v.relkind OPERATOR(pg_catalog.=) 'v' AND NOT o.rolsuper AND NOT o.rolbypassrls
      AND NOT coalesce(
        v.reloptions OPERATOR(pg_catalog.&&) ARRAY['security_invoker=true', 'security_invoker=on'], false
      )
      AND (t.relforcerowsecurity OR NOT pg_catalog.pg_has_role(v.relowner, t.relowner, 'USAGE'))
  )
) ORDER BY 1
"""


@dataclass(frozen=True)
class Origin:
    """Who answers.

    Args:
        server: the system identifier, which a standby shares; None where the role may not read it.
        database: its name.
        database_oid: its number in that server.
        role: that logged in.
    """

    server: str | None
    database: str
    database_oid: str
    role: str

    def __str__(self) -> str:
        server = f"server {self.server}" if self.server else "a server of unknown identifier"
        return f"database {self.database!r} ({self.database_oid}) of {server}, read as {self.role!r}"

    def is_other_than(self, former: Origin) -> bool:
        """Whether another server, database or role answers; a renamed database of a known server is the same."""
        same_server = self.server is not None and self.server == former.server
        other_server = None not in {self.server, former.server} and not same_server
        renamed = self.database != former.database and not same_server
        return other_server or renamed or self.database_oid != former.database_oid or self.role != former.role

    def text(self) -> str:
        """For a status file; `origin_of` reads it."""
        return json.dumps(asdict(self))


def origin_of(text: str | None) -> Origin | None:
    """What `Origin.text` gave; None where that is missing or from another release."""
    try:
        return Origin(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None


def read_origin(session: psycopg.Connection) -> Origin:
    """Ask a session who answers.

    Raises:
        psycopg.Error: the server does not answer this question.
    """
    row = session.execute(_ORIGIN).fetchone()
    assert row is not None, "a session is in one database"
    database, oid, role, may_identify = row
    server = session.execute(_SERVER).fetchone() if may_identify else None
    return Origin(str(server[0]) if server else None, str(database), str(oid), str(role))


def restricted_tables(session: psycopg.Connection) -> Sequence[str]:
    """Tables that the session's transaction has touched and of which row-level security may hide rows.

    Raises:
        psycopg.Error: the server does not answer this question.
    """
    return [str(name) for (name,) in session.execute(_RESTRICTED).fetchall()]
