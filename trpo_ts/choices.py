"""The words that parameters take, as types: a type checker refuses any other, and so do the functions when they run."""

from __future__ import annotations

from typing import Literal

__all__ = ["Activation", "Backend", "BoxDistribution", "EnvBackend", "Memory", "RecurrentCell", "StdKind"]

Activation = Literal["tanh", "relu", "elu", "silu", "gelu"]
"""Activation of a preset's hidden layers."""

BoxDistribution = Literal["gaussian", "squashed_gaussian", "beta", "gsde"]
"""Distribution of a Box of actions."""

StdKind = Literal["free", "state_dependent"]
"""What the standard deviation of the Gaussians is."""

RecurrentCell = Literal["gru", "lstm"]
"""Cell of a recurrent network."""

Memory = Literal["none", "gru", "lstm"]
"""Cell of a preset's networks, if any."""

Backend = Literal["gymnasium", "envpool", "ray"]
"""Who runs the environments."""

EnvBackend = Literal["auto", "gymnasium", "envpool", "ray"]
"""Who shall run the environments; ``"auto"`` takes EnvPool for tasks that only EnvPool has."""
