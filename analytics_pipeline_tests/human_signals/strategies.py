"""Human-signals rows as sources really have them, and worse, for the tests that compare with the oracle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

TEXTS = [
    "",
    " ",
    "x",
    "acme",
    "Größe 📏",
    'quo"te',
    "New billing case: Acme Ltd\nHelp",
    "\n \n second",
    "tab\there",
    "null",
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**53 + 1, 2**63, -(2**63), 10**30]),
    st.sampled_from([0.5, -2.25, 3.0]),
    st.sampled_from(TEXTS),
)
NAMES = ["value", "Value", "tenant", "ok", "tags", "environment", " ", "", "a__b", "naïve"]
METRICS = ["tone", "resolved", "Tone", "a", "tone__a", " ", "", None]


def mappings(names: Any, values: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(list(names)), values, max_size=most)


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | mappings("ab", inner), max_leaves=4)


def items() -> st.SearchStrategy[Any]:
    """What may stand in a category: mostly a named value."""
    named = st.fixed_dictionaries(
        {"name": st.sampled_from([*NAMES, None, 3])}, optional={"value": VALUES, "score": SCALARS}
    )
    return st.one_of(named, named, named, SCALARS)


def signals() -> st.SearchStrategy[dict[str, Any]]:
    categories = mappings("pq", st.lists(items(), max_size=2), most=2)
    return mappings(NAMES, st.one_of(VALUES, VALUES, categories), most=4)


def written(value: Any) -> st.SearchStrategy[str]:
    """A value as JSON, as JSON with spaces, or as a Python literal."""
    forms = [json.dumps(value), json.dumps(value, ensure_ascii=False, separators=(",", ":")), f" {value!r}"]
    return st.sampled_from(forms)


def texts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str | None]:
    """Values as texts, and texts that say nothing."""
    broken = st.sampled_from(
        [None, "", "not json", "[1, 2]", "null", "{", "{'a': open('x')}", '{"a": NaN}', '{"a": 1,}']
    )
    return st.one_of(*[values.flatmap(written)] * 4, broken)


def conversations() -> st.SearchStrategy[dict[str, Any]]:
    message = st.one_of(
        st.fixed_dictionaries({}, optional={"role": st.just("user"), "content": SCALARS}), st.sampled_from(TEXTS)
    )
    return st.fixed_dictionaries({}, optional={"messages": st.one_of(st.lists(message, max_size=2), SCALARS)})


def heads() -> st.SearchStrategy[Mapping[str, Any]]:
    """What a record says of a case."""
    counts = ("turn_count", "user_message_count", "ai_message_count")
    numbers = st.one_of(st.none(), st.integers(0, 9), st.just(2.5), st.just("3"), st.booleans())
    return st.fixed_dictionaries(
        {
            "source_name": st.sampled_from([None, "bot", "Bot"]),
            "environment": st.sampled_from([None, "production"]),
            "conversation": texts(conversations()),
            "conversation_stats": texts(mappings(counts, numbers)),
            "additional_input": texts(mappings(("message_url", "sender", "more"), SCALARS)),
            "evaluation_metadata": texts(VALUES),
        }
    )


def moments() -> st.SearchStrategy[datetime | None]:
    return st.one_of(st.none(), st.integers(0, 3).map(lambda hours: datetime(2024, 1, 1) + timedelta(hours=hours)))  # noqa: DTZ001


def results(cases: int = 3) -> st.SearchStrategy[Mapping[str, Any]]:
    """One row of the results."""
    return st.fixed_dictionaries(
        {
            "dataset_id": st.integers(1, cases).map(lambda number: f"c{number}"),
            "timestamp": moments(),
            "metric_name": st.sampled_from(METRICS),
            "metric_category": st.sampled_from([None, "", "SCORE", "Analysis"]),
            "signals": texts(signals()),
            "explanation": st.sampled_from([None, "because"]),
        }
    )


def rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Joined rows, in an order."""
    return st.lists(st.tuples(results(), heads()).map(lambda pair: {**pair[0], **pair[1]}), max_size=8)
