"""Trained agents to take along: loaded from a checkpoint alone, they act, are evaluated, filmed and exported.

>>> import trpo_ts
>>> agent = trpo_ts.load("runs/CartPole-v1/seed_0")  # doctest: +SKIP
>>> agent.act(observation)  # doctest: +SKIP
"""

from trpo_ts.agents.agent import Agent
from trpo_ts.agents.evaluation import Evaluation
from trpo_ts.agents.loading import load

__all__ = ["Agent", "Evaluation", "load"]
