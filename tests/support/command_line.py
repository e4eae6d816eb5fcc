"""The command line in this process and in others, and what it leaves behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from repository import ROOT

from trpo_ts.checkpoints.checkpoint_files import read_file
from trpo_ts.cli.main import main

__all__ = ["fork", "metrics", "parameters", "start", "start_python", "succeeds", "train", "wait_for"]

_TINY = ["--num-envs", "2", "--segment", "16", "--hidden-sizes", "8", "--test-episodes", "2"]


def succeeds(*words: object) -> None:
    """Run a command line in this process."""
    assert main([str(word) for word in words]) == 0


def train(out: Path, *words: object, steps: int = 128, test_every: int = 64) -> None:
    """Train a tiny policy for a few updates of 32 steps."""
    succeeds("train", "--out", out, "--steps", steps, "--test-every", test_every, *_TINY, *words)


def start(*words: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a command line in a process of its own, in the present folder or another one."""
    return start_python("-m", "trpo_ts", *words, cwd=cwd)


def start_python(*words: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start Python with these words; it knows the package and the modules for tests."""
    paths = [str(ROOT), str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def fork(*words: object) -> Any:
    """Run a command line in a copy of this process, which needs no time to start."""
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(main([str(word) for word in words])))
    process.start()
    return process


def wait_for(process: Any, folder: Path, updates: int) -> None:
    """Wait until a run has so many updates and a checkpoint."""
    deadline = time.monotonic() + 300.0  # for the start of interpreters on a machine that does other work too
    while not ((folder / "last.ckpt").exists() and len(metrics(folder, "update")) >= updates):
        over = process.poll() if isinstance(process, subprocess.Popen) else process.exitcode
        assert over is None, f"the run has ended with code {over}"
        if time.monotonic() > deadline:
            pytest.fail("the run did not begin")
        time.sleep(0.01)


def metrics(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Return the whole lines of a run's metrics, without what a clock measured."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    records = [json.loads(line) for line in lines]
    for record in records:
        for name in ("train_time", "collect_time"):
            record.pop(name, None)
    return [record for record in records if kind in (None, record["kind"])]


def parameters(path: Path) -> dict[str, Any]:
    """Return the bytes of the tensors in a checkpoint's algorithm."""
    state = read_file(path)["algorithm"]
    return {name: value.numpy().tobytes() for name, value in state.items() if isinstance(value, torch.Tensor)}
