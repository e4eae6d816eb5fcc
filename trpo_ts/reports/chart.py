"""A chart over environment steps, as plotly.js draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trpo_ts.diagnostics.page import chart_figure
from trpo_ts.diagnostics.style import FONT, INK

__all__ = ["Chart"]

_HEIGHT, _TALL = 230, 340
_GRID, _FRAME = "#e8ecf0", "#b3bcc5"


@dataclass(frozen=True)
class Chart:
    """One chart with its heading."""

    key: str
    heading: str
    caption: str
    y_title: str
    """Title of the vertical axis, with the unit."""
    traces: Sequence[Mapping[str, Any]]
    axis: Mapping[str, Any] = field(default_factory=dict)
    """Further properties of the vertical axis."""
    wide: bool = False
    """Whether it takes the whole width of the page."""
    legend: bool = True
    """Whether its traces are named; one alone never is."""

    def document(self) -> dict[str, Any]:
        """Return what :func:`trpo_ts.diagnostics.page.html_page` takes."""
        return {"id": self._identifier, "data": list(self.traces), "layout": self._layout(), "linked": True}

    def html(self) -> str:
        """Return the place where it is drawn."""
        height = _TALL if self.wide else _HEIGHT
        place = chart_figure(self._identifier, height, heading=self.heading, caption=self.caption)
        return place.replace("<figure", '<figure class="wide"', 1) if self.wide else place

    @property
    def _identifier(self) -> str:
        return f"chart-{self.key}"

    def _layout(self) -> dict[str, Any]:
        named = sum(trace.get("showlegend", True) for trace in self.traces)
        axis = {"gridcolor": _GRID, "zeroline": False, "automargin": True, "nticks": 6, "linecolor": _FRAME}
        return {
            "font": {"size": 12, "color": INK, "family": FONT},
            "margin": {"l": 8, "r": 16, "t": 12, "b": 8},
            "hovermode": "closest",
            "hoverlabel": {"align": "left"},
            "showlegend": self.legend and named > 1,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0, 0, 0, 0)"},
            "xaxis": {
                **axis,
                "title": {"text": "environment steps", "standoff": 6},
                "tickformat": "~s",
                "rangemode": "tozero",
                "showline": True,
            },
            "yaxis": {**axis, "title": {"text": self.y_title, "standoff": 8}, **self.axis},
        }
