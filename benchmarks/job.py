"""Whole trainings, side by side with the TRPO of Tianshou and of SB3-contrib: environment steps per second.

    python benchmarks/job.py                     # measure all (nothing else may run), write results and documents
    python benchmarks/job.py --only HalfCheetah-v4 growth
    python benchmarks/job.py --table             # the documents only, from the committed results

One torch thread. The sides take turns of a few updates each, through the public call that a user would make:
``run_training`` for Tianshou's algorithms, ``learn`` for SB3's. A ratio is the median over rounds of the quotient
within a round. docs/benchmarks.md says what differs.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import common
import gymnasium as gym
import torch
from jobs.cases import CASES, GROWTH_ENVS, GROWTH_SIDES, GROWTH_STEPS, GROWTH_TASK, Case
from jobs.documents import growth_figure, jobs_figure, summary, tables
from jobs.sides import side_of
from jobs.simulators import simulator

WARM_UP = 1


def compare(case: Case) -> dict[str, Any]:
    """Return the seconds of each side's turns, and where they went."""
    sides = {name: side_of(name, case) for name in case.sides}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    alone = {name: simulator(name, case) for name in case.simulators}
    simulators: dict[str, list[float]] = {name: [] for name in alone}
    steps = case.updates_per_turn * case.envs * case.segment
    for number in range(WARM_UP + case.rounds):
        for name, side in sides.items():
            seconds = side.train(steps)
            if number >= WARM_UP:
                turns[name].append(seconds)
        # In turn with the sides: the machine's speed drifts.
        for name, step in alone.items():
            seconds_alone = [step() for _ in range(case.updates_per_turn)]
            if number >= WARM_UP:
                simulators[name].append(sum(seconds_alone) / len(seconds_alone))
    for side in sides.values():
        side.close()
    return {**case.as_dict(), "steps_per_turn": steps, "turns": turns, "simulators": simulators}


def grow() -> list[dict[str, Any]]:
    """Return the steps per second of some sides by the number of environments."""
    points = []
    for envs in GROWTH_ENVS:
        case = Case(GROWTH_TASK, envs, max(1, GROWTH_STEPS // envs), GROWTH_SIDES, (), updates_per_turn=1, rounds=3)
        found = compare(case)
        rates = {
            name: found["steps_per_turn"] / statistics.median(turn["seconds"] for turn in turns)
            for name, turns in found["turns"].items()
        }
        points.append({"envs": envs, "segment": case.segment, "steps_per_second": rates})
        print(points[-1], flush=True)
    return points


def measure(parts: Sequence[str]) -> None:
    """Measure, and write each part to the results as it is done."""
    data: dict[str, Any] = common.load("job")
    for case in CASES:
        if case.name in parts or case.task in parts:
            found = {"environment": common.environment(), **compare(case)}
            data.setdefault("cases", {})[case.name] = found
            common.save("job", data)
            print(case.name, "done", flush=True)
    if "growth" in parts:
        data["growth"] = {"environment": common.environment(), "task": GROWTH_TASK, "points": grow()}
        common.save("job", data)


def write_documents(data: dict[str, Any]) -> None:
    """Write the tables and the images."""
    for name, text in tables(data).items():
        common.write_between_markers(common.ROOT / "docs" / "benchmarks.md", name, text)
    common.write_between_markers(common.ROOT / "README.md", "job", summary(data))
    common.save_image(jobs_figure(data), "job.png")
    if "growth" in data:
        common.save_image(growth_figure(data["growth"]), "job_growth.png")


def main() -> None:
    """Measure unless only the documents are asked for."""
    parser = common.parser(__doc__)
    names = [case.name for case in CASES] + sorted({case.task for case in CASES}) + ["growth"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="the parts to measure")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    gym.logger.min_level = gym.logger.ERROR
    if not args.table:
        measure(args.only)
    write_documents(common.load("job"))


if __name__ == "__main__":
    main()
