"""A trained policy with all that lies between it and an environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym

from trpo_ts.agents.acting_agent import ActingAgent
from trpo_ts.agents.evaluation import Evaluation, evaluate_agent
from trpo_ts.agents.video import film_agent

__all__ = ["Agent"]


class Agent(ActingAgent):
    """A policy that acts on the environment's observations, is evaluated, filmed and exported.

    :func:`trpo_ts.load` makes one from a checkpoint. Its parameters are those of :class:`ActingAgent`.
    """

    def evaluate(self, episodes: int = 10, seed: int = 0, *, env: Any = None, deterministic: bool = True) -> Evaluation:
        """Play episodes and return what they brought; what :meth:`act` remembers stays.

        :param episodes: how many, >= 1.
        :param seed: of environments and actions; one seed gives one result.
        :param env: the environment, or a vector of some, that is played in and stays open; None makes the task's own.
        :param deterministic: see :meth:`act`.
        :raises ValueError: for an agent without a task and no environment, and for one with other spaces.
        """
        return evaluate_agent(self, episodes, seed, env=env, deterministic=deterministic)

    def record_video(
        self,
        path: str | os.PathLike[str],
        *,
        episodes: int = 1,
        seed: int = 0,
        env: gym.Env[Any, Any] | None = None,
        fps: float | None = None,
        deterministic: bool = True,
    ) -> Path:
        """Film episodes, one after another; what :meth:`act` remembers stays. Needs the extra ``video``.

        :param path: the file, ``.mp4`` or ``.gif``; missing folders are made.
        :param episodes: how many, >= 1.
        :param seed: of environment and actions.
        :param env: an environment with ``render_mode="rgb_array"``, which stays open; None makes the task's own.
        :param fps: environment steps per second of film, > 0; None takes the environment's.
        :param deterministic: see :meth:`act`.
        :return: the path written.
        :raises ValueError: for another ending, missing packages, and environments that do not fit or cannot be drawn.
        """
        return film_agent(self, path, episodes=episodes, seed=seed, env=env, fps=fps, deterministic=deterministic)

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the agent as one model: normalisation, network, most probable action, scaling to the bounds.

        Inputs are ``obs``, or ``obs.<key>`` for each entry of a Dict, and ``state`` ``(N, S)`` for a policy with a
        memory, zeros where an episode begins. Outputs are ``action``, or ``action.<key>`` for each part of a
        structured one, and ``next_state``. N is free. A mask that allows no action is no
        error there.

        What is written has been compared with the agent on random observations.

        :param path: the file: ``.onnx``, for which the extra ``export`` is needed; or ``.pt2``, which
            ``torch.export.load(path).module()`` runs, from a dict of inputs to a dict of outputs.
        :return: the path written.
        :raises ValueError: for another ending, missing packages, and a policy that cannot be exported.
        """
        from trpo_ts.agents.export import export_agent  # torch's exporters take seconds to import

        return export_agent(self, path)
