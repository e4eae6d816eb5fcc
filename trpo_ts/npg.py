"""Natural Policy Gradient in Tianshou's mould, and the update that TRPO shares with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from tianshou.algorithm.algorithm_base import TrainingStats
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import OptimizerFactory
from tianshou.data import ReplayBuffer
from tianshou.data.types import BatchWithAdvantagesProtocol, RolloutBatchProtocol
from tianshou.utils.net.continuous import ContinuousCritic
from tianshou.utils.net.discrete import DiscreteCritic
from torch import Tensor, nn
from torch.distributions import Distribution

from trpo_ts.advantages import explained_variance, normalised
from trpo_ts.checks import check_bool, check_instance, check_integer, check_real
from trpo_ts.critics.fit import CriticFit, CriticTask
from trpo_ts.critics.optimizer_fit import OptimizerFit
from trpo_ts.critics.recurrent import RecurrentCritic
from trpo_ts.natural_gradient.fused import fused_chains
from trpo_ts.natural_gradient.kfac import KFAC
from trpo_ts.natural_gradient.parameters import FlatParameters, Trace, check_trainable
from trpo_ts.natural_gradient.problem import Point, PolicyProblem
from trpo_ts.natural_gradient.rows import Rows
from trpo_ts.policy_checks import PolicyCheck
from trpo_ts.replay import policy_sequences, replayed_values
from trpo_ts.rollout import (
    ActionDistribution,
    as_tensors,
    check_finite,
    evaluation_mode,
    policy_inputs,
    restored_modes,
    rollout_values,
    twice_differentiable,
    without_validation,
)
from trpo_ts.state import ActorCriticWithState
from trpo_ts.stats import NPGTrainingStats, policy_step_fields, summary
from trpo_ts.trust_region import PolicyStep, SolverSettings, natural_gradient_step

__all__ = ["NPG"]


class NPG(ActorCriticWithState):
    r"""Natural Policy Gradient: :math:`\theta \leftarrow \theta + \eta\,(F + cI)^{-1} \nabla_\theta L(\theta)`.

    Kakade 2001, *A Natural Policy Gradient*. The policy step uses the whole rollout; ``batch_size`` of the
    trainer is the critic's minibatch size, and ``repeat`` takes further steps on the same rollout.

    :param policy: the policy; all its trainable parameters are moved by the natural gradient.
    :param critic: the network :math:`s \mapsto V(s)`. Parameters that it shares with the policy are the policy's:
        the critic's optimiser leaves them alone, since it would move the policy after its step.
    :param optim: the factory of the critic's optimiser.
    :param optim_critic_iters: optimiser steps on the critic per policy step (on each minibatch, where the trainer
        has a ``batch_size``), >= 0. More fit the values better and cost most of an update's time; typically 5-20.
    :param trust_region_size: the factor :math:`\eta` > 0 on the natural gradient. Larger learns faster and less
        stably; typically 0.1-1. There is no KL bound: for one, take :class:`trpo_ts.TRPO`.
    :param advantage_normalization: whether advantages are centred and scaled to unit variance over the rollout.
    :param gae_lambda: :math:`\lambda` in [0, 1] of generalised advantage estimation (arXiv:1506.02438): lower
        trusts the critic more (less variance, more bias); typically 0.9-0.99.
    :param max_batchsize: the most observations in one pass of the critic while the values of a rollout are computed,
        >= 1; bounds memory. The policy's passes are bounded by ``micro_batch_size``.
    :param gamma: the discount factor in [0, 1]; typically 0.9-0.999.
    :param return_scaling: whether the critic's targets are divided by the running standard deviation of the
        returns, this rollout's included. Helps where rewards are large; the statistics are part of ``state_dict()``.
    :param cg_iters: the most Fisher products in conjugate gradient, >= 1. More give a direction closer to the
        exact natural gradient; typically 10-20.
    :param cg_damping: :math:`c` >= 0, added to the Fisher matrix's diagonal. Larger is more stable and closer to
        the plain gradient; typically 0.01-0.1.
    :param cg_tolerance: the relative residual in [0, 1) at which conjugate gradient stops; 0 never does. Lower follows
        the rollout more closely, and its noise too.
    :param preconditioner: with ``KFAC()`` one product gains about what ten of plain conjugate gradient, which is None,
        gain on the rollouts of ``docs/benchmarks.md``. The system that is solved, and what the line search demands,
        stay the same. For solutions that are exact for the rollout, noise and all, take
        ``KFAC(relative_damping=0.0)`` and a small ``cg_tolerance``.
    :param fisher_subsampling: the part of the rollout, in (0, 1], from which the Fisher matrix is estimated. The
        paper takes 0.1: products get ten times cheaper, the direction noisier; the line search still uses all.
    :param ent_coef: :math:`\beta` >= 0, the weight of the policy's mean entropy in the objective; typically
        0-0.01.
    :param critic_fit: how the critic is fitted; None is the documented way, ``optim_critic_iters`` steps of
        ``optim``. See :mod:`trpo_ts.critics` for others; they do not read ``optim_critic_iters`` and ``batch_size``.
    :param micro_batch_size: rows per pass in the update, >= 1, None for all at once. Bounds the update's memory
        and changes nothing else, but with several passes each Fisher product repeats the forward pass.
    :raises ValueError: for a value outside its range, naming the parameter, the range and the value.
    """

    def __init__(
        self,
        *,
        policy: ProbabilisticActorPolicy,
        critic: nn.Module | ContinuousCritic | DiscreteCritic,
        optim: OptimizerFactory,
        optim_critic_iters: int = 5,
        trust_region_size: float = 0.5,
        advantage_normalization: bool = True,
        gae_lambda: float = 0.95,
        max_batchsize: int = 256,
        gamma: float = 0.99,
        return_scaling: bool = False,
        cg_iters: int = 10,
        cg_damping: float = 0.1,
        cg_tolerance: float = 0.9,
        preconditioner: KFAC | None = KFAC(),
        fisher_subsampling: float = 1.0,
        ent_coef: float = 0.0,
        critic_fit: CriticFit | None = None,
        micro_batch_size: int | None = None,
    ) -> None:
        check_instance("policy", policy, ProbabilisticActorPolicy, "build one with trpo_ts.policies.make_policy")
        check_instance("critic", critic, nn.Module, "build one with trpo_ts.critics.make_critic")
        if critic_fit is not None:
            check_instance("critic_fit", critic_fit, CriticFit, "for example trpo_ts.critics.GaussNewtonFit()")
        check_instance("optim", optim, OptimizerFactory, "for example tianshou's AdamOptimizerFactory(lr=1e-3)")
        super().__init__(
            policy=policy,
            critic=critic,
            optim=optim,
            optim_include_actor=False,
            gae_lambda=check_real("gae_lambda", gae_lambda, 0.0, 1.0),
            max_batchsize=check_integer("max_batchsize", max_batchsize, 1),
            gamma=check_real("gamma", gamma, 0.0, 1.0),
            return_scaling=check_bool("return_scaling", return_scaling),
        )
        self.optim_critic_iters = check_integer("optim_critic_iters", optim_critic_iters, 0)
        self.trust_region_size = check_real("trust_region_size", trust_region_size, 0.0, low_open=True)
        self.advantage_normalization = check_bool("advantage_normalization", advantage_normalization)
        self.cg_iters = check_integer("cg_iters", cg_iters, 1)
        self.cg_damping = check_real("cg_damping", cg_damping, 0.0)
        self.cg_tolerance = check_real("cg_tolerance", cg_tolerance, 0.0, 1.0, high_open=True)
        if preconditioner is not None:
            check_instance("preconditioner", preconditioner, KFAC, "for example trpo_ts.KFAC(), or None")
        self.preconditioner = preconditioner
        self.fisher_subsampling = check_real("fisher_subsampling", fisher_subsampling, 0.0, 1.0, low_open=True)
        self.ent_coef = check_real("ent_coef", ent_coef, 0.0)
        self.critic_fit = critic_fit
        self.micro_batch_size = (
            None if micro_batch_size is None else check_integer("micro_batch_size", micro_batch_size, 1)
        )
        self._check = PolicyCheck()
        self._checked_fit: tuple[Any, ...] = ()

    def update(self, buffer: ReplayBuffer, batch_size: int | None, repeat: int) -> TrainingStats:
        """Update policy and critic from the whole buffer, as Tianshou's on-policy trainer calls it.

        :param buffer: the rollout.
        :param batch_size: the critic's minibatch size; None fits it on the whole rollout.
        :param repeat: policy steps on this rollout, each followed by a fit of the critic, >= 1.
        :raises ValueError: for an empty buffer, or observations, actions or rewards that are not finite, before
            anything is changed.
        """
        if batch_size is not None:
            check_integer("batch_size", batch_size, 1)
        check_integer("repeat", repeat, 1)
        if buffer is not None and len(buffer) == 0:
            raise ValueError("buffer must hold at least one transition, got none; collect before update()")
        with restored_modes(self), without_validation(), twice_differentiable(self), fused_chains(self):
            return super().update(buffer, batch_size, repeat)

    def _preprocess_batch(
        self, batch: RolloutBatchProtocol, buffer: ReplayBuffer, indices: np.ndarray
    ) -> BatchWithAdvantagesProtocol:
        check_finite(batch)
        check_trainable(self.policy.parameters())  # before statistics change
        parameter = next(self.policy.parameters())
        batch.obs = as_tensors(batch.obs, parameter.device, parameter.dtype)
        batch.obs_next = as_tensors(batch.obs_next, parameter.device, parameter.dtype)
        batch.act = as_tensors(batch.act, parameter.device, parameter.dtype)
        batch.sequences = policy_sequences(self.policy, batch, buffer, indices)
        self._check(self.policy, batch, ent_coef=self.ent_coef, micro_batch_size=self.micro_batch_size)
        batch = self._add_returns_and_advantages(batch, buffer, indices)
        batch.adv = batch.adv.to(parameter.device, parameter.dtype)
        if self.advantage_normalization:
            batch.adv = normalised(batch.adv)
        return batch

    def _update_with_batch(  # type: ignore[override]
        self, batch: BatchWithAdvantagesProtocol, batch_size: int | None, repeat: int
    ) -> NPGTrainingStats:
        # Also while the critic is fitted: batch norm in shared layers would move the policy by its statistics.
        with evaluation_mode(self.policy):
            parameters = FlatParameters(ActionDistribution(self.policy))
            problem = self._policy_problem(batch, parameters)
            solver = SolverSettings(
                self.cg_iters, self.cg_damping, self.cg_tolerance, self.preconditioner, parameters.slices
            )
            point = problem.start
            steps: list[PolicyStep] = []
            vf_losses: list[float] = []
            for _ in range(repeat):
                if not steps or steps[-1].accepted:
                    steps.append(self._policy_step(problem, point, solver))
                    point = steps[-1].end
                    if steps[-1].accepted:
                        parameters.write(point.theta)
                vf_losses += self._fit_critic(batch, batch_size)
            return self._training_stats(batch, steps, vf_losses)

    def _policy_step(self, problem: PolicyProblem, start: Point, solver: SolverSettings) -> PolicyStep:
        return natural_gradient_step(problem, start, solver=solver, trust_region_size=self.trust_region_size)

    def _policy_problem(self, batch: Any, parameters: FlatParameters) -> PolicyProblem:
        def distribution_at(theta: Tensor, rows: Rows) -> Distribution:
            return cast(Distribution, parameters.call(theta, *policy_inputs(batch, rows)))

        def trace_at(theta: Tensor, rows: Rows) -> Trace:
            return parameters.trace(theta, *policy_inputs(batch, rows))

        return PolicyProblem(
            distribution_at,
            parameters.read(),
            act=batch.act,
            adv=batch.adv,
            ent_coef=self.ent_coef,
            micro_batch_size=self.micro_batch_size,
            fisher_subsampling=self.fisher_subsampling,
            trace=trace_at,
            kfac=self.preconditioner,
            starts=None if batch.sequences is None else batch.sequences.starts,
        )

    def _add_returns_and_advantages(
        self, batch: RolloutBatchProtocol, buffer: ReplayBuffer, indices: np.ndarray
    ) -> BatchWithAdvantagesProtocol:
        if isinstance(self.critic, RecurrentCritic):
            batch.critic_obs, values, next_values = replayed_values(
                self.critic, batch, buffer, indices, self.max_batchsize
            )
        else:
            batch.critic_obs = batch.obs
            values, next_values = rollout_values(self.critic, batch.obs, batch.obs_next, self.max_batchsize)
        self._check_fit(batch, values)
        unit = self._return_unit()  # that of the targets which the critic was last fitted to
        returns, adv = self.compute_episodic_return(
            batch,
            buffer,
            indices,
            next_values.cpu().numpy() * unit,
            values.cpu().numpy() * unit,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )
        if self.return_scaling:
            self._observe_returns(returns)
        new_unit = self._return_unit()
        batch.v_s = values * (unit / new_unit)
        batch.returns = torch.as_tensor(returns / new_unit).to(values)
        batch.adv = torch.as_tensor(adv).to(values)
        return cast(BatchWithAdvantagesProtocol, batch)

    def _check_fit(self, batch: Any, values: Tensor) -> None:
        """Let the critic's fit look at the first rows, once for a critic."""
        check: Callable[[CriticTask], None] | None = getattr(self.critic_fit, "check", None)
        checked = (self.critic_fit, self.critic)
        if check is not None and self._checked_fit != checked:
            rows = slice(0, min(2, len(values)))
            with evaluation_mode(self.critic):  # a look must not move the statistics of batch norm
                check(self._critic_task(batch.critic_obs[rows], values[rows]))
            self._checked_fit = checked

    def _fit_critic(self, batch: Any, batch_size: int | None) -> list[float]:
        fit = self.critic_fit or OptimizerFit(self.optim_critic_iters, batch_size)
        return fit.fit(self._critic_task(batch.critic_obs, batch.returns))

    def _critic_task(self, obs: Any, returns: Tensor) -> CriticTask:
        return CriticTask(self.critic, self.optim._optim, obs, returns, self.micro_batch_size)

    def _training_stats(
        self, batch: BatchWithAdvantagesProtocol, steps: list[PolicyStep], vf_losses: list[float]
    ) -> NPGTrainingStats:
        return NPGTrainingStats(**self._stats_fields(batch, steps, vf_losses))

    def _stats_fields(
        self, batch: BatchWithAdvantagesProtocol, steps: list[PolicyStep], vf_losses: list[float]
    ) -> dict[str, Any]:
        return {
            **policy_step_fields(steps),
            "vf_loss": summary(vf_losses),
            "explained_variance": explained_variance(batch.v_s, batch.returns),
        }

    def _create_optimizer(
        self, module: nn.Module, factory: OptimizerFactory, max_grad_norm: float | None = None
    ) -> ActorCriticWithState.Optimizer:
        return super()._create_optimizer(_OwnParameters(module, self.policy), factory, max_grad_norm)


class _OwnParameters(nn.Module):
    """The critic as its optimiser shall see it: without the parameters that the policy uses."""

    def __init__(self, critic: nn.Module, policy: nn.Module) -> None:
        super().__init__()
        policy_parameters = set(map(id, policy.parameters()))
        self._own = [p for p in critic.parameters() if id(p) not in policy_parameters]
        if not self._own:
            raise ValueError(
                "critic must have parameters of its own, got none: all of them belong to the policy; "
                "give it a value head"
            )

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter(self._own)
