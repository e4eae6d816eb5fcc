"""Whole trainings on several ranks: their trainers, their checkpoints, and ranks that fail."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rank_cases import Source, after_an_update
from rank_pool import shared_memory
from rollouts import update
from tianshou.env import VectorEnvNormObs

from trpo_ts import TRPO
from trpo_ts.checkpoints import ResumableTrainer
from trpo_ts.distributed import current_ranks
from trpo_ts.training import make_job

SETTINGS: dict[str, Any] = {
    "num_envs": 4,
    "segment": 16,
    "hidden_sizes": (8,),
    "test_every": 128,
    "test_episodes": 2,
    "normalise_observations": True,
    "max_episode_steps": 20,
}


def train_job(folder: str, steps: int, **settings: Any) -> dict[str, Any]:
    """Train in a folder up to so many steps, from where the run there was; return what the rank ends with."""
    job = make_job("Pendulum-v1", seed=1, **{**SETTINGS, **settings}, steps=512)
    job.params.max_epochs = steps // job.params.epoch_num_steps
    trainer = ResumableTrainer(job.algorithm, job.params, folder, every=1)
    info = trainer.run()
    assert isinstance(job.training_envs, VectorEnvNormObs)
    statistics = job.training_envs.get_obs_rms()
    return {
        "parameters": [p.detach().numpy().copy() for p in job.algorithm.parameters()],
        "statistics": [np.copy(statistics.mean), np.copy(statistics.var), statistics.count],
        "steps": trainer._env_step,
        "episodes": trainer._env_episode,
        "best": info.best_score,
        "draw": float(torch.rand(())),
    }


def raise_in_the_middle(shared: bool) -> str:
    """Make an update in which rank 1 raises between two reductions; return what each raised."""
    with shared_memory(shared):
        algorithm, source = after_an_update("gaussian")
        if dist.get_rank() == 1:
            algorithm._policy_step = _out_of_memory
        return _raised_by_update(algorithm, source)


def _out_of_memory(*_: Any) -> None:
    raise MemoryError("no room for the candidate")


def lose_a_rank(how: str) -> str:
    """Make an update that rank 1 takes no part in; return what the others raised."""
    algorithm, source = after_an_update("gaussian")
    if dist.get_rank() == 1:
        if how == "hangs":
            time.sleep(4.0)
        return ""
    return _raised_by_update(algorithm, source)


def _raised_by_update(algorithm: TRPO, source: Source) -> str:
    """Return what an update raises, which changes nothing then."""
    before = [p.detach().clone() for p in algorithm.parameters()]
    try:
        update(algorithm, source.rollout())
    except Exception as error:
        assert all(torch.equal(a, b) for a, b in zip(before, algorithm.parameters(), strict=True))
        return f"{type(error).__name__}: {error}"
    return "nothing"


def exchange_long_messages(shared: bool) -> dict[str, Any]:
    """Sum more numbers than a slot holds, and gather more than one message does; return what arrived."""
    with shared_memory(shared):
        ranks = current_ranks()
        (summed,) = ranks.sum(torch.full((700_000,), ranks.rank + 1.0, dtype=torch.float64))
        gathered = ranks.gather(list(range((200, 1, 130)[ranks.rank])))
    return {
        "sums": [float(summed.min()), float(summed.max())],
        "lengths": list(map(len, gathered)),
        "numbers": [numbers[-1] for numbers in gathered],
        "first": float(ranks.first(torch.tensor(float(ranks.rank)))),
    }


def sum_other_lengths() -> str:
    """Sum tensors that are longer on rank 1; return what was raised."""
    ranks = current_ranks()
    try:
        ranks.sum(torch.ones(10 + ranks.rank))
    except RuntimeError as error:
        return str(error)
    return ""
