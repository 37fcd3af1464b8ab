"""Spec files without Dagster: the same datasets, and the same refusals."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

import analytics_pipeline.defs
from analytics_pipeline.components import SplitSyncComponent
from analytics_pipeline.errors import DatasetFileInvalid
from analytics_pipeline.sync.spec_files import read_spec_files

SHIPPED = Path(analytics_pipeline.defs.__path__[0])
GOOD = """\
type: analytics_pipeline.components.SplitSyncComponent
attributes:
  url: ORDERS_DB_URL
  dataset_query: SELECT * FROM {{ env.ORDERS_TABLE }}
  results_query: SELECT 1
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "sync" / "orders" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_the_shipped_datasets_are_those_that_dagster_loads() -> None:
    tree = dg.ComponentTree.from_module(defs_module=analytics_pipeline.defs, project_root=SHIPPED.parents[1])
    loaded = [component.spec for component in tree.get_all_components(of_type=SplitSyncComponent)]

    assert list(read_spec_files(SHIPPED)) == sorted(loaded, key=lambda spec: spec.name)


def test_a_dataset_is_named_after_its_folder_and_its_variables_are_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, GOOD)
    monkeypatch.setenv("ORDERS_TABLE", "orders")

    (spec,) = read_spec_files(tmp_path)

    assert (spec.name, spec.dataset_query) == ("orders", "SELECT * FROM orders")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD, "the environment variable ORDERS_TABLE is not set"),
        (GOOD.replace("url:", "ulr:").replace("{{ env.ORDERS_TABLE }}", "x"), "unknown key `ulr`: did you mean `url`?"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path, text)

    with pytest.raises(DatasetFileInvalid) as caught:
        read_spec_files(tmp_path)

    assert str(caught.value).startswith(f"{file}")
    assert says in str(caught.value)


def test_files_of_other_components_are_none_of_ours(tmp_path: Path) -> None:
    write(tmp_path, "type: dagster.DefsFolderComponent\n---\n- a list\n")

    assert read_spec_files(tmp_path) == []
