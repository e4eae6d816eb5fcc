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
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from trpo_ts.natural_gradient.distributions import exact_log_prob, fisher_metric, frozen
from trpo_ts.natural_gradient.fisher import (
    GaussNewton,
    LinearOperator,
    kl_hessian_product,
    weighted_sum,
)
from trpo_ts.natural_gradient.kfac import KFAC
from trpo_ts.natural_gradient.kronecker import Moments
from trpo_ts.natural_gradient.line_search import Evaluation
from trpo_ts.natural_gradient.parameters import Trace
from trpo_ts.natural_gradient.rows import Rows, evenly_spaced, row_slices
from trpo_ts.natural_gradient.surrogate import action_std_terms, entropy_terms, kl_terms, surrogate_terms

__all__ = ["Linearisation", "Point", "PolicyProblem"]


@dataclass(frozen=True)
class Point:
    r"""A parameter vector :math:`\theta`, shape ``(P,)``, and what the policy achieves there."""

    theta: Tensor
    evaluation: Evaluation


@dataclass(frozen=True)
class Linearisation:
    r"""The problem's local model at a point.

    :param objective: :math:`L(\theta)`.
    :param gradient: :math:`g = \nabla_\theta L`, shape ``(P,)``.
    :param fisher: :math:`v \mapsto F v`, undamped.
    :param moments: what a Kronecker-factored model of the Fisher matrix is made from; None where there is none.
    """

    objective: float
    gradient: Tensor
    fisher: LinearOperator
    moments: Moments | None


@dataclass(frozen=True)
class _Pass:
    """An evaluation of all rows as a function of a leaf ``theta``, and what flowed through it if that was recorded."""

    theta: Tensor
    distribution: Distribution
    trace: Trace | None


class PolicyProblem:
    r"""Surrogate, gradient, Fisher operator and KL divergence over one rollout.

    :param distribution: maps :math:`\theta`, shape ``(P,)``, and rows to :math:`\pi_\theta(\cdot|s)` for them.
    :param theta_old: the behaviour policy's parameters, shape ``(P,)``.
    :param act: actions, shape ``(N, ...)``.
    :param adv: advantages, shape ``(N,)``.
    :param ent_coef: the entropy bonus :math:`\beta`, >= 0.
    :param micro_batch_size: rows per pass; None takes all at once. The result does not depend on it, only the
        peak memory and the time: with several parts no graph is kept between products.
    :param fisher_subsampling: the part of the rows from which the Fisher operator is estimated, in ``(0, 1]``
        (arXiv:1502.05477, appendix C, uses a tenth); they are evenly spaced, so no random number is drawn.
    :param trace: like ``distribution``, and records the layers, for a Kronecker-factored model.
    :param kfac: the choice of that model; None makes none.
    :param starts: where sequences of rows begin that depend on each other; see :func:`row_slices`.
    """

    def __init__(
        self,
        distribution: Callable[[Tensor, Rows], Distribution],
        theta_old: Tensor,
        *,
        act: Tensor,
        adv: Tensor,
        ent_coef: float = 0.0,
        micro_batch_size: int | None = None,
        fisher_subsampling: float = 1.0,
        trace: Callable[[Tensor, Rows], Trace] | None = None,
        kfac: KFAC | None = None,
        starts: Tensor | None = None,
    ) -> None:
        self._distribution = distribution
        self._trace = trace
        self.theta_old = theta_old
        self.act, self.adv = act, adv
        self.ent_coef = ent_coef
        self.count = len(adv)
        self._kfac = kfac
        self._micro_batch_size = micro_batch_size
        self._starts = starts
        self._parts = row_slices(self.count, micro_batch_size, starts)
        self._fisher_parts = self._parts_of_share(fisher_subsampling, micro_batch_size)
        self._at_once = len(self._parts) == 1 and self._parts == self._fisher_parts
        self._first = self._pass_over_all(theta_old) if self._at_once else None
        with torch.no_grad():
            first = self._first
            firsts = [first.distribution] if first else (distribution(theta_old, rows) for rows in self._parts)
            self._behaviour = [frozen(policy) for policy in firsts]
            parts = zip(self._behaviour, self._parts, strict=True)
            self.logp_old = torch.cat([exact_log_prob(policy, act[rows]) for policy, rows in parts])

    @property
    def advantages_are_constant(self) -> bool:
        """Whether the advantages prefer no action to another, up to rounding; a single row never does."""
        spread = float(self.adv.max() - self.adv.min())
        return spread <= 4 * torch.finfo(self.adv.dtype).eps * float(self.adv.abs().max())

    @property
    def start(self) -> Point:
        """The behaviour policy; its values need no forward pass."""
        no_divergence = torch.zeros_like(self.logp_old)
        terms = (
            (policy, self._objective_terms(policy, self.logp_old[rows], rows), no_divergence[rows])
            for policy, rows in zip(self._behaviour, self._parts, strict=True)
        )
        return Point(self.theta_old, self._mean(terms))

    def evaluate(self, theta: Tensor) -> Evaluation:
        """Return what the policy achieves at ``theta``; not finite where its distribution is not."""
        try:
            with torch.no_grad():
                return self._mean(self._terms(theta))
        except (ValueError, LinAlgError):  # how distributions refuse parameters that are none
            return Evaluation(float("nan"), float("nan"))

    def _terms(self, theta: Tensor) -> Iterator[tuple[Distribution, Tensor, Tensor]]:
        """Yield the policy, the terms of its objective and those of its divergence, for each part of the rows."""
        for behaviour, rows in zip(self._behaviour, self._parts, strict=True):
            policy = frozen(self._distribution(theta, rows))
            objective = self._objective_terms(policy, exact_log_prob(policy, self.act[rows]), rows)
            yield policy, objective, kl_terms(behaviour, policy)

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
        objective, kl, entropy, action_std = (total / self.count for total in sums)
        return Evaluation(
            objective,
            kl,
            entropy if math.isfinite(entropy) else None,
            action_std if math.isfinite(action_std) else None,
        )

    def linearise(self, theta: Tensor) -> Linearisation:
        """Return objective, gradient, Fisher operator and its model's moments at ``theta``; nothing is sampled."""
        if self._at_once:
            # One forward pass serves the gradient and all Fisher products, at the start also the behaviour policy.
            first, self._first = self._first, None
            if first is None or theta is not self.theta_old:
                first = self._pass_over_all(theta)
            theta, trace = first.theta, first.trace
            with torch.enable_grad():
                objective, gradient, fisher = self._gradient_and_fisher(first.distribution, theta, self._parts[0])
        else:
            trace = None
            theta = theta.detach().requires_grad_(True)
            objective, gradient = 0.0, torch.zeros_like(theta, requires_grad=False)
            for rows in self._parts:
                with torch.enable_grad():
                    part, part_gradient = self._gradient(self._distribution(theta, rows), theta, rows)
                objective += part
                gradient += part_gradient
            fisher = self._fisher_in_parts(theta)
        return Linearisation(objective / self.count, gradient / self.count, fisher, self._moments(theta, trace))

    def _pass_over_all(self, theta: Tensor) -> _Pass:
        leaf, rows = theta.detach().requires_grad_(True), self._parts[0]
        with torch.enable_grad():
            if self._trace is not None and self._kfac is not None and self._kfac.shares_pass(self.count):
                trace = self._trace(leaf, rows)
                return _Pass(leaf, trace.output, trace)
            return _Pass(leaf, self._distribution(leaf, rows), None)

    def _parts_of_share(self, fraction: float, size: int | None) -> list[Rows]:
        """Return that share of the rows, at least one, in parts as :func:`row_slices` cuts them."""
        if fraction == 1.0:
            return list(self._parts)
        rows = evenly_spaced(max(1, round(fraction * self.count)), self.count, self.adv.device, self._starts)
        starts = None if self._starts is None else torch.isin(rows, self._starts).nonzero().flatten()
        return [rows[part] for part in row_slices(len(rows), size, starts)]

    def _moments(self, theta: Tensor, whole: Trace | None) -> Moments | None:
        trace = self._trace
        if trace is None or self._kfac is None:
            return None
        return self._kfac.moments(
            self.count,
            lambda rows: trace(theta, rows),
            fisher_metric,
            device=theta.device,
            starts=self._starts,
            whole=whole,
            micro_batch_size=self._micro_batch_size,
        )

    def _objective_terms(self, distribution: Distribution, logp: Tensor, rows: slice) -> Tensor:
        terms = surrogate_terms(logp, self.logp_old[rows], self.adv[rows])
        return terms + self.ent_coef * distribution.entropy() if self.ent_coef else terms

    def _gradient(
        self, distribution: Distribution, theta: Tensor, rows: slice, *, keep_graph: bool = False
    ) -> tuple[float, Tensor]:
        total = self._objective_terms(distribution, distribution.log_prob(self.act[rows]), rows).sum()
        if not total.requires_grad:
            return float(total), torch.zeros_like(theta)
        (gradient,) = torch.autograd.grad(
            total, theta, retain_graph=keep_graph, allow_unused=True, materialize_grads=True
        )
        return float(total.detach()), gradient

    def _gradient_and_fisher(
        self, distribution: Distribution, theta: Tensor, rows: slice
    ) -> tuple[float, Tensor, LinearOperator]:
        metric = fisher_metric(distribution)
        if metric is None or not metric.determine_density or self.ent_coef:
            objective, gradient = self._gradient(distribution, theta, rows, keep_graph=True)
            return objective, gradient, self._fisher(distribution, theta, rows)
        # The objective's gradient is J^T u with its derivatives u in the distribution's parameters: the same backward
        # pass that prepares the products gives it.
        total = self._objective_terms(distribution, distribution.log_prob(self.act[rows]), rows).sum()
        if not total.requires_grad:
            return float(total), torch.zeros_like(theta), torch.zeros_like
        live = [output for output in metric.outputs if output.requires_grad]
        derivatives = iter(torch.autograd.grad(total, live, allow_unused=True, materialize_grads=True))
        cotangents = [next(derivatives) if o.requires_grad else torch.zeros_like(o) for o in metric.outputs]
        operator = GaussNewton(metric, [theta], cotangents, self._outputs_at(rows))
        return float(total.detach()), operator.pulled_back[0], operator.of_vector

    def _fisher(self, distribution: Distribution, theta: Tensor, rows: Rows) -> LinearOperator:
        metric = fisher_metric(distribution)
        if metric is not None:
            return GaussNewton(metric, [theta], outputs_at=self._outputs_at(rows)).of_vector
        with torch.no_grad():
            constant = self._distribution(theta, rows)
        return kl_hessian_product(constant, distribution, theta)

    def _outputs_at(self, rows: Rows) -> Callable[[Sequence[Tensor]], Sequence[Tensor]]:
        def outputs(parameters: Sequence[Tensor]) -> Sequence[Tensor]:
            metric = fisher_metric(self._distribution(parameters[0], rows))
            assert metric is not None
            return metric.outputs

        return outputs

    def _fisher_in_parts(self, theta: Tensor) -> LinearOperator:
        def of_part(rows: Rows) -> LinearOperator:
            if len(self._fisher_parts) == 1:  # its graph may as well be kept
                with torch.enable_grad():
                    return self._fisher(self._distribution(theta, rows), theta, rows)

            def product(v: Tensor) -> Tensor:
                with torch.enable_grad():
                    return self._fisher(self._distribution(theta, rows), theta, rows)(v)

            return product

        counts = [_length(rows) for rows in self._fisher_parts]
        operators = [of_part(rows) for rows in self._fisher_parts]
        return weighted_sum(operators, [count / sum(counts) for count in counts])


def _length(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)
