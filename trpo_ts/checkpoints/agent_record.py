"""What a checkpoint says of its policy, so that it can be loaded where the training script is unknown."""

from __future__ import annotations

from typing import Any

from tianshou.algorithm.algorithm_base import OnPolicyAlgorithm

from trpo_ts.policies.policy_description import PolicyDescription

__all__ = ["agent_record"]


def agent_record(algorithm: OnPolicyAlgorithm[Any]) -> dict[str, Any]:
    """Return the call that makes the policy, and the task it is trained for.

    ``policy`` is None where the call is not known; ``why_not`` says what stands in the way. ``task`` may be None too.
    """
    description = getattr(algorithm.policy, "description", None)
    if not isinstance(description, PolicyDescription):
        why_not = "its policy was not made by make_policy or make_recurrent_policy"
        return {"policy": None, "why_not": why_not, "task": None}
    policy, why_not = None, None
    try:
        policy = description.record(algorithm.policy)
    except ValueError as error:
        why_not = str(error)
    task = None if description.task is None else description.task.record()
    return {"policy": policy, "why_not": why_not, "task": task}
