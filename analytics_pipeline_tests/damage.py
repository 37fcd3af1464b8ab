"""Damage to files, as disks, people and power cuts do it: each kind keeps what it does not mean to change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_FLIPPED = 8


def cut(path: Path) -> None:
    """Take the last third of a file away."""
    os.truncate(_writable(path), max(1, path.stat().st_size * 2 // 3))


def zero(path: Path) -> None:
    """Fill a file with zeros: its size stays."""
    size = path.stat().st_size
    _writable(path).write_bytes(bytes(size))


def flip(path: Path, at: float = 0.3) -> None:
    """Turn all bits of eight bytes; `at` is their place as a share of the file."""
    content = bytearray(_writable(path).read_bytes())
    begin = min(int(len(content) * at), max(0, len(content) - _FLIPPED))
    for place in range(begin, min(begin + _FLIPPED, len(content))):
        content[place] ^= 0xFF
    path.write_bytes(content)


def delete(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def _writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


HARMS: dict[str, Callable[[Path], None]] = {"cut": cut, "zero": zero, "flip": flip, "delete": delete}
