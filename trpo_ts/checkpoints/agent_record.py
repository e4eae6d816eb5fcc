"""What a checkpoint says of its policy, so that it can be loaded where the training script is unknown."""

from __future__ import annotations

from typing import Any

from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm

from trpo_ts.policies.policy_description import description_of

__all__ = ["agent_record"]


def agent_record(algorithm: OnPolicyAlgorithm[Any]) -> dict[str, Any]:
    """Return the call that makes the policy, and the task it is trained for.

    ``policy`` is None where the call is not known; ``why_not`` says why. ``task`` may be None too.
    """
    description = description_of(algorithm.policy)
    if description is None:
        why_not = "its policy was not made by make_policy or make_recurrent_policy"
        return {"policy": None, "why_not": why_not, "task": None}
    task = None if description.task is None else description.task.record()
    try:
        return {"policy": description.record(algorithm.policy), "why_not": None, "task": task}
    except ValueError as error:
        return {"policy": None, "why_not": str(error), "task": task}
