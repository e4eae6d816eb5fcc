"""A headless browser over its devtools protocol: opens pages at a width, and says what is wrong with them."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from websockets.sync.client import connect

__all__ = ["Browser", "Page", "browser"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)
_SECONDS = 60.0
_PATIENT = {"max_size": None, "max_queue": None, "ping_interval": None}
"""A test may do other things for minutes while events of its page queue up."""

_CUT_TEXTS = """(() => {
  const wrong = [], width = document.documentElement.clientWidth;
  for (const text of document.querySelectorAll("svg.main-svg text")) {
    const box = text.getBoundingClientRect(), frame = text.closest(".chart").getBoundingClientRect();
    if (!text.textContent || !box.width) continue;
    const across = box.left < frame.left - 1 || box.right > frame.right + 1;
    if (across || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      wrong.push(text.closest(".chart").id + ": " + text.textContent);
  }
  for (const element of document.querySelectorAll("h1, h2, h3, p, li, dt, dd, td, th, span, figure")) {
    if (element.closest(".modebar")) continue;
    const box = element.getBoundingClientRect();
    if (box.right > width + 1 || box.left < -1 || element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
      wrong.push(element.tagName + ": " + element.textContent.slice(0, 60));
  }
  if (document.documentElement.scrollWidth > width) wrong.push("the page is wider than the window");
  return wrong;
})()"""

_OVERLAPS = """(() => {
  const wrong = [];
  for (const chart of document.querySelectorAll(".chart")) {
    const boxes = Array.from(chart.querySelectorAll("svg.main-svg text"))
      .filter((text) => text.textContent && text.getBoundingClientRect().width)
      .map((text) => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([two, b]) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 2 && down > 4) wrong.push(chart.id + ": " + one + " | " + two);
    }));
  }
  return wrong;
})()"""


class Page:
    """An open page."""

    def __init__(self, socket: Any, width: int) -> None:
        self._socket, self._number = socket, 0
        self.problems: list[str] = []
        """Errors and warnings of its console, and what it could not load."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_SECONDS))
            self._note(message)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        kind = message.get("method")
        if kind == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(params["args"]))
        elif kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(params["entry"]))

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window a size in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def open(self, address: str, *, ready: str = "document.documentElement?.dataset.drawn !== undefined") -> None:
        """Open a page and wait until it is ready: a report, until its charts are drawn."""
        self.call("Page.navigate", url=address)
        self.wait_for(ready)

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _SECONDS
        while not self.value(condition):
            assert time.monotonic() < deadline, (condition, self.problems)
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """Return the value of an expression, or of the promise that it is."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def flaws(self) -> list[str]:
        """Return all that is wrong with the page."""
        return [
            *(f"undrawn: {chart}" for chart in self.undrawn()),
            *(f"cut off: {text}" for text in self.cut_texts()),
            *(f"overlap: {texts}" for texts in self.overlaps()),
            *(f"console: {problem}" for problem in self.problems),
        ]

    def undrawn(self) -> list[str]:
        """Return the charts without a line, an area, a bar or a mark."""
        marks = ".scatterlayer path, .barlayer path, .pielayer path"
        return self.value(
            f"[...document.querySelectorAll('.chart')].filter(c => !c.querySelector('{marks}')).map(c => c.id)"
        )

    def cut_texts(self) -> list[str]:
        """Return the texts that leave their chart, their box or the window."""
        return self.value(_CUT_TEXTS)

    def overlaps(self) -> list[str]:
        """Return the pairs of texts of a chart that cover each other."""
        return self.value(_OVERLAPS)

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def pdf(self) -> bytes:
        """Return the page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])


class Browser:
    """A running browser.

    :param port: of its devtools protocol.
    """

    def __init__(self, port: int, path: str) -> None:
        self._address = f"ws://127.0.0.1:{port}"
        self._path = path

    @contextlib.contextmanager
    def page(self, width: int) -> Iterator[Page]:
        """Return a new page of a width in pixels."""
        with connect(self._address + self._path, **_PATIENT) as control:
            control.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            target = next(m for m in map(json.loads, control) if m.get("id") == 1)["result"]["targetId"]
            with connect(f"{self._address}/devtools/page/{target}", **_PATIENT) as socket:
                yield Page(socket, width)
            control.send(json.dumps({"id": 2, "method": "Target.closeTarget", "params": {"targetId": target}}))


@contextlib.contextmanager
def whole_page(chromium: Browser, report: Path, width: int) -> Iterator[Page]:
    """Open a report that is small and has no flaw, in a window of a width in pixels."""
    assert report.stat().st_size <= 1_500_000
    with chromium.page(width) as page:
        page.open(report.as_uri())
        assert page.flaws() == [], width
        yield page


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start the browser that is installed; without one the test is skipped."""
    name = next((name for name in _NAMES if shutil.which(name)), None)
    if name is None:
        pytest.skip("no Chromium is installed")
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [name, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            note = Path(folder) / "DevToolsActivePort"
            deadline = time.monotonic() + _SECONDS
            while not (note.exists() and note.read_text().count("\n")):
                assert process.poll() is None
                assert time.monotonic() < deadline, "the browser did not start"
                time.sleep(0.05)
            port, path = note.read_text().splitlines()[:2]
            yield Browser(int(port), path)
        finally:
            process.terminate()
            process.wait(timeout=_SECONDS)
