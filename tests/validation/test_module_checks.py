"""Embeddings that change while they are evaluated, or have sparse gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rollouts import ACT_DIM, OBS_DIM, Actor, Mlp, make_actor_policy, make_rollout, make_trpo, update
from torch import Tensor, nn


class Embedded(nn.Module):
    """A body that looks up a vector for the sign of its first number."""

    def __init__(self, outputs: int, **options: Any) -> None:
        super().__init__()
        self.table = nn.ModuleDict({"signs": nn.Embedding(2, 4, **options)})
        self.last = nn.Linear(4 + OBS_DIM, outputs)

    def forward(self, obs: Any) -> Tensor:
        x = torch.as_tensor(obs, dtype=torch.float32)
        return self.last(torch.cat([self.table["signs"]((x[:, 0] > 0).long()), x], dim=1))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_norm": 0.5}, r"Embedding layers with max_norm, got .*table.signs with max_norm=0.5: .* leave max_norm out"),
    ({"sparse": True}, r"Embedding layers with sparse=True, got .*table.signs: .* leave sparse out"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_they_are_refused_where_the_learner_is_built(options: dict[str, Any], message: str) -> None:
    policy = make_actor_policy(actor=Actor(Embedded(ACT_DIM, **options), -0.5))
    with pytest.raises(ValueError, match=rf"^policy must not hold {message}"):
        make_trpo(policy, Mlp((OBS_DIM, 1)))
    with pytest.raises(ValueError, match=rf"^critic must not hold {message}"):
        make_trpo(make_actor_policy(), Embedded(1, **options))


def test_bags_are_embeddings() -> None:
    critic = nn.Sequential(nn.EmbeddingBag(2, 4, max_norm=1.0))
    with pytest.raises(ValueError, match=r"^critic must not hold EmbeddingBag layers with max_norm, got 0 "):
        make_trpo(make_actor_policy(), critic)


def test_plain_ones_learn() -> None:
    torch.manual_seed(0)
    policy = make_actor_policy(actor=Actor(Embedded(ACT_DIM), -0.5))
    buffer = make_rollout(policy)
    assert update(make_trpo(policy, Embedded(1)), buffer).accepted == 1.0
