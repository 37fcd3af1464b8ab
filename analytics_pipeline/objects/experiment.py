"""Experiments: runs with fields, kept with their objects under the experiment's id.

Belongs here: making, persisting, reloading and deleting them. Does not: how the index is written and read
(`experiment_index`), what a killed persist leaves (`sweep`), or the tables of runs and metrics.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Self, overload

from analytics_pipeline.errors import ExperimentExists, ExperimentNotFound, RunNotInExperiment
from analytics_pipeline.objects import experiment_index
from analytics_pipeline.objects.base import Base, open_base
from analytics_pipeline.objects.datastore import BaseLike
from analytics_pipeline.objects.experiment_index import Row
from analytics_pipeline.objects.mapping import AttributeMapping
from analytics_pipeline.objects.names import checked_experiment_id


class Run:
    """One run: an id, and fields that are any values which can be stored.

    A `DataStore` among the fields is an object of its own; all other values are in the experiment's index.
    """

    def __init__(self, id_experiment: str, id_run: str, fields: AttributeMapping | None = None) -> None:
        self.id_experiment = id_experiment
        self.id_run = id_run
        self.fields = AttributeMapping() if fields is None else fields

    def __repr__(self) -> str:
        return f"Run(id_run={self.id_run!r}, fields={list(self.fields)!r})"


class Runs(Sequence[Run]):
    """The runs of an experiment, in the order in which they were made."""

    def __init__(self, id_experiment: str, runs: Sequence[Run] = ()) -> None:
        self._id_experiment = id_experiment
        self._runs = list(runs)

    @overload
    def __getitem__(self, at: int) -> Run: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Run]: ...

    def __getitem__(self, at: int | slice) -> Run | Sequence[Run]:
        return self._runs[at]

    def __len__(self) -> int:
        return len(self._runs)

    def first(self) -> Run:
        """The run that was made first.

        Raises:
            RunNotInExperiment: there is none.
        """
        if not self._runs:
            raise RunNotInExperiment(self._id_experiment, "run yet")
        return self._runs[0]

    def by_id(self, id_run: str) -> Run:
        """A run by its id.

        Raises:
            RunNotInExperiment: there is none with this id.
        """
        for run in self._runs:
            if run.id_run == id_run:
                return run
        raise RunNotInExperiment(self._id_experiment, f"run {id_run}")

    def add(self, run: Run) -> None:
        """Add a run, the last one from now on."""
        self._runs.append(run)


class Experiment:
    """Runs that belong together. What is not persisted is in memory alone.

    Args:
        id_experiment: its id, of the form that `uuid.uuid4` gives.
        base: where it is kept.

    Raises:
        PrefixRefused: the id has another form.
    """

    def __init__(self, id_experiment: str, base: Base, runs: Sequence[Run] = ()) -> None:
        self.id_experiment = checked_experiment_id(id_experiment)
        self.runs = Runs(self.id_experiment, runs)
        self._base = base

    def __repr__(self) -> str:
        return f"Experiment(id_experiment={self.id_experiment!r}, runs={len(self.runs)})"

    @contextmanager
    def run(self) -> Iterator[Run]:
        """A new run, which is one of the experiment's when the `with` block ends, however it ends."""
        run = Run(self.id_experiment, str(uuid.uuid4()))
        try:
            yield run
        finally:
            self.runs.add(run)

    def persist(self, if_exists: Literal["fail", "replace"] = "fail") -> Self:
        """Store all runs: new objects, then the index that names them, then the former objects are deleted.

        Returns the experiment itself.

        Whatever stops it, the former version stays whole until the new one is; `sweep` removes what was left over.

        Raises:
            ExperimentExists: it is stored already and is not to be replaced.
            ExperimentCopied: what is stored names objects that are not below it; nothing was written or removed.
            ValueError: `if_exists` is neither.
            ObjectUnsupported: names the path of what cannot be stored; nothing was written.
            ObjectUnwritable: the former version is unchanged.
        """
        if if_exists not in {"fail", "replace"}:
            raise ValueError(f"if_exists is 'fail' or 'replace', not {if_exists!r}. Nothing was stored.")
        rows = [Row(run.id_run, run.fields) for run in self.runs]
        prepared = experiment_index.prepare(rows, self.id_experiment, self._base)
        with self._base.exclusive(self.id_experiment):
            former = experiment_index.read_urls(self.id_experiment, self._base)
            if former is not None and if_exists == "fail":
                raise ExperimentExists(self.id_experiment)
            experiment_index.write(prepared, self.id_experiment, self._base)
            for path in former or ():
                self._base.remove(path)
        return self

    def reload(self) -> None:
        """Take all runs from what is stored; what was not persisted is gone.

        Raises:
            ExperimentNotFound: it is not stored.
            ObjectDamaged, ObjectRefused: an object of it cannot be loaded; the runs in memory are unchanged.
            ExperimentCopied: it names objects that are not below it.
            ObjectsUnreachable: the object store does not answer.
        """
        rows = experiment_index.read(self.id_experiment, self._base)
        if rows is None:
            raise ExperimentNotFound(self.id_experiment, str(self._base))
        self.runs = Runs(self.id_experiment, [Run(self.id_experiment, row.id_run, row.fields) for row in rows])

    def delete(self) -> int:
        """Delete what is stored, the index first; the number of objects that went. Runs in memory stay."""
        with self._base.exclusive(self.id_experiment):
            experiment_index.remove(self.id_experiment, self._base)
            return self._base.remove_all(self.id_experiment)


def create_experiment(id_experiment: str | None = None, *, base: BaseLike = None) -> Experiment:
    """A new experiment, in memory.

    Args:
        id_experiment: its id; a new one by default.
        base: folder, URL or base to keep it in; the one in charge by default (`open_base`).

    Raises:
        PrefixRefused: the id is none.
    """
    return Experiment(id_experiment or str(uuid.uuid4()), open_base(base))


def load_experiment(id_experiment: str, *, base: BaseLike = None) -> Experiment:
    """An experiment that is stored.

    Raises:
        ExperimentNotFound, ObjectDamaged, ObjectRefused: see `Experiment.reload`.
        PrefixRefused: the id is none.
    """
    experiment = Experiment(id_experiment, open_base(base))
    experiment.reload()
    return experiment
