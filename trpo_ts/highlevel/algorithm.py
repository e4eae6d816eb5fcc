"""The factories that build TRPO and NPG for the environments of an experiment."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from gymnasium.spaces import Box
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.highlevel.algorithm import ActorCriticOnPolicyAlgorithmFactory
from tianshou.highlevel.config import OnPolicyTrainingConfig
from tianshou.highlevel.env import Environments
from tianshou.highlevel.module.actor import ActorFactory, ActorFactoryTransientStorageDecorator
from tianshou.highlevel.module.core import TDevice
from tianshou.highlevel.module.critic import CriticFactory, CriticFactoryReuseActor
from tianshou.highlevel.params import algorithm_params
from tianshou.highlevel.params.algorithm_params import ParamTransformerData
from tianshou.highlevel.params.optim import OptimizerFactoryFactory
from tianshou.highlevel.persistence import PolicyPersistence
from tianshou.highlevel.world import World
from tianshou.trainer import OnPolicyTrainer

from trpo_ts.highlevel.networks import ActorFactoryMakePolicy
from trpo_ts.highlevel.params import check_params
from trpo_ts.npg import NPG
from trpo_ts.trpo import TRPO

__all__ = ["NPGAlgorithmFactory", "TRPOAlgorithmFactory"]


class NPGAlgorithmFactory(ActorCriticOnPolicyAlgorithmFactory[algorithm_params.NPGParams, NPG]):
    """Builds :class:`trpo_ts.NPG`.

    :param params: the parameters, this package's or Tianshou's own.
    :param training_config: the configuration of the training.
    :param actor_factory: the factory of the actor.
    :param critic_factory: the factory of the critic.
    :param optimizer_factory: the factory of the critic's optimiser where ``params.optim`` is None.
    :raises ValueError: for a value outside its range, naming the parameter, the range and the value, and for a buffer
        that does not hold a rollout.
    """

    def __init__(
        self,
        params: algorithm_params.NPGParams,
        training_config: OnPolicyTrainingConfig,
        actor_factory: ActorFactory,
        critic_factory: CriticFactory,
        optimizer_factory: OptimizerFactoryFactory,
    ) -> None:
        check_params(params, self._get_algorithm_class())
        steps, size = training_config.collection_step_num_env_steps, training_config.buffer_size
        if steps is not None and size < steps:
            raise ValueError(
                f"buffer_size must be at least collection_step_num_env_steps = {steps}, got {size}: "
                "the update would see the end of each rollout only"
            )
        super().__init__(params, training_config, actor_factory, critic_factory, optimizer_factory)

    def _get_algorithm_class(self) -> type[NPG]:
        return NPG

    def create_trainer(self, world: World, policy_persistence: PolicyPersistence) -> OnPolicyTrainer:
        """Return the trainer, which collects steps or episodes as the training configuration says."""
        config = self.training_config
        if config.collection_step_num_episodes is None:
            return super().create_trainer(world, policy_persistence)
        # Tianshou's method hands on the number of steps only.
        by_steps = copy.copy(self)
        by_steps.training_config = replace(config, collection_step_num_env_steps=1, collection_step_num_episodes=None)
        trainer = by_steps.create_trainer(world, policy_persistence)
        trainer.params.collection_step_num_env_steps = None
        trainer.params.collection_step_num_episodes = config.collection_step_num_episodes
        return trainer

    def _create_algorithm(self, envs: Environments, device: TDevice) -> NPG:
        data = ParamTransformerData(envs=envs, device=device, optim_factory_default=self.optim_factory)
        kwargs = self.params.create_kwargs(data)
        names = ("action_scaling", "action_bound_method", "deterministic_eval")
        policy = self._create_policy(envs, device, **{name: kwargs.pop(name) for name in names})
        if isinstance(self.critic_factory, CriticFactoryReuseActor):
            # A restored experiment, or one in another process, has lost the link from actor to critic.
            self.critic_factory.actor_future.actor = policy.actor
        critic = self.critic_factory.create_module(envs, device, use_action=False)
        return self._get_algorithm_class()(policy=policy, critic=critic, **kwargs)

    def _create_policy(
        self, envs: Environments, device: TDevice, *, deterministic_eval: bool, **actions: Any
    ) -> ProbabilisticActorPolicy:
        factory = self.actor_factory
        network = factory.actor_factory if isinstance(factory, ActorFactoryTransientStorageDecorator) else factory
        chosen = self.params.action_scaling != "default" or self.params.action_bound_method != "clip"
        if isinstance(network, ActorFactoryMakePolicy) and not chosen:
            return network.create_policy(envs, device, deterministic_eval)
        space = envs.get_action_space()
        if self.params.action_scaling == "default" and isinstance(space, Box) and not space.is_bounded("both"):
            # Scaled to bounds at infinity, actions are not numbers; clipped, they reach nothing beyond [-1, 1].
            actions = {"action_scaling": False, "action_bound_method": None}
        actor: Any = factory.create_module(envs, device)
        dist_fn = factory.create_dist_fn(envs)
        if dist_fn is None:
            raise ValueError(f"actor_factory must give a distribution of actions, got none from {network}")
        return ProbabilisticActorPolicy(
            actor=actor,
            dist_fn=dist_fn,
            deterministic_eval=deterministic_eval,
            action_space=space,
            observation_space=envs.get_observation_space(),
            **actions,
        )


class TRPOAlgorithmFactory(NPGAlgorithmFactory):
    """Builds :class:`trpo_ts.TRPO`, as :class:`NPGAlgorithmFactory` builds NPG."""

    def _get_algorithm_class(self) -> type[TRPO]:
        return TRPO
