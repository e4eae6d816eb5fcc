"""Natural Policy Gradient in Tianshou's mould, and the update that TRPO shares with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from tianshou.algorithm.algorithm_base import TrainingStats
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.optim import OptimizerFactory
from tianshou.data import Batch, ReplayBuffer
from tianshou.data.types import BatchWithAdvantagesProtocol, RolloutBatchProtocol
from tianshou.utils.net.continuous import ContinuousCritic
from tianshou.utils.net.discrete import DiscreteCritic
from torch import Tensor, nn

from trpo_ts.advantages import generalised_advantages, normalised
from trpo_ts.autodiff.module_tree import buffers_of, modules_of, parameters_of
from trpo_ts.autodiff.row_function import RowFunction
from trpo_ts.autodiff.watched_modules import is_self_contained
from trpo_ts.critics.fit import CriticFit, CriticTask
from trpo_ts.critics.optimizer_fit import MinibatchFit, OptimizerFit
from trpo_ts.distributed.rank_errors import announced
from trpo_ts.distributed.ranks_of_process import current_ranks
from trpo_ts.distributed.same_update import SameUpdate, start_alike
from trpo_ts.kfac.settings import KFAC
from trpo_ts.optimizer_state import follow_parameters
from trpo_ts.policy_map import PolicyMap
from trpo_ts.recurrent.replay import policy_sequences
from trpo_ts.returns import explained_variance, lambda_returns, return_unit, statistics_including
from trpo_ts.rollout import Rollout, Transitions
from trpo_ts.runtime import evaluation_mode, update_context
from trpo_ts.schedules import Schedule, Schedules
from trpo_ts.solver.problem import Point, PolicyProblem
from trpo_ts.solver.trust_region import NaturalGradient, PolicyStep, SolverSettings, fixed_step, natural_gradient
from trpo_ts.state_dict import ActorCriticWithState
from trpo_ts.state_values import values_of
from trpo_ts.stats import NPGTrainingStats, policy_step_fields, summary
from trpo_ts.tianshou_adapter import OwnParameters, as_batch, rollout_of, torch_optimizer
from trpo_ts.transaction import undone_on_error
from trpo_ts.turns import own_transitions
from trpo_ts.validation.argument_names import ALGORITHM_NAMES, explained
from trpo_ts.validation.collecting_checks import warn_of_collecting
from trpo_ts.validation.critic_parameters import CriticParameterCheck
from trpo_ts.validation.learner_parts import check_parts
from trpo_ts.validation.memory_check import MemoryCheck
from trpo_ts.validation.network_view import NetworkView
from trpo_ts.validation.optimizer_checks import check_steps
from trpo_ts.validation.parameter_memory import check_separate
from trpo_ts.validation.parameter_values import check_bool, check_instance, check_integer, check_real
from trpo_ts.validation.policy_checks import PolicyCheck
from trpo_ts.validation.policy_function_checks import acting_as_promised
from trpo_ts.validation.recorded_shapes import check_stacking, with_scalar_rewards
from trpo_ts.validation.rollout_checks import check_finite, check_recording, check_sampled
from trpo_ts.validation.shape_errors import named_shapes
from trpo_ts.validation.trainable_parameters import check_trainable

__all__ = ["NPG"]

_OWN_PACKAGES = ("torch", "tianshou", "trpo_ts")
"""The packages whose networks compute from their own parameters alone."""


def _may_move_otherwise(policy: ProbabilisticActorPolicy) -> bool:
    """Whether the policy's classes do not tell that it computes from its own parameters alone."""
    return not (is_self_contained(policy, _OWN_PACKAGES) and _package(policy.dist_fn) in _OWN_PACKAGES)


def _package(value: object) -> str:
    module: str = getattr(value, "__module__", None) or type(value).__module__
    return module.partition(".")[0]


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
    :param preconditioner: ``KFAC()`` needs one product where plain conjugate gradient (None) needs about ten
        (``docs/benchmarks.md``). With None, set ``cg_tolerance=0`` too: its default is meant for K-FAC. The system that
        is solved stays the same; with ``KFAC()`` a full step just above ``max_kl`` is cut to it. For solutions that are
        exact for the rollout, noise included, take ``KFAC(relative_damping=0.0)`` and a small ``cg_tolerance``.
    :param fisher_subsampling: the part of the rollout, in (0, 1], from which the Fisher matrix is estimated. The
        paper takes 0.1: products get ten times cheaper, the direction noisier; the line search still uses all.
    :param ent_coef: :math:`\beta` >= 0, the weight of the policy's mean entropy in the objective; typically
        0-0.01.
    :param critic_fit: how the critic is fitted; None takes Tianshou's documented ``optim_critic_iters`` steps of
        ``optim``. See :mod:`trpo_ts.critics` for others; they do not read ``optim_critic_iters`` and ``batch_size``.
    :param micro_batch_size: rows per pass in the update, >= 1, None for all at once. Bounds the update's memory
        and changes nothing else, but with several passes each Fisher product repeats the forward pass.
    :raises ValueError: for a value outside its range, naming the parameter, the range and the value.
    """

    @explained(ALGORITHM_NAMES)
    def __init__(
        self,
        *,
        policy: ProbabilisticActorPolicy,
        critic: nn.Module | ContinuousCritic | DiscreteCritic,
        optim: OptimizerFactory,
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
    ) -> None:
        check_parts(policy=policy, critic=critic, optim=optim)
        if critic_fit is not None:
            check_instance("critic_fit", critic_fit, CriticFit, "for example trpo_ts.critics.GaussNewtonFit()")
        schedules = Schedules()
        super().__init__(
            policy=policy,
            critic=critic,
            optim=optim,
            optim_include_actor=False,
            gae_lambda=schedules.first("gae_lambda", gae_lambda, 0.0, 1.0),
            max_batchsize=check_integer("max_batchsize", max_batchsize, 1),
            gamma=schedules.first("gamma", gamma, 0.0, 1.0),
            return_scaling=check_bool("return_scaling", return_scaling),
        )
        self._schedules = schedules
        self.optim_critic_iters = check_integer("optim_critic_iters", optim_critic_iters, 0)
        self.trust_region_size = schedules.first("trust_region_size", trust_region_size, 0.0, low_open=True)
        self.advantage_normalization = check_bool("advantage_normalization", advantage_normalization)
        self.cg_iters = check_integer("cg_iters", cg_iters, 1)
        self.cg_damping = schedules.first("cg_damping", cg_damping, 0.0)
        self.cg_tolerance = schedules.first("cg_tolerance", cg_tolerance, 0.0, 1.0, high_open=True)
        if preconditioner is not None:
            check_instance("preconditioner", preconditioner, KFAC, "for example trpo_ts.KFAC(), or None")
        self.preconditioner = preconditioner
        self.fisher_subsampling = schedules.first("fisher_subsampling", fisher_subsampling, 0.0, 1.0, low_open=True)
        self.ent_coef = schedules.first("ent_coef", ent_coef, 0.0)
        self.critic_fit = critic_fit
        if critic_fit is None or isinstance(critic_fit, OptimizerFit | MinibatchFit):
            check_steps(torch_optimizer(self.optim))
        self.micro_batch_size = (
            None if micro_batch_size is None else check_integer("micro_batch_size", micro_batch_size, 1)
        )
        self._check_critic_parameters = CriticParameterCheck(critic, policy, self._critic_parameters())
        self._check_policy = PolicyCheck()
        self._check_memory = MemoryCheck()
        self._checked_fit: tuple[Any, ...] = ()
        self._same_update = SameUpdate()
        self._reductions_before = 0
        warn_of_collecting(policy)
        start_alike(self)

    @property
    def has_schedules(self) -> bool:
        """Whether a parameter changes with :attr:`progress`."""
        return bool(self._schedules)

    def update(self, buffer: ReplayBuffer, batch_size: int | None, repeat: int) -> TrainingStats:
        """Update policy and critic from the whole buffer, as Tianshou's on-policy trainer calls it.

        :param buffer: the rollout.
        :param batch_size: the critic's minibatch size; None fits it on the whole rollout.
        :param repeat: policy steps on this rollout, each followed by a fit of the critic, >= 1.
        :raises ValueError: for an empty buffer, or observations, actions or rewards that are not finite, before
            anything is changed.
        """
        with announced(current_ranks()):
            if batch_size is not None:
                check_integer("batch_size", batch_size, 1)
            self._same_update.call = (batch_size or 0, check_integer("repeat", repeat, 1))
            if buffer is not None and len(buffer) == 0:
                raise ValueError("buffer must hold at least one transition, got none; collect before update()")
            # In evaluation mode from here on: each change of it takes as long as a pass.
            with undone_on_error(self), update_context(self), evaluation_mode(self.policy):
                return super().update(buffer, batch_size, repeat)

    def _preprocess_batch(
        self, batch: RolloutBatchProtocol, buffer: ReplayBuffer, indices: np.ndarray
    ) -> BatchWithAdvantagesProtocol:
        ranks = current_ranks()
        self._reductions_before = ranks.reductions
        with announced(ranks), undone_on_error(self), update_context(self):
            for name, value in self._schedules.at(self.progress).items():
                setattr(self, name, value)
            batch = with_scalar_rewards(own_transitions(batch, buffer, indices))
            check_finite(cast(Batch, batch))
            modules = modules_of(self.policy)
            parameters, fitted = parameters_of(modules), self._critic_parameters()
            check_separate([*parameters, *buffers_of(modules)], self.critic, fitted)
            self._check_critic_parameters(self.critic, parameters, fitted)
            follow_parameters(torch_optimizer(self.optim))
            transitions = self._transitions(batch, buffer, indices)
            check_stacking(buffer)
            check_recording(transitions)
            state = batch.get("policy", Batch()).get("hidden_state")
            self._check_memory(self.policy, transitions, state, self.micro_batch_size)
            with named_shapes("policy", self.policy, batch.obs):
                self._check_policy(
                    self.policy, lambda: self._policy_function(transitions), transitions.act, ent_coef=self.ent_coef
                )
            return as_batch(cast(Batch, batch), self._rollout(transitions, batch, buffer, indices))

    def _update_with_batch(  # type: ignore[override]
        self, batch: BatchWithAdvantagesProtocol, batch_size: int | None, repeat: int
    ) -> NPGTrainingStats:
        r"""Take the policy's steps and fit the critic (arXiv:1502.05477, section 6 and appendix C).

        :meth:`_preprocess_batch` has computed :math:`V`, :math:`A` and :math:`R` of the rollout before, in
        :meth:`_rollout`. ``docs/layout.md`` says what each letter means, and what the paper calls it. A step that was
        not accepted is not tried again: the problem has not changed. The critic gets all its fits.
        """
        rollout = rollout_of(batch)
        steps: list[PolicyStep] = []
        vf_losses: list[float] = []
        # Also while the critic is fitted: batch norm in shared layers would move the policy by its statistics.
        with undone_on_error(self), update_context(self), evaluation_mode(self.policy):
            policy_function = self._policy_function(rollout)  # theta, rows n -> pi_theta(.|s_n)
            with announced(policy_function.shard.ranks):
                problem, point = self._problem(policy_function, rollout)  # L(theta), KL(pi_old || pi_theta); theta_old
            to_check = _may_move_otherwise(self.policy)
            for _ in range(repeat):
                if not steps or steps[-1].accepted:
                    linearisation = problem.linearise(point)  # g, and v -> F v
                    direction = natural_gradient(problem, linearisation, self._solver)  # (F + cI) x = g
                    del linearisation  # its graph would stay in memory while the critic is fitted
                    step = self._policy_step(problem, point, direction)  # TRPO: alpha x, cut until KL <= delta, L rises
                    steps.append(step)
                    point = step.end
                with acting_as_promised(policy_function, rollout.act, point.theta) if to_check else nullcontext():
                    policy_function.parameters.write(point.theta)
                    vf_losses += self._fit_critic(rollout, batch_size)  # V(s) towards R
        return self._training_stats(rollout, steps, vf_losses)

    def _policy_step(self, problem: PolicyProblem, start: Point, direction: NaturalGradient) -> PolicyStep:
        return fixed_step(problem, start, direction, factor=self.trust_region_size)

    @property
    def _solver(self) -> SolverSettings:
        return SolverSettings(self.cg_iters, self.cg_damping, self.cg_tolerance, self.preconditioner)

    def _policy_function(self, rollout: Transitions) -> RowFunction:
        kfac = self.preconditioner
        return RowFunction(
            PolicyMap(self.policy, draws=self._check_policy.draws),
            rollout.policy_inputs,
            len(rollout),
            starts=rollout.starts,
            micro_batch_size=self.micro_batch_size,
            record_layers=kfac is not None and kfac.shares_pass(len(rollout)),
            shard=rollout.shard,
            sequence_shard=rollout.sequence_shard,
        )

    def _problem(self, policy_function: RowFunction, rollout: Rollout) -> tuple[PolicyProblem, Point]:
        return PolicyProblem.of_rollout(
            policy_function,
            act=rollout.act,
            adv=rollout.adv,
            ent_coef=self.ent_coef,
            fisher_subsampling=self.fisher_subsampling,
            check=check_sampled,
        )

    def _transitions(self, batch: RolloutBatchProtocol, buffer: ReplayBuffer, indices: np.ndarray) -> Transitions:
        dtype, device = check_trainable(parameters_of(modules_of(self.policy)))
        check_real("cg_damping", self.cg_damping, 0.0, torch.finfo(dtype).max)
        transitions = Transitions.of_batch(batch, buffer, indices, actor=self.policy.actor, device=device, dtype=dtype)
        return transitions.with_sequences(policy_sequences(self.policy, batch.get("policy", Batch()), transitions.ends))

    def _rollout(
        self, transitions: Transitions, batch: RolloutBatchProtocol, buffer: ReplayBuffer, indices: np.ndarray
    ) -> Rollout:
        """Estimate advantages and returns, and update the statistics of returns."""
        with named_shapes("critic", self.critic, batch.obs):
            critic_obs, values, next_values = values_of(self.critic, transitions, self.max_batchsize)
        self._check_fit(critic_obs, values)
        unit = self._return_unit()  # that of the targets which the critic was last fitted to
        values_in_rewards = values.cpu().numpy() * unit
        advantages = generalised_advantages(
            batch,
            buffer,
            indices,
            values=values_in_rewards,
            next_values=next_values.cpu().numpy() * unit,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
        )
        returns = lambda_returns(advantages, values_in_rewards)
        parameter = next(self.policy.parameters())
        adv = torch.as_tensor(advantages).to(values).to(parameter.device, parameter.dtype)
        agreement = self._same_update.agreed(self, transitions, adv, returns, values_in_rewards, critic_obs)
        of_all = agreement.moments
        if self.return_scaling:
            self.ret_rms = statistics_including(self.ret_rms, returns, of_all.returns if of_all else None)
        new_unit = self._return_unit()
        targets, values = torch.as_tensor(returns / new_unit).to(values), values * (unit / new_unit)
        return Rollout(
            **vars(agreement.transitions),
            adv=normalised(adv, of_all.advantages if of_all else None) if self.advantage_normalization else adv,
            returns=targets,
            values=values,
            critic_obs=critic_obs,
            explained_variance=(
                of_all.explained_variance(values.dtype) if of_all else explained_variance(values, targets)
            ),
            critic_sequence_shard=agreement.critic_sequence_shard,
        )

    def _return_unit(self) -> float:
        return return_unit(self.ret_rms) if self.return_scaling else 1.0

    def _check_fit(self, critic_obs: Any, values: Tensor) -> None:
        """Let the critic's fit look at the first rows, once for a critic as it is."""
        check: Callable[[CriticTask], None] | None = getattr(self.critic_fit, "check", None)
        if check is None:
            return
        checked = (self.critic_fit, NetworkView(self.critic))
        if self._checked_fit != checked:
            rows = slice(0, min(2, len(values)))
            with evaluation_mode(self.critic):  # a look must not move the statistics of batch norm
                check(self._critic_task(critic_obs[rows], values[rows]))
            self._checked_fit = checked

    def _fit_critic(self, rollout: Rollout, batch_size: int | None) -> list[float]:
        fit = self.critic_fit or OptimizerFit(self.optim_critic_iters, batch_size)
        task = self._critic_task(rollout.critic_obs, rollout.returns)
        return fit.fit(replace(task, shard=rollout.shard, sequence_shard=rollout.critic_sequence_shard))

    def _critic_parameters(self) -> list[nn.Parameter]:
        return [p for group in torch_optimizer(self.optim).param_groups for p in group["params"]]

    def _critic_task(self, obs: Any, returns: Tensor) -> CriticTask:
        return CriticTask(self.critic, torch_optimizer(self.optim), obs, returns, self.micro_batch_size)

    def _training_stats(self, rollout: Rollout, steps: list[PolicyStep], vf_losses: list[float]) -> NPGTrainingStats:
        return NPGTrainingStats(**self._stats_fields(rollout, steps, vf_losses))

    def _stats_fields(self, rollout: Rollout, steps: list[PolicyStep], vf_losses: list[float]) -> dict[str, Any]:
        return {
            **policy_step_fields(steps),
            "vf_loss": summary(vf_losses),
            "explained_variance": rollout.explained_variance,
            "reductions": current_ranks().reductions - self._reductions_before,
        }

    def _create_optimizer(
        self, module: nn.Module, factory: OptimizerFactory, max_grad_norm: float | None = None
    ) -> ActorCriticWithState.Optimizer:
        return super()._create_optimizer(OwnParameters(module, self.policy), factory, max_grad_norm)
