"""Updates whose results are recorded, so that a change of the package's inside shows where it changes a number.

``python tests/support/recorded_updates.py`` records them anew. That is right only where a number is meant to change.
"""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from repository import ROOT
from rollouts import (
    ACT_DIM,
    BOX,
    DISCRETE,
    N_ACTIONS,
    OBS_DIM,
    OBSERVATIONS,
    Actor,
    Mlp,
    gaussian,
    make_actor_policy,
    update,
)
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, SequenceSummaryStats, VectorReplayBuffer
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Gamma,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    TanhTransform,
    TransformedDistribution,
)
from torch.nn.utils import parameters_to_vector

from trpo_ts import KFAC, NPG, TRPO
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit, make_critic, make_recurrent_critic
from trpo_ts.envs import FlatAction
from trpo_ts.networks import make_trunk
from trpo_ts.policies import make_policy, make_recurrent_policy

FIXTURE = ROOT / "tests" / "fixtures" / "updates.json.gz"

MOST_ENTRIES = 256
"""Longer vectors of parameters are recorded by their first entries and their digest."""

FIRST_ENTRIES = 64

POSITIVE = spaces.Box(0.0, np.inf, (ACT_DIM,), np.float32)
IMAGE = spaces.Box(0, 255, (6, 6, 1), np.uint8)
SEVERAL = spaces.Dict(position=OBSERVATIONS, kind=spaces.Discrete(3), switches=spaces.MultiDiscrete([2, 3]))
MASKED = spaces.Dict(observation=OBSERVATIONS, action_mask=spaces.MultiBinary(N_ACTIONS))
MIXED = FlatAction(spaces.Dict(aim=spaces.Box(-1.0, 1.0, (2,), np.float32), gear=spaces.MultiDiscrete([2, 3])))

MakePolicy = Callable[[], ProbabilisticActorPolicy]
MakeCritic = Callable[[ProbabilisticActorPolicy], nn.Module]


# Policies and critics


def made(
    action_space: gym.Space[Any] = BOX, observation_space: gym.Space[Any] = OBSERVATIONS, **options: Any
) -> MakePolicy:
    return lambda: make_policy(observation_space, action_space, **{"hidden_sizes": (8,)} | options)


def recurrent(cell: str, action_space: gym.Space[Any] = BOX) -> MakePolicy:
    return lambda: make_recurrent_policy(
        OBSERVATIONS, action_space, cell=cell, hidden_size=5, encoder_sizes=(4,), hidden_sizes=(6,)
    )


def written_by_hand(
    dist_fn: Callable[[Tensor], Distribution], outputs: int, action_space: gym.Space[Any] = BOX
) -> MakePolicy:
    return lambda: ProbabilisticActorPolicy(
        actor=Actor(Mlp((OBS_DIM, 8, outputs)), None),
        dist_fn=dist_fn,
        action_space=action_space,
        observation_space=OBSERVATIONS,
        action_scaling=False,
        action_bound_method=None,
    )


def correlated_normal(outputs: Tensor) -> Distribution:
    mean, diagonal, below = outputs.split([ACT_DIM, ACT_DIM, 1], dim=-1)
    factor = torch.diag_embed(0.2 + F.softplus(diagonal)) + F.pad(below[..., None], (0, 1, 1, 0))
    return MultivariateNormal(mean, scale_tril=factor)


def gamma(outputs: Tensor) -> Distribution:
    concentration, rate = (0.5 + F.softplus(outputs)).chunk(2, dim=-1)
    return Independent(Gamma(concentration, rate), 1)


def laplace(outputs: Tensor) -> Distribution:
    mean, scale = outputs[:, :ACT_DIM], outputs[:, ACT_DIM:]
    return Independent(Laplace(mean, 0.2 + F.softplus(scale)), 1)


def normal_through_tanh(outputs: Tensor) -> Distribution:
    mean, scale = outputs.chunk(2, dim=-1)
    return TransformedDistribution(Independent(Normal(mean, 0.2 + F.softplus(scale)), 1), [TanhTransform()])


class Shifted(ProbabilisticActorPolicy):
    """A policy whose own forward pass decides what its distribution is."""

    def forward(self, batch: Any, state: Any = None, **kwargs: Any) -> Any:
        result = super().forward(batch, state, **kwargs)
        base = result.dist.base_dist
        result.dist = Independent(Normal(base.loc + 0.5, base.scale), 1)
        result.act = result.dist.sample()
        return result


def shifted() -> ProbabilisticActorPolicy:
    return Shifted(
        actor=make_actor_policy().actor,
        dist_fn=gaussian,
        action_space=BOX,
        observation_space=OBSERVATIONS,
        action_scaling=False,
        action_bound_method=None,
    )


def with_a_frozen_layer() -> ProbabilisticActorPolicy:
    policy = made(hidden_sizes=(8, 8))()
    for parameter in list(policy.actor.parameters())[:2]:
        parameter.requires_grad_(False)
    return policy


def on_a_trunk() -> ProbabilisticActorPolicy:
    return made(trunk=make_trunk(OBSERVATIONS, (8, 6)))()


def critic(**options: Any) -> MakeCritic:
    return lambda policy: make_critic(policy.observation_space, **{"hidden_sizes": (8,)} | options)


def recurrent_critic(cell: str) -> MakeCritic:
    return lambda policy: make_recurrent_critic(
        policy.observation_space, cell=cell, hidden_size=5, encoder_sizes=(4,), hidden_sizes=(6,)
    )


def critic_on_the_policys_trunk(policy: ProbabilisticActorPolicy) -> nn.Module:
    return make_critic(OBSERVATIONS, trunk=policy.actor.get_preprocess_net())


def critic_on_the_policys_body(policy: ProbabilisticActorPolicy) -> nn.Module:
    return nn.Sequential(policy.actor.body, nn.Linear(ACT_DIM, 8), nn.Tanh(), nn.Linear(8, 1))


def critic_that_says_zero(policy: ProbabilisticActorPolicy) -> nn.Module:
    network = critic()(policy)
    *_, weight, bias = network.parameters()
    nn.init.zeros_(weight)
    nn.init.zeros_(bias)
    return network


# Rollouts


class Rollouts:
    """Noise for observations, and the policy's own actions; episodes go on from one rollout to the next."""

    def __init__(self, policy: ProbabilisticActorPolicy, envs: int, seed: int = 0) -> None:
        self.policy, self.envs = policy, envs
        self.rng = np.random.default_rng(seed)
        self.obs, self.state = self._observe(policy.observation_space), None

    def collect(self, length: int, reward_scale: float) -> VectorReplayBuffer:
        buffer = VectorReplayBuffer(self.envs * length, self.envs)
        with torch.no_grad(), policy_within_training_step(self.policy):
            for _ in range(length):
                self._step(buffer, reward_scale)
        return buffer

    def _step(self, buffer: VectorReplayBuffer, reward_scale: float) -> None:
        acted = self.policy(Batch(obs=self.obs, info={}), self.state)
        act, obs_next = acted.act.numpy(), self._observe(self.policy.observation_space)
        terminated = self.rng.random(self.envs) < 0.1
        truncated = ~terminated & (self.rng.random(self.envs) < 0.1)
        row = Batch(
            obs=self.obs,
            act=act,
            rew=reward_scale * (level(self.obs) + act.reshape(self.envs, -1).sum(axis=1)),
            terminated=terminated,
            truncated=truncated,
            obs_next=obs_next,
            info=Batch(step=np.zeros(self.envs)),
        )
        if acted.state is not None:
            row.policy = Batch(hidden_state=acted.state)
        buffer.add(row, buffer_ids=np.arange(self.envs))
        self._begin_episodes(acted.state, obs_next, np.flatnonzero(terminated | truncated))

    def _begin_episodes(self, state: Any, obs: Any, ended: np.ndarray) -> None:
        self.state, self.obs = state, copy.deepcopy(obs)
        self.obs[ended] = self._observe(self.policy.observation_space)[ended]
        if state is not None:
            state.empty_(ended)

    def _observe(self, space: gym.Space[Any]) -> Any:
        shape = (self.envs, *(space.shape or ()))
        if isinstance(space, spaces.Dict):
            return Batch({key: self._observe(part) for key, part in space.spaces.items()})
        if isinstance(space, spaces.Discrete):
            return self.rng.integers(space.n, size=shape)
        if isinstance(space, spaces.MultiDiscrete):
            return self.rng.integers(space.nvec, size=shape)
        if isinstance(space, spaces.MultiBinary):  # a mask, which leaves something
            mask = self.rng.random(shape) < 0.6
            mask[np.arange(self.envs), self.rng.integers(space.n, size=self.envs)] = True
            return mask.astype(np.int8)
        if space.dtype == np.uint8:
            return self.rng.integers(256, size=shape, dtype=np.uint8)
        return self.rng.standard_normal(shape)


def level(obs: Any) -> np.ndarray:
    """Return one number of moderate size for each observation."""
    if isinstance(obs, Batch):
        return sum((level(part) for _, part in sorted(obs.items())), np.zeros(len(obs)))
    return np.sin(obs.reshape(len(obs), -1).sum(axis=1, dtype=np.float64))


# The cases


@dataclasses.dataclass(frozen=True)
class Case:
    """Some updates in a row, each from a rollout of its own.

    :param policy: builds the policy.
    :param options: of the algorithm.
    :param critic: builds the critic for the policy.
    :param algorithm: the class.
    :param rewards: the scale of each rollout's rewards; there are as many updates.
    :param batch_size: of the update, as ``repeat``.
    :param envs: how many environments act side by side.
    :param length: how many steps each of them takes in a rollout.
    """

    policy: MakePolicy
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    critic: MakeCritic = critic()  # noqa: RUF009  a constant function
    algorithm: type[NPG] = TRPO
    rewards: Sequence[float] = (1.0, 1.0, 1.0)
    batch_size: int | None = None
    repeat: int = 1
    envs: int = 8
    length: int = 12


DISTRIBUTIONS = {
    "gaussian": Case(made()),
    "gaussian, two hidden layers": Case(made(hidden_sizes=(8, 8)), critic=critic(hidden_sizes=(8, 8))),
    "gaussian, state-dependent std": Case(made(std="state_dependent")),
    "squashed gaussian": Case(made(distribution="squashed_gaussian")),
    "squashed gaussian, state-dependent std": Case(
        made(distribution="squashed_gaussian", std="state_dependent"), {"ent_coef": 0.01}
    ),
    "beta": Case(made(distribution="beta")),
    "gsde": Case(made(distribution="gsde")),
    "categorical": Case(made(DISCRETE)),
    "multi-discrete": Case(made(spaces.MultiDiscrete([2, 3, 4]))),
    "multi-binary": Case(made(spaces.MultiBinary(3))),
    "masked categorical": Case(made(DISCRETE, MASKED, mask_key="action_mask")),
    "masked categorical, entropy": Case(made(DISCRETE, MASKED, mask_key="action_mask"), {"ent_coef": 0.02}),
    "mixed action": Case(made(MIXED)),
    "multivariate normal": Case(written_by_hand(correlated_normal, 5)),
    "gamma": Case(written_by_hand(gamma, 4, POSITIVE)),
    "gamma, micro-batches": Case(written_by_hand(gamma, 4, POSITIVE), {"micro_batch_size": 28, "ent_coef": 0.01}),
    "laplace": Case(written_by_hand(laplace, 4)),
    "normal through tanh": Case(written_by_hand(normal_through_tanh, 4)),
    "a forward pass of its own": Case(shifted),
}

NETWORKS = {
    "dict observation": Case(made(BOX, SEVERAL)),
    "image": Case(made(DISCRETE, IMAGE), length=8),
    "image, micro-batches": Case(made(BOX, IMAGE), {"micro_batch_size": 20}, length=8),
    "image in a dict": Case(made(BOX, spaces.Dict(image=IMAGE, position=OBSERVATIONS)), length=8),
    "plain modules": Case(lambda: make_actor_policy(discrete=True), critic=lambda _: Mlp((OBS_DIM, 8, 1))),
    "shared trunk": Case(on_a_trunk, critic=critic_on_the_policys_trunk),
    "shared trunk, gauss-newton": Case(
        on_a_trunk, {"critic_fit": GaussNewtonFit()}, critic=critic_on_the_policys_trunk
    ),
    "shared body": Case(make_actor_policy, critic=critic_on_the_policys_body),
    "frozen layer": Case(with_a_frozen_layer),
    "relu": Case(made(hidden_sizes=(12, 8), activation=nn.ReLU), critic=critic(activation=nn.ReLU)),
    "elu": Case(made(hidden_sizes=(12, 8), activation=nn.ELU), critic=critic(activation=nn.ELU)),
    "layer norm": Case(made(layer_norm=True), {"critic_fit": GaussNewtonFit()}, critic=critic(layer_norm=True)),
}

MEMORIES = {
    "gru": Case(recurrent("gru"), critic=recurrent_critic("gru")),
    "lstm": Case(recurrent("lstm"), critic=recurrent_critic("lstm")),
    "gru, plain critic": Case(recurrent("gru", DISCRETE)),
    "plain policy, lstm critic": Case(made(), critic=recurrent_critic("lstm")),
    "gru, micro-batches": Case(recurrent("gru"), {"micro_batch_size": 20}, critic=recurrent_critic("gru")),
    "lstm, subsampling": Case(
        recurrent("lstm", DISCRETE),
        {"micro_batch_size": 30, "fisher_subsampling": 0.5, "max_batchsize": 30},
        critic=recurrent_critic("lstm"),
    ),
    "gru, gauss-newton": Case(recurrent("gru"), {"critic_fit": GaussNewtonFit()}, critic=recurrent_critic("gru")),
    "lstm, gauss-newton, micro-batches": Case(
        recurrent("lstm"),
        {"critic_fit": GaussNewtonFit(), "micro_batch_size": 30, "preconditioner": KFAC(samples=16)},
        critic=recurrent_critic("lstm"),
    ),
    "gru, minibatches": Case(recurrent("gru"), critic=recurrent_critic("gru"), batch_size=24, repeat=2),
}

CRITIC_FITS = {
    "gauss-newton": Case(made(), {"critic_fit": GaussNewtonFit()}, critic=critic(hidden_sizes=(8, 8))),
    "gauss-newton, steps": Case(made(), {"critic_fit": GaussNewtonFit(steps=2, cg_iters=5, max_change=0.02)}),
    "gauss-newton, plain": Case(made(), {"critic_fit": GaussNewtonFit(cg_iters=10, damping=0.1, preconditioner=None)}),
    "gauss-newton, micro-batches": Case(made(), {"critic_fit": GaussNewtonFit(), "micro_batch_size": 28}),
    "gauss-newton, image": Case(made(BOX, IMAGE), {"critic_fit": GaussNewtonFit()}, length=8),
    "minibatch fit": Case(made(), {"critic_fit": MinibatchFit(epochs=3, batch_size=20)}),
    "l-bfgs": Case(made(), {"critic_fit": LBFGSFit(iterations=5)}),
    "batch size": Case(made(), batch_size=20),
    "batch size and micro-batches": Case(made(), {"micro_batch_size": 16}, batch_size=40, repeat=2),
    "no critic iterations": Case(made(), {"optim_critic_iters": 0}),
}

UNDAMPED = {"preconditioner": KFAC(relative_damping=0.0), "cg_tolerance": 1e-3}

OPTIONS = {
    "repeat": Case(made(), repeat=3),
    "entropy": Case(made(), {"ent_coef": 0.02}),
    "entropy, categorical": Case(made(DISCRETE), {"ent_coef": 0.02, "micro_batch_size": 40}),
    "full budget": Case(made(), {"full_budget": True}),
    "return scaling": Case(made(), {"return_scaling": True}, rewards=(10.0, 100.0, 20.0, 1000.0)),
    "return scaling, gauss-newton": Case(
        made(), {"return_scaling": True, "critic_fit": GaussNewtonFit()}, rewards=(10.0, 100.0, 20.0, 1000.0)
    ),
    "raw advantages": Case(made(), {"advantage_normalization": False}),
    "micro-batches": Case(made(), {"micro_batch_size": 28}),
    "micro-batches, categorical": Case(made(DISCRETE), {"micro_batch_size": 28}),
    "fisher subsampling": Case(made(), {"fisher_subsampling": 0.5}),
    "fisher subsampling, micro-batches": Case(made(DISCRETE), {"fisher_subsampling": 0.5, "micro_batch_size": 20}),
    "estimates of returns": Case(made(), {"gamma": 0.9, "gae_lambda": 0.7, "max_batchsize": 40}),
    "plain cg": Case(made(), {"preconditioner": None, "cg_tolerance": 0.0, "cg_iters": 10}),
    "plain cg, early stop": Case(made(DISCRETE), {"preconditioner": None, "cg_tolerance": 0.3}),
    "plain cg, beta": Case(made(distribution="beta"), {"preconditioner": None, "cg_tolerance": 0.0, "cg_iters": 5}),
    "k-fac, undamped": Case(made(), UNDAMPED),
    "k-fac, undamped, std on the trunk": Case(made(hidden_sizes=(8, 8), std="state_dependent"), UNDAMPED),
    "k-fac, undamped, mixed action": Case(made(MIXED, layer_norm=True), UNDAMPED),
    "k-fac, undamped, image": Case(made(DISCRETE, IMAGE), UNDAMPED, length=8),
    "k-fac, undamped, lstm": Case(recurrent("lstm"), UNDAMPED, recurrent_critic("gru")),
    "k-fac, undamped, diagonal blocks": Case(
        made(hidden_sizes=(8, 8)), {"preconditioner": KFAC(inner_iterations=1, relative_damping=0.0)}
    ),
    "k-fac, one inner iteration": Case(made(hidden_sizes=(8, 8)), {"preconditioner": KFAC(inner_iterations=1)}),
    "k-fac, few samples": Case(made(DISCRETE), {"preconditioner": KFAC(samples=16), "cg_tolerance": 0.1}),
    "small damping": Case(made(), {"cg_damping": 1e-3, "cg_tolerance": 0.1}),
    "npg": Case(made(), algorithm=NPG),
    "npg, repeat": Case(made(DISCRETE), algorithm=NPG, repeat=3),
    "npg, gru": Case(recurrent("gru"), {"trust_region_size": 0.2}, recurrent_critic("gru"), NPG),
    "constant advantages": Case(made(), critic=critic_that_says_zero, rewards=(0.0, 0.0, 1.0)),
    "backtracking": Case(
        written_by_hand(correlated_normal, 5), {"max_kl": 2.0, "cg_damping": 1e-3, "backtrack_coeff": 0.93}
    ),
    "no candidate": Case(
        written_by_hand(correlated_normal, 5), {"max_kl": 2.0, "cg_damping": 1e-3, "max_backtracks": 1}
    ),
}

CASES: dict[str, Case] = DISTRIBUTIONS | NETWORKS | MEMORIES | CRITIC_FITS | OPTIONS


# Recording


@contextmanager
def settings(threads: int, seed: int = 0) -> Iterator[None]:
    """Seed torch and set its threads, and put both back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def double_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def record(case: Case, threads: int = 1) -> dict[str, Any]:
    """Run a case's updates; return what its networks and its training stats hold, as lists of numbers."""
    with settings(threads):
        with double_precision():
            algorithm = build(case)
            rollouts = Rollouts(algorithm.policy, case.envs)
        networks = (algorithm.policy, algorithm.critic)
        digests, stats = [[digest(vector(network)) for network in networks]], []
        for number, scale in enumerate(case.rewards):
            with double_precision():
                buffer = rollouts.collect(case.length, scale)
            torch.manual_seed(number)
            stats.append(numbers(update(algorithm, buffer, case.batch_size, case.repeat)))
            digests.append([digest(vector(network)) for network in networks])
        return {
            "digests": digests,
            "stats": {name: [found[name] for found in stats] for name in stats[0]},
            "policy": entries(vector(algorithm.policy)),
            "critic": entries(vector(algorithm.critic)),
        }


def build(case: Case) -> NPG:
    policy = case.policy().double()
    network = case.critic(policy).double()
    options = {"optim": AdamOptimizerFactory(lr=1e-2)} | case.options
    return case.algorithm(policy=policy, critic=network, **options)


def vector(network: nn.Module) -> np.ndarray:
    parameters = parameters_to_vector(network.parameters()).detach()
    assert parameters.dtype == torch.float64
    return parameters.numpy().copy()


def digest(values: np.ndarray) -> list[float]:
    """Return the sum, the sum of squares, and the product with a fixed irregular vector."""
    irregular = np.cos(np.arange(len(values)) ** 2)
    return [float(values.sum()), float(values.dot(values)), float(irregular.dot(values))]


def entries(values: np.ndarray) -> list[float]:
    return values[: len(values) if len(values) <= MOST_ENTRIES else FIRST_ENTRIES].tolist()


def numbers(stats: Any) -> dict[str, float]:
    """Return every number of training stats but the time; NaN stands for None."""
    found = {}
    for field in dataclasses.fields(stats):
        value = getattr(stats, field.name)
        if isinstance(value, SequenceSummaryStats):
            found |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in dataclasses.fields(value)}
        elif field.name not in ("train_time", "smoothed_loss"):
            found[field.name] = math.nan if value is None else value
    return {name: float(value) for name, value in found.items()}


def recorded() -> dict[str, Any]:
    """Return what the fixture holds, by case."""
    return json.loads(gzip.decompress(FIXTURE.read_bytes()))


def main() -> None:
    text = json.dumps({name: record(case) for name, case in CASES.items()}, separators=(",", ":"))
    FIXTURE.parent.mkdir(exist_ok=True)
    FIXTURE.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
