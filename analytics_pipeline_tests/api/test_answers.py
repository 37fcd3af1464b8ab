"""One question of one version is asked once, and its answer remembered while there is room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from analytics_pipeline.api.answers import Answers, Tagged
from analytics_pipeline.errors import RequestTimedOut

PEOPLE = 20


class Work:
    """Makes answers, and counts how often."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.times = 0
        self.failure = failure

    async def __call__(self) -> Tagged:
        self.times += 1
        await anyio.sleep(0.05)  # all the others arrive meanwhile
        if self.failure is not None:
            raise self.failure
        return Tagged(f"answer {self.times}", "v1")


def asked(by: int, ask: Callable[[], Awaitable[Tagged]]) -> list[Tagged | Exception]:
    """What so many people get who ask at once."""
    found: list[Tagged | Exception] = []

    async def one() -> None:
        try:
            found.append(await ask())
        except RequestTimedOut as error:
            found.append(error)

    async def everybody() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(by):
                group.start_soon(one)

    anyio.run(everybody)
    return found


def test_those_who_ask_at_once_share_one_answer() -> None:
    answers, work = Answers(), Work()

    found = asked(PEOPLE, lambda: answers.once("v1", work))

    assert found == [Tagged("answer 1", "v1")] * PEOPLE
    assert work.times == 1


def test_a_failure_is_shared_and_not_remembered() -> None:
    answers, failing, work = Answers(), Work(RequestTimedOut(1)), Work()

    assert asked(PEOPLE, lambda: answers.once("v1", failing)) == [failing.failure] * PEOPLE
    assert failing.times == 1
    assert asked(1, lambda: answers.once("v1", work)) == [Tagged("answer 1", "v1")]


def test_an_answer_of_a_newer_version_is_kept_under_its_own_tag() -> None:
    answers, work = Answers(), Work()

    asked(1, lambda: answers.once("v0", work))
    asked(1, lambda: answers.once("v1", work))
    assert work.times == 1

    asked(1, lambda: answers.once("v0", work))
    assert work.times == 2


@pytest.mark.parametrize(("room", "times"), [(1000, 1), (20, 2), (4, 2)])
def test_the_oldest_answers_make_room(room: int, times: int) -> None:
    answers, work = Answers(room), Work()
    asked(1, lambda: answers.once("v1", work))

    async def other(number: int) -> Tagged:
        return Tagged("x" * 5, f"other {number}")

    for number in range(5):
        asked(1, lambda number=number: answers.once(f"other {number}", lambda: other(number)))  # type: ignore[misc]
    asked(1, lambda: answers.once("v1", work))

    assert work.times == times
