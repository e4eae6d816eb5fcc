"""Random trainings: spaces, networks and hyper-parameters drawn from one seed, and a watch over each update.

A new kind of space that `make_policy` and `make_critic` support is one more line in OBSERVATIONS or ACTIONS.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from torch import nn
from torch.distributions import Distribution, kl_divergence

from trpo_ts import KFAC, TRPO
from trpo_ts.checkpoints import ResumableTrainer
from trpo_ts.checkpoints.packing import pack
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit, make_critic
from trpo_ts.envs import FlatAction
from trpo_ts.policies import make_policy
from trpo_ts.training import FiniteVectorEnv, LinearDecay, trainer_params

OBSERVATIONS: list[Callable[[], gym.Space[Any]]] = [
    lambda: spaces.Box(-1.0, 1.0, (3,), np.float32),
    lambda: spaces.Box(-np.inf, np.inf, (2, 4), np.float32),
    lambda: spaces.Box(-1e4, 1e4, (1,), np.float64),
    lambda: spaces.Box(0, 255, (4, 4), np.uint8),
    lambda: spaces.Box(0, 255, (12, 12, 3), np.uint8),
    lambda: spaces.Discrete(5),
    lambda: spaces.MultiDiscrete([2, 3]),
    lambda: spaces.Dict(position=spaces.Box(-1.0, 1.0, (2,), np.float32), goal=spaces.Discrete(3)),
]
ACTIONS: list[Callable[[], gym.Space[Any]]] = [
    lambda: spaces.Box(-1.0, 1.0, (1,), np.float32),
    lambda: spaces.Box(np.array([-2.0, 0.0, 5.0], np.float32), np.array([2.0, 0.1, 9.0], np.float32)),
    lambda: spaces.Box(-np.inf, np.inf, (2,), np.float32),
    lambda: spaces.Discrete(2),
    lambda: spaces.Discrete(9),
    lambda: spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    lambda: spaces.Box(0.0, np.inf, (2,), np.float32),
    lambda: spaces.MultiDiscrete([2, 3, 5]),
    lambda: spaces.MultiBinary(3),
    lambda: FlatAction(spaces.Dict(push=spaces.Box(-1.0, 1.0, (2,), np.float32), gear=spaces.Discrete(3))),
]
CRITIC_FITS: list[Callable[[], Any]] = [
    lambda: None,
    lambda: None,
    lambda: MinibatchFit(epochs=2, batch_size=16),
    GaussNewtonFit,
    lambda: LBFGSFit(iterations=3),
]


@dataclass
class Fault:
    """What goes wrong in an environment: a number in an observation or a reward, or an exception."""

    what: str
    value: float
    step: int


class EnvironmentFailedError(Exception):
    """The exception of an environment that fails."""


class RandomTask(gym.Env[Any, Any]):
    """Random observations of any space; the reward is noise and the action's components, times a scale."""

    def __init__(
        self, observation_space: Any, action_space: Any, scale: float, length: float, fault: Fault | None
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.scale, self.end_probability, self.steps = scale, 1.0 / length, 0
        # As a list, which a checkpoint can hold.
        self._fault = [] if fault is None else [fault.what, fault.value, fault.step]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw a first observation."""
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Draw the next one."""
        self.steps += 1
        if self._due("exception"):
            raise EnvironmentFailedError
        reward = self.scale * float(self.np_random.normal() + spaces.flatten(self.action_space, action).sum())
        if self._due("reward"):
            reward = self._fault[1]
        return self._observation(), reward, bool(self.np_random.random() < self.end_probability), False, {}

    def _observation(self) -> Any:
        obs = self.observation_space.sample()
        if self._due("observation"):
            obs.flat[int(self.np_random.integers(obs.size))] = self._fault[1]
        return obs

    def _due(self, what: str) -> bool:
        return bool(self._fault) and self._fault[0] == what and self.steps == self._fault[2]


@dataclass
class Watch:
    """Counts what must not happen in the updates of an algorithm."""

    updates: int = 0
    kl_violations: int = 0
    non_finite: int = 0
    state: Any = field(default=None, repr=False)

    def over(self, algorithm: TRPO) -> None:
        """Look at every update of the algorithm, with the divergence measured independently of its stats."""
        self.state = bits(dict(algorithm.state_dict()))
        update = algorithm.update

        def watched(buffer: Any, batch_size: int | None, repeat: int) -> Any:
            batch, _ = buffer.sample(0)
            before = _distribution(algorithm, batch)
            stats = update(buffer, batch_size, repeat)
            kl = float(kl_divergence(before, _distribution(algorithm, batch)).mean())
            self.updates += 1
            # A network rounds differently for another memory layout of its weights.
            self.kl_violations += not kl <= algorithm.max_kl * (1 + 1e-5) + 1e-9
            self.non_finite += not all(bool(torch.isfinite(p).all()) for p in algorithm.parameters())
            self.state = bits(dict(algorithm.state_dict()))
            return stats

        algorithm.update = watched  # type: ignore[method-assign]


def _distribution(algorithm: TRPO, batch: Any) -> Distribution:
    """Return the action distributions: the network in its own precision, the distribution in float64."""
    actor = copy.deepcopy(algorithm.policy.actor).eval()
    with torch.no_grad():
        output, _ = actor(batch.obs, state=None, info=batch.get("info", Batch()))
    return algorithm.policy.dist_fn(_in_float64(output))


def _in_float64(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return type(value)(_in_float64(item) for item in value)


@dataclass
class Case:
    """A training drawn from a seed; built twice it is the same."""

    seed: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)

        def pick(*values: Any) -> Any:
            return values[rng.integers(len(values))]

        self.observation, self.action = pick(*OBSERVATIONS), pick(*ACTIONS)
        self.envs, self.epochs, self.collects = pick(1, 2, 4), pick(1, 2), pick(1, 2, 3)
        self.rollout = self.envs * pick(2, 8, 24)
        self.normalised, self.checked, self.tests = pick(True, False), pick(True, False), pick(True, False)
        self.task = {"scale": 10.0 ** rng.integers(-6, 7), "length": float(pick(1, 5, 50))}
        self.networks = {"hidden_sizes": pick((4,), (16,), (8, 8)), "activation": pick(nn.Tanh, nn.ReLU, nn.ELU)}
        self.lr, self.critic_fit, self.preconditioned = pick(1e-4, 1e-2, 1.0), pick(*CRITIC_FITS), pick(True, False)
        self.batch_size, self.repeat = pick(None, 7, 32), pick(1, 1, 3)
        self.settings = {
            "max_kl": float(10.0 ** rng.uniform(-5, -0.5)),
            "backtrack_coeff": pick(0.5, 0.8),
            "max_backtracks": pick(1, 10),
            "optim_critic_iters": pick(0, 1, 5),
            "advantage_normalization": pick(True, False),
            "return_scaling": pick(True, False),
            "gae_lambda": pick(0.0, 0.95, 1.0),
            "gamma": pick(0.0, 0.99, 1.0),
            "cg_iters": pick(1, 3, 10),
            "cg_damping": pick(0.0, 1e-3, 0.1),
            "cg_tolerance": pick(0.0, 0.3),
            "fisher_subsampling": pick(0.1, 1.0),
            "ent_coef": pick(0.0, 0.0, 0.05),
            "micro_batch_size": pick(None, None, 5),
            "full_budget": pick(True, False),
        }

    @property
    def has_float_observations(self) -> bool:
        """Whether an observation is one array of floating-point numbers."""
        space = self.observation()
        return isinstance(space, spaces.Box) and space.dtype.kind == "f"

    def build(self, folder: Path, fault: Fault | None = None) -> tuple[ResumableTrainer, Watch]:
        """Return the trainer, watched, with a checkpoint after each update; the fault is the last environment's."""
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002  Tianshou draws from NumPy's global generator
        makes = [self._env] * (self.envs - 1) + [lambda: self._env(fault)]
        envs: Any = DummyVectorEnv(makes)
        envs.seed(self.seed)
        test_envs: Any = DummyVectorEnv([self._env])
        test_envs.seed(self.seed + 1)
        if self.checked:
            envs = FiniteVectorEnv(envs)
        if self.normalised and self.has_float_observations:
            envs, test_envs = VectorEnvNormObs(envs), VectorEnvNormObs(test_envs, update_obs_rms=False)
            test_envs.set_obs_rms(envs.get_obs_rms())
        algorithm = self._algorithm()
        watch = Watch()
        watch.over(algorithm)
        params = trainer_params(
            training_collector=Collector[CollectStats](
                algorithm, envs, VectorReplayBuffer(self.rollout, self.envs), raise_on_nan_in_buffer=False
            ),
            test_collector=Collector[CollectStats](algorithm, test_envs) if self.tests else None,
            test_step_num_episodes=1,
            max_epochs=self.epochs,
            epoch_num_steps=self.collects * self.rollout,
            collection_step_num_env_steps=self.rollout,
            batch_size=self.batch_size,
            update_step_num_repetitions=self.repeat,
            verbose=False,
            show_progress=False,
        )
        return ResumableTrainer(algorithm, params, folder, every=1, keep=3), watch

    def _env(self, fault: Fault | None = None) -> gym.Env[Any, Any]:
        task = RandomTask(self.observation(), self.action(), **self.task, fault=fault)
        return gym.wrappers.TimeLimit(task, 60)

    def _algorithm(self) -> TRPO:
        observation_space = self.observation()
        schedule = LinearDecay(self.epochs, self.collects * self.rollout, self.rollout)
        return TRPO(
            policy=make_policy(observation_space, self.action(), **self.networks),
            critic=make_critic(observation_space, **self.networks),
            optim=AdamOptimizerFactory(lr=self.lr).with_lr_scheduler_factory(schedule),
            critic_fit=self.critic_fit(),
            preconditioner=KFAC() if self.preconditioned else None,
            **self.settings,
        )


def bits(state: Any) -> Any:
    """Return nested state so that == compares it bit for bit."""
    return _bytes(pack(state))


def _bytes(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _bytes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bytes(item) for item in value]
    return value.hex() if isinstance(value, float) else value
