"""A step in a loop of one's own: the KL bound in random cases, dense algebra, and what a failed step leaves alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import examples
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    Gamma,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from trpo_ts.solver import KFAC, StepOutcome, trust_region_update

WIDTHS = {"normal": 4, "categorical": 3, "bernoulli": 2, "beta": 4, "gamma": 4, "laplace": 4, "full": 5}


def distribution_of(kind: str, out: Tensor) -> Distribution:
    half = out.shape[-1] // 2
    first, second = out[:, :half], out[:, half:]
    positive = nn.functional.softplus(out) + 0.3
    return {
        "normal": lambda: Independent(Normal(first, second.exp()), 1),
        "categorical": lambda: Categorical(logits=out),
        "bernoulli": lambda: Independent(Bernoulli(logits=out), 1),
        "beta": lambda: Independent(Beta(1 + positive[:, :half], 1 + positive[:, half:]), 1),
        "gamma": lambda: Independent(Gamma(positive[:, :half], positive[:, half:]), 1),
        "laplace": lambda: Independent(Laplace(first, second.exp()), 1),
        "full": lambda: MultivariateNormal(out[:, :2], scale_tril=_factor(out[:, 2:])),
    }[kind]()


def _factor(numbers: Tensor) -> Tensor:
    a, b, c = numbers.unbind(-1)
    zero = torch.zeros_like(a)
    return torch.stack([torch.stack([a.exp(), zero], -1), torch.stack([b, c.exp()], -1)], -2)


class Policy(nn.Module):
    """A network whose kinds of layers and distributions vary."""

    def __init__(self, kind: str, body: str, hidden: int, inputs: int = 3) -> None:
        super().__init__()
        self.kind = kind
        activations: dict[str, Callable[[], nn.Module]] = {
            "tanh": nn.Tanh,
            "relu": nn.ReLU,
            "elu": nn.ELU,
            "norm": lambda: nn.Sequential(nn.LayerNorm(hidden), nn.SiLU()),
            "dropout": lambda: nn.Sequential(nn.Dropout(0.5), nn.Tanh()),
        }
        self.body = nn.Sequential(nn.Linear(inputs, hidden), activations[body]())
        self.head = nn.Linear(hidden, WIDTHS[kind])

    def forward(self, obs: Tensor) -> Distribution:
        return distribution_of(self.kind, self.head(self.body(obs)))


def rollout(policy: nn.Module, rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    obs = torch.randn(rows, 3, dtype=dtype)
    policy.eval()
    with torch.no_grad():
        act = policy(obs).sample()
    policy.train()
    return obs, act, torch.randn(rows, dtype=dtype)


def divergence(before: nn.Module, after: nn.Module, obs: Any) -> float:
    """Return the mean divergence in float64, from the acting modules themselves."""
    before, after = copy.deepcopy(before).double().eval(), copy.deepcopy(after).double().eval()
    with torch.no_grad():
        return float(kl_divergence(before(obs.double()), after(obs.double())).mean())


@given(
    kind=st.sampled_from(sorted(WIDTHS)),
    body=st.sampled_from(["tanh", "relu", "elu", "norm", "dropout"]),
    hidden=st.integers(1, 24),
    rows=st.integers(1, 200),
    seed=st.integers(0, 2**31),
    max_kl=st.sampled_from([1e-4, 1e-3, 0.01, 0.1]),
    micro=st.sampled_from([None, 7, 50]),
    kfac=st.booleans(),
    double=st.booleans(),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
@examples(200, suppress_health_check=list(HealthCheck))
def test_the_bound_holds_in_random_cases(kind, body, hidden, rows, seed, max_kl, micro, kfac, double, scale):
    dtype = torch.float64 if double else torch.float32
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy = Policy(kind, body, hidden).to(dtype)
        obs, act, adv = rollout(policy, rows, dtype)
        before = copy.deepcopy(policy)
        generator = torch.get_rng_state()
        step = trust_region_update(
            policy,
            obs,
            act,
            scale * adv,
            max_kl=max_kl,
            micro_batch_size=micro,
            preconditioner=KFAC() if kfac else None,
        )
        assert torch.equal(torch.get_rng_state(), generator)
    achieved = divergence(before, policy, obs)
    assert step.kl <= max_kl
    # What float32 parameters round is seen from outside, in float64 networks.
    assert achieved <= max_kl * (1.0 if double else 1.02) + (1e-12 if double else 1e-7)
    assert achieved == pytest.approx(step.kl, rel=1e-6 if double else 0.02, abs=1e-12 if double else 1e-6)
    assert all(module.training for module in policy.modules())
    assert step.improvement > 0.0 if step.accepted else _same(before, policy)


def _same(before: nn.Module, after: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["normal", "categorical", "gamma", "full"])
@pytest.mark.parametrize("preconditioner", [None, KFAC(), KFAC(relative_damping=0.0)])
def test_a_step_is_that_of_dense_algebra(kind: str, preconditioner: KFAC | None):
    torch.manual_seed(3)
    policy = Policy(kind, "tanh", 5).double()
    obs, act, adv = rollout(policy, 60, torch.float64)
    names, values = zip(*policy.named_parameters(), strict=True)
    theta = torch.cat([p.detach().flatten() for p in values])

    def at(vector: Tensor) -> Distribution:
        parts = vector.split([p.numel() for p in values])
        shaped = {n: part.view(p.shape) for n, part, p in zip(names, parts, values, strict=True)}
        return torch.func.functional_call(policy, shaped, (obs,))

    old = at(theta)
    gradient = torch.func.grad(lambda v: ((at(v).log_prob(act) - old.log_prob(act)).exp() * adv).mean())(theta)
    hessian = torch.autograd.functional.hessian(lambda v: kl_divergence(old, at(v)).mean(), theta)
    system = hessian + 0.1 * torch.eye(len(theta), dtype=torch.float64)
    x = torch.linalg.solve(system, gradient)
    full = math.sqrt(2 * 0.01 / float(gradient.dot(x))) * x

    step = trust_region_update(
        policy, obs, act, adv, preconditioner=preconditioner, cg_iters=400, cg_tolerance=1e-13, max_kl=0.01
    )
    assert step.accepted
    torch.testing.assert_close(step.direction.gradient, gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(step.end.theta - theta, step.fraction * full, rtol=1e-6, atol=1e-9)
    assert step.kl == pytest.approx(float(kl_divergence(old, at(step.end.theta)).mean()), rel=1e-9)
    objective = float(((at(step.end.theta).log_prob(act) - old.log_prob(act)).exp() * adv).mean() - adv.mean())
    assert step.improvement == pytest.approx(objective, rel=1e-9)


@pytest.mark.parametrize(
    ("adv", "outcome"),
    [(torch.zeros(20), StepOutcome.CONSTANT_ADVANTAGES), (torch.full((20,), 3.0), StepOutcome.CONSTANT_ADVANTAGES)],
)
def test_advantages_without_a_preference_change_nothing(adv: Tensor, outcome: StepOutcome):
    policy = Policy("normal", "tanh", 6)
    obs, act, _ = rollout(policy, 20, torch.float32)
    before = copy.deepcopy(policy)
    step = trust_region_update(policy, obs, act, adv)
    assert step.outcome is outcome
    assert "advantages" in step.outcome.advice
    assert step.kl == step.improvement == step.step_size == 0.0
    assert _same(before, policy)


def test_frozen_parameters_stay_and_the_others_move():
    policy = Policy("categorical", "tanh", 6)
    policy.body[0].weight.requires_grad_(False)
    obs, act, adv = rollout(policy, 50, torch.float32)
    before = copy.deepcopy(policy)
    assert trust_region_update(policy, obs, act, adv).accepted
    assert torch.equal(before.body[0].weight, policy.body[0].weight)
    assert not torch.equal(before.head.weight, policy.head.weight)


class DictPolicy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.policy = Policy("categorical", "tanh", 6)

    def forward(self, obs: dict[str, Any]) -> Distribution:
        return self.policy(obs["own"] + obs["others"][0])


@pytest.mark.parametrize("micro", [None, 9])
def test_nested_observations_are_cut_by_row(micro: int | None):
    torch.manual_seed(1)
    policy = DictPolicy().double()
    twin = copy.deepcopy(policy.policy)
    obs = {"own": torch.randn(40, 3).double(), "others": (torch.randn(40, 3).double(),)}
    act, adv = torch.randint(3, (40,)), torch.randn(40).double()
    step = trust_region_update(policy, obs, act, adv, micro_batch_size=micro)
    other = trust_region_update(twin, obs["own"] + obs["others"][0], act, adv)
    assert step.accepted
    torch.testing.assert_close(step.end.theta, other.end.theta, rtol=1e-9, atol=1e-11)


class Plain(nn.Module):
    """Returns one distribution per component, or no distribution."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.wrap = nn.Linear(3, 2), wrap

    def forward(self, obs: Tensor) -> Any:
        return self.wrap(self.layer(obs))


OBS, ACT, ADV = torch.ones(5, 3), torch.zeros(5, 2), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
JOINT = Plain(lambda out: Independent(Normal(out, 1.0), 1))


@pytest.mark.parametrize(
    ("module", "obs", "act", "adv", "options", "words"),
    [
        (JOINT, OBS, ACT, ADV, {"max_kl": 0.0}, "max_kl must be a number > 0, got 0.0"),
        (JOINT, OBS, ACT, ADV, {"max_kl": math.nan}, "max_kl must be a number > 0, got nan"),
        (JOINT, OBS, ACT, ADV, {"backtrack_coeff": 1.0}, "backtrack_coeff"),
        (JOINT, OBS, ACT, ADV, {"max_backtracks": 0}, "max_backtracks"),
        (JOINT, OBS, ACT, ADV, {"cg_iters": 0}, "cg_iters"),
        (JOINT, OBS, ACT, ADV, {"cg_damping": -1.0}, "cg_damping"),
        (JOINT, OBS, ACT, ADV, {"cg_tolerance": 1.0}, "cg_tolerance"),
        (JOINT, OBS, ACT, ADV, {"preconditioner": "kfac"}, "preconditioner must be a KFAC, got str"),
        (JOINT, OBS, ACT, ADV, {"micro_batch_size": 0}, "micro_batch_size"),
        ("MlpPolicy", OBS, ACT, ADV, {}, "module must be a Module, got str"),
        (JOINT, OBS.numpy(), ACT, ADV, {}, "obs must be a tensor, got ndarray; convert it with torch.as_tensor"),
        (JOINT, {"a": [1]}, ACT, ADV, {}, r"obs\['a'\]\[0\] must be a tensor, got int"),
        (JOINT, OBS[:4], ACT, ADV, {}, r"obs must have 5 rows, one for each of adv, got \(4, 3\)"),
        (JOINT, OBS, ACT[:4], ADV, {}, r"act must have 5 rows, one for each of adv, got \(4, 2\)"),
        (JOINT, OBS, ACT, ADV[:, None], {}, r"adv must have shape \(N,\) with N >= 1, got \(5, 1\)"),
        (JOINT, OBS[:0], ACT[:0], ADV[:0], {}, "adv must have shape"),
        (JOINT, OBS * math.nan, ACT, ADV, {}, "obs must be finite, got .* in row 0"),
        (JOINT, OBS, ACT + math.inf, ADV, {}, "act must be finite, got .* in row 0"),
        (JOINT, OBS, ACT, ADV * torch.tensor([1, 1, math.nan, 1, 1]), {}, "adv must be finite, got nan in row 2"),
        (Plain(lambda out: out), OBS, ACT, ADV, {}, "must return a torch.distributions.Distribution, got Tensor"),
        (Plain(lambda out: Normal(out, 1.0)), OBS, ACT, ADV, {}, "one joint distribution"),
        (JOINT, OBS, torch.zeros(5, 3), ADV, {}, r"actions of shape \(3,\)"),
    ],
)
def test_bad_input_is_named_before_anything_changes(module, obs, act, adv, options, words):
    before = copy.deepcopy(module)
    with pytest.raises(ValueError, match=words):
        trust_region_update(module, obs, act, adv, **options)
    if isinstance(module, nn.Module):
        assert _same(before, module)


def test_an_impossible_action_is_named():
    policy = Plain(lambda out: Categorical(logits=torch.stack([out[:, 0], out[:, 1] - math.inf], -1)))
    with pytest.raises(ValueError, match=r"got 1 with probability 0 in row 3"):
        trust_region_update(policy, OBS, torch.tensor([0, 0, 0, 1, 0]), ADV)
