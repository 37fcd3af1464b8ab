"""Reading: the bytes of a document as the records that it stands for, or everything that is wrong with it.

Belongs here: JSON and its traps, errors with the path to what they are about. Does not: files (`inbox`), storing
(`intake`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from analytics_pipeline.capabilities.documents.bounded import MOST_PROBLEMS, TooMuchIsWrong, validated_in_bounds
from analytics_pipeline.capabilities.documents.document import DOCUMENTS, RunDocument, UnknownCapability
from analytics_pipeline.capabilities.records import RUNS
from analytics_pipeline.capabilities.rows import tables_of
from analytics_pipeline.capabilities.runs import Record
from analytics_pipeline.capabilities.store import records_of
from analytics_pipeline.errors import CapabilityError, RunRefused

WHOLE = "(document)"
"""The field of problems that are about no single field."""

LARGE_BYTES = 256 * 1024
"""From here on only the first wrong item of a list is told."""
MOST_KEYS = 100_000
"""Of one object in a document."""

_TOLD = 100
_SHOWN = 60
_LONGEST_REASON = 300
_WORDS = {"missing": "is missing", "extra_forbidden": "is no field of this document"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a document.

    Args:
        field: path to it, such as `outputs.images[3].width`.
        reason: what was expected.
        found: the beginning of what stands there.
    """

    field: str
    reason: str
    found: str | None = None

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" + (f" (found {self.found})" if self.found else "")


@dataclass(frozen=True)
class Refusal:
    """Why a document cannot be stored.

    Args:
        problems: what is wrong with it, the first hundred.
        count: of all that is wrong with it.
        run_uid: that it names.
        is_final: whether the rest of a document that is still being written could not mend it.
    """

    problems: Sequence[Problem]
    count: int = 1
    run_uid: str | None = None
    is_final: bool = True


@dataclass(frozen=True)
class ReadRun:
    """The run of a document.

    Args:
        run_uid: of the run.
        table: of its capability.
        payload: rows of that table.
        entities: rows of `runs`.
    """

    run_uid: str
    table: str
    payload: Sequence[Record]
    entities: Sequence[Record]


class _Repeating(dict[str, object]):
    """A JSON object in which keys stand more than once."""

    repeated: Sequence[str] = ()


def read_run(content: bytes) -> ReadRun | Refusal:
    """The records of a document, or why there are none."""
    try:
        value = _parsed(content)
        problems = _repetitions(value)
    except _NotJson as error:
        return Refusal([Problem(WHOLE, str(error))], is_final=error.is_final)
    except RecursionError:
        return Refusal([Problem(WHOLE, "is nested deeper than any document")])
    if not isinstance(value, dict):
        return Refusal([Problem(WHOLE, "is not a JSON object", excerpt(value))])
    named = value.get("run_uid")
    run_uid = named[:_LONGEST_REASON] if isinstance(named, str) else None
    document, invalid = _validated(value, is_large=len(content) > LARGE_BYTES)
    problems += invalid
    if document is None or problems:
        return Refusal(problems[:_TOLD], len(problems), run_uid)
    found = _extracted(document)
    return Refusal([found], run_uid=run_uid) if isinstance(found, Problem) else found


class _NotJson(Exception):
    def __init__(self, reason: str, *, is_final: bool = False) -> None:
        self.is_final = is_final
        super().__init__(reason)


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise _NotJson(f"is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise _NotJson(f"is not JSON: {error.msg}, line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        raise _NotJson(f"is not JSON that can be read: {error}", is_final=True) from None  # thousands of digits


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MOST_KEYS:
        raise _NotJson(f"has an object of {len(pairs):,} keys; {MOST_KEYS:,} are the most", is_final=True)
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    repeating.repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    return repeating


def _validated(value: Mapping[str, object], *, is_large: bool) -> tuple[RunDocument | None, list[Problem]]:
    named = value.get("capability")
    kind = DOCUMENTS.get(named, UnknownCapability) if isinstance(named, str) else UnknownCapability
    try:
        document = validated_in_bounds(kind, value) if is_large else kind.model_validate(value)
    except ValidationError as error:
        return None, [_problem(detail) for detail in error.errors(include_url=False, include_context=False)]
    except TooMuchIsWrong:
        return None, [Problem(WHOLE, f"has more than {MOST_PROBLEMS:,} wrong values")]
    assert isinstance(document, RunDocument)
    return document, []


def _problem(detail: ErrorDetails) -> Problem:
    reason = _WORDS.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    found = None if detail["type"] == "missing" else excerpt(detail["input"])
    return Problem(path_of(detail["loc"]), _shortened(reason, _LONGEST_REASON), found)


def _repetitions(value: object, *place: str | int) -> list[Problem]:
    found = []
    children: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        if isinstance(value, _Repeating):
            found = [Problem(path_of((*place, key)), "stands more than once") for key in value.repeated]
        children = iter(value.items())
    elif isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        children = iter(enumerate(value))
    for key, child in children:
        if isinstance(child, (dict, list)):
            found += _repetitions(child, *place, key)
    return found


def _extracted(document: RunDocument) -> ReadRun | Problem:
    run = document.run()
    try:
        records = records_of(run, document.provenance)
    except RunRefused as error:
        return Problem("datasets, models, metrics", _shortened(str(error), _LONGEST_REASON))
    if not records:
        return Problem("outputs", "holds no result, so there is no row to store")
    entities = [record for record in records if record.table_name == RUNS]
    payload = [record for record in records if record.table_name != RUNS]
    return ReadRun(run.run_uid, document.capability, payload, entities)


def refusal_of(run: ReadRun) -> Refusal | None:
    """Why the rows of a run fit no column; None where they do.

    A batch tells it of all its runs at once, for half the time that asking for each of them takes.
    """
    try:
        tables_of([*run.payload, *run.entities])
    except CapabilityError as error:
        return refused_by_store(run, error)
    return None


def refused_by_store(run: ReadRun, error: Exception) -> Refusal:
    """What the store has against a run."""
    return Refusal([Problem("outputs", _shortened(str(error), _LONGEST_REASON))], run_uid=run.run_uid)


def path_of(place: Sequence[str | int]) -> str:
    """A place in a document as people write it: `outputs.images[3].width`."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier():
            path += f".{_shortened(step, _SHOWN)}" if path else _shortened(step, _SHOWN)
        else:
            path += f"[{excerpt(step)}]"
    return path or WHOLE


def excerpt(value: object) -> str:
    """The beginning of a value; never much of it, as a document may hold what is nobody's business."""
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, list):
        return f"a list of {len(value)} items"
    if isinstance(value, str):
        return json.dumps(_shortened(value, _SHOWN))
    return _shortened(json.dumps(value, default=lambda other: type(other).__name__), _SHOWN)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
