"""Tasks by their names: what is registered, what must be installed, and the environment as Tianshou can take it."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from importlib import import_module
from typing import Any, get_args

import gymnasium as gym
import numpy as np
from gymnasium import error, spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import FrameStackObservation

from trpo_ts.choices import Backend, EnvBackend
from trpo_ts.envs.envpool_tasks import check_envpool_task, envpool_spaces, has_envpool_task
from trpo_ts.envs.flatten_action import FlattenAction
from trpo_ts.envs.image_shapes import LEAST_SIDE, channel_axis
from trpo_ts.envs.observations import TupleToDictObservation
from trpo_ts.envs.ray_tasks import check_ray
from trpo_ts.envs.smaller_images import SmallerImages
from trpo_ts.validation.parameter_values import check_choice, check_integer

__all__ = [
    "MODULES",
    "SHAPING",
    "backend_of",
    "extra_of",
    "find_task",
    "make_structured_task",
    "make_task",
    "spaces_of_task",
    "with_flat_spaces",
]

_EXTRAS = {"gymnasium.envs.mujoco": "mujoco", "gymnasium.envs.box2d": "box2d", "ale_py": "atari"}
"""The extra of this package that installs what a task needs, by the beginning of its entry point."""

MODULES = {"mujoco": "mujoco", "box2d": "Box2D", "atari": "ale_py"}
"""The module that each of these extras installs."""

SHAPING = ("frame_stack", "image_side", "max_episode_steps")
"""The options of :func:`make_task`."""

_LONGEST_EPISODE = 10_000
"""The time limit of a task that has none: a policy that never ends an episode would be tested for ever."""

_GREY_FRAMES: dict[str, dict[str, Any]] = {"ALE": {"obs_type": "grayscale"}}
"""Arguments of the environments of a namespace: frames without colours, which can be stacked."""


def find_task(task: str) -> EnvSpec:
    """Return the specification of a registered task; of ``module:id`` the module is imported first.

    :raises ValueError: for a task that nobody has registered; it names one that is written alike.
    """
    module, _, name = task.rpartition(":")
    try:
        if module:
            import_module(module)
        elif task.startswith("ALE/"):
            import_module("ale_py")  # registers them
        return gym.spec(name)
    except ImportError as problem:
        if not module:
            raise ValueError(_install(task, "atari")) from problem
        raise ValueError(f"task {task} is of a module that cannot be imported: {_first_line(problem)}") from problem
    except error.Error as problem:
        raise _unknown(task) from problem


def backend_of(task: str, env_backend: EnvBackend = "auto") -> Backend:
    """Return who runs the environments of a task: ``"gymnasium"``, ``"envpool"`` or ``"ray"``.

    :param task: the id.
    :param env_backend: who shall; ``"auto"`` takes EnvPool for the tasks that only EnvPool has.
    :raises ValueError: for an unknown task, where EnvPool or Ray is missing, and where EnvPool does not have the task.
    """
    check_choice("env_backend", env_backend, get_args(EnvBackend))
    if env_backend == "envpool":
        check_envpool_task(task)
        return env_backend
    if env_backend == "ray":
        check_ray()
        find_task(task)
        return env_backend
    try:
        find_task(task)
    except ValueError:
        if env_backend == "gymnasium" or not has_envpool_task(task):
            raise
        return "envpool"
    return "gymnasium"


def spaces_of_task(task: str, backend: Backend, **shaping: Any) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Return the observation and the action space of a task.

    :param task: the id.
    :param backend: what :func:`backend_of` returned.
    :param shaping: see :func:`make_task`; EnvPool prepares images itself.
    :raises ValueError: see :func:`make_task`.
    """
    if backend == "envpool":
        if shaping.get("frame_stack", 1) != 1:
            raise ValueError(
                f"frame_stack must be 1 with EnvPool, which stacks images itself, got {shaping['frame_stack']}"
            )
        return envpool_spaces(task)
    env = make_task(task, **shaping)
    env.close()
    return env.observation_space, env.action_space


def make_task(
    task: str, *, frame_stack: int = 1, image_side: int | None = None, max_episode_steps: int | None = None
) -> gym.Env[Any, Any]:
    """Return a new environment of a task, with structured actions made flat and Tuples of observations made Dicts.

    :param task: the id, such as ``"Hopper-v5"`` or ``"module:id"``.
    :param frame_stack: how many of the last observations are one; of grey images they are the channels.
    :param image_side: images with longer sides are averaged down to it; None leaves them.
    :param max_episode_steps: the time limit of an episode; None takes the task's own, or 10,000 where it has none.
    :raises ValueError: for an unknown task, one whose dependencies are missing, with what to install, and for
        observations that cannot be stacked.
    """
    return with_flat_spaces(
        make_structured_task(task, frame_stack=frame_stack, image_side=image_side, max_episode_steps=max_episode_steps)
    )


def with_flat_spaces(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """Return the environment with structured actions made flat and Tuples of observations made Dicts."""
    if isinstance(env.action_space, spaces.Dict | spaces.Tuple):
        env = FlattenAction(env)
    return TupleToDictObservation(env) if _has_tuple(env.observation_space) else env


def make_structured_task(
    task: str,
    *,
    frame_stack: int = 1,
    image_side: int | None = None,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
) -> gym.Env[Any, Any]:
    """Return what :func:`make_task` does, with the task's own Dicts and Tuples.

    :param render_mode: what ``render()`` returns; None for nothing.
    :raises ValueError: see :func:`make_task`.
    """
    check_integer("frame_stack", frame_stack, 1)
    if image_side is not None:
        check_integer("image_side", image_side, LEAST_SIDE)
    spec = find_task(task)
    limit = spec.max_episode_steps or _LONGEST_EPISODE
    if max_episode_steps is not None:
        limit = check_integer("max_episode_steps", max_episode_steps, 1)
    try:
        arguments = _GREY_FRAMES.get(spec.namespace or "", {})
        if render_mode is not None:
            arguments = {**arguments, "render_mode": render_mode}
        env = _make(task, max_episode_steps=limit, **arguments)
    except (ImportError, error.Error) as problem:
        extra = extra_of(spec)
        if extra is not None and isinstance(problem, ImportError | error.DependencyNotInstalled):
            raise ValueError(_install(task, extra)) from problem
        raise ValueError(f"task {task} cannot be made: {_first_line(problem)}") from problem
    if image_side is not None and _is_image(env.observation_space):
        env = SmallerImages(env, image_side)
    if frame_stack > 1:
        if not isinstance(env.observation_space, spaces.Box) or len(env.observation_space.shape) > 2:
            raise ValueError(
                f"frame_stack must be 1 for observations that are no vectors or grey images, got {frame_stack} for "
                f"{env.observation_space}"
            )
        env = FrameStackObservation(env, frame_stack)
    return env


def _make(task: str, **arguments: Any) -> gym.Env[Any, Any]:
    with warnings.catch_warnings():
        # Who asks for an older version of a task knows that there is a newer one.
        warnings.filterwarnings("ignore", message=".*is out of date", category=DeprecationWarning)
        # The checker would look at every step of all environments.
        return gym.make(task, disable_env_checker=True, **arguments)


def extra_of(spec: EnvSpec) -> str | None:
    """Return the extra of this package that installs what a task needs; None where that is not known."""
    entry = spec.entry_point if isinstance(spec.entry_point, str) else ""
    return next((extra for start, extra in _EXTRAS.items() if entry.startswith(start)), None)


def _install(task: str, extra: str) -> str:
    return f'task {task} needs packages that are not installed; type: pip install "trpo-ts[{extra}]"'


def _unknown(task: str) -> ValueError:
    close = get_close_matches(task, gym.registry, n=1)
    meant = f"did you mean {close[0]}?" if close else "trpo-ts tasks lists them"
    return ValueError(f"task must be the id of a registered environment, got {task!r}; {meant}")


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0]


def _is_image(space: gym.Space[Any]) -> bool:
    """Return whether observations are images; a grey one has two axes, and bytes."""
    if not isinstance(space, spaces.Box):
        return False
    return channel_axis(space.shape) is not None or (len(space.shape) == 2 and space.dtype == np.uint8)


def _has_tuple(space: gym.Space[Any]) -> bool:
    if isinstance(space, spaces.Dict):
        return any(map(_has_tuple, space.spaces.values()))
    return isinstance(space, spaces.Tuple)
