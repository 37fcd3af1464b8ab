"""A process that writes runs to an object store, one a call, and prints each when it is stored.

Belongs here: that. Does not: any rule (`test_object_store_s3`).
"""

from __future__ import annotations

import json
import sys

from analytics_pipeline.capabilities import build_store
from analytics_pipeline_tests.capabilities.scenario import run


def main() -> None:
    """Write the runs that the arguments name, from one on."""
    config, count, begin = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    store = build_store(config)
    for number in range(count):
        name = f"run-{(begin + number) % count:03}"
        store.write([run(name, rows=2)])
        print(name, flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
