"""What a training prints: its settings, and its progress as lines or, in a terminal, as a bar."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord

__all__ = ["Progress", "describe_result", "describe_settings"]

_SECONDS_BETWEEN_LINES = 1.0
_WIDTH = 110


def describe_settings(config: Mapping[str, Any]) -> str:
    """Return all settings as a paragraph."""
    shown = [f"{name}={_shown(value)}" for name, value in config.items()]
    return textwrap.fill("  ".join(shown), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)


def describe_result(summary: Mapping[str, Any]) -> str:
    """Return the summary of a run as a line."""
    returns = {
        "return of the last five updates": summary["final_return_mean"],
        "best test": summary["best_test_return"],
        "last test": summary["last_test_return"],
    }
    shown = ", ".join(f"{name} {value:.2f}" for name, value in returns.items() if value is not None)
    speed = summary["steps_per_second"]
    return (
        f"{summary['env_steps']:,} steps in {summary['wall_seconds']:,.0f} s"
        f"{'' if speed is None else f' ({speed:,.0f} steps/s)'}: {shown or 'no episode ended'}"
    )


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


class Progress:
    """Tells of each update, or of one in each second; of each test.

    :param total: environment steps of the whole run.
    :param prefix: begins each line.
    :param stream: where it is written; None for standard output.
    """

    def __init__(self, total: int, *, prefix: str = "", stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self.prefix = prefix
        self._return: float | None = None
        self._test: float | None = None
        self._first: tuple[int, float] | None = None
        self._told_at = -_SECONDS_BETWEEN_LINES
        self._waiting: UpdateRecord | None = None
        self._bar: tqdm[Any] | None = None
        if self._stream.isatty() and not prefix:
            self._bar = tqdm(total=total, unit=" steps", unit_scale=True, file=self._stream, dynamic_ncols=True)

    def start(self, env_steps: int, said: str = "") -> None:
        """Begin with so many steps done already, and with what there is to say of them."""
        if said:
            self.say(said)
        self._first = (env_steps, time.monotonic())
        if self._bar is not None:
            self._bar.initial = self._bar.n = env_steps
            self._bar.refresh()

    def say(self, text: str) -> None:
        """Print a text."""
        print(f"{self.prefix}{text}", file=self._stream, flush=True)

    def tell(self, record: UpdateRecord | EvaluationRecord) -> None:
        """Tell of an update or a test."""
        if isinstance(record, EvaluationRecord):
            self._test = record.return_mean
            if self._bar is not None:
                self._bar.write(f"{record.env_steps:12,} steps  test {record.return_mean:.2f}", file=self._stream)
            return
        if record.return_mean is not None:
            self._return = record.return_mean
        if self._bar is not None:
            self._bar.set_postfix_str(self._text(record), refresh=False)
            self._bar.update(record.env_steps - self._bar.n)
        elif time.monotonic() - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._write(record)
        else:
            self._waiting = record

    def close(self) -> None:
        """Tell what has not been told yet."""
        if self._bar is not None:
            self._bar.close()
        elif self._waiting is not None:
            self._write(self._waiting)

    def _write(self, record: UpdateRecord) -> None:
        self._told_at, self._waiting = time.monotonic(), None
        self.say(f"{record.env_steps:12,} steps  {self._text(record)}  {self._speed(record)}")

    def _text(self, record: UpdateRecord) -> str:
        test = "" if self._test is None else f"  test {_number(self._test, '.2f')}"
        return (
            f"return {_number(self._return, '.2f')}{test}  "
            f"KL {_number(record.kl, '.4f')} of {_number(record.max_kl, 'g')}  "
            f"explained variance {_number(record.explained_variance, '.2f')}  "
            f"products {_number(record.cg_iterations, 'g')}"
        )

    def _speed(self, record: UpdateRecord) -> str:
        """Return the speed since the last time that it was asked for, tests included."""
        now = (record.env_steps, time.monotonic())
        before, self._first = self._first, now
        if before is None or now[1] == before[1]:
            return "- steps/s"
        return f"{(now[0] - before[0]) / (now[1] - before[1]):,.0f} steps/s"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
