"""The physics of gymnasium's MuJoCo tasks."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

__all__ = ["OWN_ATTRIBUTES", "is_mujoco_task", "model_fingerprint", "physics_of", "set_physics"]

OWN_ATTRIBUTES = ("model", "data", "mujoco_renderer")
"""Of a task: the model, which gymnasium's tasks never change, but wrappers may, the physics, and what only draws."""


def is_mujoco_task(env: object) -> bool:
    """Return whether an environment is one of gymnasium's own; one derived from them may hold what is not here."""
    return type(env).__module__.startswith("gymnasium.envs.mujoco.") and set(OWN_ATTRIBUTES) <= set(vars(env))


def model_fingerprint(env: Any) -> str:
    """Return a text that is the same in another process if the model is."""
    import mujoco  # an optional dependency

    content = np.empty(mujoco.mj_sizeModel(env.model), dtype=np.uint8)
    mujoco.mj_saveModel(env.model, None, content)
    return hashlib.blake2b(content.tobytes(), digest_size=8).hexdigest()


def physics_of(env: Any) -> dict[str, Any]:
    """Return all that the next step depends on, and the quantities derived from it, which a task reads before it."""
    import mujoco

    state = np.empty(mujoco.mj_stateSize(env.model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(env.model, env.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    arrays = _derived(env.data)
    return {
        "state": state,
        "sizes": [array.size for array in arrays],
        "derived": np.concatenate([array.ravel() for array in arrays]),
    }


def set_physics(env: Any, physics: dict[str, Any]) -> None:
    """Set what :func:`physics_of` returned."""
    import mujoco

    mujoco.mj_setState(env.model, env.data, physics["state"], mujoco.mjtState.mjSTATE_INTEGRATION)
    parts = np.split(physics["derived"], np.cumsum(physics["sizes"])[:-1])
    for array, part in zip(_derived(env.data), parts, strict=True):
        if array.size == part.size:  # those of contacts vary, and the next step makes them anew
            array[...] = part.reshape(array.shape)


def _derived(data: Any) -> list[np.ndarray]:
    values = [getattr(data, name) for name in dir(data) if not name.startswith("_")]
    return [value for value in values if isinstance(value, np.ndarray) and value.dtype == np.float64]
