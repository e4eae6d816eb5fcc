"""What a service that takes nothing back has been sent, on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

__all__ = ["SentSteps"]


class SentSteps:
    """The id of a run, and the environment steps up to which rows of each scope were sent.

    :param path: the file, which is replaced as a whole after each row.
    :raises ValueError: for a file that holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.run_id: str | None = None
        """The id of the run that was begun before; None for none."""
        self._last: dict[str, int] = {}
        self._before: dict[str, int] | None = None
        if path.exists():
            try:
                document = json.loads(path.read_text(encoding="utf-8"))
                self.run_id = str(document["run_id"])
                self._last = {str(scope): int(step) for scope, step in document["env_steps"].items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} must hold the id of a run and its steps: {error}; delete it") from error

    @property
    def are_anothers(self) -> bool:
        """Whether something was sent by a training that this one does not continue."""
        return self._before is None and bool(self._last)

    def begin(self, run_id: str) -> None:
        """Begin a run of which nothing was sent."""
        self.run_id, self._last, self._before = run_id, {}, {}
        self._write()

    def resume(self) -> None:
        """Continue: from now on only what is later than all that was sent until now is new."""
        self._before = dict(self._last)

    def is_new(self, scope: str, env_step: int) -> bool:
        """Return whether a row is later than those of its scope that were sent before the training resumed."""
        return self._before is None or env_step > self._before.get(scope, -1)

    def add(self, scope: str, env_step: int) -> None:
        """Note that a row was sent."""
        self._last[scope] = env_step
        self._write()

    def _write(self) -> None:
        # Not synchronised with the disk: that takes longer than an update, and is for power cuts only.
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"run_id": self.run_id, "env_steps": self._last}), encoding="utf-8")
        os.replace(temporary, self._path)
