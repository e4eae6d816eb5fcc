"""The common look of the figures: colours, lines, and panels stacked over one axis.

The colours are those of Okabe and Ito (2008), chosen to be told apart with any kind of colour vision; where
two series share a panel they also differ in dash, symbol or kind of mark.
"""

__all__ = [
    "BLUE",
    "FONT",
    "GREEN",
    "GREY",
    "INK",
    "LIGHT_BLUE",
    "ORANGE",
    "VERMILLION",
    "Panel",
    "line",
    "placeholder",
    "stack_panels",
    "translucent",
]

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

BLUE = "#0072B2"
LIGHT_BLUE = "#56B4E9"
ORANGE = "#E69F00"
VERMILLION = "#D55E00"
GREEN = "#009E73"
GREY = "#5F6B76"
INK = "#1F2328"
FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

# Pixels. Panels are laid out in pixels and not in shares of the figure, so that headings and legends never
# meet, however many panels there are.
_HEADING, _LEGEND, _LEGEND_ROW, _GAP, _TITLE, _TOP, _BOTTOM = 24, 8, 20, 20, 40, 12, 56
_LEFT, _RIGHT, _RIGHT_AXIS = 76, 16, 64
# A figure on a telephone. A name in a legend takes its characters and the room of its mark.
_NARROW, _MARK, _CHARACTER = 358, 45, 7.5
# Beyond this many points a marker on each turns a curve into a caterpillar.
_MARKED_POINTS = 60
# Beyond this many, a line of full width fills its own zigzag.
_WIDE_LINE_POINTS = 300


@dataclass(frozen=True)
class Panel:
    """One plot of a stack."""

    heading: str
    y_title: str
    traces: Sequence[Any]
    height: int = 130
    """Height of the plotting area in pixels."""
    y_axis: dict[str, Any] = field(default_factory=dict)
    """Further properties of the vertical axis."""
    right_title: str = ""
    """Title of a second vertical axis, on the right."""
    right_traces: Sequence[Any] = ()
    """Traces of that axis; it is left out if there are none."""
    right_axis: dict[str, Any] = field(default_factory=dict)
    """Further properties of that axis."""

    @property
    def header(self) -> int:
        """Height in pixels of heading and legend, which are above the plotting area."""
        return _HEADING + (_LEGEND + _LEGEND_ROW * self._legend_rows if self.has_legend else 0)

    @property
    def has_legend(self) -> bool:
        """Whether there are several named things to tell apart."""
        return len(self._names) > 1

    @property
    def _names(self) -> list[str]:
        traces = (*self.traces, *self.right_traces)
        return [trace.name or "" for trace in traces if trace.showlegend is not False]

    @property
    def _legend_rows(self) -> int:
        """How many rows the legend takes on a telephone: Plotly puts names that need several into equal columns."""
        width = _NARROW - _LEFT - (_RIGHT_AXIS if self.right_traces else _RIGHT)
        widths = [_MARK + _CHARACTER * len(name) for name in self._names]
        if sum(widths) <= width:
            return 1
        return math.ceil(len(widths) / max(1, int(width / max(widths))))


def line(x: Sequence[float], y: Sequence[float | None], **properties: Any) -> go.Scatter:
    """Return a line through the given points, broken at None; few points, or lonely ones, are marked each.

    :param properties: further properties of the trace; `color` and `dash` are those of its line.
    """
    stroke = {
        "color": properties.pop("color", BLUE),
        "dash": properties.pop("dash", "solid"),
        "width": 2 if len(x) <= _WIDE_LINE_POINTS else 1.2,
    }
    # A value between two gaps has no line to show it.
    lonely = any(
        value is not None and before is None and after is None
        for before, value, after in zip([None, *y], y, [*y[1:], None], strict=False)
    )
    marked = lonely or len(x) <= _MARKED_POINTS
    mode = properties.pop("mode", "lines+markers" if marked else "lines")
    return go.Scatter(x=list(x), y=list(y), mode=mode, line=stroke, marker={"size": 5}, **properties)


def translucent(color: str, opacity: float) -> str:
    """Return a ``#RRGGBB`` colour with the given opacity in [0, 1]."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def stack_panels(panels: Sequence[Panel], *, x_title: str, title: str | None, **x_axis: Any) -> go.Figure:
    """Return panels one below the other over one horizontal axis; the figure fills the width it is given.

    :param x_axis: further properties of the horizontal axis.
    """
    if not panels:
        return placeholder("nothing was recorded", title=title)
    top = _TITLE if title else _TOP
    inner = sum(panel.header + panel.height for panel in panels) + _GAP * (len(panels) - 1)
    right = _RIGHT_AXIS if any(panel.right_traces for panel in panels) else _RIGHT
    figure = _canvas(title, height=top + inner + _BOTTOM, top=top, right=right)
    ceiling, axis = inner, 1
    for number, panel in enumerate(panels, start=1):
        _add_header(figure, panel, legend=number, ceiling=ceiling / inner, legend_ceiling=(ceiling - _HEADING) / inner)
        ceiling -= panel.header
        floor = ceiling - panel.height
        _add_panel(figure, panel, axis=axis, legend=number, domain=(floor / inner, ceiling / inner))
        ceiling, bottom_axis = floor - _GAP, axis
        axis += 2 if panel.right_traces else 1
    figure.update_layout(
        xaxis={
            "title": _axis_title(x_title),
            "anchor": f"y{bottom_axis}",
            "zeroline": False,
            # Plotly leaves the grid out where there are bars.
            "showgrid": True,
            **x_axis,
        }
    )
    return figure


def placeholder(text: str, *, title: str | None) -> go.Figure:
    """Return an empty figure that says why it is empty."""
    figure = _canvas(title, height=160, top=_TITLE if title else _TOP)
    figure.add_annotation(text=text, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})


def _canvas(title: str | None, *, height: int, top: int, right: int = _RIGHT) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        font={"size": 13, "color": INK, "family": FONT},
        height=height,
        margin={"l": _LEFT, "r": right, "t": top, "b": _BOTTOM},
        hovermode="closest",
        hoverlabel={"align": "left"},
    )
    if title:
        # Anchored to the top edge, where no heading or legend reaches.
        place = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yanchor": "top", "pad": {"t": 10}}
        figure.update_layout(title={"text": title, "font": {"size": 17}, "yref": "container", **place})
    return figure


def _add_panel(figure: go.Figure, panel: Panel, *, axis: int, legend: int, domain: tuple[float, float]) -> None:
    """Draw a panel on the vertical axis of that number, and on the next one if it has two."""
    left = {"title": _axis_title(panel.y_title), "anchor": "x", "domain": domain, **panel.y_axis}
    layers = [(panel.traces, left)]
    if panel.right_traces:
        # Below the left-hand traces, which therefore lie on the overlaying axis.
        right = {"title": _axis_title(panel.right_title), "anchor": "x", "domain": domain}
        layers.insert(0, (panel.right_traces, {**right, "side": "right", "showgrid": False, **panel.right_axis}))
        left |= {"overlaying": f"y{axis}", "side": "left"}
    for number, (traces, properties) in enumerate(layers, start=axis):
        figure.update_layout({f"yaxis{number}": {"zeroline": False, **properties}})
        for trace in traces:
            figure.add_trace(trace.update(xaxis="x", yaxis=f"y{number}", legend=f"legend{legend}"))


def _add_header(figure: go.Figure, panel: Panel, *, legend: int, ceiling: float, legend_ceiling: float) -> None:
    """Write the heading of a panel at the figure's left edge, and its legend below, over the plotting area."""
    heading = {"text": f"<b>{panel.heading}</b>", "showarrow": False, "xshift": -_LEFT}
    keys = {"orientation": "h", "bgcolor": "rgba(255, 255, 255, 0)", "font": {"size": 12}}
    place = {"x": 0, "xref": "paper", "xanchor": "left", "yref": "paper", "yanchor": "top"}
    figure.add_annotation(**heading, **place, y=ceiling)
    figure.update_layout({f"legend{legend}": {"visible": panel.has_legend, **keys, **place, "y": legend_ceiling}})


def _axis_title(text: str) -> dict[str, Any]:
    # Plotly's own size is larger than that of the headings above the panels.
    return {"text": text, "standoff": 8, "font": {"size": 13}}
