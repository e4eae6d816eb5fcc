"""The report."""

from __future__ import annotations

import html
import os
import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest
from recorded import ROLLOUT, UPDATES
from repository import ROOT

from trpo_ts.diagnostics import learning_figure, rollout_figure, write_report

PLOTLY = (ROOT / "trpo_ts" / "diagnostics" / "assets" / "plotly-basic.min.js").read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.tags = []
        self.texts = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_report_is_self_contained(tmp_path):
    path = tmp_path / "runs" / "report.html"
    figures = {"Learning": (learning_figure(UPDATES), "What happened."), "Episode": rollout_figure(ROLLOUT)}
    written = write_report(
        path, figures, {"seed": 0, "env_steps": 12345, "kl": 0.00912345, "done": True, "none": None},
        title="A run", description="First.\n\nSecond.",
    )  # fmt: skip
    page = path.read_text(encoding="utf-8")
    assert written == path
    assert page.count(PLOTLY) == 1
    parsed = Tags(page)
    for tag, attributes in parsed.tags:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base"}
        assert not {"src", "href", "srcset", "data"} & set(attributes), (tag, attributes)
    assert not re.search(r"@import|url\(", page.replace(PLOTLY, ""))
    (policy,) = [attributes["content"] for tag, attributes in parsed.tags if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    ids = [attributes["id"] for tag, attributes in parsed.tags if attributes.get("class") == "chart"]
    assert ids == ["figure-1", "figure-2"]
    for text in ("A run", "First.", "Second.", "Learning", "What happened.", "12,345", "0.00912345", "yes", "none"):
        assert text in parsed.texts
    again = write_report(tmp_path / "again.html", figures, {}, title="A run", description="")
    assert "<table>" not in again.read_text(encoding="utf-8")


def test_report_depends_on_its_contents_alone(tmp_path):
    pages = [
        write_report(tmp_path / name, {"a": learning_figure(UPDATES)}, {}, title="t", description="d").read_bytes()
        for name in ("1.html", "2.html")
    ]
    assert pages[0] == pages[1]


def test_report_escapes_every_text(tmp_path):
    attack = "</script><script>alert(1)</script>\"'&"
    figure = learning_figure(UPDATES, reference_return=1.0, reference_name=attack, title=attack)
    path = write_report(
        tmp_path / "report.html", {attack: (figure, attack)}, {attack: attack}, title=attack, description=attack
    )
    page = path.read_text(encoding="utf-8").replace(PLOTLY, "")
    assert attack not in page
    assert "<script>alert" not in page
    assert page.count(html.escape(attack)) == 8
    parsed = Tags(page)
    assert sum(tag == "script" for tag, _ in parsed.tags) == 3


def test_a_failing_report_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(TypeError, match="'a' must be a plotly Figure, got dict"):
        write_report(path, {"a": {}}, {}, title="", description="")
    broken = go.Figure()
    monkeypatch.setattr(go.Figure, "to_json", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(path, {"a": broken}, {}, title="", description="")
    monkeypatch.undo()

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(path, {"a": broken}, {}, title="", description="")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_trace_that_the_page_cannot_draw_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'a' has traces of type surface"):
        write_report(tmp_path / "report.html", {"a": go.Figure(go.Surface())}, {}, title="", description="")
    assert not (tmp_path / "report.html").exists()


def test_the_script_of_plotly_is_what_its_version_file_says(tmp_path):
    note = (ROOT / "trpo_ts" / "diagnostics" / "assets" / "plotly-basic.VERSION").read_text()
    (version,) = re.findall(r"plotly.js \(basic - minified\) v([\d.]+)", PLOTLY[:200])
    assert note.startswith(f"plotly.js-basic-dist-min {version},")
    assert "</script" not in PLOTLY.lower()
