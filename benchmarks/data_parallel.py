"""Data-parallel trainings on the cores of this machine, and a model of what more ranks would take.

    python benchmarks/data_parallel.py                  # measure all (nothing else may run), write results, documents
    python benchmarks/data_parallel.py --only returns   # throughput, reductions or returns alone
    python benchmarks/data_parallel.py --table          # the documents only, from the committed results

Throughput: in-process environments, without tests, one thread for each rank; the sides take turns of a few updates. A
ratio is the median over rounds of the quotient within a round. Returns: whole runs of `trpo-ts train`, under torchrun
with two ranks. docs/distributed.md has the tables, the model and its assumptions.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

sys.path.append(str(common.ROOT / "tests" / "support"))

from rank_pool import RankPool
from scaling.cost_figure import cost_figure
from scaling.scaling_tables import tables
from scaling.turns import reductions_of, turns_of

TASKS = {"HalfCheetah-v4": 200_000, "PointMass1D-v0": 200_000}
"""And the environment steps of whole runs."""

PARTS = ("throughput", "reductions", "returns")


def torchrun(ranks: int, *words: str) -> list[str]:
    """Return the command that starts so many ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*launcher, *words] if ranks > 1 else [sys.executable, *words]


def final_return(task: str, ranks: int, steps: int, seed: int) -> dict[str, Any]:
    """Return the mean return of the episodes that ended in the last quarter of a whole training."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ("-m", "trpo_ts", "train", "--task", task, "--steps", str(steps), "--seed", str(seed))
        subprocess.run(torchrun(ranks, *words, "--test-every", "0", "--out", str(out)), check=True)
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    updates = [record for record in records if record["kind"] == "update"]
    ended = [value for update in updates[-len(updates) // 4 :] for value in update["episode_returns"]]
    last = updates[-1]["env_steps"]
    return {"task": task, "ranks": ranks, "seed": seed, "env_steps": last, "return": statistics.mean(ended)}


def measure_throughput(document: dict[str, Any], seeds: int, rounds: int) -> None:
    """Measure the sides, and save after each task."""
    pool = RankPool(2, method="spawn")
    document["turns"] = []
    for task in TASKS:
        document["turns"] += turns_of(pool, task, range(seeds), rounds)
        common.save("data_parallel", document)
    pool.close()


def measure(parts: list[str], seeds: int, rounds: int) -> None:
    """Measure, and save what is done."""
    document: dict[str, Any] = {**common.load("data_parallel"), "environment": common.environment()}
    if "reductions" in parts:
        pool = RankPool(2, method="spawn")
        document["reductions"] = reductions_of(pool)
        pool.close()
        common.save("data_parallel", document)
    if "throughput" in parts:
        measure_throughput(document, seeds, rounds)
    if "returns" in parts:
        document["runs"] = []
        for seed in range(seeds):
            for task, steps in TASKS.items():
                document["runs"] += [final_return(task, ranks, steps, seed) for ranks in (1, 2)]
                common.save("data_parallel", document)


def write_documents(data: dict[str, Any]) -> None:
    """Write the tables and the image."""
    for name, text in tables(data).items():
        common.write_between_markers(common.ROOT / "docs" / "distributed.md", name, text)
    common.save_image(cost_figure(data), "data_parallel.png")


def main() -> None:
    """Measure unless only the documents are asked for."""
    parser = common.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.table:
        measure(list(arguments.only), arguments.seeds, arguments.rounds)
    write_documents(common.load("data_parallel"))


if __name__ == "__main__":
    main()
