"""What a leaderboard ranks by: the best value of which metric, and whether more or less of it is better.

Belongs here: that choice, and how it is written down. Does not: the view that follows from it (`views`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from analytics_pipeline.errors.experiments import RankingRefused
from analytics_pipeline.experiments.rows import is_sql_text

logger = logging.getLogger(__name__)

_TAKEN = frozenset({"run_id", "status", "epochs_completed"})


class Goal(Enum):
    """Which values of a metric are the best."""

    MAX = "max"
    MIN = "min"


@dataclass(frozen=True)
class Best:
    """A column of the leaderboard: the best value of a metric over all epochs.

    Args:
        column: its name.
        metric: as it was logged.
        goal: a loss is minimised.
    """

    column: str
    metric: str
    goal: Goal = Goal.MAX

    @classmethod
    def parsed(cls, text: str) -> Best:
        """From `column=max:metric`, as it is typed.

        Raises:
            RankingRefused: it is something else.
        """
        column, _, rest = text.partition("=")
        goal, _, metric = rest.partition(":")
        if not column or not metric or goal not in {one.value for one in Goal}:
            raise RankingRefused(text, "is not written as column=max:metric or column=min:metric")
        return cls(column, metric, Goal(goal))


DEFAULT_RANKING = (Best("best_f1", "val_f1"), Best("best_acc", "val_accuracy"))
"""The first one decides the order."""


def checked_ranking(ranking: Sequence[Best]) -> Sequence[Best]:
    """The metrics, if a leaderboard can be made of them.

    Raises:
        RankingRefused: there is none, two columns have one name, or SQL cannot say a name.
    """
    if not ranking:
        raise RankingRefused("", "is missing: name at least one")
    taken = set(_TAKEN)
    for best in ranking:
        for name in (best.column, best.metric):
            if not is_sql_text(name):
                raise RankingRefused(name, "is no text, or one that is empty or that SQL cannot say")
        if best.column.lower() in taken:
            raise RankingRefused(best.column, "needs a column of its own")
        taken.add(best.column.lower())
    return tuple(ranking)


def stored_ranking(settings: object) -> Sequence[Best]:
    """The metrics as they were written down; the default ones where that says nothing."""
    if not isinstance(settings, list) or not settings:
        return DEFAULT_RANKING
    try:
        return checked_ranking([Best(one["column"], one["metric"], Goal(one["goal"])) for one in settings])
    except (KeyError, TypeError, ValueError) as error:  # somebody else's: logging goes on all the same
        logger.warning("The leaderboard ranks as it does by default: %r was stored instead of a choice.", error)
        return DEFAULT_RANKING


def settings_of(ranking: Sequence[Best]) -> list[dict[str, str]]:
    """How metrics are written down."""
    return [{"column": best.column, "metric": best.metric, "goal": best.goal.value} for best in ranking]
