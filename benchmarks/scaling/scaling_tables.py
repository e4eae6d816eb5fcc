"""The tables of the scaling study in docs/distributed.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import common

from scaling.cost_model import RANKS, RING, TREE, Network, efficiency, fewest, fitted, halved, step
from scaling.turns import PAIRS, sides_of_pair


@dataclass(frozen=True)
class Share:
    """A rank's share of a job."""

    task: str
    pair: tuple[str, int, int]

    @property
    def names(self) -> tuple[str, str, str]:
        """The task, the process with this share alone, and two ranks."""
        one, together, _ = sides_of_pair(*self.pair)
        return self.task, one.name, together.name


SHARES = {
    "HalfCheetah, 16 x 64": Share("HalfCheetah-v4", ("each", 16, 64)),
    "HalfCheetah, 16 x 128": Share("HalfCheetah-v4", ("each", 16, 128)),
    "point mass, 16 x 128": Share("PointMass1D-v0", ("each", 16, 128)),
}


@dataclass(frozen=True)
class Ratios:
    """Throughput relative to one process: of two ranks and of two processes that do not meet; and of what it consists.

    :param apart: not a number where they were not measured.
    :param parts: milliseconds of an update of two ranks.
    """

    alone: float
    together: float
    apart: float
    parts: dict[str, float]


def ratios(data: dict[str, Any], task: str, kind: str, num_envs: int, segment: int) -> Ratios:
    """Return the medians over rounds."""
    found = {(t["side"], t["seed"], t["round"]): t for t in data["turns"] if t["task"] == task}
    one, together, apart = (side.name for side in sides_of_pair(kind, num_envs, segment))
    rounds = sorted((seed, number) for side, seed, number in found if side == one)

    def quotient(side: str) -> float:
        quotients = [
            found[side, *turn]["steps_per_second"] / found[one, *turn]["steps_per_second"]
            for turn in rounds
            if (side, *turn) in found
        ]
        return statistics.median(quotients) if quotients else math.nan

    def median(side: str, part: str) -> float:
        return statistics.median(found[side, *turn][part] for turn in rounds)

    parts = {part: 1e3 * median(together, part) for part in ("collect", "straggle", "update", "meet")}
    return Ratios(median(one, "steps_per_second"), quotient(together), quotient(apart), parts)


def _tasks(data: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(turn["task"] for turn in data["turns"]))


def tables(data: dict[str, Any]) -> dict[str, str]:
    """Return the tables by the name of their place."""
    return {
        "throughput": _throughput(data),
        "returns": _returns(data),
        "messages": _messages(data),
        "more ranks": _more_ranks(data),
    }


def _throughput(data: dict[str, Any]) -> str:
    header = [
        "Task",
        "Batch",
        "One process",
        "Two ranks",
        "Two apart",
        "Collect",
        "Wait",
        "Update",
        "of it meeting",
    ]
    rows = []
    for task in _tasks(data):
        for kind, num_envs, segment in PAIRS:
            found = ratios(data, task, kind, num_envs, segment)
            rows.append(
                [
                    task,
                    f"{num_envs} x {segment} {'in all' if kind == 'whole' else 'on each'}",
                    f"{found.alone:,.0f} steps/s",
                    f"**{found.together:.2f}**",
                    "-" if math.isnan(found.apart) else f"{found.apart:.2f}",
                    *(f"{found.parts[part]:.1f} ms" for part in ("collect", "straggle", "update", "meet")),
                ]
            )
    return common.markdown_table(header, rows)


def _returns(data: dict[str, Any]) -> str:
    rows = []
    for task in _tasks(data):
        runs = [run for run in data.get("runs", []) if run["task"] == task]
        if runs:
            cells = [_mean_and_range([r["return"] for r in runs if r["ranks"] == n]) for n in (1, 2)]
            seeds = len({run["seed"] for run in runs})
            rows.append([task, f"{runs[0]['env_steps']:,}", str(seeds), *cells])
    return common.markdown_table(["Task", "Steps", "Seeds", "One process", "Two ranks"], rows)


def _mean_and_range(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.mean(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def _messages(data: dict[str, Any]) -> str:
    ways = data["reductions"]
    rows = [
        [f"{int(size):,}", *(f"{1e6 * ways[way][size][kind]:,.0f}" for way in ways for kind in ("median", "mean"))]
        for size in next(iter(ways.values()))
    ]
    return common.markdown_table(["float32", *(f"{way}, {kind}" for way in ways for kind in ("median", "mean"))], rows)


def _more_ranks(data: dict[str, Any]) -> str:
    network, rows = Network(), []
    plans: dict[str, Callable[[Any], dict[str, Any]]] = {
        RING: lambda costs: {"algorithm": RING},
        TREE: lambda costs: {"algorithm": TREE},
        "tree, fused": lambda costs: {"algorithm": TREE, "messages": fewest(costs.messages)},
        "tree, fused, half precision": lambda costs: {"algorithm": TREE, "messages": halved(fewest(costs.messages))},
    }
    for label, share in SHARES.items():
        costs = fitted(data, *share.names)
        for plan, options in plans.items():
            cells = [f"{efficiency(costs, ranks, network, **options(costs)):.0%}" for ranks in RANKS[1:]]
            rows.append([label, plan, *cells])
        waits = [step(costs, ranks, network).wait for ranks in RANKS[1:]]
        rows.append([label, "waiting for the slowest", *(f"{1e3 * seconds:.0f} ms" for seconds in waits)])
    return common.markdown_table(["On each rank", "Plan", *(f"{ranks:,}" for ranks in RANKS[1:])], rows)
