"""Where the home is, what counts as set, and that secrets do not print."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics_pipeline.errors import SettingsError
from analytics_pipeline.settings import (
    SOURCE_URL_VARIABLES,
    Home,
    environment_value,
    find_home,
    sample_is_in_charge,
    source_url,
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANALYTICS_HOME", *SOURCE_URL_VARIABLES):
        monkeypatch.delenv(variable, raising=False)


def test_the_variable_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workspace.yaml").touch()
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "elsewhere"))

    assert find_home(tmp_path) == Home(tmp_path / "elsewhere", "ANALYTICS_HOME")


def test_a_tilde_is_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ANALYTICS_HOME", "~/analytics")

    assert find_home().path == tmp_path / "analytics"


def test_otherwise_it_stands_beside_the_nearest_workspace(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").touch()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    assert find_home(below).path == tmp_path / ".analytics"
    assert find_home(tmp_path).path == tmp_path / ".analytics"


def test_without_a_workspace_it_is_the_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user" / "data"))

    found = find_home(tmp_path)

    assert tmp_path / "user" in found.path.parents
    assert found.origin == "user data directory"


@pytest.mark.parametrize("value", ["", "  ", __file__])
def test_what_is_no_folder_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", value)

    with pytest.raises(SettingsError, match="is not a folder"):
        find_home()


def test_finding_it_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_HOME", str(tmp_path / "home"))

    home = find_home()

    assert not home.path.exists()
    assert {home.store, home.status, home.sample} == {home.path / name for name in ("store", "status", "sample")}


def test_a_connection_string_does_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVAL_DB_URL", " postgresql://bob:hunter2secret@h/d ")

    url = source_url("EVAL_DB_URL")

    assert url is not None
    assert url.get_secret_value() == "postgresql://bob:hunter2secret@h/d"
    assert "hunter2secret" not in f"{url} {url!r}"


@pytest.mark.parametrize("value", ["", "  "])
def test_a_blank_variable_counts_as_no_source(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EVAL_DB_URL", value)

    assert source_url("EVAL_DB_URL") is None
    assert sample_is_in_charge()
    assert environment_value("EVAL_DB_URL") is not None, "but it is there, which a template may rely on"


@pytest.mark.parametrize("variable", SOURCE_URL_VARIABLES)
def test_one_source_takes_the_sample_out_of_charge(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert sample_is_in_charge()
    monkeypatch.setenv(variable, "postgresql://h/d")
    assert not sample_is_in_charge()
