"""Datasets by the names that requests use: which table each means, and what it is called in a sentence.

Belongs here: the names. Does not: what is published of them (`service`), what a dataset is (`sync.spec`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analytics_pipeline.errors import DatasetDisabled, DatasetUnknown
from analytics_pipeline.sync.spec import SplitSyncSpec

MONITORING = "monitoring"
CASES = "human_signals_cases"


@dataclass(frozen=True)
class Target:
    """A table that a request means.

    Args:
        table: its name in the store.
        spec: of its dataset.
    """

    table: str
    spec: SplitSyncSpec

    @property
    def label(self) -> str:
        """The table in a sentence."""
        return self.table.replace("_", " ").capitalize()


def cases_table(spec: SplitSyncSpec) -> str | None:
    """The table of a dataset's cases; None where it has none."""
    return f"{spec.name}_cases" if spec.cases else None


class Datasets:
    """All datasets of a code location.

    Args:
        specs: of them.
    """

    def __init__(self, specs: Iterable[SplitSyncSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self._targets: dict[str, Target] = {}
        for spec in self.specs.values():
            cases = cases_table(spec)
            self._targets[spec.name] = Target(cases or spec.view, spec)
            for table in filter(None, (spec.view, cases)):
                self._targets.setdefault(table, Target(table, spec))

    @property
    def enabled(self) -> Sequence[SplitSyncSpec]:
        """Those that are not switched off, by name."""
        return [spec for _, spec in sorted(self.specs.items()) if spec.enabled]

    def spec(self, name: str) -> SplitSyncSpec:
        """The dataset of a name.

        Raises:
            DatasetUnknown, DatasetDisabled: there is none that could be asked.
        """
        if name not in self.specs:
            raise DatasetUnknown(name, [spec.name for spec in self.enabled])
        return self._enabled(self.specs[name])

    def target(self, name: str) -> Target:
        """The table that a dataset's or a table's name means.

        Raises:
            DatasetUnknown, DatasetDisabled: there is none that could be asked.
        """
        if name not in self._targets:
            raise DatasetUnknown(name, [known for known, target in self._targets.items() if target.spec.enabled])
        self._enabled(self._targets[name].spec)
        return self._targets[name]

    def _enabled(self, spec: SplitSyncSpec) -> SplitSyncSpec:
        if not spec.enabled:
            raise DatasetDisabled(spec.name)
        return spec
