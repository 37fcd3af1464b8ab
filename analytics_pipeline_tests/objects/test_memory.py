"""A large array is written and read in little more memory than it has itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics_pipeline_tests.objects.memory import peak_of

MEGABYTE = 2**20
WRITE = """
    import numpy as np
    from analytics_pipeline.objects import DataStoreIO, using_base
    with using_base({root!r}):
        DataStoreIO.serialize_write(np.zeros(3), "warm")
        baseline()
        array = np.ones({size} // 8){view}
        DataStoreIO.serialize_write({{"a": [array]}}, "large")
"""
READ = """
    import pathlib
    import numpy as np
    from analytics_pipeline.objects import DataStoreIO, using_base
    with using_base({root!r}):
        warm = DataStoreIO.serialize_write(np.zeros(3), "warm")
        warm.read_deserialize()
        baseline()
        path = next(pathlib.Path({root!r}, "large").iterdir())
        array = DataStoreIO(f"file:///large/{{path.name}}").read_deserialize()["a"][0]
        assert array.nbytes == {size} and array[-1].max() == 1
"""


@pytest.mark.parametrize("size", [100 * MEGABYTE, pytest.param(1024 * MEGABYTE, marks=pytest.mark.slow)])
def test_an_array_takes_at_most_half_of_itself_besides(size: int, tmp_path: Path) -> None:
    written = peak_of(WRITE.format(root=str(tmp_path), size=size, view=""))
    read = peak_of(READ.format(root=str(tmp_path), size=size))
    assert written <= 1.5 * size, written / size
    assert read <= 1.5 * size, read / size


@pytest.mark.parametrize("view", [".reshape(64, -1).T", ".reshape(64, -1)[:, ::-1]"], ids=["transposed", "backwards"])
def test_views_are_written_without_a_copy(view: str, tmp_path: Path) -> None:
    size = 100 * MEGABYTE
    assert peak_of(WRITE.format(root=str(tmp_path), size=size, view=view)) <= 1.5 * size
