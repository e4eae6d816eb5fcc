"""The sides of the scaling study, and their turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rank_pool import RankPool

from scaling.rank_turns import reduce_some, train_apart, train_some

UPDATES, WARM_UP = 5, 2
SIZES = (1, 16, 1_000, 10_000, 100_000, 1_000_000)
REPEATS = 200


@dataclass(frozen=True)
class Side:
    """A training whose throughput is compared with others.

    :param how: ``"one"`` process, the ranks ``"together"``, or as many processes ``"apart"``, which do not meet: what
        the machine gives at best.
    :param num_envs: environments of all ranks; of each process where they are apart.
    :param segment: steps of each in a rollout.
    """

    how: str
    num_envs: int
    segment: int

    @property
    def name(self) -> str:
        """Its name in the results."""
        return f"{self.how} {self.num_envs}x{self.segment}"

    def turn(self, pool: RankPool, task: str, seed: int, updates: int) -> dict[str, Any]:
        """Train, and return seconds and parts for each update; those of the slowest rank."""
        size = 1 if self.how == "one" else 2
        job: Callable[..., Any] = train_apart if self.how == "apart" else train_some
        found = pool.results(size, job, task, self.num_envs, self.segment, seed, updates)
        copies = size if self.how == "apart" else 1
        seconds = max(rank["seconds"] for rank in found) / updates
        parts = {
            part: max(rank[part] for rank in found) / updates for part in ("collect", "straggle", "update", "meet")
        }
        return {
            "steps_per_second": copies * self.num_envs * self.segment / seconds,
            "seconds": seconds,
            **parts,
            "collects": [rank["collects"] for rank in found],
            "messages": found[0]["messages"],
        }


PAIRS = (("whole", 16, 64), ("whole", 16, 256), ("each", 16, 64), ("each", 16, 128))
"""Environments x segment of the whole batch, or of each rank's, for which two ranks are compared with one process."""


def sides_of_pair(kind: str, num_envs: int, segment: int) -> tuple[Side, Side, Side]:
    """Return one process, two ranks, and two processes that do not meet and have as much to do as a rank."""
    each, whole = (num_envs // 2, num_envs) if kind == "whole" else (num_envs, 2 * num_envs)
    return Side("one", num_envs, segment), Side("together", whole, segment), Side("apart", each, segment)


SIDES = tuple(dict.fromkeys(side for pair in PAIRS for side in sides_of_pair(*pair)))
"""The sides of all comparisons, each once."""


def turns_of(pool: RankPool, task: str, seeds: Sequence[int], rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the turns of all sides: each has its turn in each round."""
    for seed in seeds:
        for number in range(-1, rounds):
            for side in SIDES:
                found = side.turn(pool, task, seed, UPDATES if number >= 0 else WARM_UP)
                if number >= 0:
                    yield {"task": task, "side": side.name, **asdict(side), "seed": seed, "round": number, **found}


def reductions_of(pool: RankPool) -> dict[str, dict[str, dict[str, float]]]:
    """Return what a sum over two ranks takes, by the way and the number of float32."""
    return {
        way: {str(size): pool.results(2, reduce_some, size, REPEATS, shared)[0] for size in SIZES}
        for way, shared in (("shared memory", True), ("sockets", False))
    }
