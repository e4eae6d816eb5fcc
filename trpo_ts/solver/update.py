"""A trust-region step in a training loop of your own: any module that returns an action distribution, no Tianshou."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trpo_ts.autodiff.module_tree import modules_of
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.rows import Rows
from trpo_ts.concurrent_updates import updated_alone
from trpo_ts.kfac.settings import KFAC
from trpo_ts.network_snapshot import NetworkSnapshot
from trpo_ts.runtime import callers_autocast, evaluation_mode, preserved_generators, update_context
from trpo_ts.solver.problem import PolicyProblem
from trpo_ts.solver.trust_region import PolicyStep, SolverSettings, natural_gradient, trust_region_step
from trpo_ts.validation.autocast_check import check_autocast
from trpo_ts.validation.parameter_values import check_instance, check_integer, check_real
from trpo_ts.validation.policy_function_checks import (
    acting_as_promised,
    check_actions_possible,
    check_distribution,
)
from trpo_ts.validation.requires_grad_checks import constant_requires_grad

__all__ = ["trust_region_update"]


def trust_region_update(
    module: nn.Module,
    obs: Any,
    act: Tensor,
    adv: Tensor,
    *,
    max_kl: float = 0.01,
    backtrack_coeff: float = 0.8,
    max_backtracks: int = 10,
    cg_iters: int = 10,
    cg_damping: float = 0.1,
    cg_tolerance: float = 0.9,
    preconditioner: KFAC | None = KFAC(),
    micro_batch_size: int | None = None,
) -> PolicyStep:
    r"""Take one TRPO step: move a policy's parameters within the trust region of a rollout, and return the step.

    .. math:: \max_\theta \frac1N \sum_n \frac{\pi_\theta(a_n|s_n)}{\pi_{old}(a_n|s_n)} A_n
              \quad \text{s.t.} \quad \frac1N \sum_n D_{KL}(\pi_{old}(\cdot|s_n) \| \pi_\theta(\cdot|s_n)) \le \delta

    Schulman et al. 2015, arXiv:1502.05477, equation 14 and appendix C. Afterwards the mean divergence over all rows is
    at most ``max_kl``. Where no step improves the objective within it, the parameters are bitwise what they were, and
    ``step.outcome`` says why. The module runs in evaluation mode, and gets its modes back; no random number is drawn;
    parameters with ``requires_grad=False`` stay. Advantages are used as they are: normalise them before.

    >>> import torch
    >>> from torch import nn
    >>> from torch.distributions import Categorical
    >>> class Policy(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.logits = nn.Linear(4, 2)
    ...     def forward(self, obs):
    ...         return Categorical(logits=self.logits(obs))
    >>> policy, obs = Policy(), torch.randn(256, 4)
    >>> step = trust_region_update(policy, obs, policy(obs).sample(), obs[:, 0])
    >>> step.accepted, step.kl <= 0.01
    (True, True)

    :param module: maps observations to a distribution of ``torch.distributions`` that has one joint log-probability for
        each row and a KL divergence.
    :param obs: observations: a tensor ``(N, ...)``, or a dict, list or tuple of such.
    :param act: the actions that were taken, shape ``(N, ...)``.
    :param adv: their advantages, shape ``(N,)``.
    :param max_kl: the bound :math:`\delta` > 0, in nats. Larger learns faster, smaller is more stable.
    :param backtrack_coeff: the factor in (0, 1) between candidates of the line search.
    :param max_backtracks: the number of candidates of the line search, >= 1.
    :param cg_iters: the most Fisher products in conjugate gradient, >= 1.
    :param cg_damping: :math:`c` >= 0, added to the Fisher matrix's diagonal.
    :param cg_tolerance: the relative residual in [0, 1) at which conjugate gradient stops.
    :param preconditioner: ``KFAC()``, or None for plain conjugate gradient; then set ``cg_tolerance=0`` too.
    :param micro_batch_size: rows per pass, >= 1, None for all at once. Bounds memory; the result is the same up to
        rounding, and each product repeats the forward pass.
    :return: the step: ``accepted``, ``outcome`` with its ``advice``, ``kl``, ``improvement``, ``step_size`` (the
        accepted factor on the search direction), ``backtracks`` and the search ``direction``.
    :raises ValueError: for a value outside its range, numbers that are not finite, shapes that do not match, or a
        distribution that is not usable, before anything is changed; for a parameter whose memory something else reads.
        Whatever is raised, the module's parameters and buffers are what they were.
    """
    check_instance("module", module, nn.Module, "it maps observations to a torch distribution")
    check_real("max_kl", max_kl, 0.0, low_open=True)
    check_real("backtrack_coeff", backtrack_coeff, 0.0, 1.0, low_open=True, high_open=True)
    check_integer("max_backtracks", max_backtracks, 1)
    solver = _solver(cg_iters, cg_damping, cg_tolerance, preconditioner)
    if micro_batch_size is not None:
        check_integer("micro_batch_size", micro_batch_size, 1)
    _check_data(obs, act, adv)
    with _undone_on_error(module), update_context(module), evaluation_mode(module), preserved_generators():
        policy_function = RowFunction(
            module,
            lambda rows: (_rows_of(obs, rows),),
            len(adv),
            micro_batch_size=micro_batch_size,
            record_layers=preconditioner is not None and preconditioner.shares_pass(len(adv)),
        )
        check_real("cg_damping", cg_damping, 0.0, torch.finfo(policy_function.parameters.dtype).max)
        _check_policy(module, policy_function, act)
        problem, start = PolicyProblem.of_rollout(
            policy_function, act=act, adv=adv.to(policy_function.parameters.dtype)
        )
        direction = natural_gradient(problem, problem.linearise(start), solver)  # (F + cI) x = g
        step = trust_region_step(
            problem, start, direction, max_kl=max_kl, backtrack_coeff=backtrack_coeff, max_backtracks=max_backtracks
        )
        with acting_as_promised(policy_function, act, step.end.theta):
            policy_function.parameters.write(step.end.theta)
        return step


@contextmanager
def _undone_on_error(module: nn.Module) -> Iterator[None]:
    modules = modules_of(module)
    with updated_alone(module, modules):
        before = NetworkSnapshot(modules)
        try:
            yield
        except BaseException:
            before.restore()
            raise


def _check_policy(module: nn.Module, policy_function: RowFunction, act: Tensor) -> None:
    with constant_requires_grad("module", module):
        check_distribution(policy_function, act)
    if callers_autocast():
        check_autocast(policy_function, act)
    check_actions_possible(policy_function, act)


def _solver(iterations: int, damping: float, tolerance: float, preconditioner: KFAC | None) -> SolverSettings:
    if preconditioner is not None:
        check_instance("preconditioner", preconditioner, KFAC, "for example trpo_ts.KFAC(), or None")
    return SolverSettings(
        check_integer("cg_iters", iterations, 1),
        check_real("cg_damping", damping, 0.0),
        check_real("cg_tolerance", tolerance, 0.0, 1.0, high_open=True),
        preconditioner,
    )


def _rows_of(obs: Any, rows: Rows) -> Any:
    if isinstance(obs, dict):
        return {key: _rows_of(item, rows) for key, item in obs.items()}
    if isinstance(obs, list | tuple):
        return type(obs)(_rows_of(item, rows) for item in obs)
    # Indices make a copy, slices a view: a module that works in place would change what later passes see.
    return obs[rows].clone() if isinstance(rows, slice) else obs[rows]


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested observations with their names.

    :raises ValueError: for anything else than tensors, dicts, lists and tuples.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _tensors(item, f"{name}[{i}]")
    elif isinstance(value, Tensor):
        yield name, value
    else:
        raise ValueError(f"{name} must be a tensor, got {type(value).__name__}; convert it with torch.as_tensor(...)")


def _check_data(obs: Any, act: Tensor, adv: Tensor) -> None:
    """Check that observations, actions and advantages are finite and of equal length.

    :raises ValueError: naming what is not, and its first such row.
    """
    named = [*_tensors(obs, "obs"), *_tensors(act, "act"), *_tensors(adv, "adv")]
    if adv.dim() != 1 or len(adv) == 0:
        raise ValueError(f"adv must have shape (N,) with N >= 1, got {tuple(adv.shape)}")
    for name, tensor in named:
        if tensor.dim() == 0 or len(tensor) != len(adv):
            raise ValueError(f"{name} must have {len(adv)} rows, one for each of adv, got {tuple(tensor.shape)}")
        finite = torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)
        if not bool(finite.all()):
            row = int(finite.int().argmin())
            raise ValueError(
                f"{name} must be finite, got {tensor[row].tolist()!r} in row {row} "
                f"({int((~finite).sum())} of {len(finite)} rows); nothing was changed"
            )
