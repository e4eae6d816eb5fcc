"""Kill or stop a rank at random moments, restart the job, and compare its end with that of an undisturbed one.

    python benchmarks/rank_failures.py --cases 30

Each case trains PointMass1D-v0 on two ranks under torchrun. Writes results/rank_failures.json: whether the disturbed
job ended by itself within the timeout, left no process behind, left checkpoints that load, and whether the restarted
job ended with the parameters of the undisturbed one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from data_parallel import torchrun

from trpo_ts.checkpoints.checkpoint_files import read_file

STEPS, TIMEOUT, GRACE = 40_000, 10, 90
"""Environment steps; seconds until a rank that does not answer is given up, and that torchrun then has to end all."""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the job, or its rest."""
    words = ("-m", "trpo_ts", "train", "--steps", str(STEPS), "--save-every", "0.5", "--out", str(folder))
    environment = {**os.environ, "TRPO_TS_RANK_TIMEOUT": str(TIMEOUT)}
    return subprocess.Popen(
        torchrun(2, *words), env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def ranks_of(job: subprocess.Popen[bytes]) -> list[int]:
    """Return the processes of the ranks, children of torchrun."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    return [int(child) for child in children]


def living(job: int, ranks: list[int]) -> list[int]:
    """Return the processes that live of torchrun's session and of those of its ranks, each of which leads its own."""
    sessions, found = {job, *ranks}, []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(session) in sessions and state != "Z":
            found.append(int(path.parent.name))
    return found


def learner(folder: Path) -> list[torch.Tensor]:
    """Return the tensors of the last checkpoint's learner."""
    state = read_file(folder / "last.ckpt")["algorithm"]
    return [value for value in state.values() if isinstance(value, torch.Tensor)]


def disturb(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Start the job, hurt a rank once the run has begun, and say how the job ended."""
    job, began = start(folder), time.monotonic()
    while not (folder / "last.ckpt").exists() and job.poll() is None:
        time.sleep(0.1)
    time.sleep(float(rng.uniform(0.0, 4.0)))
    how, rank = str(rng.choice(["SIGKILL", "SIGSTOP"])), int(rng.integers(2))
    found: dict[str, Any] = {"how": how, "rank": rank, "after_seconds": time.monotonic() - began}
    if job.poll() is not None:
        return {**found, "finished_before": True, "hung": False, "orphans": 0}
    ranks = ranks_of(job)
    os.kill(ranks[rank], getattr(signal, how))
    hurt = time.monotonic()
    try:
        _, errors = job.communicate(timeout=TIMEOUT + GRACE)
        found |= {"hung": False, "said": "lost another one" in errors.decode(), "code": job.returncode}
    except subprocess.TimeoutExpired:
        found |= {"hung": True}
    left = living(job.pid, ranks)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return {**found, "orphans": len(left), "seconds_to_end": time.monotonic() - hurt}


def judge(number: int, undisturbed: list[torch.Tensor]) -> dict[str, Any]:
    """Return what a case found."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        found = disturb(out, np.random.default_rng([number, 30]))
        try:
            read_file(out / "last.ckpt")
            found["corrupt"] = False
        except (OSError, ValueError):
            found["corrupt"] = True
        start(out).communicate()
        pairs = zip(learner(out), undisturbed, strict=True)
        found["same_end"] = all(torch.equal(a, b) for a, b in pairs)
    return {"case": number, **found}


def main() -> None:
    """Run the cases that the results lack."""
    parser = common.parser(__doc__)
    parser.add_argument("--cases", type=int, default=30)
    arguments = parser.parse_args()
    cases = common.load("rank_failures").get("cases", [])
    done = {case["case"] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start(out).communicate()
        undisturbed = learner(out)
    for number in sorted(set(range(arguments.cases)) - done):
        cases.append(judge(number, undisturbed))
        print(cases[-1], flush=True)
        common.save("rank_failures", {"environment": common.environment(), "cases": cases})


if __name__ == "__main__":
    main()
