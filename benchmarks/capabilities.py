"""The capability store beside checkmaite 0.6.1: one write, one duplicate, three queries, the memory, at several sizes.

Both sides work on the same runs, of one result and one row of `runs` each. checkmaite's folder is filled with the
files that its own writes leave; ours is a copy of it, taken up by our first write, and the last runs are our own
writes, so that queries meet files that no compacted copy has yet. Each figure is the median of five processes of its
own, ours and theirs in turns; a process warms up on a folder with one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness import median, record

SIZES = (10, 1_000, 10_000)
LARGE = 50_000
OWN = 250
REPEATS = 5
WORKS = {"write": "write", "again": "duplicate", "count": "COUNT", "group": "GROUP BY", "join": "JOIN runs"}
FASTER, MEGABYTES, FLAT = 50, 300, 2
PYTHON = Path(__file__).parents[1] / ".venv-checkmaite" / "bin" / "python"
Figures = Mapping[str, float]


def run(*arguments: str | int | Path) -> str:
    """What a process of the worker prints."""
    command = [str(PYTHON), str(Path(__file__).with_name("capabilities_worker.py")), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def filled(folder: Path, size: int) -> tuple[Path, Path, float]:
    """Both folders with so many runs, and the seconds of our first write, which takes up files that are not ours."""
    own = OWN if size > OWN else 0
    theirs, ours = folder / f"theirs-{size}", folder / f"ours-{size}"
    run("fill", theirs, 0, size - own)
    shutil.copytree(theirs, ours)
    begin = time.perf_counter()
    run("write-all", ours, size - own, size - own + 1)
    taken_up = time.perf_counter() - begin
    run("write-all", ours, size - own + 1, size)
    run("fill", theirs, size - own, size)
    return ours, theirs, taken_up


def measured(folders: Mapping[str, Path], size: int) -> Mapping[str, Figures]:
    """Seconds of each work, and the highest memory of all, by side."""
    found: dict[str, dict[str, list[float]]] = {side: {} for side in folders}
    for repeat in range(REPEATS):
        for what in WORKS:
            for side, root in folders.items():
                number = size + 1 + repeat if what == "write" else size // 2
                seconds, memory = json.loads(run("measure", root, number, 0, "--side", side, "--what", what))
                found[side].setdefault(what, []).append(seconds)
                found[side].setdefault("memory", []).append(memory)
    return {
        side: {name: max(values) if name == "memory" else median(values) for name, values in figures.items()}
        for side, figures in found.items()
    }


def rows(size: int, figures: Mapping[str, Figures]) -> Iterator[str]:
    """The lines of the table for a size."""
    for side, name in (("ours", "this store"), ("theirs", "checkmaite")):
        if side in figures:
            cells = " | ".join(f"{figures[side][what] * 1000:,.1f}" for what in WORKS)
            yield f"| {size:,} | {name} | {cells} | {figures[side]['memory']:,.0f} |"
    if "theirs" in figures:
        cells = " | ".join(f"{figures['theirs'][what] / figures['ours'][what]:,.1f} x" for what in WORKS)
        yield f"| | faster by | {cells} | |"


def verdicts(found: Mapping[int, Mapping[str, Figures]]) -> Iterator[str]:
    """What was asked for, and what came out."""
    largest = max(size for size in found if "theirs" in found[size])
    ours, theirs = found[largest]["ours"], found[largest]["theirs"]
    for what in ("write", "join"):
        ratio = theirs[what] / ours[what]
        yield f"At {largest:,} runs {WORKS[what]} is {ratio:,.0f} times as fast (asked for: {FASTER})."
    yield f"At {largest:,} runs the memory is at most {ours['memory']:,.0f} MB (asked for: {MEGABYTES})."
    smallest, largest = min(found), max(found)
    growth = found[largest]["ours"]["write"] / found[smallest]["ours"]["write"]
    yield f"A write at {largest:,} runs takes {growth:.1f} times that at {smallest:,} (asked for: {FLAT})."


def main() -> None:
    """Measure every size, print, and write the section `capabilities` of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="at which both are measured")
    parser.add_argument("--large", type=int, default=LARGE, help="runs at which only this store is measured")
    given = parser.parse_args()
    found: dict[int, Mapping[str, Figures]] = {}
    taken_up = {}
    for size in (*given.sizes, given.large):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs, taken_up[size] = filled(Path(folder), size)
            both = {"ours": ours, "theirs": theirs}
            found[size] = measured(both if size in given.sizes else {"ours": ours}, size)
        print(*rows(size, found[size]), sep="\n", flush=True)
    lines = [
        f"checkmaite 0.6.1 with the same Polars; medians of {REPEATS} processes, in milliseconds; memory in MB",
        "",
        f"| runs | | {' | '.join(WORKS.values())} | memory |",
        f"|---:|---|{'---:|' * (len(WORKS) + 1)}",
        *(line for size, figures in found.items() for line in rows(size, figures)),
        "",
        *verdicts(found),
        f"Our first write into checkmaite's folder of {given.large:,} runs takes {taken_up[given.large]:,.0f} s.",
    ]
    record("capabilities", "make bench", lines)


if __name__ == "__main__":
    main()
