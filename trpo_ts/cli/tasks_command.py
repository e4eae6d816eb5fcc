"""``trpo-ts tasks``: what can be trained, and what must be installed for it."""

from __future__ import annotations

from collections import defaultdict
from importlib.util import find_spec

import gymnasium as gym

from trpo_ts.envs.tasks import MODULES, extra_of
from trpo_ts.presets import load_preset, preset_for, preset_names

__all__ = ["list_tasks"]


def list_tasks() -> int:
    """Print the registered tasks by preset, and return the exit code."""
    tasks: dict[str, list[str]] = defaultdict(list)
    missing: dict[str, str] = {}
    for task, spec in sorted(gym.registry.items()):
        preset = preset_for(task)
        if preset is None:
            continue
        tasks[preset.name].append(task)
        extra = extra_of(spec)
        if extra is not None and find_spec(MODULES[extra]) is None:
            missing[preset.name] = extra
    for name in preset_names():
        preset = load_preset(name)
        print(f"{preset.title} (preset {name})")
        if tasks[name]:
            print(f"  {', '.join(tasks[name])}")
        else:
            print(f"  {'; '.join(preset.tasks) or 'by its observations'}")
        if name in missing:
            print(f'  not installed; type: pip install "trpo-ts[{missing[name]}]"')
    print("Any other environment that is registered with gymnasium: its id, or module:id to import the module first.")
    return 0
