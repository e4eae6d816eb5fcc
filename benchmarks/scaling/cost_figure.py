"""The figure of the cost model: efficiency by the number of ranks, and where the time goes."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from scaling.cost_model import RANKS, RING, TREE, Costs, Network, efficiency, fewest, fitted, step
from scaling.scaling_tables import SHARES, ratios

COLOURS = {"HalfCheetah, 16 x 64": "#0072b2", "point mass, 16 x 128": "#d55e00"}
PARTS = {"collect": "#0072b2", "wait": "#e69f00", "update": "#009e73", "messages": "#d55e00"}


def cost_figure(data: dict[str, Any]) -> go.Figure:
    """Return the figure."""
    titles = ("Throughput per rank, of one process", "Seconds of a step, HalfCheetah, ring")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.1)
    for label, colour in COLOURS.items():
        pair = SHARES[label]
        costs = fitted(data, *pair.names)
        _add_lines(figure, costs, label, colour)
        measured = ratios(data, pair.task, *pair.pair).together / 2
        figure.add_scatter(
            x=[2], y=[measured], mode="markers", marker={"color": colour, "size": 11, "symbol": "x"}, showlegend=False
        )
    _add_bars(figure, fitted(data, *next(iter(SHARES.values())).names))
    figure.update_xaxes(title_text="ranks", type="category", row=1, col=2)
    figure.update_xaxes(
        title_text="ranks (crosses: measured)", type="log", tickvals=RANKS, ticktext=list(map(str, RANKS)), row=1, col=1
    )
    figure.update_yaxes(range=[0, 1.05], row=1, col=1)
    return figure.update_layout(
        template="plotly_white", barmode="stack", height=480, margin={"t": 50, "b": 40, "l": 50, "r": 20}, font_size=13
    )


def _add_lines(figure: go.Figure, costs: Costs, label: str, colour: str) -> None:
    network = Network()
    plans = {
        RING: ("solid", {"algorithm": RING}),
        TREE: ("dash", {"algorithm": TREE}),
        "tree, fused": ("dot", {"algorithm": TREE, "messages": fewest(costs.messages)}),
    }
    for plan, (dash, options) in plans.items():
        figure.add_scatter(
            x=RANKS,
            y=[efficiency(costs, ranks, network, **options) for ranks in RANKS],
            mode="lines",
            line={"color": colour, "dash": dash},
            name=f"{label}: {plan}",
            row=1,
            col=1,
        )


def _add_bars(figure: go.Figure, costs: Costs) -> None:
    steps = [step(costs, ranks, Network()) for ranks in RANKS]
    for part, colour in PARTS.items():
        heights = [getattr(one, part) for one in steps]
        figure.add_bar(x=list(map(str, RANKS)), y=heights, marker_color=colour, name=part, row=1, col=2)
