"""``trpo-ts report --live``: it serves, refreshes during a training, and ends on Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.error
import urllib.request

import pytest
from command_line import start
from synthetic_runs import updates_of, write_run

from trpo_ts.cli.main import main
from trpo_ts.diagnostics.storage import record_line


@pytest.fixture
def served(tmp_path):
    write_run(tmp_path / "run", updates=12)
    process = start("report", tmp_path / "run", "--live", "--port", 0)
    line = process.stdout.readline()
    (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", line) or [line]
    yield tmp_path / "run", address, process
    process.kill()
    process.communicate()


def answer(address):
    with urllib.request.urlopen(address, timeout=60) as response:
        return response.status, response.read().decode()


def train_on(folder):
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(map(record_line, updates_of(20)[12:]))
        file.write('{"kind": "upda')  # the next line is being written


def test_it_serves_what_is_new_and_ends_on_ctrl_c(served):
    folder, address, process = served
    version = json.loads(answer(address + "contents?version=none")[1])["version"]
    assert answer(f"{address}contents?version={version}") == (204, "")
    train_on(folder)
    status, text = answer(f"{address}contents?version={version}")
    assert status == 200
    assert "20 updates of" in json.loads(text)["overview"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        answer(address + "config.json")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "ended\n", "")
    assert not (folder / "report.html").exists()


def test_an_open_page_refreshes_and_keeps_its_zoom(served, chromium):
    folder, address, process = served
    with chromium.page(1200) as page:
        page.open(address)
        page.value("window.same = true")
        page.value("Plotly.relayout('chart-kl', {'xaxis.range[0]': 2000, 'xaxis.range[1]': 5000}).then(() => 0)")
        train_on(folder)
        page.wait_for("document.querySelector('header').textContent.includes('20 updates of')")
        page.wait_for("document.getElementById('chart-kl').calcdata[0].length === 20")
        for key in ("kl", "entropy"):  # the zoomed one, and one that followed
            assert page.value(f"document.getElementById('chart-{key}').layout.xaxis.range") == [2000, 5000]
        assert page.value("window.same")
        assert page.flaws() == []
        process.send_signal(signal.SIGINT)
        page.wait_for("document.getElementById('connection').textContent.includes('has ended')")


def test_a_port_in_use_is_one_line(tmp_path, capsys):
    write_run(tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["report", str(tmp_path / "run"), "--live", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"trpo-ts: port {port} is in use; type --port 0 for one that is free\n"


def test_a_run_that_has_just_begun_is_served(tmp_path, monkeypatch):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    pages = []

    def serve_once(server, poll_interval):
        pages.append(server.source.page().html(live=True))
        raise KeyboardInterrupt

    monkeypatch.setattr("trpo_ts.cli.live_report.ReportServer.serve_forever", serve_once)
    assert main(["report", str(tmp_path / "run"), "--live", "--port", "0"]) == 0
    assert "Too early to judge" in pages[0]
