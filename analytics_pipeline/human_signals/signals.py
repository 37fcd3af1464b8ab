"""Signals: what the `signals` of each row say, one row a signal.

Belongs here: taking objects apart, category expansion, the type of a value. Does not: which signals are common to most
metrics, which columns follow (`schema`).
"""

from __future__ import annotations

import polars as pl

from analytics_pipeline.human_signals.frames import asked
from analytics_pipeline.human_signals.parsing import objects_of
from analytics_pipeline.human_signals.rows import CaseRows

_MACROS = """
CREATE TEMP MACRO items_of(value) AS json_extract(value, '$.*[*]');
CREATE TEMP MACRO is_named(item) AS
    json_exists(item, '$.name') AND (json_exists(item, '$.value') OR json_exists(item, '$.score'));
CREATE TEMP MACRO is_categories(type, value) AS CASE WHEN type = 'OBJECT' AND contains(value::VARCHAR, '"name"') THEN
    len(items_of(value)) > 0
    AND len(list_filter(items_of(value), lambda item: NOT is_named(item))) = 0
    AND len(list_filter(json_extract(value, '$.*'), lambda category: json_type(category) <> 'ARRAY')) = 0
    ELSE false END;
CREATE TEMP MACRO value_of(item) AS
    CASE WHEN json_exists(item, '$.value') THEN item->'$.value' ELSE item->'$.score' END;
CREATE TEMP MACRO number_type(type, value) AS CASE
    WHEN type <> 'DOUBLE' AND try_cast(value AS BIGINT) IS NOT NULL THEN 'integer'
    WHEN isfinite(try_cast(value AS DOUBLE)) THEN 'number'
    ELSE 'null' END;
CREATE TEMP MACRO type_of(type, value) AS CASE type
    WHEN 'NULL' THEN 'null' WHEN 'BOOLEAN' THEN 'boolean' WHEN 'VARCHAR' THEN 'string' WHEN 'ARRAY' THEN 'array'
    WHEN 'OBJECT' THEN 'object' ELSE number_type(type, value::VARCHAR) END;
CREATE TEMP MACRO text_of(type, value) AS CASE WHEN type = 'VARCHAR' THEN value->>'$' ELSE value::VARCHAR END;
"""
_PLAIN = """
SELECT objects.row, element.id::UBIGINT AS place, element.key AS signal, type_of(element.type, element.value) AS type,
       text_of(element.type, element.value) AS value
FROM objects, json_each(objects.signals::JSON) AS element
WHERE NOT is_categories(element.type, element.value)
"""
_EXPANDED = """
SELECT row, place, signal, type_of(json_type(value), value) AS type, text_of(json_type(value), value) AS value
FROM (
    SELECT row, place, item->>'$.name' AS signal, value_of(item) AS value
    FROM (
        SELECT objects.row, element.id::UBIGINT AS place, unnest(items_of(element.value)) AS item
        FROM objects, json_each(objects.signals::JSON) AS element
        WHERE is_categories(element.type, element.value)
    )
)
"""


def signals_of(cases: CaseRows) -> pl.DataFrame:
    """Every signal of the rows, each once, and one row with no signal for each row that has none; in no order.

    Returns:
        `row`, `case`, `metric`, `category`, `signal`, `type` (boolean, integer, number, string, array, object, null)
        and `value` (text; JSON for arrays and objects; null for null).
    """
    rows = cases.rows
    objects = rows.select("row", pl.when(pl.col("metric").is_not_null()).then(pl.col("signals")))
    objects = objects.with_columns(objects_of(objects["signals"]).alias("signals")).drop_nulls()
    found = _last_of_each(_taken_apart(objects))
    silent = rows.select("row").join(found.select("row"), on="row", how="anti")
    found = pl.concat([found.drop("place"), silent], how="diagonal")
    return found.with_columns(rows[name].gather(found["row"]).alias(name) for name in ("case", "metric", "category"))


def _taken_apart(objects: pl.DataFrame) -> pl.DataFrame:
    plain, expanded = (asked(sql, {"objects": objects}, _MACROS) for sql in (_PLAIN, _EXPANDED))
    found = plain if expanded.is_empty() else pl.concat([plain, expanded])
    named = pl.col("signal").str.contains(r"[^\t\n\f\r ]")
    return found.filter(named.fill_null(value=False)).with_columns(
        pl.when(pl.col("type") != "null").then(pl.col("value")).alias("value")
    )


def _last_of_each(found: pl.DataFrame) -> pl.DataFrame:
    """Of a signal that stands twice in one row, the last as the object was written."""
    name = found["signal"].cast(pl.Categorical).to_physical().cast(pl.UInt64)
    if (found["row"].cast(pl.UInt64) * 2**32 + name).n_unique() == found.height:
        return found
    ordered = found.sort("row", "place", maintain_order=True)  # the items of an expanded signal stay in their order
    return ordered.unique(["row", "signal"], keep="last")
