"""The examples of docs/logging.md run, and the warning is quoted as it is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from repository import ROOT
from runs import make_run
from tianshou.utils import TensorboardLogger
from torch.utils.tensorboard import SummaryWriter
from wandb_files import history

from trpo_ts.diagnostics import load_records
from trpo_ts.swallowed_updates import warn_of_swallowed_updates

PAGE = (ROOT / "docs" / "logging.md").read_text()


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {"MODE": "online", "SILENT": "true", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)  # the page takes it offline; later tests get it back
    names: dict[str, Any] = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE):
        exec(code, names)
    assert len(load_records("runs/a/metrics.jsonl")) == len(names["job"].params.logger.loggers[1].updates) >= 2
    assert list((tmp_path / "runs" / "a").glob("events.*"))
    assert history(tmp_path / "runs" / "b") == [{"global_step": 2048, "mine/score": 1}]


def test_the_warning_is_quoted_as_it_is(tmp_path):
    (quoted,) = re.findall(r"^```text\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    logger = TensorboardLogger(SummaryWriter(str(tmp_path)))
    _, params = make_run(logger=logger, max_epochs=488, epoch_num_steps=32)
    with pytest.warns(UserWarning, match="will not be in the log") as caught:
        warn_of_swallowed_updates(params)
    assert str(caught[0].message) == " ".join(quoted.split())
