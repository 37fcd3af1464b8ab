"""Every command once, in this process, on a machine that somebody broke; run by test_boundary as a program of its own.

Belongs here: the commands, and what each printed, as one JSON document. Does not: what is right (`test_boundary`).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Sequence

COMMANDS: Sequence[Sequence[str]] = [
    ["store", "status"],
    ["store", "sql", "-c", "SELECT 1"],
    ["store", "compact"],
    ["store", "sweep"],
    ["store", "catalog"],
    ["store", "backup", "backup"],
    ["store", "verify"],
    ["store", "forget", "runs"],
    ["experiments", "build"],
    ["experiments", "export"],
    ["sample", "status"],
]
NOBODY = 65_534


def outcome(command: Sequence[str]) -> dict[str, object]:
    """Exit code and standard error of one command; the traceback is part of the latter, as Python prints it."""
    main = importlib.import_module(f"analytics_pipeline.{command[0]}.__main__").main
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(list(command[1:]))
        except SystemExit as error:
            code = error.code
        except BaseException:  # noqa: BLE001 - what Python would print
            traceback.print_exc()
            code = 1
    return {"command": " ".join(command), "code": code, "errors": errors.getvalue()}


if __name__ == "__main__":
    importlib.import_module("importlib.readers")  # the other user may not be allowed to read Python's own files
    for command in COMMANDS:
        importlib.import_module(f"analytics_pipeline.{command[0]}.__main__")
    if "--nobody" in sys.argv:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    found = [outcome(command) for command in COMMANDS]
    sys.stdout.buffer.write(json.dumps(found).encode())
