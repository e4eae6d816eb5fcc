"""A preset: a file of settings for a family of tasks."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

from trpo_ts.presets.job_settings import Settings

__all__ = ["Preset", "load_preset", "preset_names"]


@dataclass(frozen=True)
class Preset:
    """What one of the files ``trpo_ts/presets/*.toml`` says.

    :param name: the name of the file.
    :param title: the family of tasks, in a few words.
    :param tasks: patterns of task ids; the first file that matches a task is its preset.
    :param observations: the kinds of observations that the settings are for; see
        :func:`trpo_ts.presets.selection.observation_kind`.
    :param default_for: the kinds of observations of whose tasks this is the preset, where no pattern matches.
    :param values: the settings that differ from those of :class:`Settings`.
    :param task_values: what differs for single tasks of the family, by pattern.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    observations: tuple[str, ...]
    default_for: tuple[str, ...]
    values: Mapping[str, Any]
    task_values: Mapping[str, Mapping[str, Any]]

    def matches(self, task: str) -> bool:
        """Return whether a pattern of the preset matches a task."""
        return any(_is_like(task, pattern) for pattern in self.tasks)

    def values_for(self, task: str) -> dict[str, Any]:
        """Return what the preset sets for a task."""
        own = [values for pattern, values in self.task_values.items() if _is_like(task, pattern)]
        return {name: value for values in (self.values, *own) for name, value in values.items()}

    def settings(self, task: str, **overrides: Any) -> Settings:
        """Return the settings for a task.

        :param overrides: settings that take the place of the preset's.
        :raises TypeError: for a name that is no setting.
        """
        return Settings.of({**self.values_for(task), **overrides})


@cache
def preset_names() -> tuple[str, ...]:
    """Return the names of all presets."""
    found = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


@cache
def load_preset(name: str) -> Preset:
    """Return a preset by its name.

    :raises ValueError: when there is none; it names all of them.
    """
    if name not in preset_names():
        close = get_close_matches(name, preset_names(), n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"preset must be one of {', '.join(preset_names())}, got {name!r}{meant}")
    content = tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    return Preset(
        name=name,
        title=content["title"],
        tasks=tuple(content.get("tasks", ())),
        observations=tuple(content["observations"]),
        default_for=tuple(content.get("default_for", ())),
        values=_known(content.get("settings", {})),
        task_values={pattern: _known(values) for pattern, values in content.get("task", {}).items()},
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    values = {name: None if value == "" else value for name, value in values.items()}  # TOML has no null
    Settings.of(values)  # raises for what is no setting
    return values


def _is_like(task: str, pattern: str) -> bool:
    return fnmatchcase(task.rpartition(":")[2], pattern)  # without the module that registers it
