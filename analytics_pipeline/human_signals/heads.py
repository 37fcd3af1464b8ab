"""Heads: what a case says of itself, whatever its signals: whose it is, where it was, how it began.

Belongs here: the columns that every case has, made from its first row. Does not: signals (`cases`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from analytics_pipeline.human_signals.frames import asked
from analytics_pipeline.human_signals.parsing import json_or_text, objects_of, texts_of
from analytics_pipeline.human_signals.rows import (
    CONVERSATION,
    INPUT,
    JSON_FIELDS,
    KEY,
    SOURCE_FIELDS,
    STATISTICS,
    TIMESTAMP,
)

CASE_ID, CASE_TIME = "Case_ID", "Timestamp"

_DESCRIBED = ("Slack_URL", "Agent_Name", "Business", "Full_Conversation", "Message_Count")
_NAMES = {"source": SOURCE_FIELDS[0], "input": INPUT, "conversation": CONVERSATION, "statistics": STATISTICS}
_COLUMNS = """
WITH parsed AS (
    SELECT source, input::JSON AS input, conversation::JSON AS conversation, statistics::JSON AS statistics FROM texts
), opened AS (
    SELECT *, conversation->'$.messages' AS messages, conversation->'$.messages[0]' AS message FROM parsed
), read AS (
    SELECT *, CASE json_type(message)
        WHEN 'VARCHAR' THEN message->>'$'
        WHEN 'OBJECT' THEN CASE WHEN json_type(message, '$.content') = 'VARCHAR' THEN message->>'$.content' END
    END AS opening
    FROM opened
)
SELECT
    input->>'$.message_url' AS "Slack_URL",
    CASE WHEN input IS NULL THEN source ELSE input->>'$.sender' END AS "Agent_Name",
    coalesce(label(opening), first_line(opening), 'Unknown') AS "Business",
    CASE WHEN json_type(messages) <> 'NULL' THEN messages::VARCHAR END AS "Full_Conversation",
    coalesce(try_cast(trunc(coalesce(
        number(statistics, '$.turn_count'),
        coalesce(number(statistics, '$.user_message_count'), 0) + coalesce(number(statistics, '$.ai_message_count'), 0)
    )) AS BIGINT), 0) AS "Message_Count"
FROM read
"""
_MACROS = r"""
CREATE TEMP MACRO begun(text) AS replace(regexp_replace(text, '^\s+', ''), chr(13), chr(10));
CREATE TEMP MACRO line_of(text) AS nullif(regexp_replace(split_part(begun(text), chr(10), 1), '\s+$', ''), '');
CREATE TEMP MACRO after(text, prefix) AS substr(text, strpos(text, prefix) + length(prefix));
CREATE TEMP MACRO label(text) AS CASE WHEN regexp_matches(text, 'New\s+\S+\s+case:')
    THEN line_of(after(text, regexp_extract(text, 'New\s+\S+\s+case:'))) END;
CREATE TEMP MACRO first_line(text) AS line_of(left(line_of(text), 80));
CREATE TEMP MACRO number(object, path) AS CASE
    WHEN json_type(object, path) IN ('UBIGINT', 'BIGINT', 'DOUBLE') THEN try_cast(object->>path AS DOUBLE) END;
"""


def head_names(columns: Collection[str]) -> Sequence[str]:
    """The names of the columns that every case has.

    Args:
        columns: of the joined rows.
    """
    sources = [name for name in SOURCE_FIELDS if name in columns]
    time = [CASE_TIME] if TIMESTAMP in columns else []
    return [CASE_ID, *sources, *_DESCRIBED, *time, *(name for name in JSON_FIELDS if name in columns)]


def heads_of(first: pl.DataFrame) -> pl.DataFrame:
    """The columns that every case has.

    Args:
        first: of each case its first row, with the columns that there are.
    """
    columns = [first[KEY].alias(CASE_ID)]
    columns += [first[name] for name in SOURCE_FIELDS if name in first.columns]
    columns += _described(first).get_columns()
    if TIMESTAMP in first.columns:
        columns.append(first[TIMESTAMP].alias(CASE_TIME))
    columns += [json_or_text(first[name]).alias(name) for name in JSON_FIELDS if name in first.columns]
    return pl.DataFrame([pl.Series(c.name, c, pl.String) if c.dtype == pl.Null else c for c in columns])


def _described(first: pl.DataFrame) -> pl.DataFrame:
    """What the conversation, its statistics and the further input tell."""
    found = {
        alias: first[name] if name in first.columns else pl.Series([None] * first.height, dtype=pl.String)
        for alias, name in _NAMES.items()
    }
    read = {alias: texts_of(values) if alias == "source" else objects_of(values) for alias, values in found.items()}
    return asked(_COLUMNS, {"texts": pl.DataFrame(read)}, _MACROS)
