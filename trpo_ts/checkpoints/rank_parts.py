"""The part of a run that is each rank's own: its episodes, its random generators, the memory of its critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm
from tianshou.trainer import OnPolicyTrainer

from trpo_ts.autodiff.ranks import Ranks
from trpo_ts.checkpoints.collector_state import collector_state
from trpo_ts.checkpoints.generators import generator_states
from trpo_ts.checkpoints.packing import pack, unpack
from trpo_ts.critics.recurrent_critic import RecurrentCritic
from trpo_ts.uncompiled import original

__all__ = ["collectors_of", "own_run", "parts_of_others", "reseed", "set_memory"]


def collectors_of(trainer: OnPolicyTrainer) -> dict[str, Any]:
    """Return the trainer's collectors by name."""
    collectors = {"training": trainer.params.training_collector, "test": trainer.params.test_collector}
    return {name: collector for name, collector in collectors.items() if collector is not None}


def parts_of_others(algorithm: OnPolicyAlgorithm[Any], trainer: OnPolicyTrainer, ranks: Ranks) -> list[dict[str, Any]]:
    """Return the parts of all ranks but the first, whose part is where a single process has its own."""
    if ranks.size == 1:
        return []
    critic = _recurrent_critic(algorithm)
    part = {
        "collectors": {name: collector_state(collector) for name, collector in collectors_of(trainer).items()},
        "generators": generator_states(),
        "memory": {} if critic is None else critic.get_extra_state(),
    }
    return [unpack(other) for other in ranks.gather_objects(pack(part))[1:]]


def own_run(run: dict[str, Any], trainer: OnPolicyTrainer, ranks: Ranks) -> dict[str, Any]:
    """Return a saved run as this rank's: its own part, or episodes that begin anew on another number of ranks."""
    others = run.get("ranks", [])
    if len(others) + 1 == ranks.size:
        return {**run, **others[ranks.rank - 1]} if ranks.rank else run
    why = f"the run had {len(others) + 1} rank(s) and has {ranks.size}"
    collectors = {}
    for name, collector in collectors_of(trainer).items():
        if name not in run["collectors"]:
            raise ValueError(f"the run was saved without a {name} collector")
        saved, own = run["collectors"][name], collector_state(collector)
        shared = {key: saved[key] for key in ("statistics", "totals")}
        collectors[name] = {**own, **shared, "episodes": None, "why_not": why}
    return {**run, "collectors": collectors, "memory": {}}


def set_memory(algorithm: OnPolicyAlgorithm[Any], run: dict[str, Any]) -> None:
    """Give a critic the states that it kept on this rank; the algorithm's own are those of rank 0."""
    critic = _recurrent_critic(algorithm)
    if critic is not None and "memory" in run:
        critic.set_extra_state(run["memory"])


def _recurrent_critic(algorithm: OnPolicyAlgorithm[Any]) -> RecurrentCritic | None:
    critic: Any = getattr(algorithm, "critic", None)
    critic = None if critic is None else original(critic)
    return critic if isinstance(critic, RecurrentCritic) else None


def reseed(entropy: Sequence[int]) -> None:
    """Start the generators of a rank that has none of its own in the checkpoint."""
    torchs, numpys = (int(seed) >> 1 for seed in np.random.SeedSequence(entropy).generate_state(2))
    torch.manual_seed(torchs)
    np.random.seed(numpys)  # noqa: NPY002  Tianshou draws from NumPy's global generator
