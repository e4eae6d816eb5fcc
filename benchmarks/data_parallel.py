"""Throughput of one and more ranks, and what a reduction costs: on a quiet machine with a core for each rank.

    python benchmarks/data_parallel.py                       # HalfCheetah-v4 and the point mass, 1 and 2 ranks
    python benchmarks/data_parallel.py --ranks 1 2 4 --steps 200000

Writes results/data_parallel.json: the whole-job throughput that `summary.json` of each run reports, its returns, and
for messages of several sizes the median seconds of an all-reduce.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common

TASKS = ("HalfCheetah-v4", "PointMass1D-v0")
SIZES = (1, 16, 1_000, 10_000, 100_000, 1_000_000)
REPEATS = 200


def torchrun(ranks: int, *words: str) -> list[str]:
    """Return the command that starts so many ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*launcher, *words] if ranks > 1 else [sys.executable, *words]


def train(task: str, ranks: int, steps: int, seed: int) -> dict[str, Any]:
    """Return what a training reports of itself."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = ("-m", "trpo_ts", "train", "--task", task, "--steps", str(steps), "--seed", str(seed))
        subprocess.run(torchrun(ranks, *words, "--test-every", "0", "--out", str(out)), check=True)
        summary = json.loads((out / "summary.json").read_text())
    return {"task": task, "ranks": ranks, "seed": seed, **summary}


def reduce_messages() -> None:
    """Print the median seconds of an all-reduce of each size; each rank runs this."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    medians = {}
    for size in SIZES:
        message, seconds = torch.ones(size), []
        for _ in range(REPEATS):
            start = time.perf_counter()
            dist.all_reduce(message)
            seconds.append(time.perf_counter() - start)
        medians[size] = statistics.median(seconds)
    if dist.get_rank() == 0:
        print(json.dumps(medians))
    dist.destroy_process_group()


def measured_messages(ranks: int) -> dict[str, float]:
    """Return the seconds of an all-reduce by the number of its float32 entries."""
    command = torchrun(ranks, __file__, "--reduce")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and save."""
    parser = common.parser(__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--reduce", action="store_true", help="time reductions on this rank")
    arguments = parser.parse_args()
    if arguments.reduce:
        reduce_messages()
        return
    document: dict[str, Any] = {"environment": common.environment(), "runs": [], "messages": {}}
    for seed in range(arguments.seeds):
        for task in arguments.tasks:
            for ranks in arguments.ranks:  # side by side in time
                document["runs"].append(train(task, ranks, arguments.steps, seed))
                common.save("data_parallel", document)
    for ranks in arguments.ranks:
        if ranks > 1:
            document["messages"][str(ranks)] = measured_messages(ranks)
    common.save("data_parallel", document)


if __name__ == "__main__":
    main()
