"""The top of a report as HTML: heading, verdict, results, and which colour is whose."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from trpo_ts.diagnostics.page import paragraphs, rich_text, value_text
from trpo_ts.reports.groups import RunGroup
from trpo_ts.reports.recorded_run import RecordedRun
from trpo_ts.reports.verdict import FEWEST_UPDATES, Finding

__all__ = ["group_key", "heading", "results_table", "tiles", "verdict"]

_PATTERNS = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}


def heading(title: str, description: str) -> str:
    """Return title and description, both as text."""
    return f"<header>\n<h1>{escape(title)}</h1>\n{paragraphs(description)}\n</header>"


def verdict(runs: Sequence[RecordedRun]) -> str:
    """Return what the records of one run or several say, in words."""
    judged = [run for run in runs if run.verdict.judged]
    found: dict[str, list[tuple[RecordedRun, Finding]]] = {}
    for run in judged:
        for finding in run.verdict.findings:
            found.setdefault(finding.title, []).append((run, finding))
    if found:
        items = "\n".join(_item(title, cases, len(runs)) for title, cases in found.items())
        count = "One problem" if len(found) == 1 else f"{len(found)} problems"
        return _box("trouble", f"⚠ {count}", f"<ul>\n{items}\n</ul>")
    if not judged:
        return _box("waiting", "… Too early to judge", f"<p>A verdict needs {FEWEST_UPDATES} updates.</p>")
    return _box("healthy", "✓ Healthy", f"<p>{_healthy(judged)}</p>")


def tiles(run: RecordedRun) -> str:
    """Return the results of one run."""
    best = run.best_test
    speed, largest = run.steps_per_second, run.largest_kl
    shown = [
        ("Return, last five updates", _number(run.final_return), ""),
        ("Best test", _number(run.best_test_return), best and f"at {best.env_steps:,} steps"),
        ("Environment steps", f"{run.env_steps:,}", _plan(run)),
        ("Steps per second", None if speed is None else f"{speed:,.0f}", "without tests"),
        ("Largest KL, nats", _number(largest), _bound(run)),
    ]
    items = "\n".join(
        f"<div><dt>{label}</dt><dd>{value} <small>{note or ''}</small></dd></div>"
        for label, value, note in shown
        if value is not None
    )
    return f'<dl class="tiles">\n{items}\n</dl>'


def _bound(run: RecordedRun) -> str:
    if run.max_kl is not None:
        return f"bound {run.max_kl:g}"
    bounds = [bound for bound in run.kl_bounds if bound is not None]
    return f"bound {bounds[0]:.3g} to {bounds[-1]:.3g}" if bounds else ""


def results_table(groups: Sequence[RunGroup]) -> str:
    """Return the results of several runs."""
    names = ("Run", "Return, last five updates", "Best test", "Steps", "Steps/s", "Verdict")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "\n".join(row for group in groups for row in _rows(group))
    content = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>"
    return f'<table class="runs">\n{content}</table>'


def group_key(groups: Sequence[RunGroup]) -> str:
    """Return which line is whose."""
    items = "\n".join(f"<span>{_swatch(group)} {escape(group.name)}{_seed_count(group)}</span>" for group in groups)
    return f'<div class="key">\n{items}\n</div>'


def _seed_count(group: RunGroup) -> str:
    return f" ({len(group.runs)} seeds)" if len(group.runs) > 1 else ""


def _rows(group: RunGroup) -> list[str]:
    """Return a row for each run, and one of their means where there are several."""
    rows = [_row(group, run) for run in group.runs]
    if len(group.runs) > 1:
        columns = [
            [getattr(run, name) for run in group.runs]
            for name in ("final_return", "best_test_return", "env_steps", "steps_per_second")
        ]
        means = [_number(float(np.mean(values))) if None not in values else None for values in columns]
        cells = "".join(f"<td>{mean or 'none'}</td>" for mean in means)
        name = escape(f"mean of {group.name}")
        rows.append(f'<tr class="mean"><th scope="row">{_swatch(group)} {name}</th>{cells}<td></td></tr>')
    return rows


def _row(group: RunGroup, run: RecordedRun) -> str:
    speed, state = run.steps_per_second, run.verdict
    word = "too early" if not state.judged else f"⚠ {len(state.findings)}" if state.findings else "✓ healthy"
    cells = (
        _number(run.final_return) or "none",
        _number(run.best_test_return) or "none",
        f"{run.env_steps:,}",
        "none" if speed is None else f"{speed:,.0f}",
        word,
    )
    values = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{_swatch(group)} {escape(run.name)}</th>{values}</tr>'


def _swatch(group: RunGroup) -> str:
    pattern = _PATTERNS[group.dash]
    return (
        '<svg class="swatch" width="34" height="8" aria-hidden="true"><line x1="0" y1="4" x2="34" y2="4" '
        f'stroke="{group.color}" stroke-width="3" stroke-dasharray="{pattern}"/></svg>'
    )


def _box(kind: str, title: str, content: str) -> str:
    return f'<section class="verdict {kind}">\n<h2>{title}</h2>\n{content}\n</section>'


def _item(title: str, cases: Sequence[tuple[RecordedRun, Finding]], of: int) -> str:
    if of == 1:
        evidence = rich_text(cases[0][1].evidence)
    else:
        evidence = "".join(
            f'<span class="run">{escape(run.name)}: {rich_text(finding.evidence)}</span>' for run, finding in cases
        )
    advices = dict.fromkeys(finding.advice for _, finding in cases)
    advice = " ".join(map(rich_text, advices))
    return f'<li><b>{title}.</b> {evidence} <span class="try">What to try: {advice}</span></li>'


def _healthy(runs: Sequence[RecordedRun]) -> str:
    if len(runs) > 1:
        return f"None of the checks found trouble in {len(runs)} runs."
    (run,) = runs
    ended = [update for update in run.updates if update.episode_returns]
    if not ended:
        return "None of the checks found trouble. No episode has ended yet, so that there is no return."
    first, last = ended[0].return_mean, run.final_return or ended[-1].return_mean
    rose = f"The mean return went from {_number(first)} in the first update to {_number(last)} in the last five."
    return f"{rose} None of the checks found trouble."


def _plan(run: RecordedRun) -> str:
    return "" if run.complete or run.planned_steps is None else f"of {run.planned_steps:,}"


def _number(value: float | None) -> str | None:
    return None if value is None else value_text(float(f"{value:.4g}"))
