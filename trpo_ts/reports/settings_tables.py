"""The tables at the end of a report: settings and versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from trpo_ts.diagnostics.page import table, value_text
from trpo_ts.reports.groups import RunGroup, differing_settings
from trpo_ts.reports.recorded_run import RecordedRun

__all__ = ["group_tables", "run_tables"]


def run_tables(run: RecordedRun) -> str:
    """Return results, settings and versions of one run as HTML."""
    tables = {"Results": run.summary, "Settings": run.settings, "Versions": run.versions}
    return "\n".join(_section(name, _columns(values.items())) for name, values in tables.items() if values)


def group_tables(groups: Sequence[RunGroup]) -> str:
    """Return the settings in which groups differ, those that all runs share, and the versions, as HTML."""
    runs = [run for group in groups for run in group.runs]
    differing = differing_settings(runs)
    unshared = [name for name in runs[0].settings if len({repr(run.settings.get(name)) for run in runs}) > 1]
    shared = {name: value for name, value in runs[0].settings.items() if name not in unshared}
    names = dict.fromkeys(name for run in runs for name in run.versions)
    versions = {name: _versions(name, runs) for name in names}
    parts = [("Settings that differ", _comparison(groups, differing) if differing else "")]
    parts += [("Settings of all runs", _columns(shared.items())), ("Versions", _columns(versions.items()))]
    return "\n".join(_section(name, content) for name, content in parts if content)


def _versions(name: str, runs: Sequence[RecordedRun]) -> str:
    return ", ".join(dict.fromkeys(str(run.versions.get(name, "unknown")) for run in runs))


def _comparison(groups: Sequence[RunGroup], names: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(group.name)}</th>' for group in groups)
    rows = []
    for name in names:
        cells = "".join(f"<td>{escape(value_text(group.runs[0].settings.get(name)))}</td>" for group in groups)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    body = "\n".join(rows)
    content = f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f"<table>\n{content}</table>"


def _columns(rows: Iterable[tuple[str, object]]) -> str:
    content = table(rows)
    return f'<div class="columns">{content}</div>' if content else ""


def _section(name: str, content: str) -> str:
    return f"<section>\n<h2>{name}</h2>\n{content}\n</section>"
