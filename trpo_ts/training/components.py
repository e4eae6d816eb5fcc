"""Preconditioners and critic fits as texts: what a command line and a file can hold, and what ``repr`` gives."""

from __future__ import annotations

import ast
from typing import Any

from trpo_ts.critics import CriticFit, GaussNewtonFit, LBFGSFit, MinibatchFit, OptimizerFit
from trpo_ts.kfac.settings import KFAC

__all__ = ["critic_fit_of", "preconditioner_of"]

_FITS: dict[str, type] = {kind.__name__: kind for kind in (GaussNewtonFit, MinibatchFit, LBFGSFit, OptimizerFit)}
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


def _component(name: str, text: str | None, kinds: dict[str, type], example: str) -> Any:
    if text is None:
        return None
    try:
        component = _value(ast.parse(text, mode="eval").body, kinds)
        if not isinstance(component, tuple(kinds.values())):
            raise ValueError(f"{component!r} is none of them")
        return component
    except (SyntaxError, TypeError, ValueError) as error:
        choices = ", ".join([*kinds, "None"])
        raise ValueError(f"{name} must be one of {choices}, such as {example!r}, got {text!r}: {error}") from error


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
