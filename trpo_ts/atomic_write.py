"""Files that are either wholly written or not touched."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

__all__ = ["TEMPORARY_SUFFIX", "atomic_write"]

TEMPORARY_SUFFIX = ".tmp"
"""Ends the hidden file that a killed process may leave behind."""


def atomic_write(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file so that a reader, and a machine that lost its power, sees the old one or the new one.

    Missing parent folders are made.

    :return: the path written.
    :raises OSError: when the file cannot be written; the old one is as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is only atomic within one file system. Opened by name rather than
    # with `tempfile`, whose files are readable by their owner alone.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)
    return target


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; only POSIX systems open folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
