"""The asset checks of one dataset: by hand, or after a materialisation, as every refresh evaluates them by itself.

Belongs here: which check guards which asset. Does not: the answers (`sync.checks`), evaluations by a refresh
(`sync_jobs`).
"""
# No `from __future__ import annotations`: Dagster reads the context's annotation of checks built inside a function.

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from analytics_pipeline.components.sync_events import failing_plainly, severity
from analytics_pipeline.resources import AnalyticsResource
from analytics_pipeline.sync.checks import Check, CheckResult
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

if TYPE_CHECKING:
    from analytics_pipeline.sync.engine import SyncJob

_DESCRIPTIONS = {
    Check.EQUALS_SOURCE: "Every partition is in the source as it was read from there, by its fingerprint.",
    Check.ROWS_IN_REST: "No row is without a time, before the start, or in the future.",
    Check.UNIQUE_KEYS: "No two rows share the declared key.",
    Check.SCHEMA_UNCHANGED: "The columns are those of the version before.",
    Check.NO_ORPHAN_RESULTS: "Every result has its record.",
    Check.FILES_INTACT: "Every data file holds the bytes that were written; each audit reads all of them.",
    Check.NO_ROW_SECURITY: "No policy of row-level security hides rows of the source from the role that reads it.",
    Check.VERIFIED_IN_TIME: "The store was compared with its source within twice the refresh interval.",
}


def sync_checks(spec: SplitSyncSpec) -> dg.AssetChecksDefinition:
    """The checks of a dataset's tables and its view, in one op: they share a look at the source."""

    @dg.multi_asset_check(
        name=f"{spec.name}_checks",
        specs=[_check_spec(check, asset) for asset, checks in _checks(spec).items() for check in checks],
        can_subset=True,
    )
    def checks(context: dg.AssetCheckExecutionContext, analytics: AnalyticsResource) -> Iterator[dg.AssetCheckResult]:
        """The checks that were asked for."""
        with failing_plainly():
            results = _results(analytics.sync_job(spec, context.log.info), context.selected_asset_check_keys)
        for result in results:
            if dg.AssetCheckKey(dg.AssetKey(result.table), result.name.value) in context.selected_asset_check_keys:
                yield dg.AssetCheckResult(
                    asset_key=result.table,
                    check_name=result.name.value,
                    passed=result.passed,
                    severity=severity(result),
                    description=result.description,
                    metadata=dict(result.numbers),
                )

    return checks


def _results(job: "SyncJob", selected: Collection[dg.AssetCheckKey]) -> Sequence[CheckResult]:
    """The answers; the files are read only for those who ask for that."""
    files = [key for key in selected if key.name == Check.FILES_INTACT.value]
    others = job.check() if len(files) < len(selected) else ()
    return [*others, *(job.check_files() if files else ())]


def _checks(spec: SplitSyncSpec) -> dict[str, Sequence[Check]]:
    of_view = {spec.view: [Check.NO_ORPHAN_RESULTS, Check.NO_ROW_SECURITY, Check.VERIFIED_IN_TIME]}
    of_cases = {spec.cases_table: [Check.FILES_INTACT]} if spec.cases else {}
    return {spec.table(half): _checks_of_half(spec, half) for half in Half} | of_view | of_cases


def _checks_of_half(spec: SplitSyncSpec, half: Half) -> Sequence[Check]:
    keyed = [Check.UNIQUE_KEYS] if spec.primary_key.get(half) else []
    return [Check.EQUALS_SOURCE, Check.ROWS_IN_REST, Check.SCHEMA_UNCHANGED, Check.FILES_INTACT, *keyed]


def _check_spec(check: Check, asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(check.value, asset=asset, description=_DESCRIPTIONS[check])
