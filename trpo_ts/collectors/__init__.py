"""Collecting rollouts: a collector as fast as the environments, and the environments that it takes."""

from trpo_ts.collectors.normalised_rewards import VectorEnvNormReward
from trpo_ts.collectors.rollout_collector import RolloutCollector
from trpo_ts.collectors.vector_envs import as_vector_env

__all__ = ["RolloutCollector", "VectorEnvNormReward", "as_vector_env"]
