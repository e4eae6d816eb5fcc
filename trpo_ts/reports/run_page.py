"""A report of one run, or of several on shared axes, as one HTML page."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from trpo_ts.diagnostics.page import html_page
from trpo_ts.diagnostics.report import figure_sections
from trpo_ts.diagnostics.text_files import atomic_write_text
from trpo_ts.reports.chart import Chart
from trpo_ts.reports.groups import RunGroup, group_runs
from trpo_ts.reports.overlay import overlay_charts
from trpo_ts.reports.overview import group_key, heading, results_table, tiles, verdict
from trpo_ts.reports.recorded_run import RecordedRun
from trpo_ts.reports.settings_tables import group_tables, run_tables
from trpo_ts.reports.single_run import run_charts

__all__ = ["RunPage", "report_runs"]

Figures = Mapping[str, go.Figure | tuple[go.Figure, str]]


def report_runs(
    path: str | os.PathLike[str],
    runs: RecordedRun | Sequence[RecordedRun],
    *,
    title: str,
    description: str = "",
    figures: Figures | None = None,
) -> Path:
    """Write the report of a run, or of several on shared axes: a verdict in words, results, charts, settings.

    The page needs no network, and replaces the file atomically. Texts are shown as they are. Runs that differ in
    their seed alone share a colour; see docs/reports.md.

    :param path: the file to write; missing parent folders are made.
    :param runs: one run, or several with different names.
    :param title: heading of the page.
    :param description: below it; a blank line begins a new paragraph.
    :param figures: further figures below the charts, as those of :func:`trpo_ts.diagnostics.write_report`.
    :return: the path written.
    :raises ValueError: without a run.
    """
    page = RunPage([runs] if isinstance(runs, RecordedRun) else runs, title, description, figures or {})
    return atomic_write_text(path, page.html())


@dataclass(frozen=True)
class RunPage:
    """The parts of a report.

    :raises ValueError: without a run.
    """

    runs: Sequence[RecordedRun]
    title: str
    description: str
    figures: Figures

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs must hold at least one run, got none")

    def html(self, *, live: bool = False) -> str:
        """Return the page.

        :param live: whether it asks the server that it is from for newer contents.
        """
        sections, further = figure_sections(self.figures)
        charts, drawn = self._charts()
        body = "\n".join([f'<main id="overview">\n{self._overview()}\n</main>', drawn, sections, self._tables()])
        if live:
            body += '\n<p id="connection" role="status"></p>'
        documents = [chart.document() for chart in charts] + further
        return html_page(self.title, body, documents, version=self.version() if live else None)

    def contents(self) -> dict[str, Any]:
        """Return what changes on the page while a training lasts."""
        charts, _ = self._charts()
        documents = [chart.document() for chart in charts] + figure_sections(self.figures)[1]
        return {"overview": self._overview(), "charts": documents, "version": self.version()}

    def version(self) -> str:
        """Return a text that changes when the contents do."""
        counts = [(run.name, len(run.updates), len(run.tests), run.env_steps) for run in self.runs]
        return hashlib.sha256(json.dumps([self._overview(), counts]).encode()).hexdigest()[:16]

    @property
    def _groups(self) -> list[RunGroup]:
        return group_runs(self.runs)

    def _charts(self) -> tuple[list[Chart], str]:
        """Return the charts, and their sections as HTML."""
        several = len(self.runs) > 1
        sections = overlay_charts(self._groups) if several else run_charts(self.runs[0])
        html = [
            f'<section>\n<h2>{escape(name)}</h2>\n<div class="grid">\n'
            + "\n".join(chart.html() for chart in charts)
            + "\n</div>\n</section>"
            for name, charts in sections
        ]
        key = group_key(self._groups) if several else ""
        empty = "" if sections else "<p>Nothing was recorded yet.</p>"
        return [chart for _, charts in sections for chart in charts], "\n".join([key, *html, empty])

    def _overview(self) -> str:
        results = results_table(self._groups) if len(self.runs) > 1 else tiles(self.runs[0])
        return "\n".join([heading(self.title, self.description), verdict(self.runs), results])

    def _tables(self) -> str:
        return group_tables(self._groups) if len(self.runs) > 1 else run_tables(self.runs[0])
