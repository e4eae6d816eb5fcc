"""Agents as files for other runtimes: ONNX, and torch's exported programs."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from trpo_ts.agents.acting_agent import ActingAgent
from trpo_ts.agents.example_observations import example_observations, parts_of_value
from trpo_ts.agents.exported_module import ExportedModule
from trpo_ts.atomic_write import atomic_write
from trpo_ts.runtime import without_validation

__all__ = ["export_agent"]

Arrays = Mapping[str, np.ndarray]

_EXAMPLES = 32
"""The observations on which an exported agent is compared with the agent itself."""

_TOLERANCE = 1e-4
_LEAST_EQUAL = 0.9
"""The share of equal choices: where two are equally probable, rounding decides."""


def export_agent(agent: ActingAgent, path: str | os.PathLike[str]) -> Path:
    """Write an agent; see :meth:`trpo_ts.agents.Agent.export`."""
    file = Path(path)
    if file.suffix not in _FORMATS:
        raise ValueError(f"path must end in {' or '.join(_FORMATS)}, got {os.fspath(path)!r}")
    if file.suffix == ".onnx":
        _check_packages()
    obs = example_observations(agent, _EXAMPLES)
    expected = parts_of_value(agent.action_space, "action", agent.fresh().act(obs))
    examples = parts_of_value(agent.observation_space, "obs", obs)
    try:
        with _quiet():
            module = ExportedModule(agent).eval()
            if module.state_size is not None:
                examples["state"] = np.zeros((_EXAMPLES, module.state_size), _dtype(module))
            content, outputs = _FORMATS[file.suffix](module, examples)
    except Exception as error:  # networks may be anyone's, and exporters raise what they like
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"the policy cannot be exported: {lines[0]}") from error
    for name, wanted in expected.items():
        _check_same(name, wanted, outputs[name])
    return atomic_write(file, content)


def _as_program(module: ExportedModule, examples: Arrays) -> tuple[bytes, Arrays]:
    """Return the file of an exported program, and what it gives for the examples."""
    program, buffer = _exported(module, examples), io.BytesIO()
    torch.export.save(program, buffer)
    outputs = program.module()({name: torch.as_tensor(value) for name, value in examples.items()})
    return buffer.getvalue(), {name: value.numpy() for name, value in outputs.items()}


def _as_onnx(module: ExportedModule, examples: Arrays) -> tuple[bytes, Arrays]:
    """Return the file of an ONNX model, and what it gives for the examples."""
    import onnxruntime

    with torch.no_grad():
        names = list(module({name: torch.as_tensor(value) for name, value in examples.items()}))
    exported = torch.onnx.export(
        _exported(module, examples),
        dynamo=True,
        external_data=False,
        input_names=list(examples),
        output_names=names,
        verbose=False,
    )
    assert exported is not None
    content = exported.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, dict(zip(names, session.run(names, dict(examples)), strict=True))


_FORMATS: dict[str, Callable[[ExportedModule, Arrays], tuple[bytes, Arrays]]] = {".onnx": _as_onnx, ".pt2": _as_program}


def _exported(module: ExportedModule, examples: Arrays) -> ExportedProgram:
    inputs = {name: torch.as_tensor(value) for name, value in examples.items()}
    batch = Dim("batch")
    with torch.no_grad():
        return torch.export.export(module, (inputs,), dynamic_shapes=({name: {0: batch} for name in inputs},))


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what exporters say of packages that are not needed and of what torch will change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with without_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError('export to ONNX needs packages; type: pip install "trpo-ts[export]"') from error


def _check_same(name: str, wanted: np.ndarray, got: np.ndarray) -> None:
    """Check that an exported agent acts as the agent does.

    :raises ValueError: otherwise.
    """
    if wanted.dtype.kind == "f":
        same = np.allclose(got, wanted, rtol=_TOLERANCE, atol=_TOLERANCE)
    else:
        same = bool(np.mean(got == wanted) >= _LEAST_EQUAL)
    if not same:
        raise ValueError(
            f"the policy cannot be exported: what is exported gives another {name} than the policy; its networks "
            "must compute the same from tensors as from arrays"
        )


def _dtype(module: ExportedModule) -> Any:
    return next(module.policy.parameters()).detach().numpy().dtype
