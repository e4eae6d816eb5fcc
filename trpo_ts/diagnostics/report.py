"""A self-contained HTML page of figures with a summary table."""

__all__ = ["write_report"]

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from trpo_ts.diagnostics.text_files import atomic_write_text

# Everything is inline, and the page may load nothing else: not even a figure's own link to an image.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; worker-src blob:"
)

# These four buttons leave a title its place, and none of them sends data anywhere.
_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
}

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 48px; background: #fff; color: #24292f;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
h1 { margin: 0 0 4px; font-size: 1.75rem; line-height: 1.25; }
h2 { margin: 40px 0 4px; font-size: 1.25rem; }
p { margin: 0 0 12px; max-width: 46em; }
table { border-collapse: collapse; margin: 20px 0; }
th, td { padding: 5px 20px 5px 0; border-bottom: 1px solid #d8dee4; text-align: left; vertical-align: top; }
th { font-weight: 500; color: #57606a; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
figure { margin: 8px 0 0; }
@media print { section { break-inside: avoid; } }
""".strip()


def write_report(
    path: str | os.PathLike[str],
    figures: Mapping[str, go.Figure | tuple[go.Figure, str]],
    summary: Mapping[str, object],
    *,
    title: str,
    description: str,
) -> Path:
    """Write one HTML file that needs no network: heading, summary table, figures with Plotly inlined once.

    The file is replaced atomically; if anything cannot be rendered, the old one stays. Texts are shown as
    they are, never read as HTML. The same arguments give the same file.

    :param path: the file to write; missing parent folders are made.
    :param figures: each figure under its heading, alone or with a sentence that explains it.
    :param summary: names and values of the table; a value is text, a number, a bool or None.
    :param title: heading of the page.
    :param description: the sentence below it; a blank line begins a new paragraph.
    :return: the path written.
    :raises TypeError: if a figure is not a Plotly figure.
    """
    sections = [
        _section(number, heading, *(entry if isinstance(entry, tuple) else (entry, "")))
        for number, (heading, entry) in enumerate(figures.items(), start=1)
    ]
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>
{_STYLE}
</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{_paragraphs(description)}
</header>
{_table(summary)}
{"".join(sections)}</body>
</html>
"""
    return atomic_write_text(path, page)


def _section(number: int, heading: str, figure: go.Figure, caption: str) -> str:
    if not isinstance(figure, go.Figure):
        raise TypeError(f"the figure {heading!r} must be a plotly Figure, got {type(figure).__name__}")
    height = figure.layout.height or 450
    drawing = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        config=_CONFIG,
        default_height=f"{height}px",
        # Counted and not random, so that a report depends on its contents alone.
        div_id=f"figure-{number}",
    )
    return f"""<section>
<h2>{escape(heading)}</h2>
{_paragraphs(caption)}
<figure aria-label="{escape(heading)}">
{drawing}
</figure>
</section>
"""


def _table(summary: Mapping[str, object]) -> str:
    if not summary:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(_shown(value))}</td></tr>'
        for name, value in summary.items()
    )
    return f"<table>\n{rows}\n</table>"


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    return "\n".join(f"<p>{escape(part)}</p>" for part in parts)


def _shown(value: object) -> str:
    """Return a summary's value as a reader wants it: rounded, with thousands set apart."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return str(value)
