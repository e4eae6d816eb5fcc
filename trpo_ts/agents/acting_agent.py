"""A policy that takes the environment's observations and gives its actions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import concatenate, create_empty_array
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy

from trpo_ts.agents.normalisation import Normalisation
from trpo_ts.agents.observation_batches import as_batch
from trpo_ts.agents.player import Player
from trpo_ts.envs.flat_action import FlatAction
from trpo_ts.envs.task_description import TaskDescription
from trpo_ts.validation.parameter_values import check_bool, check_instance

__all__ = ["ActingAgent"]


class ActingAgent:
    """What of an agent acts, and what is known of its task.

    :param policy: the policy; it is put into evaluation mode.
    :param observation_statistics: the running statistics that a checkpoint holds, the outermost wrapper's first;
        empty for a policy that was trained on observations as they are.
    :param task: the task that the policy was trained for; None where it is not known.
    :raises ValueError: for a policy without an observation space, and for statistics that do not fit it.
    """

    def __init__(
        self,
        policy: ProbabilisticActorPolicy,
        *,
        observation_statistics: Sequence[Mapping[str, Any]] = (),
        task: TaskDescription | None = None,
    ) -> None:
        fix = "make one with trpo_ts.policies.make_policy, or pass algorithm.policy"
        check_instance("policy", policy, ProbabilisticActorPolicy, fix)
        if not isinstance(policy.observation_space, gym.Space):
            raise ValueError(
                "policy.observation_space must be the space of the environment's observations, got "
                f"{policy.observation_space}; pass observation_space=... to the policy's constructor"
            )
        self.policy, self.task = policy.eval(), task
        self.normalisation = Normalisation(observation_statistics, policy.observation_space)
        self._player = self.new_player()

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The space of one observation; for Tuples, which are taken too, the Dict with the keys ``"0"``, ``"1"``..."""
        return cast("gym.Space[Any]", self.policy.observation_space)

    @property
    def action_space(self) -> gym.Space[Any]:
        """The space of one action, as the environment has it."""
        space: gym.Space[Any] = self.policy.action_space
        return space.structure if isinstance(space, FlatAction) else space

    def act(self, obs: Any, deterministic: bool = True) -> Any:
        """Return the environment's action for an observation, or its actions for a batch.

        A policy with a memory remembers what it saw; call :meth:`reset` where episodes begin.

        :param obs: an observation as the environment gives it, not normalised; or a batch, with a leading axis in
            each part, or as a sequence of Dicts.
        :param deterministic: whether the most probable action is taken; else it is drawn, with torch's generator.
        :return: an action of the action space; for a batch with a leading axis, as gymnasium's vector environments
            take it.
        :raises ValueError: for observations that do not fit the space, naming both; and for a batch of another size
            than at the step before, of a policy with a memory. Its memory is as it was.
        """
        check_bool("deterministic", deterministic)
        rows, count = as_batch(self.observation_space, obs)
        return self._structured(self._player.act(rows, count or 1, deterministic=bool(deterministic)), count)

    def reset(self, finished: Any = None) -> None:
        """Forget what was seen, of all environments or of those whose episodes have ended.

        :param finished: for a batch, which episodes have ended, booleans ``(N,)``; None for all of them.
        :raises ValueError: for a mask of another shape or type.
        """
        if finished is not None:
            finished = np.asarray(finished)
            if finished.dtype != np.bool_ or finished.ndim != 1:
                raise ValueError(
                    f"finished must be booleans of shape (N,), got {finished.dtype} of shape {finished.shape}"
                )
        self._player.reset(finished)

    def fresh(self) -> Self:
        """Return an agent with the same policy and a memory of its own, for a second environment."""
        other = copy.copy(self)
        other._player = self.new_player()
        return other

    def new_player(self) -> Player:
        """Return the policy as it acts on batches of observations, with a memory of its own."""
        return Player(self.policy, self.normalisation)

    def make_env(self, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
        """Return a new environment of the agent's task, whose observations :meth:`act` takes.

        :param render_mode: what its ``render()`` returns, such as ``"rgb_array"``.
        :raises ValueError: where the task is not known, or cannot be made here.
        """
        return self.known_task().make(render_mode=render_mode)

    def known_task(self) -> TaskDescription:
        """Return the task.

        :raises ValueError: where the checkpoint names none.
        """
        if self.task is None:
            raise ValueError(
                "env must be given, because the checkpoint does not say for which task its policy was trained; "
                "pass env=gymnasium.make(...)"
            )
        return self.task

    def _structured(self, actions: np.ndarray, count: int | None) -> Any:
        """Return flat actions as the environment takes them; the one there is for ``count=None``."""
        space = self.policy.action_space
        if not isinstance(space, FlatAction):
            return actions[0] if count is None else actions
        structured = [space.unflatten(action) for action in actions]
        if count is None:
            return structured[0]
        room: Any = create_empty_array(space.structure, count)
        return concatenate(space.structure, structured, room)
