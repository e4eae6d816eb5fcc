"""Learning curves beside the peers: nine MuJoCo tasks, classic control and Box2D.

    python benchmarks/learning.py --jobs 2                       # the runs that results/learning.jsonl lacks
    python benchmarks/learning.py --sides trpo_ts --tasks Hopper-v4
    python benchmarks/learning.py --trial NAME --seeds 1000 1001 --set max_kl=0.02 num_envs=8
    python benchmarks/learning.py --table                        # the documents, from the committed results

Every twentieth of a run, ten test episodes are played with the mean action. Each result is appended when its run ends,
so an interrupted call loses the runs under way only. Seeds from 0 are reported, and never tuned on; a trial (settings
that were tried) takes seeds from 1000 and is appended to results/trials.jsonl.
"""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import common
from curves.learning_documents import aggregate_table, curves_figure, returns_table, trials_table
from curves.protocol import MUJOCO_TASKS, OTHER_TASKS, Plan, recorded
from curves.scores import Runs, by_side

OURS, TIANSHOU, SB3_TRPO, SB3_PPO = "trpo_ts", "Tianshou TRPO", "SB3 TRPO, Zoo", "SB3 PPO, Zoo"
SEEDS = {OURS: 10, SB3_TRPO: 3, TIANSHOU: 3, SB3_PPO: 3}
TASKS = {**MUJOCO_TASKS, **OTHER_TASKS}
FIRST_TRIAL_SEED = 1000
NOT_RUN = "Not run yet."
DOCUMENT = common.ROOT / "docs" / "learning.md"
RESULTS, TRIALS = common.RESULTS / "learning.jsonl", common.RESULTS / "trials.jsonl"


def run(plan: Plan) -> dict[str, Any]:
    """Train by a plan in a process of its own, and return the record."""
    import gymnasium as gym
    import torch

    torch.set_num_threads(1)
    gym.logger.min_level = gym.logger.ERROR
    if plan.side == TIANSHOU:
        from curves.tianshou_example import train
    elif plan.side in (SB3_TRPO, SB3_PPO):
        from curves import zoo

        train = partial(zoo.train, algorithm="TRPO" if plan.side == SB3_TRPO else "PPO")
    else:
        from curves.ours import train
    return recorded(plan, train)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def planned(args: Namespace) -> Iterator[Plan]:
    """Yield the runs that are asked for, seed by seed, so that every task has some wherever it stops."""
    if args.trial:
        for seed, task in product(args.seeds or [FIRST_TRIAL_SEED], args.tasks or MUJOCO_TASKS):
            yield Plan(args.trial, task, seed, args.steps or TASKS[task], dict(args.set))
        return
    for seed, task, side in product(range(max(SEEDS.values())), args.tasks or MUJOCO_TASKS, args.sides):
        if seed < SEEDS[side] and (side != TIANSHOU or task in MUJOCO_TASKS):
            yield Plan(side, task, seed, TASKS[task])


def measure(args: Namespace) -> None:
    """Run what is missing, and append each result."""
    path = TRIALS if args.trial else RESULTS
    done = {(record["side"], record["task"], record["seed"]) for record in read(path)}
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.jobs, max_tasks_per_child=1) as pool:
        jobs = [pool.submit(run, plan) for plan in planned(args) if plan.key not in done]
        for job in as_completed(jobs):
            record = job.result()
            with path.open("a") as file:
                file.write(json.dumps(record) + "\n")
            best, last = max(record["returns"]), record["returns"][-1]
            print(record["side"], record["task"], record["seed"], best, last, record["cpu_seconds"], flush=True)


def write_documents() -> None:
    """Write the tables and the figure of the results so far."""
    runs = by_side(read(RESULTS))
    for name, text in tables(runs, by_side(read(TRIALS))).items():
        common.write_between_markers(DOCUMENT, name, text)
    common.save_image(curves_figure(runs, list(SEEDS), list(MUJOCO_TASKS)), "learning.png")


def tables(runs: Runs, trials: Runs) -> dict[str, str]:
    """Return the tables by the name of their place in the document."""
    others = [task for task in OTHER_TASKS if any(task in of_side for of_side in runs.values())]
    shared = set(runs.get(OURS, ())) & set(runs.get(SB3_TRPO, ()))
    return {
        "learning": returns_table(runs, list(SEEDS), list(MUJOCO_TASKS)),
        "learning-other": returns_table(runs, [OURS, SB3_TRPO, SB3_PPO], others) if others else NOT_RUN,
        "learning-aggregates": aggregate_table(runs, OURS, SB3_TRPO) if shared else NOT_RUN,
        "learning-trials": trials_table(trials, list(MUJOCO_TASKS)),
    }


def setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of ``name=value``, the value as JSON or else as text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    """Run what is missing unless only the documents are asked for."""
    parser = common.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--sides", nargs="+", choices=list(SEEDS), default=list(SEEDS))
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), help="default: the MuJoCo tasks")
    parser.add_argument("--trial", help="name of a trial of settings")
    parser.add_argument("--seeds", nargs="+", type=int, help=f"of a trial, from {FIRST_TRIAL_SEED}")
    parser.add_argument("--steps", type=int, help="of a trial")
    parser.add_argument("--set", nargs="+", type=setting, default=[], metavar="NAME=VALUE", help="settings of a trial")
    args = parser.parse_args()
    if args.seeds and (not args.trial or min(args.seeds) < FIRST_TRIAL_SEED):
        parser.error(f"--seeds is for a --trial, and starts at {FIRST_TRIAL_SEED}")
    if not args.table:
        measure(args)
    if not args.trial:
        write_documents()


if __name__ == "__main__":
    main()
