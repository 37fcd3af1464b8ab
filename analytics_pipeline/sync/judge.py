"""The judge: what the queries' own text says about trusting their answers, asked while fingerprints are computed.

Belongs here: the traits of both queries and the gate of the source, on a connection of their own, for those who wait.
Does not: how traits are found (`postgres.traits`), what the gate is compared with (`gate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import psycopg

from analytics_pipeline.sync.connections import asked
from analytics_pipeline.sync.gate import source_gate
from analytics_pipeline.sync.postgres.snapshot import Snapshot
from analytics_pipeline.sync.postgres.traits import QueryTraits, query_traits
from analytics_pipeline.sync.spec import Half, SplitSyncSpec
from analytics_pipeline.waiting import result_of

_Judged = tuple[Mapping[Half, QueryTraits], str | None]


@dataclass(frozen=True)
class Judge:
    """Both queries of a dataset in one snapshot.

    Args:
        snapshot: to ask in.
        spec: of the dataset.
        seconds: to wait for an answer.
        log: told where the source does not show its gate.
    """

    snapshot: Snapshot
    spec: SplitSyncSpec
    seconds: float
    log: Callable[[str], None]
    _judged: Future[_Judged] = field(default_factory=Future, repr=False, compare=False)

    def run(self) -> None:
        """Find out; the others wait for it.

        Raises:
            SourceError: the source could not be asked; those who wait get the same.
        """
        try:
            self._judged.set_result(asked(self.snapshot, self.seconds, self._ask))
        except BaseException as error:
            self._judged.set_exception(error)
            raise

    def doubts(self, half: Half) -> Sequence[str]:
        """Why two reads of one snapshot, at one moment, might differ."""
        traits = result_of(self._judged)[0][half]
        return (*traits.volatile, *traits.ordered_cut)

    def moves(self, half: Half) -> Sequence[str]:
        """By what rows come and go with time alone; each connection of a snapshot has a now() of its own."""
        return result_of(self._judged)[0][half].time_dependent

    def gate(self) -> str | None:
        """What the source's gate said in the snapshot; None where it proves nothing."""
        return result_of(self._judged)[1]

    def _ask(self, session: psycopg.Connection) -> _Judged:
        traits = {half: query_traits(session, self.spec.query(half)) for half in Half}
        proves = all(each.moves_only_with_writes for each in traits.values())
        return traits, self._gate(session) if proves else None

    def _gate(self, session: psycopg.Connection) -> str | None:
        try:
            with session.transaction():
                return source_gate(session)
        except psycopg.errors.InsufficientPrivilege:
            self.log(
                f"{self.spec.name}: this role may not read pg_control_system(), so that every refresh has to compare "
                f"fingerprints. GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() to it, and a "
                f"source that nobody wrote to costs nothing."
            )
            return None
