"""Write the table of docs/presets.md from the files of the presets: python tools/preset_table.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trpo_ts.presets import Settings, load_preset, preset_names
from trpo_ts.training.components import number_or_schedule_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "presets.md"

HEADER = (
    "| Preset | Tasks | Steps | Environments x segment | `max_kl` | `gamma`, `gae_lambda` | `critic_fit` "
    "| Observations normalised | `return_scaling` | `hidden_sizes` | Memory | Other |"
)
SHOWN = {
    *("steps", "num_envs", "segment", "max_kl", "gamma", "gae_lambda", "critic_fit", "normalise_observations"),
    *("return_scaling", "hidden_sizes", "memory"),
}


def with_table(text: str) -> str:
    """Return the page with the present table between its markers."""
    rule = "| " + " | ".join(["---"] * (HEADER.count("|") - 1)) + " |"
    table = "\n".join([HEADER, rule, *(row for name in preset_names() for row in _rows(name))])
    return re.sub(r"(<!-- presets -->\n).*?(<!-- /presets -->)", rf"\1{table}\n\2", text, flags=re.DOTALL)


def _rows(name: str) -> list[str]:
    preset = load_preset(name)
    kinds = ", ".join(preset.default_for)
    tasks = ", ".join(f"`{pattern}`" for pattern in preset.tasks)
    whole = "; ".join(part for part in (tasks, f"others with observations: {kinds}" if kinds else "") if part)
    rows = [_row(f"[`{name}`](../trpo_ts/presets/{name}.toml)", whole, preset.values)]
    for pattern, values in preset.task_values.items():
        rows.append(_row("", f"`{pattern}`", {**preset.values, **values}))
    return rows


def _row(name: str, tasks: str, values: Mapping[str, Any]) -> str:
    settings = Settings.of(values)
    other = [f"`{key}` {value}" for key, value in values.items() if key not in SHOWN and value is not None]
    cells = [
        name,
        tasks,
        f"{settings.steps:,}",
        f"{settings.num_envs} x {settings.segment}",
        _bound(settings.max_kl),
        f"{settings.gamma:g}, {settings.gae_lambda:g}",
        "`None`" if settings.critic_fit is None else f"`{settings.critic_fit}`",
        "yes" if settings.normalise_observations else "no",
        "yes" if settings.return_scaling else "no",
        ", ".join(map(str, settings.hidden_sizes)),
        settings.memory,
        ", ".join(other),
    ]
    return "| " + " | ".join(cells) + " |"


def _bound(max_kl: float | str) -> str:
    schedule = number_or_schedule_of("max_kl", max_kl)
    return f"{schedule(0.0):g} to {schedule(1.0):g}" if callable(schedule) else f"{schedule:g}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
