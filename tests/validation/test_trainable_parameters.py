"""The parameters that an update may move."""

from __future__ import annotations

import pytest
import torch
from rollouts import make_actor_policy, make_rollout, make_trpo, update


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_with_the_fix(dtype):
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.to(dtype)
    with pytest.raises(ValueError, match=f"must be torch.float32 or torch.float64, got {dtype}.*\\.float\\(\\)"):
        update(make_trpo(policy), buffer)
