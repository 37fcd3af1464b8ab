"""The object store beside mltraq 0.1.165: an array of 16 MB and 1,000 small objects, written and read.

Each side runs in a process of its own with its own packages, in turns; mltraq's are installed once, in `.venv-mltraq`.
mltraq never forces anything to the disk, and compares no checksum; this store is measured with and without the former.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness import median, record

REPEATS = 7
ALLOWED = 1.2
WORKS = ("write 16 MB", "read 16 MB", "write 1,000 small", "read 1,000 small")
PEER = Path(__file__).parents[1] / ".venv-mltraq"
IMPORTS = "from pathlib import Path\nfrom analytics_pipeline.objects import DataStoreIO, Durability, using_base"
SIDES = {
    "this store": f"{IMPORTS}\ncontext = using_base(Path.cwd() / 'objects', durability=Durability.CACHE)",
    "this store, fsync": f"{IMPORTS}\ncontext = using_base(Path.cwd() / 'objects', durability=Durability.DISK)",
    "mltraq": "import contextlib\nfrom mltraq import DataStoreIO\ncontext = contextlib.nullcontext()",
}
WORK = """
import json
import time
import numpy as np

def timed(work):
    begin = time.perf_counter()
    found = work()
    return found, time.perf_counter() - begin

with context:
    array = np.random.default_rng(0).random(2 * 2**20)
    small = [{"number": number, "name": "x"} for number in range(1000)]
    DataStoreIO(DataStoreIO.serialize_write(array, "warm").url).read_deserialize()
    url, write = timed(lambda: DataStoreIO.serialize_write(array, "large").url)
    back, read = timed(lambda: DataStoreIO(url).read_deserialize())
    assert np.array_equal(back, array)
    urls, write_small = timed(lambda: [DataStoreIO.serialize_write(one, "small").url for one in small])
    found, read_small = timed(lambda: [DataStoreIO(url).read_deserialize() for url in urls])
    assert found == small
print(json.dumps([write, read, write_small, read_small]))
"""


def peer() -> Path:
    """The Python that has mltraq."""
    python = PEER / "bin" / "python"
    if not list(PEER.glob("lib/*/site-packages/mltraq-0.1.165.dist-info")):
        venv.create(PEER, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "mltraq==0.1.165"], check=True)
    return python


def measured() -> Mapping[str, Mapping[str, float]]:
    """Median seconds of each work, by side."""
    pythons = {side: str(peer()) if side == "mltraq" else sys.executable for side in SIDES}
    found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as scratch:  # for all: ext4 is slow where files were deleted a moment ago
        for _ in range(REPEATS):
            for side, begin in SIDES.items():
                folder = tempfile.mkdtemp(dir=scratch)
                command = [pythons[side], "-c", f"{begin}\n{WORK}"]
                run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
                found[side].append(json.loads(run.stdout))
    return {side: dict(zip(WORKS, map(median, zip(*runs, strict=True)), strict=True)) for side, runs in found.items()}


def verdicts(found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """What was asked for, and what came out."""
    for work in WORKS:
        ratio = found["this store"][work] / found["mltraq"][work]
        yield f"- {work}: {ratio:.2f} x mltraq's time (asked for, without fsync: at most {ALLOWED})"


def main() -> None:
    """Measure, print, and write the section `objects` of docs/benchmarks.md."""
    found = measured()
    lines = [
        f"mltraq 0.1.165; medians of {REPEATS} processes, in milliseconds",
        "",
        f"| | {' | '.join(WORKS)} |",
        f"|---|{'---:|' * len(WORKS)}",
        *(
            f"| {side} | {' | '.join(f'{seconds * 1000:,.1f}' for seconds in figures.values())} |"
            for side, figures in found.items()
        ),
        "",
        *verdicts(found),
    ]
    record("objects", "make bench", lines)


if __name__ == "__main__":
    main()
