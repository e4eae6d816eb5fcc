"""One update through Tianshou's collector and trainer: observations x actions x networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import update
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import nn
from torch.distributions import Distribution, kl_divergence

from trpo_ts import TRPO
from trpo_ts.action_distribution import ActionDistribution
from trpo_ts.critics import GaussNewtonFit, make_critic
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.envs import TupleToDictObservation
from trpo_ts.networks import make_trunk
from trpo_ts.policies import make_policy
from trpo_ts.rollout import as_tensors
from trpo_ts.runtime import without_validation
from trpo_ts.solver.problem import PolicyProblem

VECTOR = spaces.Box(-np.inf, np.inf, (3,))
IMAGE = spaces.Box(0, 255, (12, 12, 3), dtype=np.uint8)
OBSERVATIONS: dict[str, spaces.Space] = {
    "vector": VECTOR,
    "number": spaces.Box(-1, 1, ()),
    "float64": spaces.Box(-1, 1, (2,), dtype=np.float64),
    "float16": spaces.Box(-1, 1, (2,), dtype=np.float16),
    "matrix": spaces.Box(-1, 1, (3, 4)),
    "rank 4": spaces.Box(-1, 1, (2, 3, 2, 2)),
    "small cube": spaces.Box(-1, 1, (3, 2, 2)),
    "integers": spaces.Box(-5, 10, (3,), dtype=np.int32),
    "wide integers": spaces.Box(0, 100_000, (2,), dtype=np.int64),
    "uint16": spaces.Box(0, 65535, (3,), dtype=np.uint16),
    "bool": spaces.Box(0, 1, (3,), dtype=bool),
    "image, channels last": IMAGE,
    "image, channels first": spaces.Box(0, 255, (3, 12, 14), dtype=np.uint8),
    "image of floats": spaces.Box(0, 1, (4, 5, 1)),
    "image, large": spaces.Box(0, 255, (40, 36, 1), dtype=np.uint8),
    "image of bool": spaces.Box(0, 1, (10, 10, 4), dtype=bool),
    "discrete": spaces.Discrete(4),
    "discrete, shifted": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "multi-discrete, shifted": spaces.MultiDiscrete([[2, 3], [4, 1]], start=[[1, -2], [0, 5]]),
    "multi-binary": spaces.MultiBinary(3),
    "multi-binary matrix": spaces.MultiBinary([2, 3]),
    "dict": spaces.Dict(camera=IMAGE, position=VECTOR, mode=spaces.Discrete(3, start=1)),
    "nested dict": spaces.Dict(
        {"a.b": VECTOR, "inner": spaces.Dict(mode=spaces.MultiDiscrete([2, 3]), bits=spaces.MultiBinary(2))}
    ),
    "tuple": spaces.Tuple([VECTOR, spaces.Discrete(3), IMAGE]),
    "tuple in a dict in a tuple": spaces.Tuple(
        [spaces.Dict(x=spaces.Tuple([VECTOR, VECTOR]), y=spaces.Discrete(2)), spaces.MultiBinary(2)]
    ),
}
BOX = spaces.Box(-2.0, 3.0, (2,))
DISCRETE = spaces.Discrete(3)


class Random(gym.Env[Any, Any]):
    """Any observations, episodes of five steps, and a reward that depends on the action."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = copy.deepcopy(observation_space), action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(np.asarray(action)), action
        self.steps += 1
        return self.observation_space.sample(), float(np.sum(action)), self.steps == 5, False, {}


def env_of(observation_space: spaces.Space, action_space: spaces.Space) -> gym.Env:
    return TupleToDictObservation(Random(observation_space, action_space))


def train(
    make_env: Callable[[], gym.Env],
    policy: Any,
    critic: nn.Module,
    *,
    epochs: int = 1,
    steps: int = 80,
    repeat: int = 1,
    **kwargs: Any,
) -> tuple[TRPO, TrainingRecorder, VectorReplayBuffer]:
    """Return the algorithm after one update per epoch by Tianshou's trainer, its records and its last rollout."""
    kwargs.setdefault("optim", AdamOptimizerFactory(lr=1e-3))
    algorithm = TRPO(policy=policy, critic=critic, **kwargs)
    envs = DummyVectorEnv([make_env] * 8)
    envs.seed(0)
    buffer = VectorReplayBuffer(4 * steps, 8)
    rollouts: list[VectorReplayBuffer] = []
    own_update = algorithm.update

    def keep_the_rollout(buffer: VectorReplayBuffer, batch_size: int | None, repeat: int) -> Any:
        rollouts[:] = [copy.deepcopy(buffer)]  # the trainer empties it
        return own_update(buffer, batch_size, repeat)

    algorithm.update = keep_the_rollout
    recorder = TrainingRecorder()
    params = OnPolicyTrainerParams(
        training_collector=Collector[CollectStats](algorithm, envs, buffer),
        max_epochs=epochs,
        epoch_num_steps=steps,
        collection_step_num_env_steps=steps,
        update_step_num_repetitions=repeat,
        batch_size=None,
        logger=recorder,
        verbose=False,
        show_progress=False,
    )
    algorithm.run_training(params)
    return algorithm, recorder, rollouts[0]


def distribution_of(policy: Any, buffer: VectorReplayBuffer) -> Distribution:
    weight = next(policy.parameters())
    obs = as_tensors(buffer.sample(0)[0].obs, weight.device, weight.dtype)
    with torch.no_grad(), without_validation():
        return ActionDistribution(copy.deepcopy(policy).eval())(obs, Batch())


def assert_one_update_keeps_the_promises(observation_space: spaces.Space, policy: Any, critic: nn.Module) -> None:
    torch.manual_seed(0)
    before = copy.deepcopy(policy)
    _, recorder, rollout = train(lambda: env_of(observation_space, policy.action_space), policy, critic)
    (record,) = recorder.updates
    assert record.accepted == 1.0
    kl = float(kl_divergence(distribution_of(before, rollout), distribution_of(policy, rollout)).mean())
    assert 0.0 < kl <= 0.01 * (1.0 + 1e-3)
    assert record.kl == pytest.approx(kl, rel=1e-2)


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_one_update_on_every_observation_space(name: str, action_space: spaces.Space):
    torch.manual_seed(0)
    space = env_of(OBSERVATIONS[name], action_space).observation_space
    policy, critic = make_policy(space, action_space), make_critic(space)
    assert_one_update_keeps_the_promises(OBSERVATIONS[name], policy, critic)


# Actions

HALF = spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 5.0], np.float32))
MIXED = spaces.Box(np.array([-1.0, -np.inf, 0.0], np.float32), np.array([4.0, np.inf, np.inf], np.float32))
BOXES = {
    "bounded": BOX,
    "unbounded": spaces.Box(-np.inf, np.inf, (2,)),
    "bounded below or above": HALF,
    "bounded in part": MIXED,
    "matrix": spaces.Box(-1, 2, (2, 3)),
    "number": spaces.Box(-1, 2, ()),
    "float64": spaces.Box(-1, 2, (2,), dtype=np.float64),
}
DISTRIBUTIONS = {
    "gaussian": {},
    "state-dependent std": {"std": "state_dependent"},
    "squashed": {"distribution": "squashed_gaussian"},
    "squashed, state-dependent std": {"distribution": "squashed_gaussian", "std": "state_dependent"},
    "beta": {"distribution": "beta"},
    "gsde": {"distribution": "gsde"},
}
distributions = pytest.mark.parametrize("name", DISTRIBUTIONS)


def with_bounds(name: str) -> bool:
    return DISTRIBUTIONS[name].get("distribution") in ("squashed_gaussian", "beta")


@pytest.mark.parametrize("box", BOXES)
@distributions
def test_one_update_on_every_box_of_actions_and_distribution(name: str, box: str):
    if with_bounds(name) and box in ("unbounded", "bounded below or above", "bounded in part"):
        with pytest.raises(ValueError, match=r"^action_space must be bounded on both sides for distribution="):
            make_policy(VECTOR, BOXES[box], **DISTRIBUTIONS[name])
        return
    torch.manual_seed(0)
    policy = make_policy(VECTOR, BOXES[box], **DISTRIBUTIONS[name])
    assert_one_update_keeps_the_promises(VECTOR, policy, make_critic(VECTOR))


@distributions
def test_log_probabilities_of_the_update_are_those_of_the_behaviour_policy(name: str, monkeypatch: pytest.MonkeyPatch):
    """Those of the distributions that the collector drew from, step by step, against those of the whole rollout."""
    torch.manual_seed(1)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name])
    acted: list[torch.Tensor] = []
    policy.register_forward_hook(lambda module, args, result: acted.append(result.dist.log_prob(result.act)))
    seen: list[torch.Tensor] = []
    policy_problem = TRPO._policy_problem

    def kept(self: TRPO, *args: Any) -> PolicyProblem:
        problem = policy_problem(self, *args)
        seen.append(problem.logp_old)
        return problem

    monkeypatch.setattr(TRPO, "_policy_problem", kept)
    train(lambda: env_of(VECTOR, BOX), policy, make_critic(VECTOR))
    by_environment = torch.stack(acted[:10], dim=1).flatten()  # the buffer holds one environment after another
    torch.testing.assert_close(seen[0].double(), by_environment.double(), rtol=0, atol=1e-5)


@distributions
@pytest.mark.parametrize("repeat", [1, 4])
def test_trust_region_holds_for_every_distribution(name: str, repeat: int):
    torch.manual_seed(2)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name])
    before = copy.deepcopy(policy)
    kwargs = {"max_kl": 0.05, "cg_damping": 1e-3, "repeat": repeat}
    _, _, rollout = train(lambda: env_of(VECTOR, BOX), policy, make_critic(VECTOR), **kwargs)
    kl = float(kl_divergence(distribution_of(before, rollout), distribution_of(policy, rollout)).mean())
    assert 0.001 < kl <= 0.05 * (1.0 + 1e-3)


# Networks


def normalising_trunk() -> ModuleWithVectorOutput:
    """A trunk of a user's own, with a layer of each kind that behaves otherwise in training."""

    class Own(ModuleWithVectorOutput):
        def __init__(self) -> None:
            super().__init__(8)
            self.layers = nn.Sequential(
                nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.LayerNorm(8)
            )

        def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
            return self.layers(torch.as_tensor(obs)), state

    return Own()


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("fit", [None, GaussNewtonFit()], ids=["optimiser", "Gauss-Newton"])
@pytest.mark.parametrize("trunk", [lambda: make_trunk(VECTOR), normalising_trunk], ids=["ours", "normalising"])
def test_a_shared_trunk_is_moved_by_the_policy_alone(trunk: Any, fit: Any, action_space: spaces.Space):
    torch.manual_seed(3)
    shared = trunk()
    policy, critic = make_policy(VECTOR, action_space, trunk=shared), make_critic(VECTOR, trunk=shared)
    before, values = copy.deepcopy(policy), copy.deepcopy(critic.last)
    _, recorder, rollout = train(
        lambda: env_of(VECTOR, action_space), policy, critic, critic_fit=fit, optim=AdamOptimizerFactory(lr=0.1)
    )
    kl = float(kl_divergence(distribution_of(before, rollout), distribution_of(policy, rollout)).mean())
    assert 0.0 < kl <= 0.01 * (1.0 + 1e-3)
    assert recorder.updates[0].kl == pytest.approx(kl, rel=1e-2)
    assert not torch.equal(values.weight, critic.last.weight)
    assert all(torch.equal(a, b) for a, b in zip(before.buffers(), policy.buffers(), strict=True))


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("observations", ["dict", "vector"])
@pytest.mark.parametrize(
    "options", [{"layer_norm": True}, {"activation": nn.ReLU, "hidden_sizes": (16,)}], ids=["layer norm", "ReLU"]
)
def test_one_update_on_every_network_option(options: Any, observations: str, action_space: spaces.Space):
    torch.manual_seed(4)
    space = OBSERVATIONS[observations]
    policy, critic = make_policy(space, action_space, **options), make_critic(space, **options)
    assert_one_update_keeps_the_promises(space, policy, critic)


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
def test_one_update_on_trunks_of_ones_own(action_space: spaces.Space):
    torch.manual_seed(9)
    policy = make_policy(VECTOR, action_space, trunk=normalising_trunk())
    critic = make_critic(VECTOR, trunk=normalising_trunk())
    assert_one_update_keeps_the_promises(VECTOR, policy, critic)


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("observations", ["dict", "vector", "image of bool"])
@pytest.mark.parametrize("critic_dtype", [torch.float64, torch.float32], ids=["with the critic", "without"])
def test_float64_networks_run_end_to_end(critic_dtype: torch.dtype, observations: str, action_space: spaces.Space):
    torch.manual_seed(5)
    space = OBSERVATIONS[observations]
    policy, critic = make_policy(space, action_space).double(), make_critic(space).to(critic_dtype)
    assert_one_update_keeps_the_promises(space, policy, critic)
    assert {p.dtype for p in policy.parameters()} == {torch.float64}
    assert {p.dtype for p in critic.parameters()} == {critic_dtype}


@distributions
def test_float64_distributions_run_end_to_end(name: str):
    torch.manual_seed(6)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name]).double()
    assert_one_update_keeps_the_promises(VECTOR, policy, make_critic(VECTOR).double())


@distributions
def test_frozen_and_unused_parameters_stay(name: str):
    torch.manual_seed(7)
    policy = make_policy(VECTOR, BOX, **DISTRIBUTIONS[name])
    trunk = policy.actor if name == "gsde" else policy.actor.preprocess
    frozen = trunk.layers[0]
    frozen.requires_grad_(False)
    policy.unused = nn.Linear(2, 2)
    before = copy.deepcopy([frozen.state_dict(), policy.unused.state_dict()])
    assert_one_update_keeps_the_promises(VECTOR, policy, make_critic(VECTOR))
    torch.testing.assert_close([frozen.state_dict(), policy.unused.state_dict()], before, rtol=0, atol=0)


def test_an_update_leaves_the_held_noise_of_exploration_alone():
    torch.manual_seed(8)
    policy = make_policy(VECTOR, BOX, distribution="gsde", noise_steps=1000)
    algorithm, _, rollout = train(lambda: env_of(VECTOR, BOX), policy, make_critic(VECTOR))
    noise, state = policy.dist_fn._noise.clone(), torch.get_rng_state()
    update(algorithm, rollout, None, 2)
    assert torch.equal(noise, policy.dist_fn._noise)
    assert torch.equal(state, torch.get_rng_state())


# Learning


class OneStep(gym.Env[Any, Any]):
    """A single step that pays by how well the action answers the observation."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.obs = self.draw()
        return self.obs, {}

    def step(self, action: Any) -> Any:
        return self.obs, self.reward(action), True, False, {}

    def draw(self) -> Any:
        raise NotImplementedError

    def reward(self, action: Any) -> float:
        raise NotImplementedError


class BrightQuarter(OneStep):
    """In which quarter is the bright spot? It covers 3 x 3 pixels, and all else is noise."""

    observation_space = spaces.Box(0, 255, (12, 12, 1), dtype=np.uint8)
    action_space = spaces.Discrete(4)

    def draw(self) -> Any:
        image = self.np_random.integers(0, 120, (12, 12, 1), dtype=np.uint8)
        row, column = self.np_random.choice([0, 1, 2, 3, 6, 7, 8, 9], 2)
        image[row : row + 3, column : column + 3] = 255
        self.answer = 2 * (row // 6) + column // 6
        return image

    def reward(self, action: Any) -> float:
        return float(action == self.answer)


class SignOfOne(OneStep):
    """Which of two numbers counts is said by another entry, so that no entry alone is worth more than chance."""

    observation_space = spaces.Dict(numbers=spaces.Box(-1, 1, (2,)), which=spaces.Discrete(2, start=1))
    action_space = spaces.Discrete(2)

    def draw(self) -> Any:
        which = int(self.np_random.integers(1, 3))
        numbers = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.answer = int(numbers[which - 1] > 0)
        return {"numbers": numbers, "which": which}

    def reward(self, action: Any) -> float:
        return float(action == self.answer)


class Aim(OneStep):
    """Hit a point in the plane that the observation names."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Box(-2, 2, (2,))

    def draw(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def reward(self, action: Any) -> float:
        return -float(np.square(action - 1.5 * self.obs).sum())


def mean_return(policy: Any, make_env: Callable[[], gym.Env], episodes: int = 200) -> float:
    """Return the mean return of the policy's mode."""
    torch.manual_seed(0)
    envs = DummyVectorEnv([make_env] * 8)
    envs.seed(1000)
    collector = Collector[CollectStats](policy, envs, VectorReplayBuffer(2 * episodes, 8))
    collector.reset()
    return float(collector.collect(n_episode=episodes).returns.mean())


def learned(make_env: type[OneStep], *, max_kl: float = 0.05, epochs: int, steps: int, **options: Any) -> Any:
    """Return the policy after training."""
    torch.manual_seed(0)
    observation_space = make_env.observation_space
    policy = make_policy(observation_space, make_env.action_space, **options)
    critic = make_critic(observation_space)
    kwargs = {"critic_fit": GaussNewtonFit(), "max_kl": max_kl, "cg_damping": 0.01}
    _, recorder, _ = train(make_env, policy, critic, epochs=epochs, steps=steps, **kwargs)
    assert max(record.kl for record in recorder.updates) <= max_kl
    return policy


class Dark(BrightQuarter):
    """The same question without the pixels that answer it."""

    def draw(self) -> Any:
        super().draw()
        return self.np_random.integers(0, 120, (12, 12, 1), dtype=np.uint8)


def test_a_task_that_needs_the_pixels_is_learned():
    policy = learned(BrightQuarter, epochs=10, steps=1000)
    assert mean_return(policy, BrightQuarter) > 0.9
    assert mean_return(policy, Dark) < 0.4


def test_a_task_that_needs_all_entries_of_a_dict_is_learned():
    assert mean_return(learned(SignOfOne, epochs=10, steps=1000), SignOfOne) > 0.9


@distributions
def test_every_distribution_learns_to_aim(name: str):
    assert mean_return(learned(Aim, max_kl=0.1, epochs=8, steps=480, **DISTRIBUTIONS[name]), Aim) > -0.15
