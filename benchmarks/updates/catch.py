"""A task of images that needs no emulator: catch the falling ball."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.env.atari.atari_network import DQNet, ScaledObsInputActionReprNet
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

SIDE, FRAMES, CELL = 42, 4, 2


class Catch(gym.Env[np.ndarray, int]):
    """A ball falls, the paddle below moves left, not at all or right; +1 for a catch, -1 for a miss.

    Observations are the last four frames of 42 x 42 grey pixels: what Atari agents see, at half the resolution.
    """

    observation_space = gym.spaces.Box(0, 255, (FRAMES, SIDE, SIDE), np.uint8)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin with the ball at the top, and the paddle anywhere."""
        super().reset(seed=seed)
        self._row = 0
        self._ball, self._paddle = (int(self.np_random.integers(SIDE // CELL)) for _ in range(2))
        self._frames = deque([self._frame()] * FRAMES, maxlen=FRAMES)
        return np.stack(self._frames), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move the paddle by up to a cell, and let the ball fall by one."""
        self._paddle = int(np.clip(self._paddle + action - 1, 0, SIDE // CELL - 1))
        self._row += 1
        self._frames.append(self._frame())
        landed = self._row == SIDE // CELL - 1
        reward = 0.0 if not landed else 1.0 if abs(self._ball - self._paddle) <= 1 else -1.0
        return np.stack(self._frames), reward, landed, False, {}

    def _frame(self) -> np.ndarray:
        frame = np.zeros((SIDE, SIDE), dtype=np.uint8)
        frame[CELL * self._row :, CELL * self._ball :][:CELL, :CELL] = 255
        frame[-CELL:, max(0, CELL * (self._paddle - 1)) : CELL * (self._paddle + 2)] = 128
        return frame


def convolutional_networks(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """Return a policy and a critic on Tianshou's networks for Atari (Mnih et al. 2015), one for each."""
    actions = env.action_space.n

    def trunk() -> ScaledObsInputActionReprNet:
        return ScaledObsInputActionReprNet(
            DQNet(FRAMES, SIDE, SIDE, actions, features_only=True, output_dim_added_layer=512)
        )

    actor = DiscreteActor(preprocess_net=trunk(), action_shape=actions, softmax_output=False)
    spaces = {"action_space": env.action_space, "observation_space": env.observation_space}
    return {"policy": DiscreteActorPolicy(actor=actor, **spaces), "critic": DiscreteCritic(preprocess_net=trunk())}
