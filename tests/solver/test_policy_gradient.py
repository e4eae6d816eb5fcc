"""The gradient that the Fisher products' pass gives is that of the objective, however the outputs are made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace, Normal

from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.solver.policy_gradient import are_independent
from trpo_ts.solver.problem import PolicyProblem


def _chunk(out: Tensor) -> tuple[Tensor, Tensor]:
    mean, scale = out.chunk(2, -1)
    return mean, 0.2 + F.softplus(scale)


def _slices(out: Tensor) -> tuple[Tensor, Tensor]:
    return out[:, :2], 0.2 + F.softplus(out[:, 2:])


def _unbind(out: Tensor) -> tuple[Tensor, Tensor]:
    mean, scale = out.reshape(-1, 2, 2).unbind(1)
    return mean, scale.exp()


def _scale_of_mean(out: Tensor) -> tuple[Tensor, Tensor]:
    mean = out[:, :2].tanh()
    return mean, 2.5 + mean


def _mean_of_scale(out: Tensor) -> tuple[Tensor, Tensor]:
    scale = out[:, 2:].exp()
    return scale.log() * out[:, :2], scale


MADE = {f.__name__[1:]: f for f in (_chunk, _slices, _unbind, _scale_of_mean, _mean_of_scale)}


class Policy(nn.Module):
    def __init__(self, made: Callable[[Tensor], tuple[Tensor, Tensor]], family: type[Distribution]) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
        self.made, self.family = made, family

    def forward(self, obs: Tensor) -> Distribution:
        return Independent(self.family(*self.made(self.net(obs))), 1)


@pytest.mark.parametrize("family", [Normal, Laplace])
@pytest.mark.parametrize("made", MADE)
def test_gradient_and_products_are_those_of_plain_differentiation(made: str, family: type[Distribution]):
    torch.manual_seed(0)
    policy = Policy(MADE[made], family).double()
    obs, act, adv = torch.randn(30, 3).double(), torch.randn(30, 2).double(), torch.randn(30).double()
    function = RowFunction(policy, lambda rows: (obs[rows],), 30)
    problem, start = PolicyProblem.of_rollout(function, act=act, adv=adv)
    linearisation = problem.linearise(start)
    logp = policy(obs).log_prob(act)
    expected = torch.autograd.grad(((logp - logp.detach()).exp() * adv).mean(), list(policy.parameters()))
    torch.testing.assert_close(
        linearisation.gradient, torch.cat([g.flatten() for g in expected]), rtol=1e-10, atol=1e-12
    )

    parts = RowFunction(policy, lambda rows: (obs[rows],), 30, micro_batch_size=11)
    other, begin = PolicyProblem.of_rollout(parts, act=act, adv=adv)
    cut, v = other.linearise(begin), torch.randn(len(linearisation.gradient)).double()
    torch.testing.assert_close(linearisation.gradient, cut.gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(linearisation.fisher(v), cut.fisher(v), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("made", MADE)
def test_outputs_that_depend_on_each_other_are_found(made: str):
    out = torch.randn(4, 4, requires_grad=True) * 1.0
    assert are_independent(MADE[made](out)) is (made == "slices")  # parts of one chunk share its node
