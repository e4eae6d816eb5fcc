r"""The critic's fit as a trust-region Gauss-Newton step (Schulman et al. 2016, arXiv:1506.02438, section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from trpo_ts.autodiff.flat_parameters import ForwardPass
from trpo_ts.autodiff.gauss_newton import GaussNewton
from trpo_ts.autodiff.per_sample_gradients import PerSampleGradients, per_sample_gradients
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import row_count
from trpo_ts.critics.fit import CriticTask, reported
from trpo_ts.critics.optimizer_fit import OptimizerFit
from trpo_ts.distributions.fisher_metric import FisherMetric
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner
from trpo_ts.kfac.settings import KFAC
from trpo_ts.solver.conjugate_gradient import conjugate_gradient
from trpo_ts.solver.linear_operators import LinearOperator, damped, mean_over_ranks, weighted_sum
from trpo_ts.validation.parameter_values import check_instance, check_integer, check_real
from trpo_ts.validation.requires_grad_checks import constant_requires_grad

__all__ = ["GaussNewtonFit"]


_TOLERANCE = 1e-3
"""The relative residual at which the solve is as exact as noisy targets deserve."""


@dataclass(frozen=True)
class GaussNewtonFit:
    r"""Fit the values by Gauss-Newton steps within a trust region.

    Each step minimises the linearised error :math:`\frac{1}{N}\sum_n (V_\phi(s_n) + j_n^\top \Delta\phi - R_n)^2` with
    conjugate gradient on :math:`G = \frac{1}{N}\sum_n j_n j_n^\top`, subject to

    .. math:: \frac{1}{N}\sum_n \frac{(j_n^\top \Delta\phi)^2}{2\sigma^2} \le \epsilon, \qquad
              \sigma^2 = \frac{1}{N}\sum_n (V_\phi(s_n) - R_n)^2,

    with :math:`j_n = \nabla_\phi V_\phi(s_n)` and targets :math:`R_n` in the critic's unit, and is halved until the
    error falls. It needs no learning rate. Where returns are in the thousands, use ``return_scaling`` with it: damping
    is absolute, and barely acts on the layers below very large output weights. The optimiser of the algorithm is not
    used.

    :param steps: Gauss-Newton steps per fit, >= 1.
    :param cg_iters: products with :math:`G` per step, >= 1. With K-FAC two are enough: more fit the rollout better and
        true returns no better (``docs/benchmarks.md``).
    :param damping: Tikhonov damping of :math:`G`, >= 0.
    :param max_change: the bound :math:`\epsilon` > 0 on the change of the values relative to their error; at 0.5
        it never binds. Smaller forgets less of what earlier rollouts taught.
    :param max_halvings: how often a step is halved before it is given up, >= 0.
    :param preconditioner: K-FAC on the same products as the policy's, or None for plain conjugate gradient.
    :raises ValueError: for a value outside its range.
    """

    steps: int = 1
    cg_iters: int = 2
    damping: float = 0.01
    max_change: float = 0.1
    max_halvings: int = 5
    preconditioner: KFAC | None = KFAC(inner_iterations=1, samples=256, relative_damping=0.0)

    over_ranks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, 1)
        check_integer("cg_iters", self.cg_iters, 1)
        check_real("damping", self.damping, 0.0)
        check_real("max_change", self.max_change, 0.0, low_open=True)
        check_integer("max_halvings", self.max_halvings, 0)
        if self.preconditioner is not None:
            check_instance("preconditioner", self.preconditioner, KFAC, "for example trpo_ts.KFAC(), or None")

    def check(self, task: CriticTask) -> None:
        """Check that the critic's parameters can be replaced; see :class:`trpo_ts.critics.CriticFit`.

        :raises ValueError: where one is also reached in another way than as an attribute, has hooks, or is frozen or
            unfrozen in ``forward``.
        """
        if task.own:
            value_function, rows = task.value_function(), slice(0, len(task.returns))
            parameters = value_function.parameters
            with torch.enable_grad(), constant_requires_grad("critic", task.critic):
                parameters.check_call(value_function(parameters.read(), rows), "critic")
                value_function.forward_pass(parameters.read().requires_grad_(True), rows, record_layers=False)

    def fit(self, task: CriticTask) -> list[float]:
        """Fit as :class:`CriticFit` says; the loss is the one after the last step."""
        if not task.own:  # a frozen critic is measured and left alone
            return OptimizerFit(iterations=0).fit(task)
        problem = _ValueProblem(task)
        phi, loss = problem.value_function.parameters.read(), math.inf
        for _ in range(self.steps):
            phi, loss = self._step(problem, phi)
        problem.value_function.parameters.write(phi)
        return [reported(loss)]

    def _step(self, problem: _ValueProblem, phi: Tensor) -> tuple[Tensor, float]:
        """Return the parameters after one step, or the same where none lowers the error, and their error."""
        linearisation = problem.linearise(phi)
        before = linearisation.error
        solution = conjugate_gradient(
            damped(linearisation.product, self.damping),
            -linearisation.gradient,
            max_iterations=self.cg_iters,
            tolerance=_TOLERANCE,
            preconditioner=self._preconditioner(problem.value_function, linearisation),
        )
        change = solution.curvature - self.damping * float(solution.x.dot(solution.x))  # x^T G x
        if not (math.isfinite(before) and 0.0 < change < math.inf):
            return phi, before
        fraction = min(1.0, math.sqrt(2.0 * self.max_change * before / change))
        for _ in range(self.max_halvings + 1):
            candidate = phi + fraction * solution.x
            after = problem.error(candidate)
            if after < before:
                return candidate, after
            fraction /= 2.0
        return phi, before

    def _preconditioner(
        self, value_function: RowFunction, linearisation: _Linearisation
    ) -> KroneckerPreconditioner | None:
        kfac, single = self.preconditioner, linearisation.single
        if kfac is None:
            return None
        if single is not None and single.gradients is not None:
            return kfac.fit_gradients(single.gradients, value_function, damping=self.damping)
        forward_pass = None if single is None else single.forward_pass
        return kfac.fit(
            value_function, linearisation.phi, _values_metric, damping=self.damping, forward_pass=forward_pass
        )


@dataclass(frozen=True)
class _MicroBatch:
    """The values of some rows, linearised: V - R, the gradient of half the mean square, the products with G."""

    residual: Tensor
    gradient: Callable[[], Tensor]
    product: LinearOperator
    forward_pass: ForwardPass
    gradients: PerSampleGradients | None


@dataclass(frozen=True)
class _Linearisation:
    """The problem linearised at phi: the mean squared error, the gradient of its half, the products with G.

    ``single`` is the micro-batch of all rows, when there was but one.
    """

    phi: Tensor
    error: float
    gradient: Tensor
    product: LinearOperator
    single: _MicroBatch | None


class _ValueProblem:
    """The mean squared error of the values, as a function of the critic's own parameters."""

    def __init__(self, task: CriticTask) -> None:
        self.value_function = task.value_function()
        self._returns = task.returns
        micro_batches, count = self.value_function.micro_batches, self.value_function.count
        self._shares: list[float] = [row_count(rows) / count for rows in micro_batches]

    def error(self, phi: Tensor) -> float:
        """Return the mean squared error at ``phi``."""
        with torch.no_grad():
            error = sum(
                share * float((self.value_function(phi, rows).flatten() - self._returns[rows]).square().mean())
                for share, rows in zip(self._shares, self.value_function.micro_batches, strict=True)
            )
        shard = self.value_function.shard
        return shard.sums([error * (shard.count / shard.total)])[0]

    def linearise(self, phi: Tensor) -> _Linearisation:
        """Return the error, its gradient and the products at ``phi``."""
        leaf = phi.detach().requires_grad_(True)
        error, gradient, single = 0.0, torch.zeros_like(phi), None
        products: list[LinearOperator] = []
        for share, rows in zip(self._shares, self.value_function.micro_batches, strict=True):
            micro_batch = self._micro_batch(leaf, rows)
            error += share * float(micro_batch.residual.square().mean())
            gradient += share * micro_batch.gradient()
            if len(self._shares) == 1:
                single = micro_batch
            products.append(self._product(leaf, rows) if single is None else single.product)
            del micro_batch  # freed before the next pass, so that peak memory is that of one
        shard = self.value_function.shard
        mean_error, gradient = shard.mean(torch.tensor(error, dtype=torch.float64, device=phi.device), gradient)
        product = mean_over_ranks(weighted_sum(products, self._shares), shard)
        return _Linearisation(leaf, float(mean_error), gradient, product, single)

    def _product(self, leaf: Tensor, rows: slice) -> LinearOperator:
        return lambda v: self._micro_batch(leaf, rows).product(v)

    def _micro_batch(self, leaf: Tensor, rows: slice) -> _MicroBatch:
        forward_pass = self.value_function.forward_pass(leaf, rows)
        with torch.enable_grad():
            values = forward_pass.value.flatten()
            residual = values.detach() - self._returns[rows]
            count = len(residual)
            gradients = per_sample_gradients(values, forward_pass)
            if gradients is not None:
                return _MicroBatch(
                    residual,
                    lambda: gradients.transposed_times(residual / count),  # J^T (V - R) / N
                    lambda v: gradients.transposed_times(gradients.times(v) / count),  # J v -> J^T J v / N
                    forward_pass,
                    gradients,
                )
            operator = GaussNewton(
                _values_metric(values),
                [leaf],
                [residual / count],
                lambda parameters: (self.value_function(parameters[0], rows).flatten(),),
            )
            return _MicroBatch(residual, lambda: operator.pulled_back[0], operator.of_vector, forward_pass, None)


def _values_metric(values: Tensor) -> FisherMetric:
    """Return the identity: the squared error's matrix in the values themselves."""
    return FisherMetric((values.flatten(),), tuple, tuple)
