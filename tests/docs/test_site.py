"""The documentation site: every formula is one that KaTeX knows, docstrings become Markdown, nothing is fetched."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from subprocess import run

import pytest
from repository import ROOT

KATEX = ROOT / "docs" / "assets" / "katex"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def formulas(text: str) -> list[str]:
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return [a or b for a, b in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, flags=re.DOTALL)]


def docstring_formulas() -> list[str]:
    markdown_of = tool("docstring_markdown").markdown_of
    sources = [path for folder in ("trpo_ts", "policies", "critics") for path in (ROOT / folder).rglob("*.py")]
    docstrings = [text for path in sources for text in re.findall(r'"""(.*?)"""', path.read_text(), flags=re.DOTALL)]
    return [
        formula
        for text in docstrings
        if ":math:" in text or ".. math::" in text
        for formula in formulas(markdown_of(text))
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_katex_renders_every_formula():
    pages = [formula for page in (ROOT / "docs").glob("*.md") for formula in formulas(page.read_text())]
    assert len(pages) > 200
    found = [*pages, *docstring_formulas()]
    assert len(found) > len(pages) + 100
    script = (
        f"const katex = require({json.dumps(str(KATEX / 'katex.min.js'))});"
        "for (const tex of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {"
        "  try { katex.renderToString(tex, {throwOnError: true, strict: 'ignore'}) }"
        "  catch (error) { console.log(tex + ': ' + error.message) } }"
    )
    done = run(["node", "-e", script], input=json.dumps(found), capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_katex_finds_its_fonts_here():
    fonts = re.findall(r"url\(([^)]+)\)", (KATEX / "katex.min.css").read_text())
    assert fonts
    assert all((KATEX / font).is_file() for font in fonts)


def test_the_configuration_names_nothing_on_another_host():
    configuration = (ROOT / "mkdocs.yml").read_text()
    assert "://" not in configuration
    assert "font: false" in configuration


def test_restructured_text_becomes_markdown():
    text = tool("docstring_markdown").markdown_of(
        "See :class:`~a.b.C` and :math:`x\n    y`.\n\n.. math:: \\alpha\n    + \\beta\n\n>>> f(1)\n2\n\nEnd."
    )
    assert '<autoref identifier="a.b.C" optional><code>C</code></autoref>' in text
    assert "$x y$" in text
    assert "$$\n\\alpha + \\beta\n$$" in text
    assert "```pycon\n>>> f(1)\n2\n```" in text


def test_the_reference_has_every_public_name_once():
    pages = dict(tool("site_pages")._public_names())
    for package, names in pages.items():
        module = importlib.import_module(package)
        assert set(names) <= set(module.__all__)
    seen = [(module, name) for names in pages.values() for name, module in names.items()]
    assert len(seen) == len(set(seen))
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(f"api/{package}.md" in navigation for package in pages)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(site):
    page = (site / "api" / "trpo_ts.html").read_text()
    assert 'id="trpo_ts.TRPO"' in page
    assert not re.search(r":(math|class|mod|func):", page)
    loaded = re.findall(r'<(?:script|link)[^>]*(?:src|href)="(https?:[^"]+)"', page)
    assert loaded == []
