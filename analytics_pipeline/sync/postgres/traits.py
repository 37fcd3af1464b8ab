"""Traits: what is known of a query without running it: does it give the same twice, does it move with writes only.

Belongs here: the judgement, from a plan (`explain`), its words (`expressions`) and the catalogs. In doubt the worse.
Does not: whether row versions can stand for its rows (`projection`), or what follows from the traits.

Not seen: what a function that is declared IMMUTABLE reads, type input and output functions of extensions, a text column
that holds the word 'today' and is cast to a date, values that are equal but not identical (1.0 and 1.00) under
DISTINCT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import psycopg

from analytics_pipeline.sync.postgres.aggregates import order_of_aggregates
from analytics_pipeline.sync.postgres.catalog import (
    Function,
    Relation,
    functions_called,
    relations_read,
    unusual_casts,
    unusual_operators,
)
from analytics_pipeline.sync.postgres.describe import describe
from analytics_pipeline.sync.postgres.explain import Explained, Step, explain
from analytics_pipeline.sync.postgres.expressions import (
    Kind,
    Tokens,
    calls,
    has_words,
    is_constant,
    sort_key,
    split,
    tokens,
)
from analytics_pipeline.sync.postgres.failures import translated, url_of


@dataclass(frozen=True)
class QueryTraits:
    """Why two answers of a query may differ, in words for people; empty where they cannot.

    Args:
        volatile: functions and samples that give another value each time.
        time_dependent: what changes with time, user or settings, without a write in the database.
        ordered_cut: parts whose result depends on the order in which rows happen to come.
        unlogged_or_foreign: relations and functions in FROM whose rows can change without a transaction number.
    """

    volatile: tuple[str, ...] = ()
    time_dependent: tuple[str, ...] = ()
    ordered_cut: tuple[str, ...] = ()
    unlogged_or_foreign: tuple[str, ...] = ()

    @property
    def is_stable(self) -> bool:
        """Whether a second read of the same data at the same moment must give the same rows."""
        return not (self.volatile or self.ordered_cut)

    @property
    def moves_only_with_writes(self) -> bool:
        """Whether its rows must be the same for as long as no transaction wrote anything to the database."""
        return self.is_stable and not (self.time_dependent or self.unlogged_or_foreign)


def query_traits(connection: psycopg.Connection, query: str) -> QueryTraits:
    """Judge a query; it is not run. The connection may be in autocommit or inside a transaction.

    Raises:
        SourceQueryRefused: it is not one SELECT with named columns.
        SourceError: Postgres refused it.
    """
    describe(connection, query)
    with translated(url_of(connection)), connection.transaction(force_rollback=True):
        explained = explain(connection, query)
        return _judge(connection, _Words.of(explained), explained)


@dataclass(frozen=True)
class _Words:
    """The tokens of a plan's expressions and of the texts behind it."""

    plan: tuple[Tokens, ...]
    sources: tuple[Tokens, ...]
    text: str

    @classmethod
    def of(cls, explained: Explained) -> _Words:
        said = tuple(text for step in explained.root.walk() for text in step.expressions())
        return cls(tuple(map(tokens, said)), tuple(map(tokens, explained.sources)), "\n".join(said))


# Their expressions are not in the plan, so the texts of the query and its views have to speak for them.
_SILENT = {"Values Scan", "Limit", "WindowAgg"}


def _judge(connection: psycopg.Connection, words: _Words, explained: Explained) -> QueryTraits:
    steps = tuple(explained.root.walk())
    spoken = words.plan + (words.sources if any(step.type in _SILENT for step in steps) else ())
    called = functions_called(connection, [call for each in spoken for call in calls(each)])
    operators = unusual_operators(connection, {w.text for each in spoken for w in each if w.kind is Kind.OPERATOR})
    casts = unusual_casts(connection, words.text)
    relations = relations_read(connection, steps)
    return QueryTraits(
        volatile=_names(
            (f.name for f in called if f.volatile and f.name not in _OVERLOADS_NOT_MEANT),
            (o.name for o in (*operators, *casts) if o.volatile),
            _samples(steps),
        ),
        time_dependent=_names(
            (f.name for f in called if f.stable and not (f.builtin and f.name in PINNED)),
            (o.name for o in (*operators, *casts) if o.stable),
            _clocks(spoken),
            _clock_words((*words.plan, *words.sources)),
            _zones(words, relations),
        ),
        ordered_cut=_names(
            _cuts(steps, relations),
            _arrays(words),
            order_of_aggregates(words.plan, called, relations, {o.symbol for o in operators}),
        ),
        unlogged_or_foreign=_names((r.name for r in relations if r.escapes), _functions_read(steps, called)),
    )


def _names(*found: Iterator[str]) -> tuple[str, ...]:
    return tuple(sorted(set(chain(*found))))


_OVERLOADS_NOT_MEANT = {"timezone"}
"""timezone(text, timetz) was volatile before PostgreSQL 18; `_zones` looks for it."""

PINNED = frozenset(
    """
    age array_to_json array_to_string concat concat_ws convert convert_from convert_to date date_add date_part
    date_subtract date_trunc enum_first enum_last enum_range extract format format_type generate_series in_range
    json_agg json_agg_strict json_build_array json_build_object json_object_agg json_object_agg_strict
    json_object_agg_unique json_object_agg_unique_strict json_populate_record json_populate_recordset
    json_to_record json_to_recordset jsonb_agg jsonb_agg_strict jsonb_build_array jsonb_build_object
    jsonb_object_agg jsonb_object_agg_strict jsonb_object_agg_unique jsonb_object_agg_unique_strict
    jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz jsonb_path_query_first_tz
    jsonb_path_query_tz jsonb_populate_record jsonb_populate_record_valid jsonb_populate_recordset
    jsonb_to_record jsonb_to_recordset length make_timestamptz numeric overlaps pg_typeof quote_literal
    quote_nullable row_to_json string_agg time timestamp timestamptz timetz timezone to_char to_date to_json
    to_jsonb to_number to_timestamp
    """.split()  # noqa: SIM905 - one a line would be a page
)
"""Functions of pg_catalog that are stable only because of settings (TimeZone, DateStyle …), which the gate compares."""

_CLOCKS = {
    "CURRENT_CATALOG",
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SESSION_USER",
    "SYSTEM_USER",
    "USER",
}
_CLOCK_WORD = re.compile(r"\b(now|today|tomorrow|yesterday)\b", re.IGNORECASE)


def _clocks(spoken: tuple[Tokens, ...]) -> Iterator[str]:
    for words in spoken:
        for at, word in enumerate(words):
            named = at > 0 and (words[at - 1].text == "." or words[at - 1].text.upper() == "AS")
            if word.kind is Kind.WORD and word.text.upper() in _CLOCKS and not named:
                yield word.text.upper()


def _clock_words(texts: tuple[Tokens, ...]) -> Iterator[str]:
    """'today'::date is a constant by the time there is a plan, so it is looked for in the query, too."""
    for words in texts:
        for word in words:
            found = _CLOCK_WORD.search(word.text) if word.kind is Kind.LITERAL else None
            if found:
                yield f"'{found[0].lower()}'"


def _zones(words: _Words, relations: tuple[Relation, ...]) -> Iterator[str]:
    """A time of day with a zone is brought to another zone by today's daylight saving."""
    timetz = any("timetz" in r.types.values() for r in relations) or "::time with time zone" in words.text
    if timetz and any(has_words(each, "AT", "TIME", "ZONE") or "timezone(" in words.text for each in words.plan):
        yield "AT TIME ZONE of a time with time zone"


def _samples(steps: tuple[Step, ...]) -> Iterator[str]:
    if any(step.type == "Sample Scan" and not step.texts("Repeatable Seed") for step in steps):
        yield "TABLESAMPLE without REPEATABLE"


def _functions_read(steps: tuple[Step, ...], called: tuple[Function, ...]) -> Iterator[str]:
    known = {f.name for f in called if f.builtin and not f.volatile and (not f.stable or f.name in PINNED)}
    for step in steps:
        if step.type == "Function Scan":
            listed = (part for text in step.texts("Function Call") for part in split(tokens(text)))
            for call in chain.from_iterable(islice(calls(part), 1) for part in listed):
                if str(call) not in known:
                    yield f"{call}()"
        if step.type == "Foreign Scan" and "Relation Name" not in step.said:
            yield "foreign tables"


_ORDERLESS = {
    "Aggregate",
    "Append",
    "Bitmap Heap Scan",
    "Bitmap Index Scan",
    "BitmapAnd",
    "BitmapOr",
    "CTE Scan",
    "Function Scan",
    "Group",
    "Hash",
    "Hash Join",
    "Incremental Sort",
    "Index Only Scan",
    "Index Scan",
    "Materialize",
    "Memoize",
    "Merge Append",
    "Merge Join",
    "Nested Loop",
    "ProjectSet",
    "Recursive Union",
    "Result",
    "Sample Scan",
    "Seq Scan",
    "SetOp",
    "Sort",
    "Subquery Scan",
    "Table Function Scan",
    "Tid Range Scan",
    "Tid Scan",
    "Values Scan",
    "WorkTable Scan",
}
"""Steps that give the same set of rows whatever the order of those that they read."""


def _cuts(steps: tuple[Step, ...], relations: tuple[Relation, ...]) -> Iterator[str]:
    for step in steps:
        if step.type == "Limit":
            if not _is_total(step.inputs, relations):
                yield "LIMIT without a total order"
        elif step.type == "Unique":
            if not _is_total(step.inputs, relations):
                yield "DISTINCT ON without a total order"
        elif step.type == "WindowAgg":
            yield "a window function"
        elif step.type == "Foreign Scan":
            yield "a foreign table"
        elif step.type not in _ORDERLESS:
            yield f"the plan step {step.type}"


def _is_total(inputs: tuple[Step, ...], relations: tuple[Relation, ...]) -> bool:
    """Whether rows come sorted by all that they are, by what they are grouped by, or by a key of their one table."""
    if len(inputs) != 1 or inputs[0].type not in {"Sort", "Incremental Sort"}:
        return False
    (sort,) = inputs
    keys = {sort_key(tokens(text)) for text in sort.texts("Sort Key")}
    outputs = {sort_key(words) for words in map(tokens, sort.texts("Output")) if not is_constant(words)}
    if outputs <= keys:
        return True
    below = sort.inputs[0]
    if below.type in {"Aggregate", "Group"}:
        grouped = {sort_key(tokens(text)) for text in below.texts("Group Key")}
        return bool(grouped) and grouped <= keys
    named = {key[-1].folded for key in keys if all(word.is_name or word.text == "." for word in key)}
    return below.type == "Seq Scan" and any(
        set(unique) <= named for relation in relations if relation.is_read_by(below) for unique in relation.keys
    )


def _arrays(words: _Words) -> Iterator[str]:
    """Before PostgreSQL 17 a plan shows ARRAY(SELECT …) like any other subquery, so the texts are asked."""
    if any(has_words(each, "ARRAY", "(") for each in (*words.plan, *words.sources)):
        yield "an array made from a subquery"
