"""Preconditioners, critic fits and schedules as texts: what a file can hold, and what ``repr`` gives."""

from __future__ import annotations

import ast
from typing import Any

from trpo_ts.critics import CriticFit, GaussNewtonFit, LBFGSFit, MinibatchFit, OptimizerFit
from trpo_ts.kfac.settings import KFAC
from trpo_ts.schedules import LinearSchedule, Schedule

__all__ = ["critic_fit_of", "number_or_schedule_of", "preconditioner_of"]

_FITS: dict[str, type] = {kind.__name__: kind for kind in (GaussNewtonFit, MinibatchFit, LBFGSFit, OptimizerFit)}
_SCHEDULES: dict[str, type] = {LinearSchedule.__name__: LinearSchedule}
_PRECONDITIONERS: dict[str, type] = {KFAC.__name__: KFAC}


def critic_fit_of(text: str | None) -> CriticFit | None:
    """Return the critic's fit that a text such as ``"GaussNewtonFit(steps=2)"`` or ``"LBFGSFit"`` describes.

    :raises ValueError: for another text, and for parameters that the fit refuses.
    """
    fit: CriticFit | None = _component("critic_fit", text, _FITS, "GaussNewtonFit(steps=2)")
    return fit


def preconditioner_of(text: str | None) -> KFAC | None:
    """Return the preconditioner that a text such as ``"KFAC(samples=256)"`` describes.

    :raises ValueError: for another text, and for parameters that it refuses.
    """
    kfac: KFAC | None = _component("preconditioner", text, _PRECONDITIONERS, "KFAC(samples=256)")
    return kfac


def number_or_schedule_of(name: str, value: float | str) -> float | Schedule:
    """Return a number as it is, and the schedule that a text such as ``"LinearSchedule(start=0.02, end=0)"`` describes.

    :param name: of the parameter.
    :raises ValueError: for another text, and for parameters that the schedule refuses.
    """
    if not isinstance(value, str):
        return value
    example = "LinearSchedule(start=0.02, end=0)"
    schedule: Schedule = _component(name, value, _SCHEDULES, example, "a number or a schedule")
    return schedule


def _component(name: str, text: str | None, kinds: dict[str, type], example: str, expected: str = "") -> Any:
    if text is None:
        return None
    try:
        component = _value(ast.parse(text, mode="eval").body, kinds)
        if not isinstance(component, tuple(kinds.values())):
            raise ValueError(f"{component!r} is none of them")
        return component
    except (SyntaxError, TypeError, ValueError) as error:
        expected = expected or f"one of {', '.join([*kinds, 'None'])}"
        raise ValueError(f"{name} must be {expected}, such as {example!r}, got {text!r}: {error}") from error


def _value(node: ast.expr, kinds: dict[str, type]) -> Any:
    """Evaluate literals, and calls of the known classes by keywords; no other code is run."""
    kinds = {**kinds, **_PRECONDITIONERS}
    if isinstance(node, ast.Name):
        return _kind(node, kinds)()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError(f"give the parameters of {node.func.id} by name")
        kind = _kind(node.func, kinds)
        return kind(**{str(keyword.arg): _value(keyword.value, {}) for keyword in node.keywords})
    return ast.literal_eval(node)


def _kind(node: ast.Name, kinds: dict[str, type]) -> type:
    if node.id not in kinds:
        raise ValueError(f"{node.id} is unknown")
    return kinds[node.id]
