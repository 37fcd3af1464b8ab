"""Settings: the only place that reads the environment, inside functions, never at import.

Belongs here: where the home is, which variable holds which secret, how a secret is masked, how the API is served.
Does not: what a dataset is (`sync.spec`), or how anything connects.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from analytics_pipeline.errors import SettingsError

HOME_VARIABLE = "ANALYTICS_HOME"
OBJECTS_VARIABLE = "ANALYTICS_OBJECTS_URL"
"""Folder or URL that objects are kept below; where it is not set, a folder of the home."""
SOURCE_URL_VARIABLES = ("MONITORING_DB_URL", "HUMAN_SIGNALS_DB_URL", "EVAL_DB_URL")
"""The shipped datasets' connection strings. The sample sources answer only while none of them is set."""

INBOX_VARIABLE = "ANALYTICS_INBOX"

API_VARIABLES = {
    "host": "ANALYTICS_API_HOST",
    "port": "ANALYTICS_API_PORT",
    "hosts": "ANALYTICS_API_HOSTS",
    "token": "ANALYTICS_API_TOKEN",
    "cors_origins": "ANALYTICS_API_CORS_ORIGINS",
    "concurrency": "ANALYTICS_API_CONCURRENCY",
    "timeout": "ANALYTICS_API_TIMEOUT",
    "dagster_url": "ANALYTICS_DAGSTER_URL",
}
"""Which variable holds which setting of the API."""


@dataclass(frozen=True)
class Home:
    """The folder that holds everything the project publishes or remembers.

    Args:
        path: absolute folder; created by whoever first writes below it.
        origin: why this folder was chosen, in words for the user.
    """

    path: Path
    origin: str

    @property
    def store(self) -> Path:
        """The published store."""
        return self.path / "store"

    @property
    def capabilities(self) -> Path:
        """The tables of capability runs; in the store, whose catalog has a view of each."""
        return self.store / "capabilities"

    @property
    def experiments(self) -> Path:
        """The tables of training runs; in the store, whose catalog has their views."""
        return self.store / "experiments"

    @property
    def objects(self) -> Path:
        """Where objects are kept, unless a variable names another place."""
        return self.path / "objects"

    @property
    def exports(self) -> Path:
        """The leaderboard and trends as JSON, and the page that draws them."""
        return self.path / "exports"

    @property
    def inbox(self) -> Path:
        """Where run documents are dropped, unless `inbox_of` says otherwise."""
        return self.path / "inbox"

    @property
    def status(self) -> Path:
        """One status file a dataset."""
        return self.path / "status"

    @property
    def sample(self) -> Path:
        """The embedded sample Postgres."""
        return self.path / "sample"

    def __str__(self) -> str:
        return f"{self.path} ({self.origin})"


def find_home(start: Path | None = None) -> Home:
    """The home: `ANALYTICS_HOME`, else `.analytics` beside the nearest `workspace.yaml` upwards, else the user's data.

    Args:
        start: folder to look upwards from; the working directory by default.

    Raises:
        SettingsError: `ANALYTICS_HOME` is empty or names something that is not a folder.
    """
    configured = os.environ.get(HOME_VARIABLE)
    if configured is not None:
        try:
            path = Path(configured).expanduser().resolve()
            is_other = path.exists() and not path.is_dir()
            str(path).encode()
        except (OSError, RuntimeError, UnicodeEncodeError) as error:
            # no such user, links in a circle, a name too long, a parent that is closed or a file, not UTF-8
            reason = "it is not UTF-8" if isinstance(error, UnicodeEncodeError) else error
            raise SettingsError(f"{HOME_VARIABLE}={configured!r} cannot be a folder: {reason}.") from None
        if "\\" in str(path):
            raise SettingsError(f"{HOME_VARIABLE}={configured!r} cannot be used: DuckDB takes a backslash for a slash.")
        if not configured.strip() or is_other:
            raise SettingsError(f"{HOME_VARIABLE}={configured!r} is not a folder. Set it to one, or unset it.")
        return Home(path.resolve(), HOME_VARIABLE)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return Home(folder / ".analytics", f"beside {folder / 'workspace.yaml'}")
    return Home(Path(platformdirs.user_data_path("analytics_pipeline")).resolve(), "user data directory")


def inbox_of(home: Home) -> str:
    """Where run documents are dropped: `ANALYTICS_INBOX`, else the inbox of the home.

    The variable holds a folder, or the URL of an object store's prefix. A URL carries no credentials: the variables of
    the object store's own tools do.
    """
    return os.environ.get(INBOX_VARIABLE, "").strip() or str(home.inbox)


AllowedHost: TypeAlias = Annotated[str, Field(pattern=r"^(\*|[^\s*/:@?#\[\]]+|\[?[0-9A-Fa-f:.]+\]?)$")]
"""A host without scheme and port, or `*`."""


class ApiSettings(BaseModel):
    """How the API is served.

    Args:
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        hosts: names and addresses that it answers to, besides loopback ones and `host`; `*` for all.
        token: that every request to `/api` must bear; None lets everybody in.
        cors_origins: of pages that may read the answers in a browser; `*` for all.
        concurrency: queries that run at once; further requests wait.
        timeout: seconds that a request may take, waiting included.
        dagster_url: of the Dagster webserver that runs syncs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    hosts: tuple[AllowedHost, ...] = ()
    token: SecretStr | None = None
    cors_origins: tuple[str, ...] = ()
    concurrency: int = Field(default=8, ge=1, le=1000)
    timeout: float = Field(default=30.0, gt=0, le=86_400)
    dagster_url: str = Field(default="http://localhost:3000", pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")


def api_settings() -> ApiSettings:
    """How the API is to be served, by the variables in `API_VARIABLES`; a blank one counts as not set.

    Raises:
        SettingsError: a variable holds something impossible; its value is not repeated.
    """
    given: dict[str, object] = {
        name: value for name, variable in API_VARIABLES.items() if (value := os.environ.get(variable, "").strip())
    }
    for name in {"cors_origins", "hosts"} & given.keys():
        given[name] = tuple(str(given[name]).replace(",", " ").split())
    try:
        return ApiSettings.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        variable = API_VARIABLES[str(problem["loc"][0])]
        raise SettingsError(f"{variable} cannot be used: {problem['msg']}. Correct it, or unset it.") from None


def source_url(variable: str) -> SecretStr | None:
    """The connection string in an environment variable, masked; None where it is unset or blank."""
    value = os.environ.get(variable, "").strip()
    return SecretStr(value) if value else None


def objects_url() -> str:
    """The folder or URL that objects are kept below."""
    return os.environ.get(OBJECTS_VARIABLE, "").strip() or str(find_home().objects)


def environment_value(variable: str) -> str | None:
    """What a variable that a `defs.yaml` names holds; None where it is not set."""
    return os.environ.get(variable)


def sample_is_in_charge() -> bool:
    """Whether the embedded sample sources stand in: none of the shipped datasets' variables is set."""
    return all(source_url(variable) is None for variable in SOURCE_URL_VARIABLES)


def environment_without(prefix: str) -> dict[str, str]:
    """The environment for a program that must not be led astray by variables of some prefix."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
