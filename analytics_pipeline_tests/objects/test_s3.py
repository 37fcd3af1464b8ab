"""Objects in an object store that several processes write, on a real S3 server (moto's)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from analytics_pipeline.objects import (
    Base,
    DataStore,
    DataStoreIO,
    create_experiment,
    load_experiment,
    open_base,
    sweep,
)
from analytics_pipeline_tests.capabilities.test_object_store_s3 import config, endpoint

__all__ = ["config", "endpoint"]

OTHER = """
import json, sys
from analytics_pipeline.objects import DataStore, DataStoreIO, create_experiment, open_base
url, options, id_experiment, value = sys.argv[1:]
base = open_base(url, storage_options=json.loads(options))
experiment = create_experiment(id_experiment, base=base)
with experiment.run() as run:
    run.fields.value = int(value)
    run.fields.store = DataStore(values=list(range(int(value))))
experiment.persist(if_exists="replace")
print(DataStoreIO.write(value.encode(), "mine", base).url)
"""


@pytest.fixture
def bucket(config: Mapping[str, Any]) -> Base:
    """A base in an empty bucket."""
    return open_base(config["uri"], storage_options=config["storage_options"])


@pytest.fixture
def elsewhere(config: Mapping[str, Any]) -> Callable[[str, int], str]:
    """Replaces an experiment and stores an object in another process; gives the object's URL."""

    def act(id_experiment: str, value: int) -> str:
        arguments = [config["uri"], json.dumps(config["storage_options"]), id_experiment, str(value)]
        command = [sys.executable, "-W", "ignore", "-c", OTHER, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout.strip()

    return act


def test_what_another_process_stored_is_seen(bucket: Base, elsewhere: Callable[[str, int], str]) -> None:
    """Clients of object stores keep listings, in which others' later objects are missing or have another size."""
    experiment = create_experiment(base=bucket)
    with experiment.run() as run:
        run.fields.store = DataStore(values=[])
    experiment.persist()
    mine = DataStoreIO.write(b"x", "mine", bucket)
    for value in (1, 1000):
        assert len(bucket.entries("mine")) == (1 if value == 1 else 2)
        assert sweep(bucket).left == {}
        url = elsewhere(experiment.id_experiment, value)
        assert DataStoreIO(url, bucket).read() == str(value).encode()
        loaded = load_experiment(experiment.id_experiment, base=bucket).runs.first().fields
        assert (loaded.value, loaded.store["values"]) == (value, list(range(value)))
    assert mine.read() == b"x"
    assert DataStoreIO.delete("mine", bucket) == 3
    assert load_experiment(experiment.id_experiment, base=bucket).delete() == 1
