"""The HTML page around charts: one file with its style, its script and plotly.js, which needs no network."""

__all__ = ["chart_figure", "html_page", "paragraphs", "rich_text", "table", "value_text"]

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

# Everything is inline, and the page may load nothing else: not even a figure's own link to an image.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; connect-src {connect}"
)


def html_page(title: str, body: str, charts: Sequence[Mapping[str, Any]], *, version: str | None = None) -> str:
    """Return a whole page.

    :param title: the title of the document, as text.
    :param body: HTML; a chart is drawn in the element that :func:`chart_figure` makes for it.
    :param charts: for each chart its ``id``, and ``data`` and ``layout`` as plotly.js takes them.
    :param version: of the contents of a page that a server offers; the page then asks it for newer ones.
    """
    document = json.dumps({"version": version, "charts": charts}, separators=(",", ":"))
    policy = _POLICY.format(connect="'none'" if version is None else "'self'")
    # An HTML parser ends a script at its end tag and knows no other escapes within; JSON has one for "<".
    inline = document.replace("<", "\\u003c")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{_asset("page.css")}</style>
<script>{_asset("plotly-basic.min.js")}</script>
</head>
<body>
{body}
<script type="application/json" id="contents">{inline}</script>
<script>
{_asset("page.js")}</script>
</body>
</html>
"""


def chart_figure(identifier: str, height: int, *, heading: str = "", caption: str = "", label: str = "") -> str:
    """Return the place of a chart, with heading and caption.

    :param identifier: ``id`` of the chart.
    :param height: of the chart, in pixels.
    :param label: what a screen reader says of it; the heading without it.
    """
    title = f"<h3>{escape(heading)}</h3>" if heading else ""
    words = f"<figcaption>{title}{paragraphs(caption)}</figcaption>" if title or caption else ""
    chart = f'<div class="chart" id="{identifier}" style="height:{height}px"></div>'
    return f'<figure aria-label="{escape(label or heading)}">{words}{chart}</figure>'


def table(rows: Iterable[tuple[str, object]]) -> str:
    """Return names and values as an HTML table; nothing without rows."""
    cells = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value_text(value))}</td></tr>' for name, value in rows
    )
    return f"<table>\n{cells}\n</table>" if cells else ""


def paragraphs(text: str) -> str:
    """Return text as HTML paragraphs; a blank line separates them."""
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    return "\n".join(f"<p>{rich_text(part)}</p>" for part in parts)


def rich_text(text: str) -> str:
    """Return text as HTML in which what is between backticks is code; nothing else has a meaning."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def value_text(value: object) -> str:
    """Return a value as a reader wants it: rounded, with thousands set apart."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value)) or "none"
    return str(value)


@cache
def _asset(name: str) -> str:
    return (files("trpo_ts.diagnostics") / "assets" / name).read_text(encoding="utf-8")
