"""From a run or a checkpoint to the agent that it holds."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from torch import Tensor

from trpo_ts.agents.agent import Agent
from trpo_ts.checkpoints.agent_record import agent_record
from trpo_ts.checkpoints.checkpoint_files import read_file
from trpo_ts.checkpoints.run_folder import LastCheckpointFolder, RunFolder
from trpo_ts.envs.task_description import TaskDescription
from trpo_ts.envs.tasks import spaces_of_task
from trpo_ts.policies.policy_description import make_described, uncompiled_name
from trpo_ts.presets import Settings
from trpo_ts.runtime import preserved_generators
from trpo_ts.training.job_config import JobConfig
from trpo_ts.training.learner import make_learner
from trpo_ts.training.task_environments import described_task
from trpo_ts.validation.parameter_values import check_instance

__all__ = ["load"]

_PREFIX = "policy."
"""Where the state of an algorithm has its policy."""


def load(
    path: str | os.PathLike[str],
    *,
    policy: ProbabilisticActorPolicy | None = None,
    device: str | torch.device = "cpu",
) -> Agent:
    """Return the agent of a run or a checkpoint, in any process; no code in the file is run.

    >>> agent = load("runs/CartPole-v1/seed_0")  # doctest: +SKIP

    The policy is made again as the checkpoint describes it, which policies of ``make_policy`` and
    ``make_recurrent_policy`` are. Checkpoints of earlier versions are described by the ``config.json`` beside them.

    :param path: the folder of a run, of which ``best.ckpt`` is taken if there were tests, else the newest checkpoint;
        or a checkpoint.
    :param policy: a policy with networks as those that were saved, for a checkpoint that does not describe its own. A
        copy of it gets the parameters.
    :param device: where the policy acts.
    :raises ValueError: for a file that is damaged, no checkpoint, or too new; for a policy that does not fit it; and
        where there is no description and no policy is given. The message says what to do.
    :raises OSError: when the file cannot be read.
    """
    file = _checkpoint(Path(path))
    state = read_file(file)
    if not {"algorithm", "observation_statistics"} <= set(state):
        raise ValueError(f"{file} holds no learner; give a file that save_checkpoint wrote")
    record = state.get("agent") or _record_of_config(file)
    if policy is None:
        policy = _described_policy(file, record, state["algorithm"])
    else:
        fix = "make one with trpo_ts.policies.make_policy, as in the training"
        check_instance("policy", policy, ProbabilisticActorPolicy, fix)
        policy = copy.deepcopy(policy)
    try:
        _set_parameters(policy, state["algorithm"])
        task = None if record["task"] is None else TaskDescription.of(record["task"])
        return Agent(policy.to(device), observation_statistics=state["observation_statistics"], task=task)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} does not fit: {error}") from error


def _checkpoint(path: Path) -> Path:
    """Return the file of a checkpoint, of a folder the best one, or else the newest.

    :raises ValueError: for a folder without any.
    """
    if not path.is_dir():
        return path
    best = RunFolder(path).best
    found = [
        *([best] if best.is_file() else []),
        *LastCheckpointFolder(path).checkpoints(),
        *RunFolder(path).checkpoints(),
    ]
    if not found:
        raise ValueError(
            f"{path} holds no checkpoint (best.ckpt, last.ckpt, update_<n>.ckpt); give the folder of a run, or a file "
            "that save_checkpoint wrote"
        )
    return found[0]


def _described_policy(file: Path, record: Mapping[str, Any], state: Mapping[str, Any]) -> ProbabilisticActorPolicy:
    """Return a new policy as a checkpoint describes it.

    :raises ValueError: where it does not, and where the description does not fit the parameters.
    """
    if record["policy"] is None:
        raise ValueError(
            f"{file} does not say how to make its policy ({record['why_not']}); make the policy as in the training, "
            f"and pass it: trpo_ts.load({str(file)!r}, policy=...)"
        )
    try:
        # Without memory first: a description of another size costs nothing.
        with preserved_generators(), torch.device("meta"):
            _check_parameters(make_described(record["policy"]), state)
        with preserved_generators(), torch.device("cpu"):
            return make_described(record["policy"])
    except Exception as error:  # a damaged description may raise anything
        raise ValueError(f"{file} describes a policy that cannot be made: {error}") from error


def _record_of_config(file: Path) -> dict[str, Any]:
    """Return what the ``config.json`` beside a checkpoint of an earlier version says of its policy."""
    config = file.parent / "config.json"
    if not config.is_file():
        return {"policy": None, "why_not": "it is of an earlier version, and no config.json is beside it", "task": None}
    try:
        values = dict(json.loads(config.read_text(encoding="utf-8")))
        names = {"task", "seed", "preset", "env_backend", *Settings.names()}
        job = JobConfig.from_dict({name: value for name, value in values.items() if name in names})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{config} holds no configuration of a run: {error}") from error
    task = described_task(job)
    spaces = spaces_of_task(task.task, task.env_backend, **task.shaping())
    with preserved_generators():
        return {**agent_record(make_learner(job.settings, *spaces)), "task": task.record()}


def _set_parameters(policy: ProbabilisticActorPolicy, state: Mapping[str, Any]) -> None:
    """Give a policy the parameters of an algorithm's state, in the precision that they have there.

    :raises ValueError: where they do not fit, before any is changed.
    """
    _check_parameters(policy, state)
    own = {uncompiled_name(name): name for name in policy.state_dict()}
    values = {own[name]: value for name, value in _policy_state(state).items() if name in own}
    floating = {value.dtype for value in values.values() if isinstance(value, Tensor) and value.is_floating_point()}
    if len(floating) == 1:
        policy.to(floating.pop())
    policy.load_state_dict(values, strict=False)


def _check_parameters(policy: ProbabilisticActorPolicy, state: Mapping[str, Any]) -> None:
    """Check that a state has the parameters of a policy, in their shapes."""
    here = {uncompiled_name(name): value for name, value in policy.state_dict().items()}
    shapes_here, shapes_there = (
        {name: tuple(value.shape) for name, value in values.items() if isinstance(value, Tensor)}
        for values in (here, _policy_state(state))
    )
    if not shapes_there:
        raise ValueError("the checkpoint holds no policy of its own, as those of several agents do not")
    fix = "make the policy as in the training"
    for name, there in shapes_there.items():
        if name not in shapes_here:
            raise ValueError(f"the checkpoint has the parameter {name}, which the policy has not; {fix}")
        if there != shapes_here[name]:
            raise ValueError(
                f"the policy must have the parameter {name} of shape {there}, as in the checkpoint, got "
                f"{shapes_here[name]}; {fix}"
            )
    for name in shapes_here:
        if name not in shapes_there:
            raise ValueError(f"the policy has the parameter {name}, which the checkpoint has not; {fix}")


def _policy_state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        uncompiled_name(name.removeprefix(_PREFIX)): value for name, value in state.items() if name.startswith(_PREFIX)
    }
