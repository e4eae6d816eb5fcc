"""The files of a run, and its configuration on disk."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trpo_ts.atomic_write import is_temporary_of
from trpo_ts.checkpoints.run_lock import LOCK_NAME
from trpo_ts.cli.usage import UsageError
from trpo_ts.diagnostics import write_json
from trpo_ts.training.job_config import JobConfig
from trpo_ts.validation.parameter_values import check_choice, check_integer

__all__ = ["RunConfig", "RunFiles"]

_LIBRARIES = ("torch", "tianshou", "gymnasium", "numpy")


@dataclass(frozen=True)
class RunConfig:
    """What ``config.json`` holds.

    :param job: all that decides how the training runs.
    :param threads: torch's, on whose number the rounding of sums depends.
    :param logger: who is told beside ``metrics.jsonl``; runs of earlier versions had TensorBoard's.
    :raises ValueError: for a value outside its range.
    """

    job: JobConfig
    threads: int
    logger: str = "tensorboard"

    def __post_init__(self) -> None:
        check_integer("threads", self.threads, 1)
        check_choice("logger", self.logger, ("tensorboard", "wandb", "none"))

    def as_dict(self) -> dict[str, Any]:
        """Return everything by name."""
        return {**self.job.as_dict(), "threads": self.threads, "logger": self.logger}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Return what :meth:`as_dict` wrote."""
        job = {name: value for name, value in values.items() if name not in ("threads", "logger")}
        return cls(JobConfig.from_dict(job), values["threads"], values.get("logger", cls.logger))


class RunFiles:
    """The names of a run's files.

    :param folder: the run's folder, which may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.metrics = folder / "metrics.jsonl"
        self.summary = folder / "summary.json"
        self.report = folder / "report.html"
        self.last = folder / "last.ckpt"
        self.previous = folder / "previous.ckpt"
        self.best = folder / "best.ckpt"

    def check_free_or_same(self, config: RunConfig) -> None:
        """Check that a training with this configuration may write here: into no run, or into one that is the same.

        ``steps`` may differ: a run may be continued beyond its end. So may ``logger``: it changes nothing in the run.

        :raises UsageError: otherwise.
        """
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise UsageError(f"--out must be a folder, got the file {self.folder}")
        if not self.config.exists():
            if not all(map(self._is_left_over, self.folder.iterdir())):
                raise UsageError(f"{self.folder} has files and no run; type another --out")
            return
        there, here = self.read().as_dict(), config.as_dict()
        other = [name for name in here if name not in ("steps", "logger") and here[name] != there[name]]
        if other:
            shown = ", ".join(f"{name} {there[name]!r} there and {here[name]!r} here" for name in other[:3])
            raise UsageError(
                f"{self.folder} holds a run with other settings ({shown}); type trpo-ts resume {self.folder} to "
                "continue it, or another --out"
            )
        if here["steps"] < there["steps"]:
            raise UsageError(
                f"steps must be at least the {there['steps']} of the run in {self.folder}, got {here['steps']}"
            )

    def read(self) -> RunConfig:
        """Return the configuration of the run.

        :raises UsageError: when there is none.
        """
        if not self.config.is_file():
            raise UsageError(f"{self.folder} holds no run; type the folder that trpo-ts train named")
        try:
            values = dict(json.loads(self.config.read_text(encoding="utf-8")))
            values.pop("trpo_ts")
            values.pop("versions", None)
            return RunConfig.from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{self.config} holds no configuration of a run: {error}; type another folder") from error

    def remove_remains(self) -> None:
        """Delete what a killed process left: files written by half, and the logs of a run without a checkpoint.

        Such a run begins anew. The lock must be held.
        """
        for path in self.folder.iterdir():
            if path.name != LOCK_NAME and self._is_left_over(path):
                path.unlink()
        if not (self.last.exists() or self.previous.exists()):
            for path in [self.metrics, *self.folder.glob("events.out.tfevents.*")]:
                path.unlink(missing_ok=True)

    def _is_left_over(self, path: Path) -> bool:
        """Return whether a process that was killed may have left a file before there was a run, or beside its files."""
        own = (self.config, self.metrics, self.summary, self.report)
        return path.name == LOCK_NAME or any(is_temporary_of(file.name, path.name) for file in own)

    def read_summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds; nothing where there is none, as while a run lasts."""
        if not self.summary.is_file():
            return {}
        try:
            return dict(json.loads(self.summary.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.summary} holds no summary of a run: {error}; delete it") from error

    def write(self, config: RunConfig) -> None:
        """Make the folder, and write the configuration."""
        others = {name: _version(name) for name in _LIBRARIES}
        versions = {"python": platform.python_version(), **others, "system": platform.platform()}
        write_json(self.config, {"trpo_ts": _version("trpo-ts"), "versions": versions, **config.as_dict()})

    def read_versions(self) -> dict[str, Any]:
        """Return the versions that the last session of the run had; the configuration must be one."""
        values = json.loads(self.config.read_text(encoding="utf-8"))
        return {"trpo_ts": values["trpo_ts"], **values.get("versions", {})}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout
        return "not installed"
