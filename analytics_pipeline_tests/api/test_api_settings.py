"""The API's settings: what is not set has a default, what is wrong is named and not repeated."""

from __future__ import annotations

import pytest

from analytics_pipeline.errors import SettingsError
from analytics_pipeline.settings import API_VARIABLES, ApiSettings, api_settings


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in API_VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def test_every_setting_has_a_variable() -> None:
    assert API_VARIABLES.keys() == ApiSettings.model_fields.keys()


def test_what_is_not_set_or_blank_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYTICS_API_TOKEN", " ")

    assert api_settings() == ApiSettings(host="127.0.0.1", port=8000, token=None, concurrency=8, timeout=30)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "host": "0.0.0.0",  # noqa: S104 - nothing listens
        "port": "0",
        "hosts": "analytics.example, [::2]",
        "token": "secret",
        "cors_origins": "https://a.example, https://b.example",
        "concurrency": "2",
        "timeout": "1.5",
        "dagster_url": "https://dagster.example/prefix",
    }
    for name, value in values.items():
        monkeypatch.setenv(API_VARIABLES[name], value)

    found = api_settings()

    assert found.hosts == ("analytics.example", "[::2]")
    assert found.cors_origins == ("https://a.example", "https://b.example")
    assert (found.port, found.concurrency, found.timeout) == (0, 2, 1.5)
    assert found.token is not None
    assert found.token.get_secret_value() == "secret"
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "hunter2"),
        ("port", "65536"),
        ("hosts", "https://hunter2"),
        ("hosts", "hunter2:80"),
        ("hosts", "*.hunter2"),
        ("concurrency", "0"),
        ("timeout", "0"),
        ("timeout", "nan"),
        ("dagster_url", "hunter2"),
        ("dagster_url", "http://bob:hunter2@dagster.example"),
    ],
)
def test_a_wrong_setting_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(API_VARIABLES[name], value)

    with pytest.raises(SettingsError, match=rf"^{API_VARIABLES[name]} cannot be used: ") as caught:
        api_settings()

    assert "hunter2" not in str(caught.value)
