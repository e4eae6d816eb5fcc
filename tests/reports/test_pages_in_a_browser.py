"""Reports in a headless browser: every chart drawn, no error, no text cut off, wide, narrow and on paper."""

from __future__ import annotations

import re

import plotly.graph_objects as go
import pytest
from browser import whole_page
from synthetic_runs import MAX_KL, evaluations_of, recorded, updates_of

from trpo_ts.diagnostics import learning_figure, write_report
from trpo_ts.reports import RecordedRun, report_runs

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)><b>&amp;%{x}"
LONG = "A-name-that-has-no-place-to-break-" * 6


def rejecting():
    updates = updates_of(
        accepted=lambda n: float(n % 3 > 0), kl=lambda n: 0.008 * (n % 3 > 0), outcome=lambda n: 5.0 * (n % 3 == 0)
    )
    return RecordedRun(
        updates, evaluations_of(updates), settings={"task": "T", "max_kl": MAX_KL}, reference=("optimum", 120.0)
    )


PAGES = {
    "one run": lambda: rejecting(),
    "three groups": lambda: [recorded(seed=s, gamma=g) for g in (0.9, 0.99, 0.999) for s in range(5)],
    "hostile names": lambda: [recorded(seed=n, name=ATTACK, task=name) for n, name in enumerate((ATTACK, LONG))],
}
CHARTS = {"one run": 13, "three groups": 16, "hostile names": 16}


@pytest.fixture(scope="module", params=PAGES)
def report(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("reports") / "report.html"
    hostile = request.param == "hostile names"
    title = ATTACK if hostile else "TRPO on Task-v0"
    figures = {title: (go.Figure(go.Scatter(y=[1, 2], name="y")), title)} if hostile else {}
    report_runs(path, PAGES[request.param](), title=title, description=title, figures=figures)
    return request.param, path


@pytest.mark.parametrize("width", [1200, 390])
def test_a_page_is_whole(report, width, chromium):
    name, path = report
    with whole_page(chromium, path, width) as page:
        assert page.value("document.querySelectorAll('.chart .scatterlayer').length") >= CHARTS[name]
        assert page.value("[document.scripts.length, document.images.length]") == [3, 0]


@pytest.mark.parametrize("width", [1200, 390])
def test_the_learning_figure_is_whole(width, chromium, tmp_path):
    run = rejecting()
    figure = learning_figure(
        run.updates, MAX_KL, reference_return=110.0, reference_name="best controller", tests=run.tests
    )
    path = write_report(tmp_path / "report.html", {"Learning": figure}, {}, title="TRPO", description="")
    with whole_page(chromium, path, width):
        pass


@pytest.fixture
def wide_page(chromium, tmp_path):
    path = report_runs(tmp_path / "report.html", recorded(), title="TRPO on Task-v0")
    with chromium.page(1200) as page:
        page.open(path.as_uri())
        yield page


def test_a_page_on_paper_is_whole(wide_page):
    wide_page.call("Emulation.setEmulatedMedia", media="print")
    wide_page.resize(690)
    wide_page.value("dispatchEvent(new Event('beforeprint'))")
    wide_page.wait_for("[...document.querySelectorAll('.main-svg')].every(svg => svg.clientWidth <= 680)")
    assert wide_page.flaws() == []
    wide_page.call("Emulation.setEmulatedMedia", media="")
    wide_page.value("dispatchEvent(new Event('afterprint'))")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", wide_page.pdf())) <= 6


def test_charts_are_zoomed_together(wide_page):
    wide_page.value("Plotly.relayout('chart-kl', {'xaxis.range[0]': 5000, 'xaxis.range[1]': 9000}).then(() => 0)")
    ranges = "[...document.querySelectorAll('.chart')].map(c => c.layout.xaxis.range.join())"
    wide_page.wait_for(f"new Set({ranges}).size === 1")
    assert set(wide_page.value(ranges)) == {"5000,9000"}
    assert wide_page.problems == []


def test_the_checks_of_a_page_find_flaws(wide_page):
    """The checks above can fail."""
    wide_page.value(
        "Plotly.relayout('chart-kl', {'yaxis.title.text': 'far too long a title, '.repeat(9)}).then(() => 0)"
    )
    wide_page.value("Plotly.deleteTraces('chart-std', 0).then(() => 0)")
    wide_page.value("document.querySelector('h1').style.width = '3000px'")
    wide_page.value("console.error('wrong')")
    kinds = {flaw.split(":")[0] for flaw in wide_page.flaws()}
    assert kinds == {"cut off", "undrawn", "console"}
