"""Trainings that are stopped and resumed."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from runs import make_run

from trpo_ts.checkpoints import ResumableTrainer


class Stopped(Exception):
    pass


def trainer_of(folder, *, every=1, keep=100, stop_after=None, **kwargs):
    """Return a trainer; with ``stop_after``, its run ends in an error at the beginning of that training step."""
    steps = 0

    def training_fn(epoch, env_step):
        nonlocal steps
        steps += 1
        if stop_after is not None and steps > stop_after:
            raise Stopped

    algorithm, params = make_run(training_fn=training_fn, **kwargs)
    return ResumableTrainer(algorithm, params, folder, every=every, keep=keep)


def run_until(folder, stop_after, **kwargs):
    trainer = trainer_of(folder, stop_after=stop_after, **kwargs)
    with pytest.raises(Stopped):
        trainer.run()
    return trainer


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).glob("*.ckpt"))


class Opaque(gym.Env):
    """An environment that holds what cannot be serialised, as a simulator's memory."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self):
        self.simulator = memoryview(bytearray(4))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32), {}

    def step(self, action):
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32), float(action[0]), False, False, {}


gym.register("Opaque-v0", entry_point=Opaque)
