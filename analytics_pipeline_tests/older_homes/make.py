"""Makes a home with the code of the present checkout, for later code to open: `python -m …older_homes.make NAME`.

Belongs here: what such a home holds. Does not: what later code must still do with it (`test_older_homes`).
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from analytics_pipeline.sample import sources
from analytics_pipeline.sample.lease import Lease
from analytics_pipeline_tests.workplace import Workplace

FOLDER = Path(__file__).parent
SCALE = 0.01
JOB = "human_signals_refresh_job"
CONTENT = """
import numpy as np
import pandas as pd
import polars as pl

from analytics_pipeline.capabilities import AnalyticsStore, DuckDBBackend, ParquetBackend
from analytics_pipeline.experiments import log_metrics, log_run
from analytics_pipeline.objects import DataStore, create_experiment
from analytics_pipeline.settings import find_home
from analytics_pipeline_tests.capabilities.scenario import example

home = find_home()
for backend in (ParquetBackend(home.capabilities), DuckDBBackend(home.path / "records.duckdb")):
    for uid in "abc":
        backend.write([example(uid)])
for n in range(3):
    log_run(f"run_{n}", {"lr": 0.1 * (n + 1), "depth": n})
    for epoch in range(4):
        log_metrics(f"run_{n}", epoch, {"val_f1": (n + epoch) / 10, "val_loss": 1 / (n + epoch + 1)})
    log_run(f"run_{n}", {"lr": 0.1 * (n + 1), "depth": n}, "done")
experiment = create_experiment("00000000-0000-4000-8000-000000000001")
with experiment.run() as run:
    run.fields.accuracy = 0.93
    run.fields.kept = DataStore(
        matrix=np.eye(3),
        pandas=pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["r", "s"]),
        polars=pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
        text="Grüße",
    )
experiment.persist()
"""


def make(target: Path) -> None:
    """Write the archive of a working folder: `.dagster`, and a home with a store, records, experiments and objects."""
    with tempfile.TemporaryDirectory() as work, Lease(Path(work) / "pg" / "data") as lease:
        for source in sources.SOURCES.values():
            sources._ensure_filled(lease.server, source, SCALE)
        urls = {
            variable: lease.server.url(database).get_secret_value()
            for variable, database in sources.OF_VARIABLE.items()
        }
        workplace = Workplace(Path(work) / "workplace", urls)
        for done in (workplace.execute(JOB), workplace.python("-c", CONTENT)):
            if done.returncode:
                raise SystemExit(done.stdout)
        with tarfile.open(target, "w:xz") as archive:
            archive.add(workplace.folder, "workplace")


if __name__ == "__main__":
    make(FOLDER / f"{sys.argv[1]}.tar.xz")
