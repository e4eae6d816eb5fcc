"""The policies of make_recurrent_policy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rollouts import BOX, DISCRETE, OBS_DIM, OBSERVATIONS
from sequenced import CELLS
from tianshou.data import Batch

from trpo_ts.critics import make_recurrent_critic
from trpo_ts.policies import make_recurrent_policy


@pytest.mark.parametrize("action_space", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("cell", CELLS)
def test_factory_builds_policies_that_remember_and_start_alike_everywhere(cell: str, action_space: Any) -> None:
    policy = make_recurrent_policy(OBSERVATIONS, action_space, cell=cell, hidden_size=8)
    obs = torch.randn(5, OBS_DIM)
    first = policy(Batch(obs=obs, info={}))
    again = policy(Batch(obs=obs, info={}), first.state)
    assert torch.equal(first.state.before, torch.zeros_like(first.state.before))
    assert torch.equal(again.state.before, first.state.after)
    assert not torch.allclose(again.state.after, first.state.after)
    mean = first.dist.probs if action_space is DISCRETE else first.dist.mean
    assert (mean - mean.mean(dim=0)).abs().max() < 0.02
    assert policy.observation_space is OBSERVATIONS


def test_factory_passes_the_policys_options_on() -> None:
    policy = make_recurrent_policy(OBSERVATIONS, BOX, initial_std=0.3, deterministic_eval=False)
    result = policy(Batch(obs=torch.zeros(1, OBS_DIM), info={}))
    torch.testing.assert_close(result.dist.stddev, torch.full((1, 2), 0.3))
    assert not policy.deterministic_eval


@pytest.mark.parametrize(
    "make",
    [lambda **o: make_recurrent_policy(OBSERVATIONS, BOX, **o), lambda **o: make_recurrent_critic(OBSERVATIONS, **o)],
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "rnn"}, r"cell must be one of 'gru', 'lstm', got 'rnn'"),
        ({"hidden_size": 0}, r"hidden_size must be an integer >= 1, got 0"),
        ({"encoder_sizes": ()}, r"encoder_sizes must be a sequence of at least one width, got \(\)"),
    ],
)
def test_factories_name_what_is_wrong(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
