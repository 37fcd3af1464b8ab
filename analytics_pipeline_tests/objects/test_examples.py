"""The two examples of the DataStore's page, as they stand there: only their imports are ours."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

DATA_STORE = """
import glob

import numpy as np
import pandas as pd
from analytics_pipeline.objects import DataStore, create_experiment
from analytics_pipeline.objects import tmpdir_ctx

with tmpdir_ctx():

    # Create a new experiment and execute a run
    experiment = create_experiment()
    with experiment.run() as run:
        # DataStore with two values
        run.fields.ds = DataStore()
        run.fields.ds.a = np.zeros(10)
        run.fields.ds.b = pd.Series([1, 2, 3])

        # DataStore with a single value
        run.fields.ds2 = DataStore()
        run.fields.ds2.c = 123

    # Persist experiment
    experiment.persist()

    print(f"ID experiment: {experiment.id_experiment}")
    print("--\\n")

    # List files in datastore directory
    print("Contents of datastore directory:\\n")
    for pathname in glob.glob("*/**", recursive=True):
        print(pathname)
    print("--\\n")

    # Reload experiment from database
    experiment.reload()

    # Show stored values
    ds = experiment.runs.first().fields.ds
    ds2 = experiment.runs.first().fields.ds2
    print("a", type(ds.a), ds.a)
    print("b", type(ds.b), ds.b.values)
    print("c", type(ds2.c), ds2.c)
"""

DATA_STORE_IO = """
import glob

import numpy as np
from analytics_pipeline.objects import DataStoreIO, create_experiment
from analytics_pipeline.objects import tmpdir_ctx

with tmpdir_ctx():

    # Create a new experiment and execute a run
    experiment = create_experiment()
    with experiment.run() as run:
        a = np.zeros(10)
        b = b"11111"
        run.fields.url_a = DataStoreIO.serialize_write(
            a, relative_path_prefix=f"self_managed/{run.id_experiment}"
        ).url
        run.fields.url_b = DataStoreIO.write(
            b, relative_path_prefix=f"self_managed/{run.id_experiment}"
        ).url

    print(f"ID experiment: {experiment.id_experiment}")
    print("--\\n")

    print("Contents of datastore directory:")
    # List files in datastore directory
    for pathname in glob.glob("*/**", recursive=True):
        print(pathname)
    print("--\\n")

    # Show urls and loaded values
    fields = experiment.runs.first().fields
    print("Field values:")
    print("url_a", fields.url_a)
    print("url_b", fields.url_b)
    print("--\\n")

    print("Loaded values:")

    # `a` is read and deserialized
    a = DataStoreIO(fields.url_a).read_deserialize()
    print("a", type(a), a)

    # `b` is loaded directly, no serialization/deserialization
    b = DataStoreIO(fields.url_b).read()
    print("b", type(b), b)

    # Delete directory containing the stored objects
    DataStoreIO.delete("self_managed")
"""
ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
OBJECT = "[0-9a-f]{32}"


def printed(code: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    script = folder / "example.py"
    script.write_text(code)
    runpy.run_path(str(script))
    return capsys.readouterr().out


def test_the_data_store_example_runs_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(DATA_STORE, tmp_path, capsys)
    assert re.search(f"^ID experiment: ({ID})$", shown, re.MULTILINE)
    assert len(re.findall(f"^objects/{ID}/{OBJECT}$", shown, re.MULTILINE)) == 2
    assert "a <class 'numpy.ndarray'> [0. 0. 0. 0. 0. 0. 0. 0. 0. 0.]" in shown
    assert re.search(r"^b <class 'pandas\..*Series'> \[1 2 3\]$", shown, re.MULTILINE)
    assert "c <class 'int'> 123" in shown


def test_the_data_store_io_example_runs_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = printed(DATA_STORE_IO, tmp_path, capsys)
    assert len(re.findall(f"^objects/self_managed/{ID}/{OBJECT}$", shown, re.MULTILINE)) == 2
    assert re.search(f"^url_a file:///self_managed/{ID}/{OBJECT}$", shown, re.MULTILINE)
    assert re.search(f"^url_b file:///self_managed/{ID}/{OBJECT}$", shown, re.MULTILINE)
    assert "a <class 'numpy.ndarray'> [0. 0. 0. 0. 0. 0. 0. 0. 0. 0.]" in shown
    assert "b <class 'bytes'> b'11111'" in shown
