r"""The critic's fit as a trust-region Gauss-Newton step (Schulman et al. 2016, arXiv:1506.02438, section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trpo_ts.autodiff.flat_parameters import Trace
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
from trpo_ts.solver.linear_operators import LinearOperator, damped, weighted_sum
from trpo_ts.validation.parameter_values import check_instance, check_integer, check_real
from trpo_ts.validation.requires_grad_checks import constant_requires_grad

__all__ = ["GaussNewtonFit"]


_TOLERANCE = 1e-3
"""The relative residual at which the solve is as exact as noisy targets deserve."""


@dataclass(frozen=True)
class GaussNewtonFit:
    r"""Fit the values by Gauss-Newton steps within a trust region.

    Each step minimises the linearised error :math:`\frac{1}{N}\sum_n (V(s_n) + j_n^\top d - R_n)^2` with
    conjugate gradient on :math:`H = \frac{1}{N}\sum_n j_n j_n^\top`, subject to

    .. math:: \frac{1}{N}\sum_n \frac{(j_n^\top d)^2}{2\sigma^2} \le \epsilon, \qquad
              \sigma^2 = \frac{1}{N}\sum_n (V(s_n) - R_n)^2,

    and is halved until the error falls. It needs no learning rate. Where returns are in the thousands, use
    ``return_scaling`` with it: damping is absolute, and barely acts on the layers below very large output weights.
    The optimiser of the algorithm is not used.

    :param steps: Gauss-Newton steps per fit, >= 1.
    :param cg_iters: products with :math:`H` per step, >= 1. With K-FAC two are enough: more fit the rollout better and
        true returns no better (``docs/benchmarks.md``).
    :param damping: Tikhonov damping of :math:`H`, >= 0.
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
            values, rows = task.value_function(), slice(0, len(task.returns))
            parameters = values.parameters
            with torch.enable_grad(), constant_requires_grad("critic", task.critic):
                parameters.check_call(values(parameters.read(), rows), "critic")
                values.trace(parameters.read().requires_grad_(True), rows, record_layers=False)

    def fit(self, task: CriticTask) -> list[float]:
        """Fit as :class:`CriticFit` says; the loss is the one after the last step."""
        if not task.own:  # a frozen critic is measured and left alone
            return OptimizerFit(iterations=0).fit(task)
        problem = _ValueProblem(task)
        theta, loss = problem.values.parameters.read(), math.inf
        for _ in range(self.steps):
            theta, loss = self._step(problem, theta)
        problem.values.parameters.write(theta)
        return [reported(loss)]

    def _step(self, problem: _ValueProblem, theta: Tensor) -> tuple[Tensor, float]:
        """Return the parameters after one step, or the same where none lowers the error, and their error."""
        model = problem.linearise(theta)
        before = model.error
        solution = conjugate_gradient(
            damped(model.product, self.damping),
            -model.gradient,
            max_iterations=self.cg_iters,
            tolerance=_TOLERANCE,
            preconditioner=self._preconditioner(problem.values, model),
        )
        change = solution.curvature - self.damping * float(solution.x.dot(solution.x))  # d^T H d
        if not (math.isfinite(before) and 0.0 < change < math.inf):
            return theta, before
        fraction = min(1.0, math.sqrt(2.0 * self.max_change * before / change))
        for _ in range(self.max_halvings + 1):
            candidate = theta + fraction * solution.x
            after = problem.error(candidate)
            if after < before:
                return candidate, after
            fraction /= 2.0
        return theta, before

    def _preconditioner(self, values: RowFunction, model: _Linearisation) -> KroneckerPreconditioner | None:
        kfac, whole = self.preconditioner, model.whole
        if kfac is None:
            return None
        if whole is not None and whole.gradients is not None:
            return kfac.fit_gradients(whole.gradients, values, damping=self.damping)
        trace = None if whole is None else whole.trace
        return kfac.fit(values, model.theta, _values_metric, damping=self.damping, whole=trace)


@dataclass(frozen=True)
class _Part:
    """The values of some rows, linearised: V - R, the gradient of half the mean square, the products with H."""

    residual: Tensor
    gradient: Callable[[], Tensor]
    product: LinearOperator
    trace: Trace
    gradients: PerSampleGradients | None


@dataclass(frozen=True)
class _Linearisation:
    """The local model at theta: the mean squared error, the gradient of its half, the products with H.

    ``whole`` is the linearisation of all rows, when that was a single pass.
    """

    theta: Tensor
    error: float
    gradient: Tensor
    product: LinearOperator
    whole: _Part | None


class _ValueProblem:
    """The mean squared error of the values, as a function of the critic's own parameters."""

    def __init__(self, task: CriticTask) -> None:
        self.values = task.value_function()
        self._returns = task.returns
        self._weights: list[float] = [row_count(rows) / self.values.count for rows in self.values.parts]

    def error(self, theta: Tensor) -> float:
        """Return the mean squared error at ``theta``."""
        with torch.no_grad():
            return sum(
                weight * float((self.values(theta, rows).flatten() - self._returns[rows]).square().mean())
                for weight, rows in zip(self._weights, self.values.parts, strict=True)
            )

    def linearise(self, theta: Tensor) -> _Linearisation:
        """Return the local model at ``theta``."""
        leaf = theta.detach().requires_grad_(True)
        error, gradient, whole = 0.0, torch.zeros_like(theta), None
        products: list[LinearOperator] = []
        for weight, rows in zip(self._weights, self.values.parts, strict=True):
            part = self._part(leaf, rows)
            error += weight * float(part.residual.square().mean())
            gradient += weight * part.gradient()
            if len(self.values.parts) == 1:
                whole = part
            products.append(self._product(leaf, rows) if whole is None else whole.product)
            del part  # freed before the next pass, so that peak memory is that of one
        return _Linearisation(leaf, error, gradient, weighted_sum(products, self._weights), whole)

    def _product(self, leaf: Tensor, rows: slice) -> LinearOperator:
        return lambda v: self._part(leaf, rows).product(v)

    def _part(self, leaf: Tensor, rows: slice) -> _Part:
        trace = self.values.trace(leaf, rows)
        with torch.enable_grad():
            values = trace.output.flatten()
            residual = values.detach() - self._returns[rows]
            count = len(residual)
            gradients = per_sample_gradients(values, trace)
            if gradients is not None:
                return _Part(
                    residual,
                    lambda: gradients.transposed_times(residual / count),  # J^T (V - R) / n
                    lambda v: gradients.transposed_times(gradients.times(v) / count),  # J v -> J^T J v / n
                    trace,
                    gradients,
                )
            operator = GaussNewton(
                _values_metric(values),
                [leaf],
                [residual / count],
                lambda parameters: (self.values(parameters[0], rows).flatten(),),
            )
            return _Part(residual, lambda: operator.pulled_back[0], operator.of_vector, trace, None)


def _values_metric(values: Tensor) -> FisherMetric:
    """Return the identity: the squared error's matrix in the values themselves."""
    return FisherMetric((values.flatten(),), tuple, tuple)
