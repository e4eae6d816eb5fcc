"""What each rank does in its turn of a measurement: some updates of a training, or some reductions."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from rank_pool import shared_memory

import trpo_ts.whole_rollouts as trainer
from trpo_ts.distributed import current_ranks
from trpo_ts.training import Job, make_job

_JOBS: dict[tuple[Any, ...], Job] = {}
"""The trainings of this process, which continue in each turn."""


GATHERED = 1024
"""Bytes of the numbers that a rank sends for a gather."""


class Stopwatch:
    """Adds up the seconds of the calls of a function, and keeps those of each."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds.append(time.perf_counter() - start)

        return timed


def train_some(task: str, num_envs: int, segment: int, seed: int, updates: int) -> dict[str, Any]:
    """Continue a training by some updates; return the seconds of each part, and what the ranks exchanged.

    :param num_envs: of all ranks together.
    """
    ranks = current_ranks()
    key = (ranks.size, task, num_envs, segment, seed)
    if key not in _JOBS:
        shape = {"num_envs": num_envs, "segment": segment}
        _JOBS[key] = make_job(task, seed=seed, env_backend="gymnasium", test_every=0, **shape)
    job = _JOBS[key]
    collecting, straggling, meeting = Stopwatch(), Stopwatch(), Stopwatch()
    params = replace(job.params, max_epochs=1, epoch_num_steps=updates * num_envs * segment, verbose=False)
    params.show_progress = False
    watched = trainer.WholeRolloutTrainer(job.algorithm, params)
    collector, stats_of_all = params.training_collector, trainer.stats_of_all
    collect = collector.collect
    collector.collect = collecting.around(collect)
    trainer.stats_of_all = straggling.around(stats_of_all)
    messages: list[int] = []
    if ranks.size > 1:
        _watch(ranks, meeting, messages)
    try:
        watched.reset()
        meeting.seconds.clear()
        messages.clear()
        start = time.perf_counter()
        result = watched.run(reset_collectors=False)
        seconds = time.perf_counter() - start
    finally:
        collector.collect, trainer.stats_of_all = collect, stats_of_all
    return {
        "seconds": seconds,
        "collect": sum(collecting.seconds),
        "collects": collecting.seconds,
        "straggle": sum(straggling.seconds) if ranks.size > 1 else 0.0,
        "update": result.timing.train_time_update,
        "meet": sum(meeting.seconds) - sum(straggling.seconds) if ranks.size > 1 else 0.0,
        "messages": messages[-(len(messages) // updates) :],
    }


def _watch(ranks: Any, meeting: Stopwatch, messages: list[int]) -> None:
    """Time the meetings of the ranks, and note the bytes of each message; their group ends with the turn."""
    sum_of, gather = ranks.sum, ranks.gather

    def noted_sum(*tensors: torch.Tensor) -> Any:
        messages.append(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
        return sum_of(*tensors)

    def noted_gather(numbers: Any) -> Any:
        messages.append(GATHERED)
        return gather(numbers)

    ranks.sum, ranks.gather = meeting.around(noted_sum), meeting.around(noted_gather)


def train_apart(*arguments: Any) -> dict[str, Any]:
    """Do what :func:`train_some` does in each process by itself, all at the same time."""
    dist.barrier()
    dist.destroy_process_group()
    with tempfile.NamedTemporaryFile() as store:
        dist.init_process_group("gloo", init_method=f"file://{store.name}", rank=0, world_size=1)
        return train_some(*arguments)


def reduce_some(size: int, repeats: int, shared: bool) -> dict[str, float]:
    """Return the median and the mean seconds of a sum of so many numbers over the ranks.

    :param shared: whether they may meet in shared memory.
    """
    ranks, message = current_ranks(), torch.ones(size)
    watch = Stopwatch()
    reduce = watch.around(ranks.sum)
    with shared_memory(shared):
        for _ in range(repeats):
            reduce(message)
    kept = watch.seconds[repeats // 10 :]
    return {"median": statistics.median(kept), "mean": float(np.mean(kept))}
