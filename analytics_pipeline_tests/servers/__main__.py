"""`make test-postgres`: the suites that read a source, on each of Debian's PostgreSQL releases of this machine.

Belongs here: naming the packages that are missing, which suites run on which server. It installs nothing.
Does not: how the servers are run (`postgres`, `pgbouncer`), their fixtures (`fixtures`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from analytics_pipeline_tests.servers import pgbouncer
from analytics_pipeline_tests.servers.postgres import PROGRAMS_VARIABLE, installed

TESTS = Path(__file__).parents[1]
SUITES = ("sync", "human_signals/test_sync.py", "components", "servers")
"""Those whose tests read from `postgres_server`, which is Debian's here in place of the embedded one."""


def missing() -> Sequence[str]:
    """The Debian packages that are not installed and that the tests need."""
    found = {"postgresql": bool(installed()), "pgbouncer": pgbouncer.program() is not None}
    return [package for package, is_there in found.items() if not is_there]


def main(arguments: Sequence[str]) -> int:
    """Run the tests; further arguments go to pytest.

    Returns:
        The exit status: 0 where every suite is green on every release.
    """
    if packages := missing():
        print(f"Not installed: {', '.join(packages)}. Install with: apt-get install {' '.join(packages)}")  # noqa: T201
        return 2
    print("== Through PgBouncer, on a standby, in a LATIN1 database", flush=True)  # noqa: T201
    failed = [_pytest("postgres", [TESTS], {}, arguments)]
    for programs in installed():
        print(f"== {', '.join(SUITES)} on {programs}", flush=True)  # noqa: T201
        environment = {PROGRAMS_VARIABLE: str(programs)}
        folders = [TESTS / name for name in SUITES]
        failed.append(_pytest("not slow and not ui and not postgres", folders, environment, arguments))
    return max(failed)


def _pytest(markers: str, folders: Sequence[Path], environment: Mapping[str, str], arguments: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "-m", markers]
    return subprocess.run([*command, *folders, *arguments], env=os.environ | environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
