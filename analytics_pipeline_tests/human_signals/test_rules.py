"""The rules of human signals, one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl
import pytest

from analytics_pipeline.errors import CaseColumnsMissing
from analytics_pipeline.human_signals import layout
from analytics_pipeline.human_signals.cases import aggregate_cases
from analytics_pipeline.human_signals.schema import MOST_VALUES, build_metric_schema

EXAMPLE = pl.DataFrame(
    {
        "dataset_id": ["c1", "c1", "c2"],
        "metric_name": ["tone", "resolved", "tone"],
        "metric_category": ["SCORE", None, "SCORE"],
        "signals": ['{"value": 4, "tenant": "acme"}', "{'ok': True, 'tenant': 'acme', 'tags': ['a']}", "not json"],
        "source_name": ["bot", "bot", None],
        "conversation": [
            '{"messages": [{"role": "user", "content": "New billing case: Acme Ltd\\nHelp"}]}',
            None,
            None,
        ],
        "additional_input": ['{"message_url": "https://x/1", "sender": "Ann"}', None, None],
        "conversation_stats": ['{"turn_count": 3}', None, None],
    }
)


def frame(*rows: tuple[str, str | None, str | None], **columns: Sequence[Any]) -> pl.DataFrame:
    """Rows of case, metric and signals, with further columns."""
    schema = {"dataset_id": pl.String, "metric_name": pl.String, "signals": pl.String}
    made = pl.DataFrame(list(rows), schema=schema, orient="row")
    return made.with_columns(pl.Series(name, values) for name, values in columns.items())


def head(**values: Any) -> Mapping[str, Any]:
    """The one case of one row with these columns."""
    columns = {name: [value] for name, value in values.items()}
    return aggregate_cases(frame(("c1", "tone", "{}"), **columns)).row(0, named=True)


def signals(*texts: str | None) -> pl.DataFrame:
    """The cases of one metric, a case for each text."""
    return aggregate_cases(frame(*((f"c{number}", "m", text) for number, text in enumerate(texts))))


def test_the_worked_example() -> None:
    assert build_metric_schema(EXAMPLE) == {
        "metrics": {
            "tone": {"category": "score", "signals": ["value"], "signal_types": {"value": "number"}, "values": {}},
            "resolved": {
                "category": "classification",
                "signals": ["ok", "tags"],
                "signal_types": {"ok": "boolean", "tags": "array"},
                "values": {},
            },
        },
        "source_fields": ["source_name"],
        "has_timestamp": False,
    }
    first, second = aggregate_cases(EXAMPLE).to_dicts()
    messages = json.loads(first.pop("Full_Conversation"))
    assert messages == [{"role": "user", "content": "New billing case: Acme Ltd\nHelp"}]
    assert first == {
        "Case_ID": "c1",
        "source_name": "bot",
        "Slack_URL": "https://x/1",
        "Agent_Name": "Ann",
        "Business": "Acme Ltd",
        "Message_Count": 3,
        "additional_input": '{"message_url": "https://x/1", "sender": "Ann"}',
        "tenant": "acme",
        "tone__value": 4,
        "resolved__ok": True,
        "resolved__tags": '["a"]',
    }
    filled = {name: value for name, value in second.items() if value is not None}
    assert filled == {"Case_ID": "c2", "Business": "Unknown", "Message_Count": 0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', 1),
        ("{'a': 1}", 1),
        (" \n{'a': 1}", 1),
        ('{"a": 1,}', 1),
        ('{"a": 1, "a": 2}', 2),
        ("{'a': (1, 2)}", "[1,2]"),
        ("{'a': {3: None}}", '{"3":null}'),
        ('{"a": [NaN, 1]}', "[null,1]"),
        ('{"a": "\\ud800"}', "?"),
        ('"{\\"a\\": 1}"', 1),
        (" \"\\n {'a': 1}\"", 1),
    ],
)
def test_signals_are_json_or_a_python_literal(text: str, found: object) -> None:
    assert signals(text)["m__a"].to_list() == [found]


def test_every_field_that_holds_an_object_may_hold_it_as_a_text_of_json() -> None:
    """Whoever serializes twice would lose the whole conversation."""
    twice = {
        "conversation": json.dumps(json.dumps({"messages": [{"content": "New billing case: Acme"}]})),
        "conversation_stats": json.dumps(json.dumps({"turn_count": 3})),
        "additional_input": json.dumps(json.dumps({"sender": "Ann"})),
    }
    (case,) = aggregate_cases(
        frame(("c", "m", None)).with_columns(**{k: pl.lit(v) for k, v in twice.items()})
    ).to_dicts()

    assert (case["Business"], case["Message_Count"], case["Agent_Name"]) == ("Acme", 3, "Ann")


def test_the_name_of_a_metric_is_that_of_its_rows_to_the_letter() -> None:
    """A filter by a metric of the schema would not find the rows of a name that was trimmed."""
    metrics = build_metric_schema(frame(("c", " m ", '{"a": 1}')))["metrics"]

    assert isinstance(metrics, dict)
    assert list(metrics) == [" m "]


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "not json",
        "[1, 2]",
        "null",
        "3",
        '"{}"',
        "{1, 2}",
        "{'a': open('x')}",
        "{'a': __import__('os')}",
        "{" * 9000,
    ],
)
def test_what_is_no_object_is_ignored_and_never_evaluated(text: str | None) -> None:
    """Otherwise text in a database runs as a program."""
    assert [name for name in signals(text).columns if name.startswith("m__")] == []
    assert build_metric_schema(frame(("c", "m", text)))["metrics"] == {
        "m": {"category": "classification", "signals": [], "signal_types": {}, "values": {}}
    }


def test_categories_of_named_items_become_signals() -> None:
    text = json.dumps(
        {
            "checks": {
                "opening": [{"name": "greeted", "value": True}, {"name": "pace", "score": 2.5}],
                "closing": [
                    {"name": " ", "value": 1},
                    {"name": None, "value": 1},
                    {"name": "both", "value": 1, "score": 9},
                ],
                "empty": [],
            },
            "more": 1,
        }
    )
    case = signals(text).row(0, named=True)
    found = {name: value for name, value in case.items() if name.startswith("m__")}
    assert found == {"m__both": 1, "m__greeted": True, "m__more": 1, "m__pace": 2.5}


@pytest.mark.parametrize(
    "value", [{}, {"p": []}, {"p": [1]}, {"p": [{"name": "x"}]}, {"p": {"name": "x", "value": 1}}, {"p": 1, "q": []}]
)
def test_other_objects_stay_one_signal(value: object) -> None:
    case = signals(json.dumps({"a": value})).row(0, named=True)
    assert json.loads(case["m__a"]) == value


@pytest.mark.parametrize(
    ("metrics", "holders", "common"),
    [(1, 1, False), (2, 1, False), (2, 2, True), (3, 1, False), (3, 2, True), (4, 2, False), (4, 3, True)],
)
def test_a_key_of_more_than_half_of_the_metrics_belongs_to_the_case(metrics: int, holders: int, common: bool) -> None:  # noqa: FBT001
    """At exactly half of them, and with one metric alone, it is a signal."""
    rows = [("c", f"m{number}", '{"t": 1}' if number < holders else f'{{"u{number}": 2}}') for number in range(metrics)]
    columns = aggregate_cases(frame(*rows)).columns
    assert ("t" in columns) == common
    assert ("m0__t" in columns) != common
    schema: Any = build_metric_schema(frame(*rows))
    assert ("t" in schema["metrics"]["m0"]["signals"]) != common


def test_of_common_metadata_the_first_value_wins_and_of_signals_the_last() -> None:
    rows = [
        ("c", "a", '{"t": null, "x": 1}'),
        ("c", "b", '{"t": "first"}'),
        ("c", "a", '{"t": "second", "x": 2}'),
        ("d", "a", '{"x": 3}'),
        ("d", "a", '{"x": null}'),
    ]
    cases = aggregate_cases(frame(*rows))
    assert cases["t"].to_list() == ["first", None]
    assert cases["a__x"].to_list() == [2, None]


def test_common_metadata_overwrites_no_column_of_the_case() -> None:
    rows = [("c", "a", '{"Source_Name": "x", "business": "y"}'), ("c", "b", '{"Source_Name": "x", "business": "y"}')]
    cases = aggregate_cases(frame(*rows, source_name=["bot", "bot"]))
    assert cases.row(0, named=True)["source_name"] == "bot"
    assert cases.row(0, named=True)["Business"] == "Unknown"
    assert len(cases.columns) == 7


def test_the_schema_says_category_and_type_of_the_first_row() -> None:
    rows = frame(
        ("c", "m", '{"a": null, "b": 1, "c": null}'),
        ("c", "m", '{"a": "text", "b": "text"}'),
        ("c", "m", '{"a": 5}'),
        metric_category=["Analysis", "SCORE", None],
    )
    schema: Any = build_metric_schema(rows)
    assert schema["metrics"]["m"]["category"] == "analysis"
    assert schema["metrics"]["m"]["signal_types"] == {"a": "string", "b": "number", "c": "unknown"}


def test_the_schema_lists_the_values_of_texts_sorted_without_blank_ones() -> None:
    texts = ["b", "a", "b", " ", "", "Ä", "\n"]
    rows = frame(*(("c", "m", json.dumps({"a": text, "n": 1})) for text in texts))
    schema: Any = build_metric_schema(rows)
    assert schema["metrics"]["m"]["values"] == {"a": ["a", "b", "Ä"]}


def test_of_free_text_the_schema_lists_the_first_values_only() -> None:
    """Otherwise every version of the store carries every remark that anybody made."""
    rows = frame(*((f"c{number}", "m", json.dumps({"a": f"{number:05}"})) for number in range(MOST_VALUES + 5)))
    schema: Any = build_metric_schema(rows)
    assert schema["metrics"]["m"]["values"]["a"] == [f"{number:05}" for number in range(MOST_VALUES)]


def test_visible_metrics_restrict_the_schema_and_not_what_is_common() -> None:
    schema: Any = build_metric_schema(EXAMPLE, ["tone", "nothing"])
    assert list(schema["metrics"]) == ["tone"]
    assert schema["metrics"]["tone"]["signals"] == ["value"]
    assert build_metric_schema(EXAMPLE, [])["metrics"] == {}


@pytest.mark.parametrize(
    ("message", "business"),
    [
        ("New billing case: Acme Ltd\nHelp", "Acme Ltd"),
        ("Hello!\nNew  Büro case:   Müller & Söhne  \r\nHelp", "Müller & Söhne"),
        ("New billing case:\n\n Acme", "Acme"),
        ("New billing case:", "New billing case:"),
        ("New and old case: Acme", "New and old case: Acme"),
        ("\n \t\n  Globex here  \nmore", "Globex here"),
        ("x" * 100, "x" * 80),
        ("é" * 100, "é" * 80),
        ("", "Unknown"),
        (" \n ", "Unknown"),
        (None, "Unknown"),
        (5, "Unknown"),
    ],
)
def test_business_is_the_label_in_the_first_message(message: object, business: str) -> None:
    conversation = json.dumps({"messages": [{"content": message}, {"content": "New x case: no"}]})
    assert head(conversation=conversation)["Business"] == business


@pytest.mark.parametrize(
    "conversation", [None, "", "text", "[]", "{}", '{"messages": null}', '{"messages": []}', '{"messages": [null]}']
)
def test_a_conversation_without_a_message_is_unknown(conversation: str | None) -> None:
    case = head(conversation=conversation)
    assert case["Business"] == "Unknown"
    has_messages = conversation in {'{"messages": []}', '{"messages": [null]}'}
    assert (case["Full_Conversation"] is not None) == has_messages


@pytest.mark.parametrize(
    ("statistics", "count"),
    [
        ({"turn_count": 3, "user_message_count": 9}, 3),
        ({"turn_count": 0, "user_message_count": 9}, 0),
        ({"turn_count": None, "user_message_count": 2, "ai_message_count": 1}, 3),
        ({"turn_count": "many", "ai_message_count": 1}, 1),
        ({"turn_count": True}, 0),
        ({"turn_count": 1e300}, 0),
        ({}, 0),
        ([], 0),
    ],
)
def test_messages_are_counted_by_turns_or_by_both_sides(statistics: object, count: int) -> None:
    assert head(conversation_stats=json.dumps(statistics))["Message_Count"] == count
    assert head(conversation_stats=repr(statistics))["Message_Count"] == count


def test_the_agent_is_the_sender_or_the_source_where_no_object_says_more() -> None:
    assert head(additional_input='{"sender": "Ann"}', source_name="bot")["Agent_Name"] == "Ann"
    assert head(additional_input='{"other": 1}', source_name="bot")["Agent_Name"] is None
    for text in (None, "", "[1]", '"forwarded"', "forwarded"):
        case = head(additional_input=text, source_name="bot")
        assert (case["Agent_Name"], case["Slack_URL"]) == ("bot", None)


def test_further_fields_are_json_text_and_other_text_stays() -> None:
    case = head(
        evaluation_metadata="{'rubric': 'v3'}",
        actual_reference="The order was refunded.",
        additional_output='{"ticket": 5}',
        additional_input="null",
    )
    assert case["evaluation_metadata"] == '{"rubric":"v3"}'
    assert case["actual_reference"] == "The order was refunded."
    assert case["additional_output"] == '{"ticket": 5}'
    assert case["additional_input"] is None


def test_a_case_is_what_its_first_row_says() -> None:
    moments = [datetime(2024, 1, day) for day in (2, 1)]  # noqa: DTZ001
    rows = frame(("c", "m", "{}"), ("c", "m", "{}"), timestamp=moments, environment=["test", "production"])
    case = aggregate_cases(rows).row(0, named=True)
    assert (case["Timestamp"], case["environment"]) == (moments[0], "test")
    schema = build_metric_schema(rows)
    assert (schema["has_timestamp"], schema["source_fields"]) == (True, ["environment"])


@pytest.mark.parametrize("blank", [None, "", " ", "\t\n"])
def test_rows_without_a_metric_are_skipped_their_case_is_not(blank: str | None) -> None:
    """Otherwise there are columns called nan__value, or a conversation disappears."""
    cases = aggregate_cases(frame(("c", blank, '{"value": 1}'), ("d", "m", '{"value": 2}')))
    assert cases["Case_ID"].to_list() == ["c", "d"]
    assert cases.columns[-1] == "m__value"
    assert build_metric_schema(frame(("c", blank, '{"value": 1}')))["metrics"] == {}


def test_rows_without_a_case_are_left_out() -> None:
    rows = frame(("c", "m", '{"a": 1}'), ("d", "m", '{"a": 2}')).with_columns(
        pl.when(pl.col("dataset_id") == "c").then("dataset_id").alias("dataset_id")
    )
    assert aggregate_cases(rows)["Case_ID"].to_list() == ["c"]


@pytest.mark.parametrize(
    ("values", "type_", "shown"),
    [
        (["true", "null"], pl.Boolean, [True, None]),
        (["1", "-2"], pl.Int64, [1, -2]),
        (["1", "2.5"], pl.Float64, [1.0, 2.5]),
        (["1e400", "null"], pl.String, [None, None]),
        (["9223372036854775808", "1"], pl.Float64, [float(2**63), 1.0]),
        (["9007199254740993"], pl.Int64, [2**53 + 1]),
        (["1", '"many"'], pl.String, ["1", "many"]),
        (["true", "1"], pl.String, ["true", "1"]),
        (["null", "null"], pl.String, [None, None]),
        (['"a"', '["b", 1]'], pl.String, ["a", '["b",1]']),
    ],
)
def test_types_are_those_of_all_values(values: list[str], type_: pl.DataType, shown: list[object]) -> None:
    cases = signals(*(f'{{"a": {value}}}' for value in values))
    assert cases.schema["m__a"] == type_
    assert cases["m__a"].to_list() == shown


def test_names_that_sql_cannot_tell_apart_get_a_number() -> None:
    rows = [("c", "a", '{"b__c": 1, "X": 2, "x": 3}'), ("c", "a__b", '{"c": 4}'), ("c", "z\0", "{}")]
    case = aggregate_cases(frame(*rows)).row(0, named=True)
    assert {name: value for name, value in case.items() if "__" in name} == {
        "a__X": 2,
        "a__b__c": 1,
        "a__x_2": 3,
        "a__b__c_2": 4,
    }


def test_two_thousand_signals() -> None:
    text = json.dumps({f"signal {number}": number for number in range(2000)})
    cases = aggregate_cases(frame(("c", "m", text), ("d", "m", "{}")))
    assert len([name for name in cases.columns if name.startswith("m__")]) == 2000
    assert cases["m__signal 1999"].to_list() == [1999, None]
    schema: Any = build_metric_schema(frame(("c", "m", text)))
    assert len(schema["metrics"]["m"]["signals"]) == 2000


def test_more_signals_than_columns_leave_out_the_rarest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise identifiers as names of signals stop the whole dataset."""
    monkeypatch.setattr(layout, "MOST_COLUMNS", 2)
    rows = [("c", "m", '{"id-1": 1, "often": 1}'), ("d", "m", '{"id-2": 1, "often": 1}'), ("e", "m", '{"id-2": 1}')]
    columns = aggregate_cases(frame(*rows)).columns
    assert columns[-2:] == ["m__id-2", "m__often"]


def test_no_rows_give_no_cases_and_an_empty_schema() -> None:
    empty = frame()
    assert aggregate_cases(empty).height == 0
    assert aggregate_cases(empty).columns[0] == "Case_ID"
    assert build_metric_schema(empty) == {"metrics": {}, "source_fields": [], "has_timestamp": False}
    assert aggregate_cases(pl.DataFrame()).height == 0
    assert build_metric_schema(pl.DataFrame())["metrics"] == {}


def test_one_row() -> None:
    cases = aggregate_cases(frame(("c", "m", '{"a": 1}')))
    assert cases.select("Case_ID", "m__a").rows() == [("c", 1)]


def test_missing_columns_are_named() -> None:
    with pytest.raises(CaseColumnsMissing, match="metric_name and signals") as caught:
        aggregate_cases(pl.DataFrame({"dataset_id": ["c"], "Signals": ["{}"]}))
    assert "The columns are: dataset_id, Signals." in str(caught.value)


def test_keys_that_are_numbers_and_metrics_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pl.DataFrame({"dataset_id": [7, 7], "metric_name": [1, 2], "signals": ['{"a": 1}', '{"b": 2}']})
    assert aggregate_cases(rows).select("Case_ID", "1__a", "2__b").rows() == [(7, 1, 2)]


def test_A11_nested_values_are_json_text_and_an_empty_column_is_text() -> None:  # noqa: N802 - a finding's id
    """Otherwise whoever turns cases into JSON fails at an object inside, and a column without a value has no type."""
    nested: dict[str, Any] = {"deep": {"list": [1, {"x": None}], "text": "é"}, "list": [[], [{}]], "nothing": None}
    cases = signals(json.dumps(nested), "{}")
    assert {str(cases.schema[name]) for name in cases.columns} == {"String", "Int64"}
    assert json.loads(cases["m__deep"][0]) == nested["deep"]
    assert json.loads(cases["m__list"][0]) == nested["list"]
    assert cases["m__nothing"].to_list() == [None, None]
    struct = pl.DataFrame({"dataset_id": ["c"], "metric_name": ["m"], "signals": [{"a": {"b": [1]}}]})
    assert aggregate_cases(struct)["m__a"].to_list() == ['{"b":[1]}']


def test_A14_a_thousand_times_the_rows_are_no_thousand_times_the_work() -> None:  # noqa: N802 - a finding's id
    """Otherwise rows are walked one by one in Python, and large datasets have to be cut off."""
    import sys  # noqa: PLC0415

    def calls(cases: int) -> int:
        rows = frame(*((f"c{number // 2}", f"m{number % 2}", '{"a": 1, "t": "x"}') for number in range(2 * cases)))
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            made = aggregate_cases(rows)
            build_metric_schema(rows)
        finally:
            sys.setprofile(None)
        assert made.height == cases
        return counted

    calls(1)
    assert calls(20_000) < 2 * calls(20)
