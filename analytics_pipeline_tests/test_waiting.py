"""Waits of this package: a signal ends each of them, also where a library has made the kernel resume them."""

from __future__ import annotations

import ast
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

import analytics_pipeline
from analytics_pipeline.store.locks import exclusive
from analytics_pipeline.waiting import all_done, at_once, flock, in_thread, join, result_of, wait_for, wait_until

PACKAGE = Path(analytics_pipeline.__file__).parent
LONG = 30.0


def _until_condition() -> None:
    changed = threading.Condition()
    with changed:
        wait_until(changed, lambda: False)


WAITS: dict[str, Callable[[], object]] = {
    "event": lambda: wait_for(threading.Event()),
    "event with a limit": lambda: wait_for(threading.Event(), LONG),
    "thread": lambda: join(_sleeper()),
    "condition": _until_condition,
    "future": lambda: result_of(Future[None]()),
    "futures": lambda: all_done([Future[None]()], LONG),
    "tasks": lambda: at_once([threading.Event().wait], 1, "task"),
}


def _sleeper() -> threading.Thread:
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def resumed_waits() -> Iterator[None]:
    """What `import polars` does: SIGINT resumes the system call that it interrupts."""
    signal.siginterrupt(signal.SIGINT, False)  # noqa: FBT003 - the signature of the standard library
    yield
    signal.siginterrupt(signal.SIGINT, True)  # noqa: FBT003 - as above


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """A description of a file that has it locked; any other one has to wait."""
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def _interrupted(wait: Callable[[], object]) -> bool:
    """Whether an interrupt ends a wait; a second timer ends the process of a wait that it does not end."""
    give_up = threading.Timer(LONG / 2, os._exit, (1,))
    give_up.start()
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        wait()
    except KeyboardInterrupt:
        return True
    finally:
        give_up.cancel()
    return False


@pytest.mark.usefixtures("resumed_waits")
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_an_interrupt_ends_every_wait(wait: Callable[[], object]) -> None:
    """Otherwise a cancelled run goes on, and holds the source, until the wait ends by itself."""
    assert _interrupted(wait)


@pytest.mark.usefixtures("resumed_waits", "holder")
def test_an_interrupt_ends_the_wait_for_a_file_lock(tmp_path: Path) -> None:
    """A dataset's lock is held as long as another sync takes: hours."""

    def wait() -> None:
        with exclusive(tmp_path / "lock", lambda _: None):
            pass

    assert _interrupted(wait)


@pytest.mark.usefixtures("resumed_waits")
def test_a_file_lock_that_was_given_up_is_not_kept(tmp_path: Path, holder: int) -> None:
    """Its holder would be a thread that nothing ends, and the next sync of this process would wait for ever."""
    descriptor = os.open(tmp_path / "lock", os.O_RDWR)
    assert _interrupted(lambda: flock(descriptor, fcntl.LOCK_EX))
    fcntl.flock(holder, fcntl.LOCK_UN)
    result_of(in_thread(lambda: flock(holder, fcntl.LOCK_EX), "another sync"), LONG)
    os.close(descriptor)


def test_a_failing_task_starts_no_further_one() -> None:
    """A refusal of the first of 10,000 objects would otherwise be followed by 9,999 further requests."""
    begun: list[int] = []

    def fail() -> None:
        begun.append(1)
        raise ValueError("the first")

    with pytest.raises(ValueError, match="the first"):
        at_once([fail, *[lambda: begun.append(2)] * 100], 1, "task")
    assert begun == [1]


UNTIMED = {"wait", "result", "join", "get", "acquire", "wait_for", "communicate"}
WAITS_AT_EXIT = {"capabilities/jobs.py": "jobs that were submitted are stored before the process ends"}
"""Files with an executor of threads, which Python joins at its exit, and why they may."""


def _untimed_waits(tree: ast.Module) -> Iterator[int]:
    """Lines of calls that wait without a limit."""
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in awaited or not isinstance(node.func, ast.Attribute):
            continue
        name, limits = node.func.attr, {keyword.arg for keyword in node.keywords} & {"timeout", "blocking"}
        positional = 2 if name == "wait_for" else 1
        if ast.unparse(node.func) in NOT_A_WAIT:
            continue
        if name in UNTIMED and len(node.args) < positional and not limits:
            yield node.lineno
        if name == "flock" and "LOCK_NB" not in ast.unparse(node) and "LOCK_UN" not in ast.unparse(node):
            yield node.lineno


def _executors(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "ThreadPoolExecutor" for node in ast.walk(tree))


SOURCES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
NOT_A_WAIT = {"_active.get", "_chosen.get", "self._pump.get", "dg.DagsterInstance.get", "before.backend.wait"}
"""Calls that only look like one: context variables, and waits of our own that go in steps."""


def test_no_code_waits_without_a_limit() -> None:
    """After `import polars` such a wait on the main thread cannot be interrupted; `analytics_pipeline.waiting` can."""
    found = [
        f"{name}:{line}: {path.read_text().splitlines()[line - 1].strip()}"
        for name, path in SOURCES.items()
        if name != "waiting.py"
        for line in _untimed_waits(ast.parse(path.read_text()))
    ]
    assert found == []


def test_no_code_uses_an_executor_that_python_joins_at_its_exit() -> None:
    """A thread that the network has frozen would keep a cancelled process alive."""
    found = [name for name, path in SOURCES.items() if _executors(ast.parse(path.read_text()))]
    assert found == list(WAITS_AT_EXIT)
