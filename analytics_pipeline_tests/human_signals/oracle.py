"""The rules of human signals once more, row by row in plain Python, to check the SQL and to measure it beside.

Written from the rules, without a look at the SQL. A case holds the values of its columns; a column that no case fills
is not told from one that is not there, so the columns come with their types.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCE_FIELDS = ("source_name", "source_component", "source_type", "environment")
JSON_FIELDS = ("evaluation_metadata", "actual_reference", "additional_output", "additional_input")
BLANK = re.compile(r"[ \t\n\f\r]*")
Row = Mapping[str, Any]


@dataclass
class Answer:
    """What follows from rows.

    Args:
        schema: of the metrics.
        cases: in the order of their first rows.
        types: SQL type of each column made of signals.
        blank: rows that were skipped.
    """

    schema: dict[str, Any]
    cases: list[dict[str, Any]]
    types: dict[str, str]
    blank: int


@dataclass
class _Metric:
    category: str
    kinds: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, set[str]] = field(default_factory=dict)


def answer(rows: Sequence[Row], columns: Iterable[str], visible: Sequence[str] | None = None) -> Answer:
    """Cases and schema of joined rows, in their order."""
    present = list(columns)
    metrics: dict[str, _Metric] = {}
    parsed: list[tuple[Row, dict[str, Any]]] = []
    blank = 0
    for row in rows:
        if is_blank(row["metric_name"]):
            blank += 1
            parsed.append((row, {}))
            continue
        signals = expanded(parsed_object(row["signals"]))
        category = row.get("metric_category") or ""
        shown_category = "classification" if is_blank(category) else category.lower()
        metric = metrics.setdefault(row["metric_name"], _Metric(shown_category))
        for name, value in signals.items():
            metric.kinds.setdefault(name, []).append(kind(value))
            if isinstance(value, str) and not is_blank(value):
                metric.texts.setdefault(name, set()).add(value)
        parsed.append((row, signals))
    common = common_names(metrics)
    base = base_columns(present)
    names = {metric: sorted(set(found.kinds) - set(common)) for metric, found in sorted(metrics.items())}
    places, types = layout(metrics, common, names, base)
    cases: dict[Any, dict[str, Any]] = {}
    for row, signals in parsed:
        case = cases.get(row["dataset_id"])
        if case is None:
            case = cases[row["dataset_id"]] = head(row, present) | dict.fromkeys(places.values())
        for name, value in signals.items():
            if name not in common:
                column = places[row["metric_name"], name]
                case[column] = shown(value, types[column])
            elif (None, name) in places and value is not None and case[places[None, name]] is None:
                case[places[None, name]] = shown(value, types[places[None, name]])
    schema = {
        "metrics": {
            metric: described(metrics[metric], found)
            for metric, found in names.items()
            if visible is None or metric in visible
        },
        "source_fields": [name for name in SOURCE_FIELDS if name in present],
        "has_timestamp": "timestamp" in present,
    }
    return Answer(schema, list(cases.values()), types, blank)


def is_blank(text: Any) -> bool:
    return text is None or BLANK.fullmatch(text) is not None


def finite(value: Any) -> Any:
    """A value in JSON's terms: no NaN, no tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def parsed_value(text: Any) -> Any:
    if text is None:
        return None
    for parse in (json.loads, lambda literal: ast.literal_eval(literal.strip())):
        try:
            return finite(parse(text))
        except (ValueError, SyntaxError, TypeError, RecursionError):
            continue
    return None


def parsed_object(text: Any) -> Any:
    """As `parsed_value`; what is a text of JSON once more is parsed once more."""
    try:
        inner = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        inner = None
    return parsed_value(inner) if isinstance(inner, str) else parsed_value(text)


def expanded(signals: Any) -> dict[str, Any]:
    if not isinstance(signals, dict):
        return {}
    found: dict[str, Any] = {}
    for name, value in signals.items():
        pairs = category_items(value)
        found |= {each: item for each, item in ([(name, value)] if pairs is None else pairs) if not is_blank(each)}
    return found


def category_items(value: Any) -> list[tuple[Any, Any]] | None:
    if not isinstance(value, dict) or not value or not all(isinstance(items, list) for items in value.values()):
        return None
    items = [item for category in value.values() for item in category]
    if not items or not all(
        isinstance(item, dict) and "name" in item and ("value" in item or "score" in item) for item in items
    ):
        return None
    return [(as_name(item["name"]), item["value"] if "value" in item else item["score"]) for item in items]


def as_name(name: Any) -> str | None:
    return name if name is None or isinstance(name, str) else compact(name)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "number"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def common_names(metrics: Mapping[str, _Metric]) -> list[str]:
    if len(metrics) < 2:
        return []
    counts: dict[str, int] = {}
    for metric in metrics.values():
        for name in metric.kinds:
            counts[name] = counts.get(name, 0) + 1
    return sorted(name for name, count in counts.items() if count / len(metrics) > 0.5)


def base_columns(present: Sequence[str]) -> list[str]:
    return [
        "Case_ID",
        *(name for name in SOURCE_FIELDS if name in present),
        *("Slack_URL", "Agent_Name", "Business", "Full_Conversation", "Message_Count"),
        *(["Timestamp"] if "timestamp" in present else []),
        *(name for name in JSON_FIELDS if name in present),
    ]


def layout(
    metrics: Mapping[str, _Metric], common: Sequence[str], names: Mapping[str, Sequence[str]], base: Sequence[str]
) -> tuple[dict[tuple[str | None, str], str], dict[str, str]]:
    """The column of each signal (of no metric for common metadata), and the columns' types."""
    taken = frozenset(name.lower() for name in base)
    used = set(taken)
    places: dict[tuple[str | None, str], str] = {}
    types: dict[str, str] = {}
    for name in common:
        if name.lower() not in taken:
            kinds = {found for metric in metrics.values() for found in metric.kinds.get(name, ())}
            places[None, name] = column = free(name, used)
            types[column] = sql_type(kinds)
    for metric, found in names.items():
        for name in found:
            places[metric, name] = column = free(f"{metric}__{name}", used)
            types[column] = sql_type(set(metrics[metric].kinds[name]))
    return places, types


def free(name: str, used: set[str]) -> str:
    candidate, number = name, 2
    while candidate.lower() in used:
        candidate, number = f"{name}_{number}", number + 1
    used.add(candidate.lower())
    return candidate


def sql_type(kinds: set[str]) -> str:
    kinds = kinds - {"null"}
    if kinds == {"boolean"}:
        return "BOOLEAN"
    if kinds == {"integer"}:
        return "BIGINT"
    return "DOUBLE" if kinds and kinds <= {"integer", "number"} else "VARCHAR"


def shown(value: Any, type_: str) -> Any:
    if value is None or type_ in {"BOOLEAN", "BIGINT"} or isinstance(value, str):
        return value
    return float(value) if type_ == "DOUBLE" else compact(value)


def described(metric: _Metric, names: Sequence[str]) -> dict[str, Any]:
    types = {
        name: next((shown_kind(each) for each in metric.kinds[name] if each != "null"), "unknown") for name in names
    }
    return {
        "category": metric.category,
        "signals": list(names),
        "signal_types": types,
        "values": {name: sorted(metric.texts.get(name, ())) for name in names if types[name] == "string"},
    }


def shown_kind(found: str) -> str:
    return "number" if found == "integer" else found


def head(row: Row, present: Sequence[str]) -> dict[str, Any]:
    conversation, statistics, extra = (
        found if isinstance(found := parsed_object(row.get(name)), dict) else None
        for name in ("conversation", "conversation_stats", "additional_input")
    )
    messages = (conversation or {}).get("messages")
    case = {
        "Case_ID": row["dataset_id"],
        **{name: row[name] for name in SOURCE_FIELDS if name in present},
        "Slack_URL": as_name((extra or {}).get("message_url")),
        "Agent_Name": row.get("source_name") if extra is None else as_name(extra.get("sender")),
        "Business": business(messages),
        "Full_Conversation": None if messages is None else compact(messages),
        "Message_Count": message_count(statistics or {}),
    }
    if "timestamp" in present:
        case["Timestamp"] = row["timestamp"]
    return case | {name: container_or_text(row[name]) for name in JSON_FIELDS if name in present}


def business(messages: Any) -> str:
    first = messages[0] if isinstance(messages, list) and messages else None
    text = first.get("content") if isinstance(first, dict) else first
    if not isinstance(text, str):
        return "Unknown"
    label = re.search(r"New\s+\S+\s+case:\s*([^\r\n]*)", text, re.ASCII)
    if label and label[1].strip(" \t\n\f\r"):
        return label[1].strip(" \t\n\f\r")
    lines = [line.strip(" \t\n\f\r") for line in re.split(r"[\r\n]", text)]
    return next((line[:80].rstrip(" \t\n\f\r") for line in lines if line), "Unknown")


def message_count(statistics: Mapping[str, Any]) -> int:
    turns, user, other = (
        value if isinstance(value := statistics.get(name), (int, float)) and not isinstance(value, bool) else None
        for name in ("turn_count", "user_message_count", "ai_message_count")
    )
    return int(turns) if turns is not None else int((user or 0) + (other or 0))


def container_or_text(text: Any) -> Any:
    """JSON of an object or list, to be compared by what it says; other text as it is."""
    value = parsed_value(text)
    if isinstance(value, (dict, list)):
        return compact(value)
    return None if text is not None and text.strip() == "null" else text
