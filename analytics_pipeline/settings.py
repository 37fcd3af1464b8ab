"""Settings: the only place that reads the environment, inside functions, never at import.

Belongs here: where the home is, which variable holds which secret, how a secret is masked.
Does not: what a dataset is (`sync.spec`), or how anything connects.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from pydantic import SecretStr

from analytics_pipeline.errors import SettingsError

HOME_VARIABLE = "ANALYTICS_HOME"
SOURCE_URL_VARIABLES = ("MONITORING_DB_URL", "HUMAN_SIGNALS_DB_URL", "EVAL_DB_URL")
"""The shipped datasets' connection strings. The sample sources answer only while none of them is set."""


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
        except (OSError, RuntimeError) as error:  # no such user, links in a circle, a name too long
            raise SettingsError(f"{HOME_VARIABLE}={configured!r} cannot be a folder: {error}.") from None
        if not configured.strip() or (path.exists() and not path.is_dir()):
            raise SettingsError(f"{HOME_VARIABLE}={configured!r} is not a folder. Set it to one, or unset it.")
        return Home(path.resolve(), HOME_VARIABLE)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return Home(folder / ".analytics", f"beside {folder / 'workspace.yaml'}")
    return Home(Path(platformdirs.user_data_path("analytics_pipeline")).resolve(), "user data directory")


def source_url(variable: str) -> SecretStr | None:
    """The connection string in an environment variable, masked; None where it is unset or blank."""
    value = os.environ.get(variable, "").strip()
    return SecretStr(value) if value else None


def environment_value(variable: str) -> str | None:
    """What a variable that a `defs.yaml` names holds; None where it is not set."""
    return os.environ.get(variable)


def sample_is_in_charge() -> bool:
    """Whether the embedded sample sources stand in: none of the shipped datasets' variables is set."""
    return all(source_url(variable) is None for variable in SOURCE_URL_VARIABLES)


def environment_without(prefix: str) -> dict[str, str]:
    """The environment for a program that must not be led astray by variables of some prefix."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefix)}
