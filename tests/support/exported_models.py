"""Exported agents as functions, by other programs than the package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch

__all__ = ["Arrays", "loaded_model"]

Arrays = dict[str, np.ndarray]


def loaded_model(path: Path) -> Callable[[Mapping[str, np.ndarray]], Arrays]:
    """Return an exported file as a function of arrays by name."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(None, dict(inputs)), strict=True))
    module = torch.export.load(path).module()

    def run(inputs: Mapping[str, np.ndarray]) -> Arrays:
        outputs = module({name: torch.as_tensor(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return run
