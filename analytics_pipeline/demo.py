"""`make demo`: fill the store from every dataset's source, measure and train on the bundled digits, and show it.

Belongs here: the script of the first five minutes. Does not: anything that a production run needs.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import dagster as dg
import polars as pl
from pydantic import SecretStr

import analytics_pipeline.defs
from analytics_pipeline.boundary import command
from analytics_pipeline.components import SplitSyncComponent
from analytics_pipeline.experiments import leaderboard
from analytics_pipeline.sample import sources
from analytics_pipeline.settings import Home, find_home, sample_is_in_charge
from analytics_pipeline.store import Store, open_store
from analytics_pipeline.sync.postgres.counts import count_rows
from analytics_pipeline.sync.spec import Half, SplitSyncSpec

_MEASURED = """
SELECT 'maite_evaluation', model_id, dataset_id, output_value
FROM capabilities.maite_evaluation
WHERE metric_id = 'accuracy' AND scope = 'overall'
ORDER BY output_value DESC
"""


_SWEEP = 30
_BEST = "SELECT run_id, lr, hidden_dim, best_f1 FROM experiments.leaderboard LIMIT 3"

Command: TypeAlias = Sequence[str]


class TableCount(NamedTuple):
    """Rows of a table here and there."""

    table: str
    postgres: int
    store: int
    partitions: int


@command
def main() -> int:
    """Run the demo; 0 if every table of the store has the rows of its source."""
    home = find_home()
    _say(f"Home: {home}")
    urls = _urls(home)
    if not urls:
        _say("No dataset has a source: set one of the variables that the lines above name.")
        return 1
    if any(_failed(step) for step in (*_job("refresh_all_job"), *_job("digits_capabilities_job"), *_sweep(home))):
        return 1
    store = open_store(home.store)
    counts = _counts(store, urls)
    measured, best = store.query(_MEASURED), store.query(_BEST)
    _say("", *_table(counts), "", *_capability_table(measured), "", *_leaderboard(best), "")
    wrong = [count.table for count in counts if count.postgres != count.store]
    if wrong:
        _say(f"Not equal: {', '.join(wrong)}. Did the source change meanwhile? Run make demo again.")
        return 1
    _say("Every table holds what Postgres holds. Look at it with `make sql`, or in Dagster's UI:")
    _say("  make dev   (then open http://localhost:3000)")
    _say(f"The leaderboard as a page: {home.exports / 'index.html'}")
    return 0


def _urls(home: Home) -> Sequence[tuple[SplitSyncSpec, SecretStr]]:
    """Every dataset that has a source, with it; the sample server stays up as long as this process."""
    if sample_is_in_charge():
        _say("Sources: an embedded PostgreSQL with sample data, because no source's variable is set. Starting …")
    else:
        _say("Sources: the databases that your variables name.")
    found = []
    for spec in _specs():
        url = sources.resolve(spec.url, home)
        if url is None:
            _say(f"  {spec.name} is left out: {spec.url} is not set.")
        else:
            found.append((spec, url))
    return found


def _specs() -> Sequence[SplitSyncSpec]:
    """The specs of all enabled datasets of this code location, by name."""
    tree = dg.ComponentTree.from_module(defs_module=analytics_pipeline.defs, project_root=Path(__file__).parents[1])
    found = [component.spec for component in tree.get_all_components(of_type=SplitSyncComponent)]
    return sorted((spec for spec in found if spec.enabled), key=lambda spec: spec.name)


def _sweep(home: Home) -> Iterator[Command]:
    """Thirty training runs, unless all of them are there and done, and their page."""
    script = Path(__file__).parents[1] / "examples" / "digits_sweep.py"
    done = leaderboard(root=home.experiments).filter(status="done")["run_id"]
    if done.str.contains(r"^digits_\d{3}$").sum() < _SWEEP:
        _say("Training thirty small networks on handwritten digits, which log their runs and metrics …")
        yield [sys.executable, str(script)]
    yield from _job("experiments_export_job")


def _job(name: str) -> Iterator[Command]:
    hush = "ignore:Function `job_execute_command` is superseded"  # the newer command needs one more package
    dagster = [sys.executable, "-W", hush, "-m", "dagster"]
    yield [*dagster, "job", "execute", "-m", "analytics_pipeline.definitions", "-j", name]


def _failed(command: Command) -> bool:
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode != 0


def _counts(store: Store, urls: Iterable[tuple[SplitSyncSpec, SecretStr]]) -> Sequence[TableCount]:
    tables = store.manifest().tables
    return [
        TableCount(
            spec.table(half),
            count_rows(url, spec.query(half)),
            int(store.query(f'SELECT count(*) FROM "{spec.table(half)}"').item()),
            len(tables[spec.table(half)].partitions),
        )
        for spec, url in urls
        for half in Half
    ]


def _table(counts: Sequence[TableCount]) -> Sequence[str]:
    lines = [f"{'table':<24}{'Postgres':>12}{'store':>12}{'partitions':>12}"]
    lines += [f"{c.table:<24}{c.postgres:>12,}{c.store:>12,}{c.partitions:>12,}" for c in counts]
    return lines


def _capability_table(measured: pl.DataFrame) -> Sequence[str]:
    lines = [f"{'capability runs':<24}{'model':<22}{'dataset':<16}{'score':>10}"]
    lines += [
        f"{table:<24}{model or '':<22}{dataset:<16}{score:>10.3f}" for table, model, dataset, score in measured.rows()
    ]
    return lines


def _leaderboard(best: pl.DataFrame) -> Sequence[str]:
    lines = [f"{'training runs':<24}{'lr':>8}{'hidden_dim':>12}{'best_f1':>10}"]
    lines += [f"{run:<24}{lr:>8}{hidden:>12}{f1:>10.3f}" for run, lr, hidden, f1 in best.rows()]
    return lines


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if Path("workspace.yaml").is_file():
        sys.exit(main())
    sys.exit("Run this from the project's folder, where workspace.yaml is.")
