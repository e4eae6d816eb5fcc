"""Files that are either wholly written or not touched."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import uuid
from pathlib import Path

__all__ = ["TEMPORARY_SUFFIX", "atomic_write", "is_temporary_of"]

TEMPORARY_SUFFIX = ".tmp"
"""Ends the hidden file that a killed process may leave behind."""

_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems and devices answer that know no synchronisation."""


def atomic_write(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file so that a reader, and a machine that lost its power, sees the old one or the new one.

    Missing parent folders are made. A file that is replaced keeps its mode, and its owner where the process may set it;
    a symbolic link stays, and the file that it names is written. A device or a pipe is written to directly.

    :return: the path written.
    :raises OSError: when the file cannot be written; the old one is as it was, unless only the synchronisation of its
        folder failed, after the new one was in place.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    old = _status(path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        _write_directly(path, content)
        return path
    target = Path(os.path.realpath(path))  # a rename onto a link would replace the link
    # In the same folder, because a rename is only atomic within one file system. Opened by name rather than
    # with `tempfile`, whose files are readable by their owner alone.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        _write_temporary(temporary, content, old)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)
    return path


def is_temporary_of(name: str, temporary: str) -> bool:
    """Return whether ``temporary`` names a file that :func:`atomic_write` makes while it writes the file ``name``."""
    return re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{32}}{re.escape(TEMPORARY_SUFFIX)}", temporary) is not None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _write_temporary(temporary: Path, content: bytes, old: os.stat_result | None) -> None:
    """Write and synchronise a new file with the owner and the mode of the old one."""
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)  # from the start, so that nobody else can ever read it
    with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        if old is not None and os.name == "posix":
            with contextlib.suppress(OSError):  # only root may give files away, and not on every file system
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            with contextlib.suppress(OSError):
                os.fchmod(file.fileno(), mode)  # without what the umask took away
        file.write(content)
        file.flush()
        _sync(file.fileno())


def _write_directly(target: Path, content: bytes) -> None:
    with open(target, "wb") as file:
        file.write(content)
        file.flush()
        _sync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; only POSIX systems open folders, and only those that may be read."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
