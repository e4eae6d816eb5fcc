r"""The constrained problem that one update solves, as functions of the policy's parameter vector.

.. math::
    \max_\theta \; L(\theta) = \frac{1}{N}\sum_n \frac{\pi_\theta(a_n|s_n)}{\pi_{old}(a_n|s_n)} A_n
    + \beta \frac{1}{N}\sum_n H(\pi_\theta(\cdot|s_n))
    \quad \text{s.t.} \quad \frac{1}{N}\sum_n D_{KL}(\pi_{old}(\cdot|s_n) \| \pi_\theta(\cdot|s_n)) \le \delta

arXiv:1502.05477, equation 12 and section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from trpo_ts.autodiff.flat_parameters import Trace
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import Rows
from trpo_ts.distributions.detached_double import detached_double, exact_log_prob
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.solver.divergence import kl_terms, mean_kl
from trpo_ts.solver.fisher import distribution_parameters_at, fisher_operator, fisher_operator_of_micro_batches
from trpo_ts.solver.line_search import Evaluation
from trpo_ts.solver.linear_operators import LinearOperator
from trpo_ts.solver.policy_gradient import are_independent, gradient_with_products, policy_gradient
from trpo_ts.solver.surrogate import action_std_terms, entropy_terms, surrogate_terms

__all__ = ["Linearisation", "Point", "PolicyProblem"]


@dataclass(frozen=True)
class Point:
    r"""A parameter vector :math:`\theta`, shape ``(P,)``, and what the policy achieves there.

    :param theta: the parameters.
    :param evaluation: objective and KL divergence there.
    :param trace: a forward pass over all rows there with its graph, where there is one; it spares another.
    """

    theta: Tensor
    evaluation: Evaluation
    trace: Trace | None = field(default=None, repr=False)

    def without_graph(self) -> Point:
        """Return the point without its forward pass, which holds much memory."""
        return replace(self, trace=None)


@dataclass(frozen=True)
class Linearisation:
    r"""The problem's local model at a point: :math:`L` to first order, the KL divergence to second order.

    :param theta: the leaf ``(P,)`` of the graphs below.
    :param objective: :math:`L(\theta)`.
    :param gradient: :math:`g = \nabla_\theta L`, shape ``(P,)``.
    :param fisher: :math:`v \mapsto F v`, undamped.
    :param trace: the forward pass over all rows, when it was a single one.
    """

    theta: Tensor
    objective: float
    gradient: Tensor
    fisher: LinearOperator
    trace: Trace | None


class PolicyProblem:
    r"""Objective :math:`L` and KL divergence over one rollout; :meth:`of_rollout` makes one.

    :param policy: maps :math:`\theta`, shape ``(P,)``, and rows to :math:`\pi_\theta(\cdot|s)` for them.
    :param theta_old: the behaviour policy's parameters, shape ``(P,)``.
    :param behaviour: its distributions as constants, for each part of the rows.
    :param act: actions, shape ``(N, ...)``.
    :param adv: advantages :math:`A`, shape ``(N,)``.
    :param ent_coef: the entropy bonus :math:`\beta`, >= 0.
    :param fisher_subsampling: the part of the rows in the Fisher matrix, in ``(0, 1]`` (arXiv:1502.05477, appendix C,
        uses a tenth). They are evenly spaced, so that no random number is drawn.
    """

    def __init__(
        self,
        policy: RowFunction,
        theta_old: Tensor,
        behaviour: Sequence[Distribution],
        *,
        act: Tensor,
        adv: Tensor,
        ent_coef: float = 0.0,
        fisher_subsampling: float = 1.0,
    ) -> None:
        self.policy, self.theta_old = policy, theta_old
        self.act, self.adv, self.ent_coef = act, adv, ent_coef
        self.behaviour, self._fisher_subsampling = behaviour, fisher_subsampling
        parts = zip(behaviour, policy.parts, strict=True)
        with torch.no_grad():
            self.logp_old = torch.cat([exact_log_prob(old, act[rows]) for old, rows in parts])

    @classmethod
    def of_rollout(
        cls,
        policy: RowFunction,
        *,
        act: Tensor,
        adv: Tensor,
        ent_coef: float = 0.0,
        fisher_subsampling: float = 1.0,
    ) -> tuple[PolicyProblem, Point]:
        r"""Return the problem of a rollout that the policy as it is has collected, and the point of that policy.

        Where one pass takes all rows, its distributions are the behaviour policy's, and its graph travels in the
        point: gradient, Fisher products and K-FAC's factors need no other pass.
        """
        theta = policy.parameters.read()
        trace = None
        if _takes_one_pass(policy, fisher_subsampling):
            trace = policy.trace(theta.detach().requires_grad_(True), policy.parts[0])
        with torch.no_grad():
            distributions = [trace.output] if trace else (policy(theta, rows) for rows in policy.parts)
            behaviour = [detached_double(distribution) for distribution in distributions]
        problem = cls(
            policy, theta, behaviour, act=act, adv=adv, ent_coef=ent_coef, fisher_subsampling=fisher_subsampling
        )
        return problem, Point(theta, problem._evaluation_of_behaviour(), trace)

    @property
    def advantages_are_constant(self) -> bool:
        """Whether the advantages prefer no action to another, up to rounding; a single row never does."""
        spread = float(self.adv.max() - self.adv.min())
        return spread <= 4 * torch.finfo(self.adv.dtype).eps * float(self.adv.abs().max())

    def evaluate(self, theta: Tensor) -> Evaluation:
        r"""Return :math:`L(\theta)` and the KL divergence; not finite where the policy's distribution is not."""
        try:
            with torch.no_grad():
                return self._mean(self._terms(theta))
        except (ValueError, LinAlgError):  # distributions raise these for parameters outside of their range
            return Evaluation(float("nan"), float("nan"))

    def linearise(self, point: Point) -> Linearisation:
        """Return the local model at a point; nothing is sampled."""
        if _takes_one_pass(self.policy, self._fisher_subsampling):
            rows = self.policy.parts[0]
            trace = point.trace or self.policy.trace(point.theta.detach().requires_grad_(True), rows)
            with torch.enable_grad():
                return self._linearise_pass(trace, rows)
        return self._linearise_parts(point.theta.detach().requires_grad_(True))

    def _linearise_pass(self, trace: Trace, rows: slice) -> Linearisation:
        theta, distribution = trace.theta, trace.output
        total = self._objective_terms(distribution, distribution.log_prob(self.act[rows]), rows).sum()  # N L
        metric = fisher_metric(distribution)
        fisher: LinearOperator
        if not total.requires_grad:
            gradient, fisher = torch.zeros_like(theta), torch.zeros_like
        elif metric and metric.determine_density and not self.ent_coef and are_independent(metric.outputs):
            gradient, products = gradient_with_products(
                total, metric, theta, distribution_parameters_at(self.policy, rows)
            )
            fisher = products.of_vector
        else:
            gradient = policy_gradient(total, theta, keep_graph=True)
            fisher = fisher_operator(self.policy, theta, rows, distribution)
        return Linearisation(theta, float(total.detach()) / self.count, gradient / self.count, fisher, trace)

    def _linearise_parts(self, theta: Tensor) -> Linearisation:
        objective, gradient = 0.0, torch.zeros_like(theta, requires_grad=False)
        for rows in self.policy.parts:
            with torch.enable_grad():
                distribution = self.policy(theta, rows)
                total = self._objective_terms(distribution, distribution.log_prob(self.act[rows]), rows).sum()
                objective += float(total.detach())
                gradient += policy_gradient(total, theta)
        fisher = fisher_operator_of_micro_batches(self.policy, theta, self._fisher_parts())
        return Linearisation(theta, objective / self.count, gradient / self.count, fisher, None)

    def _fisher_parts(self) -> Sequence[Rows]:
        if self._fisher_subsampling == 1.0:
            return self.policy.parts
        rows, parts = self.policy.spaced(max(1, round(self._fisher_subsampling * self.count)))
        return [rows[part] for part in parts]

    @property
    def count(self) -> int:
        """The number of rows, :math:`N`."""
        return self.policy.count

    def _objective_terms(self, distribution: Distribution, logp: Tensor, rows: slice) -> Tensor:
        terms = surrogate_terms(logp, self.logp_old[rows], self.adv[rows])
        return terms + self.ent_coef * distribution.entropy() if self.ent_coef else terms

    def _terms(self, theta: Tensor) -> Iterator[tuple[Distribution, Tensor, Tensor]]:
        """Yield the policy, the terms of its objective and those of its divergence, for each part of the rows."""
        for behaviour, rows in zip(self.behaviour, self.policy.parts, strict=True):
            distribution = detached_double(self.policy(theta, rows))
            logp = exact_log_prob(distribution, self.act[rows])
            yield distribution, self._objective_terms(distribution, logp, rows), kl_terms(behaviour, distribution)

    def _evaluation_of_behaviour(self) -> Evaluation:
        """Evaluate the behaviour policy, which needs no forward pass: ratios are 1, divergences 0."""
        no_divergence = torch.zeros_like(self.logp_old)
        return self._mean(
            (policy, self._objective_terms(policy, self.logp_old[rows], rows), no_divergence[rows])
            for policy, rows in zip(self.behaviour, self.policy.parts, strict=True)
        )

    def _mean(self, parts: Iterable[tuple[Distribution, Tensor, Tensor]]) -> Evaluation:
        """Return the means over all rows of what :meth:`_terms` yields."""
        sums = [0.0, 0.0, 0.0, 0.0]
        with torch.no_grad():
            for policy, *known in parts:
                terms = (*known, entropy_terms(policy), action_std_terms(policy))
                sums = [
                    total + (math.nan if term is None else float(term.sum()))
                    for total, term in zip(sums, terms, strict=True)
                ]
        objective, entropy, action_std = (sums[i] / self.count for i in (0, 2, 3))
        return Evaluation(
            objective,
            mean_kl(sums[1], self.count),
            entropy if math.isfinite(entropy) else None,
            action_std if math.isfinite(action_std) else None,
        )


def _takes_one_pass(policy: RowFunction, fisher_subsampling: float) -> bool:
    """Whether objective and Fisher matrix are both of all rows, in a single pass."""
    return len(policy.parts) == 1 and fisher_subsampling == 1.0
