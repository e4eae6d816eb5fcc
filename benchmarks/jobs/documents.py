"""The tables and figures that the documents take from the results."""

from __future__ import annotations

import statistics
from typing import Any

import common
import plotly.graph_objects as go

from jobs.cases import ENVPOOL, ENVPOOL_2, EVERY, GYMNASIUM, OURS, OURS_BUFFERED, OURS_POOL, OURS_POOL_2, SB3, TIANSHOU
from trpo_ts.diagnostics.style import BLUE, GREEN, GREY, VERMILLION, Panel, line, stack_panels

COLOURS = {TIANSHOU: VERMILLION, SB3: GREY, OURS: BLUE, OURS_POOL: GREEN, OURS_BUFFERED: GREEN}
DASHES = {TIANSHOU: "dash", OURS: "solid", OURS_BUFFERED: "dot"}
SIMULATOR_OF = {OURS_POOL: ENVPOOL, OURS_POOL_2: ENVPOOL_2, OURS_BUFFERED: ENVPOOL}


def rate(case: dict[str, Any], side: str) -> float:
    """Return a side's environment steps per second, the median of its turns."""
    return case["steps_per_turn"] / statistics.median(turn["seconds"] for turn in case["turns"][side])


def ratio(case: dict[str, Any], side: str, other: str) -> float:
    """Return how many times as fast a side is as another: the median of the quotients within a round."""
    pairs = zip(case["turns"][side], case["turns"][other], strict=True)
    return statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)


def per_update(case: dict[str, Any], side: str, what: str) -> float:
    """Return the median milliseconds that an update's part takes."""
    updates = case["steps_per_turn"] / (case["envs"] * case["segment"])
    return 1000.0 * statistics.median(turn[what] for turn in case["turns"][side]) / updates


def beside_simulator(case: dict[str, Any], side: str) -> float:
    """Return the time of collecting divided by that of the simulator alone."""
    alone = statistics.median(case["simulators"][SIMULATOR_OF.get(side, GYMNASIUM)])
    return per_update(case, side, "collect") / (1000.0 * alone)


def tables(data: dict[str, Any]) -> dict[str, str]:
    """Return the tables by their names in docs/benchmarks.md."""
    cases = data["cases"]
    found = {"job": _rates(cases), "job-parts": _parts(cases), "job-simulators": _simulators(cases)}
    if "growth" in data:
        found["job-growth"] = _growth(data["growth"])
    return found


def summary(data: dict[str, Any]) -> str:
    """Return the sentence of the README."""
    case = data["cases"]["HalfCheetah-v4 16x64"]
    return (
        f"A whole training of HalfCheetah in the same environments is {ratio(case, OURS, TIANSHOU):.1f} times as fast "
        f"as with Tianshou's\nTRPO and collector, and {ratio(case, OURS, SB3):.1f} times as with SB3-contrib."
    )


def _measured(cases: dict[str, Any]) -> list[str]:
    """Return the sides that took part in some case."""
    return [side for side in EVERY if any(side in case["turns"] for case in cases.values())]


def _rates(cases: dict[str, Any]) -> str:
    rows = []
    for side in _measured(cases):
        cells = [
            f"{rate(case, side):,.0f}, {ratio(case, side, TIANSHOU):.2f}, {ratio(case, side, SB3):.2f}"
            if side in case["turns"]
            else ""
            for case in cases.values()
        ]
        rows.append([side, *cells])
    return common.markdown_table(["side", *cases], rows)


def _parts(cases: dict[str, Any]) -> str:
    rows = []
    for side in _measured(cases):
        cells = [
            f"{per_update(case, side, 'collect'):.1f} + {per_update(case, side, 'update'):.1f} ms, "
            f"{beside_simulator(case, side):.2f}"
            if side in case["turns"]
            else ""
            for case in cases.values()
        ]
        rows.append([side, *cells])
    return common.markdown_table(["side", *cases], rows)


def _simulators(cases: dict[str, Any]) -> str:
    names = (GYMNASIUM, ENVPOOL, ENVPOOL_2)
    rows = [
        [name]
        + [
            f"{1000.0 * statistics.median(case['simulators'][name]):.1f} ms" if name in case["simulators"] else ""
            for case in cases.values()
        ]
        for name in names
    ]
    return common.markdown_table(["simulator alone", *cases], rows)


def _growth(growth: dict[str, Any]) -> str:
    sides = list(growth["points"][0]["steps_per_second"])
    rows = [
        [str(point["envs"]), str(point["segment"]), *(f"{point['steps_per_second'][side]:,.0f}" for side in sides)]
        for point in growth["points"]
    ]
    return common.markdown_table(["environments", "steps of each", *sides], rows)


def jobs_figure(data: dict[str, Any]) -> go.Figure:
    """Draw how many times as fast as Tianshou's each side's training is, a panel per case."""
    panels = []
    for name, case in data["cases"].items():
        speed_up = {side: ratio(case, side, TIANSHOU) for side in COLOURS if side in case["turns"]}
        colours = [COLOURS[side] for side in speed_up]
        bars = go.Bar(x=list(speed_up), y=list(speed_up.values()), marker_color=colours, texttemplate="%{y:.2f}")
        bars.update(showlegend=False)
        panels.append(Panel(name, "times as fast", [bars], y_axis={"rangemode": "tozero"}))
    return stack_panels(panels, x_title="", title="Whole trainings, relative to Tianshou's")


def growth_figure(growth: dict[str, Any]) -> go.Figure:
    """Draw the steps per second of each side by the number of environments."""
    points = growth["points"]
    x = [point["envs"] for point in points]
    lines = [
        line(x, [p["steps_per_second"][side] for p in points], name=side, color=COLOURS[side], dash=DASHES[side])
        for side in points[0]["steps_per_second"]
    ]
    panel = Panel(growth["task"], "steps per second", lines, height=240, y_axis={"rangemode": "tozero"})
    return stack_panels(
        [panel], x_title="environments", title=None, type="log", tickvals=x, ticktext=[str(count) for count in x]
    )
