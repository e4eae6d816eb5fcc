"""Experiments with TRPO and NPG, and the builders that configure them."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from typing import cast

from tianshou.highlevel import experiment as tianshou_experiment
from tianshou.highlevel.config import OnPolicyTrainingConfig
from tianshou.highlevel.env import EnvFactory
from tianshou.highlevel.experiment import Experiment, ExperimentConfig, OnPolicyExperimentBuilder
from tianshou.highlevel.params import algorithm_params
from tianshou.highlevel.persistence import PersistenceGroup
from tianshou.highlevel.world import World

from trpo_ts.highlevel.algorithm import NPGAlgorithmFactory, TRPOAlgorithmFactory
from trpo_ts.highlevel.logger import LoggerFactoryEveryUpdate
from trpo_ts.highlevel.networks import ActorFactoryMakePolicy, CriticFactoryMakeCritic
from trpo_ts.highlevel.params import NPGParams, TRPOParams
from trpo_ts.highlevel.persistence import StatePersistence

__all__ = ["NPGExperimentBuilder", "TRPOExperimentBuilder", "TrustRegionExperiment"]


class TrustRegionExperiment(Experiment):
    """Tianshou's experiment, persisted and restored by :class:`StatePersistence`.

    ``config.policy_persistence_mode`` has no effect: what is stored is always the state.

    The experiment itself is a pickle (``experiment.pkl``): :meth:`from_directory`, and with it the evaluation of
    several seeds, runs code from that file. For a folder that you do not trust, build the experiment anew, with
    ``ExperimentConfig(policy_restore_directory=...)``: then only the state is read.
    """

    def create_experiment_world(
        self,
        override_experiment_name: str | None = None,
        logger_run_id: str | None = None,
        raise_error_on_dirname_collision: bool = True,
        reset_collectors: bool = True,
    ) -> World:
        """Return environments, algorithm, collectors and trainer, as Tianshou does, restored if so configured.

        A run that is restored from the folder it writes to continues there: with the state of the last epoch that
        was saved, and with the counts of epochs and steps in the log.
        """
        directory = self.config.policy_restore_directory
        unrestored = copy.copy(self)
        unrestored.config = replace(self.config, policy_restore_directory=None)
        world = Experiment.create_experiment_world(
            unrestored, override_experiment_name, logger_run_id, raise_error_on_dirname_collision, reset_collectors
        )
        world.restore_directory = directory
        continued = self.config.train and directory is not None and _same_folder(directory, world.persist_directory)
        enabled = self.config.persistence_enabled
        persistence = StatePersistence(PersistenceGroup(*world.envs.persistence, enabled=enabled), enabled, continued)
        if directory is not None:
            persistence.restore(world.algorithm, world, self.config.device)
        if self.config.train:
            world.trainer = self.algorithm_factory.create_trainer(world, persistence)
            world.trainer.params.resume_from_log = continued
        return world


def _same_folder(a: str, b: str) -> bool:
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


class _Builder(OnPolicyExperimentBuilder):
    """What differs from Tianshou's builders: parameters, default networks, default logger, class of the experiment."""

    _params_class: type[algorithm_params.NPGParams]
    _factory_class: type[NPGAlgorithmFactory]

    def __init__(
        self,
        env_factory: EnvFactory,
        experiment_config: ExperimentConfig | None = None,
        training_config: OnPolicyTrainingConfig | None = None,
    ) -> None:
        super().__init__(env_factory, experiment_config, training_config)
        self._params = self._params_class()
        self.with_logger_factory(LoggerFactoryEveryUpdate())
        builder = cast(tianshou_experiment.NPGExperimentBuilder, self)  # or of TRPO: both have these methods
        builder.with_actor_factory(ActorFactoryMakePolicy())
        builder.with_critic_factory(CriticFactoryMakeCritic())

    def _create_algorithm_factory(self) -> NPGAlgorithmFactory:
        builder = cast(tianshou_experiment.NPGExperimentBuilder, self)
        return self._factory_class(
            self._params,
            self._training_config,
            builder._get_actor_factory(),
            builder._get_critic_factory(0),
            self._get_optim_factory(),
        )

    def build(self) -> TrustRegionExperiment:
        """Return the experiment.

        :raises ValueError: for a parameter outside its range, naming it, the range and the value.
        """
        experiment = super().build()
        return TrustRegionExperiment(
            config=experiment.config,
            env_factory=experiment.env_factory,
            algorithm_factory=experiment.algorithm_factory,
            training_config=experiment.training_config,
            name=experiment.name,
            logger_factory=experiment.logger_factory,
        )


class NPGExperimentBuilder(_Builder, tianshou_experiment.NPGExperimentBuilder):
    """Builds experiments with :class:`trpo_ts.NPG`; the methods are those of Tianshou's builder.

    Where no other factories are given, networks come from ``make_policy`` and ``make_critic`` and every update is
    logged.

    :param env_factory: the factory of the environments.
    :param experiment_config: the configuration of the experiment; None for Tianshou's defaults.
    :param training_config: the configuration of the training; None for Tianshou's defaults.
    """

    _params_class = NPGParams
    _factory_class = NPGAlgorithmFactory


class TRPOExperimentBuilder(_Builder, tianshou_experiment.TRPOExperimentBuilder):
    """Builds experiments with :class:`trpo_ts.TRPO`, as :class:`NPGExperimentBuilder` does with NPG."""

    _params_class = TRPOParams
    _factory_class = TRPOAlgorithmFactory
