"""How well ways to fit the critic do, on the rollout that they see and on those that they do not.

    python benchmarks/critic.py            # measure, write results/critic.json and the tables in docs/benchmarks.md
    python benchmarks/critic.py --table    # the tables only, from the committed results

One policy learns; beside it each way keeps a critic of its own, and fits it to every rollout, with targets
(lambda-returns) from that critic. All see the same data, so that errors can be compared in pairs. After some hundred
updates each is judged by mean squared errors, in units of the scaled returns:

* *rollout*: against its targets, on the rollout that it was fitted to;
* *held out*: against its targets, on the 8 rollouts of the same policy that follow;
* *true returns*: on these, against discounted sums of rewards so long that at most a tenth of the value of the
  state where they end is left, for which the mean of all critics stands. They are noisy, for all alike.

Each is judged once more after one fit that begins at the first way's critic.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import common
import gymnasium as gym
import numpy as np
import torch
from torch import nn
from updates.critics import CriticRollout, Follower
from updates.training import CRITIC_STEPS, LEARNING_RATE, Training, networks

from trpo_ts.critics import CriticFit, GaussNewtonFit, MinibatchFit, OptimizerFit

TASKS, SEEDS, STAGES = ("HalfCheetah-v4", "Walker2d-v4"), (0, 1), (100, 200, 300)
SAMPLES, HELD_OUT, HIDDEN = 1024, 8, (64, 64)
ERRORS = ("rollout", "held_out", "true_returns")
STARTS = ("own", "first")


def fits() -> dict[str, CriticFit]:
    """Return the ways by name; the first is the documented one, with which the others are compared."""
    found: dict[str, CriticFit] = {f"{CRITIC_STEPS} Adam steps": OptimizerFit(CRITIC_STEPS)}
    found["MinibatchFit(10, 128)"] = MinibatchFit(10, 128)
    for (steps, cg_iters), damping in product(((1, 1), (1, 2), (1, 4), (2, 1), (2, 2)), (0.01, 0.1)):
        name = f"GaussNewtonFit(steps={steps}, cg_iters={cg_iters}, damping={damping:g})"
        found[name] = GaussNewtonFit(steps=steps, cg_iters=cg_iters, damping=damping)
    return found


def followers(critic: nn.Module) -> dict[str, Follower]:
    """Return one follower per way, all with the same parameters."""
    found = {}
    for name, fit in fits().items():
        own = copy.deepcopy(critic)
        found[name] = Follower(fit, own, torch.optim.Adam(own.parameters(), lr=LEARNING_RATE))
    return found


def judged(ways: dict[str, Follower], rollout: CriticRollout, held_out: CriticRollout) -> Iterator[dict[str, Any]]:
    """Yield the errors of each way after a fit to the rollout, from its own critic and from the first's."""
    rows, true_returns = held_out.true_returns(ways.values())
    first = next(iter(ways.values()))
    for name, way in ways.items():
        for kind, start in zip(STARTS, (way, first), strict=True):
            targets = rollout.targets(start)
            after = way.learned_from(start, rollout.obs, targets)
            yield {
                "fit": name,
                "start": kind,
                "before": start.error(rollout.obs, targets),
                "rollout": after.error(rollout.obs, targets),
                "held_out": after.error(held_out.obs, held_out.targets(start)),
                "true_returns": after.error(held_out.obs[rows], true_returns),
            }


def run(task: str, seed: int, stages: Sequence[int] = STAGES) -> list[dict[str, Any]]:
    """Train on a task, and return the errors of all ways at all stages, each after so many updates."""
    training = Training(partial(gym.make, task), partial(networks, hidden=HIDDEN), HELD_OUT * SAMPLES, seed=seed)
    ways = followers(training.algorithm.critic)
    found: list[dict[str, Any]] = []
    for updates in range(max(stages) + 1):
        rollout = CriticRollout(training, training.collect(SAMPLES))
        if updates in stages:
            held_out = CriticRollout(training, training.collect(HELD_OUT * SAMPLES))
            found += [
                {"task": task, "seed": seed, "updates": updates, **row} for row in judged(ways, rollout, held_out)
            ]
        for way in ways.values():
            way.learn(rollout.obs, rollout.targets(way))
        training.update(rollout.buffer)
    return found


def table(rows: list[dict[str, Any]], start: str) -> str:
    """Return each way's errors over the first way's: geometric means over stages and seeds."""
    names = list(dict.fromkeys(row["fit"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    chosen = [row for row in rows if row["start"] == start]
    errors = {(row["fit"], row["task"], row["seed"], row["updates"]): row for row in chosen}

    def ratios(name: str, task: str) -> str:
        pairs = [(errors[key], errors[names[0], *key[1:]]) for key in errors if key[:2] == (name, task)]
        means = (np.exp(np.mean([math.log(a[error] / b[error]) for a, b in pairs])) for error in ERRORS)
        return " / ".join(f"{mean:.3f}" for mean in means)

    return common.markdown_table(["fit", *tasks], [[name, *(ratios(name, task) for task in tasks)] for name in names])


if __name__ == "__main__":
    if common.asked_to_measure("Errors of critics on seen and unseen rollouts."):
        common.measure_seeds("critic", run, SEEDS, TASKS)
    for start in STARTS:
        common.write_table(f"critic-{start}", table(common.load("critic")["rows"], start))
