"""Leases: how several processes share one embedded server without one pulling it from under another.

Belongs here: a process's share in a running server, the wish to keep it running, stopping it when it is unused.
Does not: starting and stopping itself (`server`).

Beside the data folder stand `<name>.lease`, locked shared by every process that uses the server, so that the last one
to leave stops it and a killed one leaves by itself; and `<name>.keep-running`, whose presence tells the last one to
leave the server alone. A server whose users were all killed runs on until the next one leaves, or until `stop`.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from analytics_pipeline.sample.server import EmbeddedPostgres, open_lock
from analytics_pipeline.waiting import flock


class Lease:
    """One process's share in a running server; the last one to release it stops the server.

    Taking it starts the server. It may be held by several processes and several times within one.

    Args:
        data_dir: the server's data folder.

    Raises:
        SampleError: the server could not be started; see `EmbeddedPostgres.start`.
    """

    def __init__(self, data_dir: Path) -> None:
        self.server = EmbeddedPostgres(data_dir)
        self._file: int | None = open_lock(_beside(self.server, "lease"))
        try:
            flock(self._file, fcntl.LOCK_SH)  # waits for a last one who is just stopping the server
            self.server.start()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give it back; stops the server if nobody else holds one and nobody asked to keep it running."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            # Trying for the exclusive lock gives up the shared one, so of two who leave at once the later one gets it.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not keeps_running(self.server):
                self.server.stop()
        except BlockingIOError:
            pass
        finally:
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def keep_running(server: EmbeddedPostgres) -> None:
    """Let the server outlive its last lease, until `let_stop`."""
    _beside(server, "keep-running").touch()


def let_stop(server: EmbeddedPostgres) -> None:
    """Undo `keep_running`: the last lease stops the server again."""
    _beside(server, "keep-running").unlink(missing_ok=True)


def keeps_running(server: EmbeddedPostgres) -> bool:
    """Whether the server was asked to outlive its last lease."""
    return _beside(server, "keep-running").exists()


def stop_if_unused(server: EmbeddedPostgres) -> bool:
    """Stop the server unless somebody holds a lease; says whether it is stopped now."""
    if not server.data_dir.parent.is_dir():
        return True
    file = open_lock(_beside(server, "lease"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        server.stop()
        return True
    finally:
        os.close(file)


def _beside(server: EmbeddedPostgres, name: str) -> Path:
    return server.data_dir.with_name(f"{server.data_dir.name}.{name}")
