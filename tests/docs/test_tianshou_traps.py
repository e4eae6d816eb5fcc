"""docs/tianshou_traps.md names tests that exist."""

from __future__ import annotations

import re

from repository import ROOT

PAGE = ROOT / "docs" / "tianshou_traps.md"


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 25
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / "tests" / file).read_text(), flags=re.MULTILINE), (file, test)
