"""The states of the process's random generators."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

__all__ = ["generator_states", "set_generator_states"]


def generator_states() -> dict[str, Any]:
    """Return the states of Python's generator, NumPy's global one, and torch's on CPU and on each CUDA device."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002  Tianshou shuffles and samples by the global generator
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Set what :func:`generator_states` returned; of CUDA devices as many as there are here and were there."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), states["cuda"], strict=False):
            torch.cuda.set_rng_state(state, device)
