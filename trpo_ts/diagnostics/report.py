"""A self-contained HTML page of figures with a summary table."""

__all__ = ["figure_chart", "figure_sections", "write_report"]

import json
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from trpo_ts.diagnostics.page import chart_figure, html_page, paragraphs, table
from trpo_ts.diagnostics.text_files import atomic_write_text

_DEFAULT_HEIGHT = 450
"""Plotly's own, in pixels."""


def write_report(
    path: str | os.PathLike[str],
    figures: Mapping[str, go.Figure | tuple[go.Figure, str]],
    summary: Mapping[str, object],
    *,
    title: str,
    description: str,
) -> Path:
    """Write one HTML file that needs no network: heading, summary table, figures, and plotly.js once.

    The file is replaced atomically; if anything cannot be rendered, the old one stays. Texts are shown as
    they are, never read as HTML; what is between backticks is code. The same arguments give the same file.

    plotly.js is its basic distribution: it draws scatter, bar and pie traces, and takes 1.2 MB.

    :param path: the file to write; missing parent folders are made.
    :param figures: each figure under its heading, alone or with a sentence that explains it.
    :param summary: names and values of the table; a value is text, a number, a bool, None or a list of these.
    :param title: heading of the page.
    :param description: the sentence below it; a blank line begins a new paragraph.
    :return: the path written.
    :raises TypeError: if a figure is not a Plotly figure.
    :raises ValueError: if a figure has a trace that the basic distribution cannot draw.
    """
    sections, charts = figure_sections(figures)
    rows = table(summary.items())
    body = f"<header>\n<h1>{escape(title)}</h1>\n{paragraphs(description)}\n</header>\n{rows}\n{sections}"
    return atomic_write_text(path, html_page(title, body, charts))


def figure_sections(
    figures: Mapping[str, go.Figure | tuple[go.Figure, str]],
) -> tuple[str, list[dict[str, Any]]]:
    """Return a section for each figure as HTML, and the charts of them all; see :func:`write_report`."""
    sections, charts = [], []
    for number, (heading, entry) in enumerate(figures.items(), start=1):
        figure, caption = entry if isinstance(entry, tuple) else (entry, "")
        charts.append(figure_chart(f"figure-{number}", heading, figure))
        place = chart_figure(f"figure-{number}", int(figure.layout.height or _DEFAULT_HEIGHT), label=heading)
        sections.append(f"<section>\n<h2>{escape(heading)}</h2>\n{paragraphs(caption)}\n{place}\n</section>\n")
    return "".join(sections), charts


def figure_chart(identifier: str, heading: str, figure: go.Figure) -> dict[str, Any]:
    """Return a Plotly figure as a chart of :func:`trpo_ts.diagnostics.page.html_page`."""
    if not isinstance(figure, go.Figure):
        raise TypeError(f"the figure {heading!r} must be a plotly Figure, got {type(figure).__name__}")
    document = json.loads(str(figure.to_json()))
    unknown = {trace.get("type", "scatter") for trace in document["data"]} - {"scatter", "bar", "pie"}
    if unknown:
        raise ValueError(
            f"the figure {heading!r} has traces of type {', '.join(sorted(unknown))}; reports draw scatter, bar and "
            "pie: write it with figure.write_html"
        )
    document["layout"].pop("width", None)
    return {"id": identifier, "data": document["data"], "layout": document["layout"]}
