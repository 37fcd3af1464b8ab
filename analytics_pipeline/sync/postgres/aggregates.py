"""Aggregates: which of those in a plan give another result when their rows come in another order.

Belongs here: the rule for each aggregate, and whether its arguments may be floating-point numbers, whose sum depends on
the order. Does not: LIMIT, DISTINCT ON and windows (`traits`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from analytics_pipeline.sync.postgres.catalog import Function, Relation
from analytics_pipeline.sync.postgres.expressions import (
    Call,
    Kind,
    Token,
    Tokens,
    arguments,
    calls,
    columns,
    has_words,
    is_constant,
    sort_key,
)

_ORDERLESS = frozenset(
    """
    bit_and bit_or bit_xor bool_and bool_or count cume_dist dense_rank every max min mode percent_rank
    percentile_cont percentile_disc range_agg range_intersect_agg rank regr_count
    """.split()  # noqa: SIM905 - one a line would be a page
)
_EXACT_UNLESS_FLOAT = frozenset(
    """
    avg stddev stddev_pop stddev_samp sum var_pop var_samp variance
    """.split()  # noqa: SIM905 - one a line would be a page
)
_FLOAT = frozenset(
    """
    corr covar_pop covar_samp regr_avgx regr_avgy regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    """.split()  # noqa: SIM905 - one a line would be a page
)
_SYNTAX = frozenset({"json_arrayagg", "json_objectagg"})
_FLOATING = frozenset(
    """
    float4 float8 money _float4 _float8 _money point line lseg box path polygon circle
    """.split()  # noqa: SIM905 - one a line would be a page
)
_FLOAT_CASTS = ("::double precision", "::real", "::money")
_EXACT_CASTS = ("::numeric", "::bigint", "::integer", "::smallint")
_FLOAT_OPERATORS = frozenset({"<->", "@-@"})


def order_of_aggregates(
    expressions: Iterable[Tokens],
    called: Iterable[Function],
    relations: Iterable[Relation],
    unusual_operators: AbstractSet[str],
) -> Iterator[str]:
    """The reasons for people, one an aggregate that depends on order.

    Args:
        expressions: of a plan.
        called: what they call.
        relations: what the plan reads.
        unusual_operators: symbols that are not only PostgreSQL's own.
    """
    functions, read = {f.name: f for f in called}, tuple(relations)
    for words in expressions:
        for call in calls(words):
            function = functions.get(str(call))
            if call.name in _SYNTAX or (function is not None and function.aggregate):
                yield from _reasons(call, function, _Numbers(functions, read, unusual_operators))


class _Numbers:
    """Whether an argument may be a floating-point number. Casts to one stand in the plan, implicit ones included."""

    def __init__(
        self, functions: dict[str, Function], relations: tuple[Relation, ...], operators: AbstractSet[str]
    ) -> None:
        self.relations = relations
        self._makers = {name for name, f in functions.items() if f.makes_float}
        self._operators = operators | _FLOAT_OPERATORS

    def may_float(self, words: Tokens) -> bool:
        """In doubt it may."""
        words = _without_exact(words)
        return (
            any(word.kind is Kind.CAST and word.text.startswith(_FLOAT_CASTS) for word in words)
            or any(word.text in {"SubPlan", "InitPlan"} for word in words)
            or any(word.kind is Kind.OPERATOR and word.text in self._operators for word in words)
            or any(str(call) in self._makers for call in calls(words))
            or any(self._column_may_float(name) for name in columns(words))
        )

    def _column_may_float(self, name: str) -> bool:
        """A name that no table has comes from a subquery, of which nothing is known."""
        types = [r.types[name] for r in self.relations if name in r.types]
        return not types or any(type_ is None or type_ in _FLOATING for type_ in types)


def _without_exact(words: Tokens) -> Tokens:
    """The words but for (…)::numeric and its like: a row's value is exact from there on, whatever stands inside."""
    kept: list[Token] = []
    opened: list[int] = []
    last = 0
    for word in words:
        if word.kind is Kind.CAST and word.text.startswith(_EXACT_CASTS) and kept and kept[-1].text == ")":
            del kept[last:]
            continue
        if word.text == "(":
            opened.append(len(kept))
        elif word.text == ")" and opened:
            last = opened.pop()
        kept.append(word)
    return tuple(kept)


def _reasons(call: Call, function: Function | None, numbers: _Numbers) -> Iterator[str]:
    if function is not None and not function.builtin:
        yield f"the aggregate {call}, whose result may depend on the order of rows"
    elif call.name in _FLOAT or (call.name in _EXACT_UNLESS_FLOAT and numbers.may_float(call.inside)):
        yield "an aggregate over floating-point numbers"
    elif call.name not in _ORDERLESS | _EXACT_UNLESS_FLOAT and not _is_ordered(call, numbers.relations):
        yield f"{call.name} without a total order"


def _is_ordered(call: Call, relations: tuple[Relation, ...]) -> bool:
    """Whether it is sorted by all of its arguments, or by a key of the only table."""
    if has_words(call.inside[:1], "DISTINCT"):
        return True
    given, keys = arguments(call)
    if all(is_constant(each) or sort_key(each) in keys for each in given):
        return bool(keys)
    named = {key[-1].folded for key in keys if key and all(word.is_name or word.text == "." for word in key)}
    return len(relations) == 1 and any(set(unique) <= named for unique in relations[0].keys)
