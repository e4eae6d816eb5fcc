r"""The constrained problem that one update solves, as functions of the policy's parameter vector.

.. math::
    \max_\theta \; L(\theta) = \frac{1}{N}\sum_n \frac{\pi_\theta(a_n|s_n)}{\pi_{old}(a_n|s_n)} A_n
    + \beta \frac{1}{N}\sum_n H(\pi_\theta(\cdot|s_n))
    \quad \text{s.t.} \quad \frac{1}{N}\sum_n D_{KL}(\pi_{old}(\cdot|s_n) \| \pi_\theta(\cdot|s_n)) \le \delta

arXiv:1502.05477, equation 12 and section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from trpo_ts.autodiff.flat_parameters import ForwardPass
from trpo_ts.autodiff.ranks import Shard
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import Rows
from trpo_ts.distributions.detached_double import detached_double, exact_log_prob
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.solver.divergence import kl_terms, mean_kl
from trpo_ts.solver.fisher import distribution_parameters_at, fisher_operator, fisher_operator_of_micro_batches
from trpo_ts.solver.line_search import Evaluation
from trpo_ts.solver.linear_operators import LinearOperator, mean_over_ranks
from trpo_ts.solver.policy_gradient import are_independent, gradient_with_products, policy_gradient
from trpo_ts.solver.surrogate import action_std_terms, entropy_terms, surrogate_terms

__all__ = ["Linearisation", "Point", "PolicyProblem"]


@dataclass(frozen=True)
class Point:
    r"""A parameter vector :math:`\theta`, shape ``(P,)``, and what the policy achieves there.

    :param theta: the parameters.
    :param evaluation: objective and KL divergence there.
    :param forward_pass: one over all rows there with its graph, where there is one; it spares another.
    """

    theta: Tensor
    evaluation: Evaluation
    forward_pass: ForwardPass | None = field(default=None, repr=False)

    def without_graph(self) -> Point:
        """Return the point without its forward pass, which holds much memory."""
        return replace(self, forward_pass=None)


@dataclass(frozen=True)
class Linearisation:
    r"""The problem linearised at a point: :math:`L` to first order, the KL divergence to second order.

    :param theta: the leaf ``(P,)`` of the graphs below.
    :param objective: :math:`L(\theta)`.
    :param gradient: :math:`g = \nabla_\theta L`, shape ``(P,)``.
    :param fisher: :math:`v \mapsto F v`, undamped.
    :param forward_pass: the one over all rows, when it was a single one.
    """

    theta: Tensor
    objective: float
    gradient: Tensor
    fisher: LinearOperator
    forward_pass: ForwardPass | None


class PolicyProblem:
    r"""Objective :math:`L` and KL divergence over one rollout; :meth:`of_rollout` makes one.

    :param policy_function: maps :math:`\theta`, shape ``(P,)``, and rows :math:`n` to the action distributions
        :math:`\pi_\theta(\cdot|s_n)`.
    :param theta_old: :math:`\theta_{old}`, the behaviour policy's parameters, shape ``(P,)``.
    :param behaviour: the behaviour policy's distributions :math:`\pi_{old}(\cdot|s_n)`, detached and in float64, for
        each micro-batch of the rows.
    :param act: actions, shape ``(N, ...)``.
    :param adv: advantages :math:`A`, shape ``(N,)``.
    :param ent_coef: the entropy bonus :math:`\beta`, >= 0.
    :param fisher_subsampling: the share of the rows in the Fisher matrix, in ``(0, 1]`` (arXiv:1502.05477, appendix C,
        uses a tenth). They are evenly spaced, so that no random number is drawn.
    """

    def __init__(
        self,
        policy_function: RowFunction,
        theta_old: Tensor,
        behaviour: Sequence[Distribution],
        *,
        act: Tensor,
        adv: Tensor,
        ent_coef: float = 0.0,
        fisher_subsampling: float = 1.0,
    ) -> None:
        self.policy_function, self.theta_old = policy_function, theta_old
        self.act, self.adv, self.ent_coef = act, adv, ent_coef
        self.behaviour, self._fisher_subsampling = behaviour, fisher_subsampling
        self.advantages_are_constant = False
        """Whether they prefer no action to another, up to rounding; a single row never does."""
        pairs = zip(behaviour, policy_function.micro_batches, strict=True)
        with torch.no_grad():
            self.logp_old = torch.cat([exact_log_prob(distribution, act[rows]) for distribution, rows in pairs])

    @classmethod
    def of_rollout(
        cls,
        policy_function: RowFunction,
        *,
        act: Tensor,
        adv: Tensor,
        ent_coef: float = 0.0,
        fisher_subsampling: float = 1.0,
        check: Callable[[Distribution, Tensor], None] | None = None,
    ) -> tuple[PolicyProblem, Point]:
        r"""Return the problem of a rollout, and the behaviour policy's point: the function's present parameters.

        Where one pass takes all rows, its distributions are the behaviour policy's, and its graph travels in the
        point: gradient, Fisher products and K-FAC's factors need no other pass. One reduction.

        :param check: is called with the behaviour's distributions for the first micro-batch and the actions there,
            before the ranks meet.
        """
        theta_old = policy_function.parameters.read()
        micro_batches, forward_pass = policy_function.micro_batches, None
        if _takes_one_pass(policy_function, fisher_subsampling):
            forward_pass = policy_function.forward_pass(theta_old.detach().requires_grad_(True), micro_batches[0])
        with torch.no_grad():
            distributions = (
                [forward_pass.value] if forward_pass else (policy_function(theta_old, rows) for rows in micro_batches)
            )
            behaviour = [detached_double(distribution) for distribution in distributions]
        if check is not None:
            check(behaviour[0], act[micro_batches[0]])
        problem = cls(
            policy_function,
            theta_old,
            behaviour,
            act=act,
            adv=adv,
            ent_coef=ent_coef,
            fisher_subsampling=fisher_subsampling,
        )
        return problem, Point(theta_old, problem._evaluation_of_behaviour(), forward_pass)

    def evaluate(self, theta: Tensor) -> Evaluation:
        r"""Return :math:`L(\theta)` and the KL divergence; not finite where the policy's distribution is not."""
        try:
            with torch.no_grad():
                sums = self._sums(self._terms(theta))
        except (ValueError, LinAlgError):  # distributions raise these for parameters outside of their range
            sums = [math.nan] * 4
        return self._mean(self._shard.sums(sums))

    def linearise(self, point: Point) -> Linearisation:
        """Return gradient and Fisher products at a point; nothing is sampled."""
        leaf = point.theta.detach().requires_grad_(True)
        if _takes_one_pass(self.policy_function, self._fisher_subsampling):
            rows = self.policy_function.micro_batches[0]
            forward_pass = point.forward_pass or self.policy_function.forward_pass(leaf, rows)
            with torch.enable_grad():
                return self._linearise_pass(forward_pass, rows)
        return self._linearise_micro_batches(leaf)

    def _linearise_pass(self, forward_pass: ForwardPass, rows: slice) -> Linearisation:
        theta, distribution = forward_pass.theta, forward_pass.value
        total = self._objective_terms(distribution, distribution.log_prob(self.act[rows]), rows).sum()  # N L
        metric = fisher_metric(distribution)
        fisher: LinearOperator
        if not total.requires_grad:
            gradient, fisher = torch.zeros_like(theta), torch.zeros_like
        elif metric and metric.determine_density and not self.ent_coef and are_independent(metric.outputs):
            gradient, products = gradient_with_products(
                total, metric, theta, distribution_parameters_at(self.policy_function, rows)
            )
            fisher = products.of_vector
        else:
            gradient = policy_gradient(total, theta, keep_graph=True)
            fisher = fisher_operator(self.policy_function, theta, rows, distribution)
        objective, gradient = self._over_ranks(total, gradient)
        return Linearisation(theta, objective, gradient, mean_over_ranks(fisher, self._shard), forward_pass)

    def _linearise_micro_batches(self, theta: Tensor) -> Linearisation:
        objective, gradient = theta.new_zeros(()), torch.zeros_like(theta, requires_grad=False)
        for rows in self.policy_function.micro_batches:
            with torch.enable_grad():
                distribution = self.policy_function(theta, rows)
                total = self._objective_terms(distribution, distribution.log_prob(self.act[rows]), rows).sum()
                objective += total.detach()
                gradient += policy_gradient(total, theta)
        micro_batches, shard = self._fisher_rows()
        fisher = fisher_operator_of_micro_batches(self.policy_function, theta, micro_batches)
        objective_of_all, gradient = self._over_ranks(objective, gradient)
        return Linearisation(theta, objective_of_all, gradient, mean_over_ranks(fisher, shard), None)

    def _over_ranks(self, objective: Tensor, gradient: Tensor) -> tuple[float, Tensor]:
        r"""Return :math:`L` and :math:`g` from :math:`N` times them, as far as this rank's rows go."""
        objective, gradient = self._shard.ranks.sum(objective.detach().to(gradient.dtype), gradient)
        return float(objective) / self.count, gradient / self.count

    def _fisher_rows(self) -> tuple[Sequence[Rows], Shard]:
        """Return the micro-batches of the rows in the Fisher matrix, and their rows as a part of those of all ranks."""
        if self._fisher_subsampling == 1.0:
            return self.policy_function.micro_batches, self._shard
        count = max(1, round(self._fisher_subsampling * self.count))
        chosen, micro_batches = self.policy_function.evenly_spaced(count)
        return [chosen[rows] for rows in micro_batches], self.policy_function.shard_of(chosen, count)

    @property
    def count(self) -> int:
        """The number of rows of all ranks, :math:`N`."""
        return self._shard.total

    @property
    def _shard(self) -> Shard:
        return self.policy_function.shard

    def _objective_terms(self, distribution: Distribution, logp: Tensor, rows: slice) -> Tensor:
        terms = surrogate_terms(logp, self.logp_old[rows], self.adv[rows])
        return terms + self.ent_coef * distribution.entropy() if self.ent_coef else terms

    def _terms(self, theta: Tensor) -> Iterator[tuple[Distribution, Tensor, Tensor]]:
        """Yield for each micro-batch the distributions at theta, the terms of the objective and of the divergence."""
        for behaviour, rows in zip(self.behaviour, self.policy_function.micro_batches, strict=True):
            distribution = detached_double(self.policy_function(theta, rows))
            logp = exact_log_prob(distribution, self.act[rows])
            yield distribution, self._objective_terms(distribution, logp, rows), kl_terms(behaviour, distribution)

    def _evaluation_of_behaviour(self) -> Evaluation:
        """Evaluate the behaviour policy, which needs no forward pass: ratios are 1, divergences 0.

        The same message tells whether the advantages of all ranks are constant.
        """
        no_divergence = torch.zeros_like(self.logp_old)
        sums = self._sums(
            (behaviour, self._objective_terms(behaviour, self.logp_old[rows], rows), no_divergence[rows])
            for behaviour, rows in zip(self.behaviour, self.policy_function.micro_batches, strict=True)
        )
        gathered = self._shard.ranks.gather([*sums, float(self.adv.max()), float(self.adv.min())])
        *columns, highest, lowest = zip(*gathered, strict=True)
        high, low = max(highest), min(lowest)
        self.advantages_are_constant = high - low <= 4 * torch.finfo(self.adv.dtype).eps * max(high, -low)
        return self._mean([sum(column) for column in columns])

    def _sums(self, of_micro_batches: Iterable[tuple[Distribution, Tensor, Tensor]]) -> list[float]:
        """Return the sums over this rank's rows of what :meth:`_terms` yields."""
        sums = [0.0, 0.0, 0.0, 0.0]  # objective, KL divergence, entropy, standard deviation
        with torch.no_grad():
            for distribution, *known in of_micro_batches:
                terms = (*known, entropy_terms(distribution), action_std_terms(distribution))
                sums = [
                    total + (math.nan if term is None else float(term.sum()))
                    for total, term in zip(sums, terms, strict=True)
                ]
        return sums

    def _mean(self, sums: Sequence[float]) -> Evaluation:
        """Return the means over all rows, from their sums."""
        objective, kl, entropy, action_std = sums
        objective, entropy, action_std = (total / self.count for total in (objective, entropy, action_std))
        return Evaluation(
            objective,
            mean_kl(kl, self.count),
            entropy if math.isfinite(entropy) else None,
            action_std if math.isfinite(action_std) else None,
        )


def _takes_one_pass(policy_function: RowFunction, fisher_subsampling: float) -> bool:
    """Whether objective and Fisher matrix are both of all rows, in a single pass."""
    return len(policy_function.micro_batches) == 1 and fisher_subsampling == 1.0
