"""Runs that differ in their seed alone are a group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trpo_ts.diagnostics.page import value_text
from trpo_ts.diagnostics.style import BLUE, GREEN, LIGHT_BLUE, ORANGE, VERMILLION
from trpo_ts.reports.recorded_run import RecordedRun

__all__ = ["RunGroup", "differing_settings", "group_runs"]

_COLORS = (BLUE, VERMILLION, GREEN, ORANGE, LIGHT_BLUE, "#CC79A7", "#000000")
_DASHES = ("solid", "dash", "dot", "dashdot")
_OF_NO_ACCOUNT = ("seed", "steps", "threads")
"""Settings in which runs of a group may differ."""
_MOST_NAMED = 3


@dataclass(frozen=True)
class RunGroup:
    """Seeds of one task with one set of settings."""

    name: str
    runs: Sequence[RecordedRun]
    number: int
    """Position among the groups, from 0."""

    @property
    def color(self) -> str:
        """Colour of its lines."""
        return _COLORS[self.number % len(_COLORS)]

    @property
    def dash(self) -> str:
        """Dash of its lines, so that they differ without colour as well."""
        return _DASHES[self.number % len(_DASHES)]


def group_runs(runs: Sequence[RecordedRun]) -> list[RunGroup]:
    """Return the groups in the order of their first runs; runs without settings are each a group."""
    groups: dict[str, list[RecordedRun]] = {}
    for run in runs:
        key = json.dumps(_identity(run), sort_keys=True, default=str) if run.settings else f"run {id(run)}"
        groups.setdefault(key, []).append(run)
    names = _names(list(groups.values()))
    return [RunGroup(name, own, n) for n, (name, own) in enumerate(zip(names, groups.values(), strict=True))]


def differing_settings(runs: Sequence[RecordedRun]) -> list[str]:
    """Return the names of the settings, beside seeds and the like, that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in _identity(run))
    return [name for name in names if len({repr(run.settings.get(name)) for run in runs}) > 1]


def _identity(run: RecordedRun) -> dict[str, Any]:
    return {name: value for name, value in run.settings.items() if name not in _OF_NO_ACCOUNT}


def _names(groups: Sequence[Sequence[RecordedRun]]) -> list[str]:
    firsts = [runs[0] for runs in groups]
    differing = differing_settings(firsts)
    names = []
    for run in firsts:
        parts = [str(run.settings["task"])] if "task" in differing else []
        parts += [f"{name} {value_text(run.settings.get(name))}" for name in differing if name != "task"]
        named = ", ".join(parts[:_MOST_NAMED])
        names.append(named if named and all(run.settings for run in firsts) else run.name)
    if len(firsts) == 1 and "task" in firsts[0].settings:
        return [str(firsts[0].settings["task"])]
    # Beyond the settings that are named, groups may differ in others.
    return [name if names.count(name) == 1 else f"{name} ({run.name})" for name, run in zip(names, firsts, strict=True)]
