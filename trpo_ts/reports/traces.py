"""Curves as traces of plotly.js, in little room."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trpo_ts.diagnostics.style import GREY, VERMILLION, translucent
from trpo_ts.reports.curves import Curve

__all__ = ["band", "crosses", "dashed", "level", "line", "points"]

_MARKED_POINTS = 40
"""Up to so many points each has a mark."""
_BAND_OPACITY = 0.18


def line(
    curve: Curve,
    name: str,
    *,
    color: str,
    dash: str = "solid",
    width: float = 2.0,
    opacity: float = 1.0,
    unit: str = "",
) -> dict[str, Any]:
    """Return a line, broken where a value is NaN; few points, or lonely ones, have marks.

    :param name: as text; it is never read as HTML.
    :param dash: ``solid``, ``dash``, ``dot``, ``dashdot`` or another of plotly.js.
    :param unit: of the values, which follows them where the pointer is.
    """
    known = np.isfinite(curve.values)
    beside = np.pad(known, 1)
    lonely = bool((known & ~beside[:-2] & ~beside[2:]).any())
    label = _text(name)
    return {
        **_xy(curve),
        "mode": "lines+markers" if lonely or len(curve.steps) <= _MARKED_POINTS else "lines",
        "line": {"color": color, "dash": dash, "width": width},
        "marker": {"size": 4},
        "opacity": opacity,
        "name": label,
        "hovertemplate": f"{label}: %{{y:,.4g}} {unit}<br>%{{x:,d}} environment steps<extra></extra>",
    }


def band(steps: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], color: str) -> dict[str, Any]:
    """Return the area between two curves; the heading says what it is."""
    outline = Curve(np.concatenate([steps, steps[::-1]]), np.concatenate([high, low[::-1]]))
    return {
        **_xy(outline),
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": translucent(color, _BAND_OPACITY),
        "hoverinfo": "skip",
        "showlegend": False,
    }


def points(curve: Curve, name: str, *, color: str, symbol: str) -> dict[str, Any]:
    """Return marks joined by a thin line."""
    return {
        **line(curve, name, color=color, dash="dot", width=1.2),
        "mode": "lines+markers",
        "cliponaxis": False,
        "marker": {"symbol": symbol, "size": 8, "color": color, "line": {"width": 1, "color": "#ffffff"}},
    }


def level(last_step: float, height: float, name: str) -> dict[str, Any]:
    """Return a dashed horizontal line; a trace and not a shape, so that the axis makes room for it."""
    return dashed(Curve(np.array([0.0, last_step]), np.full(2, height)), name)


def dashed(curve: Curve, name: str) -> dict[str, Any]:
    """Return the line of what others are compared with."""
    return {**line(curve, name, color=GREY, dash="dash", width=1.5), "mode": "lines"}


def crosses(curve: Curve) -> dict[str, Any]:
    """Return the marks of rejected updates."""
    return {
        **_xy(curve),
        "mode": "markers",
        "cliponaxis": False,
        "marker": {"symbol": "x", "size": 8, "color": VERMILLION, "line": {"width": 1, "color": "#ffffff"}},
        "name": "rejected",
        "hovertemplate": "rejected: the policy was not changed<br>%{x:,d} environment steps<extra></extra>",
    }


def _xy(curve: Curve) -> dict[str, Any]:
    return {"type": "scatter", "x": _packed(curve.steps), "y": _packed(curve.values)}


def _packed(values: NDArray[np.float64]) -> dict[str, str]:
    """Return numbers as plotly.js reads them with four bytes each; more digits are never seen."""
    largest = np.finfo(np.float32).max
    single = np.clip(values, -largest, largest).astype("<f4")
    return {"dtype": "f4", "bdata": base64.b64encode(single.tobytes()).decode("ascii")}


def _text(name: str) -> str:
    # plotly.js reads tags in texts, and "%{" in templates.
    return escape(name, quote=False).replace("%{", "%&#123;")
