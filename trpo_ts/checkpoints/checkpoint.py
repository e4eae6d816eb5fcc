"""Save and load a learner, or the whole run that it is part of."""

from __future__ import annotations

import os
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm
from tianshou.env import BaseVectorEnv
from tianshou.trainer import OnPolicyTrainer

from trpo_ts.checkpoints.agent_record import agent_record
from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.checkpoints.collector_state import (
    check_collector_state,
    check_observation_statistics,
    collector_state,
    observation_statistics,
    set_collector_state,
    set_observation_statistics,
)
from trpo_ts.checkpoints.generators import check_generator_states, generator_states, set_generator_states
from trpo_ts.checkpoints.logger_state import check_logger_state, logger_state, set_logger_state
from trpo_ts.checkpoints.packing import pack, unpack
from trpo_ts.checkpoints.progress import check_progress, progress_of, set_progress
from trpo_ts.checkpoints.rank_parts import collectors_of, own_run, reseed, set_memory
from trpo_ts.distributed.ranks_of_process import current_ranks

__all__ = ["learner_state", "load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    algorithm: OnPolicyAlgorithm[Any],
    envs: BaseVectorEnv | None = None,
    trainer: OnPolicyTrainer | None = None,
    steps_in_epoch: int | None = None,
    others: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write a checkpoint so that the file is either whole or as it was.

    It always holds the algorithm's ``state_dict()``, and what :func:`trpo_ts.load` makes its policy again from where
    that is known; with environments, also the running statistics of a
    ``VectorEnvNormObs`` around them, without which the networks are of no use; with a trainer, also its counters and
    best score, its collectors with the episodes that run in them, and the random generators.

    :param path: the file; missing folders are made.
    :param algorithm: the algorithm.
    :param envs: the training environments; None takes those of the trainer, if there is one.
    :param trainer: the trainer, between two epochs; :class:`trpo_ts.checkpoints.ResumableTrainer` also saves within.
    :param steps_in_epoch: see :func:`trpo_ts.checkpoints.progress.progress_of`.
    :param others: the parts of the other ranks, see :func:`trpo_ts.checkpoints.rank_parts.parts_of_others`.
    :return: the path written.
    :raises ValueError: when a part cannot be written down; the file is as it was.
    :raises OSError: when the file cannot be written; it is as it was.
    """
    envs = _environments(envs, trainer)
    return write_file(path, _state(algorithm, envs, trainer, steps_in_epoch, others))


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    algorithm: OnPolicyAlgorithm[Any],
    envs: BaseVectorEnv | None = None,
    trainer: OnPolicyTrainer | None = None,
    ignore_observation_statistics: bool = False,
) -> dict[str, Any]:
    """Set all that is given to what it was when :func:`save_checkpoint` wrote the file; no code in it is run.

    Without a trainer the learner is loaded and the random generators stay. Environments that could not be written
    down (see :func:`trpo_ts.checkpoints.environments.environment_state`) begin new episodes, from seeds that
    depend on the checkpoint.

    :param path: the file.
    :param algorithm: an algorithm with networks and optimiser as those that were saved.
    :param envs: environments whose ``VectorEnvNormObs`` gets the observation statistics; None takes those of the
        trainer, if there is one.
    :param trainer: a trainer with collectors as those that were saved; its run continues in this process.
    :param ignore_observation_statistics: whether the statistics in the file are left out. The networks were trained on
        observations that were normalised by them.
    :return: what the trainer itself does not hold: ``steps_in_epoch``, and ``begins_anew``, which says why of all that
        does, as the episodes of a collector may; empty without a trainer.
    :raises ValueError: when the file is damaged, no checkpoint, too new, or does not fit, and when it has observation
        statistics and there are no environments for them; all is as it was.
    :raises OSError: when the file cannot be read.
    """
    name, state = os.fspath(path), read_file(path)
    if not {"algorithm", "observation_statistics"} <= set(state):
        raise ValueError(f"{name} holds no learner; give a file that save_checkpoint wrote")
    if trainer is not None and "run" not in state:
        raise ValueError(f"{name} holds a learner and no run to resume; load it without trainer")
    envs = _environments(envs, trainer)
    if envs is None and state["observation_statistics"] and not ignore_observation_statistics:
        raise ValueError(
            f"envs must be given, because {name} has the observation statistics with which its networks were trained; "
            "pass envs=..., with VectorEnvNormObs around them, or ignore_observation_statistics=True"
        )
    envs_of_statistics = None if ignore_observation_statistics else envs
    before = None
    try:
        if trainer is not None:
            state["run"] = own_run(state["run"], trainer, current_ranks())
        _check(state, envs_of_statistics, trainer)
        before = unpack(pack(_state(algorithm, envs, trainer)))
        begins_anew = _set(state, algorithm, envs_of_statistics, trainer)
    except Exception as error:
        if before is not None:
            _set(before, algorithm, envs, trainer)
        raise ValueError(f"{name} does not fit what it is loaded into: {error}") from error
    if trainer is None:
        return {}
    return {"steps_in_epoch": state["run"]["progress"]["steps_in_epoch"], "begins_anew": begins_anew}


def learner_state(algorithm: OnPolicyAlgorithm[Any], envs: BaseVectorEnv | None) -> dict[str, Any]:
    """Return the part of a checkpoint that does not depend on a trainer."""
    state = algorithm.state_dict()
    return {
        "algorithm": dict(state),
        # The versions of modules, by which they read what earlier ones of them wrote.
        "algorithm_metadata": dict(getattr(state, "_metadata", {})),
        "observation_statistics": [] if envs is None else observation_statistics(envs),
        "agent": agent_record(algorithm),
    }


def _state(
    algorithm: OnPolicyAlgorithm[Any],
    envs: BaseVectorEnv | None,
    trainer: OnPolicyTrainer | None,
    steps_in_epoch: int | None = None,
    others: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    state = learner_state(algorithm, envs)
    if trainer is not None:
        state["run"] = {
            "progress": progress_of(trainer, steps_in_epoch),
            "collectors": {name: collector_state(collector) for name, collector in collectors_of(trainer).items()},
            "generators": generator_states(),
            "logger": logger_state(trainer),
            **({"ranks": list(others)} if others else {}),
        }
    return state


def _check(state: dict[str, Any], envs: BaseVectorEnv | None, trainer: OnPolicyTrainer | None) -> None:
    if envs is not None:
        check_observation_statistics(envs, state["observation_statistics"])
    if trainer is None:
        return
    run = state["run"]
    check_progress(run["progress"])
    check_generator_states(run["generators"])
    check_logger_state(trainer, run.get("logger"))
    for name, collector in collectors_of(trainer).items():
        if name not in run["collectors"]:
            raise ValueError(f"the run was saved without a {name} collector")
        check_collector_state(collector, run["collectors"][name])


def _set(
    state: dict[str, Any],
    algorithm: OnPolicyAlgorithm[Any],
    envs: BaseVectorEnv | None,
    trainer: OnPolicyTrainer | None,
) -> dict[str, str]:
    """Set what is given, and return why something begins anew, by its name."""
    algorithm.load_state_dict(_state_dict(state))
    if envs is not None:
        set_observation_statistics(envs, state["observation_statistics"])
    if trainer is None:
        return {}
    run, rank = state["run"], current_ranks().rank
    set_memory(algorithm, run)
    set_progress(trainer, run["progress"])
    begins_anew = {}
    if set_logger_state(trainer, run.get("logger")):
        begins_anew["records"] = "the run was saved without any"
    entropy = zlib.crc32(run["generators"]["torch"].numpy().tobytes())
    for index, (name, collector) in enumerate(collectors_of(trainer).items()):
        why = set_collector_state(collector, run["collectors"][name], (entropy, index, *([rank] if rank else [])))
        if why is not None:
            begins_anew[f"{name} episodes"] = why
    set_generator_states(run["generators"])  # last, because the reset of an environment may draw from them
    if rank and begins_anew:
        reseed((entropy, rank))
    return begins_anew


def _state_dict(state: dict[str, Any]) -> OrderedDict[str, Any]:
    """Return an algorithm's state as torch gives it, with the versions of its modules where they were saved."""
    state_dict = OrderedDict(state["algorithm"])
    if "algorithm_metadata" in state:
        vars(state_dict)["_metadata"] = OrderedDict(state["algorithm_metadata"])
    return state_dict


def _environments(envs: BaseVectorEnv | None, trainer: OnPolicyTrainer | None) -> BaseVectorEnv | None:
    if envs is not None or trainer is None:
        return envs
    return trainer.params.training_collector.env
