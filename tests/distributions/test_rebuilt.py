"""Distributions of every family in float64, made again from what determines them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, distributions, nn
from torch.distributions import Distribution
from torch.distributions.kl import register_kl
from torch.distributions.utils import lazy_property

from trpo_ts.distributions.detached_double import detached_double

N = 5


def real(*shape: int) -> Tensor:
    return torch.randn(*(shape or (N, 2)))


def positive(*shape: int) -> Tensor:
    return torch.rand(*(shape or (N, 2))) + 0.5


def inside() -> Tensor:
    return torch.rand(N, 2) * 0.8 + 0.1


FAMILIES: dict[str, Callable[[], Distribution]] = {
    "gamma": lambda: distributions.Gamma(positive(), positive()),
    "chi2": lambda: distributions.Chi2(positive()),
    "dirichlet": lambda: distributions.Dirichlet(positive()),
    "exponential": lambda: distributions.Exponential(positive()),
    "poisson": lambda: distributions.Poisson(positive()),
    "binomial by probs": lambda: distributions.Binomial(7, probs=inside()),
    "binomial by logits": lambda: distributions.Binomial(torch.tensor([3.0, 9.0]), logits=real()),
    "negative binomial": lambda: distributions.NegativeBinomial(4, logits=real()),
    "geometric by probs": lambda: distributions.Geometric(probs=inside()),
    "geometric by logits": lambda: distributions.Geometric(logits=real()),
    "one-hot by probs": lambda: distributions.OneHotCategorical(probs=positive()),
    "one-hot by logits": lambda: distributions.OneHotCategorical(logits=real()),
    "straight-through": lambda: distributions.OneHotCategoricalStraightThrough(logits=real()),
    "multinomial": lambda: distributions.Multinomial(6, logits=real()),
    "cauchy": lambda: distributions.Cauchy(real(), positive()),
    "half-cauchy": lambda: distributions.HalfCauchy(positive()),
    "half-normal": lambda: distributions.HalfNormal(positive()),
    "log-normal": lambda: distributions.LogNormal(real(), positive()),
    "logistic-normal": lambda: distributions.LogisticNormal(real(), positive()),
    "gumbel": lambda: distributions.Gumbel(real(), positive()),
    "weibull": lambda: distributions.Weibull(positive(), positive()),
    "pareto": lambda: distributions.Pareto(positive(), positive()),
    "kumaraswamy": lambda: distributions.Kumaraswamy(positive(), positive()),
    "uniform": lambda: distributions.Uniform(real(), real() + 9.0),
    "von mises": lambda: distributions.VonMises(real(), positive()),
    "student": lambda: distributions.StudentT(positive() + 3.0, real(), positive()),
    "fisher-snedecor": lambda: distributions.FisherSnedecor(positive() + 3.0, positive() + 4.0),
    "inverse gamma": lambda: distributions.InverseGamma(positive(), positive()),
    "continuous bernoulli": lambda: distributions.ContinuousBernoulli(logits=real()),
    "continuous bernoulli, limits": lambda: distributions.ContinuousBernoulli(probs=inside(), lims=(0.45, 0.55)),
    "relaxed bernoulli": lambda: distributions.RelaxedBernoulli(torch.tensor(0.7), logits=real()),
    "relaxed one-hot": lambda: distributions.RelaxedOneHotCategorical(torch.tensor(0.7), logits=real()),
    "low rank": lambda: distributions.LowRankMultivariateNormal(real(), real(N, 2, 1), positive()),
    "wishart": lambda: distributions.Wishart(torch.full((N,), 4.0), torch.eye(2).expand(N, 2, 2)),
    "cholesky factors": lambda: distributions.LKJCholesky(3, positive(N)),
    "mixture": lambda: distributions.MixtureSameFamily(
        distributions.Categorical(logits=real()), distributions.Gamma(positive(), positive())
    ),
    "mixture of vectors": lambda: distributions.MixtureSameFamily(
        distributions.Categorical(logits=real()),
        distributions.Independent(distributions.Gumbel(real(N, 2, 3), positive(N, 2, 3)), 1),
    ),
    "independent": lambda: distributions.Independent(distributions.Gamma(positive(), positive()), 1),
    "transformed": lambda: distributions.TransformedDistribution(
        distributions.Gamma(positive(), positive()), [distributions.AffineTransform(1.0, 2.0)]
    ),
    "expanded": lambda: distributions.Gumbel(torch.randn(2), positive(2)).expand([N, 2]),
}


class ByMoments(distributions.Gamma):
    """Its constructor takes other arguments than the parent's."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__((mean / std).square(), mean / std.square())


class Widened(distributions.Normal):
    """Its constructor changes an argument of the parent's, which must not be done twice."""

    def __init__(self, loc: Tensor, scale: Tensor, factor: float) -> None:
        self.factor = factor
        super().__init__(loc, factor * scale)


class Tempered(distributions.Categorical):
    def __init__(self, logits: Tensor, temperature: float) -> None:
        super().__init__(logits=logits / temperature)


class Squashed(distributions.TransformedDistribution):
    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(distributions.Normal(loc, scale), [distributions.TanhTransform(cache_size=1)])


class Triangle(Distribution):
    """The density 2 x / w^2 on [0, w], with a class of its own."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, width: Tensor) -> None:
        self.width = width
        super().__init__(width.shape)

    @lazy_property
    def log_norm(self) -> Tensor:
        return torch.log(2.0 / self.width.square())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.width * torch.rand(*sample_shape, *self.width.shape).sqrt()

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_norm + value.log()


class Joint(Distribution):
    """Holds its parts in a list."""

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, *parts: Distribution) -> None:
        self.parts = list(parts)
        super().__init__(parts[0].batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return torch.stack([part.sample(sample_shape) for part in self.parts], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        return sum(part.log_prob(own) for part, own in zip(self.parts, value.unbind(-1), strict=True))


CLASSES: dict[str, Callable[[], Distribution]] = {
    "other arguments": lambda: ByMoments(positive(), positive()),
    "an argument that is changed": lambda: Widened(real(), positive(), 3.0),
    "another parametrisation": lambda: Tempered(real(), 0.3),
    "a transformed distribution": lambda: Squashed(real(), positive()),
    "a class of its own": lambda: Triangle(positive()),
    "parts in a list": lambda: Joint(distributions.Gamma(positive(), positive()), distributions.Normal(real(), 1.0)),
}


def exact_log_prob(distribution: Distribution, value: Tensor) -> Tensor:
    with torch.no_grad():
        return distribution.log_prob(value)


@pytest.mark.parametrize("name", [*FAMILIES, *CLASSES])
@pytest.mark.filterwarnings("ignore:Singular sample")
def test_every_family_has_its_densities_in_float64(name: str):
    torch.manual_seed(1)
    distribution = (FAMILIES | CLASSES)[name]()
    act = distribution.sample()
    expected = exact_log_prob(distribution, act)
    state = torch.get_rng_state()
    detached = detached_double(distribution)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(detached) is type(distribution)
    assert (detached.batch_shape, detached.event_shape) == (distribution.batch_shape, distribution.event_shape)
    found = exact_log_prob(detached, act.double())
    assert found.dtype is torch.float64
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gamma", "dirichlet", "low rank", "binomial by logits", "a class of its own"])
def test_it_is_computed_in_float64_and_not_only_cast(name: str):
    torch.manual_seed(2)
    distribution = (FAMILIES | CLASSES)[name]()
    act = distribution.sample()
    distribution.log_prob(act)  # fills what is computed on demand, in float32
    wanted = {
        "gamma": lambda d: distributions.Gamma(d.concentration.double(), d.rate.double()),
        "dirichlet": lambda d: distributions.Dirichlet(d.concentration.double()),
        "low rank": lambda d: distributions.LowRankMultivariateNormal(
            d.loc.double(), d.cov_factor.double(), d.cov_diag.double()
        ),
        "binomial by logits": lambda d: distributions.Binomial(d.total_count.double(), logits=d.logits.double()),
        "a class of its own": lambda d: Triangle(d.width.double()),
    }[name](distribution)
    if name == "dirichlet":
        act = torch.full((N, 2), 0.5)
    torch.testing.assert_close(
        detached_double(distribution).log_prob(act.double()), wanted.log_prob(act.double()), rtol=1e-14, atol=1e-14
    )


def test_probabilities_of_zero_stay_zero():
    """The logits that follow from probabilities are cut at the dtype's precision."""
    distribution = distributions.Binomial(2, probs=torch.tensor([0.0, 0.5]))
    assert distribution.logits.isfinite().all()
    assert detached_double(distribution).probs.tolist() == [0.0, 0.5]


def test_it_has_no_graph_and_does_not_follow_the_network():
    concentration = positive().requires_grad_(True)
    detached = detached_double(distributions.Dirichlet(concentration * 1.0))
    before = detached.concentration.clone()
    with torch.no_grad():
        concentration.mul_(2.0)
    assert not detached.concentration.requires_grad
    assert torch.equal(detached.concentration, before)


# --- what stays as it is


class WithNetwork(Triangle):
    """Computes with a network in float32."""

    def __init__(self, width: Tensor) -> None:
        self.net = nn.Linear(2, 2)
        super().__init__(width)

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.0 * self.net(value)


class WithoutSamples(Triangle):
    def sample(self, sample_shape: Any = ()) -> Tensor:
        raise NotImplementedError


class Secretive(distributions.Gumbel):
    """Keeps what determines it where nobody finds it."""

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(torch.zeros_like(loc), scale)
        object.__setattr__(self, "where", lambda: loc)

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)

    def log_prob(self, value: Tensor) -> Tensor:
        if value.dtype is torch.float64:
            raise TypeError("float32 only")
        return super().log_prob(value - self.where())


class OneDivergence(distributions.Gumbel):
    pass


@register_kl(OneDivergence, OneDivergence)
def _in_float32(p: OneDivergence, q: OneDivergence) -> Tensor:
    return (p.loc @ torch.ones(2, 1)).squeeze(-1)


@pytest.mark.parametrize(
    "build",
    [
        lambda: WithNetwork(positive()),
        lambda: WithoutSamples(positive()),
        lambda: Secretive(real(), positive()),
        lambda: OneDivergence(real(), positive()),
    ],
    ids=["a network", "no samples", "no float64", "a divergence in float32"],
)
def test_what_cannot_be_made_again_stays_as_it_is(build: Callable[[], Distribution]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distribution = build()
        assert detached_double(distribution) is distribution


def test_a_distribution_without_densities_says_nothing_of_its_type():
    class Late(distributions.Gumbel):
        pass

    unusable = Late(torch.full((3,), torch.nan), torch.ones(3), validate_args=False)
    assert detached_double(unusable) is unusable
    assert detached_double(Late(torch.zeros(3), torch.ones(3))).loc.dtype is torch.float64
