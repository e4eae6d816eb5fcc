"""The documentation site in a headless browser: every page is whole, wide and narrow."""

from __future__ import annotations

import pytest
from site_layout import site_flaws

pytestmark = pytest.mark.slow

READY = "document.readyState === 'complete' && location.href !== 'about:blank'"


@pytest.mark.parametrize("width", [1200, 390])
def test_every_page_is_whole(site, chromium, width):
    """All but the pages that show a source file, and the one of a server's error."""
    paths = [path for path in sorted(site.rglob("*.html")) if "source" not in path.parts and path.stem != "404"]
    assert len(paths) > 45
    wrong = {}
    for path in paths:
        with chromium.page(width) as page:
            page.open(path.as_uri(), ready=READY)
            if flaws := site_flaws(page):
                wrong[path.relative_to(site).as_posix()] = flaws
    assert wrong == {}


FLAWS = {
    "the page is wider": "document.querySelector('h1').style.width = '3000px'",
    "cut off by P": "document.querySelector('p').style.cssText = 'width: 60px; overflow: hidden; white-space: nowrap'",
    "raw formula": "document.querySelector('h2').append('with $$x$$')",
    "formula": "document.querySelector('.arithmatex').innerHTML = 'x'",
    '[{"type": "string"': "console.error('wrong')",
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_check_of_a_page_finds_flaws(site, chromium, flaw):
    with chromium.page(390) as page:
        page.open((site / "trpo.html").as_uri(), ready=READY)
        assert page.value("document.querySelectorAll('.katex').length") > 100
        page.value(FLAWS[flaw] + "; 0")
        assert any(found.startswith(flaw) for found in site_flaws(page))
