"""Log-probabilities, divergences and entropies are one for each row, or an error before anything changes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rollouts import make_actor_policy, make_rollout, make_trpo, parameters_of, same, update
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, kl_divergence
from torch.distributions.kl import register_kl

from trpo_ts.solver import trust_region_update


class Vector(Independent):
    """A Gaussian over vectors; subclasses change what shape something has."""

    def __init__(self, loc: Tensor) -> None:
        super().__init__(Normal(loc, torch.ones_like(loc)), 1)


class KeptDimension(Vector):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value).unsqueeze(-1)


class Summed(Vector):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value).sum()


class OneEntropy(Vector):
    def entropy(self) -> Tensor:
        return super().entropy().mean()


class Averaged(Vector):
    pass


class PerComponent(Vector):
    pass


class Sound(Vector):
    def entropy(self) -> Tensor:
        raise NotImplementedError


def _of_bases(p: Vector, q: Vector) -> Tensor:
    return kl_divergence(p.base_dist, q.base_dist)


register_kl(Averaged, Averaged)(lambda p, q: _of_bases(p, q).sum(-1).mean())
register_kl(PerComponent, PerComponent)(_of_bases)

CASES: list[tuple[Callable[[Tensor], Distribution], str, str]] = [
    (KeptDimension, "log_prob", "(32, 1)"),
    (Summed, "log_prob", "()"),
    (OneEntropy, "entropy", "()"),
    (Averaged, "kl_divergence", "()"),
    (PerComponent, "kl_divergence", "(32, 2)"),
]


class Plain(nn.Module):
    def __init__(self, build: Callable[[Tensor], Distribution]) -> None:
        super().__init__()
        self.layer, self.build = nn.Linear(3, 2), build

    def forward(self, obs: Tensor) -> Distribution:
        return self.build(self.layer(obs))


@pytest.mark.parametrize(("build", "name", "shape"), CASES, ids=lambda case: getattr(case, "__name__", str(case)))
def test_another_shape_is_an_error_that_names_it(build: Any, name: str, shape: str):
    torch.manual_seed(0)
    policy, obs = Plain(build), torch.randn(40, 3)
    before = copy.deepcopy(policy)
    words = re.escape(f"whose {name} has one value for each row, shape (32,) for 32 rows, got shape {shape}")
    with pytest.raises(ValueError, match=words):
        trust_region_update(policy, obs, torch.randn(40, 2), torch.randn(40))
    assert all(torch.equal(p, q) for p, q in zip(before.parameters(), policy.parameters(), strict=True))


@pytest.mark.parametrize(("build", "name", "shape"), CASES, ids=lambda case: getattr(case, "__name__", str(case)))
def test_so_it_is_in_an_update_of_the_algorithm(build: Any, name: str, shape: str):
    torch.manual_seed(0)
    policy = make_actor_policy()
    buffer = make_rollout(policy)
    policy.dist_fn = lambda loc_scale: build(loc_scale[0])
    algorithm = make_trpo(policy)
    before = parameters_of(algorithm)
    with pytest.raises(ValueError, match=re.escape(f"whose {name} has one value for each row")):
        update(algorithm, buffer)
    assert same(before, algorithm)


@pytest.mark.parametrize("rows", [1, 40])
def test_a_distribution_without_an_entropy_is_none_the_worse(rows: int):
    torch.manual_seed(0)
    policy, obs = Plain(Sound), torch.randn(rows, 3)
    with torch.no_grad():
        act = policy(obs).sample()
    assert trust_region_update(policy, obs, act, torch.randn(rows)).kl <= 0.01
