"""The folder of a run: the names of its files, and what is done with them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trpo_ts.atomic_write import TEMPORARY_SUFFIX, is_temporary_of
from trpo_ts.checkpoints.run_lock import RunLock

__all__ = ["LastCheckpointFolder", "RunFolder"]


class RunFolder:
    """Checkpoints ``update_<n>.ckpt``, ``best.ckpt``, and the lock; other files are the user's and stay as they are.

    :param folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.lock = RunLock(folder)
        self.best = folder / "best.ckpt"

    def checkpoint(self, updates: int) -> Path:
        """Return the path of the checkpoint after so many updates."""
        return self._folder / f"update_{updates:06d}.ckpt"

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints of the run, the newest first."""
        matches = (re.fullmatch(r"update_(\d+)\.ckpt", path.name) for path in self._folder.glob("update_*.ckpt"))
        numbers = sorted({int(match[1]) for match in matches if match}, reverse=True)
        paths = map(self.checkpoint, numbers)
        return [path for path in paths if path.is_symlink() or path.exists()]  # a broken link is one to pass over

    def make_room(self) -> None:
        """Prepare the folder for one more checkpoint; whenever the process dies, a whole one is there."""

    def remove_all_but(self, keep: int) -> None:
        """Delete the older checkpoints."""
        for path in self.checkpoints()[keep:]:
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)

    def remove_temporaries(self) -> None:
        """Delete what a killed process left of checkpoints; the lock must be held, since others may be writing."""
        for path in self._folder.glob(f".*{TEMPORARY_SUFFIX}"):
            name = path.name[1:].rsplit(".", 2)[0]
            if (name == self.best.name or self._is_checkpoint(name)) and is_temporary_of(name, path.name):
                path.unlink(missing_ok=True)

    def _is_checkpoint(self, name: str) -> bool:
        return re.fullmatch(r"update_\d{6,}\.ckpt", name) is not None

    def load_newest(self, load: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
        """Load the newest checkpoint that can be, and put those before it aside.

        :param load: loads a checkpoint, or raises a ``ValueError`` or an ``OSError`` and changes nothing.
        :raises ValueError: when none can be loaded; the message is the newest one's.
        """
        unreadable: list[tuple[Path, Exception]] = []
        for path in self.checkpoints():
            try:
                loaded = load(path)
            except (OSError, ValueError) as error:
                unreadable.append((path, error))
                continue
            for newer, why in unreadable:
                _put_aside(newer)
                warnings.warn(f"checkpoint passed over: {why}", RuntimeWarning, stacklevel=4)
            return path, loaded
        newest_error = unreadable[0][1]
        raise ValueError(f"no checkpoint in {self._folder} can be loaded: {newest_error}") from newest_error


class LastCheckpointFolder(RunFolder):
    """The folder of a run whose newest checkpoint is ``last.ckpt``, and the one before it ``previous.ckpt``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._newest_first = (folder / "last.ckpt", folder / "previous.ckpt")

    def checkpoint(self, updates: int) -> Path:
        """Return the path of the newest checkpoint."""
        return self._newest_first[0]

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints of the run, the newest first."""
        return [path for path in self._newest_first if path.is_symlink() or path.exists()]

    def make_room(self) -> None:
        """Call the newest checkpoint also the one before it; its own name is then replaced in one step."""
        last, previous = self._newest_first
        if not last.is_file():
            return
        link = previous.with_name(f".{previous.name}.link")
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        try:
            os.link(last, link)
        except OSError:  # a file system without hard links
            os.replace(last, previous)
        else:
            os.replace(link, previous)

    def _is_checkpoint(self, name: str) -> bool:
        return name == self._newest_first[0].name


def _put_aside(path: Path) -> None:
    """Rename a checkpoint, out of the way of those to come, to a name that no other file has."""
    for number in itertools.count():
        aside = path.with_suffix(f".unreadable{number or ''}")
        if not (aside.exists() or aside.is_symlink()):
            path.rename(aside)
            return
