"""The lock of a run's folder: one process at a time writes to it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # only POSIX systems have it
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK_NAME", "RunLock"]

_LOG = logging.getLogger(__name__)

LOCK_NAME = "run.lock"

WATCH_SECONDS = 60.0
"""For how long a holder on another host, which cannot be asked whether it still runs, is watched for a sign of life."""


@dataclass(frozen=True)
class _Holder:
    """A process. Its number may later be another one's, which began at another time."""

    pid: int
    host: str
    machine: str
    """The run of the machine, and the container: hosts may be called the same."""
    started: str

    @classmethod
    def here(cls) -> _Holder:
        return cls(os.getpid(), socket.gethostname(), _machine(), _started(os.getpid()) or "")

    def is_alive(self) -> bool | None:
        """Return whether the process runs; None where that cannot be told from here."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()) or os.name != "posix":
            return None
        started = _started(self.pid)
        if started is not None and self.started:
            return started == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        return True


class RunLock:
    """Holds a folder for this process, until it is released, collected as garbage, or the process ends in any way.

    In the folder lies ``run.lock``, which names the process. That of a process of this host that is no more is taken
    over at once; that of a process of another host when it has given no sign of life for a minute.

    :param folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._me: _Holder | None = None
        self._finalizer: weakref.finalize[[Path, _Holder], RunLock] | None = None

    def acquire(self) -> None:
        """Take the lock, if it is not held already by this process; the folder is made if it is missing.

        :raises RuntimeError: when another process has it; it names the process and its host.
        """
        if self._me == (me := _Holder.here()):
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        other = _take(self._path, me, instead_of=None)
        if other is not None:
            alive = other.is_alive()
            if alive or (alive is None and _gives_sign_of_life(self._path, other)):
                raise RuntimeError(
                    f"{self._path.parent} is in use by process {other.pid} on {other.host}; wait for its end, or give "
                    f"this run a folder of its own (if that process is no run, delete {self._path})"
                )
            if alive is None:
                text = f"{self._path.parent} was in use by process {other.pid} on {other.host}, which seems to be dead"
                warnings.warn(text, RuntimeWarning, stacklevel=3)
            if _take(self._path, me, instead_of=other) is not None:
                raise RuntimeError(f"{self._path.parent} has just been taken by another process; try again")
        self._me = me
        self._finalizer = weakref.finalize(self, _give_back, self._path, me)

    def beat(self) -> None:
        """Give a sign of life, for processes of other hosts."""
        if self._me is not None:
            with contextlib.suppress(OSError):  # a missed beat is no reason to end a run
                os.utime(self._path)

    def release(self) -> None:
        """Give the folder back."""
        self._me = None
        if self._finalizer is not None:
            self._finalizer()


def _take(path: Path, me: _Holder, instead_of: _Holder | None) -> _Holder | None:
    """Write this process into the lock, unless another one holds it that is not the given one; return that one."""
    with _opened(path) as descriptor:
        other = _read(descriptor)
        if other is not None and other not in (me, instead_of):
            return other
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(asdict(me)).encode())
    return None


def _give_back(path: Path, me: _Holder) -> None:
    if me.pid != os.getpid() or not path.exists():  # a forked process has a copy of its parent's lock
        return
    with contextlib.suppress(OSError), _opened(path) as descriptor:
        if _read(descriptor) == me:
            os.ftruncate(descriptor, 0)  # where an open file cannot be deleted, it is nobody's
            path.unlink()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open the lock's file while no other process does.

    The kernel's lock lasts for a moment only: processes that are forked would inherit it, and outlive this one.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # unknown to some file systems
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_still(descriptor, path):
                continue  # deleted by its holder while this process waited
            yield descriptor
            return
        finally:
            os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> _Holder | None:
    """Return who is written in the lock; None if it is empty, or was written by half."""
    try:
        fields: dict[str, Any] = json.loads(os.read(descriptor, 4096))
        return _Holder(int(fields["pid"]), *(str(fields[name]) for name in ("host", "machine", "started")))
    except (KeyError, TypeError, ValueError):
        return None


def _gives_sign_of_life(path: Path, holder: _Holder) -> bool:
    _LOG.warning("%s is held by process %s on %s, watching it for %.0f s", path, holder.pid, holder.host, WATCH_SECONDS)
    before, end = _touched(path), time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, WATCH_SECONDS / 10))
        if _touched(path) != before:
            return True
    return False


def _touched(path: Path) -> int:
    """Return when the file was last touched; opened anew, because a network file system may remember an old answer."""
    try:
        with open(path, "rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # Linux only
        return ""


def _started(pid: int) -> str | None:
    """Return when a process began; empty if it has ended, and None where that is not to be had."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]  # in ticks since the machine began
