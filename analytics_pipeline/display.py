"""Display: what Dagster shows about an asset beside its data, and what happens when it cannot be made.

Belongs here: the one place in which whatever only decorates (pictures, previews, statistics for people) is made, so
that it can never fail a run. Does not: events that record what was published, results of checks, an asset's work.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from analytics_pipeline.errors import AnalyticsError, ExtraMissing, NothingToShow, QueryFailed

if TYPE_CHECKING:
    import logging

_OURS = Path(__file__).parent
_EXPECTED = (ExtraMissing, NothingToShow)


def displayed(name: str, show: Callable[[], Mapping[str, Any]], log: logging.Logger) -> Mapping[str, Any]:
    """Metadata that only decorates; where it cannot be made, one entry that says why.

    Args:
        name: of that entry.
        show: makes the metadata. It reads what is published and changes nothing.
        log: gets the reason, too: as a warning, unless it is one that users expect.
    """
    try:
        return show()
    except Exception as error:  # noqa: BLE001 - decoration may fail in any way; the run has done its work by now
        text = f"Left out: {_reason(error)}"
        (log.info if isinstance(error, _EXPECTED) else log.warning)("%s: %s", name, text)
        return {name: dg.MetadataValue.text(text)}


def _reason(error: Exception) -> str:
    """The reason in one line, without values of rows: what databases raise may quote them."""
    if isinstance(error, AnalyticsError) and not isinstance(error, QueryFailed):
        return str(error)
    system = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(_OURS)]
    place = f", raised in {own[-1].name}, line {own[-1].lineno}" if own else ""
    return f"{type(error).__name__}{system}{place}. What was published is complete."
