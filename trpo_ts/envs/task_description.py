"""A task together with how its observations are shaped: what it takes to make its environments again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

import gymnasium as gym

from trpo_ts.choices import Backend
from trpo_ts.envs.tasks import make_structured_task
from trpo_ts.validation.parameter_values import check_choice, check_instance

__all__ = ["TaskDescription"]


@dataclass(frozen=True, kw_only=True)
class TaskDescription:
    """A task as its training made it.

    :param task: the id of a registered environment.
    :param env_backend: ``"gymnasium"``, ``"envpool"`` or ``"ray"``.
    :param frame_stack: see :func:`trpo_ts.envs.tasks.make_task`, and so the next two.
    :param image_side: the longest side of images; None leaves them.
    :param max_episode_steps: the time limit of an episode, in steps; None for the task's own.
    """

    task: str
    env_backend: Backend = "gymnasium"
    frame_stack: int = 1
    image_side: int | None = None
    max_episode_steps: int | None = None

    def record(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> TaskDescription:
        """Return what :meth:`record` wrote; names that later versions may add are not read.

        :raises ValueError: for a record that names no task.
        """
        names = [field.name for field in fields(cls)]
        task = cls(**{name: value for name, value in record.items() if name in names})
        check_instance("task", task.task, str, "the id of a registered environment")
        check_choice("env_backend", task.env_backend, get_args(Backend))
        return task

    def shaping(self) -> dict[str, Any]:
        """Return the options of :func:`trpo_ts.envs.tasks.make_task`."""
        return {
            "frame_stack": self.frame_stack,
            "image_side": self.image_side,
            "max_episode_steps": self.max_episode_steps,
        }

    def make(self, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Return a new environment of the task; Dicts and Tuples of observations and actions are as the task has them.

        :param render_mode: what the environment's ``render()`` returns, such as ``"rgb_array"``.
        :raises ValueError: for a task that cannot be made here, with what to do about it.
        """
        if self.env_backend == "envpool":
            raise ValueError(f"task {self.task} is one of EnvPool's, which has no single environments; pass env=...")
        return make_structured_task(self.task, **self.shaping(), render_mode=render_mode)
