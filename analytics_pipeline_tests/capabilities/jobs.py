"""What the tests of jobs run in other processes: functions at the top of a module, which pickle can name."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from analytics_pipeline.capabilities.finished import FinishedRun
from analytics_pipeline.capabilities.records import BaseRecord
from analytics_pipeline_tests.capabilities.outputs import finished


class PlaceRecord(BaseRecord, table_name="place"):
    """Where a run was made."""

    process: int


@dataclass(frozen=True)
class PlaceRun:
    """A run of nobody's capability: any object with these attributes is one."""

    run_uid: str
    empty: bool = False
    capability_id: str = "tests.Place"
    dataset_metadata: Sequence[Mapping[str, str]] = ({"id": "cifar10"},)
    model_metadata: Sequence[Mapping[str, str]] = ()
    metric_metadata: Sequence[Mapping[str, str]] = ()

    def extract(self) -> Sequence[BaseRecord]:
        return [] if self.empty else [PlaceRecord(run_uid=self.run_uid, process=os.getpid())]


def make_known(table: str) -> FinishedRun:
    return finished(table)


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives that")


def leave(code: int) -> NoReturn:
    os._exit(code)


def exit_with(message: str) -> NoReturn:
    sys.exit(message)


def fail_with(message: str) -> NoReturn:
    raise ValueError(message)
