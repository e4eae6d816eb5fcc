"""What may disturb a random training: a failing environment, a damaged checkpoint, a kill, a full disk.

`run` draws a case from its number (see random_trainings.py) and returns what it counted. test_random_trainings.py runs
a few cases; reliability.py runs a thousand and writes the table in docs/reliability.md.
"""

from __future__ import annotations

import builtins
import errno
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_trainings import Case, Fault, bits
from tianshou.data.buffer.buffer_base import MalformedBufferError

from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint
from trpo_ts.checkpoints.checkpoint_files import read_file

COUNTS = {
    "updates": "updates",
    "kills": "kills",
    "kl_violations": "KL violations",
    "non_finite": "non-finite parameters",
    "corrupt": "corrupt checkpoints",
    "changed": "changes by what was refused",
    "unequal": "resumed runs with another end",
    "unseen": "faults not seen",
    "errors": "other errors",
}
MUST_BE_ZERO = tuple(COUNTS)[2:]


def undisturbed(case: Case, rng: np.random.Generator, folder: Path) -> dict[str, int]:
    """Train."""
    trainer, watch = case.build(folder)
    trainer.run()
    return {**_watched(watch), "corrupt": _corrupt(folder)}


def failing_environment(case: Case, rng: np.random.Generator, folder: Path) -> dict[str, int]:
    """Train until an environment gives a number that is not finite, or raises."""
    floats = case.has_float_observations
    fault = Fault(
        str(rng.choice(["exception", "reward", *(["observation"] if floats else [])])),
        float(rng.choice([np.nan, np.inf, -np.inf])),
        int(rng.integers(1, case.epochs * case.collects * case.rollout // case.envs + 1)),
    )
    trainer, watch = case.build(folder, fault)
    unseen = 0
    try:
        trainer.run()
        unseen = 1
    except (ValueError, MalformedBufferError) as error:
        unseen = fault.what == "exception" or not str(error)
    except Exception as error:
        if fault.what != "exception" or type(error).__name__ != "EnvironmentFailedError":
            raise
    changed = bits(dict(trainer.algorithm.state_dict())) != watch.state
    counts = _watched(watch)
    if case.checked and case.normalised and floats:
        statistics = trainer.params.training_collector.env.obs_rms
        counts["non_finite"] += not (np.isfinite(statistics.mean).all() and np.isfinite(statistics.var).all())
    return {**counts, "unseen": int(unseen), "changed": int(changed), "corrupt": _corrupt(folder)}


def damaged_checkpoint(case: Case, rng: np.random.Generator, folder: Path) -> dict[str, int]:
    """Load a checkpoint with flipped, missing, repeated or zeroed bytes, and then the whole one."""
    trainer, watch = case.build(folder)
    trainer.run()
    path = Path(rng.choice(sorted(map(str, folder.glob("update_*.ckpt")))))
    whole = path.read_bytes()
    damaged = bytearray(whole)
    start, length = int(rng.integers(len(whole))), int(rng.integers(1, 200))
    kind = rng.choice(["flipped", "missing", "repeated", "zeroed", "truncated"])
    if kind == "flipped":
        damaged[start] ^= 1 << int(rng.integers(8))
    elif kind == "missing":
        del damaged[start : start + length]
    elif kind == "repeated":
        damaged[start:start] = damaged[start : start + length]
    elif kind == "zeroed":
        damaged[start : start + length] = bytes(len(damaged[start : start + length]))
    else:
        del damaged[start:]
    before = _state(trainer)
    corrupt = 0
    if bytes(damaged) != whole:
        (folder / "damaged").write_bytes(damaged)
        try:
            load_checkpoint(folder / "damaged", algorithm=trainer.algorithm, trainer=trainer)
            corrupt = 1
        except ValueError:
            pass
    changed = _state(trainer) != before
    load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    unequal = bits(dict(trainer.algorithm.state_dict())) != bits(read_file(path)["algorithm"])
    return {**_watched(watch), "corrupt": corrupt, "changed": int(changed), "unequal": int(unequal)}


def killed(case: Case, rng: np.random.Generator, folder: Path) -> dict[str, int]:
    """Kill the process up to three times at random moments, and go on to the end."""
    reference, watch = case.build(folder / "whole")
    start = time.perf_counter()
    reference.run()
    seconds = time.perf_counter() - start
    counts = {**_watched(watch), "kills": 0, "corrupt": 0}
    for _ in range(int(rng.integers(1, 4))):
        child = multiprocessing.get_context("fork").Process(target=lambda: case.build(folder / "killed")[0].run())
        child.start()
        child.join(float(rng.uniform(0.0, 1.2 * seconds)))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            counts["kills"] += 1
        child.join()
        counts["corrupt"] += _corrupt(folder / "killed")
    return _finished(case, folder / "killed", reference, counts)


def full_disk(case: Case, rng: np.random.Generator, folder: Path) -> dict[str, int]:
    """Let a call that writes fail, and go on when there is room again."""
    reference, watch = case.build(folder / "whole")
    reference.run()
    counts = _watched(watch)
    trainer, watch = case.build(folder / "full")
    checkpoints = 1 + case.epochs * case.collects
    try:
        with _no_room(str(rng.choice(["write", "fsync", "replace"])), int(rng.integers(checkpoints))):
            trainer.run()
        raise AssertionError("the disk was not full")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    counts["corrupt"] = _corrupt(folder / "full")
    counts["changed"] = int(any((folder / "full").glob(".*")))
    return _finished(case, folder / "full", reference, counts)


@contextmanager
def _no_room(call: str, after: int) -> Iterator[None]:
    """Let a call that writes a checkpoint fail, after so many that succeeded."""
    originals = {"write": builtins.open, "fsync": os.fsync, "replace": os.replace}
    original, left = originals[call], after

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if call == "write" and not str(args[0]).endswith(".tmp"):
            return original(*args, **kwargs)
        left -= 1
        if left >= 0:
            return original(*args, **kwargs)
        if call == "write":
            with original(*args, **kwargs) as file:
                file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = builtins if call == "write" else os
    name = "open" if call == "write" else call
    setattr(target, name, failing)
    try:
        yield
    finally:
        setattr(target, name, original)


def _finished(case: Case, folder: Path, reference: ResumableTrainer, counts: dict[str, int]) -> dict[str, int]:
    """Run to the end what was stopped, and compare with the run that was not."""
    trainer, watch = case.build(folder)
    trainer.run()
    counts = {name: counts.get(name, 0) + _watched(watch).get(name, 0) for name in {**counts, **_watched(watch)}}
    return {**counts, "unequal": int(_state(trainer) != _state(reference)), "corrupt": counts["corrupt"]}


def _watched(watch: Any) -> dict[str, int]:
    return {"updates": watch.updates, "kl_violations": watch.kl_violations, "non_finite": watch.non_finite}


def _corrupt(folder: Path) -> int:
    """Return how many of the checkpoints in a folder cannot be read."""
    count = 0
    for path in folder.glob("*.ckpt"):
        try:
            read_file(path)
        except ValueError:
            count += 1
    return count


def _state(trainer: ResumableTrainer) -> Any:
    counters = [trainer._epoch, trainer._env_step, trainer._current_update_step, trainer._best_score]
    return bits([dict(trainer.algorithm.state_dict()), counters, torch.get_rng_state()])


KINDS: tuple[tuple[Callable[[Case, np.random.Generator, Path], dict[str, int]], int], ...] = (
    (undisturbed, 10),
    (failing_environment, 4),
    (damaged_checkpoint, 2),
    (killed, 2),
    (full_disk, 2),
)
"""What may happen, and in how many of twenty cases."""


def run(number: int) -> dict[str, Any]:
    """Return the counts of a case."""
    kind = [kind for kind, share in KINDS for _ in range(share)][number % 20]
    folder = Path(tempfile.mkdtemp())
    start = time.perf_counter()
    result: dict[str, Any] = {"case": number, "kind": kind.__name__}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Tianshou warns of small rollouts
            counts = kind(Case(number), np.random.default_rng([number, 1]), folder)
        result.update({name: count for name, count in counts.items() if count})
    except Exception as error:
        result.update(errors=1, error=f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(folder)
    return {**result, "seconds": round(time.perf_counter() - start, 3)}
