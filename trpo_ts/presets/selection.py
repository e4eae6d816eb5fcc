"""Which preset a task gets, by its name and else by its spaces."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from trpo_ts.choices import Backend
from trpo_ts.envs.image_shapes import channel_axis
from trpo_ts.envs.tasks import SHAPING, spaces_of_task
from trpo_ts.presets.preset import Preset, load_preset, preset_names

__all__ = ["choose_preset", "observation_kind", "preset_for"]


def observation_kind(space: gym.Space[Any]) -> str:
    """Return what observations are: ``"vector"`` of real numbers, ``"image"``, ``"categories"``, or ``"mixed"``."""
    if isinstance(space, spaces.Box):
        if channel_axis(space.shape) is not None:
            return "image"
        return "vector" if np.issubdtype(space.dtype, np.floating) else "mixed"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return "categories"
    return "mixed"


def preset_for(task: str, observation_space: gym.Space[Any] | None = None) -> Preset | None:
    """Return the preset of a task.

    :param task: the id, such as ``"Hopper-v5"``.
    :param observation_space: the environment's, for tasks that no preset names; None takes only those.
    :return: None where no preset names the task and there is no space.
    """
    presets = [load_preset(name) for name in preset_names()]
    named = next((preset for preset in presets if preset.matches(task)), None)
    if named is not None or observation_space is None:
        return named
    kind = observation_kind(observation_space)
    return next(preset for preset in presets if kind in preset.default_for)


def choose_preset(
    task: str, name: str | None = None, *, backend: Backend = "gymnasium", **shaping: int | None
) -> Preset:
    """Return the preset of a task, or the one of a name, which must be for such observations.

    :param task: the id of an environment.
    :param name: the name of a preset; None takes the one that names the task, else the one for its observations.
    :param backend: ``"gymnasium"``, ``"envpool"`` or ``"ray"``, as :func:`trpo_ts.envs.tasks.backend_of` returns it.
    :param shaping: see :func:`trpo_ts.envs.tasks.make_task`; what the preset says where it is left out.
    :raises ValueError: for an unknown preset, missing packages, and a preset for other observations.
    """
    named = preset_for(task)
    if name is None and named is not None:
        return named
    values = {} if name is None else load_preset(name).values_for(task)
    shaping = {option: values[option] for option in SHAPING if option in values} | shaping
    space, _ = spaces_of_task(task, backend, **shaping)
    own = preset_for(task, space)
    assert own is not None
    if name is None:
        return own
    preset = load_preset(name)
    if observation_kind(space) not in preset.observations:
        raise ValueError(
            f"preset {name} is for observations of the kind {' or '.join(preset.observations)}, and those of {task} "
            f"are {space}; take the preset {own.name}, or none"
        )
    return preset
