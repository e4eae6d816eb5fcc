"""Trust Region Policy Optimization in Tianshou's mould."""

from __future__ import annotations

from typing import Any

from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import OptimizerFactory
from tianshou.utils.net.continuous import ContinuousCritic
from tianshou.utils.net.discrete import DiscreteCritic
from torch import nn

from trpo_ts.critics.fit import CriticFit
from trpo_ts.kfac.settings import KFAC
from trpo_ts.npg import NPG
from trpo_ts.rollout import Rollout
from trpo_ts.schedules import Schedule
from trpo_ts.solver.problem import Point, PolicyProblem
from trpo_ts.solver.trust_region import NaturalGradient, PolicyStep, trust_region_step
from trpo_ts.stats import TRPOTrainingStats, summary
from trpo_ts.validation.argument_names import ALGORITHM_NAMES, explained
from trpo_ts.validation.parameter_values import check_bool, check_integer

__all__ = ["TRPO"]


class TRPO(NPG):
    r"""Trust Region Policy Optimization (Schulman et al. 2015, arXiv:1502.05477).

    .. math:: \max_\theta L(\theta) \quad \text{s.t.} \quad \bar D_{KL}(\pi_{old} \| \pi_\theta) \le \delta

    After each update the mean KL divergence from the behaviour policy over the whole rollout is at most ``max_kl``,
    whatever ``batch_size``, ``repeat`` and the sharing of networks. The parameters that are not listed are those
    of :class:`trpo_ts.NPG`.

    :param max_kl: the bound :math:`\delta` > 0, in nats. Larger learns faster, smaller is more stable; typically
        0.005-0.04.
    :param backtrack_coeff: the factor in (0, 1) between candidates of the line search.
    :param max_backtracks: the number of candidates of the line search, >= 1.
    :param full_budget: whether the full step is as long as the undamped quadratic model of the KL divergence allows.
        Damping otherwise takes its part of ``max_kl``: an accurate solve then moves the policy by less than it may.
    :param trust_region_size: accepted and checked for compatibility with Tianshou's signature; the step size
        follows from ``max_kl``.
    """

    @explained(ALGORITHM_NAMES)
    def __init__(
        self,
        *,
        policy: ProbabilisticActorPolicy,
        critic: nn.Module | ContinuousCritic | DiscreteCritic,
        optim: OptimizerFactory,
        max_kl: float | Schedule = 0.01,
        backtrack_coeff: float | Schedule = 0.8,
        max_backtracks: int = 10,
        optim_critic_iters: int = 5,
        trust_region_size: float | Schedule = 0.5,
        advantage_normalization: bool = True,
        gae_lambda: float | Schedule = 0.95,
        max_batchsize: int = 256,
        gamma: float | Schedule = 0.99,
        return_scaling: bool = False,
        cg_iters: int = 10,
        cg_damping: float | Schedule = 0.1,
        cg_tolerance: float | Schedule = 0.9,
        preconditioner: KFAC | None = KFAC(),
        fisher_subsampling: float | Schedule = 1.0,
        ent_coef: float | Schedule = 0.0,
        critic_fit: CriticFit | None = None,
        micro_batch_size: int | None = None,
        full_budget: bool = False,
    ) -> None:
        super().__init__(
            policy=policy,
            critic=critic,
            optim=optim,
            optim_critic_iters=optim_critic_iters,
            trust_region_size=trust_region_size,
            advantage_normalization=advantage_normalization,
            gae_lambda=gae_lambda,
            max_batchsize=max_batchsize,
            gamma=gamma,
            return_scaling=return_scaling,
            cg_iters=cg_iters,
            cg_damping=cg_damping,
            cg_tolerance=cg_tolerance,
            preconditioner=preconditioner,
            fisher_subsampling=fisher_subsampling,
            ent_coef=ent_coef,
            critic_fit=critic_fit,
            micro_batch_size=micro_batch_size,
        )
        self.full_budget = check_bool("full_budget", full_budget)
        self.max_kl = self._schedules.first("max_kl", max_kl, 0.0, low_open=True)
        self.backtrack_coeff = self._schedules.first(
            "backtrack_coeff", backtrack_coeff, 0.0, 1.0, low_open=True, high_open=True
        )
        self.max_backtracks = check_integer("max_backtracks", max_backtracks, 1)

    def _policy_step(self, problem: PolicyProblem, start: Point, direction: NaturalGradient) -> PolicyStep:
        return trust_region_step(
            problem,
            start,
            direction,
            max_kl=self.max_kl,
            backtrack_coeff=self.backtrack_coeff,
            max_backtracks=self.max_backtracks,
            full_budget=self.full_budget,
        )

    def _training_stats(self, rollout: Rollout, steps: list[PolicyStep], vf_losses: list[float]) -> TRPOTrainingStats:
        fields: dict[str, Any] = self._stats_fields(rollout, steps, vf_losses)
        return TRPOTrainingStats(
            **fields,
            max_kl=self.max_kl,
            step_size=summary([step.step_size for step in steps]),
            step_fraction=sum(step.fraction for step in steps) / len(steps),
            backtracks=steps[0].backtracks + sum(step.backtracks for step in steps[1:] if step.accepted),
        )
