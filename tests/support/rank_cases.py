"""Trainings on data that does not depend on how many ranks share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from gymnasium import spaces
from rank_pool import shared_memory
from rollouts import ACT_DIM, N_ACTIONS, OBS_DIM, OBSERVATIONS, Mlp, make_actor_policy, make_trpo, update
from sequenced import make_sequence_critic, make_sequence_policy
from tianshou.data import Batch, VectorReplayBuffer
from torch import nn

from trpo_ts import KFAC, TRPO
from trpo_ts.cli.compiled_functions import keep_compiled
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit, make_critic
from trpo_ts.policies import make_policy

keep_compiled()  # each process would take seconds for it

LENGTHS = (16, 9, 13, 1)
"""The steps of each environment in a rollout."""

SPLITS = {1: (0, 4), 2: (0, 3, 4), 3: (0, 1, 2, 4), 4: (0, 1, 2, 3, 4)}
"""Where the environments of each rank begin, by the number of ranks: one has a single transition."""

MASKED = spaces.Dict(observation=OBSERVATIONS, action_mask=spaces.Box(0, 1, (N_ACTIONS,), np.int8))


class SharedCritic(nn.Module):
    """A value head on the actor's hidden layers."""

    def __init__(self, body: Mlp) -> None:
        super().__init__()
        self.trunk, self.head = body.layers[:-1], nn.Linear(8, 1)

    def forward(self, obs: Any) -> torch.Tensor:
        weight = self.head.weight
        return self.head(self.trunk(torch.as_tensor(obs, dtype=weight.dtype)))


def plain(dtype: torch.dtype, discrete: bool = False, **settings: Any) -> TRPO:
    return make_trpo(make_actor_policy(discrete, dtype=dtype), **settings)


def shared(dtype: torch.dtype, **settings: Any) -> TRPO:
    policy = make_actor_policy(dtype=dtype)
    return make_trpo(policy, SharedCritic(policy.actor.body).to(dtype), **settings)


def masked(dtype: torch.dtype, **settings: Any) -> TRPO:
    policy = make_policy(MASKED, spaces.Discrete(N_ACTIONS), mask_key="action_mask", hidden_sizes=(8,))
    return make_trpo(policy.to(dtype), make_critic(MASKED, hidden_sizes=(8,)).to(dtype), **settings)


def recurrent(dtype: torch.dtype, discrete: bool = False, **settings: Any) -> TRPO:
    return make_trpo(make_sequence_policy("gru", discrete, dtype), make_sequence_critic("lstm", dtype), **settings)


FIT = GaussNewtonFit(damping=1.0)
"""Well posed on few rows: with less damping 20 updates make a visible difference of rounding, on one rank too."""

CASES: dict[str, Callable[[torch.dtype], TRPO]] = {
    "gaussian": plain,
    "categorical": lambda dtype: plain(dtype, True, critic_fit=FIT),
    "scaled returns": lambda dtype: plain(
        dtype, return_scaling=True, ent_coef=0.01, critic_fit=GaussNewtonFit(steps=2, damping=1.0)
    ),
    "few rows": lambda dtype: plain(dtype, preconditioner=KFAC(samples=16), fisher_subsampling=0.4, critic_fit=FIT),
    "no preconditioner": lambda dtype: plain(
        dtype, preconditioner=None, cg_tolerance=0.0, critic_fit=GaussNewtonFit(preconditioner=None, damping=1.0)
    ),
    "minibatches": lambda dtype: plain(dtype, True, critic_fit=MinibatchFit(epochs=2, batch_size=10)),
    "l-bfgs": lambda dtype: plain(dtype, critic_fit=LBFGSFit(iterations=3)),
    "shared trunk": shared,
    "masks": lambda dtype: masked(dtype, critic_fit=FIT),
    "recurrent": recurrent,
    "recurrent, few rows": lambda dtype: recurrent(
        dtype, True, preconditioner=KFAC(samples=16), fisher_subsampling=0.4, critic_fit=FIT
    ),
    "recurrent minibatches": lambda dtype: recurrent(dtype, critic_fit=MinibatchFit(epochs=2, batch_size=10)),
    "micro-batches": lambda dtype: plain(dtype, micro_batch_size=5, critic_fit=FIT, preconditioner=KFAC(samples=20)),
}


def make_case(name: str, dtype: torch.dtype) -> TRPO:
    """Return the algorithm of a case, always with the same parameters."""
    torch.manual_seed(3)
    return CASES[name](dtype)


class Source:
    """Rows of some environments, drawn from numbers for each; observations continue from rollout to rollout."""

    def __init__(self, algorithm: TRPO, envs: Sequence[int]) -> None:
        self._policy, self._envs = algorithm.policy, list(envs)
        self._generators = [np.random.default_rng([env, 7]) for env in envs]
        self._masks = isinstance(algorithm.policy.observation_space, spaces.Dict)
        self._discrete = isinstance(algorithm.policy.action_space, spaces.Discrete)
        self._has_memory = hasattr(algorithm.policy.actor, "trunk")
        self._obs = [self._drawn(generator) for generator in self._generators]
        self._state: list[Any] = [None] * len(self._envs)

    def _drawn(self, generator: np.random.Generator) -> Any:
        obs = generator.standard_normal(OBS_DIM)
        if not self._masks:
            return obs
        mask = np.ones(N_ACTIONS, np.int8)
        mask[generator.integers(1, N_ACTIONS)] = 0
        return {"observation": obs, "action_mask": mask}

    def rollout(self) -> VectorReplayBuffer:
        """Return the next rollout."""
        buffer = VectorReplayBuffer(max(LENGTHS) * len(self._envs), len(self._envs))
        for t in range(max(LENGTHS)):
            for place, env in enumerate(self._envs):
                if t < LENGTHS[env]:
                    buffer.add(self._step(place), buffer_ids=np.array([place]))
        return buffer

    def _step(self, place: int) -> Batch:
        generator, obs = self._generators[place], self._obs[place]
        first = float(np.ravel(obs["observation"] if self._masks else obs)[0])
        act = 0 if self._discrete else generator.standard_normal(ACT_DIM)
        if self._discrete:
            act = (
                int(generator.integers(N_ACTIONS))
                if not self._masks
                else int(generator.choice(np.flatnonzero(obs["action_mask"])))
            )
        terminated, truncated = (bool(x) for x in generator.random(2) < 0.08)
        obs_next = self._drawn(generator)
        row = Batch(
            obs=obs,
            act=act,
            rew=np.sin(3 * first) + float(np.sum(act)),
            terminated=terminated,
            truncated=truncated and not terminated,
            obs_next=obs_next,
            info=Batch(step=0),
            policy=self._memory(place, obs),
        )
        ended = terminated or truncated
        self._obs[place] = self._drawn(generator) if ended else obs_next
        self._state[place] = None if ended else self._state[place]
        return Batch([row])

    def _memory(self, place: int, obs: Any) -> Batch:
        """Return what the collector would store of the policy's state, and keep it."""
        if not self._has_memory:
            return Batch()
        with torch.no_grad():
            _, state = self._policy.actor(np.asarray([obs]), self._state[place])
        self._state[place] = {"before": state["before"], "after": state["after"]}
        return Batch(hidden_state=Batch(before=state["before"][0], after=state["after"][0]))


def envs_of_rank() -> range:
    """Return the environments of the present rank."""
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return range(SPLITS[size][rank], SPLITS[size][rank + 1])


def train(name: str, dtype: torch.dtype = torch.float64, updates: int = 20, repeat: int = 1) -> dict[str, Any]:
    """Train a case on this rank's environments; return parameters, return statistics and the stats of each update."""
    algorithm = make_case(name, dtype)
    source = Source(algorithm, envs_of_rank())
    stats = []
    for i in range(updates):
        torch.manual_seed(i)
        stats.append({**asdict(update(algorithm, source.rollout(), None, repeat)), "train_time": None})
    returns = (float(algorithm.ret_rms.mean), float(algorithm.ret_rms.var), int(algorithm.ret_rms.count))
    return {"parameters": [p.detach().numpy() for p in algorithm.parameters()], "returns": returns, "stats": stats}


def train_through_sockets(*arguments: Any) -> dict[str, Any]:
    """Do what :func:`train` does without the memory that ranks of one machine share."""
    with shared_memory(False):
        return train(*arguments)


def after_an_update(name: str) -> tuple[TRPO, Source]:
    """Return a case that has made an update, and the source of its rollouts."""
    algorithm = make_case(name, torch.float64)
    source = Source(algorithm, envs_of_rank())
    update(algorithm, source.rollout())
    return algorithm, source


def train_with_fault(name: str, fault: str, rank: int) -> dict[str, Any]:
    """Make one update, then one in which a rank has a fault; return what it raised and whether anything was changed."""
    algorithm, source = after_an_update(name)
    before, returns = [p.detach().clone() for p in algorithm.parameters()], algorithm.ret_rms.count
    buffer = source.rollout()
    if dist.get_rank() == rank:
        FAULTS[fault](algorithm, buffer)
    try:
        update(algorithm, buffer)
    except Exception as error:
        changed = any(not torch.equal(a, b) for a, b in zip(before, algorithm.parameters(), strict=True))
        spoiled = dist.get_rank() == rank and fault == "other parameters"
        return {
            "error": f"{type(error).__name__}: {error}",
            "changed": (changed and not spoiled) or algorithm.ret_rms.count != returns,
        }
    return {"error": None, "changed": True}


def _spoil(field: str) -> Callable[[TRPO, VectorReplayBuffer], None]:
    def spoil(algorithm: TRPO, buffer: VectorReplayBuffer) -> None:
        getattr(buffer, field)[0] = np.nan

    return spoil


def _move(algorithm: TRPO, buffer: VectorReplayBuffer) -> None:
    with torch.no_grad():
        next(algorithm.parameters()).view(-1)[0] += 1e-12
    algorithm._same_update._updates = 0  # the next comparison is now


def _set_bound(algorithm: TRPO, buffer: VectorReplayBuffer) -> None:
    algorithm.max_kl = 0.5


def _break_critic(algorithm: TRPO, buffer: VectorReplayBuffer) -> None:
    algorithm.critic.forward = lambda obs: torch.zeros(1, 3)


FAULTS: dict[str, Callable[[TRPO, VectorReplayBuffer], None]] = {
    "observations": _spoil("obs"),
    "rewards": _spoil("rew"),
    "no transition": lambda algorithm, buffer: buffer.reset(),
    "other parameters": _move,
    "other settings": _set_bound,
    "critic": _break_critic,
}


def train_from_other_seeds() -> list[np.ndarray]:
    """Build networks from a seed for each rank; return what they start with."""
    torch.manual_seed(dist.get_rank())
    return [p.detach().numpy() for p in plain(torch.float32).parameters()]


def constant_rewards(everywhere: bool) -> dict[str, Any]:
    """Make an update where rewards and values are zero on rank 0, or on all."""
    algorithm = make_case("gaussian", torch.float64)
    with torch.no_grad():
        for p in algorithm.critic.parameters():
            p.zero_()
    buffer = Source(algorithm, envs_of_rank()).rollout()
    if everywhere or dist.get_rank() == 0:
        buffer.rew[...] = 0.0
    stats = update(algorithm, buffer)
    return {"accepted": stats.accepted, "outcome": stats.outcome, "kl": stats.kl.mean}
