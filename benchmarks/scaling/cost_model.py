r"""A model of what an update of many ranks takes, fitted to the measurements of two.

.. math:: t(n) = t_c + t_u + z(n) (\sigma_c + r \sigma_r) + \sum_{i=1}^r \left( h(n)\, \ell + \frac{b_i}{B} f(n) \right)

docs/distributed.md says what the symbols mean, what was measured and what is assumed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

RANKS = (1, 2, 8, 64, 256, 1024)
RING, TREE = "ring, as gloo", "tree, as MPI and NCCL"


@dataclass(frozen=True)
class Network:
    """What is assumed between machines: TCP in a data centre, 10 Gbit/s, 8 ranks on each machine.

    :param latency: seconds of a hop.
    :param bandwidth: bytes per second.
    :param per_node: ranks of a machine, which meet in shared memory first.
    """

    latency: float = 50e-6
    bandwidth: float = 1.25e9
    per_node: int = 8


@dataclass(frozen=True)
class Costs:
    """What was measured of a rank's share.

    :param collect: seconds of a collect.
    :param deviation: the standard deviation of that.
    :param jitter: the standard deviation of what a rank computes between two messages of an update.
    :param update: seconds of an update, without waiting for others.
    :param messages: bytes of each message between ranks in a step.
    :param local_latency: seconds of a message in shared memory.
    :param local_bandwidth: bytes per second there.
    """

    collect: float
    deviation: float
    jitter: float
    update: float
    messages: tuple[int, ...]
    local_latency: float
    local_bandwidth: float


def fitted(data: dict[str, Any], task: str, alone: str, together: str) -> Costs:
    """Return the costs of a task from one process with a rank's share and from two ranks."""
    turns = [turn for turn in data["turns"] if turn["task"] == task]
    one = [turn for turn in turns if turn["side"] == alone]
    two = [turn for turn in turns if turn["side"] == together]
    collect, update = (statistics.median(turn[part] for turn in one) for part in ("collect", "update"))
    wait, meeting = (statistics.median(turn[part] for turn in two) for part in ("straggle", "meet"))
    messages = tuple(two[-1]["messages"])
    costs = Costs(collect, wait / slowest(2), 0.0, update, messages, *line(data["reductions"]["shared memory"]))
    exchanged = sum(reduction(size, 2, costs, Network(), RING) for size in messages)
    return replace(costs, jitter=max(0.0, meeting - exchanged) / len(messages) / slowest(2))


def line(reductions: dict[str, dict[str, float]]) -> tuple[float, float]:
    """Return latency and bandwidth, from the smallest message and from the largest (of float32)."""
    sizes = sorted(map(int, reductions))
    small, large = (reductions[str(size)]["median"] for size in (sizes[0], sizes[-1]))
    return small, 4.0 * (sizes[-1] - sizes[0]) / (large - small)


def slowest(ranks: int) -> float:
    """Return by how many standard deviations the slowest of so many exceeds the mean, taken for normal (Blom 1958)."""
    return NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25)) if ranks > 1 else 0.0


def reduction(size: int, ranks: int, costs: Costs, network: Network, algorithm: str) -> float:
    """Return the seconds of one message of so many bytes."""
    local, nodes = min(ranks, network.per_node), max(1, ranks // network.per_node)
    seconds = 0.0
    if local > 1:
        # Each rank reads what the others wrote: twice the measured bytes of two.
        seconds += costs.local_latency + (local - 1) * size / costs.local_bandwidth
    if nodes > 1:
        hops = 2 * (nodes - 1) if algorithm == RING else 2 * math.ceil(math.log2(nodes))
        seconds += hops * network.latency + 2 * (nodes - 1) / nodes * size / network.bandwidth
    return seconds


@dataclass(frozen=True)
class Step:
    """The seconds of a step: collecting, waiting for the slowest, the update, the messages."""

    collect: float
    wait: float
    update: float
    messages: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.collect + self.wait + self.update + self.messages


def step(
    costs: Costs, ranks: int, network: Network, algorithm: str = RING, messages: Sequence[int] | None = None
) -> Step:
    """Return a step of so many ranks.

    :param messages: the bytes of each, where they are not those that were measured.
    """
    sizes = costs.messages if messages is None else messages
    exchanged = sum(reduction(size, ranks, costs, network, algorithm) for size in sizes) if ranks > 1 else 0.0
    waits = slowest(ranks) * (costs.deviation + len(sizes) * costs.jitter)
    return Step(costs.collect, waits, costs.update, exchanged)


def efficiency(costs: Costs, ranks: int, network: Network, **options: Any) -> float:
    """Return the throughput of each rank, relative to one process with its share."""
    return step(costs, 1, network).seconds / step(costs, ranks, network, **options).seconds


def fewest(messages: Sequence[int]) -> list[int]:
    """Return the messages where each large one carries what the one after it does: a third fewer, of the same bytes.

    So it would be if gradients and the factors of K-FAC, which are of the same pass, travelled together.
    """
    fused: list[int] = []
    for size in messages:
        if fused and size > 2 * fused[-1] and fused[-1] > 1024:
            fused[-1] += size
        else:
            fused.append(size)
    return fused


def halved(messages: Sequence[int]) -> list[int]:
    """Return the messages in half precision; gathered numbers stay."""
    return [size if size <= 1024 else size // 2 for size in messages]
