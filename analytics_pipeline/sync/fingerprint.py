"""Fingerprints: what a partition of a source contains, in one comparable value.

Belongs here: the SQL that hashes a row or sums up a query, the sums, the identity of the rules (`spec_hash`).
Does not: reading rows (`postgres`), deciding what to do about a difference (`engine`).

A checksum hashes every value of a row; xmin hashes the row's version, which Postgres keeps, and is far cheaper. A
fingerprint is the number of rows and the sum of their hashes modulo 2^64: independent of order, the same whether
Postgres sums up a grouped query or we sum up what travels with the rows of a read. A sum, because an exclusive or
cancels equal rows in pairs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analytics_pipeline.sync.postgres.sql import subselect
from analytics_pipeline.sync.postgres.types import ColumnRule
from analytics_pipeline.sync.spec import FingerprintKind

_MODULUS = 2**64
_OPERATOR = re.compile(r"OPERATOR\(pg_catalog\.([^)]+)\)")


@dataclass(frozen=True)
class Fingerprint:
    """Rows of a partition and the sums of their hashes.

    Args:
        rows: how many.
        totals: the sum of the rows' hashes, modulo 2^64, of each kind that was taken.
    """

    rows: int
    totals: Mapping[FingerprintKind, int]

    @classmethod
    def nothing(cls, kinds: Iterable[FingerprintKind]) -> Fingerprint:
        """Of no rows."""
        return cls(0, dict.fromkeys(kinds, 0))

    def plus(self, rows: int, totals: Mapping[FingerprintKind, int]) -> Fingerprint:
        """The fingerprint after more rows."""
        summed = {kind: (total + totals[kind]) % _MODULUS for kind, total in self.totals.items()}
        return Fingerprint(self.rows + rows, summed)

    def of(self, kind: FingerprintKind) -> Fingerprint:
        """This kind alone."""
        return Fingerprint(self.rows, {kind: self.totals[kind]})

    def is_in(self, published: str | None) -> bool:
        """Whether a published fingerprint, which may be of several kinds, says the same of every kind of this one."""
        return set(str(self).split()) <= set((published or "").split())

    def __str__(self) -> str:
        return " ".join(f"{kind.value}:{self.rows}:{total:016x}" for kind, total in self.totals.items())


def row_hash(rules: Sequence[ColumnRule]) -> str:
    """The SQL for a row's hash: equal only for rows that are the same in every column.

    Each column is hashed with a seed of its own, so that values cannot change places unseen; the last hash mixes what
    the exclusive or leaves apart, so that sums of rows cannot cancel. It takes the 64 bits as its seed, because
    PostgreSQL folds a 64-bit argument to 32. Half of the time of hash_record_extended.

    Source: the extended hash functions of PostgreSQL's hash opclasses, PostgreSQL 14 and later.
    """
    columns = (f"coalesce({rule.hashed(seed)}, -{seed})" for seed, rule in enumerate(rules, start=1))
    return f"pg_catalog.hashint4extended(0, {' OPERATOR(pg_catalog.#) '.join(columns)})"


def grouped_query(query: str, bucket: str, hashes: Sequence[str], where: str | None = None) -> str:
    """The SELECT that gives each window's bucket, rows and sum of each hash, in one pass."""
    condition = f" WHERE {where}" if where else ""
    totals = "".join(f", pg_catalog.sum(({hashed})::pg_catalog.numeric)::pg_catalog.text" for hashed in hashes)
    return f"SELECT {bucket} AS bucket, pg_catalog.count(*){totals} FROM {subselect(query)}{condition} GROUP BY 1"


def spec_hash(rules: Mapping[str, ColumnRule], names: Mapping[str, str], context: Iterable[str]) -> str:
    """The identity of everything but the rows by which a partition became what it is.

    Args:
        rules: of the columns, by source name.
        names: their names in the store.
        context: queries, geometry, versions, the source's identity without secrets.
    """
    described = [
        [
            name,
            names[name],
            rule.source_type,
            str(rule.arrow_type),
            rule.identity or _unqualified(rule.expression),
            _unqualified(rule.hashed(0)),
        ]
        for name, rule in rules.items()
    ]
    return hashlib.sha256(json.dumps([described, list(context)]).encode()).hexdigest()[:32]


def _unqualified(sql: str) -> str:
    """Built-ins without their schema: it was not always written, and what was read without it is the same."""
    return _OPERATOR.sub(r"\1", sql).replace("pg_catalog.", "")
